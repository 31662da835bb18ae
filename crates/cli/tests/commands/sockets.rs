//! The kinds of sockets that `exec` binds and passes on, and their options.

use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use handover_test_support::ports::Port;
use rustix::process::Signal;

use crate::support::{Running, exec_script, handover, output_of, stderr};

/// Shows which sockets are the descriptors from 3 on, and with which names, and stays.
const SHOW: &str = "for fd in 3 4 5 6 7; do readlink /proc/$$/fd/$fd || true; done | tr '\\n' ' '; \
     echo \"names=$LISTEN_FDNAMES\"; exec sleep 600";

fn shown(handover: &Running, epoch: u32) -> String {
    let line = handover.stdout.wait_for_nth(epoch as usize + 1, "names=");
    let marked = format!("[epoch {epoch}] ");
    line.split_once(&marked).unwrap().1.to_owned()
}

#[test]
fn every_kind_of_socket_is_passed_to_each_epoch_and_its_file_goes_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (stream, packets, datagrams) = (path("stream"), path("packets"), path("datagrams"));
    let listen = format!(
        "127.0.0.1:0,udp:127.0.0.1:0,unix:{},unixpacket:{},unixgram:{}",
        stream.display(),
        packets.display(),
        datagrams.display()
    );
    let names = "tcp,udp,stream,packets,datagrams";
    let mut handover = exec_script(&["--listen", &listen, "--fd-name", names], SHOW);
    handover.says("epoch 0 is live");
    let first = shown(&handover, 0);
    assert_eq!(first.matches("socket:[").count(), 5, "{first}");
    assert!(
        first.ends_with("names=tcp:udp:stream:packets:datagrams"),
        "{first}"
    );
    let udp = handover.says("listening on udp:127.0.0.1:");
    let port = udp.rsplit(':').next().unwrap();
    // Nobody accepts yet; what comes waits in the sockets.
    let _waiting = UnixStream::connect(&stream).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(b"a", &datagrams).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"a", format!("127.0.0.1:{port}")).unwrap();
    assert!(packets.exists());

    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    assert_eq!(shown(&handover, 1), first);
    let _waiting = UnixStream::connect(&stream).unwrap();

    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    for file in [stream, packets, datagrams] {
        assert!(!file.exists(), "{file:?}");
    }
}

/// Some servers remove the file of their socket at their end, also if it was passed to them. The next epoch held
/// the socket then, and no client found it.
#[test]
fn the_file_that_a_program_removes_at_its_end_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    let listen = format!("unix:{}", path.display());
    let removes = format!(
        "trap 'rm -f {}; exit 0' TERM; while :; do sleep 0.01; done",
        path.display()
    );
    let mut handover = exec_script(&["--listen", &listen], &removes);
    handover.says("epoch 0 is live");
    let _waits = UnixStream::connect(&path).unwrap();
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    handover.says("the file of the socket listen0 was removed, and is back");
    handover.says("epoch 0 ended");
    let _also_waits = UnixStream::connect(&path).unwrap();

    // The file of another server stays where it is, and is reported.
    std::fs::remove_file(&path).unwrap();
    handover.stderr.wait_for_nth(2, "was removed, and is back");
    let other = path.with_extension("other");
    let listener = UnixListener::bind(&other).unwrap();
    std::fs::rename(&other, &path).unwrap();
    handover.says("another file has the place of the socket listen0");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    drop(listener);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_file_of_a_killed_instance_is_taken_over_and_that_of_a_living_server_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    let listen = format!("unix:{}", path.display());
    let flags = ["--listen", &listen];
    let mut killed = exec_script(&flags, "exec sleep 600");
    killed.says("epoch 0 is live");
    let output = output_of(["exec", "--listen", &listen, "--", "sleep", "600"]);
    assert_eq!(output.status.code(), Some(71), "{output:?}");
    let said = stderr(&output);
    assert!(
        said.contains("web.sock is in use; stop what has bound it"),
        "{said}"
    );
    killed.signal(Signal::KILL);
    killed.code();
    assert!(path.exists());

    // The program of the killed one may take a moment to end.
    let again = crate::support::eventually("the path", || {
        let listener = UnixListener::bind(path.with_extension("probe")).unwrap();
        drop(listener);
        std::fs::remove_file(path.with_extension("probe")).unwrap();
        let refused = UnixStream::connect(&path).is_err();
        refused.then(|| exec_script(&flags, "exec sleep 600"))
    });
    again.says("epoch 0 is live");
    let _waiting = UnixStream::connect(&path).unwrap();

    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let listen = format!("unix:{}", file.display());
    let output = output_of(["exec", "--listen", &listen, "--", "true"]);
    assert_eq!(output.status.code(), Some(71), "{output:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

#[test]
fn the_file_of_a_socket_has_the_mode_and_the_owner_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    let own = std::fs::metadata(dir.path()).unwrap();
    let (user, group) = (own.uid().to_string(), own.gid().to_string());
    let listen = format!("unix:{}", path.display());
    let flags = [
        "--listen",
        &listen,
        "--listen-mode",
        "0622",
        "--listen-user",
        &user,
        "--listen-group",
        &group,
    ];
    let handover = exec_script(&flags, "exec sleep 600");
    handover.says("listening on unix:");
    let file = std::fs::symlink_metadata(&path).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o622);
    assert_eq!((file.uid(), file.gid()), (own.uid(), own.gid()));
}

#[test]
fn each_worker_has_a_socket_of_the_same_address() {
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--fd-name",
        "web",
        "--listen-workers",
        "3",
        "--listen-backlog",
        "16",
        "--listen-defer-accept",
        "1s",
        "--env",
        "FDS={fd:web}",
    ];
    let script = format!("echo fds=$FDS; {SHOW}");
    let handover = exec_script(&flags, &script);
    let line = handover.says("with 3 sockets");
    handover.stdout.wait_for("fds=3,4,5");
    let shown = shown(&handover, 0);
    assert_eq!(shown.matches("socket:[").count(), 3, "{shown}");
    assert!(shown.ends_with("names=web:web:web"), "{shown}");
    let address = line.split("listening on ").nth(1).unwrap();
    let address = address.split(' ').next().unwrap();
    drop(TcpStream::connect(address).unwrap());
}

/// A second instance of the same user joined the sockets of the first one in silence (`SO_REUSEPORT`), and each
/// got a part of the clients.
#[test]
fn a_second_instance_with_workers_is_refused_the_address_of_the_first_one() {
    let workers = ["--listen-workers", "2", "--listen"];
    let listen = ["127.0.0.1:0,udp:127.0.0.1:0"];
    let first = exec_script(&[&workers[..], &listen].concat(), "exec sleep 600");
    let port_of = |line: &str| {
        let port = line.rsplit(':').next().unwrap();
        port.split(' ').next().unwrap().to_owned()
    };
    let tcp = port_of(&first.says("listening on 127.0.0.1:"));
    let udp = port_of(&first.says("listening on udp:127.0.0.1:"));
    let pid = format!("pid {}", first.pid());
    for (listen, remedy) in [
        (
            format!("127.0.0.1:{tcp}"),
            [&*pid, "end that one first, or choose another port"],
        ),
        (
            format!("udp:127.0.0.1:{udp}"),
            ["is in use", "or choose another port"],
        ),
    ] {
        let words = ["exec"].into_iter().chain(workers);
        let output = output_of(words.chain([&*listen, "--", "sleep", "600"]));
        assert_eq!(output.status.code(), Some(71), "{output:?}");
        let said = stderr(&output);
        assert!(said.contains(&listen.replace("udp:", "")), "{said}");
        assert!(remedy.iter().all(|part| said.contains(part)), "{said}");
    }
}

#[test]
fn a_socket_for_ipv6_alone_leaves_the_port_of_ipv4() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return crate::support::skipped(
            "commands::sockets::a_socket_for_ipv6_alone_leaves_the_port_of_ipv4",
            "this host has no IPv6",
        );
    }
    let flags = ["--listen", "[::]:0", "--listen-v6only"];
    let handover = exec_script(&flags, "exec sleep 600");
    let line = handover.says("listening on [::]:");
    let port = line.rsplit(':').next().unwrap();
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_err());
    drop(TcpStream::connect(format!("[::1]:{port}")).unwrap());
}

#[test]
fn a_flag_that_changes_no_socket_is_refused() {
    for (flags, listen) in [
        (["--listen-workers", "2"], "unix:/tmp/x"),
        (["--listen-backlog", "2"], "udp:127.0.0.1:0"),
        (["--listen-mode", "0660"], "127.0.0.1:0"),
        (["--listen-user", "0"], "unix:@x"),
        (["--listen-group", "0"], "127.0.0.1:0"),
        (["--listen-defer-accept", "1s"], "udp:127.0.0.1:0"),
    ] {
        let words = ["exec", "--listen", listen].into_iter().chain(flags);
        let output = output_of(words.chain(["--", "true"]));
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let said = stderr(&output);
        assert!(
            said.contains(&format!("{} changes nothing", flags[0])),
            "{said}"
        );
    }
    let output = output_of([
        "exec",
        "--listen",
        "127.0.0.1:0",
        "--listen-v6only",
        "--",
        "true",
    ]);
    assert!(stderr(&output).contains("--listen-v6only changes nothing"));
}

/// The program runs, and does not know of its sockets. A script has started it, say, and `LISTEN_PID` is that of the script.
#[test]
fn clients_that_nobody_accepts_are_told_of() {
    let flags = ["--listen", "127.0.0.1:0", "--live-after", "0s"];
    let handover = exec_script(&flags, "exec sleep 600");
    let address = handover.address();
    let _clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    let told = handover.says("and they do not get fewer");
    let expected = format!("epoch 0 is live, but 2 connections wait at {address}");
    assert!(told.contains(&expected), "{told}");
}

/// The most frequent mistake: the program serves its own address, as it did before.
#[test]
fn a_program_that_binds_its_address_itself_is_told_what_to_do() {
    let port = Port::free();
    let address = port.addr().to_string();
    let script = format!(
        "import os, socket, time\n\
         s = socket.socket()\n\
         s.bind(('127.0.0.1', {}))\n\
         s.listen()\n\
         os.write(int(os.environ['READY_FD']), b'\\n')\n\
         time.sleep(100)",
        port.number()
    );
    let program = ["--", "python3", "-c", &script];
    let always = ["exec", "--max-retries", "0", "--ready-fd"];
    let words = [&always[..], &["--listen", &address], &program].concat();
    let mut listening = Running::start(&mut handover(words));
    assert_eq!(listening.code(), 69);
    listening.says(
        "Address already in use; if handover listens there, let the program take the socket that it is passed \
         (LISTEN_FDS) instead of binding one",
    );
    let running = Running::start(&mut handover([&always[..], &program].concat()));
    running.says("epoch 0 is live");
    running.signal(Signal::HUP);
    let failed = running.says("epoch 1 failed");
    assert!(
        failed.ends_with(
            "Address already in use; if the older epoch has that address, name it with --listen, and let the program \
             take the socket that it is passed (LISTEN_FDS)"
        ),
        "{failed}"
    );
}
