//! Jitter: a random shortening of delays, so that many agents do not retry in step.

use core::time::Duration;

use crate::span::from_nanos;

/// The largest share of a delay, in percent, that a random number may subtract.
///
/// Jitter only shortens delays. So the longest delay and the total of a [`Retry`](crate::Retry)
/// remain upper bounds with any jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Jitter(u8);

impl Jitter {
    /// No jitter: every delay stays as it is. This is the default.
    pub const NONE: Self = Self(0);

    /// Returns a jitter of at most `percent` of each delay. Values above 100 count as 100; then a
    /// delay can have any length from zero to its full one.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        Self(if percent > 100 { 100 } else { percent })
    }

    /// Returns the share in percent, from 0 to 100.
    #[must_use]
    pub const fn as_percent(self) -> u8 {
        self.0
    }

    /// Returns `delay`, shortened by a part of the share. `random` selects the part: nothing at 0,
    /// the whole share at [`u64::MAX`], and evenly between.
    ///
    /// ```
    /// use handover_retry::Jitter;
    /// use std::time::Duration;
    ///
    /// let second = Duration::from_secs(1);
    /// let fifth = Jitter::percent(20);
    /// assert_eq!(fifth.apply(second, 0), second);
    /// assert_eq!(fifth.apply(second, u64::MAX), Duration::from_millis(800));
    /// assert_eq!(Jitter::NONE.apply(second, u64::MAX), second);
    /// ```
    #[must_use]
    pub fn apply(self, delay: Duration, random: u64) -> Duration {
        // The longest `Duration` has fewer than 94 bits of nanoseconds. Times 100, or times the
        // 32 bits of the random number that are used, it stays below the 128 bits at hand, so
        // neither product saturates.
        const WHOLE: u128 = u32::MAX as u128;
        let share = delay.as_nanos().saturating_mul(u128::from(self.0)) / 100;
        let cut = share.saturating_mul(u128::from(random >> 32)) / WHOLE;
        delay.saturating_sub(from_nanos(cut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_above_the_whole_is_the_whole() {
        assert_eq!(Jitter::percent(101), Jitter::percent(100));
        assert_eq!(Jitter::percent(u8::MAX).as_percent(), 100);
        assert_eq!(
            Jitter::percent(100).apply(Duration::MAX, u64::MAX),
            Duration::ZERO
        );
    }

    #[test]
    fn the_middle_of_the_numbers_takes_half_of_the_share() {
        let shortened = Jitter::percent(50).apply(Duration::from_secs(100), u64::MAX / 2);
        let expected = Duration::from_secs(75);
        assert!(
            shortened.abs_diff(expected) < Duration::from_millis(1),
            "{shortened:?}"
        );
    }
}
