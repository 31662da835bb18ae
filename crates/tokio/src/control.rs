//! The connection between a running epoch and the agent.

use std::error::Error;
use std::sync::Arc;

use handover_core::{Abort, Epoch};
use tokio::sync::watch;

/// The connection between one [`Proxy::run`](crate::Proxy::run) and the agent. Clones belong to the
/// same epoch.
#[derive(Clone)]
pub struct RunControl {
    orders: watch::Receiver<Orders>,
    report: Arc<dyn Fn(Report) + Send + Sync>,
}

/// What an epoch tells the agent.
#[derive(Debug)]
pub(crate) enum Report {
    Live,
    StoppedServing,
    Released,
    /// Why it was late, if that is known.
    WillNotGoLive(Option<Box<dyn Error + Send + Sync>>),
}

/// What an epoch has been told so far. Nothing of it is ever taken back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    pub(crate) withdrawn: bool,
    /// Whether that was for a newer desire.
    pub(crate) gives_way: bool,
    /// The newer epoch that serves in its place.
    pub(crate) retired: Option<Epoch>,
    pub(crate) abort: Option<Abort>,
    /// Whether its start deadline has passed before it was live.
    pub(crate) late: bool,
    /// Whether it has passed its probation, or has had nothing to prove.
    pub(crate) proven: bool,
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

    /// Reports that the epoch serves. Repeated calls do no harm.
    pub fn live(&self) {
        (self.report)(Report::Live);
    }

    /// Reports that the live epoch runs but has stopped serving: its listeners are closed, and no
    /// newer epoch is live. The agent then treats the epoch as draining, and starts its
    /// configuration again. If a newer epoch was started beside it, that is at once and costs no
    /// retry. Otherwise it is as after a failed exit of the epoch.
    ///
    /// Repeated calls do no harm. The call is ignored if the epoch is not live.
    pub fn stopped_serving(&self) {
        (self.report)(Report::StoppedServing);
    }

    /// Reports that the [withdrawn](Self::withdrawn) epoch will never go live, finishes its
    /// requests and exits by itself. The agent then treats the epoch as draining, and the drain of
    /// the others does not wait for its start.
    ///
    /// Repeated calls do no harm. The call is ignored if the epoch was not withdrawn.
    pub fn will_not_go_live(&self) {
        (self.report)(Report::WillNotGoLive(None));
    }

    /// Reports the same as [`will_not_go_live`](Self::will_not_go_live), and why an epoch that
    /// [is late](Self::is_late) was not seen live. The reason becomes a source of its
    /// [failure](crate::Failure). That of an epoch that is not late is dropped.
    pub fn will_not_go_live_because(&self, why: impl Into<Box<dyn Error + Send + Sync>>) {
        (self.report)(Report::WillNotGoLive(Some(why.into())));
    }

    /// Returns whether the start of the epoch was withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.orders.borrow().withdrawn
    }

    /// Returns whether the start was withdrawn for a newer desire or because it is
    /// [late](Self::is_late), and not because the agent terminates. Older epochs then serve on, and must
    /// not be drained for it.
    #[must_use]
    pub fn gives_way(&self) -> bool {
        self.orders.borrow().gives_way
    }

    /// Waits until the start of the epoch is withdrawn: the agent terminates, a newer desire has waited
    /// long enough, or the start deadline has passed, and the epoch is not live yet. If that has happened
    /// already, it returns at once. [`gives_way`](Self::gives_way) tells the first from the others.
    ///
    /// A proxy answers in one of three ways. If the epoch has taken nothing over from an older one,
    /// the proxy ends it and returns [`RunError::Aborted`](crate::RunError::Aborted) from
    /// [`Proxy::run`](crate::Proxy::run). If the epoch has taken something over, the proxy continues
    /// and reports [`live`](Self::live). Or it reports [`will_not_go_live`](Self::will_not_go_live).
    /// Then it must end by itself, and if it gives way, nothing else ends it: under a policy with
    /// [`max_epochs`](handover_core::Policy::max_epochs), the newer desire waits for its end.
    ///
    /// Without an answer the agent waits as for an epoch that goes live. It aborts the epoch once the
    /// start deadline and [`abort_grace`](handover_core::Policy::abort_grace) have passed; on a terminate
    /// after the grace alone, if nothing else serves.
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

    /// Waits until a newer epoch serves in place of this one, and returns the newer one. If that
    /// has happened already, it returns at once, even if the newer epoch has ended.
    ///
    /// The epoch must finish its requests, and then [`Proxy::run`](crate::Proxy::run) must return.
    /// Nothing else ends an old epoch while the agent runs. Under a policy with
    /// [`max_epochs`](handover_core::Policy::max_epochs), the next change waits for its end.
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

    /// Waits until the epoch has passed its probation: it was live for the whole of
    /// [`Policy::probation`](handover_core::Policy::probation), and was not found
    /// [unfit](crate::Handle::unfit). Without a probation, and for the configuration that had served
    /// before, that is when it goes live. It never returns if the epoch is unfit or ends before.
    ///
    /// What is kept as good over restarts must wait for this.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn proven(&self) {
        let mut orders = self.orders.clone();
        let agent_is_gone = orders.wait_for(|orders| orders.proven).await.is_err();
        if agent_is_gone {
            // Then nobody will say so any more.
            std::future::pending::<()>().await;
        }
    }

    /// Reports that the draining epoch has no clients left. Then another epoch may be started
    /// although this one still runs.
    pub fn released(&self) {
        (self.report)(Report::Released);
    }

    /// Returns how the epoch must stop, or `None` if it was not told to.
    #[must_use]
    pub fn aborted(&self) -> Option<Abort> {
        self.orders.borrow().abort
    }

    /// Returns whether the epoch was not live by its start deadline. Its start is
    /// [withdrawn](Self::withdrawn) then, and unless it goes live, its end is a failure. [`Proxy::run`](crate::Proxy::run) may return the reason as
    /// [`RunError::Failed`](crate::RunError::Failed) instead of `Aborted`.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.orders.borrow().late
    }

    /// Waits until the epoch must stop, and returns how. If that has happened already, it returns
    /// at once. If the agent is gone, it returns [`Abort::Immediate`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn abort(&self) -> Abort {
        self.abort_at_least(Abort::Graceful).await
    }

    /// Waits until the epoch must stop immediately. A graceful stop that takes too long becomes an
    /// immediate one.
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
