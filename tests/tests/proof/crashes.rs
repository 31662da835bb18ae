//! Envoys that die.

use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{LIMIT, World};

fn kill(pid: u32) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("it is a process id");
    kill_process(pid, Signal::KILL).expect("the process runs");
}

#[tokio::test]
async fn a_killed_only_epoch_comes_back() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy, &[]);
    let first = world.only_envoy();
    kill(first);
    let second = eventually(LIMIT, "another Envoy", || {
        world
            .supervisor
            .children()
            .into_iter()
            .find(|pid| *pid != first)
    });
    world.site.admin().wait_live(0, LIMIT);
    world.served_by("v0");
    assert_eq!(world.only_envoy(), second);
    let report = world.finish().await;
    // A killed Envoy takes its connections along; what counts is that it was short.
    println!(
        "the longest time without a response: {:?}",
        report.longest_gap
    );
}

#[tokio::test]
async fn a_killed_live_epoch_comes_back_beside_the_one_that_drains() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy, &[]);
    let first = world.only_envoy();
    world.hand_over("v1", 1);
    let second = world
        .supervisor
        .children()
        .into_iter()
        .find(|pid| *pid != first);
    kill(second.expect("the new epoch runs"));
    // The same number again, or 0 where the old one has ended in the meantime.
    world.supervisor.wait_for_lines("starting epoch", 3, LIMIT);
    world.served_by("v1");
    world.finish().await;
}

#[tokio::test]
async fn with_on_exit_stop_a_killed_envoy_is_the_end_with_its_code_and_its_reason() {
    let envoy = require_any_envoy!();
    let reason = tempfile::NamedTempFile::new().expect("a file");
    let file = reason.path().to_str().expect("the path is text");
    let flags = ["--on-exit", "stop", "--termination-log", file];
    let mut world = World::start(&envoy, &flags);
    kill(world.only_envoy());
    let code = world.supervisor.wait_exit(LIMIT).code();
    assert_eq!(code, Some(128 + Signal::KILL.as_raw()));
    assert_eq!(world.supervisor.count_lines("starting epoch"), 1);
    let reason = std::fs::read_to_string(reason.path()).expect("it is there");
    assert!(reason.contains("gave up on"), "{reason}");
    world.site.assert_nothing_left();
}

#[tokio::test]
async fn with_on_exit_by_cause_a_crash_is_restarted_and_a_clean_end_is_final() {
    let envoy = require_any_envoy!();
    let mut world = World::start(&envoy, &["--on-exit", "stop,crash=restart"]);
    kill(world.only_envoy());
    world.supervisor.wait_for_lines("epoch 0 is live", 2, LIMIT);
    world.served_by("v0");
    let pid = i32::try_from(world.only_envoy())
        .ok()
        .and_then(Pid::from_raw);
    kill_process(pid.expect("it is a process id"), Signal::TERM).expect("the process runs");
    assert_eq!(world.supervisor.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(world.supervisor.count_lines("starting epoch"), 2);
    world.site.assert_nothing_left();
}

#[tokio::test]
async fn with_on_exit_stop_an_epoch_that_fails_to_start_leaves_the_serving_one_alone() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy, &["--on-exit", "stop"]);
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    let broken = handover_test_support::envoy_config::Break::PortConflict(taken);
    world.site.write_broken(broken);
    let given_up = "gave up the configuration: a retry cannot help; an older epoch serves on";
    world.supervisor.wait_for_line(given_up, LIMIT);
    assert_eq!(world.supervisor.count_lines("starting epoch 1"), 1);
    world.served_by("v0");
    world.hand_over("v1", 1);
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn with_reset_after_an_envoy_that_stayed_live_is_restarted_at_once_each_time() {
    let envoy = require_any_envoy!();
    let flags = [
        "--reset-after",
        "100ms",
        "--max-retries",
        "1",
        "--retry-interval",
        "1h",
    ];
    let world = World::start(&envoy, &flags);
    for round in 1..=3 {
        world
            .supervisor
            .wait_for_lines("epoch 0 is live", round, LIMIT);
        // Every retry is there again once it has stayed live: on a busy machine that is seen later.
        eventually(LIMIT, "the retry", || {
            (world.site.status()["retries_left"] == 1).then_some(())
        });
        if round < 3 {
            kill(world.only_envoy());
        }
    }
    world.served_by("v0");
    world.finish().await;
}

#[tokio::test]
async fn with_on_exit_stay_a_clean_end_waits_for_the_next_change() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy, &["--on-exit", "stay"]);
    let pid = i32::try_from(world.only_envoy())
        .ok()
        .and_then(Pid::from_raw);
    kill_process(pid.expect("it is a process id"), Signal::TERM).expect("the process runs");
    world
        .supervisor
        .wait_for_line("epoch 0 ended cleanly and is not restarted", LIMIT);
    world.site.write("v1");
    world.site.admin().wait_live(0, LIMIT);
    world.served_by("v1");
    world.finish().await;
}

#[tokio::test]
async fn with_on_exhausted_stop_a_rejected_configuration_ends_what_serves() {
    let envoy = require_any_envoy!();
    let mut world = World::start(&envoy, &["--on-exhausted", "stop"]);
    world
        .site
        .write_broken(handover_test_support::envoy_config::Break::UnknownField);
    assert_eq!(world.supervisor.wait_exit(LIMIT).code(), Some(65));
    world.site.assert_nothing_left();
}
