//! Giving a start up: because the agent terminates before the epoch is live, for a newer desire, or because
//! it is late.
//!
//! An epoch that has taken nothing over is dropped, so that the one that serves drains at once, or
//! the next one is started. One that has is let go live. On a terminate it is drained then. Which of both
//! it is, changes within a millisecond: Envoy starts to accept connections, then tells its parent to stop listening, and then says LIVE.
//! So the epoch is stopped first, which keeps it from going on; then what it has said already has the
//! time to take effect; then both are looked at. What cannot be seen is not taken for nothing.

use std::time::Duration;

use handover_core::Abort;
use handover_process::{Child, ExitCause, Signal, WaitError};
use tokio::time::sleep;

use super::super::epochs::Withdrawal;
use super::super::epochs::withdrawal::{Answer, Taken, may_serve, says_live, taken};
use super::super::running::EnvoyProcess;
use super::{EpochRun, kill};
use crate::admin::Exclude;
use crate::drain::ListenersSeen;
use crate::syn_filter::keep_new_connections_away;

/// How long a parent gets to do what its child has asked for. It takes less than 5 ms.
const IN_FLIGHT: Duration = Duration::from_millis(20);

/// The pause before an epoch is looked at again of which nothing could be seen.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl EpochRun<'_> {
    /// Waits until the epoch's start is withdrawn, ends it where it has taken nothing over, and
    /// returns how it ended. Otherwise it never returns: the epoch goes live, or is aborted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an epoch that was stopped to be looked at goes on.
    pub(super) async fn end_if_withdrawn(&self) -> Result<ExitCause, WaitError> {
        self.process.control.withdrawn().await;
        let withdrawal = self.envoy.running.table().withdrawal(self.process.epoch);
        match withdrawal {
            Withdrawal::IsLive => std::future::pending().await,
            Withdrawal::TakesOverFrom(parent) => {
                let parent = self.envoy.running.process(parent);
                self.drop_beside(parent.as_deref()).await
            }
            Withdrawal::Alone => self.drop_alone().await,
        }
    }

    /// Ends the epoch if it does not serve. While it was looked at, it may have been seen live.
    async fn drop_alone(&self) -> Result<ExitCause, WaitError> {
        let epoch = self.process.epoch;
        if self.serves_by_now().await || !self.envoy.running.table().give_up_start(epoch) {
            return std::future::pending().await;
        }
        tracing::info!(
            epoch = epoch.number(),
            "epoch {epoch} has no clients yet and is ended"
        );
        self.end(Abort::Graceful).await
    }

    /// Ends the epoch if its parent still listens and it has no client itself. What cannot be seen is
    /// looked at again, until the epoch is live.
    async fn drop_beside(&self, parent: Option<&EnvoyProcess>) -> Result<ExitCause, WaitError> {
        let EnvoyProcess { epoch, child, .. } = &*self.process;
        while !self.envoy.running.table().is_live(*epoch) {
            let stopped = Stopped::stop(child);
            sleep(IN_FLIGHT).await;
            match self.taken_from(parent).await {
                Taken::Nothing if self.envoy.running.table().give_up_start(*epoch) => {
                    tracing::info!(
                        epoch = epoch.number(),
                        "epoch {epoch} has not taken over and is dropped"
                    );
                    if self.process.control.is_late() {
                        self.look_at_sockets().await;
                    }
                    // Its orderly end would take its parent along.
                    let ended = kill(child).await;
                    drop(stopped);
                    let serves_on = self.process.control.gives_way();
                    if let Some(parent) = parent.filter(|_| !serves_on) {
                        self.let_drain(parent).await;
                    }
                    return ended;
                }
                Taken::Nothing | Taken::Something => break,
                Taken::Unknown => {}
            }
            drop(stopped);
            tracing::debug!(
                epoch = epoch.number(),
                "it cannot be seen whether epoch {epoch} has taken over"
            );
            sleep(LOOK_AGAIN).await;
        }
        tracing::info!(
            epoch = epoch.number(),
            "epoch {epoch} has taken over: its start continues"
        );
        std::future::pending().await
    }

    /// Looks at what the epoch has taken over.
    async fn taken_from(&self, parent: Option<&EnvoyProcess>) -> Taken {
        let running = &self.envoy.running;
        let has_closed = match parent {
            Some(parent) => {
                let everybody = Exclude::default();
                match running.closing(parent, &everybody).await {
                    ListenersSeen::Closed => Some(true),
                    ListenersSeen::Open | ListenersSeen::MayStay => Some(false),
                    ListenersSeen::Unseen => None,
                }
            }
            // It has ended, and listens no more.
            None => Some(true),
        };
        taken(has_closed, running.has_clients(&self.process).await)
    }

    /// Lets the parent close its listeners where it can no longer be asked, because this epoch took
    /// the admin endpoint along before it was dropped. The parent is told in the words of its child,
    /// which also makes it ask its clients to close.
    async fn let_drain(&self, parent: &EnvoyProcess) {
        match parent.admin().server_info().await {
            Err(error) if error.is_nobody_there() => {}
            // It can be asked, and is drained in the usual way.
            Ok(_) | Err(_) => return,
        }
        if let Err(error) = keep_new_connections_away(parent.pid(), |_| false).await {
            error.log();
        }
        if let Err(error) = self.process.lineage.parent(parent.epoch).drain_listeners() {
            tracing::warn!(epoch = parent.epoch.number(), "{error}");
        }
    }

    /// Returns whether the epoch, which has no parent, serves although that has not been noticed.
    async fn serves_by_now(&self) -> bool {
        let answer = match self.process.admin().server_info().await {
            Ok(info) => Answer::Info(Box::new(info)),
            Err(error) if error.is_nobody_there() => Answer::NobodyThere,
            Err(_) => Answer::Silence,
        };
        says_live(&answer, self.process.restart_epoch())
            || may_serve(&answer, self.envoy.running.has_clients(&self.process).await)
    }
}

/// A child that stands still until this is dropped.
struct Stopped<'a>(&'a Child);

impl<'a> Stopped<'a> {
    fn stop(child: &'a Child) -> Self {
        // One that has just ended needs no signal.
        let _ended = child.signal(Signal::STOP);
        Self(child)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let _ended = self.0.signal(Signal::CONT);
    }
}
