//! When it is told what holds a drain.

use std::time::{Duration, Instant};

/// How long connections may hold a drain before they are reported: 1 s. They are reported again each
/// time that the drain has taken twice as long.
const FIRST: Duration = Duration::from_secs(1);

/// The moments at which what holds a drain is reported.
#[derive(Debug)]
pub(crate) struct Reports {
    start: Instant,
    next: Instant,
}

impl Reports {
    /// Begins with a drain that began at `start`, in which what holds it is looked at from `now` on.
    pub(crate) fn new(start: Instant, now: Instant) -> Self {
        let next = now + FIRST;
        Self { start, next }
    }

    /// Returns whether what holds it `now` is to be reported. The next report is due when the drain has taken twice as
    /// long.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next += self.next.saturating_duration_since(self.start);
        }
        is_due
    }
}
