//! The same questions, asked of real interfaces in a network namespace that each test has for
//! itself.
//!
//! A test starts its own program again under `unshare`, so that what it does to interfaces
//! concerns nobody else. Where that is not permitted, or `unshare` or `ip` is missing, it prints a
//! line `SKIPPED <name>: <reason>` to standard error, past the capture of the test harness.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail as the test does"
)]

use std::{
    env, fs,
    future::Future,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    num::NonZeroUsize,
    pin::pin,
    process::Command,
    task::{Context, Poll, Waker},
    time::Duration,
};

use handover_netutil::{
    Families, Listen, ListenError, PrivateIpsOptions, SourceAddressError, SystemInterfaces,
    private_ips, private_ips_with, resolve_addr, source_address,
};

/// Longer than anything here takes, and the end of a test that hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Set in the program that runs inside the namespace, to the namespace that it was started from.
const INSIDE: &str = "HANDOVER_TEST_NAMESPACE";

#[test]
fn a_namespace_without_addresses_has_none() {
    in_namespace("a_namespace_without_addresses_has_none", async || {
        ip("link set lo up");
        let found = private_ips(Some(Duration::ZERO)).await;
        assert!(found.addresses.is_empty(), "{found:?}");
        assert!(!found.complete);
        assert!(found.error.is_none());
        assert_eq!(found.families(), Families::Neither);
    });
}

#[test]
fn the_addresses_of_interfaces_that_are_up_are_found() {
    in_namespace(
        "the_addresses_of_interfaces_that_are_up_are_found",
        async || {
            ip("link set lo up");
            ip("address add 192.0.2.77/32 dev lo");
            add_pair("up0", "up1");
            ip("link set up0 up");
            ip("address add 10.1.2.3/24 dev up0");
            ip("address add 203.0.113.5/24 dev up0");
            ip("address add 169.254.7.7/16 dev up0 scope link");
            ip("address add 2001:db8::5/64 dev up0 nodad");
            ip("address add fe80::5/64 dev up0 nodad");
            // The other end stays down.
            ip("address add 10.9.9.9/24 dev up1");

            let found = private_ips(Some(LIMIT)).await;
            assert_eq!(
                sorted(found.addresses.clone()),
                ips(&["10.1.2.3", "203.0.113.5", "2001:db8::5"])
            );
            assert!(found.complete);
            assert_eq!(found.families(), Families::Both);

            let options = PrivateIpsOptions {
                limit: LIMIT,
                link_local: true,
            };
            let found = private_ips_with(&SystemInterfaces, options).await;
            let expected = [
                "10.1.2.3",
                "169.254.7.7",
                "203.0.113.5",
                "2001:db8::5",
                "fe80::5",
            ];
            assert_eq!(sorted(found.addresses), ips(&expected));
        },
    );
}

#[test]
fn an_address_that_is_added_while_waiting_ends_the_wait() {
    in_namespace(
        "an_address_that_is_added_while_waiting_ends_the_wait",
        async || {
            add_pair("late0", "late1");
            ip("link set late0 up");
            let mut waiting = pin!(private_ips(Some(LIMIT)));
            let first_look = waiting
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(
                matches!(first_look, Poll::Pending),
                "there is no address yet"
            );

            ip("address add 2001:db8::6/64 dev late0 nodad");
            let found = waiting.await;
            assert_eq!(found.addresses, ips(&["2001:db8::6"]));
            assert!(found.complete);
            assert_eq!(found.families(), Families::V6Only);
        },
    );
}

#[test]
fn an_address_of_an_interface_that_goes_down_is_gone() {
    in_namespace(
        "an_address_of_an_interface_that_goes_down_is_gone",
        async || {
            add_pair("down0", "down1");
            ip("link set down0 up");
            ip("address add 10.1.2.3/24 dev down0");
            assert!(private_ips(Some(Duration::ZERO)).await.complete);
            ip("link set down0 down");
            assert!(private_ips(Some(Duration::ZERO)).await.addresses.is_empty());
        },
    );
}

#[test]
fn the_source_address_is_that_of_the_route() {
    in_namespace("the_source_address_is_that_of_the_route", async || {
        let elsewhere: SocketAddr = "198.51.100.1:443".parse().unwrap();
        let error = source_address(elsewhere).unwrap_err();
        assert!(
            matches!(error, SourceAddressError::NoRoute { towards, .. } if towards == elsewhere)
        );

        for (name, peer, address) in [("a0", "a1", "10.1.0.1/24"), ("b0", "b1", "10.2.0.1/24")] {
            add_pair(name, peer);
            ip(&format!("link set {name} up"));
            ip(&format!("link set {peer} up"));
            ip(&format!("address add {address} dev {name}"));
        }
        ip("route add default via 10.2.0.2");
        let from = |towards: &str| {
            source_address(towards.parse().unwrap())
                .unwrap()
                .to_string()
        };
        assert_eq!(from("10.1.0.9:80"), "10.1.0.1");
        assert_eq!(from("10.2.0.9:80"), "10.2.0.1");
        assert_eq!(from("198.51.100.1:0"), "10.2.0.1");
    });
}

#[test]
fn a_zone_by_name_and_by_number_is_the_same_and_can_be_listened_on() {
    in_namespace(
        "a_zone_by_name_and_by_number_is_the_same_and_can_be_listened_on",
        async || {
            add_pair("zone0", "zone1");
            // A name made of digits goes before the number it spells.
            add_pair("4242", "zone2");
            ip("link set zone0 up");
            ip("link set zone1 up");
            ip("address add fe80::7/64 dev zone0 nodad");

            let by_name = resolve_addr("[fe80::7%zone0]:0").await.unwrap();
            let SocketAddr::V6(v6) = by_name else {
                panic!("{by_name} is an IPv6 address")
            };
            let by_number = resolve_addr(&format!("[fe80::7%{}]:0", v6.scope_id()))
                .await
                .unwrap();
            assert_eq!(by_name, by_number);

            assert!(Listen::new(by_name).tcp().is_ok());
            let error = Listen::new(resolve_addr("[fe80::7]:0").await.unwrap())
                .tcp()
                .unwrap_err();
            assert!(matches!(error, ListenError::Bind { .. }), "{error:?}");
        },
    );
}

#[test]
fn the_unspecified_ipv6_address_serves_ipv4_unless_told_otherwise() {
    in_namespace(
        "the_unspecified_ipv6_address_serves_ipv4_unless_told_otherwise",
        async || {
            ip("link set lo up");
            let any: SocketAddr = "[::]:8080".parse().unwrap();
            let both = Listen::new(any).tcp().unwrap();
            assert!(TcpStream::connect("127.0.0.1:8080").is_ok());
            assert!(TcpStream::connect("[::1]:8080").is_ok());
            drop(both);

            let _v6 = Listen::new(any).v6_only(true).tcp().unwrap();
            assert!(TcpStream::connect("127.0.0.1:8080").is_err());
            assert!(TcpStream::connect("[::1]:8080").is_ok());
            let _v4_beside = Listen::new("0.0.0.0:8080".parse().unwrap()).tcp().unwrap();
            assert!(TcpStream::connect("127.0.0.1:8080").is_ok());

            // Groups of sockets follow the same rules.
            let two = NonZeroUsize::new(2).unwrap();
            let any: SocketAddr = "[::]:8081".parse().unwrap();
            let v6 = Listen::new(any).v6_only(true).tcp_group(two).unwrap();
            let v4 = Listen::new("0.0.0.0:8081".parse().unwrap());
            let v4 = v4.tcp_group(two).unwrap();
            drop(v6);
            let used = Listen::new(any).tcp_group(two).unwrap_err();
            assert!(matches!(used, ListenError::InUse { .. }), "{used:?}");
            drop(v4);
            assert_eq!(Listen::new(any).tcp_group(two).unwrap().len(), 2);
        },
    );
}

#[test]
fn a_port_that_was_served_from_can_be_bound_again_at_once() {
    in_namespace(
        "a_port_that_was_served_from_can_be_bound_again_at_once",
        async || {
            ip("link set lo up");
            let addr: SocketAddr = "127.0.0.1:8080".parse().unwrap();
            let listener = Listen::new(addr).tcp().unwrap();
            let mut client = TcpStream::connect(addr).unwrap();
            // Closed by the server first, so that its side keeps the port in TIME_WAIT.
            drop(listener.accept().unwrap());
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            drop(client);
            drop(listener);
            drop(Listen::new(addr).tcp().unwrap());

            let two = NonZeroUsize::new(2).unwrap();
            let group = Listen::new(addr).tcp_group(two).unwrap();
            let clients: Vec<_> = (0..60).map(|_| TcpStream::connect(addr).unwrap()).collect();
            // What waits in the sockets is reset, and the rest closed by the server first.
            drop(group[0].accept().unwrap());
            drop(group);
            drop(clients);
            assert_eq!(Listen::new(addr).tcp_group(two).unwrap().len(), 2);
        },
    );
}

#[test]
fn an_address_of_another_node_is_told_as_such() {
    in_namespace("an_address_of_another_node_is_told_as_such", async || {
        // Without any address at all Linux would let every address be bound.
        ip("link set lo up");
        let elsewhere: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        let error = Listen::new(elsewhere).tcp().unwrap_err();
        assert!(
            matches!(error, ListenError::NotLocal { addr, .. } if addr == elsewhere),
            "{error:?}"
        );
    });
}

/// Runs `test` in a network namespace of its own, or says why not. `name` is the calling test's.
fn in_namespace(name: &str, test: impl AsyncFnOnce()) {
    let namespace = fs::read_link("/proc/self/ns/net").unwrap();
    if let Some(outside) = env::var_os(INSIDE) {
        assert_ne!(
            namespace, outside,
            "the interfaces of this machine must not be touched"
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(async {
            tokio::time::timeout(LIMIT, test())
                .await
                .expect("the test ends within its limit");
        });
    }
    if let Err(reason) = namespaces_work() {
        // In one piece, because the harness writes beside it.
        let line = format!("SKIPPED {name}: {reason}\n");
        return io::stderr().write_all(line.as_bytes()).unwrap();
    }
    let output = unshare()
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, namespace)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "inside the namespace: {}\n{text}",
        output.status
    );
    assert!(
        text.contains("1 passed"),
        "the test did not run inside the namespace:\n{text}"
    );
}

/// Whether interfaces can be made in a new network namespace; if not, why.
fn namespaces_work() -> Result<(), String> {
    let output = unshare()
        .args([
            "ip", "link", "add", "try0", "type", "veth", "peer", "name", "try1",
        ])
        .output()
        .map_err(|error| format!("unshare cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "no interfaces in a network namespace: {}",
        said.trim().replace('\n', "; ")
    ))
}

/// A command that runs in a new network namespace, as root of a new user namespace so that it
/// needs no privileges outside.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--"]);
    command
}

/// A pair of Ethernet interfaces joined by a virtual cable, both down.
fn add_pair(name: &str, peer: &str) {
    ip(&format!("link add {name} type veth peer name {peer}"));
}

/// Runs `ip` with these arguments.
fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
}

fn ips(ips: &[&str]) -> Vec<IpAddr> {
    ips.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn sorted(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses
}
