//! Epochs whose parent has died before its time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::Epoch;
use handover_runtime::time_limit::timeout;
use handover_tokio::error_chain;
use tokio::task::JoinHandle;

use super::super::lineage::Lineage;
use super::super::running::{RunningEpochs, now};
use super::EpochRun;
use super::retirement::wake_if_stopped;
use crate::hot_restart::{BaseId, StandIn};

/// How long a start waits for the end of the epoch that has its slot, and as long again once that one was continued
/// if it is stopped: 4 s. It was told to end, which takes milliseconds. Somebody may have stopped it on purpose.
const LATE_END: Duration = Duration::from_secs(4);

/// Who stands in for which dead epoch at present, and which epoch has each slot.
#[derive(Debug, Default)]
pub(in crate::adapter) struct StandIns(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    standing: BTreeMap<Epoch, (EpochSlot, Task)>,
    /// The last epoch that was started in a slot, or is about to be.
    taken: BTreeMap<EpochSlot, Epoch>,
}

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
    /// Frees the slot that this epoch will take, and keeps it free of stand-ins for others. Two epochs of a lineage
    /// share it when their numbers are equal modulo 3.
    ///
    /// The older one that has it has been told to end, but may take its time. Its name is in use until then.
    pub(super) async fn vacate(&self, running: &RunningEpochs, lineage: &Lineage, epoch: Epoch) {
        let taken = slot(lineage, epoch);
        self.lock().taken.insert(taken, epoch);
        self.end_where(|_, slot| slot == taken).await;
        let mut processes = running.all().into_iter();
        let holder = processes.find(|process| slot(&process.lineage, process.epoch) == taken);
        let Some(holder) = holder else { return };
        let ends = async || timeout(LATE_END, holder.child.wait()).await.is_ok();
        if ends().await {
            return;
        }
        wake_if_stopped(&holder).await;
        if !ends().await {
            tracing::warn!(
                epoch = epoch.number(),
                "epoch {} was told to end and does not, and epoch {epoch} cannot start beside it: `kill -KILL {}` \
                 ends it",
                holder.epoch,
                holder.pid()
            );
        }
    }

    /// Ends the stand-in for the parent of this epoch, which has ended itself.
    async fn child_has_ended(&self, child: Epoch) {
        self.end_where(|dead, _| dead.next() == Some(child)).await;
    }

    async fn end_where(&self, leaves: impl Fn(Epoch, EpochSlot) -> bool) {
        let leaving = {
            let standing = &mut self.lock().standing;
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

    fn lock(&self) -> MutexGuard<'_, Slots> {
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
        let place = slot(lineage, dead);
        let slots = &mut *self.envoy.stand_ins.lock();
        // An epoch that starts in the place of the dead one follows on one that has replaced the child. So the child
        // has let its parent go.
        if slots.taken.get(&place).is_some_and(|epoch| *epoch != dead) {
            return;
        }
        let standing = &mut slots.standing;
        // The end of a parent and the start of its child may both see that the child is alone.
        if standing
            .get(&dead)
            .is_some_and(|(_, task)| !task.0.is_finished())
        {
            return;
        }
        tracing::debug!(
            epoch = dead.number(),
            "standing in for epoch {dead}, so that epoch {child} lives on"
        );
        let (base_id, restart_epoch) = (lineage.base_id(), lineage.restart_epoch(dead));
        // The child may ask at once, and mostly the place is free by now.
        let at_once = StandIn::bind(base_id, restart_epoch);
        let task = tokio::spawn(async move {
            let stand_in = match at_once {
                Ok(stand_in) => Ok(stand_in),
                Err(_) => StandIn::take(base_id, restart_epoch).await,
            };
            let over = match stand_in {
                Ok(stand_in) => stand_in.run().await,
                Err(error) => Err(error),
            };
            if let Err(error) = over {
                tracing::warn!(epoch = dead.number(), "{}", error_chain(&error));
            }
        });
        standing.insert(dead, (place, Task(task)));
    }
}
