//! Epochs whose parent has died before its time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use handover_core::Epoch;
use tokio::task::JoinHandle;

use super::super::lineage::Lineage;
use super::super::running::now;
use super::EpochRun;
use crate::hot_restart::{BaseId, StandIn};

/// Who stands in for which dead epoch at present.
#[derive(Debug, Default)]
pub(in crate::adapter) struct StandIns(Mutex<BTreeMap<Epoch, (EpochSlot, Task)>>);

/// The socket at which an epoch speaks to its child: its base id, and its restart epoch modulo 3.
type EpochSlot = (BaseId, u32);

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl StandIns {
    /// Frees the slot that this epoch will take. Two epochs of a lineage share it when their numbers
    /// are equal modulo 3.
    pub(super) async fn vacate(&self, lineage: &Lineage, epoch: Epoch) {
        let taken = slot(lineage, epoch);
        self.end_where(|_, slot| slot == taken).await;
    }

    /// Ends the stand-in for the parent of this epoch, which has ended itself.
    async fn child_has_ended(&self, child: Epoch) {
        self.end_where(|dead, _| dead.next() == Some(child)).await;
    }

    async fn end_where(&self, leaves: impl Fn(Epoch, EpochSlot) -> bool) {
        let leaving = {
            let mut standing = self.lock();
            let dead: Vec<_> = standing
                .iter()
                .filter(|(dead, (slot, _))| leaves(**dead, *slot))
                .map(|(dead, _)| *dead)
                .collect();
            dead.into_iter()
                .filter_map(|dead| standing.remove(&dead))
                .collect::<Vec<_>>()
        };
        for (_, mut task) in leaving {
            task.0.abort();
            // The socket is free once the task is gone, not when it is told to go.
            let _cancelled = (&mut task.0).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Epoch, (EpochSlot, Task)>> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot(lineage: &Lineage, epoch: Epoch) -> EpochSlot {
    (lineage.base_id(), lineage.restart_epoch(epoch) % 3)
}

impl EpochRun<'_> {
    /// Takes the place of the epoch, which has just been reaped, where its child still needs it.
    pub(super) async fn take_care_of_child(&self, in_order: bool) {
        let (epoch, lineage) = (self.process.epoch, &self.process.lineage);
        self.envoy.stand_ins.child_has_ended(epoch).await;
        let time = self.parent_shutdown_time();
        let child = self.envoy.running.table().child_without_parent(
            epoch,
            lineage.id(),
            now(),
            time,
            in_order,
        );
        let Some(child) = child else {
            return;
        };
        self.stand_in(epoch, child);
    }

    /// Takes the place of the parent of this epoch, which has just been registered, if the parent has ended
    /// while the epoch was made ready. The end of the parent saw no child then.
    pub(super) fn replace_lost_parent(&self) {
        let (epoch, lineage) = (self.process.epoch, &self.process.lineage);
        if lineage.restart_epoch(epoch) == 0 {
            return;
        }
        let lost = self.envoy.running.table().lost_parent(epoch, lineage.id());
        if let Some(parent) = lost {
            self.stand_in(parent, epoch);
        }
    }

    /// Answers a child in the place of its dead parent, unless that is done already.
    fn stand_in(&self, dead: Epoch, child: Epoch) {
        let lineage = &self.process.lineage;
        let mut standing = self.envoy.stand_ins.lock();
        // The end of a parent and the start of its child may both see that the child is alone.
        if standing
            .get(&dead)
            .is_some_and(|(_, task)| !task.0.is_finished())
        {
            return;
        }
        match StandIn::bind(lineage.base_id(), lineage.restart_epoch(dead)) {
            Ok(stand_in) => {
                tracing::debug!(
                    epoch = dead.number(),
                    "standing in for epoch {dead}, so that epoch {child} lives on"
                );
                let task = tokio::spawn(async move {
                    if let Err(error) = stand_in.run().await {
                        tracing::warn!(epoch = dead.number(), "{error}");
                    }
                });
                standing.insert(dead, (slot(lineage, dead), Task(task)));
            }
            Err(error) => tracing::warn!(epoch = dead.number(), "{error}"),
        }
    }
}
