use super::*;
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
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
fn what_a_process_listens_on_is_shown_in_words() {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let words = [
        LocalAddress::Tcp(address("[::1]:80")).to_string(),
        LocalAddress::Unix("@name".to_owned()).to_string(),
        Uncountable::Udp(address("10.0.0.1:53")).to_string(),
        Uncountable::Transparent(address("0.0.0.0:80")).to_string(),
        Uncountable::OtherNamespace.to_string(),
    ];
    insta::assert_snapshot!(words.join("\n"), @r"
    [::1]:80
    @name
    the listener at 10.0.0.1:53 is UDP
    the listener at 0.0.0.0:80 is transparent
    a listener is in another network namespace
    ");
}

#[test]
fn what_two_looks_have_seen_is_kept() {
    let look = |name: &str, uncountable| Listening {
        addresses: [LocalAddress::Unix(name.to_owned())].into(),
        uncountable: [uncountable].into(),
    };
    let udp = Uncountable::Udp("10.0.0.1:53".parse().unwrap());
    let mut seen = look("a", udp);
    seen.extend(look("b", Uncountable::OtherNamespace));
    let names = ["a", "b"].map(|name| LocalAddress::Unix(name.to_owned()));
    assert_eq!(seen.addresses, names.into());
    assert_eq!(seen.uncountable, [udp, Uncountable::OtherNamespace].into());
}

#[test]
fn the_ports_that_the_kernel_chooses_are_read_or_its_default_is_taken() {
    assert_eq!(range_of_ports("1024\t2048\n"), 1_024..=2_048);
    for text in ["", "1024", "1024 none"] {
        assert_eq!(range_of_ports(text), 32_768..=60_999, "{text}");
    }
}

#[test]
fn a_copied_descriptor_shows_whether_it_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, _server) = connect(&listener, "127.0.0.1");
    let copies = Copies::of(std::process::id());
    assert!(copies.listens(listener.as_raw_fd()));
    assert!(!copies.listens(client.as_raw_fd()));
    assert!(!copies.is_transparent(listener.as_raw_fd()));
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
    // A connection has the name of its listener, and is none.
    let seen = [
        Listening::of(me).unwrap().addresses,
        look_at_own().listening.addresses,
    ];
    for seen in seen {
        assert!(seen.is_disjoint(&all), "{seen:?}");
    }
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
    let udp = |socket: &UdpSocket| Uncountable::Udp(socket.local_addr().unwrap());
    let seen = [
        Listening::of(std::process::id()).unwrap().uncountable,
        look_at_own().listening.uncountable,
    ];
    for seen in seen {
        assert!(seen.contains(&udp(&listener)), "{seen:?}");
        assert!(!seen.contains(&udp(&client)) && !seen.contains(&udp(&unbound)));
    }
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
    let unread = accepted(child.id(), &BTreeSet::new()).unwrap_err();
    assert!(unread.has_ended());
    assert!(Listening::of(child.id()).unwrap_err().has_ended());
    // Whoever looks at several is told which have ended, before they are reaped and afterwards.
    let group = BTreeSet::from([child.id(), std::process::id()]);
    let ended = || look(std::slice::from_ref(&group)).remove(0).ended;
    assert_eq!(ended(), [child.id()].into());
    child.wait().unwrap();
    assert_eq!(ended(), [child.id()].into());
}

/// Where `/proc` hides the processes of other users, a process that runs has no directory.
#[test]
fn a_process_has_ended_by_what_the_kernel_says_and_not_by_its_directory() {
    assert!(!has_ended(std::process::id()));
    assert!(!has_ended(1));
    assert!(has_ended(u32::MAX));
    let hidden = || io::Error::from(io::ErrorKind::NotFound);
    let error = |pid| ConnectionsError::new(pid, directory(pid), hidden());
    assert!(!error(std::process::id()).has_ended());
    assert!(error(u32::MAX).has_ended());
    assert!(has_ended(i32::MAX.cast_unsigned()));
}

/// A group that is this test.
fn own() -> [BTreeSet<u32>; 1] {
    [[std::process::id()].into()]
}

fn look_at_own() -> Looked {
    let looked = look(&own()).pop().unwrap();
    assert!(looked.unread.is_empty(), "{:?}", looked.unread);
    looked
}

fn connection_from(client: &TcpStream) -> Connection {
    let peer = client.local_addr().unwrap();
    let mut connections = look_at_own().connections.into_iter();
    connections.find(|it| it.peer == Some(peer)).unwrap()
}

#[test]
fn a_look_shows_both_ends_the_bytes_and_where_the_process_listens() {
    use std::io::{Read as _, Write as _};

    let v4 = TcpListener::bind("0.0.0.0:0").unwrap();
    let both = TcpListener::bind("[::]:0").unwrap();
    let mut pairs = [
        connect(&v4, "127.0.0.1"),
        connect(&both, "127.0.0.1"),
        connect(&both, "::1"),
    ];
    for (index, (client, server)) in pairs.iter_mut().enumerate() {
        let bytes = vec![0; 10 * (index + 1)];
        client.write_all(&bytes).unwrap();
        server.read_exact(&mut bytes.clone()).unwrap();
    }
    let listening = look_at_own().listening.addresses;
    assert!(listening.is_superset(&[tcp(&v4), tcp(&both)].into()));
    for (index, (client, server)) in pairs.iter().enumerate() {
        let seen = connection_from(client);
        // An IPv4 address is one, also where a socket of IPv6 has taken it.
        let local = server.local_addr().unwrap();
        let ip = local.ip().to_canonical();
        let local = SocketAddr::new(ip, local.port());
        assert_eq!(seen.local, LocalAddress::Tcp(local));
        assert_eq!(seen.state, ConnectionState::Open);
        let traffic = seen.traffic.unwrap();
        assert_eq!(traffic.received, 10 * (index as u64 + 1));
        assert!(traffic.at_least >= traffic.idle, "{traffic:?}");
    }
    pairs[0].0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        connection_from(&pairs[0].0).state,
        ConnectionState::ClosedByPeer
    );
}

#[test]
fn the_client_of_a_unix_socket_is_named_by_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let _server = listener.accept().unwrap();
    let name = LocalAddress::Unix(path.to_str().unwrap().to_owned());
    let looked = look_at_own();
    assert!(looked.listening.addresses.contains(&name));
    let mut seen = looked.connections.iter().filter(|it| it.local == name);
    let (connection, more) = (seen.next().unwrap(), seen.next());
    assert!(more.is_none());
    assert_eq!(connection.peer_pid, Some(std::process::id()));
    assert_eq!((connection.peer, connection.traffic), (None, None));
}

#[test]
fn each_group_has_its_own_and_what_cannot_be_read_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, _server) = connect(&listener, "127.0.0.1");
    let looked = look(&[own()[0].clone(), [u32::MAX].into()]);
    let peer = client.local_addr().ok();
    assert!(looked[0].connections.iter().any(|it| it.peer == peer));
    assert!(looked[1].connections.is_empty() && looked[1].unread.is_empty());
    assert_eq!(looked[1].ended, [u32::MAX].into());
}

fn soon() -> std::time::Instant {
    std::time::Instant::now() + std::time::Duration::from_secs(10)
}

fn is_over(stream: &mut TcpStream) -> bool {
    use std::io::Read as _;

    let limit = std::time::Duration::from_secs(10);
    stream.set_read_timeout(Some(limit)).unwrap();
    match stream.read(&mut [0]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
        ),
    }
}

fn is_alive((client, server): &mut (TcpStream, TcpStream)) -> bool {
    use std::io::{Read as _, Write as _};

    client.write_all(b"x").is_ok() && server.read_exact(&mut [0]).is_ok()
}

/// Whether the kernel may be asked depends on who runs this. The other way must do the same.
#[test]
fn just_the_chosen_connection_is_closed_by_whichever_way_is_open() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let both = TcpListener::bind("[::]:0").unwrap();
    for by_the_kernel in [true, false] {
        let mut ends = connect(&listener, "127.0.0.1");
        let mut ends6 = connect(&both, "::1");
        let mut mapped = connect(&both, "127.0.0.1");
        let mut lives = connect(&listener, "127.0.0.1");
        let chosen = [&ends, &ends6, &mapped].map(|(client, _)| {
            let mut chosen = connection_from(client);
            if !by_the_kernel {
                chosen.id = None;
            }
            chosen
        });
        let closing = close(chosen.to_vec(), soon());
        let shut_down = u64::try_from(closing.shut_down.len()).unwrap();
        assert_eq!(closing.destroyed + shut_down, 3, "{closing:?}");
        assert!(by_the_kernel || closing.destroyed == 0, "{closing:?}");
        assert_eq!((closing.gone, closing.refused, closing.late), (0, 0, 0));
        for (client, server) in [&mut ends, &mut ends6, &mut mapped] {
            assert!(is_over(client) && is_over(server));
        }
        assert!(is_alive(&mut lives));
        // A process that does not answer to the end still holds what was shut down.
        assert_eq!(still_held(&closing.shut_down), shut_down);
        drop((ends, ends6, mapped));
        assert_eq!(still_held(&closing.shut_down), 0);
    }
}

/// Between the look and the closing, the process may have closed the connection, and the descriptor
/// may be that of another one.
#[test]
fn a_descriptor_that_is_another_connection_by_then_is_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, server) = connect(&listener, "127.0.0.1");
    let seen = connection_from(&client);
    let mut other = connect(&listener, "127.0.0.1");
    // Its place is taken by the other one.
    let mut place = OwnedFd::from(server);
    rustix::io::dup2(&other.1, &mut place).unwrap();
    let mut by_copy = seen.clone();
    by_copy.id = None;
    // The socket is open, but not in that process.
    let mut elsewhere = connection_from(&other.0);
    elsewhere.pid = 1;
    let closing = close(vec![seen, by_copy, elsewhere], soon());
    assert_eq!((closing.gone, closing.destroyed), (3, 0), "{closing:?}");
    drop(place);
    assert!(is_alive(&mut other));
}

#[test]
fn nothing_is_closed_after_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pair = connect(&listener, "127.0.0.1");
    let closing = close(vec![connection_from(&pair.0)], std::time::Instant::now());
    assert_eq!(closing.late, 1);
    assert!(is_alive(&mut pair));
}

#[test]
fn a_right_that_is_missing_is_named_with_its_remedy() {
    let denied = || io::Error::from(Errno::PERM);
    let error = CloseError {
        pid: 7,
        destroy: Some(denied()),
        copy: denied(),
    };
    insta::assert_snapshot!(error, @"the kernel does not close the connection (SOCK_DESTROY: Operation not permitted (os error 1)), and process 7 does not let its sockets be copied (pidfd_getfd: Operation not permitted (os error 1)); give handover the capability CAP_NET_ADMIN, or CAP_SYS_PTRACE, or run it as the user of that process with kernel.yama.ptrace_scope at most 1");
    let elsewhere = CloseError {
        destroy: None,
        ..error
    };
    insta::assert_snapshot!(elsewhere, @"the kernel can close TCP connections of handover's own network namespace only, and process 7 does not let its sockets be copied (pidfd_getfd: Operation not permitted (os error 1)); give handover the capability CAP_NET_ADMIN, or CAP_SYS_PTRACE, or run it as the user of that process with kernel.yama.ptrace_scope at most 1");
}
