//! How many requests have failed, before a hand-over and since.

use alloc::collections::VecDeque;
use core::fmt;
use core::time::Duration;

use handover_core::Timestamp;

use super::evidence::{ErrorRise, INTERVAL, Totals, percent};

/// So many requests there must be on both sides. Of fewer, a single one weighs too much.
const LEAST: u64 = 100;
/// So many samples cover the length of a probation at most.
const SAMPLES: u32 = 60;

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) totals: Totals,
}

/// The counters of the last time, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Requests(VecDeque<Sample>);

/// The requests before a hand-over and since, and the time that each count has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Compared {
    before: (Totals, Duration),
    since: (Totals, Duration),
}

/// Returns how far apart the samples are.
pub(super) fn spacing(probation: Duration) -> Duration {
    INTERVAL.max(probation.checked_div(SAMPLES).unwrap_or_default())
}

impl Requests {
    /// Adds a sample, and drops those that are not needed for a probation of this length: at its end, the
    /// same time before it is compared.
    pub(super) fn add(&mut self, sample: Sample, probation: Duration) {
        if let Some(last) = self.last() {
            if difference(last.totals, sample.totals).is_none() {
                // They have begun anew, as after a cold restart.
                self.0.clear();
            }
            let apart = spacing(probation).checked_div(2).unwrap_or_default();
            if !self.0.is_empty() && sample.at < last.at.after(apart) {
                return;
            }
        }
        self.0.push_back(sample);
        // One sample stays that is older than both times.
        let both = probation.saturating_mul(2);
        let is_needed = |second: &Sample| second.at.after(both) > sample.at;
        while self.0.len() > 2 && !self.0.get(1).is_some_and(is_needed) {
            self.0.pop_front();
        }
    }

    pub(super) fn last(&self) -> Option<Sample> {
        self.0.back().copied()
    }

    /// Compares what has come since `live` with what came in the same time before, or as much of it
    /// as is known.
    pub(super) fn compare(&self, live: Sample, present: Sample) -> Option<Compared> {
        let span = present.at.elapsed().checked_sub(live.at.elapsed())?;
        let mut older = self.0.iter().rev().filter(|sample| sample.at < live.at);
        let oldest = self.0.front().filter(|sample| sample.at < live.at)?;
        let begin = older
            .find(|sample| sample.at.after(span) <= live.at)
            .unwrap_or(oldest);
        let length = live.at.elapsed().checked_sub(begin.at.elapsed())?;
        let compared = Compared {
            before: (difference(begin.totals, live.totals)?, length),
            since: (difference(live.totals, present.totals)?, span),
        };
        let is_enough = compared.before.0.all >= LEAST && compared.since.0.all >= LEAST;
        is_enough.then_some(compared)
    }
}

impl Compared {
    pub(super) fn has_risen_by_more_than(&self, allowed: ErrorRise) -> bool {
        let wide = |number: u64| u128::from(number);
        let ((before, _), (since, _)) = (self.before, self.since);
        // The three shares, each multiplied by both numbers of requests.
        let now = wide(since.failed).saturating_mul(wide(before.all));
        let then = wide(before.failed).saturating_mul(wide(since.all));
        let all = wide(since.all).saturating_mul(wide(before.all));
        let allowed = all.saturating_mul(u128::from(allowed.hundredths()));
        now.saturating_sub(then).saturating_mul(10_000) > allowed
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (since, seconds) = self.since;
        write!(
            f,
            "{} of {} requests ({}) have failed in the {:?} since it is live",
            since.failed,
            since.all,
            share(since),
            whole(seconds)
        )?;
        let (before, seconds) = self.before;
        write!(
            f,
            ", and {} of {} ({}) in the {:?} before",
            before.failed,
            before.all,
            share(before),
            whole(seconds)
        )
    }
}

/// The growth of both counts; `None` if one has fallen, or if more have failed than there were.
fn difference(before: Totals, after: Totals) -> Option<Totals> {
    let all = after.all.checked_sub(before.all)?;
    let failed = after.failed.checked_sub(before.failed)?;
    (failed <= all).then_some(Totals { all, failed })
}

fn share(totals: Totals) -> String {
    let parts = u128::from(totals.failed).saturating_mul(10_000);
    let share = parts.checked_div(u128::from(totals.all));
    percent(share.map_or(0, |share| u64::try_from(share).unwrap_or(u64::MAX)))
}

/// A time for people, in whole seconds and at least one.
fn whole(span: Duration) -> Duration {
    let rounded = span.saturating_add(Duration::from_millis(500));
    Duration::from_secs(rounded.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, all: u64, failed: u64) -> Sample {
        Sample {
            at: Timestamp::new(Duration::from_secs(seconds)),
            totals: Totals { all, failed },
        }
    }

    const PROBATION: Duration = Duration::from_secs(10);

    fn counted(samples: impl IntoIterator<Item = Sample>) -> Requests {
        let mut requests = Requests::default();
        for sample in samples {
            requests.add(sample, PROBATION);
        }
        requests
    }

    #[test]
    fn what_has_come_since_is_compared_with_the_same_time_before() {
        let requests = counted((0..=20).map(|second| sample(second, second * 100, second)));
        let compared = requests
            .compare(sample(20, 2000, 20), sample(23, 2600, 140))
            .unwrap();
        assert_eq!(
            compared.to_string(),
            "120 of 600 requests (20%) have failed in the 3s since it is live, and 3 of 300 (1%) in the \
             3s before"
        );
        let risen = |hundredths| {
            compared.has_risen_by_more_than(ErrorRise::from_hundredths(hundredths).unwrap())
        };
        assert!(risen(1899));
        assert!(!risen(1900));
    }

    #[test]
    fn as_much_of_the_time_before_counts_as_is_known() {
        let requests = counted([sample(8, 0, 0), sample(10, 200, 2)]);
        let compared = requests
            .compare(sample(10, 200, 2), sample(18, 400, 2))
            .unwrap();
        assert!(
            compared
                .to_string()
                .ends_with("and 2 of 200 (1%) in the 2s before"),
            "{compared}"
        );
    }

    #[test]
    fn a_sample_of_the_moment_of_going_live_is_none_of_the_time_before() {
        let requests = counted([sample(10, 0, 0)]);
        let (live, present) = (sample(10, 200, 0), sample(18, 400, 0));
        assert!(requests.compare(live, present).is_none());
    }

    #[test]
    fn a_hundred_requests_on_each_side_are_enough_and_fewer_are_not() {
        let compare = |before: u64, since: u64| {
            let requests = counted([sample(0, 0, 0), sample(10, before, 0)]);
            let live = sample(10, before, 0);
            requests.compare(live, sample(20, before + since, since))
        };
        assert!(compare(100, 100).is_some());
        assert_eq!(compare(99, 100), None);
        assert_eq!(compare(100, 99), None);
    }

    #[test]
    fn counters_that_begin_anew_prove_nothing() {
        let requests = counted([sample(0, 0, 0), sample(10, 500, 0)]);
        assert_eq!(
            requests.compare(sample(10, 500, 0), sample(20, 400, 0)),
            None
        );
        // What is older than a restart is forgotten.
        let requests = counted([sample(0, 500, 0), sample(10, 50, 0)]);
        assert_eq!(
            requests.compare(sample(10, 50, 0), sample(20, 950, 0)),
            None
        );
    }

    #[test]
    fn more_failures_than_requests_prove_nothing() {
        let requests = counted([sample(0, 0, 0), sample(10, 500, 0)]);
        assert_eq!(
            requests.compare(sample(10, 500, 0), sample(20, 700, 300)),
            None
        );
    }

    #[test]
    fn the_memory_is_bounded_and_reaches_over_two_probations() {
        let requests = counted((0..1000).map(|second| sample(second, second, 0)));
        assert!(requests.0.len() <= 22, "{}", requests.0.len());
        assert!(requests.0.front().unwrap().at.after(2 * PROBATION) <= requests.last().unwrap().at);
        let hour = Duration::from_secs(3600);
        let mut requests = Requests::default();
        for second in 0..100_000 {
            requests.add(sample(second, second, 0), hour);
        }
        assert!(requests.0.len() <= 242, "{}", requests.0.len());
    }

    #[test]
    fn samples_are_apart_and_one_is_older_than_both_times() {
        let at = |millis| Sample {
            at: Timestamp::from_millis(millis),
            ..sample(0, 0, 0)
        };
        assert_eq!(counted([at(0), at(499)]).0.len(), 1);
        assert_eq!(counted([at(0), at(499), at(500)]).0.len(), 2);
        let requests = counted((0..4).map(|ten| sample(ten * 10, ten, 0)));
        assert_eq!(requests.0.front(), Some(&sample(10, 1, 0)));
        // Two stay, however short the probation is.
        let mut requests = Requests::default();
        for second in [0, 10] {
            requests.add(sample(second, 0, 0), Duration::ZERO);
        }
        assert_eq!(requests.0.len(), 2);
    }

    #[test]
    fn what_came_at_the_very_moment_is_compared_with_the_time_before() {
        let requests = counted([sample(0, 0, 0), sample(5, 200, 0)]);
        let compared = requests.compare(sample(5, 200, 0), sample(5, 400, 0));
        assert!(compared.is_some());
    }

    #[test]
    fn shares_are_told_in_percent() {
        let told = |hundredths| percent(hundredths);
        assert_eq!(told(0), "0%");
        assert_eq!(told(5), "0.05%");
        assert_eq!(told(720), "7.2%");
        assert_eq!(told(10_000), "100%");
    }
}
