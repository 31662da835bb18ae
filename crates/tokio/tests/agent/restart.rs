//! Cold restarts.

use handover_core::{Epoch, Policy, Urgency};
use handover_tokio::{Applied, ApplyError, NotLive, error_chain};
use tokio::task::yield_now;

use crate::fake::{Config, start};
use crate::{BETTER, GOOD};

#[tokio::test(start_paused = true)]
async fn a_cold_restart_ends_everything_and_begins_again_at_epoch_0() {
    let world = start(Policy::resilient());
    let handle = &world.handle;
    handle.apply_and_wait(GOOD).await.expect("it goes live");
    let epoch = handle.apply_and_wait(BETTER).await.expect("it goes live");
    assert_eq!(epoch, Epoch::new(1));
    let epoch = handle.restart_and_wait(BETTER).await.expect("it goes live");
    assert_eq!(epoch, Epoch::ZERO);
    assert_eq!(handle.status().borrow().epochs.len(), 1);
    insta::assert_snapshot!(
        "a_cold_restart_ends_everything_and_begins_again_at_epoch_0",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_cold_restart_waits_out_the_grace_of_what_it_ends() {
    let world = start(Policy::resilient());
    let handle = &world.handle;
    handle
        .apply_and_wait(Config::Stubborn)
        .await
        .expect("it goes live");
    handle.restart_and_wait(GOOD).await.expect("it goes live");
    insta::assert_snapshot!(
        "a_cold_restart_waits_out_the_grace_of_what_it_ends",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_cold_restart_with_a_bad_configuration_brings_back_what_had_served() {
    let world = start(Policy::resilient());
    let handle = &world.handle;
    handle.apply_and_wait(GOOD).await.expect("it goes live");
    let error = handle
        .restart_and_wait(Config::Rejected)
        .await
        .expect_err("it is rejected");
    insta::assert_snapshot!(error_chain(&error), @"the configuration was given up after epoch 0: an unknown field");
    assert!(handle.status().borrow().degraded);
    let mut status = handle.status();
    let serves = |status: &handover_tokio::Status| {
        let state = status.epochs.first().map(|epoch| epoch.state);
        state == Some(handover_core::EpochState::Live)
    };
    status.wait_for(serves).await.expect("the agent runs");
    insta::assert_snapshot!(
        "a_cold_restart_with_a_bad_configuration_brings_back_what_had_served",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_configuration_that_is_restarted_goes_on_waiting_for_it() {
    let world = start(Policy::default());
    let waiting = tokio::spawn({
        let handle = world.handle.clone();
        async move { handle.apply_and_wait(GOOD).await }
    });
    yield_now().await;
    assert_eq!(world.handle.restart(GOOD).await, Ok(Applied::Changed));
    let epoch = waiting.await.expect("no panic").expect("it goes live");
    assert_eq!(epoch, Epoch::ZERO);
    assert_eq!(world.log.text().matches("runs").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_cold_restart_again_is_the_one_that_is_under_way() {
    let world = start(Policy::default());
    let handle = &world.handle;
    handle
        .apply_and_wait(Config::Stubborn)
        .await
        .expect("it goes live");
    assert_eq!(handle.restart(GOOD).await, Ok(Applied::Changed));
    let first = tokio::spawn({
        let handle = handle.clone();
        async move { handle.restart_and_wait(GOOD).await }
    });
    yield_now().await;
    assert_eq!(handle.restart(GOOD).await, Ok(Applied::Unchanged));
    let second = handle.restart_and_wait(GOOD).await.expect("it goes live");
    let first = first.await.expect("no panic").expect("it goes live");
    assert_eq!((first, second), (Epoch::ZERO, Epoch::ZERO));
    assert_eq!(world.log.text().matches("Good").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_change_replaces_what_a_cold_restart_was_to_start() {
    let world = start(Policy::default());
    let handle = &world.handle;
    handle
        .apply_and_wait(Config::Stubborn)
        .await
        .expect("it goes live");
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.restart_and_wait(GOOD).await }
    });
    yield_now().await;
    let epoch = handle.apply_and_wait(BETTER).await.expect("it goes live");
    assert_eq!(epoch, Epoch::ZERO);
    let error = waiting
        .await
        .expect("no panic")
        .expect_err("it is replaced");
    assert!(matches!(error, NotLive::Replaced), "{error}");
    assert!(!world.log.text().contains("\"a\""), "{}", world.log.text());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_terminates_or_has_ended_takes_no_cold_restart() {
    let world = start(Policy::default());
    let handle = world.handle.clone();
    handle.apply_and_wait(GOOD).await.expect("it goes live");
    handle.terminate(Urgency::Drain);
    assert_eq!(handle.restart(GOOD).await, Err(ApplyError::Terminating));
    let error = handle.restart_and_wait(GOOD).await.expect_err("it ends");
    assert!(matches!(
        error,
        NotLive::NotApplied(ApplyError::Terminating)
    ));
    world.outcome().await;
    assert_eq!(handle.restart(GOOD).await, Err(ApplyError::Ended));
    let error = handle
        .restart_and_wait(GOOD)
        .await
        .expect_err("it has ended");
    assert!(matches!(error, NotLive::Ended));
}
