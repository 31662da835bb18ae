//! The process of an epoch.

use handover_core::Epoch;
use handover_process::{Child, Stopped, WaitError};

use super::strays::Strays;

/// A process that was started for an epoch, and what is known of those that it has started itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process<'a> {
    pub(super) epoch: Epoch,
    pub(super) child: &'a Child,
    pub(super) strays: &'a Strays,
}

impl Process<'_> {
    /// Kills it with its group.
    ///
    /// # Errors
    ///
    /// When its end cannot be seen.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may not have been killed. Call it again, or drop the child.
    pub(super) async fn kill(self) -> Result<Stopped, WaitError> {
        self.strays.look(self.child).await;
        self.child.kill().await
    }
}
