//! Letting every epoch finish its work before a stop.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use handover_core::Epoch;
use handover_process::{Child, ExitCause, WaitError};
use handover_runtime::time_limit::timeout_at;
use handover_tokio::{RunControl, RunError, error_chain};
use tokio::time::{Instant, sleep};

use super::count::{END, LiveClients, Unknown};
use super::epochs::has_ended;
use super::serve::classify;
use super::{Envoy, EnvoyConfig, EnvoyFailed};
use crate::admin::{AdminClient, ListenerConnections};
use crate::drain::{DrainOptions, drain_counting, pause_after};
use crate::heard::Heard;
use crate::quiet::keep_new_connections_away;

/// How often the connections of older epochs are counted at most while a stop waits for them.
const COUNT: Duration = Duration::from_millis(20);

/// How long before the limit the drain ends by itself, so that what is cut can be named before it
/// is.
const TO_TELL: Duration = Duration::from_millis(50);

/// How the wait for an epoch to be without connections was over.
enum Waited {
    NoneLeft,
    /// Its process has ended first.
    Ended,
    TimeOver,
}

impl Envoy {
    /// Lets the live epoch drain through its admin endpoint, and waits until the older ones have no
    /// connection left. It returns when all is drained, or when that has become impossible because the
    /// live epoch has ended; otherwise the agent's deadline ends it.
    pub(super) async fn drain(&self, control: &RunControl) -> Result<(), RunError> {
        self.on_request.a_stop_begins();
        let limit = self.settings.stop.limit.saturating_sub(TO_TELL);
        let now = Instant::now();
        // A limit too far away for the clock is as good as none that a person would see the end of.
        let end = now
            .checked_add(limit)
            .unwrap_or_else(|| now + Duration::from_secs(86_400 * 365));
        tokio::select! {
            result = self.drain_all(end) => Ok(result?),
            _ = control.abort() => {
                // On a busy host the agent's deadline may come before ours is seen.
                if Instant::now() >= end && self.cut().is_empty() {
                    self.cuts_what_was_held();
                }
                Err(RunError::Aborted)
            }
        }
    }

    async fn drain_all(&self, end: Instant) -> Result<(), EnvoyFailed> {
        // Afterwards they do not listen any more.
        self.epochs.note_listening().await;
        let (live, older) = tokio::join!(self.drain_live(end), self.wait_for_older(end));
        if !(live? && older) {
            // Not drained in time: the agent cuts what is left when its own deadline comes.
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// Whether the live epoch has no connection left.
    async fn drain_live(&self, end: Instant) -> Result<bool, EnvoyFailed> {
        let Some((epoch, config)) = self.epochs.newest_live() else {
            return Ok(true);
        };
        let Some(child) = self.epochs.child(epoch) else {
            return Ok(true);
        };
        tokio::select! {
            biased;
            waited = self.drain_epoch(epoch, &config, &child, end) => match waited {
                Waited::NoneLeft => return Ok(true),
                Waited::TimeOver => return Ok(false),
                Waited::Ended => {}
            },
            _ = child.wait() => {}
        }
        Err(not_drained(&config, &child, child.wait().await))
    }

    async fn drain_epoch(
        &self,
        epoch: Epoch,
        config: &EnvoyConfig,
        child: &Child,
        end: Instant,
    ) -> Waited {
        let stop = &self.settings.stop;
        let options = DrainOptions {
            pre_drain_delay: stop.pre_drain_delay,
            minimum: stop.minimum,
            limit: end.saturating_duration_since(Instant::now()),
            child: Some(child.pid()),
            ..DrainOptions::default()
        };
        let clients = LiveClients {
            envoy: self,
            epoch,
            config,
        };
        let admin = AdminClient::new(config.bootstrap().admin.clone());
        match drain_counting(&admin, &options, &clients).await {
            Ok(report) if report.is_drained() => {
                self.epochs.set_drained(epoch);
                return Waited::NoneLeft;
            }
            Ok(report) => {
                for connections in &report.holding {
                    self.cuts(epoch, &connections.to_string());
                }
                return Waited::TimeOver;
            }
            Err(_) if has_ended(child) => return Waited::Ended,
            Err(error) if Instant::now() >= end => {
                let error = error_chain(&error);
                self.cuts(epoch, &format!("unknown connections ({error})"));
                return Waited::TimeOver;
            }
            Err(error) => {
                // One that is just ending does not answer either, and then this is the end of it.
                sleep(END).await;
                let error = error_chain(&error);
                tracing::warn!(
                    epoch = epoch.number(),
                    "epoch {epoch} is not seen to drain: {error}"
                );
            }
        }
        // An epoch that cannot be asked: a newer one that failed has taken its admin endpoint along,
        // or the configuration narrows it. Nobody new is let in; connections that their clients keep
        // last until the limit.
        if Instant::now() >= end {
            return Waited::TimeOver;
        }
        if let Err(error) = keep_new_connections_away(child.pid(), &BTreeSet::new()).await {
            error.tell();
        }
        self.without_connections(epoch, Some(config), end).await
    }

    /// Whether no older epoch has a connection left. One whose connections cannot be counted is waited
    /// for until it has ended.
    async fn wait_for_older(&self, end: Instant) -> bool {
        let Some((live, _)) = self.epochs.newest_live() else {
            return true;
        };
        let older = self
            .epochs
            .numbers()
            .into_iter()
            .filter(|epoch| *epoch < live);
        for epoch in older {
            if let Waited::TimeOver = self.without_connections(epoch, None, end).await {
                return false;
            }
        }
        true
    }

    /// Waits until an epoch has no connection or has ended. The live one comes with its configuration.
    async fn without_connections(
        &self,
        epoch: Epoch,
        live: Option<&EnvoyConfig>,
        end: Instant,
    ) -> Waited {
        let mut last = Ok(Vec::new());
        let over = async {
            loop {
                let looking = Instant::now();
                // One that is giving way to an epoch of another line may still accept connections.
                let may_accept = self.epochs.must_give_way(epoch);
                let counted = match live {
                    Some(config) => self.count_live(epoch, config).await,
                    None => self.count_old(epoch).await,
                };
                self.note_held(epoch, &counted);
                match counted {
                    Ok(holding) if holding.is_empty() && !may_accept => {
                        self.epochs.set_drained(epoch);
                        return Waited::NoneLeft;
                    }
                    Ok(holding) => last = Ok(holding),
                    // Whether an old one was to end is judged where its end is seen.
                    Err(why) if why.has_ended() => return Waited::Ended,
                    Err(why) => {
                        self.tell_unknown(epoch, &why);
                        last = Err(why);
                    }
                }
                sleep(pause_after(looking.elapsed(), COUNT)).await;
            }
        };
        if let Ok(waited) = timeout_at(end, over).await {
            return waited;
        }
        match last {
            Ok(holding) => {
                for connections in holding {
                    self.cuts(epoch, &connections.to_string());
                }
            }
            Err(why) => self.cuts(epoch, &format!("unknown connections ({why})")),
        }
        Waited::TimeOver
    }

    /// Keeps what an epoch holds the drain with at this moment.
    pub(super) fn note_held(
        &self,
        epoch: Epoch,
        counted: &Result<Vec<ListenerConnections>, Unknown>,
    ) {
        let holds = match counted {
            Ok(holding) => holding.iter().map(ToString::to_string).collect(),
            Err(why) if why.has_ended() => Vec::new(),
            Err(why) => vec![format!("unknown connections ({why})")],
        };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(epoch, holds);
    }

    fn cuts_what_was_held(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (epoch, holds) in held.iter() {
            for what in holds {
                self.cuts(*epoch, what);
            }
        }
    }

    /// Says what is cut, and keeps it for the last words.
    fn cuts(&self, epoch: Epoch, what: &str) {
        tracing::warn!(epoch = epoch.number(), "cutting {what} of epoch {epoch}");
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        cut.push(format!("{what} of epoch {epoch}"));
    }

    /// What a stop has cut, because clients still had it at the end of its time or nobody could tell
    /// that they had not: `3 connections on listener X of epoch 1`.
    pub fn cut(&self) -> Vec<String> {
        let cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        cut.clone()
    }
}

/// An epoch has ended before it was drained.
pub(super) fn not_drained(
    config: &EnvoyConfig,
    child: &Child,
    cause: Result<ExitCause, WaitError>,
) -> EnvoyFailed {
    match cause {
        Ok(cause) => EnvoyFailed::NotDrained {
            config: config.source().to_owned(),
            // One that was live has not refused its configuration.
            failure: classify(cause, child, &Heard::default()),
            cause,
        },
        Err(error) => EnvoyFailed::Lost(error),
    }
}
