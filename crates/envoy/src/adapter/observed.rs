//! What the adapter observes of its processes, for metrics.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use handover_core::Epoch;
use handover_process::ExitCause;

use super::statistics::NotScraped;
use crate::failure::Failure;

/// Something that was observed of an Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observed {
    /// Envoy has validated the configuration of the epoch, with whichever verdict.
    Validated {
        /// The number of the epoch.
        epoch: Epoch,
        /// How long that took.
        took: Duration,
    },
    /// The epoch is live.
    Live {
        /// The number of the epoch.
        epoch: Epoch,
        /// The version of Envoy, as the epoch says itself.
        version: String,
        /// The base id that the epoch runs under.
        base_id: u32,
    },
    /// The process of the epoch has ended.
    Ended {
        /// The number of the epoch.
        epoch: Epoch,
        /// Why.
        failure: Failure,
        /// Its exit code or the signal.
        cause: ExitCause,
        /// The connections that clients had to it when it was looked at last. `None` if they were not
        /// counted, because nothing has made it drain, or could not be counted.
        connections: Option<u64>,
    },
    /// The last look at the statistics of an epoch, before another one takes over or it ends. It is told
    /// only if [`EnvoyBuilder::statistics`](super::EnvoyBuilder::statistics) asks for it.
    Statistics {
        /// The number of the epoch.
        epoch: Epoch,
        /// What it has counted, in the text format of Prometheus, or why that is not known.
        text: Result<Bytes, NotScraped>,
    },
}

/// What the adapter tells.
#[derive(Default)]
pub(super) struct Observer(OnceLock<Box<dyn Fn(Observed) + Send + Sync>>);

impl Observer {
    /// Tells this from here on. The first one stays.
    pub(super) fn set(&self, take: impl Fn(Observed) + Send + Sync + 'static) {
        let _another_was_first = self.0.set(Box::new(take));
    }

    pub(super) fn tell(&self, observed: Observed) {
        if let Some(take) = self.0.get() {
            take(observed);
        }
    }
}
