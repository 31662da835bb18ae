//! Options that switch off what is done by itself.

use std::fs;
use std::net::TcpListener;

use handover_test_support::control_plane::{ControlPlane, Kind};
use handover_test_support::envoy_config::{Break, replace_file};
use handover_test_support::require_any_envoy;
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{LIMIT, World};

/// Where the flags are in Envoy's shared memory.
const FLAGS: std::ops::Range<usize> = 96..104;

fn flags(world: &World) -> u64 {
    let memory = fs::read(world.site.shared_memory()).expect("Envoy has made it");
    let bytes = memory.get(FLAGS).and_then(|bytes| bytes.first_chunk());
    u64::from_ne_bytes(*bytes.expect("it has its usual length"))
}

#[tokio::test]
async fn with_no_repair_the_flag_stays_the_running_epoch_is_held_and_the_remedy_named() {
    let envoy = require_any_envoy!();
    let retries = [
        "--no-repair",
        "--max-retries",
        "2",
        "--retry-interval",
        "50ms",
    ];
    let world = World::start(&envoy, &retries);
    let serving = world.only_envoy();
    assert_eq!(flags(&world), 0);
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    // It fails in the middle of its start, and its retry is refused.
    world.site.write_broken(Break::PortConflict(taken));
    let held = "holding epoch 0: only a cold restart can go on";
    let told = world.supervisor.wait_for_line(held, LIMIT);
    assert!(
        told.text.contains("clearing it is switched off"),
        "{told:?}"
    );
    assert_eq!(flags(&world), 1);
    // A good one is refused as well, without an Envoy being started for it.
    world.site.write("v1");
    world
        .supervisor
        .wait_for_line("envoy.yaml has changed", LIMIT);
    world.supervisor.wait_for_line_after(&told, held, LIMIT);
    assert_eq!(flags(&world), 1);
    world.served_by("v0");
    // Another one may be there that validates.
    assert!(world.supervisor.children().contains(&serving));
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn with_on_hung_report_an_envoy_that_hangs_is_told_and_left_alone() {
    let envoy = require_any_envoy!();
    let watched = ["--hung-after", "1s", "--on-hung", "report"];
    let world = World::start(&envoy, &watched);
    let serving = world.only_envoy();
    let pid = i32::try_from(serving).ok().and_then(Pid::from_raw);
    let pid = pid.expect("it is a process");
    kill_process(pid, Signal::STOP).expect("it runs");
    let hangs = world.supervisor.wait_for_line("epoch 0 hangs", LIMIT);
    assert_eq!(world.only_envoy(), serving);
    kill_process(pid, Signal::CONT).expect("it is left alone");
    let again = "epoch 0 answers again";
    world.supervisor.wait_for_line_after(&hangs, again, LIMIT);
    world.served_by("v0");
    assert_eq!(world.only_envoy(), serving);
    // The next one is watched as well.
    world.hand_over("v1", 1);
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn without_waiting_for_resources_the_configuration_itself_decides() {
    let envoy = require_any_envoy!();
    let control_plane = ControlPlane::silent();
    let world = World::start(&envoy, &["--wait-for-resources", "no"]);
    let config = world.site.config("v1").control_plane(control_plane.addr());
    let waits = "initial_fetch_timeout: 0s";
    let text = config.render();
    assert!(text.contains(waits), "{text}");
    let text = text.replace(waits, "initial_fetch_timeout: 0.5s");
    replace_file(&world.site.file(), text.as_bytes());
    // It has asked, and goes on without an answer.
    world.supervisor.wait_for_line("epoch 1 is live", LIMIT);
    assert!(control_plane.was_asked(Kind::Listener));
    world.served_by("v1");
    world.finish().await.assert_no_loss();
}
