//! The exit codes: what scripts and service managers rely on. Most numbers are those of `sysexits.h`, from
//! the table of the supervisor; 126, 127 and 128 + signal are those of a shell.

use std::error::Error;

use handover_core::{GaveUp, Outcome};
use handover_envoy::failure as envoy;
use handover_envoy::hot_restart::BaseIdError;
use handover_envoy::validate::ValidateError;
use handover_envoy::version::BinaryError;
use handover_envoy::{EnvoyFailed, SetupError};
use handover_netutil::ResolveError;
use handover_process::{Signal, SpawnError};
use handover_runtime::Shortage;

use handover_supervisor::program::ProgramError;
use handover_supervisor::{Ended, sysexits};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExitCode(u8);

impl ExitCode {
    /// Everything went as asked.
    pub(crate) const CLEAN: Self = Self(0);
    /// `simulate` only: the replay of a recording differs from what was recorded.
    pub(crate) const DIFFERENT: Self = Self(1);
    /// `demo` only: a request was lost.
    pub(crate) const LOSS: Self = Self(1);
    /// `doctor` only: there are warnings.
    pub(crate) const WARNINGS: Self = Self(1);
    /// `doctor` only: there are errors.
    pub(crate) const ERRORS: Self = Self(2);
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
            if let Some(code) = Self::of_error(error) {
                return code;
            }
            next = error.source();
        }
        Self::CONFIG
    }

    /// The code for a configuration that was not read: it is wrong, unless the operating system was
    /// short of something.
    pub(crate) fn of_reading(error: &(dyn Error + 'static)) -> Self {
        match Shortage::of(error) {
            Some(_) => Self::OS,
            None => Self::CONFIG,
        }
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
        if let Some(error) = error.downcast_ref::<EnvoyFailed>() {
            return Self::of_envoy(error);
        }
        if let Some(error) = error.downcast_ref::<SetupError>() {
            return match error {
                SetupError::Binary(error) => Some(Self::of_binary(error)),
                SetupError::Args(_) => Some(Self::USAGE),
                SetupError::Files(_) => Some(Self::OS),
                SetupError::BaseId(error) => Some(Self::of_base_id(error)),
                _ => None,
            };
        }
        error.downcast_ref::<BinaryError>().map(Self::of_binary)
    }

    /// Somebody else has the base id, or the operating system keeps us from taking one.
    fn of_base_id(error: &BaseIdError) -> Self {
        match error {
            BaseIdError::Lock { .. } | BaseIdError::Sockets { .. } | BaseIdError::Remove { .. } => {
                Self::OS
            }
            // Also for a reason that has no code of its own yet.
            BaseIdError::Owned { .. } | BaseIdError::InUse { .. } | BaseIdError::NoneFree | _ => {
                Self::UNAVAILABLE
            }
        }
    }

    /// The code for a failed epoch of Envoy, where it is not the configuration's fault.
    fn of_envoy(error: &EnvoyFailed) -> Option<Self> {
        if let EnvoyFailed::Binary(error)
        | EnvoyFailed::NotValidated {
            source: ValidateError::Binary(error),
            ..
        } = error
        {
            return Some(Self::of_binary(error));
        }
        if let EnvoyFailed::Spawn(error) = error {
            return Self::of_spawn(error);
        }
        if let EnvoyFailed::Unreadable { .. } = error {
            return Some(Self::NO_PERMISSION);
        }
        if let EnvoyFailed::Ended {
            cause,
            final_cause: Some(_),
            ..
        } = error
        {
            return Some(Self::of_child(cause.exit_code()));
        }
        // Handover has killed it, and that was its end.
        if let EnvoyFailed::Hung { is_final: true, .. } = error {
            return Some(Self::of_signal(Signal::KILL));
        }
        let is_command_line = matches!(
            error,
            EnvoyFailed::Ended {
                failure: envoy::Failure::ArgumentsRejected { .. },
                ..
            }
        );
        is_command_line.then_some(Self::USAGE)
    }

    /// The code for a program that could not be started, where the program is the reason.
    fn of_spawn(error: &SpawnError) -> Option<Self> {
        let is_missing = matches!(
            error,
            SpawnError::NotInPath { .. } | SpawnError::NotFound { .. }
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

    /// The code for an Envoy binary that cannot be used.
    fn of_binary(error: &BinaryError) -> Self {
        if matches!(error, BinaryError::Missing(_)) {
            Self::NOT_FOUND
        } else {
            Self::NOT_EXECUTABLE
        }
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

#[cfg(test)]
mod tests {
    use std::io;

    use handover_envoy::hot_restart::BaseId;

    use super::*;

    #[test]
    fn a_base_id_of_somebody_else_is_another_matter_than_a_full_disk() {
        let full = BaseIdError::Lock {
            path: "/run/lock/base-id-7.lock".into(),
            source: io::ErrorKind::StorageFull.into(),
        };
        let owned = BaseIdError::Owned {
            base_id: BaseId::new(7).unwrap(),
            owner: "another handover".to_owned(),
        };
        let code_of = |error| ExitCode::of_failure(&SetupError::BaseId(error));
        assert_eq!(code_of(full), ExitCode::OS);
        assert_eq!(code_of(owned), ExitCode::UNAVAILABLE);
    }
}
