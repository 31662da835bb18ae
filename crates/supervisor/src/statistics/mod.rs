//! The statistics of the epochs, as one text for Prometheus.
//!
//! ```text
//!  status server ──▶ Statistics ──▶ Operate::statistics      the epochs that can be asked
//!                        │
//!                        └────────▶ kept ◀── Observed        what the others had counted
//! ```
//!
//! The running epochs are asked when somebody asks here, once at a time, and one answer is for everybody who asks
//! meanwhile. Neither loop takes part. An epoch that has handed over cannot be asked any more, so a proxy passes
//! on its [last look](crate::metrics::Observed::Statistics).
//!
//! `exposition` reads the text, `merge` merges, and `kept` keeps what cannot be asked again.

mod exposition;
mod kept;
mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use handover_core::Epoch;
use handover_runtime::offload::offload;
use handover_runtime::time_limit::timeout;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::metrics::{Observed, Shared};
use exposition::Exposition;
use kept::{Kept, Shown};
use merge::Source;

/// How long the proxy may take to answer.
const LIMIT: Duration = Duration::from_secs(6);
/// For how long an answer is shown to others who ask.
const SHARED_FOR: Duration = Duration::from_millis(500);
/// How many answers may be in memory: the last one, and one that is being made. A client that reads slowly
/// holds its own.
const MOST_ANSWERS: usize = 2;
/// How long somebody waits until another answer was read.
const WAIT: Duration = Duration::from_secs(3);

/// The statistics of a running epoch.
#[derive(Clone, Debug)]
pub struct EpochStatistics {
    /// The number of the epoch.
    pub epoch: Epoch,
    /// All that it counts, in the text format of Prometheus, or why that is not known.
    pub text: Result<StatisticsText, NotScraped>,
}

/// Statistics in the text format of Prometheus.
#[derive(Clone, PartialEq, Eq)]
pub struct StatisticsText(Bytes);

impl StatisticsText {
    /// Takes a text. What is not in the format is noticed when it is merged.
    #[must_use]
    pub fn new(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for StatisticsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatisticsText({} bytes)", self.0.len())
    }
}

/// Why the statistics of an epoch are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NotScraped {
    /// Nobody took the connection, or it broke.
    Unreachable,
    /// There was no complete answer in time.
    TimedOut,
    /// The answer was a refusal.
    Refused,
    /// The answer was too large.
    TooLarge,
    /// The answer was not in the text format of Prometheus, or that of another epoch.
    Invalid,
}

impl NotScraped {
    /// Every reason, as a label.
    pub(crate) const LABELS: &'static [&'static str] = &[
        "unreachable",
        "timed_out",
        "refused",
        "too_large",
        "invalid",
    ];

    /// Returns the reason as a label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Only what has ever been counted.
    pub(crate) only_used: bool,
    /// All epochs added up, without a label for each.
    pub(crate) as_sum: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoStatistics {
    /// There are none, for this reason.
    Never(String),
    /// There are none at this moment, for this reason.
    Unknown(&'static str),
}

type Asked = Pin<Box<dyn Future<Output = Result<Vec<EpochStatistics>, String>> + Send>>;

/// The statistics of all epochs.
#[derive(Clone)]
pub(crate) struct Statistics(Arc<Inner>);

struct Inner {
    ask: Box<dyn Fn(bool) -> Asked + Send + Sync>,
    kept: Mutex<Kept>,
    metrics: Shared,
    last: tokio::sync::Mutex<Last>,
    answers: Arc<Semaphore>,
}

/// What was asked last, for those who ask soon after.
#[derive(Default)]
struct Last {
    /// The last answer, what it answers, and when it was made.
    answer: Option<(Instant, Query, Bytes)>,
    /// What the epochs have told, so that those who ask here in turns for one thing and another do not make
    /// Envoy answer without a pause.
    told: [Option<Told>; 2],
}

/// What the epochs have told, and when they were asked.
#[derive(Clone)]
struct Told {
    asked: Instant,
    made: Instant,
    answers: Arc<[EpochStatistics]>,
    /// Whether it was merged before, so that what is wrong with it was counted.
    is_counted: bool,
}

/// An answer, as long as somebody reads it.
struct Held {
    text: String,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Statistics {
    /// Asks the epochs by this function. It counts there what they did not answer.
    pub(crate) fn new(
        metrics: Shared,
        ask: impl Fn(bool) -> Asked + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            ask: Box::new(ask),
            kept: Mutex::default(),
            metrics,
            last: tokio::sync::Mutex::default(),
            answers: Arc::new(Semaphore::new(MOST_ANSWERS)),
        }))
    }

    /// Keeps the last look at an epoch, until its end and beyond. It does not block.
    pub(crate) fn observed(&self, observed: &Observed) {
        match observed {
            Observed::Statistics { epoch, text } => {
                if let Ok(StatisticsText(text)) = text {
                    self.kept().look(*epoch, Instant::now(), text.clone());
                }
            }
            Observed::Ended { epoch, .. } => {
                self.kept().ended(*epoch, Instant::now());
                self.fold();
            }
            Observed::Validated { .. } | Observed::Live { .. } => {}
        }
    }

    /// Folds what is too much, on a thread for blocking work.
    fn fold(&self) {
        let Some(work) = self.kept().work() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Nothing runs here that it could hold up.
            let fold = work.fold();
            self.kept().folded(Some(fold));
            return self.fold();
        };
        let this = self.clone();
        runtime.spawn(async move {
            let fold = offload(move || work.fold()).await;
            let done = fold.is_ok();
            this.kept().folded(fold.ok());
            // Without a thread, the next end tries again.
            if done {
                this.fold();
            }
        });
    }

    /// Returns the statistics of all epochs.
    ///
    /// # Errors
    ///
    /// When there are none, or none that would be true.
    pub(crate) async fn text(&self, query: Query) -> Result<Bytes, NoStatistics> {
        // Those who ask meanwhile wait here, and get the same.
        let mut last = self.0.last.lock().await;
        if let Some((made, known, text)) = &last.answer
            && made.elapsed() < SHARED_FOR
            && *known == query
        {
            return Ok(text.clone());
        }
        // Its place is needed.
        last.answer = None;
        let told = self.told(&mut last.told, query.only_used).await?;
        let place = Arc::clone(&self.0.answers).acquire_owned();
        let busy = NoStatistics::Unknown("too many clients still read earlier answers");
        let Ok(Ok(place)) = timeout(WAIT, place).await else {
            return Err(busy);
        };
        let this = self.clone();
        let made = told.made;
        let merged = offload(move || this.merge(query, &told, place)).await;
        let text = merged.map_err(|error| {
            tracing::warn!("the statistics could not be merged: {error}");
            NoStatistics::Unknown("the answer could not be made")
        })??;
        last.answer = Some((made, query, text.clone()));
        Ok(text)
    }

    /// Returns what the epochs tell, or have told just now.
    async fn told(
        &self,
        known: &mut [Option<Told>; 2],
        only_used: bool,
    ) -> Result<Told, NoStatistics> {
        // What is old only takes memory.
        for told in known.iter_mut() {
            told.take_if(|told| told.made.elapsed() >= SHARED_FOR);
        }
        let [all, used] = known;
        let known = if only_used { used } else { all };
        if let Some(told) = known {
            told.is_counted = true;
            return Ok(told.clone());
        }
        let asked = Instant::now();
        let answers = timeout(LIMIT, (self.0.ask)(only_used)).await;
        let late = NoStatistics::Unknown("the epochs did not answer in time");
        let answers = answers.map_err(|_| late)?.map_err(NoStatistics::Never)?;
        let told = Told {
            asked,
            made: Instant::now(),
            answers: answers.into(),
            is_counted: false,
        };
        Ok(known.insert(told).clone())
    }

    /// Makes the answer, which takes some milliseconds for each megabyte.
    fn merge(
        &self,
        query: Query,
        told: &Told,
        place: OwnedSemaphorePermit,
    ) -> Result<Bytes, NoStatistics> {
        let Told { asked, answers, .. } = told;
        let mut scraped = BTreeMap::new();
        let mut sources = Vec::new();
        for EpochStatistics { epoch, text } in answers.iter() {
            let text = text.as_ref().map_err(|error| *error);
            let text = text.and_then(|StatisticsText(bytes)| {
                Ok((bytes, read(bytes).ok_or(NotScraped::Invalid)?))
            });
            scraped.insert(*epoch, text.is_ok());
            match text {
                Ok((bytes, text)) => {
                    self.kept().look(*epoch, *asked, bytes.clone());
                    sources.push(Source {
                        epoch: *epoch,
                        is_fresh: true,
                        text,
                    });
                }
                Err(_) if told.is_counted => {}
                Err(error) => self.0.metrics.not_scraped(error),
            }
        }
        let newest = answers.iter().map(|answer| answer.epoch).max();
        let newest_is_known = newest.is_some_and(|newest| scraped.get(&newest) == Some(&true));
        if query.as_sum && !newest_is_known {
            // A sum without it would be less than before, and Prometheus would take that for a new beginning.
            return Err(NoStatistics::Unknown(
                "the newest epoch has not answered, so the sum is not known",
            ));
        }
        sources.sort_by_key(|source| std::cmp::Reverse(source.epoch));
        let mut fresh = BTreeSet::new();
        fresh.extend(sources.iter().map(|source| source.epoch));
        let Shown {
            running,
            texts,
            folds,
        } = self.kept().shown(&fresh);
        for epoch in running {
            scraped.entry(epoch).or_insert(false);
        }
        let folds = folds.into_iter().filter(|_| query.as_sum);
        let folds = folds.map(|fold| (Epoch::ZERO, fold));
        let texts: Vec<_> = texts.into_iter().chain(folds).collect();
        let kept = texts.iter().filter_map(|(epoch, text)| {
            Some(Source {
                epoch: *epoch,
                is_fresh: false,
                text: read(text)?,
            })
        });
        sources.extend(kept);
        let text = match query.as_sum {
            true => merge::as_sum(&sources),
            false => merge::by_epoch(&sources, &scraped),
        };
        Ok(Bytes::from_owner(Held {
            text,
            _place: place,
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here is left half-way by a panic.
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(bytes: &Bytes) -> Option<Exposition<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let read = Exposition::read(text);
    read.inspect_err(|error| tracing::debug!("statistics of an epoch: {error}"))
        .ok()
}

impl fmt::Debug for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statistics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
