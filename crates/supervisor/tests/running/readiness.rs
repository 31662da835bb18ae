//! When a proxy is ready to which clients cannot connect at first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use handover_supervisor::agent::core::{Epoch, Target, Urgency};
use handover_supervisor::agent::{Proxy, RunControl, RunError};
use handover_supervisor::control::wire::{Configuration, State};
use handover_supervisor::operator::{Notification, Summary};
use handover_supervisor::{EpochFacts, Facts, Operate};
use handover_test_support::limit::within;
use tokio::time::sleep;

use crate::support::{LIMIT, Place, Plain, Running, status_when};

/// Each epoch is live at once; who listens is said from outside.
#[derive(Default)]
struct Deaf {
    plain: Plain,
    listens: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
}

#[async_trait]
impl Proxy for Deaf {
    type Config = String;

    async fn run(
        &self,
        target: Target<String>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        self.plain.run(target, epoch, control).await
    }

    fn cleanup(&self, _epoch: Epoch) {}

    fn panic(&self, _config: &String) {}
}

#[async_trait]
impl Operate for Deaf {
    async fn facts(&self) -> Facts {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let epoch = EpochFacts {
            pid: 1,
            config: Configuration {
                source: "file".to_owned(),
                hash: None,
            },
            listens: Some(self.listens.load(Ordering::SeqCst)),
            active_connections: None,
            rss_bytes: None,
        };
        Facts {
            epochs: [(Epoch::ZERO, epoch)].into(),
            ..Facts::default()
        }
    }
}

#[tokio::test]
async fn what_listens_late_is_ready_late_without_being_asked_and_is_not_looked_at_after_that() {
    let place = Place::with("one");
    let proxy = Deaf::default();
    let (listens, looks) = (Arc::clone(&proxy.listens), Arc::clone(&proxy.looks));
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = Arc::clone(&told);
    let supervisor = place.supervisor(proxy).notify(move |notification| {
        teller.lock().unwrap().push(notification);
    });
    let running = Running::start(supervisor);
    let told_of = |what| told.lock().unwrap().contains(&what);
    let deaf = status_when(&place, "live", |status| status.problem.is_some()).await;
    assert_eq!((deaf.ready, deaf.state), (false, State::Starting));
    assert!(!deaf.current_is_desired);
    let not_listening = Notification::Status(Summary::NotListening(Epoch::ZERO));
    assert!(told_of(not_listening) && !told_of(Notification::Ready));
    listens.store(true, Ordering::SeqCst);
    within(LIMIT, "ready", async {
        while !told_of(Notification::Ready) {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let before = looks.load(Ordering::SeqCst);
    // Longer than several of the pauses between looks at what does not listen.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(looks.load(Ordering::SeqCst), before);
    let fine = status_when(&place, "ready", |_| true).await;
    assert_eq!(
        (fine.ready, fine.state, fine.problem),
        (true, State::Live, None)
    );
    assert_eq!(looks.load(Ordering::SeqCst), before + 1);
    running.handle.terminate(Urgency::Drain);
    running.ended().await;
}
