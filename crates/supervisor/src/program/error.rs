//! Why an epoch of a program failed.

use std::error::Error;
use std::fmt;

use handover_core::EndCause;
use handover_process::memory::MemoryShort;
use handover_process::{ExitCause, SpawnError, Tail, WaitError};

use super::readiness::ReadinessError;

/// How many of the last lines a failure tells.
const LAST_WORDS: usize = 10;

/// Why an epoch of a program failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgramError {
    /// The program was not started.
    Spawn(SpawnError),
    /// A second process would not fit into memory beside the one that serves.
    NoMemory(MemoryShort),
    /// What the program is to be given could not be made.
    Prepare(std::io::Error),
    /// The process ended.
    Ended {
        /// How.
        cause: ExitCause,
        /// Whether it had been live.
        live: bool,
        /// The last lines it wrote to standard error, without empty ones; or to standard output, where there are none.
        last_words: Vec<String>,
        /// Its cause, if the settings take such an end for final.
        final_cause: Option<EndCause>,
        /// Who may have the address that its last words call in use.
        holder: Option<AddressHolder>,
    },
    /// It cannot tell any more that it is ready.
    Readiness(ReadinessError),
    /// How it ended is not known.
    Lost(WaitError),
}

/// Who may have an address that a program could not bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressHolder {
    /// The supervisor, which passes sockets to the program.
    Supervisor,
    /// The older epoch, whose program binds its address itself as well.
    OlderEpoch,
}

impl ProgramError {
    /// What it has written last counts, of the first output that has any words.
    pub(super) fn ended(
        cause: ExitCause,
        live: bool,
        written: &[Tail],
        final_cause: Option<EndCause>,
        holder: Option<AddressHolder>,
    ) -> Self {
        let mut words = written.iter().map(last_words);
        let last_words = words.find(|words| !words.is_empty()).unwrap_or_default();
        Self::Ended {
            cause,
            live,
            holder: holder.filter(|_| last_words.iter().any(|line| says_in_use(line))),
            last_words,
            final_cause,
        }
    }
}

/// Whether a line is about an address in use, as the C library, Go, Java, Node.js and Python put it.
fn says_in_use(line: &str) -> bool {
    line.to_ascii_lowercase().contains("address already in use") || line.contains("EADDRINUSE")
}

/// The last lines that are not empty, oldest first.
fn last_words(tail: &Tail) -> Vec<String> {
    let lines = tail.lines().rev().map(<[u8]>::trim_ascii);
    let lines = lines.filter(|line| !line.is_empty()).take(LAST_WORDS);
    let mut words: Vec<_> = lines
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    words.reverse();
    words
}

/// Returns the cause of a process's end, as a policy distinguishes causes.
pub(super) fn end_cause(cause: ExitCause) -> EndCause {
    match cause {
        ExitCause::OutOfMemory => EndCause::OutOfMemory,
        ExitCause::Code(code) => EndCause::of_code(Some(code)),
        ExitCause::Signal { .. } => EndCause::of_code(None),
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(_) => f.write_str("could not start the program"),
            Self::NoMemory(_) => f.write_str(
                "not started beside the epoch that serves, until there is more memory (or with \
                 --memory-guard warn)",
            ),
            Self::Prepare(_) => f.write_str(
                "could not make a descriptor for the program (is the limit of open files reached?)",
            ),
            Self::Ended {
                cause,
                live,
                last_words,
                final_cause,
                holder,
            } => {
                let before = if *live { "" } else { " before it was live" };
                write!(f, "the program ended{before}: {cause}")?;
                if let Some(cause) = final_cause {
                    write!(f, ", which is final (--on-exit {cause}=stop)")?;
                }
                if let Some(line) = last_words.last() {
                    write!(f, "; its last line: {line}")?;
                }
                match holder {
                    Some(AddressHolder::Supervisor) => f.write_str(
                        "; if handover listens there, let the program take the socket that it is passed \
                         (LISTEN_FDS) instead of binding one",
                    )?,
                    Some(AddressHolder::OlderEpoch) => f.write_str(
                        "; if the older epoch has that address, name it with --listen, and let the program take \
                         the socket that it is passed (LISTEN_FDS)",
                    )?,
                    None => {}
                }
                if cause.success() && !live {
                    // A daemon leaves its parent behind in just this way.
                    f.write_str("; if it goes to the background, make it stay in the foreground")?;
                }
                Ok(())
            }
            Self::Readiness(_) => f.write_str("the program cannot become live"),
            Self::Lost(_) => f.write_str("the end of the program was not seen"),
        }
    }
}

impl Error for ProgramError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Spawn(source) => Some(source),
            Self::NoMemory(source) => Some(source),
            Self::Prepare(source) => Some(source),
            Self::Readiness(source) => Some(source),
            Self::Lost(source) => Some(source),
            Self::Ended { .. } => None,
        }
    }
}
