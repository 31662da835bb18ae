//! The codes of the commands that are about Envoy.

use std::error::Error;

use handover_envoy::failure::Failure;
use handover_envoy::hot_restart::BaseIdError;
use handover_envoy::validate::ValidateError;
use handover_envoy::version::BinaryError;
use handover_envoy::{EnvoyFailed, SetupError};
use handover_process::Signal;
use handover_runtime::Shortage;

use super::ExitCode;

impl ExitCode {
    /// `doctor` only: there are warnings.
    pub(crate) const WARNINGS: Self = Self(1);
    /// `doctor` only: there are errors.
    pub(crate) const ERRORS: Self = Self(2);

    /// The code for a configuration that was not read: it is wrong, unless the operating system was
    /// short of something.
    pub(crate) fn of_reading(error: &(dyn Error + 'static)) -> Self {
        match Shortage::of(error) {
            Some(_) => Self::OS,
            None => Self::CONFIG,
        }
    }

    /// The code for an error of the adapter that has one.
    pub(super) fn of_error_of_envoy(error: &(dyn Error + 'static)) -> Option<Self> {
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
                failure: Failure::ArgumentsRejected { .. },
                ..
            }
        );
        is_command_line.then_some(Self::USAGE)
    }

    /// The code for an Envoy binary that cannot be used.
    fn of_binary(error: &BinaryError) -> Self {
        if matches!(error, BinaryError::Missing(_)) {
            Self::NOT_FOUND
        } else {
            Self::NOT_EXECUTABLE
        }
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
