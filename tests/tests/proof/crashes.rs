//! Envoys that die.

use handover_tests::limit::eventually;
use handover_tests::require_envoy;
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
    let envoy = require_envoy!();
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
    let envoy = require_envoy!();
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
