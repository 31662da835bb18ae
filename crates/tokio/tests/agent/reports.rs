//! What an epoch reports of itself while it runs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use handover_core::{Epoch, EpochState, Held, Policy, Standing, Target, Urgency};
use handover_tokio::{Agent, Handle, Proxy, RunControl, RunError, Status};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Serves until it is aborted. Epoch 0 makes its report when it is told to.
struct Reports {
    report: fn(&RunControl),
    now: Notify,
}

#[async_trait]
impl Proxy for Reports {
    type Config = u32;

    async fn run(
        &self,
        target: Target<u32>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        if target == Target::Drain {
            return Ok(());
        }
        control.live();
        if epoch == Epoch::ZERO {
            tokio::select! {
                () = self.now.notified() => (self.report)(&control),
                _ = control.abort() => return Err(RunError::Aborted),
            }
        }
        control.abort().await;
        Err(RunError::Aborted)
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, _: &u32) {}
}

fn start(report: fn(&RunControl)) -> (Arc<Reports>, Handle<u32>) {
    let now = Notify::new();
    let proxy = Arc::new(Reports { report, now });
    let agent = Agent::new(Arc::clone(&proxy), Policy::resilient()).expect("it can be honoured");
    let handle = agent.handle();
    tokio::spawn(agent.run(std::future::pending()));
    (proxy, handle)
}

/// Waits until the agent is in such a state, an hour of its clock at most.
async fn until(handle: &Handle<u32>, is_so: impl FnMut(&Status) -> bool) -> Vec<EpochState> {
    let mut status = handle.status();
    let seen = timeout(Duration::from_secs(3_600), status.wait_for(is_so)).await;
    let status = seen.expect("it comes to that").expect("the agent runs");
    status.epochs.iter().map(|info| info.state).collect()
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_has_stopped_serving_drains_and_its_configuration_starts_again() {
    let (proxy, handle) = start(RunControl::stopped_serving);
    handle.apply_and_wait(1).await.expect("it goes live");
    proxy.now.notify_one();
    let next = Standing::Live(Epoch::new(1));
    let states = until(&handle, |status| status.standing == next).await;
    assert_eq!(states, [EpochState::Draining, EpochState::Live]);
    handle.terminate(Urgency::Kill);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_has_no_clients_left_does_not_hold_a_change() {
    let (proxy, handle) = start(RunControl::released);
    for config in [1, 2] {
        handle.apply_and_wait(config).await.expect("it goes live");
    }
    handle.apply(3).await.expect("it is taken in");
    let held = |status: &Status| matches!(status.held, Some(Held::Cap { .. }));
    until(&handle, held).await;
    proxy.now.notify_one();
    let next = Standing::Live(Epoch::new(2));
    let states = until(&handle, |status| status.standing == next).await;
    let draining = EpochState::Draining;
    assert_eq!(states, [draining, draining, EpochState::Live]);
    handle.terminate(Urgency::Kill);
}
