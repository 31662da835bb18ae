use std::{
    net::{Ipv4Addr, Ipv6Addr, TcpStream},
    num::NonZeroUsize,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use insta::assert_snapshot;
use socket2::SockRef;

use super::*;

const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const ANY_V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

#[test]
fn a_client_is_accepted() {
    let listener = Listen::new(V4).tcp().unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_stream, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
}

#[test]
fn a_port_is_for_one_socket_unless_all_share_it() {
    let alone = Listen::new(V4).tcp().unwrap();
    let taken = alone.local_addr().unwrap();
    let error = Listen::new(taken).tcp().unwrap_err();
    assert!(
        matches!(error, ListenError::InUse { addr, .. } if addr == taken),
        "{error:?}"
    );
    let error = Listen::new(taken).reuse_port(true).tcp().unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error:?}");

    let shared = Listen::new(V4).reuse_port(true).tcp().unwrap();
    let again = Listen::new(shared.local_addr().unwrap())
        .reuse_port(true)
        .tcp()
        .unwrap();
    assert_eq!(again.local_addr().unwrap(), shared.local_addr().unwrap());
}

#[test]
fn ipv6_alone_or_both_families_is_set_whatever_the_default_of_the_system() {
    for v6_only in [false, true] {
        let listener = Listen::new(ANY_V6).v6_only(v6_only).tcp().unwrap();
        assert_eq!(SockRef::from(&listener).only_v6().unwrap(), v6_only);
    }
}

#[test]
fn the_backlog_bounds_the_connections_that_wait() {
    /// How many of at most eight clients connect while none is accepted.
    fn waiting(backlog: u32, patience: Duration) -> usize {
        let listener = Listen::new(V4).backlog(backlog).tcp().unwrap();
        let addr = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&addr, patience).ok();
        let clients: Vec<_> = (0..8).map_while(connect).collect();
        clients.len()
    }

    // Linux lets one more wait than the backlog says. A client that finds the queue full gets no answer,
    // so a slow machine can only make this number smaller.
    assert!(waiting(2, Duration::from_millis(300)) <= 3);
    let ample = Duration::from_secs(20);
    assert_eq!(waiting(Listen::BACKLOG, ample), 8);
    assert_eq!(waiting(u32::MAX, ample), 8);
}

#[test]
fn accept_waits_unless_told_otherwise() {
    let waits = Listen::new(V4).tcp().unwrap();
    assert!(!SockRef::from(&waits).nonblocking().unwrap());

    let returns = Listen::new(V4).nonblocking(true).tcp().unwrap();
    assert!(SockRef::from(&returns).nonblocking().unwrap());
    assert_eq!(
        returns.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn only_an_inheritable_socket_is_open_in_a_child() {
    for inheritable in [false, true] {
        let socket = OwnedFd::from(Listen::new(V4).inheritable(inheritable).tcp().unwrap());
        // A shell that is the child itself: in its own list of descriptors the number is a socket
        // only if it was inherited, whatever other tests of this process open meanwhile.
        let number = socket.as_raw_fd();
        let ours = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("readlink /proc/$$/fd/{number}")])
            .output()
            .unwrap();
        let theirs = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
        assert_eq!(theirs == ours, inheritable, "{theirs:?}");
    }
}

#[test]
fn each_failure_to_bind_says_what_to_do() {
    let addr = SocketAddr::from(([192, 0, 2, 1], 80));
    let because = |kind: io::ErrorKind| ListenError::from_bind(addr, kind.into()).to_string();
    assert_snapshot!(because(io::ErrorKind::AddrInUse), @r#"192.0.2.1:80 is in use; stop what listens there, which "ss -ltunp" shows, or choose another port"#);
    assert_snapshot!(because(io::ErrorKind::AddrNotAvailable), @r#"192.0.2.1:80 is not an address of this node; use one that "ip address" shows, or 0.0.0.0 or [::] for all"#);
    assert_snapshot!(because(io::ErrorKind::PermissionDenied), @"this process may not listen on 192.0.2.1:80; for a low port, use a higher one or grant CAP_NET_BIND_SERVICE");
    assert_snapshot!(because(io::ErrorKind::InvalidInput), @"cannot listen on 192.0.2.1:80; check that the address, with its zone, is right");

    let source = || io::ErrorKind::Other.into();
    assert_snapshot!(ListenError::Create { addr, source: source() }, @"cannot create a socket for 192.0.2.1:80; check the limit of open files and that the system has this address family");
    assert_snapshot!(ListenError::Configure { addr, option: "SO_REUSEPORT", source: source() }, @"the socket for 192.0.2.1:80 could not be given SO_REUSEPORT; check that this system has it");
}

#[test]
fn datagrams_arrive_and_the_port_is_for_one_socket_unless_all_share_it() {
    let server = Listen::new(V4).udp().unwrap();
    let addr = server.local_addr().unwrap();
    let client = Listen::new(V4).udp().unwrap();
    client.send_to(b"a", addr).unwrap();
    let mut byte = [0];
    assert_eq!(
        server.recv_from(&mut byte).unwrap(),
        (1, client.local_addr().unwrap())
    );
    let error = Listen::new(addr).udp().unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error:?}");

    let shared = Listen::new(V4).reuse_port(true).udp().unwrap();
    let again = Listen::new(shared.local_addr().unwrap()).reuse_port(true);
    assert!(again.udp().is_ok());
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_is_offered_once_its_client_has_spoken() {
    let listen = Listen::new(V4).nonblocking(true);
    for (wait, offered) in [(None, true), (Some(Duration::from_millis(1500)), false)] {
        let listener = listen.defer_accept(wait).tcp().unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut events = [rustix::event::PollFd::new(
            &listener,
            rustix::event::PollFlags::IN,
        )];
        // On loopback the handshake is over when the client knows of it.
        let ready = rustix::event::poll(&mut events, Some(&rustix::event::Timespec::default()));
        assert_eq!(ready.unwrap() == 1, offered, "{wait:?}");
        io::Write::write_all(&mut client, b"a").unwrap();
        rustix::event::poll(&mut events, None).unwrap();
        assert!(listener.accept().is_ok());
    }
}

/// A second group of the same user joined the first one in silence: both instances of a server ran, and each
/// got a part of the clients.
#[test]
fn a_group_is_refused_an_address_that_any_other_socket_has() {
    let three = NonZeroUsize::new(3).unwrap();
    let mut held: Vec<(SocketAddr, Vec<OwnedFd>)> = Vec::new();
    for count in [NonZeroUsize::MIN, three] {
        let group = Listen::new(V4).tcp_group(count).unwrap();
        let addr = group[0].local_addr().unwrap();
        assert_eq!(group.len(), count.get());
        assert!(group.iter().all(|one| one.local_addr().unwrap() == addr));
        held.push((addr, group.into_iter().map(OwnedFd::from).collect()));
    }
    // A single socket that would let others join.
    let shared = Listen::new(V4).reuse_port(true).tcp().unwrap();
    held.push((shared.local_addr().unwrap(), vec![shared.into()]));
    for (addr, _sockets) in &held {
        let port = addr.port();
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let both_families = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        for addr in [*addr, everywhere, both_families] {
            let used = Listen::new(addr).tcp_group(three).unwrap_err();
            assert!(matches!(used, ListenError::InUse { .. }), "{used:?}");
        }
    }
}

#[test]
fn a_group_of_datagrams_is_refused_an_address_that_any_other_socket_has() {
    let two = NonZeroUsize::new(2).unwrap();
    let group = Listen::new(V4).udp_group(two).unwrap();
    let addr = group[0].local_addr().unwrap();
    assert_eq!(group[1].local_addr().unwrap(), addr);
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port()));
    for addr in [addr, everywhere] {
        let used = Listen::new(addr).udp_group(two).unwrap_err();
        assert!(matches!(used, ListenError::InUse { .. }), "{used:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_system_spreads_connections_over_a_whole_group() {
    let count = NonZeroUsize::new(4).unwrap();
    let group = Listen::new(V4).nonblocking(true).tcp_group(count).unwrap();
    let addr = group[0].local_addr().unwrap();
    // By chance, one socket gets none of them once in 10^23 runs.
    let clients: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(addr).unwrap())
        .collect();
    let accepted = group.iter().map(|one| {
        let accepted = std::iter::from_fn(|| one.accept().ok()).count();
        assert!(accepted > 0, "a socket takes no part");
        accepted
    });
    assert_eq!(accepted.sum::<usize>(), clients.len());
}
