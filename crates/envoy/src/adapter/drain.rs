//! Letting every epoch finish its work before a stop.

use std::collections::BTreeSet;
use std::time::Duration;

use handover_core::Epoch;
use handover_tokio::gap::until;
use handover_tokio::{RunControl, RunError, error_chain};
use tokio::time::{Instant, sleep};

use super::Envoy;
use crate::admin::AdminClient;
use crate::drain::{DrainOptions, drain};
use crate::quiet::keep_new_connections_away;

/// How often the connections of older epochs are counted while a stop waits for them.
const COUNT: Duration = Duration::from_millis(20);

/// How long before the limit the drain ends by itself, so that what is cut can be named before it
/// is.
const TO_TELL: Duration = Duration::from_millis(50);

impl Envoy {
    /// Lets the live epoch drain through its admin endpoint, and waits until the older ones have no
    /// connection left. It returns when all is drained; otherwise the agent's deadline ends it.
    pub(super) async fn drain(&self, control: &RunControl) -> Result<(), RunError> {
        self.on_request.a_stop_begins();
        tokio::select! {
            () = self.drain_all() => Ok(()),
            _ = control.abort() => Err(RunError::Aborted),
        }
    }

    async fn drain_all(&self) {
        let limit = self.settings.stop.limit.saturating_sub(TO_TELL);
        let end = Instant::now().checked_add(limit);
        let (live, older) = tokio::join!(self.drain_live(limit), self.wait_for_older(end));
        if !(live && older) {
            // Not drained in time: the agent cuts what is left when its own deadline comes.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the live epoch has no connection left.
    async fn drain_live(&self, limit: Duration) -> bool {
        let end = Instant::now().checked_add(limit);
        let Some((epoch, config)) = self.epochs.newest_live() else {
            return true;
        };
        let listeners = &config.bootstrap().listeners;
        let stop = &self.settings.stop;
        let options = DrainOptions {
            pre_drain_delay: stop.pre_drain_delay,
            minimum: stop.minimum,
            limit,
            exclude: stop.exclude.with_listeners(listeners),
            child: self.epochs.pid(epoch),
            ..DrainOptions::default()
        };
        match drain(
            &AdminClient::new(config.bootstrap().admin.clone()),
            &options,
        )
        .await
        {
            Ok(report) if report.is_drained() => return true,
            Ok(report) => {
                for connections in &report.holding {
                    tracing::warn!(epoch = epoch.number(), "cutting {connections}");
                }
                return false;
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(
                    epoch = epoch.number(),
                    "epoch {epoch} cannot be asked to drain: {error}"
                );
            }
        }
        self.drain_from_outside(epoch, end).await
    }

    /// Lets an epoch finish that cannot be asked: a newer one that failed has taken its admin endpoint
    /// along. Nobody new is let in; connections that their clients keep last until the limit.
    async fn drain_from_outside(&self, epoch: Epoch, end: Option<Instant>) -> bool {
        if let Some(pid) = self.epochs.pid(epoch)
            && let Err(error) = keep_new_connections_away(pid, &BTreeSet::new()).await
        {
            tracing::warn!(epoch = epoch.number(), "{error}");
        }
        self.without_connections(epoch, end).await
    }

    /// Whether no older epoch has a connection left. What cannot be counted is not waited for.
    async fn wait_for_older(&self, end: Option<Instant>) -> bool {
        let Some((live, _)) = self.epochs.newest_live() else {
            return true;
        };
        let older = self
            .epochs
            .numbers()
            .into_iter()
            .filter(|epoch| *epoch < live);
        for epoch in older {
            if !self.without_connections(epoch, end).await {
                return false;
            }
        }
        true
    }

    /// Waits until an epoch has no connection, and says whether that was in time.
    async fn without_connections(&self, epoch: Epoch, end: Option<Instant>) -> bool {
        let exclude = &self.settings.stop.exclude;
        let over = async {
            // One that is giving way to an epoch of another line may still accept connections.
            while self.epochs.must_give_way(epoch)
                || self
                    .epochs
                    .connections(epoch, exclude)
                    .await
                    .is_some_and(|open| open > 0)
            {
                sleep(COUNT).await;
            }
        };
        let in_time = match end {
            None => {
                over.await;
                true
            }
            Some(end) => tokio::select! {
                biased;
                () = over => true,
                () = until(end) => false,
            },
        };
        if !in_time {
            let open = self.epochs.connections(epoch, exclude).await;
            let open = open.unwrap_or_default();
            tracing::warn!(
                epoch = epoch.number(),
                "cutting {open} connections of epoch {epoch}"
            );
        }
        in_time
    }
}
