//! The machine's notion of time.

use core::fmt;
use core::time::Duration;

/// The longest delay with which a running driver handles a deadline.
///
/// A driver that is later was stopped by a signal, paused with its container, or starved. The
/// machine does not know yet what happened in that time, so a passed deadline proves nothing. The
/// epoch may be live, or have exited. So everything that is due is postponed by [`LOOK_AROUND`]. A
/// busy driver that is this late loses nothing by that.
pub const LATE: Duration = Duration::from_millis(100);

/// The time by which missed deadlines are postponed, so that the driver can report what happened.
///
/// A report in that time counts as if it had come in time. A postponed deadline is handled at its
/// new time, however late the driver is then. One second is enough to ask every epoch, and to
/// notice every exit.
pub const LOOK_AROUND: Duration = Duration::from_secs(1);

/// A moment, as the time since the driver's start.
///
/// A driver reads a monotonic clock when it starts, and passes the time since then. Unlike an
/// operating system's instant, a timestamp can be built in a test, compared in a snapshot, hashed
/// by a model checker and written to a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The start of the driver.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Returns the moment `elapsed` after the driver's start.
    #[must_use]
    pub const fn new(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Returns the moment `millis` milliseconds after the driver's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Returns the time since the driver's start.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// Returns the moment `span` later, or the last possible moment if that overflows.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// Returns the time since `earlier`, or zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Written as the time since the driver's start, for example `1.5s`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            f.write_str("0s")
        } else {
            fmt::Debug::fmt(&self.0, f)
        }
    }
}
