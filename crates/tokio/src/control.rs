//! What a running epoch says to the agent and hears from it.

use std::sync::Arc;

use handover_core::Abort;
use tokio::sync::watch;

/// The line between one [`Proxy::run`](crate::Proxy::run) and the agent. A clone speaks for the
/// same epoch.
#[derive(Clone)]
pub struct RunControl {
    abort: watch::Receiver<Told>,
    report: Arc<dyn Fn(Report) + Send + Sync>,
}

/// What an epoch was told about its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) abort: Option<Abort>,
    /// Whether its start deadline has passed before it was live.
    pub(crate) late: bool,
}

/// What an epoch tells the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    Live,
    Released,
}

impl RunControl {
    pub(crate) fn new(
        abort: watch::Receiver<Told>,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Self {
        Self {
            abort,
            report: Arc::new(report),
        }
    }

    /// Says that the epoch serves. More than once does no harm.
    pub fn live(&self) {
        (self.report)(Report::Live);
    }

    /// Says that the epoch, which drains, has nothing left to lose, so that another one may be
    /// started although it still runs.
    pub fn released(&self) {
        (self.report)(Report::Released);
    }

    /// How the epoch has been told to stop so far, if it has.
    #[must_use]
    pub fn aborted(&self) -> Option<Abort> {
        self.abort.borrow().abort
    }

    /// Returns whether the epoch is told to stop because it was not live by its start deadline. Then
    /// the agent counts its end as a failure, and [`Proxy::run`](crate::Proxy::run) may return the
    /// reason as [`RunError::Failed`](crate::RunError::Failed) instead of `Aborted`.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.abort.borrow().late
    }

    /// Waits until the epoch is told to stop, and says how. When it has been told already, this
    /// returns at once. An agent that is gone tells everything to stop immediately.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn abort(&self) -> Abort {
        self.abort_at_least(Abort::Graceful).await
    }

    /// Waits until the epoch is told to stop immediately, which a graceful stop turns into when it
    /// takes too long.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn abort_immediately(&self) {
        self.abort_at_least(Abort::Immediate).await;
    }

    async fn abort_at_least(&self, least: Abort) -> Abort {
        let mut abort = self.abort.clone();
        let told = abort
            .wait_for(|told| told.abort.is_some_and(|how| how >= least))
            .await;
        told.ok()
            .and_then(|told| told.abort)
            .unwrap_or(Abort::Immediate)
    }
}

impl std::fmt::Debug for RunControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunControl")
            .field("aborted", &self.aborted())
            .finish_non_exhaustive()
    }
}
