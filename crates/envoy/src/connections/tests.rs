use super::*;
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};

fn tcp(listener: &TcpListener) -> LocalAddress {
    LocalAddress::Tcp(listener.local_addr().unwrap())
}

fn connect(listener: &TcpListener, host: &str) -> (TcpStream, TcpStream) {
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect((host, port)).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn only_accepted_connections_at_the_given_places_count() {
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let me = std::process::id();
    let addresses = BTreeSet::from([tcp(&v4), tcp(&v6)]);
    assert!(Listening::of(me).unwrap().addresses.is_superset(&addresses));
    assert!(
        listening_ports(me)
            .unwrap()
            .contains(&v4.local_addr().unwrap().port())
    );
    assert_eq!(accepted(me, &addresses).unwrap(), BTreeMap::new());

    let pairs = [
        connect(&v4, "127.0.0.1"),
        connect(&v4, "127.0.0.1"),
        connect(&v6, "::1"),
    ];
    let _uncounted = connect(&other, "127.0.0.1");
    let expected = BTreeMap::from([(tcp(&v4), 2), (tcp(&v6), 1)]);
    assert_eq!(accepted(me, &addresses).unwrap(), expected);

    // A client that has closed its side still waits for the answer, and one that was told that
    // nothing more will come may still be sending.
    pairs[0].0.shutdown(Shutdown::Write).unwrap();
    pairs[1].1.shutdown(Shutdown::Write).unwrap();
    assert_eq!(accepted(me, &addresses).unwrap(), expected);

    // A listener that is closed leaves its connections, as that of an old epoch does.
    let closed = [tcp(&v4), tcp(&v6)];
    drop((v4, v6));
    assert_eq!(accepted(me, &closed.into()).unwrap(), expected);
    drop(pairs);
    assert_eq!(accepted(me, &addresses).unwrap(), BTreeMap::new());
}

#[test]
fn connections_to_an_unspecified_address_are_those_of_its_listener() {
    let v4 = TcpListener::bind("0.0.0.0:0").unwrap();
    let both = TcpListener::bind("[::]:0").unwrap();
    let _pairs = [
        connect(&v4, "127.0.0.1"),
        connect(&both, "127.0.0.1"),
        connect(&both, "::1"),
    ];
    let counts = accepted(std::process::id(), &[tcp(&v4), tcp(&both)].into()).unwrap();
    assert_eq!(counts, [(tcp(&v4), 1), (tcp(&both), 2)].into());
}

#[test]
fn of_two_listeners_on_one_port_the_closer_address_has_the_connection() {
    let addresses = |texts: &[&str]| -> BTreeSet<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let listening = addresses(&[
        "0.0.0.0:1",
        "127.0.0.1:1",
        "[::]:1",
        "[::]:2",
        "127.0.0.1:3",
    ]);
    for (local, at) in [
        ("127.0.0.1:1", Some("127.0.0.1:1")),
        ("10.0.0.1:1", Some("0.0.0.0:1")),
        ("[::1]:1", Some("[::]:1")),
        ("10.0.0.1:2", Some("[::]:2")),
        ("10.0.0.1:3", None),
        ("127.0.0.1:4", None),
    ] {
        let found = accepted_at(local.parse().unwrap(), &listening);
        assert_eq!(found, at.map(|at| at.parse().unwrap()), "{local}");
    }
}

#[test]
fn connections_to_unix_sockets_count_by_path_and_by_abstract_name() {
    use std::os::linux::net::SocketAddrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    let name = format!("handover-test-{}", std::process::id());
    let at = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listeners = [
        UnixListener::bind(&path).unwrap(),
        UnixListener::bind_addr(&at).unwrap(),
    ];
    let addresses = [
        LocalAddress::Unix(path.to_str().unwrap().to_owned()),
        LocalAddress::Unix(format!("@{name}")),
    ];
    let me = std::process::id();
    let seen = Listening::of(me).unwrap().addresses;
    assert!(
        addresses.iter().all(|address| seen.contains(address)),
        "{seen:?}"
    );
    let all = BTreeSet::from(addresses.clone());
    assert_eq!(accepted(me, &all).unwrap(), BTreeMap::new());
    let _clients = [
        UnixStream::connect(&path).unwrap(),
        UnixStream::connect_addr(&at).unwrap(),
    ];
    let _servers = listeners
        .each_ref()
        .map(|listener| listener.accept().unwrap());
    drop(listeners);
    std::fs::remove_file(&path).unwrap();
    let expected = addresses.map(|address| (address, 1));
    assert_eq!(accepted(me, &all).unwrap(), expected.into());
}

/// Sockets of clients are not those of listeners.
#[test]
fn a_udp_listener_is_seen_and_other_udp_sockets_are_passed_over() {
    let ephemeral = ephemeral_ports();
    let mut ports = (1_024..=u16::MAX).rev();
    let listener = ports
        .by_ref()
        .filter(|port| !ephemeral.contains(port))
        .find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok())
        .unwrap();
    let client = ports
        .filter(|port| !ephemeral.contains(port))
        .find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok())
        .unwrap();
    client.connect(listener.local_addr().unwrap()).unwrap();
    let unbound = UdpSocket::bind("127.0.0.1:0").unwrap();
    let seen = Listening::of(std::process::id()).unwrap().uncountable;
    let udp = |socket: &UdpSocket| Uncountable::Udp(socket.local_addr().unwrap());
    assert!(seen.contains(&udp(&listener)), "{seen:?}");
    assert!(!seen.contains(&udp(&client)) && !seen.contains(&udp(&unbound)));
}

#[test]
fn a_process_that_does_not_exist_is_named() {
    let error = accepted(u32::MAX, &BTreeSet::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the sockets of process 4294967295 in /proc/4294967295"
    );
}

/// What is left of a process until it is reaped has no connection, and has not closed them either.
#[test]
fn a_process_that_has_ended_is_not_one_without_connections() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let stat = format!("/proc/{}/stat", child.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
        assert!(std::time::Instant::now() < end, "it does not end");
        std::thread::yield_now();
    }
    accepted(child.id(), &BTreeSet::new()).unwrap_err();
    Listening::of(child.id()).unwrap_err();
    child.wait().unwrap();
}
