//! The trait that a proxy implements for the agent.

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use handover_core::{Epoch, Severity, Target};

use crate::RunControl;

/// A program. The agent runs one instance of it per epoch.
///
/// The agent calls the methods from its own tasks. During a hand-over several [`run`](Self::run)
/// calls run at once, each for another epoch.
#[async_trait]
pub trait Proxy: Send + Sync + 'static {
    /// The configuration. Two are equal if their content is. It is cloned a few times per start,
    /// and an `Arc` keeps that cheap.
    type Config: Clone + Eq + Send + Sync + 'static;

    /// Starts this epoch and waits until no part of it runs any more.
    ///
    /// - Once the epoch serves, call [`RunControl::live`].
    /// - When [`RunControl::abort`] resolves, end the epoch in that way, and still wait for the
    ///   end.
    /// - When [`RunControl::retired`] resolves, a newer epoch serves: finish the current requests
    ///   and return.
    /// - When [`RunControl::withdrawn`] resolves before the epoch is live, give up the start,
    ///   unless something was taken over.
    ///
    /// For [`Target::Drain`] nothing needs to be started. The call drains the connections of all
    /// other epochs, and returns when they are drained or when it is aborted.
    ///
    /// A panic of this method counts as a failed exit of the epoch.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped together with that of [`Agent::run`](crate::Agent::run). What it owns
    /// must then clean up after itself, as a `Child` of `handover-process` does.
    ///
    /// # Errors
    ///
    /// Returns an error if the epoch could not be started, failed or was aborted. The error says
    /// whether a retry can help.
    async fn run(
        &self,
        target: Target<Self::Config>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError>;

    /// Removes what the epoch has left behind. The agent calls it once for each [`run`](Self::run),
    /// after that has returned and before the number is used again. It must not block, because the
    /// control loop waits for it.
    fn cleanup(&self, epoch: Epoch);

    /// Reports that the desired configuration was given up and the agent is about to end. It must
    /// not block.
    #[doc(alias = "Panic")]
    fn panic(&self, config: &Self::Config);
}

/// The reason why an epoch did not end cleanly.
#[derive(Debug)]
pub enum RunError {
    /// The epoch was told to stop, and did.
    Aborted,
    /// The epoch failed.
    Failed {
        /// Whether a retry can help.
        severity: Severity,
        /// What happened.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl RunError {
    /// Returns a failure that a retry can help against.
    #[must_use]
    pub fn transient(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed {
            severity: Severity::Transient,
            source: source.into(),
        }
    }

    /// Returns a failure that no retry can help against, such as a configuration that the proxy
    /// rejects.
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
