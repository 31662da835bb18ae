//! What a proxy of one's own is asked at its control socket.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use handover_supervisor::Operate;
use handover_supervisor::agent::core::{Epoch, Outcome, Target, Urgency};
use handover_supervisor::agent::{Proxy, RunControl, RunError};
use handover_supervisor::control::wire::{
    self, Code, DrainRequest, Drained, ReloadRequest, ReloadResult, Reloaded, State, Stopped,
};
use handover_supervisor::operator::{Notification, Refusal};
use handover_test_support::limit::within;
use tokio::time::sleep;

use crate::support::{LIMIT, Place, Plain, Running, ask, status_when};

#[tokio::test]
async fn a_change_of_the_file_and_a_stop_are_followed_and_a_service_manager_is_told() {
    let place = Place::with("one");
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = Arc::clone(&told);
    let supervisor = place
        .supervisor(Plain::default())
        .notify(move |notification| {
            if !matches!(notification, Notification::Status(_)) {
                teller.lock().unwrap().push(notification);
            }
        });
    let running = Running::start(supervisor);
    let status = status_when(&place, "epoch 0", |status| status.current_is_desired).await;
    assert_eq!((status.ready, status.state), (true, State::Live));
    assert_eq!(status.desired.source, "file");
    place.write("two");
    let second = |status: &wire::Status| {
        let is_second =
            |epoch: &wire::Epoch| epoch.epoch == 1 && epoch.state == wire::EpochState::Live;
        status.epochs.iter().any(is_second)
    };
    let status = status_when(&place, "epoch 1", second).await;
    assert_eq!(
        (status.counters.started, status.counters.hand_overs),
        (2, 1)
    );
    let request = wire::StopRequest {
        wait: true,
        ..wire::StopRequest::default()
    };
    let stopped: Stopped = ask(&place, wire::STOP, &request).await.unwrap();
    assert_eq!((stopped.state, stopped.exit_code), (State::Ended, Some(0)));
    let ended = running.ended().await;
    assert_eq!(ended.ending.agent, Ok(Outcome::Drained));
    assert_eq!((ended.exit_code(), ended.problem()), (0, None));
    assert!(!place.socket().exists());
    let expected = [
        Notification::Ready,
        Notification::Reloading,
        Notification::Ready,
        Notification::Stopping,
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_reload_is_answered_with_its_epoch_or_with_the_reason() {
    let place = Place::with("one");
    let running = Running::start(place.supervisor(Plain::default()));
    let request = ReloadRequest {
        wait: true,
        ..ReloadRequest::default()
    };
    let reload = async || ask::<Reloaded>(&place, wire::RELOAD, &request).await;
    status_when(&place, "epoch 0", |status| status.ready).await;
    let reloaded = reload().await.unwrap();
    assert_eq!(
        (reloaded.result, reloaded.epoch),
        (ReloadResult::Live, Some(1))
    );
    assert!(!reloaded.changed);
    place.write("wrong");
    let (code, message) = reload().await.unwrap_err();
    assert_eq!(code, Code::Rejected);
    assert_eq!(
        message,
        "the running configuration serves on: line 1 is wrong"
    );
    place.write("rejected");
    let (code, message) = reload().await.unwrap_err();
    assert_eq!(code, Code::Rejected);
    assert!(message.ends_with("no such field"), "{message}");
    running.handle.terminate(Urgency::Drain);
    running.ended().await;
}

#[tokio::test]
async fn what_a_proxy_of_ones_own_cannot_do_is_said() {
    let place = Place::with("one");
    let running = Running::start(place.supervisor(Plain::default()));
    status_when(&place, "epoch 0", |status| status.ready).await;
    let request = DrainRequest::default();
    let (code, message) = ask::<Drained>(&place, wire::DRAIN, &request)
        .await
        .unwrap_err();
    assert_eq!(code, Code::NotSupported);
    assert!(message.contains("no health checks"), "{message}");
    running.handle.terminate(Urgency::Stop);
    let ended = running.ended().await;
    assert_eq!(ended.ending.agent, Ok(Outcome::DrainSkipped));
    assert_eq!(ended.exit_code(), 75);
}

#[tokio::test]
async fn a_stop_during_the_first_read_ends_before_anything_runs() {
    let place = Place::with("never");
    let running = Running::start(place.supervisor(Plain::default()));
    let status = status_when(&place, "an answer", |_| true).await;
    assert_eq!((status.state, status.ready), (State::Starting, false));
    assert_eq!(status.desired.source, "file");
    let stopped: Stopped = ask(&place, wire::STOP, &wire::StopRequest::default())
        .await
        .unwrap();
    assert_eq!(stopped.state, State::Draining);
    let ended = running.ended().await;
    assert_eq!((ended.exit_code(), ended.last_failure), (0, None));
}

#[tokio::test]
async fn a_first_read_that_fails_ends_everything_with_its_reason() {
    let place = Place::with("wrong");
    let ended = Running::start(place.supervisor(Plain::default()))
        .ended()
        .await;
    assert_eq!(ended.problem().unwrap(), "line 1 is wrong");
    assert_eq!(ended.exit_code(), 65);
}

#[tokio::test]
async fn a_first_configuration_that_is_given_up_ends_everything_with_its_reason() {
    let place = Place::with("rejected");
    let ended = Running::start(place.supervisor(Plain::default()))
        .ended()
        .await;
    let problem = ended.problem().unwrap();
    assert!(problem.starts_with("gave up on file, as "), "{problem}");
    assert!(problem.ends_with("no such field"), "{problem}");
    assert_eq!(ended.exit_code(), 65);
    assert_eq!(ended.last_failure.unwrap().epoch, Epoch::ZERO);
}

/// It can drain, and its one client never goes.
struct Kept {
    /// How many waits for that client are under way.
    waits: Arc<AtomicUsize>,
}

struct Wait<'a>(&'a AtomicUsize);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Proxy for Kept {
    type Config = String;

    async fn run(
        &self,
        target: Target<String>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        Plain::default().run(target, epoch, control).await
    }

    fn cleanup(&self, _epoch: Epoch) {}

    fn panic(&self, _config: &String) {}
}

#[async_trait]
impl Operate for Kept {
    async fn drain_on_request(&self) -> Result<Option<Epoch>, Refusal> {
        Ok(None)
    }

    async fn held_by(&self) -> Vec<String> {
        vec!["1 connection to port 80".to_owned()]
    }

    async fn unknown_clients(&self) -> Vec<String> {
        Vec::new()
    }

    async fn without_clients(&self) {
        self.waits.fetch_add(1, Ordering::SeqCst);
        let _wait = Wait(&self.waits);
        pending::<()>().await;
    }
}

#[tokio::test]
async fn a_wait_for_clients_ends_with_its_time_or_with_the_one_who_asked() {
    let place = Place::with("one");
    let waits = Arc::new(AtomicUsize::new(0));
    let proxy = Kept {
        waits: Arc::clone(&waits),
    };
    let running = Running::start(place.supervisor(proxy));
    status_when(&place, "epoch 0", |status| status.ready).await;
    let are = async |number| {
        while waits.load(Ordering::SeqCst) != number {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let request = |timeout_ms| DrainRequest {
        wait: true,
        timeout_ms,
    };
    let (code, message) = ask::<Drained>(&place, wire::DRAIN, &request(Some(50)))
        .await
        .unwrap_err();
    assert_eq!(code, Code::TimedOut);
    assert_eq!(message, "clients are still connected after 50ms");
    within(LIMIT, "the end of the wait", are(0)).await;
    let endless = request(None);
    tokio::select! {
        answer = ask::<Drained>(&place, wire::DRAIN, &endless) => unreachable!("{answer:?}"),
        () = within(LIMIT, "the wait", are(1)) => {}
    }
    // The one who asked is gone.
    within(LIMIT, "the end of the wait", are(0)).await;
    running.handle.terminate(Urgency::Drain);
    running.ended().await;
}
