//! The owned sequence of delays, and its face towards the `backoff` crate.

use core::{iter::FusedIterator, time::Duration};

use crate::{Budget, Retry, SplitMix64};

/// The delays of a [`Retry`] policy, in order. The iterator ends when the budget is spent, and
/// continues after a refill.
///
/// The iterator does not sleep. The caller sleeps for each delay, and drops the iterator after a
/// success. The crate's documentation has the loop.
///
/// ```
/// use handover_retry::Retry;
///
/// let mut delays = Retry::default().delays(42);
/// assert_eq!(delays.by_ref().count(), 10);
/// delays.refill();
/// assert_eq!(delays.budget().left(), 10);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "a sequence does nothing until a delay is taken from it"]
pub struct Delays {
    retry: Retry,
    budget: Budget,
    mixer: SplitMix64,
}

impl Delays {
    pub(crate) const fn new(retry: Retry, seed: u64) -> Self {
        Self {
            retry,
            budget: Budget::full(&retry),
            mixer: SplitMix64::new(seed),
        }
    }

    /// Returns the policy of the delays.
    #[must_use]
    pub const fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Returns the rest of the budget.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// Starts the series again with a full budget. The random numbers for the jitter continue, so
    /// two series of one iterator have different jitter.
    pub const fn refill(&mut self) {
        self.budget.refill(&self.retry);
    }

    /// Starts the series again with a full budget and a first delay of zero; see
    /// [`Budget::refill_after_health`].
    pub const fn refill_after_health(&mut self) {
        self.budget.refill_after_health(&self.retry);
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.budget.is_spent() {
            return None;
        }
        self.budget.take(&self.retry, self.mixer.next_u64())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.budget.left());
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

impl FusedIterator for Delays {}

/// `next_backoff` is the next delay, `reset` is [`Delays::refill`].
#[cfg(feature = "backoff")]
impl backoff::backoff::Backoff for Delays {
    fn reset(&mut self) {
        self.refill();
    }

    fn next_backoff(&mut self) -> Option<Duration> {
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Jitter;
    use std::vec::Vec;

    #[test]
    fn the_same_seed_gives_the_same_delays_and_another_seed_others() {
        let retry = Retry::default().with_jitter(Jitter::percent(50));
        let delays = |seed| retry.delays(seed).collect::<Vec<_>>();
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }

    #[test]
    fn a_refilled_series_has_jitter_of_its_own() {
        let mut delays = Retry::default().with_jitter(Jitter::percent(50)).delays(1);
        let first: Vec<_> = delays.by_ref().collect();
        delays.refill();
        let second: Vec<_> = delays.collect();
        assert_eq!(first.len(), second.len());
        assert_ne!(first, second);
    }

    #[test]
    fn after_health_the_series_starts_at_once() {
        let mut delays = Retry::new(2, Duration::from_secs(1)).delays(0);
        assert_eq!(delays.by_ref().count(), 2);
        delays.refill_after_health();
        assert!(delays.eq([Duration::ZERO, Duration::from_secs(1)]));
    }

    #[cfg(feature = "backoff")]
    #[test]
    fn the_backoff_trait_gives_the_delays_and_its_reset_refills() {
        use backoff::backoff::Backoff;

        let retry = Retry::new(2, Duration::from_secs(1));
        let mut delays = retry.delays(0);
        for _ in 0..2 {
            assert_eq!(delays.next_backoff(), Some(Duration::from_secs(1)));
            assert_eq!(delays.next_backoff(), Some(Duration::from_secs(2)));
            assert_eq!(delays.next_backoff(), None);
            assert_eq!(delays.next_backoff(), None);
            delays.reset();
        }
    }
}
