//! Envoy, as a supervisor speaks to it.

use std::collections::BTreeMap;
use std::error::Error;

use async_trait::async_trait;
use handover_core::Epoch;
use handover_envoy::{
    EndedEpoch, Envoy, EnvoyFailed, ListenerPurpose, ListenerSeen, OnRequestError,
};
use handover_netutil::connections::LocalAddress;
use handover_process::Signal;
use handover_tokio::error_chain;

use crate::control::wire::{Configuration, LastExit};
use crate::metrics::{Observe, Observed};
use crate::operator::{Refusal, Report};
use crate::{
    EpochFacts, EpochListeners, EpochStatistics, Examination, Facts, Listener, NotScraped, Operate,
    Purpose, StatisticsText, Totals,
};

#[async_trait]
impl Operate for Envoy {
    /// Envoy's newest epoch but one ends its parent when a third one starts.
    fn released_is_cut(&self) -> bool {
        true
    }

    fn forward(&self, signal: Signal) {
        self.signal_all(signal);
    }

    async fn facts(&self) -> Facts {
        let overview = self.overview().await;
        let count = |connections: usize| u64::try_from(connections).unwrap_or(u64::MAX);
        let facts = overview.epochs.into_iter().map(|epoch| {
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
        let mut epochs = BTreeMap::new();
        epochs.extend(facts);
        Facts {
            epochs,
            last_exit: overview.last_ended.map(last_exit),
            drained: overview.drained,
            base_id: Some(self.base_id()),
        }
    }

    async fn drain_on_request(&self) -> Result<Option<Epoch>, Refusal> {
        Envoy::drain_on_request(self)
            .await
            .map_err(|error| refused(&error))
    }

    async fn undrain(&self) -> Result<Option<Epoch>, Refusal> {
        Envoy::undrain(self).await.map_err(|error| refused(&error))
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

    async fn listeners(&self) -> Option<Vec<EpochListeners>> {
        let epochs = Envoy::listeners(self).await.into_iter();
        let epochs = epochs.map(|epoch| EpochListeners {
            epoch: epoch.epoch,
            pid: epoch.pid,
            listeners: epoch.listeners.into_iter().map(listener).collect(),
            not_seen: epoch.not_seen,
        });
        Some(epochs.collect())
    }

    async fn without_clients(&self) {
        Envoy::without_clients(self).await;
    }

    async fn examine(&self, epoch: Epoch) -> Examination {
        let seen = Envoy::examine(self, epoch).await;
        let listeners = seen.missing.as_deref().map(in_words);
        let clusters = seen.missing_clusters.as_deref().map(in_words);
        let lost = seen.lost.map(|lost| {
            let lost = lost.iter();
            lost.map(|resource| format!("what needs {resource}"))
                .collect()
        });
        // What is known of each kind counts, whatever is known of the others.
        let known: Vec<Vec<String>> = [listeners, clusters, lost].into_iter().flatten().collect();
        let missing = (!known.is_empty()).then(|| known.concat());
        Examination {
            silent: seen.silent,
            missing,
            warming: seen.waits_for,
            requests: seen.requests.map(|requests| Totals {
                all: requests.all,
                failed: requests.failed,
            }),
        }
    }

    async fn statistics(&self, only_used: bool) -> Result<Vec<EpochStatistics>, String> {
        if !self.keeps_statistics() {
            return Err(
                "the statistics of Envoy are not shown: start `handover run` with --status-envoy-stats"
                    .to_owned(),
            );
        }
        let epochs = Envoy::statistics(self, only_used).await.into_iter();
        let epochs = epochs.map(|seen| EpochStatistics {
            epoch: seen.epoch,
            text: seen.text.map(StatisticsText::new).map_err(not_scraped),
        });
        Ok(epochs.collect())
    }

    fn observe(&self, observe: Observe) {
        Envoy::observe(self, move |observed| match observed {
            handover_envoy::Observed::Validated { epoch, took } => {
                observe.tell(Observed::Validated { epoch, took });
            }
            handover_envoy::Observed::Live {
                epoch,
                version,
                base_id,
            } => observe.tell(Observed::Live {
                epoch,
                version: Some(version),
                base_id: Some(base_id),
            }),
            handover_envoy::Observed::Ended {
                epoch,
                failure,
                cause,
                connections,
            } => observe.tell(Observed::Ended {
                epoch,
                cause: failure.label(),
                exit: Some(cause),
                connections,
            }),
            handover_envoy::Observed::Statistics { epoch, text } => {
                let text = text.map(StatisticsText::new).map_err(not_scraped);
                observe.tell(Observed::Statistics { epoch, text });
            }
            // A later version may observe more.
            _ => {}
        });
    }

    fn cut(&self) -> Option<String> {
        let cut = Envoy::cut(self);
        (!cut.is_empty()).then(|| cut.join(", "))
    }

    fn lost(&self) -> Option<String> {
        Envoy::lost(self)
    }

    fn last_words(&self, error: &(dyn Error + 'static)) -> Vec<String> {
        match error.downcast_ref() {
            Some(EnvoyFailed::Ended { last_words, .. }) => last_words.clone(),
            // Nothing else has run, or Envoy's reason is in the message already.
            _ => Vec::new(),
        }
    }
}

fn in_words(all: &[impl ToString]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn listener(seen: ListenerSeen) -> (LocalAddress, Listener) {
    let purpose = match seen.purpose {
        ListenerPurpose::Clients => Purpose::Clients,
        ListenerPurpose::Excluded => Purpose::Excluded,
        ListenerPurpose::Admin => Purpose::Admin,
    };
    let name = seen.name;
    (seen.address, Listener { name, purpose })
}

fn not_scraped(error: handover_envoy::NotScraped) -> NotScraped {
    use handover_envoy::NotScraped as Seen;
    match error {
        Seen::Unreachable => NotScraped::Unreachable,
        Seen::TimedOut => NotScraped::TimedOut,
        Seen::Refused => NotScraped::Refused,
        Seen::TooLarge => NotScraped::TooLarge,
        // A reason of a later version says at least that the answer was of no use.
        Seen::Invalid | _ => NotScraped::Invalid,
    }
}

fn refused(error: &OnRequestError) -> Refusal {
    match error {
        OnRequestError::Stopping => Refusal::Ending,
        OnRequestError::Admin { .. } | OnRequestError::NoEffect { .. } | _ => {
            Refusal::Failed(Report::new(error_chain(error)))
        }
    }
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
