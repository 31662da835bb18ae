//! The shortest time between two starts that changes lead to.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::control::Place;
use crate::support::replace;

#[test]
fn a_burst_of_changes_is_started_once_and_once_more_when_the_interval_is_over() {
    let place = Place::new();
    let flags = ["--min-interval", "6s", "--probation=0"];
    let (handover, config) = place.server("web", &flags);
    let begun = Instant::now();
    replace(&config, "two");
    handover.says("epoch 1 is live");
    replace(&config, "three");
    handover.says("held: the shortest time between two changes is not over");
    replace(&config, "four");
    place
        .ask(&["reload", "--wait", "--timeout", "1m"])
        .is(0, "epoch 2 is live");
    assert!(begun.elapsed() >= Duration::from_secs(6));
    assert_eq!(handover.stderr.count("starting epoch"), 3);
}

#[test]
fn neither_a_restart_nor_a_stop_waits_for_the_interval() {
    let place = Place::new();
    let flags = ["--min-interval", "1h", "--probation=0"];
    let (mut handover, config) = place.server("web", &flags);
    replace(&config, "two");
    handover.says("epoch 1 is live");
    replace(&config, "three");
    handover.says("held: the shortest time between two changes is not over");
    let status = place.status();
    let held = status["held"].as_str().unwrap();
    assert!(held.starts_with("held until 2"), "{held}");
    // It waits as well, and tells until when.
    let asked = place.ask(&["reload", "--wait", "--timeout", "1s"]);
    asked.is(75, "not live within 1s: held until 2");
    let epochs = status["epochs"].as_array().unwrap();
    let live = epochs.iter().find(|epoch| epoch["state"] == "live");
    let pid = live.and_then(|epoch| epoch["pid"].as_i64()).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    // What was held serves in its place.
    handover.stderr.wait_for_nth(3, "is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}
