//! Each kind of resource that the configuration names a source for, over REST and over the aggregated stream of
//! gRPC: slow, away, silent, wrong, and back again.

use std::path::Path;
use std::thread;
use std::time::Instant;

use handover_test_support::control_plane::fetching::Mistake;
use handover_test_support::control_plane::{Kind, Manner, Transport};
use handover_test_support::require_envoy;
use handover_test_support::supervisor::Signal;

use super::{BEYOND, Case, GIVEN_UP, SLOW, Setup, side_by_side};
use crate::world::LIMIT;

/// All that can happen to a source which the configuration itself names.
fn every_failure(envoy: &Path, setup: Setup) {
    let case = Case::start(envoy, setup);

    let before = case.counted();
    case.behave(Manner::Slow(SLOW));
    let asked = Instant::now();
    case.supervisor.signal(Signal::HUP);
    case.wait_live(1);
    let took = asked.elapsed();
    assert!(took >= SLOW, "{}: {took:?}", case.title);
    case.behave(Manner::Answers);
    case.served_by("v0");
    let lost = case.row(
        before,
        "slow (2 s), renewal",
        &format!("live after {took:.1?}"),
    );
    assert_eq!(lost, 0, "{}", case.title);

    let before = case.counted();
    case.plane.go_away();
    case.change("v1");
    case.supervisor.wait_for_line("starting epoch 2", LIMIT);
    thread::sleep(BEYOND);
    case.served_by("v0");
    assert!(!case.is_live(2), "{}", case.title);
    case.plane.come_back();
    let back = Instant::now();
    case.wait_live(2);
    let took = back.elapsed();
    case.served_by("v1");
    let lost = case.row(
        before,
        "away, then back",
        &format!("live {took:.1?} after it is back"),
    );
    assert_eq!(lost, 0, "{}", case.title);

    let before = case.counted();
    case.behave(Manner::Silent);
    case.change("v2");
    let failed = case.supervisor.wait_for_line("epoch 3 failed", LIMIT);
    println!("=== {}: {}", case.title, failed.text);
    case.supervisor
        .wait_for_line_after(&failed, "starting epoch 3", LIMIT);
    case.served_by("v1");
    case.behave(Manner::Answers);
    case.wait_live(3);
    case.served_by("v2");
    let lost = case.row(
        before,
        "silent beyond the start deadline, then back",
        "ended, retried, live",
    );
    assert_eq!(lost, 0, "{}", case.title);

    let wrong = match case.setup.transport {
        Transport::Grpc => [("wrong", Manner::Refused), ("empty", Manner::Empty)],
        Transport::Rest => [("wrong", Manner::Refused), ("garbage", Manner::Garbage)],
    };
    for ((what, manner), epoch) in wrong.into_iter().zip(4..) {
        if manner != Manner::Empty {
            is_held(&case, what, manner, epoch);
        } else if case.setup.asks_by_name() {
            is_waited_for(&case, what, manner, epoch);
        } else {
            is_held_if_empty(&case, epoch);
            is_not_waited_for(&case, what, manner, epoch + 1);
        }
    }
    if case.setup.transport == Transport::Grpc {
        assert_ne!(case.seen().refused.len(), 0, "{}", case.title);
    } else if !case.setup.asks_by_name() {
        is_held_if_empty(&case, 6);
    }
    case.end();
}

/// Envoy takes a wrong answer for one. The new epoch is kept from taking over without the resource.
fn is_held(case: &Case, what: &str, manner: Manner, epoch: u32) {
    let new = format!("v{epoch}");
    let before = case.counted();
    case.behave(manner);
    case.change(&new);
    is_kept_from_taking_over(case, epoch);
    case.behave(Manner::Answers);
    case.wait_live(epoch);
    case.served_by(&new);
    let lost = case.row(before, &format!("{what}, then back"), "held, then live");
    assert_eq!(lost, 0, "{}", case.title);
}

/// The same for a list that is empty for the new epoch alone.
fn is_held_if_empty(case: &Case, epoch: u32) {
    let new = format!("v{epoch}");
    let before = case.counted();
    case.change_wrongly(&new, Mistake::Empty);
    is_kept_from_taking_over(case, epoch);
    case.change(&new);
    case.wait_live(epoch);
    case.served_by(&new);
    let what = "empty for the new epoch, then back";
    let lost = case.row(before, what, "held, then live");
    assert_eq!(lost, 0, "{}", case.title);
}

fn is_kept_from_taking_over(case: &Case, epoch: u32) {
    let held = format!("epoch {epoch} does not take over without");
    let held = case.supervisor.wait_for_line(&held, LIMIT);
    println!("=== {}: {}", case.title, held.text);
    thread::sleep(BEYOND);
    // The name of the epoch before is that of its number, but for the one that was tried again.
    case.served_by(&format!("v{}", if epoch == 4 { 2 } else { epoch - 1 }));
    assert!(!case.is_live(epoch), "{}", case.title);
}

/// An answer that lacks what was asked for by name is no answer.
fn is_waited_for(case: &Case, what: &str, manner: Manner, epoch: u32) {
    let (old, new) = (format!("v{}", epoch - 1), format!("v{epoch}"));
    let before = case.counted();
    case.behave(manner);
    case.change(&new);
    let starts = format!("starting epoch {epoch}");
    case.supervisor.wait_for_line(&starts, LIMIT);
    thread::sleep(BEYOND);
    case.served_by(&old);
    assert!(!case.is_live(epoch), "{}", case.title);
    case.behave(Manner::Answers);
    case.served_by(&new);
    let lost = case.row(before, &format!("{what}, then back"), "waits, then live");
    assert_eq!(lost, 0, "{}", case.title);
}

/// Nothing shows that the new epoch lacks something: the older one drops its listeners or clusters as well, where
/// the list is empty for both.
fn is_not_waited_for(case: &Case, what: &str, manner: Manner, epoch: u32) {
    let name = format!("v{epoch}");
    let before = case.counted();
    case.behave(manner);
    case.change(&name);
    case.wait_live(epoch);
    thread::sleep(GIVEN_UP);
    case.behave(Manner::Answers);
    case.served_by(&name);
    let what = format!("{what}, then back");
    case.row(before, &what, "live without it until it is back");
}

/// The kinds for which a configuration names a source.
const NAMED: [Kind; 5] = [
    Kind::Listener,
    Kind::Cluster,
    Kind::Routes,
    Kind::Endpoints,
    Kind::Secret,
];

#[test]
fn every_failure_of_a_source_over_rest() {
    let envoy = require_envoy!();
    let cases = NAMED.map(|kind| Setup::new(Transport::Rest, &[kind]));
    side_by_side(cases, |setup| every_failure(&envoy, setup));
}

#[test]
fn every_failure_of_a_source_over_grpc() {
    let envoy = require_envoy!();
    let cases = NAMED.map(|kind| Setup::new(Transport::Grpc, &[kind]));
    side_by_side(cases, |setup| every_failure(&envoy, setup));
}
