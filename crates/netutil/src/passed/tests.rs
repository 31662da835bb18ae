use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};

use super::*;
use crate::server_socket::{ServerAddress, UnixKind};

fn passed(descriptor: impl Into<OwnedFd>) -> PassedFd {
    PassedFd {
        number: 3,
        name: Some("web".to_owned()),
        descriptor: descriptor.into(),
    }
}

#[test]
fn the_variables_say_which_descriptors_have_which_names() {
    let planned = |count: &str, names: Option<&str>| {
        plan(OsStr::new(count), names.map(OsStr::new)).map(|planned| planned.descriptors)
    };
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(planned("2", None), Ok(vec![(3, None), (4, None)]));
    assert_eq!(
        planned("2", Some("a:b")),
        Ok(vec![(3, named("a")), (4, named("b"))])
    );
    assert_eq!(planned("0", None), Ok(Vec::new()));
    for names in ["a", "a:b:c"] {
        let names = planned("2", Some(names)).unwrap_err();
        assert!(matches!(names, PassedError::Names { count: 2, .. }));
    }
    for count in ["x", "-1", "1.0", "4294967295", "99999999999", " 1", "1\n2"] {
        let error = planned(count, None).unwrap_err();
        assert!(matches!(error, PassedError::Count { .. }), "{count}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
#[expect(
    unsafe_code,
    reason = "nothing is taken over, as nothing was passed to this process"
)]
fn what_was_passed_to_another_process_is_left_alone() {
    let own = std::process::id();
    let other = own.wrapping_add(1).to_string();
    for pid in [None, Some(&*other), Some(""), Some("x")] {
        let variable = |name: &str| match name {
            "LISTEN_FDS" => Some("1".into()),
            "LISTEN_PID" => pid.map(OsString::from),
            _ => None,
        };
        // SAFETY: the process id is that of nobody here, so no descriptor is touched.
        let taken = unsafe { take_passed(variable) };
        assert_eq!(taken.unwrap().len(), 0, "{pid:?}");
    }
    let variable = |name: &str| match name {
        "LISTEN_FDS" => Some("no number".into()),
        "LISTEN_PID" => Some(own.to_string().into()),
        _ => None,
    };
    // SAFETY: without a number, no descriptor is touched.
    let refused = unsafe { take_passed(variable) };
    assert!(matches!(refused, Err(PassedError::Count { .. })));
}

#[test]
fn sockets_of_servers_are_taken_with_their_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_address = tcp.local_addr().unwrap();
    let tcp = passed(tcp);
    assert_eq!(tcp.name(), Some("web"));
    let (name, socket) = tcp.server_socket().unwrap();
    assert_eq!(name.as_deref(), Some("web"));
    assert_eq!(socket.address(), &ServerAddress::Tcp(tcp_address));
    socket.set_nonblocking(true).unwrap();
    let accepting = TcpListener::from(socket.try_clone().unwrap());
    let nothing = accepting.accept().unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);

    let (_, socket) = passed(UnixListener::bind(&path).unwrap())
        .server_socket()
        .unwrap();
    let shown = path.to_str().unwrap().to_owned();
    assert_eq!(
        socket.address(),
        &ServerAddress::Unix(UnixKind::Stream, shown)
    );
    assert_eq!(
        rustix::io::fcntl_getfd(&socket).unwrap(),
        rustix::io::FdFlags::CLOEXEC
    );
}

#[test]
fn what_is_no_socket_of_a_server_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let refused = |descriptor: OwnedFd| passed(descriptor).server_socket().unwrap_err().to_string();
    let file = std::fs::File::open(dir.path()).unwrap();
    assert!(refused(file.into()).starts_with("descriptor 3 (web) is no socket"));
    assert!(refused(connection.into()).contains("Accept=no"));
    let unbound = UnixDatagram::unbound().unwrap();
    assert!(refused(unbound.into()).contains("is not bound"));
}

#[test]
fn sockets_for_datagrams_are_taken_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let (_, socket) = passed(udp).server_socket().unwrap();
    assert_eq!(socket.address(), &ServerAddress::Udp(address));
    assert_eq!(socket.address().of_connections(), None);
    let path = dir.path().join("datagrams");
    let datagrams = UnixDatagram::bind(&path).unwrap();
    let (_, socket) = passed(datagrams).server_socket().unwrap();
    let shown = path.to_str().unwrap().to_owned();
    assert_eq!(
        socket.address(),
        &ServerAddress::Unix(UnixKind::Datagram, shown)
    );
    drop(socket);
    assert!(path.exists(), "it belongs to who has bound it");
}
