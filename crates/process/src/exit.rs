//! How a child ended.

use std::fmt;

use super::signal::SignalName;

/// How a child ended, as the kernel reports it.
///
/// Shown in words: `exited with code 3`, `killed by signal 11 (SIGSEGV), core dumped`,
/// `killed by signal 9 (SIGKILL), out of memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCause {
    /// It ended by itself with this code (0 to 255).
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
    /// The kernel killed it with SIGKILL, because it was out of memory.
    ///
    /// Reported when three things hold: it died of SIGKILL, this process did not send that signal,
    /// and the `oom_kill` counter of its control group rose while it ran. Without a memory controller,
    /// of version 2 or 1, such a death is reported as [`ExitCause::Signal`].
    OutOfMemory,
}

impl ExitCause {
    /// Returns whether the child ended by itself with code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// Returns the code a shell would report: the exit code, or 128 + the signal's number.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal { number, .. } => 128 + number,
            Self::OutOfMemory => 128 + libc::SIGKILL,
        }
    }

    /// Returns the number of the signal that ended the child, if one did.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Code(_) => None,
            Self::Signal { number, .. } => Some(number),
            Self::OutOfMemory => Some(libc::SIGKILL),
        }
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal {
                number,
                core_dumped,
            } => {
                write!(f, "killed by signal {number} ({})", SignalName(number))?;
                if core_dumped {
                    f.write_str(", core dumped")?;
                }
                Ok(())
            }
            Self::OutOfMemory => write!(
                f,
                "killed by signal {} ({}), out of memory",
                libc::SIGKILL,
                SignalName(libc::SIGKILL)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_in_words_and_as_a_code() {
        let segv = ExitCause::Signal {
            number: libc::SIGSEGV,
            core_dumped: true,
        };
        let cases = [
            (ExitCause::Code(0), "exited with code 0", 0, None),
            (ExitCause::Code(3), "exited with code 3", 3, None),
            (
                segv,
                "killed by signal 11 (SIGSEGV), core dumped",
                139,
                Some(11),
            ),
            (
                ExitCause::OutOfMemory,
                "killed by signal 9 (SIGKILL), out of memory",
                137,
                Some(9),
            ),
        ];
        for (cause, words, code, signal) in cases {
            assert_eq!(cause.to_string(), words);
            assert_eq!(cause.exit_code(), code);
            assert_eq!(cause.signal(), signal);
            assert_eq!(cause.success(), code == 0);
        }
    }
}
