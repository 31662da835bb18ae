//! What a proxy must be able to do for the agent.

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use handover_core::{Epoch, Severity, Target};

use crate::RunControl;

/// A program of which the agent runs one instance per epoch.
///
/// The agent calls the methods from its own tasks; several [`run`](Self::run) calls are under way
/// at once during a hand-over, each for another epoch.
#[async_trait]
pub trait Proxy: Send + Sync + 'static {
    /// What the proxy can be asked to run with. It is cloned once per start; an `Arc` keeps that
    /// cheap.
    type Config: Clone + Eq + Send + Sync + 'static;

    /// Launches this epoch and waits until nothing of it runs any more.
    ///
    /// Once the epoch serves it calls [`RunControl::live`]. When [`RunControl::abort`] says so, it
    /// ends the epoch in that way, and still waits for the end. When [`RunControl::withdrawn`] says
    /// so before the epoch is live, it gives the start up if nothing has been taken over. For [`Target::Drain`] nothing
    /// needs to be launched: the call lets the connections of all other epochs end and returns when
    /// they have, or when it is aborted.
    ///
    /// A panic in here is a failed exit of the epoch.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the future of [`Agent::run`](crate::Agent::run) is: what it owns
    /// must clean up after itself then, as a `Child` of `handover-process` does.
    ///
    /// # Errors
    ///
    /// When the epoch could not be launched, ended with an error or was aborted; the error tells
    /// whether a retry can help.
    async fn run(
        &self,
        target: Target<Self::Config>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError>;

    /// Removes what the epoch left behind. It comes once for each [`run`](Self::run), right after
    /// it has returned and before the number is used again, and must not block: the control loop
    /// waits for it.
    fn cleanup(&self, epoch: Epoch);

    /// The desired configuration was given up and the agent is about to end. It must not block.
    #[doc(alias = "Panic")]
    fn panic(&self, config: &Self::Config);
}

/// Why an epoch did not end cleanly.
#[derive(Debug)]
pub enum RunError {
    /// It was told to stop and did.
    Aborted,
    /// It failed.
    Failed {
        /// Whether a retry can help.
        severity: Severity,
        /// What happened.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl RunError {
    /// A failure that may not come again.
    #[must_use]
    pub fn transient(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed {
            severity: Severity::Transient,
            source: source.into(),
        }
    }

    /// A failure that a retry cannot mend, such as a configuration that the proxy rejects.
    #[must_use]
    pub fn permanent(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed {
            severity: Severity::Permanent,
            source: source.into(),
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aborted => "the epoch was aborted",
            Self::Failed {
                severity: Severity::Transient,
                ..
            } => "the epoch failed",
            Self::Failed {
                severity: Severity::Permanent,
                ..
            } => "the epoch failed for good",
        })
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Aborted => None,
            Self::Failed { source, .. } => Some(&**source),
        }
    }
}
