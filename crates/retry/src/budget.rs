//! The budget: how many retries are left, and how far the series of delays is.

use core::time::Duration;

use crate::Retry;

/// The retries that are left under a [`Retry`] policy, and the place in its series of delays.
///
/// Each call takes the policy, and the budget does not keep it. So a state machine that holds both
/// has the policy once, and its budget is small. Pass the same policy to all calls. After a change
/// of the policy, [`take`](Self::take) uses its delays at once, and its number of retries from the
/// next refill on.
///
/// ```
/// use handover_retry::{Budget, Retry};
/// use std::time::Duration;
///
/// let retry = Retry::new(2, Duration::from_secs(1));
/// let mut budget = Budget::full(&retry);
/// assert_eq!(budget.take(&retry, 0), Some(Duration::from_secs(1)));
/// assert_eq!(budget.take(&retry, 0), Some(Duration::from_secs(2)));
/// assert_eq!(budget.take(&retry, 0), None);
///
/// budget.refill_after_health(&retry);
/// assert_eq!(budget.take(&retry, 0), Some(Duration::ZERO));
/// assert_eq!(budget.take(&retry, 0), Some(Duration::from_secs(1)));
/// assert_eq!(budget.take(&retry, 0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Budget {
    left: u32,
    used: u32,
    /// Whether the first retry of this series has no delay. It shifts the delays of the others by
    /// one place, so it is kept until the next refill.
    at_once: bool,
}

impl Budget {
    /// Returns a budget from which nothing has been taken.
    #[must_use]
    pub const fn full(retry: &Retry) -> Self {
        Self {
            left: retry.max_retries,
            used: 0,
            at_once: false,
        }
    }

    /// Takes one retry and returns the delay before it, or `None` if none is left. A spent budget
    /// does not change.
    ///
    /// `random` selects how much of the policy's jitter is subtracted from the delay. It has no
    /// effect if the policy has no jitter.
    #[must_use = "a retry has been spent"]
    pub fn take(&mut self, retry: &Retry, random: u64) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let delay = if self.at_once {
            self.used
                .checked_sub(1)
                .map_or(Duration::ZERO, |attempt| retry.interval(attempt))
        } else {
            retry.interval(self.used)
        };
        self.used = self.used.saturating_add(1);
        Some(retry.jitter.apply(delay, random))
    }

    /// Returns the number of retries that are left.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// Returns the number of retries that were taken since the budget was full.
    #[must_use]
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// Returns whether no retry is left.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Makes the budget full. The next delay is the policy's first. Use it after a change of the
    /// circumstances, such as a new configuration.
    pub const fn refill(&mut self, retry: &Retry) {
        *self = Self::full(retry);
    }

    /// Makes the budget full after the retried thing was healthy for the policy's `reset_after`.
    /// The next retry comes at once, because no failure precedes it, and the usual delays follow.
    /// The immediate retry counts like any other.
    pub const fn refill_after_health(&mut self, retry: &Retry) {
        *self = Self {
            at_once: true,
            ..Self::full(retry)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry::new(3, Duration::from_millis(100));

    #[test]
    fn a_policy_without_retries_is_spent_from_the_start() {
        let never = Retry::new(0, Duration::from_secs(1));
        let mut budget = Budget::full(&never);
        assert!(budget.is_spent());
        assert_eq!(budget.take(&never, 0), None);
        budget.refill_after_health(&never);
        assert_eq!(budget.take(&never, 0), None);
    }

    #[test]
    fn a_spent_budget_stays_as_it_is() {
        let mut budget = Budget::full(&RETRY);
        while budget.take(&RETRY, 0).is_some() {}
        let spent = budget;
        assert_eq!(budget.take(&RETRY, 0), None);
        assert_eq!(budget, spent);
        assert_eq!((budget.left(), budget.used()), (0, 3));
    }

    #[test]
    fn health_makes_the_first_retry_immediate_and_the_series_start_anew() {
        let mut budget = Budget::full(&RETRY);
        assert_eq!(budget.take(&RETRY, 0), Some(Duration::from_millis(100)));
        assert_eq!(budget.take(&RETRY, 0), Some(Duration::from_millis(200)));

        budget.refill_after_health(&RETRY);
        assert_eq!((budget.left(), budget.used()), (3, 0));
        assert_eq!(budget.take(&RETRY, 0), Some(Duration::ZERO));
        assert_eq!(budget.take(&RETRY, 0), Some(Duration::from_millis(100)));
        assert_eq!(budget.take(&RETRY, 0), Some(Duration::from_millis(200)));
        assert_eq!(budget.take(&RETRY, 0), None);
    }

    #[test]
    fn an_ordinary_refill_takes_the_immediate_retry_back() {
        let mut budget = Budget::full(&RETRY);
        budget.refill_after_health(&RETRY);
        budget.refill(&RETRY);
        assert_eq!(budget, Budget::full(&RETRY));
        assert_eq!(budget.take(&RETRY, 0), Some(Duration::from_millis(100)));
    }
}
