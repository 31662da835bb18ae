//! The machine's notion of time.

use core::fmt;
use core::time::Duration;

/// How long a deadline that was missed is put off, so that the world can be looked at first.
///
/// A driver that handles a deadline later than this after its moment was not running meanwhile: it
/// was stopped by a signal, paused with its container, or starved. What happened in that time has
/// not been told to the machine yet, so a passed deadline proves nothing. An epoch may have long
/// been live, or have exited. The machine then puts every deadline that has passed off by this span,
/// once. What is said meanwhile counts as if it had been said in time.
///
/// One second is far more than a busy driver is late, and enough to ask every epoch.
pub const LOOK_AROUND: Duration = Duration::from_secs(1);

/// A moment, as the time since the driver's start.
///
/// A driver takes one monotonic reading when it starts and passes the time that has gone by since
/// then. Unlike an operating system's instant, a timestamp can be built in a test, compared in a
/// snapshot, hashed by a model checker and written to a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The driver's start.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment `elapsed` after the driver's start.
    #[must_use]
    pub const fn new(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The moment `millis` milliseconds after the driver's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The time since the driver's start.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// The moment `span` later; one that does not fit is the last moment that does.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// The time that has gone by since `earlier`; zero when `earlier` is later.
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
