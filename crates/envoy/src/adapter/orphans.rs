//! Live epochs whose parent has died before its time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use handover_core::Epoch;
use tokio::task::JoinHandle;

use super::Envoy;
use crate::hot_restart::StandIn;

/// Who stands in for which dead epoch at present.
#[derive(Debug, Default)]
pub(super) struct StandIns(Mutex<BTreeMap<Epoch, Task>>);

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl StandIns {
    /// Gives the place free that this epoch will take: two share it when their numbers are equal
    /// modulo 3.
    pub(super) async fn vacate(&self, epoch: Epoch) {
        let place = |epoch: Epoch| epoch.number() % 3;
        self.end_where(|dead| place(dead) == place(epoch)).await;
    }

    /// Ends the stand-in for the parent of this epoch, which has ended itself.
    async fn child_has_ended(&self, child: Epoch) {
        self.end_where(|dead| dead.next() == Some(child)).await;
    }

    async fn end_where(&self, leaves: impl Fn(Epoch) -> bool) {
        let leaving = {
            let mut standing = self.lock();
            let dead: Vec<_> = standing
                .keys()
                .copied()
                .filter(|dead| leaves(*dead))
                .collect();
            dead.into_iter()
                .filter_map(|dead| standing.remove(&dead))
                .collect::<Vec<_>>()
        };
        for mut task in leaving {
            task.0.abort();
            // The socket is free once the task is gone, not when it is told to go.
            let _cancelled = (&mut task.0).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Epoch, Task>> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Envoy {
    /// Takes the place of an epoch that has just been reaped, where its child still needs it. One that
    /// had to be killed because it overstayed may never have answered its child.
    pub(super) async fn take_care_of_the_child_of(&self, epoch: Epoch, overstayed: bool) {
        self.stand_ins.child_has_ended(epoch).await;
        let Some(child) = epoch.next().filter(|child| self.epochs.runs(*child)) else {
            return;
        };
        let age = self.epochs.live_for(child);
        if !overstayed && age.is_some_and(|age| age >= self.args.parent_shutdown_time()) {
            // It ended at its time, because the child has let it go.
            return;
        }
        match StandIn::bind(self.base_id.id(), epoch.number()) {
            Ok(stand_in) => {
                tracing::debug!(
                    epoch = epoch.number(),
                    "standing in for epoch {epoch}, so that epoch {child} lives on"
                );
                let task = tokio::spawn(async move {
                    if let Err(error) = stand_in.run().await {
                        tracing::warn!(epoch = epoch.number(), "{error}");
                    }
                });
                self.stand_ins.lock().insert(epoch, Task(task));
            }
            Err(error) => tracing::warn!(epoch = epoch.number(), "{error}"),
        }
    }
}
