//! Following an epoch that a newer one has replaced, until its end. What must be done, and when, is
//! decided by [`OldEpoch`].

use handover_core::Epoch;
use handover_process::{Child, Signal};
use tokio::time::{Instant, sleep_until};

use super::super::epochs::end::KillReason;
use super::super::epochs::old_epoch::{Look, OldEpoch, Step};
use super::super::running::{EnvoyProcess, now};
use super::EpochRun;
use super::side_by_side::KeptListening;
use crate::stopped::{any_is_stopped, is_stopped};

impl EpochRun<'_> {
    /// Lets the epoch give way to one of another lineage, reports it released once its last
    /// connection is gone, continues it where somebody has stopped it, and returns when it must be
    /// killed.
    pub(super) async fn follow_to_the_end(&self) -> KillReason {
        let mut old = OldEpoch::new(self.parent_shutdown_time(), now());
        loop {
            // The newer one may have died meanwhile, and another one come: then it is their turn later.
            let must_give_way = self.envoy.running.table().must_give_way(self.process.epoch);
            if must_give_way && let Err(KeptListening) = self.give_way().await {
                return KillReason::KeptListening;
            }
            let look = self.look(&old).await;
            for step in old.handle_look(&look, now()) {
                if let Some(reason) = self.carry_out(step) {
                    return reason;
                }
            }
            let next = Instant::now() + old.pause_after(look.took, now());
            sleep_until(next).await;
            old.handle_pause(next.into_std(), now());
        }
    }

    async fn look(&self, old: &OldEpoch) -> Look {
        let EnvoyProcess { epoch, .. } = &*self.process;
        let looking = Instant::now();
        let listens = self.envoy.running.table().has_listeners(*epoch);
        let listeners = match old.needs_look_at_listeners(listens) {
            true => Some(self.envoy.running.closing_all(&self.process).await),
            false => None,
        };
        let connections = match old.needs_count(listens) {
            true => {
                // A further change would cut outbound connections as well.
                let exclude = self.envoy.settings.stop.exclude.in_any_direction();
                let connections = self.envoy.running.connections(&self.process, &exclude);
                let connections = connections.await;
                // What was seen before its end is what there is to see.
                if connections.is_some() || !self.process.has_ended() {
                    self.process.note_count(connections);
                }
                connections
            }
            false => None,
        };
        let took = looking.elapsed();
        let is_stopped = is_stopped(self.process.pid()).await;
        let table = self.envoy.running.table();
        Look {
            took,
            listens,
            listeners,
            connections,
            is_stopped,
            newer_live_for: table.longest_live_after(*epoch, now()),
            is_left_behind: table.is_left_behind(*epoch),
        }
    }

    /// Carries a step out. Returns why the epoch must be killed, if that is the step.
    fn carry_out(&self, step: Step) -> Option<KillReason> {
        let EnvoyProcess { epoch, child, .. } = &*self.process;
        match step {
            Step::TellThatItListens => tracing::info!(
                epoch = epoch.number(),
                "epoch {epoch} has no connection left and still listens, so a client may come in: it is not called \
                 drained yet"
            ),
            Step::Release => {
                self.envoy.running.table().set_drained(*epoch);
                self.process.control.released();
            }
            Step::Continue => wake(*epoch, child),
            Step::Terminate => {
                if let Err(error) = child.signal(Signal::TERM) {
                    tracing::debug!(epoch = epoch.number(), "{error}");
                }
            }
            Step::Kill => {
                tracing::warn!(
                    epoch = epoch.number(),
                    "epoch {epoch} has not ended at its parent-shutdown time and is killed"
                );
                return Some(KillReason::Overstayed);
            }
        }
        None
    }

    /// Returns whether an older epoch of the same lineage is stopped.
    pub(super) async fn any_older_is_stopped(&self) -> bool {
        let older = self.envoy.running.older_in_lineage(self.process.epoch);
        any_is_stopped(older.iter().map(|older| older.pid()).collect()).await
    }

    /// Continues the older epochs of the same lineage that are stopped.
    pub(super) async fn wake_older(&self) {
        for older in self.envoy.running.older_in_lineage(self.process.epoch) {
            wake_if_stopped(&older).await;
        }
    }
}

/// Continues the epoch where it is stopped.
pub(super) async fn wake_if_stopped(process: &EnvoyProcess) {
    if is_stopped(process.pid()).await {
        wake(process.epoch, &process.child);
    }
}

/// Continues a stopped epoch.
fn wake(epoch: Epoch, child: &Child) {
    tracing::warn!(
        epoch = epoch.number(),
        "epoch {epoch} is stopped; continuing it, because the newer one waits for it"
    );
    if let Err(error) = child.signal(Signal::CONT) {
        tracing::debug!(epoch = epoch.number(), "{error}");
    }
}
