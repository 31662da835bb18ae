//! The driver on tokio's paused clock: every time in the snapshots is exact.

#![expect(clippy::panic, reason = "a proxy that panics is one of the cases")]

mod fake;
mod observe;
mod renew;
mod reports;
mod restart;
mod retire;
mod unfit;
mod withdraw;
mod words;

use std::future::pending;
use std::time::Duration;

use handover_core::retry::Retry;
use handover_core::{Epoch, Event, Exit, Outcome, Policy, Urgency};
use handover_tokio::{Applied, ApplyError, NotLive, error_chain};
use tokio::time::sleep;

use crate::fake::{Config, start};

const GOOD: Config = Config::Good("a");
const BETTER: Config = Config::Good("b");

fn two_retries() -> Policy {
    Policy {
        retry: Retry {
            max_retries: 2,
            ..Retry::default()
        },
        ..Policy::resilient()
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_waits_for_live_and_a_terminate_drains() {
    let world = start(Policy::resilient());
    assert_eq!(world.handle.apply(GOOD).await, Ok(Applied::Changed));
    assert_eq!(world.handle.apply(GOOD).await, Ok(Applied::Unchanged));
    let epoch = world
        .handle
        .apply_and_wait(BETTER)
        .await
        .expect("it goes live");
    assert_eq!(epoch, Epoch::new(1));
    insta::assert_snapshot!(
        "a_hand_over_waits_for_live_and_a_terminate_drains",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_bad_configuration_is_given_up_beside_a_good_one() {
    let world = start(two_retries());
    world
        .handle
        .apply_and_wait(GOOD)
        .await
        .expect("it goes live");
    let error = world
        .handle
        .apply_and_wait(Config::Bad)
        .await
        .expect_err("it is bad");
    insta::assert_snapshot!(error_chain(&error), @"the configuration was given up after epoch 1: the port is taken");
    assert!(world.handle.status().borrow().degraded);
    world
        .handle
        .apply_and_wait(BETTER)
        .await
        .expect("the agent holds and goes on");
    insta::assert_snapshot!(
        "a_bad_configuration_is_given_up_beside_a_good_one",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_panicking_run_is_a_failed_exit() {
    let world = start(Policy {
        on_exhausted: handover_core::OnExhausted::Stop,
        ..two_retries()
    });
    let error = world
        .handle
        .apply_and_wait(Config::Panics)
        .await
        .expect_err("it panics");
    insta::assert_snapshot!(error_chain(&error), @"the configuration was given up after epoch 0: the proxy's run panicked: out of cheese");
    insta::assert_snapshot!("a_panicking_run_is_a_failed_exit", world.outcome().await);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_configuration_is_not_tried_again() {
    let world = start(Policy::resilient());
    world
        .handle
        .apply_and_wait(GOOD)
        .await
        .expect("it goes live");
    let error = world
        .handle
        .apply_and_wait(Config::Rejected)
        .await
        .expect_err("it is rejected");
    insta::assert_snapshot!(error_chain(&error), @"the configuration was given up after epoch 1: an unknown field");
    insta::assert_snapshot!(
        "a_rejected_configuration_is_not_tried_again",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_does_not_end_the_agent() {
    let world = start(Policy::default());
    world
        .handle
        .apply_and_wait(Config::Clumsy)
        .await
        .expect("it goes live");
    insta::assert_snapshot!(
        "a_callback_that_panics_does_not_end_the_agent",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn live_in_the_moment_of_the_end_is_not_lost() {
    let world = start(Policy {
        on_clean_exit: handover_core::OnCleanExit::Stop,
        ..two_retries()
    });
    let mut events = world.handle.events();
    world
        .handle
        .apply(Config::Flash)
        .await
        .expect("it is taken in");
    // The events end when nobody can send any more.
    drop(world.handle);
    assert_eq!(
        world.running.await.expect("no panic"),
        Outcome::ProxyEnded { epoch: Epoch::ZERO }
    );
    let mut seen = Vec::new();
    while let Ok(event) = events.recv().await {
        seen.push(event);
    }
    let live = seen
        .iter()
        .position(|event| matches!(event, Event::Live { .. }));
    let exited = seen.iter().position(|event| {
        matches!(
            event,
            Event::Exited {
                exit: Exit::Clean,
                ..
            }
        )
    });
    assert!(live.is_some() && live < exited, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_graceful_abort_turns_immediate_after_the_grace() {
    let world = start(Policy::resilient());
    world
        .handle
        .apply_and_wait(Config::Stubborn)
        .await
        .expect("it goes live");
    insta::assert_snapshot!(
        "a_graceful_abort_turns_immediate_after_the_grace",
        world.finish().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_skips_the_drain_and_a_kill_does_not_wait() {
    let world = start(Policy {
        drain_deadline: None,
        ..Policy::default()
    });
    world
        .handle
        .apply_and_wait(Config::Stubborn)
        .await
        .expect("it goes live");
    world.handle.terminate(Urgency::Drain);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.handle.apply(GOOD).await, Err(ApplyError::Terminating));
    world.handle.terminate(Urgency::Stop);
    sleep(Duration::from_millis(100)).await;
    // What is less urgent changes nothing.
    world.handle.terminate(Urgency::Drain);
    world.handle.terminate(Urgency::Kill);
    insta::assert_snapshot!(
        "a_stop_skips_the_drain_and_a_kill_does_not_wait",
        world.outcome().await
    );
}

#[tokio::test(start_paused = true)]
async fn a_kill_is_immediate() {
    let world = start(Policy::default());
    world
        .handle
        .apply_and_wait(GOOD)
        .await
        .expect("it goes live");
    world.handle.terminate(Urgency::Kill);
    insta::assert_snapshot!("a_kill_is_immediate", world.outcome().await);
}

#[tokio::test(start_paused = true)]
async fn the_one_who_waits_is_told_that_another_configuration_replaced_his() {
    let world = start(Policy::default());
    let waiting = tokio::spawn({
        let handle = world.handle.clone();
        async move { handle.apply_and_wait(GOOD).await }
    });
    tokio::task::yield_now().await;
    world.handle.apply(BETTER).await.expect("it is taken in");
    let error = waiting
        .await
        .expect("no panic")
        .expect_err("it is replaced");
    assert!(matches!(error, NotLive::Replaced), "{error}");
    // The same configuration does not replace itself: both are told when it is live.
    let (one, two) = tokio::join!(
        world.handle.apply_and_wait(BETTER),
        world.handle.apply_and_wait(BETTER)
    );
    assert_eq!(
        (one.ok(), two.ok()),
        (Some(Epoch::new(1)), Some(Epoch::new(1)))
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_handles_goes_on() {
    let world = start(Policy::default());
    world
        .handle
        .apply_and_wait(GOOD)
        .await
        .expect("it goes live");
    let mut status = world.handle.status();
    drop(world.handle);
    sleep(Duration::from_secs(3600)).await;
    assert!(!world.running.is_finished());
    assert_eq!(status.borrow_and_update().epochs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_an_agent_that_has_ended_says_so() {
    let world = start(Policy::default());
    let handle = world.handle.clone();
    world.finish().await;
    assert_eq!(handle.apply(GOOD).await, Err(ApplyError::Ended));
    assert!(matches!(
        handle.apply_and_wait(GOOD).await,
        Err(NotLive::Ended)
    ));
    handle.terminate(Urgency::Drain);
    handle.terminate(Urgency::Kill);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_agent_drops_its_epochs() {
    let world = start(Policy::default());
    world
        .handle
        .apply_and_wait(GOOD)
        .await
        .expect("it goes live");
    world.running.abort();
    assert!(
        world
            .running
            .await
            .expect_err("it was aborted")
            .is_cancelled()
    );
    assert!(
        world.log.text().ends_with("epoch 0 dropped\n"),
        "{}",
        world.log.text()
    );
}

#[tokio::test(start_paused = true)]
async fn a_released_epoch_does_not_hold_a_change_and_others_cannot_be_released() {
    let world = start(Policy::resilient());
    let apply = async |name| world.handle.apply_and_wait(Config::Good(name)).await;
    apply("a").await.expect("it goes live");
    // The live one is no draining one.
    world.handle.release(Epoch::ZERO);
    apply("b").await.expect("it goes live");
    let (applied, followed) = world
        .handle
        .apply_and_follow(Config::Good("c"))
        .await
        .expect("it is taken in");
    assert_eq!(applied, Applied::Changed);
    sleep(Duration::from_secs(60)).await;
    let held = world.handle.status().borrow().held;
    assert_eq!(held, Some(handover_core::Held::Cap { running: 2 }));
    world.handle.release(Epoch::ZERO);
    assert_eq!(followed.live().await.ok(), Some(Epoch::new(2)));
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_future_terminates() {
    let agent = handover_tokio::Agent::new(std::sync::Arc::new(Idle), Policy::default());
    let agent = agent.expect("the policy can be honoured");
    assert_eq!(
        agent.run(sleep(Duration::from_secs(5))).await,
        Outcome::Drained
    );
}

/// A proxy that is never asked for anything.
struct Idle;

#[async_trait::async_trait]
impl handover_tokio::Proxy for Idle {
    type Config = ();

    async fn run(
        &self,
        _: handover_core::Target<()>,
        _: Epoch,
        _: handover_tokio::RunControl,
    ) -> Result<(), handover_tokio::RunError> {
        pending().await
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, (): &()) {}
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_is_not_live_in_time_is_a_failure_with_that_reason() {
    let mut policy = Policy {
        start_deadline: Some(Duration::from_millis(30)),
        ..Policy::resilient()
    };
    policy.retry.max_retries = 0;
    let given_up = async |config| {
        let world = start(policy);
        let error = world.handle.apply_and_wait(config).await;
        error_chain(&error.expect_err("it is never live"))
    };
    insta::assert_snapshot!(given_up(Config::NeverLive).await, @"the configuration was given up after epoch 0: it was not live within 30ms");
    insta::assert_snapshot!(given_up(Config::NeverLiveAndSlow).await, @"the configuration was given up after epoch 0: it was not live within 30ms: it has not answered");
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_goes_live_just_after_its_start_deadline_serves() {
    let mut policy = Policy {
        start_deadline: Some(Duration::from_millis(30)),
        ..Policy::resilient()
    };
    policy.retry.max_retries = 0;
    let world = start(policy);
    // After 50 ms.
    let live = world.handle.apply_and_wait(GOOD).await.unwrap();
    assert_eq!(live, Epoch::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_is_ended_at_its_start_deadline_may_return_the_reason() {
    let mut policy = Policy {
        start_deadline: Some(Duration::from_millis(30)),
        ..Policy::resilient()
    };
    policy.retry.max_retries = 0;
    let world = start(policy);
    let error = world.handle.apply_and_wait(Config::Waits).await;
    let error = error.expect_err("it is never live");
    insta::assert_snapshot!(error_chain(&error), @"the configuration was given up after epoch 0: it waited for a certificate");
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_is_told_to_stop_for_another_reason_is_not_late() {
    let world = start(Policy::resilient());
    let _taken_in = world.handle.apply(Config::Waits).await;
    world.handle.terminate(Urgency::Kill);
    let log = world.outcome().await;
    assert!(log.contains("immediate abort, Err(Aborted)"), "{log}");
}
