//! What the driver's loop remembers between two inputs, on tokio's paused clock.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use handover_core::{Epoch, Outcome, Policy, Target, Urgency};
use handover_tokio::{Agent, ApplyError, NotLive, Proxy, RunControl, RunError, Status};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Serves until it is aborted. A drain takes a second.
struct Serves;

#[async_trait]
impl Proxy for Serves {
    type Config = ();

    async fn run(&self, target: Target<()>, _: Epoch, control: RunControl) -> Result<(), RunError> {
        if target == Target::Drain {
            sleep(Duration::from_secs(1)).await;
            return Ok(());
        }
        control.live();
        control.abort().await;
        Err(RunError::Aborted)
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, (): &()) {}
}

/// A future must not be polled once it has resolved; this one would panic.
#[tokio::test(start_paused = true)]
async fn a_shutdown_that_has_resolved_is_left_alone_while_the_agent_drains() {
    let agent = Agent::new(Arc::new(Serves), Policy::resilient()).expect("the policy is honoured");
    let handle = agent.handle();
    let running = tokio::spawn(agent.run(async { sleep(Duration::from_secs(1)).await }));
    handle.apply_and_wait(()).await.expect("it goes live");
    let outcome = running.await.expect("the agent does not panic");
    assert_eq!(outcome, Outcome::Drained);
}

/// Otherwise the panic would come with the first deadline, perhaps weeks later.
#[test]
fn an_agent_on_a_runtime_without_a_timer_panics_at_its_start() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let agent = Agent::new(Arc::new(Serves), Policy::resilient()).expect("the policy is honoured");
    let handle = agent.handle();
    // Without a deadline nothing else would need the timer.
    handle.terminate(Urgency::Drain);
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    let ended = runtime.block_on(async { tokio::spawn(agent.run(pending())).await });
    assert!(ended.is_err_and(|error| error.is_panic()));
}

/// An agent may be asked before it runs.
#[tokio::test(start_paused = true)]
async fn an_ask_waits_for_an_agent_that_does_not_run_yet_and_ends_with_one_that_is_dropped() {
    let agent = Agent::new(Arc::new(Serves), Policy::resilient()).expect("the policy is honoured");
    let handle = agent.handle();
    let early = tokio::spawn({
        let handle = handle.clone();
        async move { handle.apply_and_wait(()).await }
    });
    sleep(Duration::from_secs(1)).await;
    assert!(!early.is_finished());
    let running = tokio::spawn(agent.run(pending()));
    assert_eq!(early.await.expect("no panic"), Ok(Epoch::ZERO));
    handle.terminate(Urgency::Kill);
    running.await.expect("the agent does not panic");

    let kept = Agent::new(Arc::new(Serves), Policy::resilient()).expect("the policy is honoured");
    let handle = kept.handle();
    let asked = tokio::spawn(async move { handle.apply(()).await });
    sleep(Duration::from_secs(1)).await;
    drop(kept);
    assert_eq!(asked.await.expect("no panic"), Err(ApplyError::Ended));
}

/// What a configuration makes [`Fails`] do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Config {
    /// Serves, and fails once it is told to.
    Good,
    Bad,
}

struct Fails(Notify);

#[async_trait]
impl Proxy for Fails {
    type Config = Config;

    async fn run(
        &self,
        target: Target<Config>,
        _: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        match target {
            Target::Serve(Config::Bad) => return Err(RunError::permanent("an unknown field")),
            Target::Serve(Config::Good) => control.live(),
            Target::Drain => return Ok(()),
        }
        tokio::select! {
            () = self.0.notified() => Err(RunError::transient("it has crashed")),
            _ = control.abort() => Err(RunError::Aborted),
        }
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, _: &Config) {}
}

/// The failure of the bad configuration is not the last one any more, once the epoch that still serves
/// has failed as well.
#[tokio::test(start_paused = true)]
async fn a_configuration_that_was_given_up_does_not_get_the_failure_of_another_epoch() {
    let proxy = Arc::new(Fails(Notify::new()));
    let agent = Agent::new(Arc::clone(&proxy), Policy::resilient()).expect("it is honoured");
    let handle = agent.handle();
    let running = tokio::spawn(agent.run(pending()));
    handle
        .apply_and_wait(Config::Good)
        .await
        .expect("it goes live");
    let why = async || match handle.apply_and_wait(Config::Bad).await {
        Err(NotLive::GivenUp { epoch, failure }) => {
            (epoch, failure.map(|failure| failure.message()))
        }
        other => panic!("{other:?}"),
    };
    let (epoch, message) = why().await;
    assert_eq!(epoch, Epoch::new(1));
    assert!(message.is_some_and(|message| message.contains("an unknown field")));

    proxy.0.notify_one();
    let crashed = |status: &Status| {
        let last = status.last_failure.as_ref();
        last.is_some_and(|failure| failure.epoch == Epoch::new(0))
    };
    handle
        .status()
        .wait_for(crashed)
        .await
        .expect("the agent runs");
    assert_eq!(why().await, (epoch, None));
    handle.terminate(Urgency::Drain);
    running.await.expect("the agent does not panic");
}
