//! Changes in quick succession: none fails, none is lost, the last one serves.

use std::time::Duration;

use handover_core::{Event, Held};
use handover_test_support::require_any_envoy;
use tokio::time::sleep;

use crate::world::{Setup, World, is_soak, rounds};

/// How many epochs were started, and asserts that none failed.
fn starts(events: &[Event]) -> usize {
    let failed = events.iter().find(|event| {
        matches!(
            event,
            Event::RetryScheduled { .. } | Event::GaveUp { .. } | Event::StartTimedOut { .. }
        )
    });
    assert_eq!(failed, None);
    let started = events
        .iter()
        .filter(|event| matches!(event, Event::Started { .. }));
    started.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_changes_in_a_tenth_of_a_second_cost_few_epochs_and_no_request() {
    let envoy = require_any_envoy!();
    let mut world = World::with(&envoy, Setup::brisk()).await;
    for round in 0..rounds(1, 20) {
        world.events();
        for change in 1..30 {
            let config = world.config(&format!("v{round}-{change}"), None);
            world.handle.apply(config).await.expect("it is taken in");
            sleep(Duration::from_millis(2)).await;
        }
        let last = format!("v{round}-30");
        world.apply(&last, None).await.expect("it goes live");
        world.served_by(&last).await;
        let events = world.events();
        let starts = starts(&events);
        println!("=== 30 changes: {starts} epochs");
        // The first, and the last once the first is live; a slow burst may fit one more in between.
        assert!((1..=4).contains(&starts), "{starts} epochs");
        let held =
            |event: &Event| matches!(event, Event::Held(Held::Starting(_) | Held::Cap { .. }));
        assert!(events.iter().any(held), "{events:?}");
    }
    world.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_changes_shortly_after_each_other_lose_nothing() {
    let envoy = require_any_envoy!();
    let mut world = World::with(&envoy, Setup::brisk()).await;
    for round in 0..rounds(4, 50) {
        world.events();
        let distance = Duration::from_millis(20 + u64::from(round) * 13 % 41);
        for change in ["a", "b"] {
            let config = world.config(&format!("v{round}-{change}"), None);
            world.handle.apply(config).await.expect("it is taken in");
            sleep(distance).await;
        }
        let last = format!("v{round}-c");
        world.apply(&last, None).await.expect("it goes live");
        world.served_by(&last).await;
        let starts = starts(&world.events());
        assert!((1..=3).contains(&starts), "{starts} epochs");
    }
    world.finish().await.assert_no_loss();
}

/// Wherever in the start of an epoch the next change comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_at_any_moment_after_a_spawn_loses_nothing() {
    let envoy = require_any_envoy!();
    let mut world = World::with(&envoy, Setup::brisk()).await;
    let step = if is_soak() { 1 } else { 30 };
    let mut epoch = 0;
    for ms in (0..=120).step_by(step) {
        world.events();
        let config = world.config(&format!("v{ms}-a"), None);
        let spawned = world.hunt(epoch + 1, |_| ());
        world.handle.apply(config).await.expect("it is taken in");
        spawned.await.expect("it is spawned");
        sleep(world.scaled(Duration::from_millis(ms))).await;
        let last = format!("v{ms}-b");
        world.apply(&last, None).await.expect("it goes live");
        world.served_by(&last).await;
        starts(&world.events());
        // Until the number starts from the beginning again, the next one is known.
        epoch = world.newest();
    }
    world.finish().await.assert_no_loss();
}
