//! An epoch is found unfit while it is on probation.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use handover_core::{Epoch, Policy, Standing, Target, Urgency};
use handover_tokio::{Agent, Handle, NotLive, Proxy, RunControl, RunError, Status};
use tokio::time::{sleep, timeout};

const PROBATION: Duration = Duration::from_secs(10);

/// Serves until a newer epoch does, and keeps which epochs have proven themselves.
#[derive(Default)]
struct Hello {
    proven: Mutex<Vec<u32>>,
}

impl Hello {
    fn note_proven(&self, epoch: Epoch) {
        let mut proven = self.proven.lock().expect("nobody panics");
        proven.push(epoch.number());
    }

    fn proven(&self) -> Vec<u32> {
        self.proven.lock().expect("nobody panics").clone()
    }
}

#[async_trait]
impl Proxy for Hello {
    type Config = &'static str;

    async fn run(
        &self,
        target: Target<&'static str>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        let Target::Serve(_) = target else {
            return Ok(());
        };
        // A future that is dropped has lost nothing.
        let _none = timeout(Duration::from_millis(10), control.proven()).await;
        control.live();
        let proven = async {
            control.proven().await;
            self.note_proven(epoch);
            std::future::pending::<()>().await;
        };
        let mut proven = pin!(proven);
        tokio::select! {
            () = &mut proven => Ok(()),
            _ = control.retired() => Ok(()),
            _ = control.abort() => Err(RunError::Aborted),
        }
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, _: &&'static str) {}
}

fn start(probation: Option<Duration>) -> (Arc<Hello>, Handle<&'static str>) {
    let proxy = Arc::new(Hello::default());
    let policy = Policy {
        probation,
        ..Policy::resilient()
    };
    let agent = Agent::new(Arc::clone(&proxy), policy).expect("it can be honoured");
    let handle = agent.handle();
    tokio::spawn(agent.run(std::future::pending()));
    (proxy, handle)
}

/// Waits until the agent is in such a state, an hour of its clock at most.
async fn until(handle: &Handle<&'static str>, is_so: impl Fn(&Status) -> bool + Copy) -> Status {
    let mut status = handle.status();
    let seen = timeout(Duration::from_secs(3_600), status.wait_for(is_so)).await;
    seen.expect("it comes to that").expect("it runs").clone()
}

fn serves_again(status: &Status) -> bool {
    let newest = status.epochs.last();
    status.degraded
        && newest.is_some_and(|it| it.epoch == Epoch::new(2) && status.epochs.len() == 1)
}

#[tokio::test(start_paused = true)]
async fn an_unfit_epoch_is_replaced_by_the_proven_one_and_the_evidence_is_kept() {
    let (proxy, handle) = start(Some(PROBATION));
    handle.apply_and_wait("good").await.expect("it goes live");
    sleep(PROBATION * 2).await;
    assert_eq!(proxy.proven(), [0]);
    let bad = handle.apply_and_wait("bad").await;
    assert_eq!(bad, Ok(Epoch::new(1)));
    let status = until(&handle, |it| it.epochs.len() == 1).await;
    assert!(status.epochs.iter().all(|it| it.on_probation && !it.unfit));

    handle.unfit(Epoch::new(1), "2 of 3 listeners are missing");
    let status = until(&handle, serves_again).await;
    assert_eq!(status.standing, Standing::GivenUp(Epoch::new(1)));
    let failure = status.last_failure.expect("the evidence is kept");
    let message = "it was found unfit: 2 of 3 listeners are missing";
    assert_eq!(
        (failure.epoch, &*failure.message()),
        (Epoch::new(1), message)
    );
    sleep(PROBATION * 2).await;
    assert_eq!(
        proxy.proven(),
        [0, 2],
        "the unfit one has never proven itself"
    );

    handle
        .apply_and_wait("good")
        .await
        .expect("it serves already");
    let again = handle.apply_and_wait("bad").await;
    let Err(NotLive::GivenUp { epoch, failure }) = again else {
        panic!("it is remembered as unfit: {again:?}");
    };
    assert_eq!(epoch, Epoch::new(1));
    assert_eq!(
        failure.map(|failure| failure.message()).as_deref(),
        Some(message)
    );
    assert_eq!(handle.renew_and_wait("bad").await, Ok(Epoch::new(3)));
    handle.terminate(Urgency::Kill);
}

#[tokio::test(start_paused = true)]
async fn without_a_probation_an_epoch_is_proven_when_it_is_live_and_never_unfit() {
    let (proxy, handle) = start(None);
    for config in ["one", "another"] {
        handle.apply_and_wait(config).await.expect("it goes live");
    }
    until(&handle, |it| it.epochs.len() == 1).await;
    handle.unfit(Epoch::new(1), "it is said to be");
    sleep(PROBATION).await;
    let status = handle.status().borrow().clone();
    assert_eq!(status.standing, Standing::Live(Epoch::new(1)));
    assert_eq!(
        status.last_failure, None,
        "evidence that does not count is not kept"
    );
    assert_eq!(proxy.proven(), [0, 1]);
    handle.terminate(Urgency::Kill);
}

#[tokio::test(start_paused = true)]
async fn evidence_about_an_agent_that_has_ended_is_dropped() {
    let (_proxy, handle) = start(Some(PROBATION));
    handle.apply_and_wait("good").await.expect("it goes live");
    handle.terminate(Urgency::Kill);
    let mut status = handle.status();
    while status.changed().await.is_ok() {}
    handle.unfit(Epoch::ZERO, "it is too late");
    assert_eq!(status.borrow().last_failure, None);
}
