//! What has happened, for Prometheus: names in `catalogue`, counting in `count`, text in `encode`.
//!
//! **Where the numbers come from.** Every event of the agent's machine is told by its loop, every event and
//! state of the operator by the driver, and every end of a process by the proxy. So no event is missed, however
//! many come at once, and nothing wakes up to count. The figures of this process are read when they are asked
//! for.
//!
//! **What a scrape costs.** It asks neither loop: it takes the numbers and the state that the agent has shown
//! last. A supervisor whose loop has stopped still answers.
//!
//! **What is not known** is absent. It is never a zero.
//!
//! **Labels.** Each label has a short list of values. The number of an epoch and the digest of a configuration are
//! no labels: each change would begin new time series, and the old ones would stay in the database. The number of
//! the live epoch is a value. So is a signal a label, of which there are few, and an exit code only by its class.

mod catalogue;
mod count;
mod encode;
mod own;
mod samples;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use handover_core::{Epoch, EpochState, Held, Purpose};
use handover_process::ExitCause;
use handover_tokio::Status;

use crate::control::wire::Counters;
use crate::operator::{self, Gauges};
use crate::statistics::{NotScraped, StatisticsText};
use count::Metrics;

pub use catalogue::{FAMILIES, Family, Kind, Label, Unit, table};
pub use encode::{Exposition, Format};
pub(crate) use watch::Watched;

/// What a proxy has observed of one of its processes. See [`Operate::observe`](crate::Operate::observe).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observed {
    /// The configuration of the epoch was validated, with whichever verdict.
    Validated {
        /// The number of the epoch.
        epoch: Epoch,
        /// How long that took.
        took: Duration,
    },
    /// The epoch is live, and this is known of its process.
    Live {
        /// The number of the epoch.
        epoch: Epoch,
        /// The version of Envoy.
        version: Option<String>,
        /// The base id of its shared memory.
        base_id: Option<u32>,
    },
    /// The process of the epoch has ended.
    Ended {
        /// The number of the epoch.
        epoch: Epoch,
        /// One word of a short list, which stays the same.
        cause: &'static str,
        /// The exit code or the signal.
        exit: Option<ExitCause>,
        /// The connections that clients had to it when it was looked at last, if they were counted.
        connections: Option<u64>,
    },
    /// The last look at the statistics of an epoch, before another one takes over or it ends.
    Statistics {
        /// The number of the epoch.
        epoch: Epoch,
        /// All that it has counted, in the text format of Prometheus, or why that is not known.
        text: Result<StatisticsText, NotScraped>,
    },
}

/// Takes what a proxy observes. It may be called from any thread, and does not block.
#[derive(Clone)]
pub struct Observe(Arc<dyn Fn(Observed) + Send + Sync>);

impl Observe {
    /// Returns what calls this function.
    pub fn new(take: impl Fn(Observed) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Passes on what was observed.
    pub fn tell(&self, observed: Observed) {
        (self.0)(observed);
    }
}

impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe").finish_non_exhaustive()
    }
}

/// What the agent's state shows at the moment of a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    epochs: [u64; 4],
    live: Option<Epoch>,
    held: Option<&'static str>,
    retries_left: Option<u32>,
    degraded: bool,
    on_probation: bool,
}

impl State {
    fn of(status: &Status) -> Self {
        let mut state = Self {
            held: status.held.and_then(held),
            retries_left: status.retries_left,
            degraded: status.degraded,
            ..Self::default()
        };
        // The one that stands for a drain has no process.
        let processes = status.epochs.iter();
        for info in processes.filter(|info| info.purpose != Purpose::Drain) {
            let [starting, live, draining, aborting] = &mut state.epochs;
            let count = match info.state {
                EpochState::Starting => starting,
                EpochState::Live => {
                    state.live = Some(info.epoch);
                    state.on_probation |= info.on_probation;
                    live
                }
                EpochState::Draining => draining,
                EpochState::Aborting(_) => aborting,
            };
            *count = count.saturating_add(1);
        }
        state
    }
}

/// The value for a reason; a reason of a later version has none before it has a name.
fn held(held: Held) -> Option<&'static str> {
    Some(match held {
        Held::Starting(_) => "starting",
        Held::Aborting(_) => "aborting",
        Held::Cap { .. } => "cap",
        Held::Retry(_) => "retry",
        Held::Interval(_) => "interval",
        Held::GivenUp => "given_up",
        Held::NotRestarted => "not_restarted",
        Held::NumbersUsedUp => "numbers_used_up",
        _ => return None,
    })
}

/// The numbers, as those who count and those who ask share them.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Metrics>>);

impl Shared {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Metrics::new())))
    }

    /// Returns what a proxy tells its observations.
    pub(crate) fn observe(&self) -> Observe {
        let shared = self.clone();
        Observe::new(move |observed| shared.lock().observed(observed))
    }

    /// Counts an event of the operator, which has these gauges after it.
    pub(crate) fn operator_event(&self, event: &operator::Event, gauges: Gauges) {
        self.lock().operator_event(SystemTime::now(), event, gauges);
    }

    /// Keeps what the operator says of itself, once it was told everything that has happened.
    pub(crate) fn operator_is(&self, gauges: Gauges) {
        self.lock().operator_is(SystemTime::now(), gauges);
    }

    /// Counts that an epoch was asked for its statistics and they are not known.
    pub(crate) fn not_scraped(&self, error: NotScraped) {
        self.lock().not_scraped(error);
    }

    /// Returns the numbers of a status.
    pub(crate) fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Returns what answers a scrape.
    pub(crate) fn scrape(&self, status: tokio::sync::watch::Receiver<Status>) -> Scrape {
        let shared = self.clone();
        Scrape::new(move |format| {
            let state = State::of(&status.borrow());
            // The machines wait for the lock, so the figures are read before.
            let own = own::Figures::read();
            let samples = shared.lock().seen(state).samples(&own);
            encode::encode(samples, format)
        })
    }

    /// Returns how often the statistics of an epoch were not known for this reason.
    #[cfg(test)]
    pub(crate) fn count_of(&self, reason: NotScraped) -> u64 {
        let metrics = self.lock();
        let count = metrics.not_scraped.get(reason.label());
        count.copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Metrics> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers scrapes, without a question to the loop of the supervisor.
#[derive(Clone)]
pub(crate) struct Scrape(Arc<dyn Fn(Format) -> Exposition + Send + Sync>);

impl Scrape {
    /// Answers by this function, which must not block.
    pub(crate) fn new(text: impl Fn(Format) -> Exposition + Send + Sync + 'static) -> Self {
        Self(Arc::new(text))
    }

    /// Returns the text of this moment.
    pub(crate) fn text(&self, format: Format) -> Exposition {
        (self.0)(format)
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}
