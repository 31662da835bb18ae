//! An Envoy that hangs after it has been live.

use std::time::{Duration, Instant};

use handover_core::Event;
use handover_envoy::{HungAction, Watchdog};
use handover_test_support::require_any_envoy;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::world::{Setup, World};

const HUNG_AFTER: Duration = Duration::from_secs(2);

fn watched(action: HungAction) -> Setup {
    let watchdog = Watchdog {
        hung_after: HUNG_AFTER,
        action,
    };
    Setup {
        settings: Box::new(move |builder| builder.watchdog(watchdog)),
        ..Setup::brisk()
    }
}

fn has_failed(events: &[Event]) -> bool {
    events
        .iter()
        .any(|event| matches!(event, Event::RetryScheduled { .. }))
}

/// Its admin endpoint changes hands in each hand-over, and it stands still for a while in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_stop_and_hand_overs_are_survived() {
    let envoy = require_any_envoy!();
    let mut world = World::with(&envoy, watched(HungAction::Restart)).await;
    for number in 1..3 {
        world.hand_over(&format!("v{number}"), number).await;
        let newest = world.process(number);
        newest.send(Signal::STOP);
        sleep(HUNG_AFTER / 2).await;
        newest.send(Signal::CONT);
        sleep(HUNG_AFTER / 2).await;
        assert!(newest.is_running());
    }
    let events = world.events();
    assert!(!has_failed(&events), "{events:?}");
    world.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_hangs_is_restarted_where_that_is_wanted() {
    let envoy = require_any_envoy!();
    let mut world = World::with(&envoy, watched(HungAction::Restart)).await;
    let hung = world.process(0);
    world.events();
    hung.send(Signal::STOP);
    let stopped = Instant::now();
    world
        .until("the end of what hangs", |_| !hung.is_running())
        .await;
    let noticed = stopped.elapsed();
    world.next_success().await;
    println!(
        "=== hung Envoy: ended after {noticed:?}, served again after {:?} (hung after {HUNG_AFTER:?})",
        stopped.elapsed()
    );
    // Frozen for less than that it must not be ended; from an answer just before the stop on, the
    // time is a quarter longer at most.
    assert!(noticed >= HUNG_AFTER, "{noticed:?}");
    assert!(noticed < 3 * HUNG_AFTER, "{noticed:?}");
    world
        .until("epoch 0 to be live", |world| world.is_live(0))
        .await;
    assert!(has_failed(&world.events()));
    let failure = world.handle.status().borrow().last_failure.clone();
    let message = failure.expect("it has failed").message();
    assert!(message.contains("Envoy hung: no answer"), "{message}");
    world.served_by("v0").await;
    world.hand_over("v1", 1).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_hangs_is_left_alone_where_it_is_only_reported() {
    let envoy = require_any_envoy!();
    let mut world = World::with(&envoy, watched(HungAction::Report)).await;
    let hung = world.process(0);
    world.events();
    hung.send(Signal::STOP);
    sleep(HUNG_AFTER * 2).await;
    assert!(hung.is_running());
    hung.send(Signal::CONT);
    world.served_by("v0").await;
    assert!(!has_failed(&world.events()));
    world.hand_over("v1", 1).await;
    world.finish().await.assert_no_loss();
}
