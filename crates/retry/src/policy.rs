//! The policy: the number of retries, and their delays.

use core::time::Duration;

use crate::{Delays, Jitter, span::from_nanos};

/// The number of retries and their delays, as plain data. Every value of every field is valid.
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Retry {
    /// The number of retries before the caller gives up. With 0 the first failure is final.
    #[doc(alias = "MaxRetries")]
    pub max_retries: u32,
    /// The delay before the first retry. Each further one is twice as long as the one before.
    #[doc(alias = "InitialInterval")]
    pub initial_interval: Duration,
    /// The longest delay. With `None` the delays double up to [`Duration::MAX`].
    pub max_interval: Option<Duration>,
    /// The time that the retried thing must be healthy so that its past failures are forgotten.
    /// With `None` they are remembered until the caller refills the budget for another reason. The
    /// caller measures this time, and then calls [`Budget::refill_after_health`].
    ///
    /// [`Budget::refill_after_health`]: crate::Budget::refill_after_health
    pub reset_after: Option<Duration>,
    /// The share of each delay that a random number may subtract.
    pub jitter: Jitter,
}

impl Retry {
    /// Ten retries, the first after 200 ms, no longest delay, no jitter, and failures are never
    /// forgotten. The agent that Handover re-implements behaves so. It is [`Retry::default`] as a
    /// constant.
    pub const DEFAULT: Self = Self::new(10, Duration::from_millis(200));

    /// Returns a policy with this number of retries and this first delay. The rest is as in
    /// [`Retry::DEFAULT`].
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

    /// Returns the policy with this longest delay.
    #[must_use]
    pub const fn with_max_interval(mut self, longest: Duration) -> Self {
        self.max_interval = Some(longest);
        self
    }

    /// Returns the policy with this time of health after which failures are forgotten.
    #[must_use]
    pub const fn with_reset_after(mut self, healthy: Duration) -> Self {
        self.reset_after = Some(healthy);
        self
    }

    /// Returns the policy with this jitter.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns the delay before retry `attempt`, counted from 0, without jitter.
    ///
    /// The delay is `initial_interval * 2^attempt`, limited by `max_interval` if it is set, and by
    /// [`Duration::MAX`]. The number may be beyond the budget.
    #[must_use]
    pub fn interval(&self, attempt: u32) -> Duration {
        let factor = 1_u128.checked_shl(attempt).unwrap_or(u128::MAX);
        let interval = from_nanos(self.initial_interval.as_nanos().saturating_mul(factor));
        self.max_interval
            .map_or(interval, |longest| interval.min(longest))
    }

    /// Returns the delays of this policy in order. The jitter comes from a stream that starts with
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
