//! The processes that run at present, one per epoch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use handover_core::Epoch;
use handover_process::{Child, Signal};
use tokio::sync::watch;

use super::Revision;

/// Why an epoch is told to finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// A newer one serves.
    Superseded,
    /// Everything ends.
    Terminated,
}

/// The running processes.
#[derive(Debug, Default)]
pub(super) struct Running {
    entries: Mutex<BTreeMap<Epoch, Entry>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct Entry {
    child: Arc<Child>,
    revision: Revision,
    finish: watch::Sender<Option<Finish>>,
}

impl Running {
    /// Notes a process until the registration is dropped.
    pub(super) fn enter(
        &self,
        epoch: Epoch,
        child: &Arc<Child>,
        revision: Revision,
    ) -> Registration<'_> {
        let (finish, told) = watch::channel(None);
        let child = Arc::clone(child);
        let mut entries = self.lock();
        let entry = Entry {
            child,
            revision,
            finish,
        };
        entries.insert(epoch, entry);
        self.count.send_replace(entries.len());
        Registration {
            running: self,
            epoch,
            told,
        }
    }

    /// Tells an epoch to finish. The first reason stays: an epoch that is superseded keeps its
    /// time when everything ends.
    pub(super) fn finish(&self, epoch: Epoch, why: Finish) {
        if let Some(entry) = self.lock().get(&epoch) {
            entry.finish.send_if_modified(|told| {
                let is_first = told.is_none();
                told.get_or_insert(why);
                is_first
            });
        }
    }

    pub(super) fn finish_all(&self, why: Finish) {
        let epochs: Vec<Epoch> = self.lock().keys().copied().collect();
        for epoch in epochs {
            self.finish(epoch, why);
        }
    }

    /// Sends a signal to every process.
    pub(super) fn signal_all(&self, signal: Signal) {
        for (epoch, entry) in self.lock().iter() {
            // One that has just ended needs no signal.
            if let Err(error) = entry.child.signal(signal) {
                tracing::debug!(
                    epoch = epoch.number(),
                    "{signal} was not passed on: {error}"
                );
            }
        }
    }

    /// The processes, the oldest epoch first, and what each was started for.
    pub(super) fn children(&self) -> Vec<(Epoch, Arc<Child>, Revision)> {
        let entries = self.lock();
        let children = entries.iter();
        children
            .map(|(epoch, entry)| (*epoch, Arc::clone(&entry.child), entry.revision))
            .collect()
    }

    /// The process of the newest epoch.
    pub(super) fn newest(&self) -> Option<Arc<Child>> {
        let entries = self.lock();
        entries
            .values()
            .next_back()
            .map(|entry| Arc::clone(&entry.child))
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until no process runs.
    pub(super) async fn empty(&self) {
        let mut count = self.count.subscribe();
        // The sender lives as long as `self`, so this ends with an empty table only.
        let _count = count.wait_for(|count| *count == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Epoch, Entry>> {
        // Nothing in here is left half-way by a panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a process among the running ones.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    running: &'a Running,
    epoch: Epoch,
    told: watch::Receiver<Option<Finish>>,
}

impl Registration<'_> {
    /// Why the epoch was told to finish, if it was.
    pub(super) fn told(&self) -> Option<Finish> {
        *self.told.borrow()
    }

    /// Waits until the epoch is told to finish.
    pub(super) async fn told_to_finish(&self) -> Finish {
        let mut told = self.told.clone();
        match told
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|told| *told)
        {
            Some(why) => why,
            // The sender lives until this registration is dropped.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut entries = self.running.lock();
        entries.remove(&self.epoch);
        self.running.count.send_replace(entries.len());
    }
}
