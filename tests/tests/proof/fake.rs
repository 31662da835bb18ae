//! `handover run` over the fake Envoy: many hand-overs, and faults that a real one does not show on
//! demand.

use std::str::FromStr as _;

use handover_envoy::connections::listening_ports;
use handover_fake_envoy::{Settings, VARIABLE};
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::{Signal, fake_envoy_bin};
use rustix::process::{Pid, kill_process};

use crate::world::{LIMIT, Site, World};

/// Starts it with these settings, which may name a directory of the test as `STATE`.
fn start(fake: &str) -> (World, tempfile::TempDir) {
    let state = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .expect("a directory");
    let text = fake.replace("STATE", &state.path().display().to_string());
    let settings: Settings = text.parse().expect("settings of the fake");
    let settings = settings.to_string();
    let world = World::launch_with_times(&fake_envoy_bin(), ("1s", "2s"), |launch| {
        launch.env(VARIABLE, settings)
    });
    (world, state)
}

#[tokio::test]
async fn ten_hand_overs_of_the_fake_lose_nothing() {
    // The supervisor keeps the times of the flags itself, so they are not scaled.
    let (world, _state) = start("--fake-time-scale 0.5 --fake-flag-time-scale 1");
    for epoch in 1..=10 {
        world.hand_over(&format!("v{epoch}"), epoch);
    }
    let report = world.finish().await;
    report.assert_no_loss();
    assert!(report.ok_from("v10") > 0);
}

/// The crash leaves the flag set, which nobody but the supervisor clears.
#[tokio::test]
async fn a_new_epoch_that_crashes_at_any_step_is_tried_again_and_nothing_is_lost() {
    for step in ["bound", "flag_set", "config", "admin", "listeners"] {
        let fault = format!("--fake-fault crash@{step}:epoch=1,once --fake-state STATE");
        let (world, _state) = start(&fault);
        world.site.write("v1");
        world.supervisor.wait_for_line("epoch 1 failed", LIMIT);
        world.site.admin().wait_live(1, LIMIT);
        world.served_by("v1");
        world.hand_over("v2", 2);
        println!("=== {step}");
        world.finish().await.assert_no_loss();
    }
}

/// Its main thread is busy when the newer one goes live, and until it comes to its listeners it takes clients in. With
/// nobody connected at a moment it counted as drained, and the next change ended it with what it had just taken in.
#[test]
fn an_old_epoch_is_not_ended_by_the_next_change_while_it_still_listens() {
    let busy = Settings::from_str("--fake-fault slow=6s@drain:epoch=0").expect("settings");
    let site = Site::new();
    site.write("v0");
    let launch = site.launch_with_times(&fake_envoy_bin(), "10s", "20s");
    let mut supervisor = launch.env(VARIABLE, busy.to_string()).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let old = supervisor.children();
    let [old] = old[..] else {
        panic!("one Envoy was expected, and there are {old:?}")
    };
    site.write("v1");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    let port = site.listener.number();
    let listens = || listening_ports(old).is_ok_and(|ports| ports.contains(&port));
    assert!(listens(), "it is busy");
    site.write("v2");
    supervisor.wait_for_line("epoch 0 has no connection left and still listens", LIMIT);
    supervisor.wait_for_line("initializing epoch 2 ", LIMIT);
    assert!(!listens());
    site.admin().wait_live(2, LIMIT);
    supervisor.signal(Signal::TERM);
    let status = supervisor.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(0), "{status}");
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_killed_fake_comes_back_and_hands_over_again() {
    let (world, _state) = start("");
    let pid = i32::try_from(world.only_envoy())
        .ok()
        .and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), Signal::KILL).expect("the process runs");
    world.supervisor.wait_for_lines("epoch 0 is live", 2, LIMIT);
    world.served_by("v0");
    world.hand_over("v1", 1);
    world.finish().await;
}

/// It has set the flag and taken nothing yet, so that the old one must not notice.
#[tokio::test]
async fn a_stuck_new_epoch_that_is_killed_is_tried_again_while_the_old_one_serves() {
    let (world, _state) = start("--fake-fault stuck@config:epoch=1,once --fake-state STATE");
    world.site.write("v1");
    world
        .supervisor
        .wait_for_line("initializing epoch 1 ", LIMIT);
    world.served_by("v0");
    // The supervisor waits for a deadline of minutes; the operator does not.
    let stuck = world.supervisor.children();
    let newest = stuck.into_iter().max().expect("two processes");
    let pid = i32::try_from(newest).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), Signal::KILL).expect("the process runs");
    world.site.admin().wait_live(1, LIMIT);
    world.served_by("v1");
    world.finish().await.assert_no_loss();
}

/// While an epoch starts, it has the endpoint of the one before. A drain must not be taken for its state.
#[tokio::test]
async fn a_drain_while_an_epoch_starts_holds_it_up_for_nothing_and_is_kept() {
    let (world, _state) = start("--fake-fault slow=2s@listeners:epoch=1 --fake-state STATE");
    world.site.write("v1");
    let admin = world.site.admin();
    eventually(LIMIT, "epoch 1 answers", || {
        admin.server_info().filter(|info| info.restart_epoch == 1)
    });
    let told = "the next epoch to go live drains: its health checks fail";
    world.site.ask(&["drain"]).is(0, told);
    world.supervisor.wait_for_line("epoch 1 is live", LIMIT);
    assert_eq!(world.site.status()["drained"], true);
    world.site.ask(&["undrain"]).is(0, "epoch 1 does not drain");
    world.served_by("v1");
    world.finish().await.assert_no_loss();
}
