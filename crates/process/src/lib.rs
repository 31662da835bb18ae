//! Child processes for supervisors: started in their own group, ended with the supervisor, heard to
//! the last line.
//!
//! It starts a program, forwards its output, signals it, and tells how it ended. It decides
//! nothing: when to start, when to stop and what counts as live are the caller's business. It is
//! for Linux from 5.4 on, because it watches and signals children by process descriptor.
//!
//! Start with [`Command`]; it gives a [`Child`], which ends with an [`ExitCause`]. [`ready`] tells
//! when a program serves; [`Orphans`] is for a supervisor that runs as process 1.
//!
//! # The life of a child
//!
//! ```text
//!   Command ── lookup ──> SpawnError                     nothing was started
//!      │
//!      │ the spawner thread: one, for as long as the process lives
//!      v
//!   clone ── group, death signal, descriptors ── execve ──> SpawnError    collected, nothing left
//!      │
//!      v
//!   running ─────────────── stop: signal ── grace ── SIGKILL to the group
//!      │   │  │                                        │
//!      │   │  └─ Child dropped: SIGKILL to the group ──┤
//!      │   └─ supervisor dies: death signal (SIGTERM) ─┤
//!      v                                               v
//!    ended: a zombie, its number still ours ── rest of the group killed, where asked
//!      │
//!      │ by whoever comes first: wait, the spawner thread, or the collection of orphans
//!      v
//!   collected ── output drained ──> ExitCause            no signal is ever sent any more
//! ```
//!
//! # Several supervisors in one program
//!
//! The spawner thread and the table of children are common to the whole process, so any number of
//! runtimes and threads can start children side by side.

#[cfg(not(target_os = "linux"))]
compile_error!("`handover-process` needs Linux: it watches and signals children by pidfd");

mod child;
mod command;
mod disposition;
mod error;
mod exit;
#[cfg(any(test, feature = "__fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod launch;
mod lines;
mod lookup;
mod oom;
mod orphans;
mod output;
mod pump;
pub mod ready;
mod registry;
mod signal;
mod spawner;
mod sys;

/// Starts the thread that makes children, unless it runs. The first child starts it otherwise.
///
/// Call this at the start of a program, where a shortage of threads or descriptors is best met.
///
/// # Errors
///
/// [`SpawnError::Thread`].
pub fn prepare() -> Result<(), SpawnError> {
    spawner::Spawner::get()
        .map(drop)
        .map_err(|error| SpawnError::Thread(error.into()))
}

pub use child::{Child, Reach, Stop, Stopped};
pub use command::Command;
pub use disposition::{ignore_stray_signals, unblock_signals};
pub use error::{SignalError, SpawnError, WaitError};
pub use exit::ExitCause;
pub use orphans::{Orphan, Orphans, adopt_orphans, adopts_orphans, reap_orphans};
pub use output::{Line, OutputSink, OwnedLine, QueueLines, QueueSink, Source, Stream, Tail, queue};
pub use signal::{Signal, UnknownSignal};
