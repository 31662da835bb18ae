//! Giving a start up, because the agent terminates before the epoch is live.
//!
//! An epoch that has taken nothing over is dropped, so that the one that serves drains at once. One
//! that has is let go live, and is drained itself. Which of both it is, changes within a millisecond:
//! Envoy starts to accept connections, then tells its parent to stop listening, and then says LIVE.
//! So the epoch is stopped first, which keeps it from going on; then what it has said already has the
//! time to take effect; then both are looked at. What cannot be seen is not taken for nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use handover_core::{Abort, Epoch};
use handover_process::{Child, ExitCause, Signal, WaitError};
use handover_tokio::RunControl;
use tokio::time::sleep;

use super::Envoy;
use super::epochs::Launched;
use super::start::Waiting;
use crate::admin::{AdminClient, Exclude, ServerState};
use crate::quiet::keep_new_connections_away;

/// How long a parent gets to do what its child has asked for. It takes less than 5 ms.
const IN_FLIGHT: Duration = Duration::from_millis(20);

impl Envoy {
    /// Waits until the epoch's start is withdrawn, ends it where it has taken nothing over, and
    /// returns how it ended. Otherwise it never returns: the epoch goes live, or is aborted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an epoch that was stopped to be looked at goes on.
    pub(super) async fn end_if_withdrawn(
        &self,
        epoch: Epoch,
        launched: &Launched,
        control: &RunControl,
        waiting: &Waiting,
    ) -> Result<ExitCause, WaitError> {
        control.withdrawn().await;
        if self.epochs.is_live(epoch) {
            return std::future::pending().await;
        }
        let older = self.epochs.older_than(&launched.line, epoch);
        if let Some((parent, _)) = older.last() {
            return self.drop_beside(*parent, epoch, launched).await;
        }
        // While it was looked at, it may have been seen live.
        if self.serves_by_now(epoch, launched).await || !self.epochs.give_up_start(epoch) {
            return std::future::pending().await;
        }
        tracing::info!(
            epoch = epoch.number(),
            "epoch {epoch} serves nobody yet and is ended"
        );
        self.end(epoch, launched, Abort::Graceful, control, waiting)
            .await
    }

    /// Ends the epoch if its parent still listens and it has no client itself.
    async fn drop_beside(
        &self,
        parent: Epoch,
        epoch: Epoch,
        launched: &Launched,
    ) -> Result<ExitCause, WaitError> {
        let child = &launched.child;
        let stopped = Stopped::stop(child);
        sleep(IN_FLIGHT).await;
        if !self.has_taken_nothing(epoch, parent).await || !self.epochs.give_up_start(epoch) {
            drop(stopped);
            tracing::info!(
                epoch = epoch.number(),
                "epoch {epoch} has taken over, or that cannot be told: it goes live and is drained"
            );
            return std::future::pending().await;
        }
        tracing::info!(
            epoch = epoch.number(),
            "epoch {epoch} has taken nothing over and is dropped"
        );
        // Its orderly end would take its parent along.
        let ended = child.kill().await.map(|stopped| stopped.cause);
        drop(stopped);
        self.let_drain(parent, launched).await;
        ended
    }

    /// Whether the parent still listens for clients, and the epoch has none of them.
    async fn has_taken_nothing(&self, epoch: Epoch, parent: Epoch) -> bool {
        let everybody = Exclude::default();
        let parent_listens =
            self.epochs.has_closed_to_clients(parent, &everybody).await == Some(false);
        parent_listens && self.has_clients(epoch).await == Some(false)
    }

    /// Whether any client is connected to the epoch; nothing where that cannot be seen.
    async fn has_clients(&self, epoch: Epoch) -> Option<bool> {
        let everybody = Exclude::default();
        let counted = self.epochs.count_from_outside(epoch, &everybody).await;
        Some(!counted.ok()?.is_empty())
    }

    /// Lets an epoch close its listeners that can no longer be asked, because its child took the
    /// admin endpoint along before it was dropped. It is told in the words of its child, which also
    /// makes it ask its clients to close.
    async fn let_drain(&self, parent: Epoch, launched: &Launched) {
        let Some(config) = self.epochs.config(parent) else {
            return;
        };
        let admin = AdminClient::new(config.bootstrap().admin.clone());
        match admin.server_info().await {
            Err(error) if error.is_nobody_there() => {}
            // It can be asked, and is drained in the usual way.
            Ok(_) | Err(_) => return,
        }
        if let Some(child) = self.epochs.child(parent)
            && let Err(error) = keep_new_connections_away(child.pid(), &BTreeSet::new()).await
        {
            error.tell();
        }
        if let Err(error) = launched.line.parent(parent).drain_listeners() {
            tracing::warn!(epoch = parent.number(), "{error}");
        }
    }

    /// Whether an epoch that has no parent serves, although that has not been noticed.
    async fn serves_by_now(&self, epoch: Epoch, launched: &Launched) -> bool {
        let address = launched.config.bootstrap().admin.clone();
        let admin = AdminClient::new(address);
        let restart_epoch = launched.line.restart_epoch(epoch);
        let silent = match admin.server_info().await {
            Ok(info) if info.restart_epoch == restart_epoch && info.state == ServerState::Live => {
                return true;
            }
            Ok(_) => false,
            // An Envoy without an endpoint has not come so far.
            Err(error) => !error.is_nobody_there(),
        };
        self.has_clients(epoch).await.unwrap_or(silent)
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
