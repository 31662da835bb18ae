//! What only the control plane names: the time-out of these sources is Envoy's own, and then the epoch is held.

use std::path::Path;
use std::thread;

use handover_test_support::control_plane::{Kind, Manner, Transport};
use handover_test_support::require_envoy;

use super::{BEYOND, Case, GIVEN_UP, Setup, side_by_side};
use crate::world::LIMIT;

/// A source inside of what is fetched: only the control plane names it, so its time-out is Envoy's own.
fn inside_of_what_is_fetched(envoy: &Path, setup: Setup) {
    let case = Case::start(envoy, setup);

    let before = case.counted();
    case.behave(Manner::Slow(GIVEN_UP / 2));
    case.change("v1");
    case.wait_live(1);
    case.behave(Manner::Answers);
    case.served_by("v1");
    let lost = case.row(
        before,
        "slow (0.5 s), given up after 1 s",
        "live once it has answered",
    );
    assert_eq!(lost, 0, "{}", case.title);

    let before = case.counted();
    case.behave(Manner::Silent);
    case.change("v2");
    let held = "epoch 2 does not take over without";
    let held = case.supervisor.wait_for_line(held, LIMIT);
    println!("=== {}: {}", case.title, held.text);
    thread::sleep(BEYOND);
    case.served_by("v1");
    assert!(!case.is_live(2), "{}", case.title);
    case.behave(Manner::Answers);
    case.wait_live(2);
    case.served_by("v2");
    let happened = "given up by Envoy, held, then live";
    let lost = case.row(before, "silent, given up after 1 s, then back", happened);
    assert_eq!(lost, 0, "{}", case.title);
    case.end();
}

#[test]
fn what_only_the_control_plane_names_is_waited_for_after_envoy_has_given_it_up() {
    let envoy = require_envoy!();
    let cases = [
        Setup::new(Transport::Grpc, &[Kind::Listener, Kind::Routes]),
        Setup::new(Transport::Rest, &[Kind::Listener, Kind::Secret]),
        Setup::new(Transport::Grpc, &[Kind::Cluster, Kind::Endpoints]),
    ];
    side_by_side(cases, |setup| inside_of_what_is_fetched(&envoy, setup));
}
