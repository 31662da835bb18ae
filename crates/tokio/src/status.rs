//! The state of an agent.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use handover_core::{Epoch, EpochInfo, Held, Phase, Standing};
use tokio::time::Instant;

/// The state of an agent after its last step.
#[derive(Clone, Debug)]
pub struct Status {
    /// The stage of the agent's life.
    pub phase: Phase,
    /// The running epochs, oldest first.
    pub epochs: Vec<EpochInfo>,
    /// The state of the desired configuration.
    pub standing: Standing,
    /// Why the desired configuration is held, if it is.
    pub held: Option<Held>,
    /// The retries that the desired configuration has left.
    pub retries_left: Option<u32>,
    /// Whether an older configuration serves because the desired one was given up.
    pub degraded: bool,
    /// The last epoch that failed, and the error.
    pub last_failure: Option<Failure>,
    /// When the agent started; the times in `epochs` count from here.
    pub started: Instant,
}

/// A failed epoch.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The number of the epoch.
    pub epoch: Epoch,
    /// The error that [`Proxy::run`](crate::Proxy::run) returned, without its
    /// [`RunError`](crate::RunError), or that the epoch was not live in time, or the evidence that it is
    /// [unfit](crate::Handle::unfit).
    pub error: Arc<dyn Error + Send + Sync>,
}

impl Failure {
    /// Returns the error and its sources in one line, joined by colons.
    #[must_use]
    pub fn message(&self) -> String {
        error_chain(&*self.error)
    }
}

impl PartialEq for Failure {
    /// Two failures are equal if their epochs and their messages are.
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.message() == other.message()
    }
}

impl Eq for Failure {}

/// An epoch was not live at its start deadline.
#[derive(Debug, thiserror::Error)]
#[error("it was not live within {}", time(*.deadline))]
pub(crate) struct NotLiveInTime {
    pub(crate) deadline: Option<Duration>,
    /// What was seen of it, if anything was.
    #[source]
    pub(crate) why: Option<Box<dyn Error + Send + Sync>>,
}

/// A live epoch was found unfit, and this was seen.
#[derive(Debug, thiserror::Error)]
#[error("it was found unfit: {0}")]
pub(crate) struct FoundUnfit(pub(crate) String);

fn time(deadline: Option<Duration>) -> String {
    // Without a deadline there is none to be missed.
    deadline.map_or_else(|| "its time".to_owned(), |time| format!("{time:?}"))
}

/// Returns an error and its sources in one line, joined by colons.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}
