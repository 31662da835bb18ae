//! Collecting processes that others left behind.
//!
//! A process whose parent has ended is given to process 1 of its container, or to the nearest
//! ancestor that asked for such processes (a *subreaper*). There it stays as a zombie until
//! somebody collects it.

use std::fmt;
use std::io;

use handover_runtime::offload::{Offloaded, offload};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::ExitCause;
use super::registry::{self, Swept};

/// Returns whether orphans are given to this process: it is process 1, or a subreaper.
pub fn adopts_orphans() -> bool {
    std::process::id() == 1
        || rustix::process::child_subreaper().is_ok_and(|subreaper| subreaper.is_some())
}

/// Makes this process the one that its descendants' orphans are given to.
///
/// The caller must collect them as well: see [`Orphans`].
///
/// # Errors
///
/// What the operating system says.
pub fn adopt_orphans() -> io::Result<()> {
    // The number only has to be other than zero; the kernel does not look at it.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Collects orphans for as long as it is polled. It never ends by itself.
///
/// For a program that [`adopts_orphans`]. See [`Orphans`] for whose children it takes.
///
/// # Errors
///
/// If SIGCHLD cannot be watched.
///
/// # Cancel safety
///
/// Cancel safe.
pub async fn reap_orphans() -> io::Result<std::convert::Infallible> {
    let mut orphans = Orphans::new()?;
    loop {
        let orphan = orphans.next().await;
        tracing::debug!(pid = orphan.pid, cause = %orphan.cause, "collected an orphan");
    }
}

/// A stream of collected orphans.
///
/// A [`Child`](super::Child) is never mistaken for an orphan, not even if it ends at once. **Every
/// other ended child of this process is taken for one**: programs that also start processes by
/// other means, `std::process` say, lose their statuses.
pub struct Orphans {
    child_signal: Signal,
    /// A look that is under way.
    sweep: Option<Offloaded<Swept>>,
}

impl Orphans {
    /// Begins to watch for ended processes. Those that ended before are collected too.
    ///
    /// # Errors
    ///
    /// If SIGCHLD cannot be watched.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            child_signal: signal(SignalKind::child())?,
            sweep: None,
        })
    }

    /// Collects the next orphan that has ended, waiting for one if need be.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an orphan that has been collected is returned without a pause.
    pub async fn next(&mut self) -> Orphan {
        loop {
            let opened = registry::gate_opened().notified();
            tokio::pin!(opened);
            // From here on no opening is missed.
            opened.as_mut().enable();
            // One that a dropped call has left may have found the gate closed that has opened since.
            let is_new = self.sweep.is_none();
            // The kernel can take more than a second to collect a process.
            let sweep = self
                .sweep
                .get_or_insert_with(|| offload(registry::sweep_orphan));
            let swept = sweep.await;
            self.sweep = None;
            match swept.unwrap_or_else(|_| registry::sweep_orphan()) {
                Swept::Orphan(ended) => {
                    return Orphan {
                        pid: ended.pid.unsigned_abs(),
                        cause: ExitCause::of(ended),
                    };
                }
                Swept::Busy if is_new => opened.await,
                Swept::Busy => {}
                Swept::Nothing => {
                    // Signals that came since the last call are not lost, they have merged into
                    // one. The stream ends only with the runtime, which ends this task as well.
                    self.child_signal.recv().await;
                }
            }
        }
    }
}

impl fmt::Debug for Orphans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orphans").finish_non_exhaustive()
    }
}

/// A process that was collected for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphan {
    /// Its process id, which is free again.
    pub pid: u32,
    /// How it ended.
    pub cause: ExitCause,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_collects_orphans_is_shown_by_its_name() {
        let orphans = Orphans::new().unwrap();
        assert_eq!(format!("{orphans:?}"), "Orphans { .. }");
    }
}
