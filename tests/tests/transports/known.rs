//! Faults that others have reported of hot restarts, tried here.

use std::time::Instant;

use handover_test_support::limit::eventually;
use handover_test_support::ports::Port;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::Signal;

use crate::clients::{Clients, Habit};
use crate::config::socket;
use crate::namespace::{self, Namespace};
use crate::udp::{ANSWER, HAND_OVER};
use crate::wires::{DatagramBackend, datagrams, echo, echo_backend, tcp, tcp_within};
use crate::world::{LIMIT, Plan, SHUTDOWN, Site, measure, start, version, versions};

/// envoyproxy/envoy#20584: the new epoch was given the UDP socket for its TCP listener.
#[test]
fn tcp_and_udp_on_one_port_are_handed_over_each_by_itself() {
    for envoy in versions(require_envoy!()) {
        let (site, port, backend) = (Site::new(), Port::free(), DatagramBackend::start());
        site.write(
            &site
                .bootstrap()
                .datagrams("udp", port.number(), "datagrams")
                .bytes("tcp", &socket(port.number()), "echo")
                .datagram_cluster("datagrams", backend.addr)
                .cluster("echo", echo_backend()),
        );
        let plans = [
            Plan::new("TCP", Habit::Each, echo(tcp(port.addr()))),
            Plan::new("UDP", Habit::Each, datagrams(port.addr(), ANSWER)),
        ];
        let seen = measure(&site, &envoy, &plans);
        seen.print();
        seen.assert_hand_over_loses_nothing("TCP");
        // Each datagram is answered in the end: what comes while nobody reads waits in the socket.
        let udp = seen.of("UDP").remove(0);
        assert!(udp.exchanged(seen.gone, seen.stop) > 0, "{:?}", udp.events);
    }
}

/// envoyproxy/envoy#47492: the file of the namespace is gone, as when a pod has ended. Where the next
/// epoch cannot start, the one that runs has its sockets.
#[test]
fn clients_in_a_network_namespace_whose_file_is_gone_are_served_over_a_change() {
    let test = "known::clients_in_a_network_namespace_whose_file_is_gone_are_served_over_a_change";
    for envoy in versions(require_envoy!()) {
        let Some(namespace) = Namespace::new(test) else {
            return;
        };
        let (site, port) = (Site::new(), Port::free());
        let link = site.dir.path().join("namespace");
        std::os::unix::fs::symlink(namespace.path(), &link).expect("the directory is ours");
        site.write(&namespace::bootstrap(&site, &port, &link));
        let mut supervisor = site.start(&envoy);
        let version = version(site.admin());
        let to = echo(tcp_within(namespace.path(), port.addr()));
        let plan = Plan::new("new", Habit::Each, to);
        let clients = start([plan].iter());
        std::fs::remove_file(&link).expect("the link is ours");
        let gone = Instant::now();
        supervisor.signal(Signal::HUP);
        let outcome = eventually(LIMIT, "the end of the start of epoch 1", || {
            let outcomes = ["epoch 1 is live", "epoch 1 failed"];
            outcomes
                .into_iter()
                .find(|it| supervisor.count_lines(it) > 0)
        });
        // The old epoch has no part in what comes when it has ended.
        if outcome == "epoch 1 is live" {
            supervisor.wait_for_line("epoch 0 ended", LIMIT);
        }
        let exchanged = || clients.iter().map(Clients::exchanged).sum::<usize>();
        let before = exchanged();
        eventually(LIMIT, "further exchanges", || {
            (exchanged() > before + 20).then_some(())
        });
        for noted in clients.into_iter().map(Clients::stop) {
            let lost = noted.lost(gone, Instant::now());
            assert!(lost.is_empty(), "{version:?}, {outcome}: {lost:?}");
        }
        println!("=== {version:?} without the namespace's file: {outcome}");
        supervisor.signal(Signal::TERM);
        supervisor.wait_exit(LIMIT);
        site.assert_nothing_left();
    }
}

/// envoyproxy/envoy#15099: a third epoch ends the first one at once. Handover lets it wait until no
/// connection is left, and datagrams have none that could be counted.
#[test]
fn a_further_change_waits_for_the_end_of_an_epoch_with_udp() {
    let envoy = require_envoy!();
    let (site, port, backend) = (Site::new(), Port::free(), DatagramBackend::start());
    site.write(
        &site
            .bootstrap()
            .datagrams("udp", port.number(), "backend")
            .datagram_cluster("backend", backend.addr),
    );
    let mut supervisor = site.start(&envoy);
    let is_handed_over = version(site.admin()) >= HAND_OVER;
    let plan = Plan::new("UDP", Habit::Each, datagrams(port.addr(), ANSWER));
    let clients = start([plan].iter());
    let asked = Instant::now();
    for epoch in ["epoch 1 is live", "epoch 2 is live"] {
        supervisor.signal(Signal::HUP);
        supervisor.wait_for_line(epoch, LIMIT);
    }
    assert!(asked.elapsed() >= SHUTDOWN, "{:?}", asked.elapsed());
    for noted in clients.into_iter().map(Clients::stop) {
        let lost: usize = noted.lost(asked, Instant::now()).values().sum();
        assert!(!is_handed_over || lost <= 2, "{lost} datagrams");
    }
    supervisor.signal(Signal::TERM);
    supervisor.wait_exit(LIMIT);
    site.assert_nothing_left();
}
