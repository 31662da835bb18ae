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
        /// The last lines it wrote to standard error, without empty ones.
        last_words: Vec<String>,
        /// Its cause, if the settings take such an end for final.
        final_cause: Option<EndCause>,
    },
    /// It cannot tell any more that it is ready.
    Readiness(ReadinessError),
    /// How it ended is not known.
    Lost(WaitError),
}

impl ProgramError {
    pub(super) fn ended(
        cause: ExitCause,
        live: bool,
        tail: &Tail,
        final_cause: Option<EndCause>,
    ) -> Self {
        let lines = tail.lines().rev().map(<[u8]>::trim_ascii);
        let mut last_words: Vec<_> = lines
            .filter(|line| !line.is_empty())
            .take(LAST_WORDS)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        last_words.reverse();
        Self::Ended {
            cause,
            live,
            last_words,
            final_cause,
        }
    }
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
            } => {
                let before = if *live { "" } else { " before it was live" };
                write!(f, "the program ended{before}: {cause}")?;
                if let Some(cause) = final_cause {
                    write!(f, ", which is final (--on-exit {cause}=stop)")?;
                }
                if let Some(line) = last_words.last() {
                    write!(f, "; its last line: {line}")?;
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
