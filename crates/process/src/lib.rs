//! Child processes for supervisors: ended with the supervisor, never signalled after their end, with
//! every line of their output.
//!
//! **What it is.** It starts a program, forwards its output, signals it, and reports how it ended. It
//! needs Linux 5.4 or later, because it watches and signals children by process descriptor, and a
//! tokio runtime.
//!
//! **What it does not do.** It decides nothing: when to start, when to stop and what counts as ready
//! are the caller's business. A loop that decides is `handover-tokio`.
//!
//! **Who calls it.** A program that keeps others running. For one that starts a compiler and reads
//! its output, `tokio::process` is simpler, and runs everywhere.
//!
//! **Which types first.** [`Command`] gives a [`Child`], which ends with an [`ExitCause`]. The module
//! [`ready`] finds out when a program serves. [`Orphans`] is for a supervisor that runs as process 1.
//!
//! # What it does that `tokio::process` does not
//!
//! | what happens | `tokio::process` | here |
//! | --- | --- | --- |
//! | the supervisor is killed | its children run on | each gets a parent-death signal, whichever thread started it |
//! | a [`Child`] is dropped | it runs on, or it is killed without its own children | its whole process group is killed and collected |
//! | a stop takes too long | the caller's business | [`Child::stop`]: signal, grace, then SIGKILL to the group |
//! | any signal but SIGKILL is sent | by number with another crate, and another process may have the number by then | by process descriptor, and never after the end was collected |
//! | the kernel kills for lack of memory | signal 9 | [`ExitCause::OutOfMemory`] |
//! | a grandchild keeps the output open | the reader waits for it | the end is reported, the lines go on |
//! | the supervisor ignores a signal | the child ignores it as well | the child starts with the default action |
//! | a descriptor was opened without close-on-exec | the child has it | the child has what it was given |
//! | a link that led to the working directory leads to a new release | the child runs in the old one | it runs in the new one ([`follow_working_directory`]) |
//! | other processes leave orphans to process 1 | a loop of `waitpid` takes the children's statuses too | [`Orphans`] takes orphans alone |
//! | no process or thread can be made | an error by number | [`SpawnError`] names the step and the limit |
//!
//! A child is also handed listening sockets in the way of systemd ([`Command::socket`]).
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
//!      │ by the first of these: wait, the spawner thread, or the collection of orphans
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

mod become_user;
mod capabilities;
mod child;
mod command;
mod control_group;
mod error;
mod exit;
mod family;
#[cfg(any(test, feature = "__fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod kernel_file;
mod launch;
mod lines;
mod lookup;
pub mod memory;
mod orphans;
mod out_of_memory;
mod output;
mod own_signals;
mod pump;
mod read_burst;
pub mod ready;
mod registry;
mod run_as;
mod signal;
mod spawner;
mod syscalls;
mod watched;
mod working_directory;

/// Starts the thread that makes children, unless it runs. Otherwise the first child starts it.
///
/// Call this at the start of a program: a shortage of threads or descriptors is found there, where a
/// program may still end with an error.
///
/// # Errors
///
/// [`SpawnError::Thread`] if the operating system starts no thread.
pub fn prepare() -> Result<(), SpawnError> {
    spawner::Spawner::get()
        .map(drop)
        .map_err(|error| SpawnError::Thread(error.into()))
}

/// Collects the children that have ended, and waits for those that were killed from here, `at_most` this long.
///
/// The end of a child is told before the kernel is asked to collect it, and a child that is dropped is
/// killed and not waited for. A program that ends in this moment leaves such a process to process 1,
/// which may never collect it, and it counts as a process of its user for as long. Call this as the
/// last thing before the program ends. It blocks the thread.
///
/// Returns whether all are gone. False if one outlives its kill, in a wait of the kernel for example.
/// Children that run on are none of its business.
///
/// ```
/// use std::time::Duration;
///
/// use handover_process::{Command, collect_ended};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let child = Command::new("true").spawn().await?;
/// child.wait().await?;
/// assert!(collect_ended(Duration::from_secs(5)));
/// # Ok(())
/// # }
/// ```
pub fn collect_ended(at_most: std::time::Duration) -> bool {
    registry::collect_ended(at_most)
}

pub use capabilities::{Capabilities, UnknownCapability};
pub use child::{Child, Reach, Stop, Stopped};
pub use command::Command;
pub use error::{SignalError, SpawnError, WaitError};
pub use exit::ExitCause;
pub use family::{Descendant, Descendants, family};
pub use orphans::{Orphan, Orphans, adopt_orphans, adopts_orphans, reap_orphans};
pub use output::{Line, OutputSink, OwnedLine, QueueLines, QueueSink, Source, Stream, Tail, queue};
pub use own_signals::{block_signals, ignore_stray_signals, unblock_signals};
pub use run_as::{RunAs, RunAsError};
pub use signal::{Signal, UnknownSignal};
pub use watched::{WatchProcessError, WatchedProcess};
pub use working_directory::follow_working_directory;

/// The source of a [`SpawnError`], if a process or thread could not be started.
pub use handover_runtime::StartError;

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
