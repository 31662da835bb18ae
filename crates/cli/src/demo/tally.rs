//! What became of each request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many failures are kept with their reasons.
const FAILURES: usize = 20;

/// How a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Over a connection of its own.
    New,
    /// Over a connection that is kept for many.
    Kept,
    /// Over a connection of its own, and it takes its time.
    Slow,
}

/// Counts requests; shared between the clients and those who look.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

/// The counts at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kinds: BTreeMap<Kind, KindCounts>,
    /// Who has answered, as the answers say it.
    pub(crate) answered_by: BTreeSet<String>,
    /// The first failures, in words.
    pub(crate) failures: Vec<String>,
}

/// The counts of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct KindCounts {
    pub(crate) failed: usize,
    /// How long each answered request took.
    pub(crate) times: Vec<Duration>,
}

/// Just the sums, for those who look often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) requests: usize,
    pub(crate) failed: usize,
}

impl Tally {
    /// A request was answered by this epoch.
    pub(crate) fn answered(&self, kind: Kind, time: Duration, by: Option<&str>) {
        let mut counts = self.lock();
        counts.kinds.entry(kind).or_default().times.push(time);
        if let Some(by) = by
            && !counts.answered_by.contains(by)
        {
            counts.answered_by.insert(by.to_owned());
        }
    }

    /// A request was lost.
    pub(crate) fn failed(&self, kind: Kind, why: String) {
        let mut counts = self.lock();
        counts.kinds.entry(kind).or_default().failed += 1;
        if counts.failures.len() < FAILURES {
            counts.failures.push(why);
        }
    }

    pub(crate) fn sums(&self) -> Sums {
        self.lock().sums()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    pub(crate) fn sums(&self) -> Sums {
        let failed = self.kinds.values().map(|kind| kind.failed).sum();
        let answered: usize = self.kinds.values().map(|kind| kind.times.len()).sum();
        Sums {
            requests: answered + failed,
            failed,
        }
    }
}
