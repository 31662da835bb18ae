//! What each signal does.

use rustix::process::Signal;

use crate::client::{Pending, get};
use crate::support::{eventually, exec_script, exec_server};

/// Ends by SIGKILL only.
const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.02; done";

#[test]
fn the_first_one_lets_requests_finish() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut handover = exec_server(&[], &[]);
        let address = handover.address();
        handover.says("epoch 0 is live");
        let slow = Pending::send(address, "/slow").unwrap();
        eventually("an answer", || get(address, "/").ok());
        handover.signal(signal);
        assert_eq!(slow.answer().unwrap().epoch, 0);
        assert_eq!(handover.code(), 0);
    }
}

#[test]
fn the_second_one_stops_without_a_drain() {
    let flags = [
        "--live-after",
        "10ms",
        "--drain-time",
        "1h",
        "--abort-grace",
        "50ms",
    ];
    let mut handover = exec_script(&flags, STUBBORN);
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    handover.says("received SIGTERM: draining");
    handover.signal(Signal::TERM);
    handover.says("received SIGTERM: stopping without a drain");
    assert_eq!(handover.code(), 75);
}

#[test]
fn the_third_one_kills() {
    let flags = [
        "--live-after",
        "10ms",
        "--drain-time",
        "1h",
        "--abort-grace",
        "1h",
    ];
    let mut handover = exec_script(&flags, STUBBORN);
    handover.says("epoch 0 is live");
    for what in ["draining", "stopping", "killing"] {
        handover.signal(Signal::INT);
        handover.says(what);
    }
    assert_eq!(handover.code(), 128 + 2);
}

#[test]
fn a_drain_that_takes_too_long_is_cut() {
    let flags = [
        "--live-after",
        "10ms",
        "--drain-time",
        "50ms",
        "--abort-grace",
        "50ms",
    ];
    let mut handover = exec_script(&flags, STUBBORN);
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 75);
    handover.says("the drain is not done in time and is cut");
}

#[test]
fn an_epoch_that_is_not_live_yet_is_no_obstacle_to_the_end() {
    let flags = ["--live-after", "1h", "--abort-grace", "50ms"];
    let mut handover = exec_script(&flags, STUBBORN);
    handover.says("starting epoch 0");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn hup_leads_to_the_next_epoch_although_nothing_has_changed() {
    let handover = exec_script(&["--live-after", "10ms"], "exec sleep 100");
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    // Ended by the signal, as it was told to.
    handover.says("epoch 0 ended cleanly");
    assert_eq!(handover.stderr.count("failed"), 0);
}

#[test]
fn usr1_is_passed_on_to_every_epoch() {
    let script = "trap 'echo opened again' USR1; trap '' TERM; while :; do sleep 0.02; done";
    let flags = ["--live-after", "10ms", "--drain-time", "1h"];
    let handover = exec_script(&flags, script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    handover.signal(Signal::USR1);
    handover.stdout.wait_for("[epoch 0] opened again");
    handover.stdout.wait_for("[epoch 1] opened again");
}

#[test]
fn another_stop_signal_is_used_where_one_is_named() {
    let script = "trap 'echo finishing; exit 0' QUIT; while :; do sleep 0.02; done";
    let flags = ["--live-after", "10ms", "--stop-signal", "QUIT"];
    let mut handover = exec_script(&flags, script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    handover.stdout.wait_for("[epoch 0] finishing");
}
