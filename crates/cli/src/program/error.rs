//! Why an epoch of a program failed.

use std::error::Error;
use std::fmt;

use handover_tokio::process::{ExitCause, SpawnError, Tail, WaitError};

use super::readiness::ReadinessError;

/// Why an epoch failed.
#[derive(Debug)]
pub(crate) enum ProgramError {
    /// The program was not started.
    Spawn(SpawnError),
    /// What the program is to be given could not be made.
    Prepare(std::io::Error),
    /// The process ended.
    Ended {
        cause: ExitCause,
        /// Whether it had been live.
        live: bool,
        /// The last line it wrote to standard error, if any.
        last_line: Option<String>,
    },
    /// It cannot tell any more that it is ready.
    Readiness(ReadinessError),
    /// How it ended is not known.
    Lost(WaitError),
}

impl ProgramError {
    pub(super) fn ended(cause: ExitCause, live: bool, tail: &Tail) -> Self {
        let mut lines = tail.lines().rev().map(<[u8]>::trim_ascii);
        let last_line = lines
            .find(|line| !line.is_empty())
            .map(|line| String::from_utf8_lossy(line).into_owned());
        Self::Ended {
            cause,
            live,
            last_line,
        }
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(_) => f.write_str("could not start the program"),
            Self::Prepare(_) => f.write_str(
                "could not make a descriptor for the program (is the limit of open files reached?)",
            ),
            Self::Ended {
                cause,
                live,
                last_line,
            } => {
                let before = if *live { "" } else { " before it was live" };
                write!(f, "the program ended{before}: {cause}")?;
                match last_line {
                    Some(line) => write!(f, "; its last line: {line}"),
                    None => Ok(()),
                }
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
            Self::Prepare(source) => Some(source),
            Self::Readiness(source) => Some(source),
            Self::Lost(source) => Some(source),
            Self::Ended { .. } => None,
        }
    }
}
