//! Why an Envoy ended, from its exit status and its last words on standard error.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use handover_core::EndCause;

use crate::text::{configuration_error, one_line};

/// The signal by which a process ends itself.
const ABORT: i32 = 6;

/// The signal of the kernel for memory that is mapped and cannot be had.
const BUS_ERROR: i32 = rustix::process::Signal::BUS.as_raw();

/// Why an Envoy ended. It shows as one sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It exited 0, because somebody asked it to end.
    Clean,
    /// It exited 0 because the next epoch, which has taken over, told it to.
    HandedOver,
    /// It ended as the agent told it to. Only the agent can know; see
    /// [`when_asked`](Self::when_asked).
    Aborted,
    /// It does not accept its configuration.
    ConfigurationRejected {
        /// Envoy's reason, on one line.
        message: String,
    },
    /// It does not accept its command line.
    ArgumentsRejected {
        /// Envoy's reason, on one line.
        message: String,
    },
    /// It cannot listen on an address.
    CannotBind {
        /// The address, `IP:PORT` or a path.
        address: String,
        /// The system's reason.
        reason: String,
        /// Whether another socket has the port.
        in_use: bool,
    },
    /// Another Envoy has the base id and a restart epoch that is equal modulo 3.
    BaseIdConflict {
        /// The base id, as far as Envoy tells it.
        base_id: Option<u32>,
        /// The restart epoch modulo 3.
        slot: Option<u32>,
    },
    /// Shared memory says that another epoch is starting: one is, or one has ended while it did.
    StillInitializing,
    /// Shared memory cannot be used.
    SharedMemory {
        /// Envoy's reason, on one line.
        message: String,
    },
    /// The file system of its shared memory is full, so the kernel ended it by a bus error. Only who
    /// looks there can know; see [`with_full_shared_memory`](Self::with_full_shared_memory).
    SharedMemoryFull {
        /// The directory, as a rule `/dev/shm`.
        directory: PathBuf,
    },
    /// The other epoch speaks another hot-restart protocol.
    VersionMismatch {
        /// Envoy's reason, on one line.
        message: String,
    },
    /// The epoch before does not answer: it is dead, or stands still.
    ParentLost {
        /// Envoy's reason, on one line.
        message: String,
    },
    /// The process was out of memory: the kernel killed it, or an allocation failed.
    OutOfMemory,
    /// A signal from outside ended it.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// It crashed.
    Crashed {
        /// The signal's number.
        signal: i32,
        /// Whether it left a core dump.
        core_dumped: bool,
        /// Its last words, on one line; empty if there are none.
        message: String,
    },
    /// It exited with a code and a reason that this crate does not know.
    Exited {
        /// The exit code.
        code: i32,
        /// Its last words, on one line; empty if there are none.
        message: String,
    },
}

impl Failure {
    /// Finds out why an Envoy ended.
    ///
    /// `stderr` is the end of what it wrote to standard error; 16 KiB are enough for all but a
    /// stack trace. `oom_killed` is set if the kernel killed it because it was out of memory: the
    /// cgroup's counter has grown.
    ///
    /// ```
    /// use handover_envoy::failure::Failure;
    /// use std::os::unix::process::ExitStatusExt as _;
    /// use std::process::ExitStatus;
    ///
    /// let exit_code_1 = ExitStatus::from_raw(1 << 8);
    /// let failure = Failure::classify(
    ///     exit_code_1,
    ///     "cannot bind '127.0.0.1:80': Address already in use\n",
    ///     false,
    /// );
    /// assert_eq!(failure.to_string(), "cannot listen on 127.0.0.1:80: Address already in use");
    /// assert!(!failure.is_permanent());
    /// ```
    #[must_use]
    pub fn classify(status: ExitStatus, stderr: &str, oom_killed: bool) -> Self {
        if status.success() {
            // Written at the level `info`: an Envoy that logs less cannot be told apart.
            return if stderr.contains("shutting down due to child request") {
                Self::HandedOver
            } else {
                Self::Clean
            };
        }
        if oom_killed {
            return Self::OutOfMemory;
        }
        match (status.code(), status.signal()) {
            // What others send to end a process. Whatever it said before does not tell why.
            (_, Some(signal @ (1 | 2 | 3 | 9 | 13 | 14 | 15))) => Self::Killed { signal },
            // An assertion of Envoy's own, or an exception: the words before it tell which.
            (_, Some(ABORT)) => known(stderr).unwrap_or_else(|| crashed(status, ABORT, stderr)),
            (_, Some(signal)) => crashed(status, signal, stderr),
            // A process that ended has one of both; what has neither is not known.
            (code, None) => known(stderr).unwrap_or_else(|| Self::Exited {
                code: code.unwrap_or(-1),
                message: last_words(stderr),
            }),
        }
    }

    /// Returns what the failure is of an epoch that the agent has told to end. A clean exit and an
    /// end by signal are what was asked for. A crash on the way out stays one.
    ///
    /// ```
    /// use handover_envoy::failure::Failure;
    ///
    /// assert_eq!(Failure::Killed { signal: 9 }.when_asked(), Failure::Aborted);
    /// assert_eq!(Failure::OutOfMemory.when_asked(), Failure::OutOfMemory);
    /// ```
    #[must_use]
    pub fn when_asked(self) -> Self {
        match self {
            Self::Clean | Self::HandedOver | Self::Killed { .. } => Self::Aborted,
            other @ (Self::Aborted
            | Self::ConfigurationRejected { .. }
            | Self::ArgumentsRejected { .. }
            | Self::CannotBind { .. }
            | Self::BaseIdConflict { .. }
            | Self::StillInitializing
            | Self::SharedMemory { .. }
            | Self::SharedMemoryFull { .. }
            | Self::VersionMismatch { .. }
            | Self::ParentLost { .. }
            | Self::OutOfMemory
            | Self::Crashed { .. }
            | Self::Exited { .. }) => other,
        }
    }

    /// Returns whether a bus error ended Envoy. The kernel sends one to a process that uses shared
    /// memory for which no page is left.
    #[must_use]
    pub fn is_bus_error(&self) -> bool {
        matches!(self, Self::Crashed { signal, .. } if *signal == BUS_ERROR)
    }

    /// Returns what the failure is if the file system of the shared memory was seen to be full.
    ///
    /// ```
    /// use handover_envoy::failure::Failure;
    ///
    /// let crashed = Failure::Crashed { signal: 7, core_dumped: false, message: String::new() };
    /// let full = crashed.with_full_shared_memory("/dev/shm/envoy_shared_memory_0".as_ref());
    /// assert!(full.to_string().starts_with("/dev/shm is full"));
    /// ```
    #[must_use]
    pub fn with_full_shared_memory(self, memory: &Path) -> Self {
        if !self.is_bus_error() {
            return self;
        }
        Self::SharedMemoryFull {
            directory: memory.parent().unwrap_or(memory).to_owned(),
        }
    }

    /// Returns the cause of an end with this exit code, as a policy distinguishes causes. `None` is an end by
    /// a signal.
    ///
    /// ```
    /// use handover_core::EndCause;
    /// use handover_envoy::failure::Failure;
    ///
    /// assert_eq!(Failure::Killed { signal: 9 }.end_cause(None), EndCause::Crash);
    /// assert_eq!(Failure::OutOfMemory.end_cause(None), EndCause::OutOfMemory);
    /// ```
    #[must_use]
    pub fn end_cause(&self, code: Option<i32>) -> EndCause {
        match self {
            Self::OutOfMemory => EndCause::OutOfMemory,
            Self::Clean
            | Self::HandedOver
            | Self::Aborted
            | Self::ConfigurationRejected { .. }
            | Self::ArgumentsRejected { .. }
            | Self::CannotBind { .. }
            | Self::BaseIdConflict { .. }
            | Self::StillInitializing
            | Self::SharedMemory { .. }
            | Self::SharedMemoryFull { .. }
            | Self::VersionMismatch { .. }
            | Self::ParentLost { .. }
            | Self::Killed { .. }
            | Self::Crashed { .. }
            | Self::Exited { .. } => EndCause::of_code(code),
        }
    }

    /// Returns whether nothing went wrong.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        matches!(self, Self::Clean | Self::HandedOver | Self::Aborted)
    }

    /// One word for logs, metrics and JSON. It stays the same when the sentence changes.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::HandedOver => "handed_over",
            Self::Aborted => "aborted",
            Self::ConfigurationRejected { .. } => "configuration",
            Self::ArgumentsRejected { .. } => "arguments",
            Self::CannotBind { .. } => "bind_conflict",
            Self::BaseIdConflict { .. } => "base_id_conflict",
            Self::StillInitializing => "still_initializing",
            Self::SharedMemory { .. } | Self::SharedMemoryFull { .. } => "shared_memory",
            Self::VersionMismatch { .. } => "version_mismatch",
            Self::ParentLost { .. } => "parent_lost",
            Self::OutOfMemory => "out_of_memory",
            Self::Killed { .. } => "killed",
            Self::Crashed {
                core_dumped: false, ..
            } => "crashed",
            Self::Crashed {
                core_dumped: true, ..
            } => "core_dumped",
            Self::Exited { .. } => "exited",
        }
    }

    /// Returns whether the same start cannot succeed later, because only a change by a person
    /// helps.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::ConfigurationRejected { .. }
            | Self::ArgumentsRejected { .. }
            | Self::VersionMismatch { .. } => true,
            // A port is given free, an address comes up, a base id's owner ends, memory is freed.
            Self::Clean
            | Self::HandedOver
            | Self::Aborted
            | Self::CannotBind { .. }
            | Self::BaseIdConflict { .. }
            | Self::StillInitializing
            | Self::SharedMemory { .. }
            | Self::SharedMemoryFull { .. }
            | Self::ParentLost { .. }
            | Self::OutOfMemory
            | Self::Killed { .. }
            | Self::Crashed { .. }
            | Self::Exited { .. } => false,
        }
    }
}

/// A reason that Envoy gives in words of its own. The order matters: a port conflict is reported in
/// the same frame as a bad configuration.
fn known(stderr: &str) -> Option<Failure> {
    let line_with = |needle: &str| stderr.lines().rev().find(|line| line.contains(needle));
    if line_with("previous envoy process is still initializing").is_some() {
        return Some(Failure::StillInitializing);
    }
    if let Some(line) = line_with("unable to bind domain socket with base_id=") {
        let number = |key: &str| -> Option<u32> {
            let (_, rest) = line.split_once(key)?;
            let end = rest.find(|c: char| !c.is_ascii_digit());
            rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
        };
        return Some(Failure::BaseIdConflict {
            // Envoy multiplies the base id by 10.
            base_id: number("base_id=").map(|tenfold| tenfold / 10),
            slot: number(", id="),
        });
    }
    if let Some(line) =
        line_with("ersion mismatch!").or_else(|| line_with("SharedMemory size mismatch!"))
    {
        let message = logged(line);
        return Some(Failure::VersionMismatch { message });
    }
    if let Some(line) =
        line_with("cannot open shared memory region").or_else(|| line_with("shared memory"))
    {
        let message = logged(line);
        return Some(Failure::SharedMemory { message });
    }
    if let Some(line) = line_with("cannot bind '") {
        let (_, rest) = line.split_once("cannot bind '")?;
        let (address, rest) = rest.split_once('\'')?;
        let reason = rest.trim_start_matches(": ");
        let reason = reason.split_once('`').map_or(reason, |(reason, _)| reason);
        return Some(Failure::CannotBind {
            address: one_line(address),
            reason: one_line(reason),
            in_use: reason.contains("Address already in use"),
        });
    }
    if let Some(message) = configuration_error(stderr) {
        return Some(Failure::ConfigurationRejected { message });
    }
    if let Some((_, rest)) = stderr.split_once("PARSE ERROR:") {
        let message = rest.split_once("\n\n").map_or(rest, |(message, _)| message);
        let message = one_line(message);
        return Some(Failure::ArgumentsRejected { message });
    }
    // `error: unknown drain-strategy 'x'`, without the prefix of a log line.
    if let Some(message) = stderr.trim().strip_prefix("error: ") {
        let message = one_line(message);
        return Some(Failure::ArgumentsRejected { message });
    }
    // It also says that it tries again, which can end well.
    if let Some(line) = line_with("hot restart sendmsg() failed") {
        let message = logged(line);
        return Some(Failure::ParentLost { message });
    }
    ["std::bad_alloc", "Unable to allocate", "Out of memory"]
        .into_iter()
        .find_map(line_with)
        .map(|_| Failure::OutOfMemory)
}

/// The message of a log line, without Envoy's prefix `[time][thread][level][logger] [file:line] `.
fn logged(line: &str) -> String {
    let mut rest = line.trim();
    while let Some((_, after)) = rest
        .strip_prefix('[')
        .and_then(|inside| inside.split_once(']'))
    {
        rest = after.trim_start();
    }
    one_line(rest)
}

fn crashed(status: ExitStatus, signal: i32, stderr: &str) -> Failure {
    let line_with = |needle: &str| stderr.lines().rev().find(|line| line.contains(needle));
    // What follows the failed assertion, or the name of the signal, is a stack trace.
    let said = line_with("[critical][assert]").or_else(|| line_with("Caught "));
    Failure::Crashed {
        signal,
        core_dumped: status.core_dumped(),
        message: said.map_or_else(|| last_words(stderr), logged),
    }
}

/// The last line that is not part of a stack trace.
fn last_words(stderr: &str) -> String {
    let traces = ["[backtrace]", "[envoy_bug]"];
    let telling =
        |line: &&str| !line.trim().is_empty() && !traces.iter().any(|trace| line.contains(trace));
    let mut lines = stderr.lines().rev().filter(telling);
    lines.next().map(logged).unwrap_or_default()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |f: &mut fmt::Formatter<'_>, message: &str| match message {
            "" => f.write_str(" without a message"),
            message => write!(f, ": {message}"),
        };
        match self {
            Self::Clean => f.write_str("it ended by itself or on request"),
            Self::HandedOver => f.write_str("the next epoch took over and told it to end"),
            Self::Aborted => f.write_str("it was told to end"),
            Self::ConfigurationRejected { message } => {
                write!(f, "Envoy rejects the configuration: {message}")
            }
            Self::ArgumentsRejected { message } => {
                write!(f, "Envoy rejects its arguments: {message}")
            }
            Self::CannotBind {
                address, reason, ..
            } => {
                write!(f, "cannot listen on {address}: {reason}")
            }
            Self::BaseIdConflict { base_id, slot } => {
                f.write_str("another Envoy")?;
                if let (Some(base_id), Some(slot)) = (base_id, slot) {
                    write!(
                        f,
                        " has base id {base_id} and a restart epoch that is {slot} modulo 3"
                    )
                } else {
                    f.write_str(" has the same base id")
                }
            }
            Self::StillInitializing => {
                f.write_str("an earlier epoch is still starting, or ended during its start")
            }
            Self::SharedMemory { message } => write!(
                f,
                "Envoy cannot use its shared memory: {message} (is /dev/shm a tmpfs that it may \
                 write to?)"
            ),
            Self::SharedMemoryFull { directory } => write!(
                f,
                "{} is full, where Envoy keeps its shared memory, so the kernel ended it by a bus \
                 error: free some space there, or give the container more (--shm-size, or a volume \
                 of medium Memory)",
                directory.display()
            ),
            Self::VersionMismatch { message } => write!(
                f,
                "the running epoch cannot hand over to this binary: {message}"
            ),
            Self::ParentLost { message } => {
                write!(f, "the previous epoch does not answer: {message}")
            }
            Self::OutOfMemory => f.write_str("it ran out of memory"),
            Self::Killed { signal } => write!(f, "it was ended by signal {signal}"),
            Self::Crashed {
                signal,
                core_dumped,
                message,
            } => {
                let core = if *core_dumped { ", core dumped" } else { "" };
                write!(f, "it crashed (signal {signal}{core})")?;
                if *signal == BUS_ERROR {
                    f.write_str(
                        ", as it does if /dev/shm is full (free some space there, or give the \
                         container more with --shm-size)",
                    )?;
                }
                said(f, message)
            }
            Self::Exited { code, message } => {
                write!(f, "it exited with code {code}")?;
                said(f, message)
            }
        }
    }
}

#[cfg(test)]
mod tests;
