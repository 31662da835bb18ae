//! Renewals: the next epoch with an equal configuration.

use handover_core::{Epoch, Policy, Urgency};
use handover_tokio::{Applied, ApplyError, NotLive};
use tokio::task::yield_now;

use crate::fake::start;
use crate::{BETTER, GOOD};

#[tokio::test(start_paused = true)]
async fn a_renewal_starts_the_next_epoch_with_an_equal_configuration() {
    let world = start(Policy::resilient());
    let handle = &world.handle;
    handle.apply_and_wait(GOOD).await.expect("it goes live");
    assert_eq!(handle.apply(GOOD).await, Ok(Applied::Unchanged));
    let epoch = handle.renew_and_wait(GOOD).await.expect("it goes live");
    assert_eq!(epoch, Epoch::new(1));
    assert_eq!(handle.apply(GOOD).await, Ok(Applied::Unchanged));
    insta::assert_snapshot!(
        "a_renewal_starts_the_next_epoch_with_an_equal_configuration",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiter_for_a_configuration_stays_registered_across_its_renewal() {
    let world = start(Policy::default());
    let waiting = tokio::spawn({
        let handle = world.handle.clone();
        async move { handle.apply_and_wait(GOOD).await }
    });
    yield_now().await;
    let (applied, renewed) = world
        .handle
        .renew_and_follow(GOOD)
        .await
        .expect("it is taken in");
    assert_eq!(applied, Applied::Changed);
    let epoch = waiting.await.expect("no panic").expect("it goes live");
    assert_eq!(Some(epoch), renewed.live().await.ok());
    assert_eq!(epoch, Epoch::new(1));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_with_another_configuration_replaces_the_one_that_is_waited_for() {
    let world = start(Policy::default());
    let waiting = tokio::spawn({
        let handle = world.handle.clone();
        async move { handle.apply_and_wait(GOOD).await }
    });
    yield_now().await;
    assert_eq!(world.handle.renew(BETTER).await, Ok(Applied::Changed));
    let error = waiting
        .await
        .expect("no panic")
        .expect_err("it is replaced");
    assert!(matches!(error, NotLive::Replaced), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_terminates_or_has_ended_takes_no_renewal() {
    let world = start(Policy::default());
    let handle = world.handle.clone();
    handle.apply_and_wait(GOOD).await.expect("it goes live");
    handle.terminate(Urgency::Drain);
    yield_now().await;
    assert_eq!(handle.renew(GOOD).await, Err(ApplyError::Terminating));
    world.outcome().await;
    assert_eq!(handle.renew(GOOD).await, Err(ApplyError::Ended));
    let error = handle.renew_and_wait(GOOD).await.expect_err("it has ended");
    assert!(matches!(error, NotLive::Ended), "{error}");
}
