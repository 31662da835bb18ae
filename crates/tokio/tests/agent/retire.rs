//! An epoch is told that a newer one serves in its place.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use handover_core::{Epoch, EpochState, Outcome, Policy, Target, Urgency};
use handover_tokio::{Agent, Proxy, RunControl, RunError};
use tokio::time::{sleep, timeout};

/// It serves until a newer epoch does, as the proxy on the crate's page.
#[derive(Default)]
struct Hello {
    /// Who gave way to whom.
    gone: Mutex<Vec<(u32, u32)>>,
}

#[async_trait]
impl Proxy for Hello {
    type Config = u32;

    async fn run(
        &self,
        target: Target<u32>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        let Target::Serve(_) = target else {
            return Ok(());
        };
        assert_eq!(control.retired_by(), None);
        // A future that is dropped has lost nothing.
        let _none = timeout(Duration::from_millis(10), control.retired()).await;
        control.live();
        tokio::select! {
            by = control.retired() => {
                sleep(Duration::from_secs(1)).await;
                // It stays told, and the first newer one is the one that it gave way to.
                assert_eq!(control.retired().await, by);
                assert_eq!(control.clone().retired_by(), Some(by));
                let mut gone = self.gone.lock().expect("nobody panics");
                gone.push((epoch.number(), by.number()));
                Ok(())
            }
            _ = control.abort() => Err(RunError::Aborted),
        }
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, _: &u32) {}
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_ends_when_it_is_retired_makes_room_for_every_change() {
    let proxy = Arc::new(Hello::default());
    let agent = Agent::new(Arc::clone(&proxy), Policy::resilient()).expect("it can be honoured");
    let handle = agent.handle();
    let running = tokio::spawn(agent.run(std::future::pending()));
    for config in 0..6 {
        let live = timeout(Duration::from_secs(60), handle.apply_and_wait(config));
        let epoch = live.await.expect("in time").expect("it goes live");
        assert_eq!(epoch, Epoch::new(config));
    }
    let states: Vec<_> = {
        let status = handle.status();
        let status = status.borrow();
        status.epochs.iter().map(|info| info.state).collect()
    };
    assert_eq!(states, [EpochState::Draining, EpochState::Live]);
    handle.terminate(Urgency::Drain);
    assert_eq!(running.await.expect("no panic"), Outcome::Drained);
    let gone = proxy.gone.lock().expect("nobody panics").clone();
    // The last two end with the drain, the older of them in its own time.
    assert_eq!(gone.get(..4), Some(&[(0, 1), (1, 2), (2, 3), (3, 4)][..]));
}
