use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[tokio::test(start_paused = true)]
async fn addresses_that_are_there_are_returned_at_once() {
    let node = Node::with(vec![eth("192.0.2.1"), eth("2001:db8::1"), eth("192.0.2.1")]);
    let started = Instant::now();
    let found = private_ips_with(&node, PrivateIpsOptions::default()).await;
    assert_eq!(found.addresses, ips(&["192.0.2.1", "2001:db8::1"]));
    assert!(found.complete);
    assert_eq!(found.families(), Families::Both);
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(node.looks(), 1);
}

#[tokio::test(start_paused = true)]
async fn addresses_that_lead_nowhere_else_are_left_out() {
    let node = Node::with(vec![
        InterfaceAddress {
            up: false,
            ..eth("192.0.2.9")
        },
        InterfaceAddress {
            loopback: true,
            ..eth("192.0.2.8")
        },
        eth("127.0.0.2"),
        eth("::1"),
        eth("224.0.0.1"),
        eth("ff02::1"),
        eth("169.254.1.1"),
        eth("fe80::1"),
        eth("10.0.0.1"),
        eth("203.0.113.1"),
        eth("fd00::1"),
    ]);
    let found = private_ips_with(&node, PrivateIpsOptions::default()).await;
    assert_eq!(
        found.addresses,
        ips(&["10.0.0.1", "203.0.113.1", "fd00::1"])
    );
}

#[tokio::test(start_paused = true)]
async fn link_local_addresses_count_when_asked_for() {
    let node = Node::with(vec![eth("169.254.1.1"), eth("fe80::1")]);
    let options = PrivateIpsOptions {
        link_local: true,
        ..Default::default()
    };
    let found = private_ips_with(&node, options).await;
    assert_eq!(found.addresses, ips(&["169.254.1.1", "fe80::1"]));
    assert!(found.complete);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_comes_later_is_waited_for() {
    let node = Node::from_look(4, vec![eth("192.0.2.1")]);
    let started = Instant::now();
    let found = private_ips_with(&node, PrivateIpsOptions::default()).await;
    assert_eq!(found.addresses, ips(&["192.0.2.1"]));
    assert!(found.complete);
    assert_eq!(started.elapsed(), Duration::from_millis(50 + 100 + 200));
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_waits_for_its_address_is_waited_for() {
    let node = Node::with(vec![eth("192.0.2.1"), eth("0.0.0.0")]);
    let started = Instant::now();
    let found = private_ips_with(&node, PrivateIpsOptions::default()).await;
    assert_eq!(found.addresses, ips(&["192.0.2.1"]));
    assert!(!found.complete);
    assert_eq!(started.elapsed(), PRIVATE_IPS_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn the_unspecified_address_of_an_interface_that_is_down_is_no_reason_to_wait() {
    let down = InterfaceAddress {
        up: false,
        ..eth("0.0.0.0")
    };
    let node = Node::with(vec![eth("192.0.2.1"), down]);
    let found = private_ips_with(&node, PrivateIpsOptions::default()).await;
    assert!(found.complete);
}

#[tokio::test(start_paused = true)]
async fn without_addresses_the_wait_ends_exactly_at_the_limit_after_a_last_look() {
    let node = Node::with(vec![]);
    let started = Instant::now();
    let limit = Duration::from_millis(2_700);
    let found = private_ips_with(
        &node,
        PrivateIpsOptions {
            limit,
            ..Default::default()
        },
    )
    .await;
    assert!(found.addresses.is_empty(), "{found:?}");
    assert!(!found.complete);
    assert_eq!(found.families(), Families::Neither);
    assert_eq!(started.elapsed(), limit);
    // At 0, 50, 150, 350, 750, 1550, 2550 and 2700 ms.
    assert_eq!(node.looks(), 8);
}

#[tokio::test(start_paused = true)]
async fn the_pauses_grow_to_one_second_and_no_longer() {
    let node = Node::with(vec![]);
    let _found = private_ips_with(&node, PrivateIpsOptions::default()).await;
    // Six looks up to 1.55 s, then one each second until 119.55 s, then the one at the limit.
    assert_eq!(node.looks(), 6 + 118 + 1);
}

#[tokio::test(start_paused = true)]
async fn with_no_time_there_is_one_look() {
    let node = Node::with(vec![]);
    let options = PrivateIpsOptions {
        limit: Duration::ZERO,
        ..Default::default()
    };
    assert!(!private_ips_with(&node, options).await.complete);
    assert_eq!(node.looks(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_longest_limit_does_no_harm() {
    let node = Node::from_look(3, vec![eth("192.0.2.1")]);
    let options = PrivateIpsOptions {
        limit: Duration::MAX,
        ..Default::default()
    };
    assert!(private_ips_with(&node, options).await.complete);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_is_repeated_and_its_error_told_at_the_end() {
    let found = private_ips_with(&Unreadable, PrivateIpsOptions::default()).await;
    assert!(!found.complete);
    assert_eq!(
        found.error.map(|error| error.kind()),
        Some(io::ErrorKind::OutOfMemory)
    );

    let recovering: &dyn Interfaces = &Node::failing_until(2, vec![eth("192.0.2.1")]);
    let found = private_ips_with(recovering, PrivateIpsOptions::default()).await;
    assert!(found.complete);
    assert!(found.error.is_none());
}

fn eth(ip: &str) -> InterfaceAddress {
    InterfaceAddress {
        interface: "eth0".to_owned(),
        ip: ip.parse().unwrap(),
        up: true,
        loopback: false,
    }
}

fn ips(ips: &[&str]) -> Vec<IpAddr> {
    ips.iter().map(|ip| ip.parse().unwrap()).collect()
}

/// A node that gets its addresses with a certain look at them.
struct Node {
    addresses: Vec<InterfaceAddress>,
    from_look: usize,
    fails_before: bool,
    looks: AtomicUsize,
}

impl Node {
    fn with(addresses: Vec<InterfaceAddress>) -> Self {
        Self::from_look(1, addresses)
    }

    fn from_look(from_look: usize, addresses: Vec<InterfaceAddress>) -> Self {
        Self {
            addresses,
            from_look,
            fails_before: false,
            looks: AtomicUsize::new(0),
        }
    }

    fn failing_until(from_look: usize, addresses: Vec<InterfaceAddress>) -> Self {
        Self {
            fails_before: true,
            ..Self::from_look(from_look, addresses)
        }
    }

    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }
}

impl Interfaces for Node {
    fn addresses(&self) -> io::Result<Vec<InterfaceAddress>> {
        let look = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
        match look >= self.from_look {
            true => Ok(self.addresses.clone()),
            false if self.fails_before => Err(io::ErrorKind::OutOfMemory.into()),
            false => Ok(Vec::new()),
        }
    }
}

/// A node whose interfaces cannot be read.
struct Unreadable;

impl Interfaces for Unreadable {
    fn addresses(&self) -> io::Result<Vec<InterfaceAddress>> {
        Err(io::ErrorKind::OutOfMemory.into())
    }
}
