//! The end of the supervisor.

use std::time::{Duration, Instant};

use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::Signal;

use crate::world::{LIMIT, World};

#[tokio::test]
async fn a_terminate_under_load_cuts_nothing_that_is_in_flight() {
    let envoy = require_any_envoy!();
    let mut world = World::start(&envoy, &[]);
    let asked = Instant::now();
    world.supervisor.signal(Signal::TERM);
    let status = world.supervisor.wait_exit(LIMIT);
    println!("ended after {:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0), "{status}");
    let report = world.load.stop().await;
    println!("{report}");
    // Connections are refused once it has gone; nothing that was accepted is cut.
    report.assert_nothing_cut();
    world.site.assert_nothing_left();
}

#[tokio::test]
async fn a_terminate_just_after_a_hand_over_ends_both_epochs_and_cuts_nothing() {
    let envoy = require_any_envoy!();
    let mut world = World::start(&envoy, &[]);
    world.hand_over("v1", 1);
    world.supervisor.signal(Signal::TERM);
    assert_eq!(world.supervisor.wait_exit(LIMIT).code(), Some(0));
    world.load.stop().await.assert_nothing_cut();
    world.site.assert_nothing_left();
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_with_75_and_tells_what_held_it() {
    let envoy = require_any_envoy!();
    let reason = tempfile::NamedTempFile::new().expect("a file");
    let file = reason.path().to_str().expect("the path is text");
    let flags = ["--termination-drain", "1s", "--termination-log", file];
    let mut world = World::start(&envoy, &flags);
    let addr = world.site.listener.addr();
    let slow = std::thread::spawn(move || {
        handover_test_support::http::get(addr, "/slow?ms=20000", Duration::from_secs(30))
    });
    handover_test_support::limit::eventually(LIMIT, "the slow request", || {
        (world.site.backend.requests_to("/slow?ms=20000") > 0).then_some(())
    });
    world.supervisor.signal(Signal::TERM);
    assert_eq!(world.supervisor.wait_exit(LIMIT).code(), Some(75));
    world.supervisor.wait_for_line("cutting", LIMIT);
    assert!(
        slow.join().expect("the client does not panic").is_err(),
        "the request was cut"
    );
    let reason = std::fs::read_to_string(reason.path()).expect("it is there");
    assert!(
        reason.contains("--termination-drain sets its time"),
        "{reason}"
    );
    world.site.assert_nothing_left();
}

#[tokio::test]
async fn a_third_signal_kills() {
    let envoy = require_any_envoy!();
    let mut world = World::start(&envoy, &["--termination-drain", "60s"]);
    let addr = world.site.listener.addr();
    let slow = std::thread::spawn(move || {
        handover_test_support::http::get(addr, "/slow?ms=20000", Duration::from_secs(30))
    });
    handover_test_support::limit::eventually(LIMIT, "the slow request", || {
        (world.site.backend.requests_to("/slow?ms=20000") > 0).then_some(())
    });
    world.supervisor.signal(Signal::TERM);
    world
        .supervisor
        .wait_for_lines("received SIGTERM", 1, LIMIT);
    world.supervisor.signal_again(Signal::TERM);
    world
        .supervisor
        .wait_for_line("stopping without a drain", LIMIT);
    world.supervisor.signal_again(Signal::INT);
    let code = world.supervisor.wait_exit(LIMIT).code();
    assert!(matches!(code, Some(75 | 130)), "{code:?}");
    drop(slow.join());
    world.site.assert_nothing_left();
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_envoys_along() {
    let envoy = require_any_envoy!();
    let mut world = World::start(&envoy, &[]);
    world.supervisor.signal(Signal::KILL);
    world.supervisor.wait_exit(LIMIT);
    handover_test_support::limit::eventually(LIMIT, "the end of every Envoy", || {
        world.supervisor.tag().processes().is_empty().then_some(())
    });
}
