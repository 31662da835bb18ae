//! What follows from an end that nobody asked for, by its cause.
//!
//! It is a decision of the policy, in a place of its own: only a proxy knows the cause of an end, so a proxy
//! asks this for the [`Severity`] that it reports. A clean end is judged by the machine itself.

use core::fmt;

use crate::{OnCleanExit, Severity};

/// The cause of an end that nobody asked for, as far as [`OnExit`] distinguishes causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EndCause {
    /// The process ended by itself, with code 0.
    Clean,
    /// The process ended by itself, with another code.
    Exit,
    /// A signal ended the process: a crash, or a signal from outside.
    Crash,
    /// The process was out of memory.
    OutOfMemory,
    /// The process did not answer any more, and was killed for that.
    Hung,
}

impl EndCause {
    /// Every cause, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::Clean,
        Self::Exit,
        Self::Crash,
        Self::OutOfMemory,
        Self::Hung,
    ];

    /// Returns the cause of an end with this exit code. `None` is an end by a signal.
    #[must_use]
    pub const fn of_code(code: Option<i32>) -> Self {
        match code {
            Some(0) => Self::Clean,
            Some(_) => Self::Exit,
            None => Self::Crash,
        }
    }

    /// Returns the word for people, flags and files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Exit => "exit",
            Self::Crash => "crash",
            Self::OutOfMemory => "oom",
            Self::Hung => "hung",
        }
    }
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What follows from an end that nobody asked for, for each [`EndCause`].
///
/// ```
/// use handover_core::{EndCause, OnCleanExit, OnExit, Severity};
///
/// let on_exit = OnExit::RESTART.with_final(EndCause::OutOfMemory, true);
/// assert_eq!(on_exit.severity(EndCause::OutOfMemory), Severity::Permanent);
/// assert_eq!(on_exit.severity(EndCause::Crash), Severity::Transient);
/// assert_eq!(on_exit.on_clean_exit(), OnCleanExit::Restart);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnExit {
    clean: OnCleanExit,
    exit: Severity,
    crash: Severity,
    out_of_memory: Severity,
    hung: Severity,
}

impl OnExit {
    /// Starts the proxy again after every end. A failure costs a retry.
    pub const RESTART: Self = Self {
        clean: OnCleanExit::Restart,
        exit: Severity::Transient,
        crash: Severity::Transient,
        out_of_memory: Severity::Transient,
        hung: Severity::Transient,
    };

    /// Takes every end for final.
    pub const STOP: Self = Self {
        clean: OnCleanExit::Stop,
        exit: Severity::Permanent,
        crash: Severity::Permanent,
        out_of_memory: Severity::Permanent,
        hung: Severity::Permanent,
    };

    /// Returns this, with ends of this cause final or not. An end that is not final is retried.
    #[must_use]
    pub const fn with_final(mut self, cause: EndCause, is_final: bool) -> Self {
        let severity = match is_final {
            true => Severity::Permanent,
            false => Severity::Transient,
        };
        match cause {
            EndCause::Clean => {
                self.clean = match is_final {
                    true => OnCleanExit::Stop,
                    false => OnCleanExit::Restart,
                };
            }
            EndCause::Exit => self.exit = severity,
            EndCause::Crash => self.crash = severity,
            EndCause::OutOfMemory => self.out_of_memory = severity,
            EndCause::Hung => self.hung = severity,
        }
        self
    }

    /// Returns this, with this meaning of a clean end.
    #[must_use]
    pub const fn with_clean(mut self, clean: OnCleanExit) -> Self {
        self.clean = clean;
        self
    }

    /// Returns the value of [`Policy::on_clean_exit`](crate::Policy::on_clean_exit).
    #[must_use]
    pub const fn on_clean_exit(&self) -> OnCleanExit {
        self.clean
    }

    /// Returns whether a retry may follow an end of this cause, if the epoch has failed with it.
    ///
    /// A clean end is a failure too if the epoch was never live.
    #[must_use]
    pub const fn severity(&self, cause: EndCause) -> Severity {
        match cause {
            EndCause::Clean => match self.clean {
                OnCleanExit::Stop => Severity::Permanent,
                OnCleanExit::Restart | OnCleanExit::Stay => Severity::Transient,
            },
            EndCause::Exit => self.exit,
            EndCause::Crash => self.crash,
            EndCause::OutOfMemory => self.out_of_memory,
            EndCause::Hung => self.hung,
        }
    }

    /// Returns whether an end of this cause is final: no epoch is started again because of it.
    #[must_use]
    pub const fn is_final(&self, cause: EndCause) -> bool {
        match self.severity(cause) {
            Severity::Permanent => true,
            Severity::Transient => false,
        }
    }
}

/// Every end is followed by a restart.
impl Default for OnExit {
    fn default() -> Self {
        Self::RESTART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_follows_from_the_code() {
        assert_eq!(EndCause::of_code(Some(0)), EndCause::Clean);
        assert_eq!(EndCause::of_code(Some(3)), EndCause::Exit);
        assert_eq!(EndCause::of_code(None), EndCause::Crash);
    }

    #[test]
    fn each_cause_is_set_by_itself() {
        for cause in EndCause::ALL {
            let one = OnExit::RESTART.with_final(cause, true);
            let others = OnExit::STOP.with_final(cause, false);
            for other in EndCause::ALL {
                assert_eq!(one.is_final(other), other == cause, "{cause} and {other}");
                assert_eq!(
                    others.is_final(other),
                    other != cause,
                    "{cause} and {other}"
                );
            }
        }
    }

    #[test]
    fn a_clean_end_that_is_left_alone_is_no_final_failure() {
        let stay = OnExit::STOP.with_clean(OnCleanExit::Stay);
        assert!(!stay.is_final(EndCause::Clean));
        assert_eq!(stay.on_clean_exit(), OnCleanExit::Stay);
        assert!(stay.is_final(EndCause::Crash));
    }
}
