//! Epochs that hand over to each other lose nothing, whoever is real.

use std::path::Path;

use handover_test_support::require_envoy;
use handover_test_support::supervisor::{Signal, Supervisor};

use crate::world::{FAKE, LIMIT, World};

/// Lets the epochs of these programs follow each other under load.
fn succeed(programs: &[&Path], fake: &str) {
    let world = World::new();
    let mut load = None;
    let mut ended = Vec::new();
    let mut running: Option<Supervisor> = None;
    for (epoch, program) in (0..).zip(programs) {
        let started = world.launch(program, epoch, fake).start();
        world.endpoint().wait_live(epoch.into(), LIMIT);
        let load = load.get_or_insert_with(|| world.load());
        load.mark(format!("epoch {epoch}"));
        if let Some(mut parent) = running.replace(started) {
            // Its child ends it at the parent-shutdown time.
            assert_eq!(parent.wait_exit(LIMIT).code(), Some(0), "{epoch}");
            parent.wait_for_line("shutting down due to child request", LIMIT);
            // Dropping it would end all processes of this world.
            ended.push(parent);
        }
        assert!(!world.flag(), "epoch {epoch} leaves the flag set");
    }
    let report = load.expect("a load").stop_blocking();
    report.assert_no_loss();
    let newest = format!("v{}", programs.len() - 1);
    assert!(report.ok_from(&newest) > 0, "{report}");
    let mut last = running.expect("an epoch");
    last.signal(Signal::TERM);
    assert_eq!(last.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn ten_hand_overs_lose_no_request() {
    succeed(&[Path::new(FAKE); 11], "--fake-time-scale 0.2");
}

#[test]
fn a_fake_epoch_takes_over_from_a_real_one_and_a_real_one_from_a_fake_one() {
    let real = require_envoy!();
    let fake = Path::new(FAKE);
    succeed(&[&real, fake, fake, &real, &real, fake], "");
}

#[test]
fn the_next_epoch_but_one_ends_the_first_at_once() {
    let world = World::new();
    let mut epochs = [world.live(0, ""), world.live(1, ""), world.start(2, "")];
    // Long before the parent-shutdown time of epoch 1, which is 2 s.
    let [first, ..] = &mut epochs;
    first.wait_for_line("shutting down due to child request", LIMIT);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    world.endpoint().wait_live(2, LIMIT);
    let [_, second, third] = &mut epochs;
    assert!(second.is_running());
    third.signal(Signal::TERM);
    // Its own end ends its parent.
    assert_eq!(third.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(second.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn a_child_counts_its_parent_until_that_ends() {
    let world = World::new();
    let mut first = world.live(0, "--fake-time-scale 0.5");
    let address = world.clients().to_string().replace(':', "_");
    let total = format!("listener.{address}.downstream_cx_total");
    for _ in 0..5 {
        assert_eq!(world.served().as_deref(), Some("v0"));
    }
    assert_eq!(world.endpoint().stat(&total), Some(5));
    let held = std::net::TcpStream::connect(world.clients()).unwrap();
    let active = format!("listener.{address}.downstream_cx_active");
    handover_test_support::limit::eventually(LIMIT, "the connection", || {
        (world.endpoint().stat(&active) == Some(1)).then_some(())
    });
    let mut second = world.live(1, "--fake-time-scale 0.5");
    let stat = |name: &str| world.endpoint().stat(name);
    assert_eq!(stat(&total), Some(6), "the counter of both");
    assert_eq!(stat(&active), Some(1), "the connection of the parent");
    assert_eq!(stat("server.parent_connections"), Some(1));
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    handover_test_support::limit::eventually(LIMIT, "the parent to be forgotten", || {
        (stat(&active) == Some(0)).then_some(())
    });
    assert_eq!(stat(&total), Some(6));
    drop(held);
    second.signal(Signal::TERM);
    assert_eq!(second.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}
