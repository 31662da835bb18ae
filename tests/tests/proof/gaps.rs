//! A supervisor that was stopped for a while looks at what has happened before it concludes anything
//! from the time that has passed.

use std::thread::sleep;
use std::time::Duration;

use handover_test_support::control_plane::{ControlPlane, Kind, Manner};
use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::Signal;

use crate::world::{LIMIT, Site, World};

#[tokio::test]
async fn a_start_deadline_that_passed_in_a_stop_kills_no_epoch_that_went_live() {
    let envoy = require_any_envoy!();
    // Otherwise the epoch would wait for the supervisor.
    let flags = ["--start-deadline=6s", "--wait-for-resources=no"];
    let world = World::start(&envoy, &flags);
    let control_plane = ControlPlane::silent();
    let config = world.site.config("v1").control_plane(control_plane.addr());
    config.write_to(&world.site.file());
    eventually(LIMIT, "the question for resources", || {
        control_plane.was_asked(Kind::Listener).then_some(())
    });
    world.supervisor.signal(Signal::STOP);
    control_plane.behave(Kind::Listener, Manner::Answers);
    world.site.admin().wait_live(1, LIMIT);
    // The deadline passes while the supervisor is stopped, and that for long.
    sleep(Duration::from_secs(8));
    world.supervisor.signal(Signal::CONT);
    world.supervisor.wait_for_line("epoch 1 is live", LIMIT);
    world.served_by("v1");
    assert_eq!(world.supervisor.count_lines("not live in time"), 0);
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_drain_that_was_done_while_the_supervisor_was_stopped_is_not_cut() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let flags = ["--termination-drain", "4s"];
    let mut supervisor = site.launch(&envoy).args(flags).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let addr = site.listener.addr();
    let client = std::thread::spawn(move || http::get(addr, "/slow?ms=2500", LIMIT));
    eventually(LIMIT, "the slow request", || {
        (site.backend.requests_to("/slow") > 0).then_some(())
    });
    supervisor.signal(Signal::TERM);
    supervisor.wait_for_line("the drain waits for", LIMIT);
    supervisor.signal(Signal::STOP);
    let answer = client.join().expect("the client does not panic");
    assert_eq!(answer.expect("it was not cut").status, 200);
    // The time for the drain passes while the supervisor is stopped.
    sleep(Duration::from_secs(4));
    supervisor.signal(Signal::CONT);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(supervisor.count_lines("cutting"), 0);
    site.assert_nothing_left();
}

#[tokio::test]
async fn an_old_epoch_that_ended_while_the_supervisor_was_stopped_is_not_told_to_have_overstayed() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy, &[]);
    world.hand_over("v1", 1);
    world.supervisor.wait_for_line("epoch 1 is live", LIMIT);
    world.supervisor.signal(Signal::STOP);
    // The parent-shutdown time of three seconds passes, and the time it may run beyond it.
    sleep(Duration::from_secs(10));
    world.supervisor.signal(Signal::CONT);
    world
        .supervisor
        .wait_for_line("epoch 0 ended cleanly", LIMIT);
    assert_eq!(world.supervisor.count_lines("not ended at its"), 0);
    world.finish().await.assert_no_loss();
}
