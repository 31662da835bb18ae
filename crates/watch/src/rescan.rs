//! Looking again without an event.

use std::time::Duration;

use tokio::time::Instant;

use super::gap::Gap;

/// When the files are looked at although the kernel has reported nothing.
///
/// A look opens every file and compares its device, inode, size and times; only a file in which
/// they differ is read. A look costs a wake-up, so there is none without a reason by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescan {
    /// Never.
    Never,
    /// In this interval, for as long as there is a [`Gap`] that this makes up for.
    InGaps(Duration),
    /// In this interval, always. Every file is read then, because a write through a memory map is
    /// not reported and on some file systems leaves the times as they are.
    Always(Duration),
}

/// Every ten seconds while there is a [`Gap`].
impl Default for Rescan {
    fn default() -> Self {
        Self::InGaps(Duration::from_secs(10))
    }
}

/// No shorter interval is kept, so that the time between two looks is not all spent on looking.
const SHORTEST: Duration = Duration::from_millis(10);

impl Rescan {
    /// The interval that counts while there are these gaps.
    pub(super) fn interval(self, gaps: &[Gap]) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::InGaps(interval) => {
                let found = gaps.iter().any(Gap::is_found_by_looking);
                found.then_some(interval.max(SHORTEST))
            }
            Self::Always(interval) => Some(interval.max(SHORTEST)),
        }
    }

    /// When the next look is due after one at this moment; never if that is too far away.
    pub(super) fn next(self, looked: Instant, gaps: &[Gap]) -> Option<Instant> {
        looked.checked_add(self.interval(gaps)?)
    }

    pub(super) fn reads_everything(self) -> bool {
        matches!(self, Self::Always(_))
    }
}

#[cfg(test)]
mod tests {
    use super::super::gap::GapCause;
    use super::*;

    fn gap(why: GapCause) -> [Gap; 1] {
        let (path, others) = (None, 0);
        [Gap { path, others, why }]
    }

    #[tokio::test]
    async fn without_a_gap_there_is_no_wake_up() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let file_system = "NFS";
        let silent = gap(GapCause::NoEvents { file_system });
        // What is beyond a limit is not looked at either.
        let beyond = gap(GapCause::TooManyFiles);
        let in_gaps = Rescan::InGaps(second);
        assert_eq!(in_gaps.next(now, &[]), None);
        assert_eq!(in_gaps.next(now, &beyond), None);
        assert_eq!(in_gaps.next(now, &silent), Some(now + second));
        assert_eq!(Rescan::Never.next(now, &silent), None);
        assert_eq!(Rescan::Always(second).next(now, &[]), Some(now + second));
    }

    #[tokio::test]
    async fn no_interval_is_too_short_or_too_long() {
        let now = Instant::now();
        assert_eq!(
            Rescan::Always(Duration::ZERO).next(now, &[]),
            Some(now + SHORTEST)
        );
        assert_eq!(Rescan::Always(Duration::MAX).next(now, &[]), None);
    }

    #[test]
    fn every_file_is_read_where_the_files_are_always_looked_at() {
        let second = Duration::from_secs(1);
        let each = [
            Rescan::Never,
            Rescan::InGaps(second),
            Rescan::Always(second),
        ];
        assert_eq!(each.map(Rescan::reads_everything), [false, false, true]);
    }
}
