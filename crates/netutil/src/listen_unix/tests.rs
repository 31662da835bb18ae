use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use insta::assert_snapshot;

use super::*;

#[test]
fn each_kind_takes_what_clients_send() {
    let dir = tempfile::tempdir().unwrap();
    let stream = dir.path().join("stream");
    let socket = ListenUnix::new(&stream).bind().unwrap();
    let mut client = UnixStream::connect(&stream).unwrap();
    io::Write::write_all(&mut client, b"a").unwrap();
    let listener = UnixListener::from(socket.try_clone().unwrap());
    let (mut server, _) = listener.accept().unwrap();
    let mut byte = [0];
    io::Read::read_exact(&mut server, &mut byte).unwrap();
    assert_eq!(&byte, b"a");

    let datagrams = dir.path().join("datagrams");
    let socket = ListenUnix::new(&datagrams).kind(UnixKind::Datagram);
    let socket = socket.bind().unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(b"b", &datagrams).unwrap();
    let server = UnixDatagram::from(socket.try_clone().unwrap());
    server.recv(&mut byte).unwrap();
    assert_eq!(&byte, b"b");

    let packets = dir.path().join("packets");
    let kind = UnixKind::SequentialPacket;
    let socket = ListenUnix::new(&packets).kind(kind).bind().unwrap();
    let client = Socket::new(Domain::UNIX, kind.socket_type(), None).unwrap();
    client.connect(&SockAddr::unix(&packets).unwrap()).unwrap();
    client.send(b"cc").unwrap();
    let (server, _) = Socket::from(socket.try_clone().unwrap()).accept().unwrap();
    io::Read::read_exact(&mut &server, &mut byte).unwrap();
    assert_eq!(&byte, b"c");
}

#[test]
fn an_abstract_name_has_no_file() {
    let name = format!("@handover-netutil-{}", std::process::id());
    let socket = ListenUnix::new(&name).mode(0o600).bind().unwrap();
    assert_eq!(
        socket.address(),
        &ServerAddress::Unix(UnixKind::Stream, name.clone())
    );
    let again = ListenUnix::new(&name).bind().unwrap_err();
    assert!(matches!(again, ListenUnixError::InUse { .. }), "{again:?}");
    drop(socket);
    drop(ListenUnix::new(&name).bind().unwrap());
}

#[test]
fn the_file_of_a_socket_that_nobody_has_is_replaced_and_a_used_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    for kind in [
        UnixKind::Stream,
        UnixKind::SequentialPacket,
        UnixKind::Datagram,
    ] {
        let listen = ListenUnix::new(&path).kind(kind);
        let socket = Socket::new(Domain::UNIX, kind.socket_type(), None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        if kind != UnixKind::Datagram {
            socket.listen(1).unwrap();
        }
        let used = listen.bind().unwrap_err();
        assert!(matches!(used, ListenUnixError::InUse { .. }), "{used:?}");
        // Whoever asks for another kind does not take it away either.
        for other in [UnixKind::Stream, UnixKind::Datagram] {
            let used = listen.clone().kind(other).bind().unwrap_err();
            assert!(matches!(used, ListenUnixError::InUse { .. }), "{used:?}");
        }
        drop(socket);
        assert!(path.exists());
        let socket = listen.bind().unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.pop().unwrap().unwrap().path(), path);
        assert!(left.is_empty(), "{left:?}");
        drop(socket);
        assert!(!path.exists());
    }
}

/// A socket that was bound and did not listen yet refused the connection by which a used one is recognized. So
/// its file was taken away, and its server listened where no client found it.
#[test]
fn a_socket_that_does_not_listen_yet_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let other = Socket::new(Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    other.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    let listen = ListenUnix::new(&path);
    let used = listen.bind_with(|| other.listen(1).unwrap()).unwrap_err();
    assert!(matches!(used, ListenUnixError::InUse { .. }), "{used:?}");
    UnixStream::connect(&path).unwrap();

    // One that was released in between is replaced, and so is what is gone by then.
    drop(other);
    let socket = listen.bind_with(|| ()).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(socket);
    drop(UnixListener::bind(&path).unwrap());
    let socket = listen.bind_with(|| std::fs::remove_file(&path).unwrap());
    drop(socket.unwrap());
}

#[test]
fn the_first_look_is_enough_for_a_socket_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let _other = UnixListener::bind(&path).unwrap();
    let used = ListenUnix::new(&path).bind_with(|| panic!("nothing is waited for"));
    assert!(matches!(used.unwrap_err(), ListenUnixError::InUse { .. }));
}

#[test]
fn a_queue_that_is_full_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listen = ListenUnix::new(&path).backlog(0);
    let _socket = listen.bind().unwrap();
    let mut clients = Vec::new();
    for _ in 0..8 {
        let client = Socket::new(Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        drop(client.connect(&SockAddr::unix(&path).unwrap()));
        clients.push(client);
    }
    let used = listen.bind().unwrap_err();
    assert!(matches!(used, ListenUnixError::InUse { .. }), "{used:?}");
}

#[test]
fn what_is_no_socket_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    std::fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link, &dir.path().to_owned()] {
        let error = ListenUnix::new(path).bind().unwrap_err();
        assert!(
            matches!(error, ListenUnixError::NoSocket { .. }),
            "{error:?}"
        );
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

#[test]
fn the_file_that_another_one_has_put_in_its_place_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let socket = ListenUnix::new(&path).bind().unwrap();
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(socket);
    assert!(path.exists());
}

#[test]
fn mode_and_owner_are_those_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let own = std::fs::metadata(dir.path()).unwrap();
    for mode in [0o600, 0o660, 0o666] {
        let listen = ListenUnix::new(&path).mode(mode);
        let _socket = listen.user(own.uid()).group(own.gid()).bind().unwrap();
        let file = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, mode);
        assert_eq!((file.uid(), file.gid()), (own.uid(), own.gid()));
    }
}

#[test]
fn each_failure_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let failed = |path: &str| ListenUnix::new(path).bind().unwrap_err().to_string();
    assert_snapshot!(failed(""), @r#""" is no path of a Unix socket; give a path, or `@` and a name"#);
    assert_snapshot!(failed("@"), @r#""@" is no path of a Unix socket; give a path, or `@` and a name"#);
    let (long, fits) = ("/".repeat(108), format!("@{}", "a".repeat(107)));
    assert!(failed(&long).contains("has 108 bytes, and a Unix socket has room for 107"));
    drop(ListenUnix::new(fits).bind().unwrap());
    assert_snapshot!(failed("/nonexistent/web.sock"), @"cannot bind the Unix socket /nonexistent/web.sock; check that its directory exists and that this process may write there");
    let path = PathBuf::from("/run/web.sock");
    let (replaced, mode) = (path.clone(), 0o660);
    assert_snapshot!(ListenUnixError::Replaced { path: replaced }, @"the file of the Unix socket /run/web.sock was replaced or removed as soon as it was made; use a directory to which no other user may write");
    assert_snapshot!(ListenUnixError::NoProc { path, mode }, @"the Unix socket /run/web.sock cannot be given the mode 0660 without /proc; mount it, or set a umask that leaves this mode");
    let path = dir.path().join("web.sock");
    let _socket = ListenUnix::new(&path).bind().unwrap();
    let used = failed(path.to_str().unwrap());
    assert!(used.contains("is in use; stop what has bound it"), "{used}");
}
