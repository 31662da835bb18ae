//! Envoy.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use handover_core::Epoch;
use handover_envoy::{EndedEpoch, Envoy, EnvoyConfig, EnvoyFailed, OnRequestError};
use handover_process::Signal;

use super::{EpochFacts, Facts, Operate, sentence};
use crate::control::wire::{Code, Configuration, LastExit, Refusal};

#[async_trait]
impl Operate for Envoy {
    /// Envoy's newest epoch but one ends its parent when a third one starts.
    const RELEASED_IS_CUT: bool = true;

    const NO_COLD_RESTART: Option<&str> = None;

    const DRAIN_TIME_FLAG: &str = "--termination-drain";

    fn forward(&self, signal: Signal) {
        self.signal_all(signal);
    }

    fn describe(&self, config: &Arc<EnvoyConfig>) -> Configuration {
        Configuration {
            source: config.source().display().to_string(),
            hash: Some(config.digest().to_string()),
        }
    }

    async fn facts(&self) -> Facts {
        let overview = self.overview().await;
        let count = |connections: usize| u64::try_from(connections).unwrap_or(u64::MAX);
        let epochs = overview.epochs.into_iter().map(|epoch| {
            let facts = EpochFacts {
                pid: epoch.pid,
                config: Configuration {
                    source: epoch.config.display().to_string(),
                    hash: Some(epoch.digest.to_string()),
                },
                listens: epoch.listens,
                active_connections: epoch.connections.map(count),
                rss_bytes: epoch.resident_bytes,
            };
            (epoch.epoch, facts)
        });
        Facts {
            epochs: epochs.collect(),
            last_exit: overview.last_ended.map(last_exit),
            drained: overview.drained,
            base_id: Some(self.base_id()),
        }
    }

    async fn drain_on_request(&self) -> Result<Option<Epoch>, Refusal> {
        Envoy::drain_on_request(self).await.map_err(refused)
    }

    async fn undrain(&self) -> Result<Option<Epoch>, Refusal> {
        Envoy::undrain(self).await.map_err(refused)
    }

    async fn held_by(&self) -> Vec<String> {
        let holding = Envoy::held_by(self).await;
        holding.iter().map(ToString::to_string).collect()
    }

    async fn unknown_clients(&self) -> Vec<String> {
        let holding = Envoy::held_by(self).await.into_iter();
        let unknown = holding.filter(|holding| holding.connections.is_none());
        unknown.map(|holding| holding.to_string()).collect()
    }

    async fn without_clients(&self) {
        Envoy::without_clients(self).await;
    }

    fn cut(&self) -> Option<String> {
        let cut = Envoy::cut(self);
        (!cut.is_empty()).then(|| cut.join(", "))
    }

    fn last_words(error: &(dyn Error + 'static)) -> Vec<String> {
        match error.downcast_ref() {
            Some(EnvoyFailed::Ended { last_words, .. }) => last_words.clone(),
            // Nothing else has run, or Envoy's reason is in the message already.
            _ => Vec::new(),
        }
    }
}

fn refused(error: OnRequestError) -> Refusal {
    let code = match error {
        OnRequestError::Stopping => Code::Ending,
        OnRequestError::Admin { .. } | OnRequestError::NoEffect { .. } => Code::Failed,
    };
    Refusal::new(code, sentence(error))
}

fn last_exit(ended: EndedEpoch) -> LastExit {
    let note = ended.note.map(|note| format!("{note}; "));
    LastExit {
        epoch: ended.epoch.number(),
        pid: ended.pid,
        cause: ended.failure.label().to_owned(),
        sentence: format!("{}{}", note.unwrap_or_default(), ended.failure),
        at: humantime::format_rfc3339_seconds(ended.at).to_string(),
        uptime_seconds: ended.uptime.as_secs(),
    }
}
