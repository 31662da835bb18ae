//! Durations as whole nanoseconds, wide enough that no product of this crate overflows.

use core::time::Duration;

const NANOS_PER_SEC: u128 = 1_000_000_000;

/// The duration of `nanos` nanoseconds, or [`Duration::MAX`] where that is shorter.
pub(crate) fn from_nanos(nanos: u128) -> Duration {
    let Ok(secs) = u64::try_from(nanos / NANOS_PER_SEC) else {
        return Duration::MAX;
    };
    // A remainder below 10^9 always fits, so the other branch is never taken.
    let subsec = u32::try_from(nanos % NANOS_PER_SEC).unwrap_or(0);
    Duration::new(secs, subsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_survive_the_way_there_and_back() {
        for duration in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_nanos(999_999_999),
            Duration::from_secs(1),
            Duration::from_millis(102_400),
            Duration::MAX,
        ] {
            assert_eq!(from_nanos(duration.as_nanos()), duration);
        }
    }

    #[test]
    fn more_nanoseconds_than_a_duration_holds_saturate() {
        assert_eq!(from_nanos(Duration::MAX.as_nanos() + 1), Duration::MAX);
        assert_eq!(from_nanos(u128::MAX), Duration::MAX);
    }
}
