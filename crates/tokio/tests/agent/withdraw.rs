//! A terminate that meets a start, and deadlines that pass while the process is stopped.

use std::time::Duration;

use handover_core::{Epoch, Policy, Urgency};
use tokio::time::{advance, sleep};

use crate::fake::{Config, World, start};
use crate::{BETTER, GOOD};

async fn starting_beside_a_live_one(config: Config) -> World {
    let world = start(Policy {
        drain_deadline: Some(Duration::from_secs(50)),
        ..Policy::resilient()
    });
    world
        .handle
        .apply_and_wait(GOOD)
        .await
        .expect("it goes live");
    world.handle.apply(config).await.expect("it is taken in");
    sleep(Duration::from_millis(10)).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_terminate_drops_a_start_and_drains_what_serves_at_once() {
    let world = starting_beside_a_live_one(Config::NeverLive).await;
    insta::assert_snapshot!(
        "a_terminate_drops_a_start_and_drains_what_serves_at_once",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_will_not_go_live_does_not_hold_the_drain_back() {
    let world = starting_beside_a_live_one(Config::NeverLiveAndSlow).await;
    insta::assert_snapshot!(
        "a_start_that_will_not_go_live_does_not_hold_the_drain_back",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_no_notice_is_drained_once_it_is_live() {
    let world = starting_beside_a_live_one(Config::Good("b")).await;
    insta::assert_snapshot!(
        "a_start_that_takes_no_notice_is_drained_once_it_is_live",
        world.finish().await
    );
}

/// Asks for another configuration while the start does not come to an end.
async fn gives_way(config: Config) -> String {
    let world = starting_beside_a_live_one(config).await;
    let epoch = world.handle.apply_and_wait(BETTER).await;
    assert_eq!(epoch.expect("it goes live"), Epoch::new(1));
    world.finish().await
}

#[tokio::test(start_paused = true)]
async fn a_start_that_has_taken_nothing_over_gives_way_to_a_newer_configuration() {
    insta::assert_snapshot!(
        "a_start_that_has_taken_nothing_over_gives_way_to_a_newer_configuration",
        gives_way(Config::NeverLive).await
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_with_requests_gives_way_and_finishes_them() {
    insta::assert_snapshot!(
        "a_start_with_requests_gives_way_and_finishes_them",
        gives_way(Config::NeverLiveAndSlow).await
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_gives_way_does_so_no_more_when_everything_ends() {
    let world = starting_beside_a_live_one(Config::NeverLiveAndSlow).await;
    world.handle.apply(BETTER).await.expect("it is taken in");
    sleep(Duration::from_secs(3)).await;
    assert!(world.log.text().contains("it gives way"));
    insta::assert_snapshot!(
        "a_start_that_gives_way_does_so_no_more_when_everything_ends",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_a_start_ends_no_epoch_that_went_live_in_it() {
    let world = start(Policy {
        start_deadline: Some(Duration::from_secs(3)),
        ..Policy::resilient()
    });
    let waiting = tokio::spawn({
        let handle = world.handle.clone();
        async move { handle.apply_and_wait(GOOD).await }
    });
    sleep(Duration::from_millis(1)).await;
    // The process is stopped for a minute: both the deadline and the start are over then.
    advance(Duration::from_secs(60)).await;
    let epoch = waiting.await.expect("no panic").expect("it goes live");
    assert_eq!(epoch, Epoch::ZERO);
    let log = world.finish().await;
    assert_eq!(log.matches("runs, Serve").count(), 1, "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_was_done_in_a_gap_is_not_cut() {
    let world = start(Policy::resilient());
    world
        .handle
        .apply_and_wait(GOOD)
        .await
        .expect("it goes live");
    world.handle.terminate(Urgency::Drain);
    sleep(Duration::from_millis(1)).await;
    advance(Duration::from_secs(60)).await;
    let log = world.outcome().await;
    assert!(log.ends_with("drained\n"), "{log}");
}
