//! An epoch that is held, because Envoy has refused what the one before has, ends as one that waits does.

use std::time::Duration;

use handover_test_support::control_plane::fetching::Mistake;
use handover_test_support::control_plane::{Kind, Manner, Transport};
use handover_test_support::limit::eventually;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::Signal;

use super::{Case, Setup, side_by_side};
use crate::world::LIMIT;

/// The reason names what is missing and the remedy. The first retry fails in the same way, although the older
/// epoch cannot be asked any more, and the second one finds the control plane back.
#[test]
fn one_that_is_held_until_its_deadline_fails_with_what_is_missing_and_is_tried_again() {
    let envoy = require_envoy!();
    let kinds = [
        (Kind::Listener, "listener web at"),
        (Kind::Cluster, "cluster backend"),
    ];
    side_by_side(kinds, |(kind, missing)| {
        let case = Case::start(&envoy, Setup::new(Transport::Rest, &[kind]));
        let before = case.counted();
        case.behave(Manner::Garbage);
        case.change("v1");
        for attempt in 1..=2 {
            let failed = (case.supervisor).wait_for_lines("epoch 1 failed", attempt, LIMIT);
            for told in [
                "not live by its start deadline",
                "would take over without what the epoch before has",
                missing,
                "--wait-for-resources no",
            ] {
                assert!(failed.text.contains(told), "{}: {}", told, failed.text);
            }
        }
        case.served_by("v0");
        case.behave(Manner::Answers);
        case.wait_live(1);
        case.served_by("v1");
        let lost = case.row(
            before,
            "garbage beyond the start deadline",
            "ended, retried, live",
        );
        assert_eq!(lost, 0, "{}", case.title);
        case.end();
    });
}

/// It has been starting for longer than `--give-way-after`.
#[test]
fn one_that_is_held_gives_way_to_a_corrected_configuration() {
    let envoy = require_envoy!();
    let case = Case::start(&envoy, Setup::new(Transport::Grpc, &[Kind::Cluster]));
    let before = case.counted();
    case.change_wrongly("v1", Mistake::Refused);
    case.supervisor
        .wait_for_line("epoch 1 does not take over without", LIMIT);
    case.change("v2");
    case.served_by("v2");
    let dropped = "epoch 1 has not taken over and is dropped";
    case.supervisor.wait_for_line(dropped, LIMIT);
    assert_eq!(case.supervisor.count_lines("retries left"), 0);
    let lost = case.row(before, "refused, then corrected", "gave way");
    assert_eq!(lost, 0, "{}", case.title);
    case.end();
}

#[test]
fn a_stop_while_one_is_held_drains_at_once_and_leaves_nothing() {
    let envoy = require_envoy!();
    let mut case = Case::start(&envoy, Setup::new(Transport::Grpc, &[Kind::Listener]));
    case.change_wrongly("v1", Mistake::Empty);
    case.supervisor
        .wait_for_line("epoch 1 does not take over without", LIMIT);
    case.served_by("v0");
    case.load.stop_blocking().assert_no_loss();
    case.supervisor.signal(Signal::TERM);
    assert_eq!(case.supervisor.wait_exit(LIMIT).code(), Some(0));
    let dropped = "epoch 1 has not taken over and is dropped";
    case.supervisor.wait_for_line(dropped, LIMIT);
    case.site.assert_nothing_left();
}

/// The epoch has what it needs, and the supervisor cannot let it take over before it runs again.
#[test]
fn a_start_deadline_that_passed_in_a_stop_kills_no_epoch_that_was_held() {
    let envoy = require_envoy!();
    let case = Case::start(&envoy, Setup::new(Transport::Grpc, &[Kind::Listener]));
    let before = case.counted();
    let asked = case.seen().asked;
    case.behave(Manner::Silent);
    case.change("v1");
    eventually(LIMIT, "the question for listeners", || {
        (case.seen().asked > asked).then_some(())
    });
    case.supervisor.signal(Signal::STOP);
    case.behave(Manner::Answers);
    // The start deadline of 15 seconds passes.
    std::thread::sleep(Duration::from_secs(17));
    case.served_by("v0");
    case.supervisor.signal(Signal::CONT);
    case.wait_live(1);
    case.served_by("v1");
    assert_eq!(case.supervisor.count_lines("not live in time"), 0);
    let lost = case.row(before, "held in a stop beyond the start deadline", "live");
    assert_eq!(lost, 0, "{}", case.title);
    case.end();
}

/// Nobody else knows whether it was meant, so it is judged once it is live, as on probation.
#[test]
fn a_list_that_was_accepted_and_lacks_something_holds_nothing() {
    let envoy = require_envoy!();
    let case = Case::start(
        &envoy,
        Setup::new(Transport::Rest, &[Kind::Listener, Kind::Secret]),
    );
    let without_tls = Setup::new(Transport::Rest, &[Kind::Listener]);
    without_tls.write(&case.site, &case.secured, &case.plane, "v1");
    case.wait_live(1);
    // What the older one has passed on to the listener that is gone is lost.
    case.served_by("v1");
    assert_eq!(case.supervisor.count_lines("does not take over"), 0);
    case.end();
}
