//! What a running epoch says to the agent and hears from it.

use std::sync::Arc;

use handover_core::{Abort, Epoch};
use tokio::sync::watch;

/// The line between one [`Proxy::run`](crate::Proxy::run) and the agent. A clone speaks for the
/// same epoch.
#[derive(Clone)]
pub struct RunControl {
    orders: watch::Receiver<Orders>,
    report: Arc<dyn Fn(Report) + Send + Sync>,
}

/// What an epoch tells the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    Live,
    StoppedServing,
    Released,
    WillNotGoLive,
}

/// What an epoch has been told so far. Nothing of it is ever taken back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    pub(crate) withdrawn: bool,
    /// The newer epoch that serves in its place.
    pub(crate) retired: Option<Epoch>,
    pub(crate) abort: Option<Abort>,
    /// Whether its start deadline has passed before it was live.
    pub(crate) late: bool,
}

impl RunControl {
    pub(crate) fn new(
        orders: watch::Receiver<Orders>,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Self {
        Self {
            orders,
            report: Arc::new(report),
        }
    }

    /// Says that the epoch serves. More than once does no harm.
    pub fn live(&self) {
        (self.report)(Report::Live);
    }

    /// Reports that the epoch, which is live, has stopped serving although its process runs on: its
    /// listeners are closed and no newer epoch is live. The agent treats the epoch as draining from
    /// then on, and starts its configuration again: at once and without a retry if a newer epoch was
    /// started beside it, and otherwise as after a failed exit of the epoch.
    ///
    /// More than once does no harm; of an epoch that is not live it is ignored.
    pub fn stopped_serving(&self) {
        (self.report)(Report::StoppedServing);
    }

    /// Reports that the epoch, whose start was [withdrawn](Self::withdrawn), will never go live,
    /// finishes what it has and exits by itself. The agent treats the epoch as draining from then
    /// on, and the drain of the others does not wait for its start.
    ///
    /// More than once does no harm; of an epoch that was not withdrawn it is ignored.
    pub fn will_not_go_live(&self) {
        (self.report)(Report::WillNotGoLive);
    }

    /// Whether the start of the epoch has been withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.orders.borrow().withdrawn
    }

    /// Waits until the start of the epoch is withdrawn: the agent terminates, and the epoch is not
    /// live yet. When that has been said already, this returns at once.
    ///
    /// A proxy answers in one of three ways. It ends the epoch and returns from
    /// [`Proxy::run`](crate::Proxy::run), if the epoch has taken nothing over from an older one. It
    /// goes on and reports [`live`](Self::live), if the epoch has taken something over: it is
    /// drained then. Or it reports [`will_not_go_live`](Self::will_not_go_live). A proxy that does
    /// nothing of it is waited for like one that goes live, and aborted where nothing else serves.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn withdrawn(&self) {
        let mut orders = self.orders.clone();
        let agent_is_gone = orders.wait_for(|orders| orders.withdrawn).await.is_err();
        if agent_is_gone {
            // Then everything is told to stop, which is more.
            std::future::pending::<()>().await;
        }
    }

    /// Returns the newer epoch that serves in place of this one, if there is one.
    #[must_use]
    pub fn retired_by(&self) -> Option<Epoch> {
        self.orders.borrow().retired
    }

    /// Waits until a newer epoch serves in place of this one, and returns that one. When that has
    /// been said already, this returns at once, also after the newer epoch has ended.
    ///
    /// The epoch finishes what it has, and then [`Proxy::run`](crate::Proxy::run) returns. Nothing
    /// else tells an old epoch to end while the agent runs, and under a policy with
    /// [`max_epochs`](handover_core::Policy::max_epochs) the next change waits for its end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn retired(&self) -> Epoch {
        let mut orders = self.orders.clone();
        let told = orders.wait_for(|orders| orders.retired.is_some()).await;
        let by = told.ok().and_then(|orders| orders.retired);
        match by {
            Some(by) => by,
            // The agent is gone, and everything is told to stop, which is more.
            None => std::future::pending().await,
        }
    }

    /// Says that the epoch, which drains, has nothing left to lose, so that another one may be
    /// started although it still runs.
    pub fn released(&self) {
        (self.report)(Report::Released);
    }

    /// How the epoch has been told to stop so far, if it has.
    #[must_use]
    pub fn aborted(&self) -> Option<Abort> {
        self.orders.borrow().abort
    }

    /// Returns whether the epoch is told to stop because it was not live by its start deadline. Then
    /// the agent counts its end as a failure, and [`Proxy::run`](crate::Proxy::run) may return the
    /// reason as [`RunError::Failed`](crate::RunError::Failed) instead of `Aborted`.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.orders.borrow().late
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
        let mut orders = self.orders.clone();
        let told = orders
            .wait_for(|orders| orders.abort.is_some_and(|how| how >= least))
            .await;
        told.ok()
            .and_then(|orders| orders.abort)
            .unwrap_or(Abort::Immediate)
    }
}

impl std::fmt::Debug for RunControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunControl")
            .field("withdrawn", &self.is_withdrawn())
            .field("retired_by", &self.retired_by())
            .field("aborted", &self.aborted())
            .finish_non_exhaustive()
    }
}
