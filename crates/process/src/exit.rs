//! How a child ended.

use std::fmt;

use super::signal::SignalName;
use super::syscalls::EndedProcess;

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

    pub(super) fn of(ended: EndedProcess) -> Self {
        if ended.code == libc::CLD_EXITED {
            Self::Code(ended.status)
        } else {
            Self::Signal {
                number: ended.status,
                core_dumped: ended.code == libc::CLD_DUMPED,
            }
        }
    }

    /// The same, or a kill by the kernel: one by SIGKILL that this process has not sent, after which the
    /// counter of such kills `has_risen`.
    pub(super) fn or_out_of_memory(
        self,
        kill_sent: bool,
        has_risen: impl FnOnce() -> bool,
    ) -> Self {
        let was_killed = self.signal() == Some(libc::SIGKILL);
        if was_killed && !kill_sent && has_risen() {
            Self::OutOfMemory
        } else {
            self
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
    fn the_cause_is_read_from_what_the_kernel_tells() {
        let of = |code, status| {
            ExitCause::of(EndedProcess {
                pid: 7,
                code,
                status,
            })
        };
        let signal = |core_dumped| ExitCause::Signal {
            number: libc::SIGSEGV,
            core_dumped,
        };
        assert_eq!(of(libc::CLD_EXITED, 3), ExitCause::Code(3));
        assert_eq!(of(libc::CLD_KILLED, libc::SIGSEGV), signal(false));
        assert_eq!(of(libc::CLD_DUMPED, libc::SIGSEGV), signal(true));
    }

    #[test]
    fn only_a_kill_that_nobody_here_has_sent_is_one_of_the_kernel() {
        let by = |number| ExitCause::Signal {
            number,
            core_dumped: false,
        };
        let kill = by(libc::SIGKILL);
        let out_of_memory = ExitCause::OutOfMemory;
        for (cause, kill_sent, has_risen, expected) in [
            (kill, false, true, out_of_memory),
            (kill, false, false, kill),
            (kill, true, true, kill),
            (by(libc::SIGTERM), false, true, by(libc::SIGTERM)),
            (ExitCause::Code(9), false, true, ExitCause::Code(9)),
        ] {
            assert_eq!(cause.or_out_of_memory(kill_sent, || has_risen), expected);
        }
    }

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
