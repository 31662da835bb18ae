//! The policy: how often, and how late, to try again.

use core::time::Duration;

use crate::{Delays, Jitter, span::from_nanos};

/// When to try again, and how often. Plain data: every value of every field is valid.
///
/// The delay before retry `k`, counted from 0, is `initial_interval * 2^k`, at most
/// `max_interval`, shortened by `jitter`.
///
/// ```
/// use handover_retry::Retry;
/// use std::time::Duration;
///
/// let patient = Retry {
///     max_retries: 100,
///     max_interval: Some(Duration::from_secs(30)),
///     ..Retry::default()
/// };
/// assert_eq!(patient.interval(0), Duration::from_millis(200));
/// assert_eq!(patient.interval(99), Duration::from_secs(30));
/// ```
#[doc(alias = "DefaultRetry")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    /// How many retries there are before the caller gives up; with 0 the first failure is final.
    #[doc(alias = "MaxRetries")]
    pub max_retries: u32,
    /// The delay before the first retry. Each further one is twice as long as the one before.
    #[doc(alias = "InitialInterval")]
    pub initial_interval: Duration,
    /// The longest delay. Without it the delays double up to [`Duration::MAX`].
    pub max_interval: Option<Duration>,
    /// How long the thing that is retried must have been healthy for its past failures to be
    /// forgotten. Without it they are remembered until the caller refills the budget for another
    /// reason. The caller measures this time, and then calls [`Budget::refill_after_health`].
    ///
    /// [`Budget::refill_after_health`]: crate::Budget::refill_after_health
    pub reset_after: Option<Duration>,
    /// By how much a random number may shorten each delay.
    pub jitter: Jitter,
}

impl Retry {
    /// Ten retries, the first after 200 ms, no cap, no jitter, failures are not forgotten: what
    /// the agent that Handover re-implements does. The same as [`Retry::default`], as a constant.
    pub const DEFAULT: Self = Self::new(10, Duration::from_millis(200));

    /// A policy with this budget and first delay, and otherwise as [`Retry::DEFAULT`].
    #[must_use]
    pub const fn new(max_retries: u32, initial_interval: Duration) -> Self {
        Self {
            max_retries,
            initial_interval,
            max_interval: None,
            reset_after: None,
            jitter: Jitter::NONE,
        }
    }

    /// The same policy with this longest delay.
    #[must_use]
    pub const fn with_max_interval(mut self, longest: Duration) -> Self {
        self.max_interval = Some(longest);
        self
    }

    /// The same policy, forgetting failures after this time in health.
    #[must_use]
    pub const fn with_reset_after(mut self, healthy: Duration) -> Self {
        self.reset_after = Some(healthy);
        self
    }

    /// The same policy with this jitter.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The delay before retry `attempt`, counted from 0, without jitter.
    ///
    /// This is `initial_interval * 2^attempt`, capped by `max_interval` where set, and
    /// [`Duration::MAX`] where the product is longer than that. It is the same for every attempt
    /// number, within the budget or beyond it.
    #[must_use]
    pub fn interval(&self, attempt: u32) -> Duration {
        let factor = 1_u128.checked_shl(attempt).unwrap_or(u128::MAX);
        let interval = from_nanos(self.initial_interval.as_nanos().saturating_mul(factor));
        self.max_interval
            .map_or(interval, |longest| interval.min(longest))
    }

    /// The delays of this policy one after the other, jitter taken from a stream that starts with
    /// `seed`. Without jitter the seed has no effect.
    pub const fn delays(self, seed: u64) -> Delays {
        Delays::new(self, seed)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_ten_retries_from_200_ms_and_nothing_else() {
        let expected = Retry {
            max_retries: 10,
            initial_interval: Duration::from_millis(200),
            max_interval: None,
            reset_after: None,
            jitter: Jitter::NONE,
        };
        assert_eq!(Retry::default(), expected);
    }

    #[test]
    fn the_default_delays_double_from_200_ms_to_102_4_s() {
        let expected = [
            200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400,
        ];
        for (attempt, millis) in (0..).zip(expected) {
            assert_eq!(
                Retry::DEFAULT.interval(attempt),
                Duration::from_millis(millis)
            );
        }
        assert!(
            Retry::DEFAULT
                .delays(7)
                .eq(expected.map(Duration::from_millis))
        );
    }

    #[test]
    fn a_cap_holds_the_delays_from_where_they_reach_it() {
        let capped =
            Retry::new(5, Duration::from_secs(1)).with_max_interval(Duration::from_secs(3));
        assert!(
            capped
                .delays(0)
                .eq([1, 2, 3, 3, 3].map(Duration::from_secs))
        );
    }

    #[test]
    fn a_cap_below_the_first_delay_holds_it_too() {
        let capped = Retry::DEFAULT.with_max_interval(Duration::from_millis(50));
        assert_eq!(capped.interval(0), Duration::from_millis(50));
    }

    #[test]
    fn the_product_saturates_where_a_duration_ends() {
        let second = Retry::new(1, Duration::from_secs(1));
        assert_eq!(second.interval(63), Duration::from_secs(1 << 63));
        assert_eq!(second.interval(64), Duration::MAX);
        assert_eq!(second.interval(127), Duration::MAX);
        assert_eq!(second.interval(128), Duration::MAX);
        assert_eq!(second.interval(u32::MAX), Duration::MAX);
        assert_eq!(Retry::new(1, Duration::MAX).interval(1), Duration::MAX);
    }

    #[test]
    fn no_interval_stays_no_interval() {
        assert_eq!(
            Retry::new(1, Duration::ZERO).interval(u32::MAX),
            Duration::ZERO
        );
    }
}
