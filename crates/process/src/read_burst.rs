//! A brake for a reader whose other side never stops to write.
//!
//! What is never empty is always ready, so a reader's task would never let another one run. To give its
//! turn away would not do: a runtime with one thread polls its main future once in some dozens of
//! turns. The reader pauses after a while. That fills the queue, and the writer waits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Counts reads that found something, since one last found nothing.
#[derive(Debug)]
pub(crate) struct ReadBurst {
    found: AtomicU32,
    most: u32,
    pause: Duration,
}

impl ReadBurst {
    /// Returns a brake for short messages. With it, a flood costs some thousand reads a second.
    pub(crate) const fn of_messages() -> Self {
        Self::new(64, Duration::from_millis(5))
    }

    /// Returns a brake for the output of a program, of which a read brings up to 8 KiB. The shortest lines
    /// take tens of milliseconds between two pauses, and long ones pass at some 50 MB a second.
    pub(crate) const fn of_output() -> Self {
        Self::new(8, Duration::from_millis(1))
    }

    const fn new(most: u32, pause: Duration) -> Self {
        Self {
            found: AtomicU32::new(0),
            most,
            pause,
        }
    }

    /// Waits a moment if many reads in a row have found something.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the pause begins again with the next call.
    pub(crate) async fn pause_if_long(&self) {
        if self.found.load(Ordering::Relaxed) >= self.most {
            tokio::time::sleep(self.pause).await;
            self.found.store(0, Ordering::Relaxed);
        }
    }

    /// Notes whether a read has found something.
    pub(crate) fn note(&self, found: bool) {
        if found {
            self.found.fetch_add(1, Ordering::Relaxed);
        } else {
            self.found.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_comes_after_so_many_reads_in_a_row_that_found_something() {
        let burst = ReadBurst::new(2, Duration::from_secs(1));
        let begun = Instant::now();
        let mut paused = Vec::new();
        for found in [true, false, true, true, true, true] {
            burst.note(found);
            burst.pause_if_long().await;
            paused.push(begun.elapsed().as_secs());
        }
        assert_eq!(paused, [0, 0, 0, 1, 1, 2]);
    }
}
