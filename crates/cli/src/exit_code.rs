//! The exit codes: what scripts and service managers rely on. Most numbers are those of `sysexits.h`, from
//! the table of the supervisor; 126, 127 and 128 + signal are those of a shell.

#[cfg(feature = "envoy")]
mod envoy;

use std::error::Error;

use handover_core::{GaveUp, Outcome};
use handover_netutil::ResolveError;
#[cfg(any(feature = "envoy", feature = "tools"))]
use handover_process::Signal;
use handover_process::SpawnError;

use handover_supervisor::program::ProgramError;
use handover_supervisor::{Ended, sysexits};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExitCode(u8);

impl ExitCode {
    /// Everything went as asked.
    pub(crate) const CLEAN: Self = Self(0);
    /// `simulate` only: the replay of a recording differs from what was recorded.
    #[cfg(feature = "tools")]
    pub(crate) const DIFFERENT: Self = Self(1);
    /// `demo` only: a request was lost.
    #[cfg(all(feature = "envoy", feature = "tools"))]
    pub(crate) const LOSS: Self = Self(1);
    /// The command line is wrong.
    pub(crate) const USAGE: Self = Self(sysexits::USAGE);
    /// The configuration was rejected, or cannot be read.
    pub(crate) const CONFIG: Self = Self(sysexits::DATA_ERROR);
    /// The retries are spent, or something that was asked for is unavailable.
    pub(crate) const UNAVAILABLE: Self = Self(sysexits::UNAVAILABLE);
    /// A bug in this program.
    pub(crate) const INTERNAL: Self = Self(sysexits::SOFTWARE);
    /// The operating system refused what is needed before anything can start.
    pub(crate) const OS: Self = Self(sysexits::OS_ERROR);
    /// A drain was cut or has failed, or an answer did not come in time. For `status` also: not ready.
    pub(crate) const CUT: Self = Self(sysexits::TEMPORARY_FAILURE);
    /// Envoy may not read what it is given.
    pub(crate) const NO_PERMISSION: Self = Self(sysexits::NO_PERMISSION);
    /// The program was found and cannot be executed.
    pub(crate) const NOT_EXECUTABLE: Self = Self(126);
    /// The program was not found.
    pub(crate) const NOT_FOUND: Self = Self(127);

    pub(crate) fn number(self) -> u8 {
        self.0
    }

    /// The code that another process of ours has ended with, or is about to.
    pub(crate) fn passed_on(code: u8) -> Self {
        Self(code)
    }

    /// The code that a shell reports for a process that this signal ended.
    #[cfg(any(feature = "envoy", feature = "tools"))]
    pub(crate) fn of_signal(signal: Signal) -> Self {
        Self::of_child(128_i32.saturating_add(signal.number()))
    }

    /// A child's code, passed on.
    fn of_child(code: i32) -> Self {
        u8::try_from(code).map_or(Self::INTERNAL, Self)
    }

    /// The code for the end of a supervisor. What failed for good has a code of its own, where it is not
    /// the configuration's fault.
    pub(crate) fn of_ended(ended: &Ended) -> Self {
        match (
            &ended.ending.agent,
            &ended.ending.fault,
            &ended.last_failure,
        ) {
            (Ok(Outcome::GaveUp { why, .. }), None, Some(failure))
                if *why != GaveUp::BudgetSpent =>
            {
                Self::of_failure(&*failure.error)
            }
            _ => Self(ended.exit_code()),
        }
    }

    /// The code for a failure that no retry can mend.
    pub(crate) fn of_failure(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let code = Self::of_error(error);
            #[cfg(feature = "envoy")]
            let code = code.or_else(|| Self::of_error_of_envoy(error));
            if let Some(code) = code {
                return code;
            }
            next = error.source();
        }
        Self::CONFIG
    }

    /// The code for an error of a kind that has one.
    fn of_error(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<SpawnError>() {
            return Self::of_spawn(error);
        }
        if let Some(error) = error.downcast_ref::<ProgramError>() {
            return match error {
                ProgramError::Ended { cause, .. } => Some(Self::of_child(cause.exit_code())),
                ProgramError::Spawn(error) => Self::of_spawn(error),
                // Neither the program nor its command line is the reason.
                ProgramError::Readiness(_)
                | ProgramError::Prepare(_)
                | ProgramError::Lost(_)
                | _ => None,
            };
        }
        None
    }

    /// The code for a program that could not be started, where the program is the reason.
    fn of_spawn(error: &SpawnError) -> Option<Self> {
        let is_missing = matches!(
            error,
            SpawnError::NotInPath { .. }
                | SpawnError::NotFound { .. }
                | SpawnError::NoDirectory { .. }
        );
        let is_unusable = matches!(
            error,
            SpawnError::IsDirectory { .. }
                | SpawnError::NotExecutable { .. }
                | SpawnError::NotExecutableBy { .. }
                | SpawnError::ExecFormat { .. }
                | SpawnError::InterpreterMissing { .. }
                | SpawnError::ArgumentsTooLong { .. }
                | SpawnError::Exec { .. }
        );
        let is_refused = matches!(error, SpawnError::RunAs { .. } | SpawnError::Output(_));
        let refused = is_refused.then_some(Self::NO_PERMISSION);
        let unusable = is_unusable.then_some(Self::NOT_EXECUTABLE);
        is_missing
            .then_some(Self::NOT_FOUND)
            .or(unusable)
            .or(refused)
    }

    /// The code for an address that was not resolved. What the resolver has no part in is wrong on
    /// the command line.
    pub(crate) fn of_resolve(error: &ResolveError) -> Self {
        if matches!(error, ResolveError::TimedOut { .. }) {
            Self::CUT
        } else if matches!(
            error,
            ResolveError::Lookup { .. }
                | ResolveError::NoUsableAddress { .. }
                | ResolveError::ServiceLookup { .. }
        ) {
            Self::UNAVAILABLE
        } else {
            Self::USAGE
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.0)
    }
}
