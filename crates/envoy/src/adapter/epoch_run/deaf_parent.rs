//! A parent that leaves its child without an answer, so that no epoch can take over from it.
//!
//! A child waits for its parent with its whole main thread. So a start beside a parent that hangs is over at
//! its start deadline only, and so is each further one.

use std::fmt;
use std::time::Duration;

use handover_core::Epoch;
use tokio::time::timeout;

use super::super::epochs::DeafParent;
use super::super::running::EnvoyProcess;
use super::EpochRun;
use super::retirement::wake_if_stopped;
use crate::hot_restart::ParentError;
use crate::stopped::is_stopped;

/// How long the end of a parent is waited for that is killed: 5 s. The kernel ends it within milliseconds,
/// unless it waits for a disk.
const END: Duration = Duration::from_secs(5);

/// How long its endpoint may take to answer: 1 s.
const ENDPOINT: Duration = Duration::from_secs(1);

/// What a look at a parent has found that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deaf {
    parent: Epoch,
    /// Whether it was killed.
    is_killed: bool,
}

impl fmt::Display for Deaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parent, is_killed } = self;
        match is_killed {
            true => write!(
                f,
                "epoch {parent}, from which it was to take over, did not answer it and was killed"
            ),
            false => write!(
                f,
                "epoch {parent}, from which it was to take over, serves and does not answer it: only a cold \
                 restart can go on"
            ),
        }
    }
}

impl EpochRun<'_> {
    /// Looks, after the end of an epoch that was not live by its start deadline, whether its parent answers. One
    /// that does not, and that has been replaced before, is killed: then the next start is a first one.
    pub(super) async fn look_at_parent(&self) -> Option<Deaf> {
        let found = {
            let table = self.envoy.running.table();
            table.deaf_parent(self.process.epoch, self.process.lineage.id())
        };
        let parent = match found? {
            DeafParent::Kill(parent) | DeafParent::Keep(parent) => parent,
        };
        let parent = self.envoy.running.process(parent)?;
        if is_stopped(parent.pid()).await {
            // It is no fault of its own.
            wake_if_stopped(&parent).await;
            return None;
        }
        let is_deaf = tokio::select! {
            biased;
            // The next start is a first one in any case, and nobody serves until then.
            _ = parent.child.wait() => false,
            is_deaf = is_deaf(&parent) => is_deaf,
        };
        if !is_deaf {
            return None;
        }
        // Meanwhile it may have ended, or a newer one may be live.
        let found = {
            let table = self.envoy.running.table();
            table.deaf_parent(self.process.epoch, self.process.lineage.id())
        };
        let (epoch, is_killed) = match found? {
            DeafParent::Kill(parent) => (parent, true),
            DeafParent::Keep(parent) => (parent, false),
        };
        if epoch != parent.epoch {
            return None;
        }
        let deaf = Deaf {
            parent: epoch,
            is_killed,
        };
        tracing::warn!(
            epoch = epoch.number(),
            "epoch {} was not live by its start deadline: {deaf}",
            self.process.epoch
        );
        if is_killed {
            parent.is_deaf.notify_one();
            // The next start must not find it.
            if timeout(END, parent.child.wait()).await.is_err() {
                tracing::warn!(epoch = epoch.number(), "epoch {epoch} does not end");
            }
        }
        Some(deaf)
    }

    /// Waits until a start has found that the epoch answers no child and must be killed.
    pub(super) async fn until_deaf(&self) {
        self.process.is_deaf.notified().await;
    }
}

/// Returns whether the epoch leaves a question without an answer that every child asks. By that question its
/// endpoint closes. So one that answers there is asked nothing: it has not come to it, or no child has asked yet.
async fn is_deaf(parent: &EnvoyProcess) -> bool {
    let admin = parent.admin().with_time_limit(ENDPOINT);
    let answers = admin.server_info().await;
    if answers.is_ok_and(|info| info.restart_epoch == parent.restart_epoch()) {
        return false;
    }
    let asked = parent.lineage.parent(parent.epoch).shut_down_admin().await;
    match asked {
        Ok(()) => false,
        Err(ParentError::Silent { .. }) => true,
        Err(error) => {
            tracing::debug!(epoch = parent.epoch.number(), "{error}");
            // Its queue is full, because it reads nothing.
            matches!(error, ParentError::Send { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock)
        }
    }
}
