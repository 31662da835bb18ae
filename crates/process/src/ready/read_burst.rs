//! A brake for a reader whose other side never stops to write.
//!
//! A socket that is never empty is always ready, so a reader's task would never let another one
//! run. The reader pauses after a while. That fills the queue, and the writer waits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How many reads in a row are no reason to pause.
const LONG: u32 = 64;
/// How long the pause is. With it, a flood costs some thousand reads a second.
const PAUSE: Duration = Duration::from_millis(5);

/// Counts reads that found something, since one last found nothing.
#[derive(Debug, Default)]
pub(super) struct ReadBurst(AtomicU32);

impl ReadBurst {
    /// Waits a moment if many reads in a row have found something.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the pause begins again with the next call.
    pub(super) async fn pause_if_long(&self) {
        if self.0.load(Ordering::Relaxed) >= LONG {
            tokio::time::sleep(PAUSE).await;
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// Notes whether a read has found something.
    pub(super) fn note(&self, found: bool) {
        if found {
            self.0.fetch_add(1, Ordering::Relaxed);
        } else {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}
