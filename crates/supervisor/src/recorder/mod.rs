//! The flight recorder: the last inputs and outputs of both machines, so that an incident can be replayed.
//!
//! A [`Recorder`] writes to two files in a directory of our own user, `recording` and `recording.old`. Each
//! has at most 10,000 records and little more than a megabyte. When the first one is full it becomes the
//! second, so at least the last 10,000 records are there once as many were made, unless they are
//! unusually long. Each file begins with the states of the machines, so each can be [replayed](replay())
//! alone.
//!
//! **What is not recorded.** No configuration and no text: each has a name, and equal ones have equal
//! names. So no secret of a configuration, an error message or a process gets into the file.
//!
//! **What it costs.** A step hands lines to a queue, and a thread writes them. If the disk is full or slow,
//! lines are dropped and counted. The machines never wait. Nothing is forced to the disk but the end of a
//! file and of a run: a crash of the process loses nothing that was written, and a power failure loses
//! the last moments.

mod files;
mod format;
mod lines;
mod read;
mod redact;
mod replay;
mod room;
mod tape;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_files::{DirectoryError, LockFile, PrivateDir, TryLock};
use handover_process::OutputSink;
use serde_json::Value;

use files::{Files, LIMITS, RECORDING, keep_old_lines};
use lines::{Keeping, LastLines};
use room::Gauge;
use tape::Tape;

use crate::events::{EVENTS, EVENTS_LIMITS, EventLog};
use writer::PAUSE;

pub(crate) use files::{Kind, Limits};
pub use files::{NEW, OLD};
pub(crate) use format::LONGEST_LINE;
pub use format::{Begin, NoRecord, Note, Record, Sign, Who};
pub use lines::{LAST_LINES, OLD_LINES};
pub(crate) use read::bytes_of;
pub use read::{Problem, ReadError, Recording, is_recording};
pub use replay::{AgentStep, Difference, OperatorStep, Replayed, Step, Watch, replay};
pub(crate) use tape::Recorded;
pub(crate) use writer::Writer;

/// How long the end of a run waits for the disk.
const END: Duration = Duration::from_secs(2);

/// Records what a supervisor does.
///
/// ```
/// use handover_supervisor::recorder::{Recorder, Recording};
///
/// # let parent = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// # let dir = parent.path().join("state");
/// let recorder = Recorder::open(&dir, serde_json::json!({ "version": "1.0" }))?;
/// // A builder of a supervisor takes it: `Supervisor::builder(..).record(recorder)`.
/// # drop(recorder);
/// let recording = Recording::read(&dir.join("recording"))?;
/// assert_eq!(recording.problems, []);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Recorder {
    writer: Writer,
    limits: Limits,
    records: u64,
    bytes: u64,
    lines: LastLines,
    events: EventLog,
}

/// Why nothing is recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Another process writes the recording in this directory.
    #[error(
        "the recording in {} is written by another process, {}: give each instance a directory of its own",
        dir.display(),
        holder.trim().escape_debug()
    )]
    Taken {
        /// The directory.
        dir: PathBuf,
        /// What the other process says of itself.
        holder: String,
    },
    /// The operating system refuses something.
    #[error("cannot write a recording in {}", dir.display())]
    Os {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Recorder {
    /// Opens the recording in this directory, which is made with mode 0700, and starts the thread that
    /// writes. What an earlier run has left is kept as long as there is room.
    ///
    /// `about` is written at the beginning of each file: what the program wants to be known of itself. It
    /// must hold no secret. It blocks for as long as the disk does.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or if another process records there.
    pub fn open(dir: &Path, about: Value) -> Result<Self, OpenError> {
        Self::open_with(dir, about, LIMITS)
    }

    fn open_with(dir: &Path, about: Value, limits: Limits) -> Result<Self, OpenError> {
        let dir = PrivateDir::create(dir)?;
        let path = dir.path().to_owned();
        let failed = |source| OpenError::Os {
            dir: path.clone(),
            source,
        };
        let pid = std::process::id();
        let lock = dir.path().join("recording.lock");
        let lock = LockFile::try_lock(&lock, &format!("process {pid}")).map_err(failed)?;
        let lock = match lock {
            TryLock::Locked(lock) => Arc::new(lock),
            TryLock::HeldBy(holder) => return Err(OpenError::Taken { dir: path, holder }),
        };
        let begin = Begin {
            at: writer::now(),
            continues: false,
            pid,
            about,
        };
        keep_old_lines(&dir);
        let events = Files::open(
            dir.clone(),
            &EVENTS,
            begin.clone(),
            EVENTS_LIMITS,
            Gauge::default(),
        );
        let (events, kept) = events.map_err(failed)?;
        let kept = (kept, events.whole());
        let (files, records) =
            Files::open(dir, &RECORDING, begin, limits, Gauge::default()).map_err(failed)?;
        let bytes = files.whole();
        let events = Writer::start(events, Some(Arc::clone(&lock)), LastLines::default(), PAUSE)
            .map_err(failed)?;
        let events = EventLog::new(events, EVENTS_LIMITS, kept);
        let lines = LastLines::default();
        let writer = Writer::start(files, Some(lock), lines.clone(), PAUSE).map_err(failed)?;
        Ok(Self {
            writer,
            limits,
            records,
            bytes,
            lines,
            events,
        })
    }

    /// Returns where events are kept.
    pub(crate) fn event_log(&self) -> EventLog {
        self.events.clone()
    }

    /// Returns a sink that passes each line on to this one, and keeps the last lines of each process in the
    /// file [`LAST_LINES`]. They are written as they are, so they may hold what a process prints of its
    /// configuration.
    #[must_use]
    pub fn keep_lines(&self, output: Arc<dyn OutputSink>) -> Arc<dyn OutputSink> {
        Arc::new(Keeping {
            inner: output,
            lines: self.lines.clone(),
            writer: self.writer.clone(),
        })
    }

    /// Returns what records the two machines.
    pub(crate) fn tape<C: Clone + Eq>(&self) -> (Recorded<C>, Recorded<C>) {
        let tape = Tape::new(self.writer.clone(), self.limits, self.records, self.bytes);
        let tape = Arc::new(Mutex::new(tape));
        let recorded = |who| Recorded::new(&tape, who);
        (recorded(Who::Agent), recorded(Who::Operator))
    }

    #[cfg(test)]
    fn wait_until_idle(&self) {
        self.writer.wait_until_idle();
    }

    /// Ends the recording, and waits for the disk for at most two seconds.
    pub(crate) async fn close(self) {
        let ends = [self.writer.end(), self.events.end()];
        let done = async {
            for end in ends.into_iter().flatten() {
                // A writer that has panicked writes nothing more.
                let _lost = end.await;
            }
        };
        // They go on writing beside what follows.
        let _late = tokio::time::timeout(END, done).await;
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}
