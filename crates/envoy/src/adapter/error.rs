//! Why an Envoy cannot be run, and why an epoch of it failed.

use std::path::PathBuf;
use std::time::Duration;

use handover_core::{EndCause, Epoch};
use handover_files::DirectoryError;
use handover_process::memory::MemoryShort;
use handover_process::{ExitCause, SpawnError};
use handover_runtime::Shortage;
use handover_runtime::offload::OffloadError;
use handover_tokio::RunError;

use super::epochs::succession::NotSideBySide;
use crate::args::ArgsError;
use crate::failure::Failure;
use crate::hot_restart::{BaseIdError, ParentError, RepairError};
use crate::validate::ValidateError;
use crate::version::{BinaryError, HotRestartVersion};

/// Why no Envoy can be run with these settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The binary cannot be used.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// The command line cannot be passed to Envoy.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// A directory cannot be used.
    #[error(transparent)]
    Files(#[from] DirectoryError),
    /// The base id cannot be had.
    #[error(transparent)]
    BaseId(#[from] BaseIdError),
}

/// Why an epoch failed: the source of the [`RunError`] that
/// [`Proxy::run`](handover_tokio::Proxy::run) returns for an [`Envoy`](super::Envoy).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvoyFailed {
    /// Envoy rejects the configuration. No epoch was spent on it.
    #[error("{}: {message}", config.display())]
    Rejected {
        /// The file it was read from.
        config: PathBuf,
        /// Envoy's reason, on one line.
        message: String,
    },
    /// Envoy may not read the file with the configuration: it runs as another user.
    #[error(
        "{}: Envoy cannot read {}, which handover has written: it runs as another user, as a start \
         script can make it. Let a group of that user read it with --run-dir-group, and let the user \
         pass the directories above", config.display(), file.display()
    )]
    Unreadable {
        /// The file the configuration was read from.
        config: PathBuf,
        /// The copy for the epoch.
        file: PathBuf,
    },
    /// The template of the configuration gives nothing for this epoch.
    #[error("{}: cannot be rendered for epoch {epoch}", config.display())]
    Render {
        /// The template.
        config: PathBuf,
        /// The epoch.
        epoch: Epoch,
        /// The error behind this one.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A second Envoy would not fit into memory beside the one that serves.
    #[error(
        "{}: not started beside the epoch that serves, until there is more memory (or with \
         --memory-guard warn)", config.display()
    )]
    NoMemory {
        /// The file its configuration was read from.
        config: PathBuf,
        /// The error behind this one.
        #[source]
        source: MemoryShort,
    },
    /// Envoy could not be asked whether the configuration is good.
    #[error("{}: not validated", config.display())]
    NotValidated {
        /// The file it was read from.
        config: PathBuf,
        /// The error behind this one.
        #[source]
        source: ValidateError,
    },
    /// The configuration file of the epoch cannot be written.
    #[error("cannot prepare the epoch")]
    Prepare(#[from] DirectoryError),
    /// No thread could write the configuration file of the epoch.
    #[error("cannot write the configuration file of the epoch into {}", dir.display())]
    NotWritten {
        /// The directory.
        dir: PathBuf,
        /// The error behind this one.
        #[source]
        source: OffloadError,
    },
    /// No thread could take a base id for the epoch.
    #[error("cannot take a base id for the epoch")]
    NoBaseId {
        /// The error behind this one.
        #[source]
        source: OffloadError,
    },
    /// The epoch from which this one was to take over has ended meanwhile.
    #[error("the epoch from which this one was to take over has ended")]
    LineageEnded,
    /// The binary has been replaced by one that cannot take over from the running one.
    #[error(
        "{} speaks hot restart version {found}, the running Envoy {running}, and they cannot serve \
         side by side: {why}: only a cold restart can go on", binary.display()
    )]
    OtherHotRestart {
        /// The binary.
        binary: PathBuf,
        /// The version it speaks.
        found: HotRestartVersion,
        /// The version that the running Envoy speaks.
        running: String,
        /// What stands in the way.
        why: NotSideBySide,
    },
    /// The running Envoy was asked to give way to one of another hot restart version, and does not.
    #[error("the running Envoy does not make room for one of another hot restart version")]
    NoRoom(#[from] ParentError),
    /// The binary cannot be used.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// Somebody else uses the base id.
    #[error(transparent)]
    BaseId(#[from] BaseIdError),
    /// Envoy cannot be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// An epoch that has ended while it initialised has left its flag in shared memory, so no other
    /// one can start beside the running one.
    #[error(
        "holding epoch {holding}: only a cold restart can go on, because an epoch that ended while \
         it initialised left its flag in Envoy's shared memory {}, and {}",
        path.display(), match source {
            Some(_) => "it cannot be cleared",
            None => "clearing it is switched off",
        }
    )]
    Stuck {
        /// The epoch that serves on.
        holding: Epoch,
        /// The shared memory.
        path: PathBuf,
        /// Why the flag cannot be cleared, where that was allowed.
        #[source]
        source: Option<RepairError>,
    },
    /// The admin endpoint of the epoch refuses the question whether it is live, so it was killed.
    #[error(
        "{}: it cannot be seen whether Envoy is live, because {why}: let the admin endpoint answer \
         /server_info (admin.allow_paths)", config.display()
    )]
    Refuses {
        /// The file its configuration was read from.
        config: PathBuf,
        /// What it answers.
        why: String,
    },
    /// The epoch was not seen live by its start deadline, and was killed.
    #[error("{}: it was not live by its start deadline: {why}", config.display())]
    NotLive {
        /// The file its configuration was read from.
        config: PathBuf,
        /// What stood in the way, as far as it was seen.
        why: String,
    },
    /// Envoy has not answered for longer than it may, and was killed.
    #[error(
        "{}: Envoy hung: no answer at its admin endpoint within {silent_for:?}{}",
        config.display(), final_by(is_final.then_some(EndCause::Hung))
    )]
    Hung {
        /// The file its configuration was read from.
        config: PathBuf,
        /// How long it was silent.
        silent_for: Duration,
        /// Whether such an end is final by the settings.
        is_final: bool,
    },
    /// An old epoch did not answer the one that was to take over from it, and was killed.
    #[error("{}: Envoy hung: it did not answer the epoch that was to take over from it", config.display())]
    Deaf {
        /// The file its configuration was read from.
        config: PathBuf,
    },
    /// An old epoch has not ended at its parent-shutdown time, and was killed.
    #[error("{}: Envoy did not end at its parent-shutdown time", config.display())]
    Overstayed {
        /// The file its configuration was read from.
        config: PathBuf,
    },
    /// An old epoch did not close its listeners for one of another hot restart version, and was
    /// killed.
    #[error("{}: Envoy did not close its listeners for the newer one", config.display())]
    KeptListening {
        /// The file its configuration was read from.
        config: PathBuf,
    },
    /// Envoy has ended while a stop drained it, although nobody here has told it to: its clients were
    /// cut.
    #[error(
        "{}: Envoy ended before it was drained, and its clients were cut: {failure} ({cause}){}",
        config.display(), if failure.is_expected() { SENT_TO_ALL } else { "" }
    )]
    NotDrained {
        /// The file its configuration was read from.
        config: PathBuf,
        /// Why, as far as its last words tell.
        failure: Failure,
        /// How the process ended.
        cause: ExitCause,
    },
    /// Envoy has ended.
    #[error("{}: {failure} ({cause}){}", config.display(), final_by(*final_cause))]
    Ended {
        /// The file its configuration was read from.
        config: PathBuf,
        /// Why, as far as its last words tell.
        failure: Failure,
        /// How the process ended.
        cause: ExitCause,
        /// The last lines it wrote to standard error, at most ten.
        last_words: Vec<String>,
        /// Its cause, if the settings take such an end for final.
        final_cause: Option<EndCause>,
    },
    /// The end of Envoy was not seen.
    #[error(transparent)]
    Lost(#[from] handover_process::WaitError),
}

/// What an Envoy has most often got that exits 0 while it is drained.
const SENT_TO_ALL: &str = "; was SIGTERM sent to the whole control group or process group? Only \
                           handover must get it: with systemd, set KillMode=mixed";

/// The part of a sentence that says why an end is final.
fn final_by(cause: Option<EndCause>) -> String {
    cause.map_or_else(String::new, |cause| {
        format!(", which is final (--on-exit {cause}=stop)")
    })
}

impl EnvoyFailed {
    /// Returns whether the same start cannot succeed later.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Rejected { .. }
            | Self::Unreadable { .. }
            | Self::OtherHotRestart { .. }
            | Self::Refuses { .. }
            | Self::Stuck { .. } => true,
            Self::Render { source, .. } => Shortage::of(&**source).is_none(),
            Self::Spawn(error) => error.is_permanent(),
            Self::Ended {
                failure,
                final_cause,
                ..
            } => final_cause.is_some() || failure.is_permanent(),
            Self::Hung { is_final, .. } => *is_final,
            // What is missing or busy may come back.
            Self::NoMemory { .. }
            | Self::NotValidated { .. }
            | Self::Prepare(_)
            | Self::NotWritten { .. }
            | Self::NoBaseId { .. }
            | Self::LineageEnded
            | Self::Binary(_)
            | Self::BaseId(_)
            | Self::NoRoom(_)
            | Self::NotLive { .. }
            | Self::Deaf { .. }
            | Self::Overstayed { .. }
            | Self::KeptListening { .. }
            | Self::NotDrained { .. }
            | Self::Lost(_) => false,
        }
    }

    /// Returns whether the configuration is what was not accepted.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::Rejected { .. } | Self::Refuses { .. } => true,
            Self::Render { source, .. } => Shortage::of(&**source).is_none(),
            Self::Ended { failure, .. } => {
                matches!(failure, Failure::ConfigurationRejected { .. })
            }
            Self::NoMemory { .. }
            | Self::NotValidated { .. }
            | Self::Unreadable { .. }
            | Self::Prepare(_)
            | Self::NotWritten { .. }
            | Self::NoBaseId { .. }
            | Self::LineageEnded
            | Self::OtherHotRestart { .. }
            | Self::Binary(_)
            | Self::BaseId(_)
            | Self::Spawn(_)
            | Self::Stuck { .. }
            | Self::NoRoom(_)
            | Self::NotLive { .. }
            | Self::Hung { .. }
            | Self::Deaf { .. }
            | Self::Overstayed { .. }
            | Self::KeptListening { .. }
            | Self::NotDrained { .. }
            | Self::Lost(_) => false,
        }
    }

    /// Returns how Envoy ended, or `None` if it did not run.
    #[must_use]
    pub fn cause(&self) -> Option<ExitCause> {
        match self {
            Self::Ended { cause, .. } | Self::NotDrained { cause, .. } => Some(*cause),
            Self::Rejected { .. }
            | Self::Unreadable { .. }
            | Self::Render { .. }
            | Self::NoMemory { .. }
            | Self::NotValidated { .. }
            | Self::Prepare(_)
            | Self::NotWritten { .. }
            | Self::NoBaseId { .. }
            | Self::LineageEnded
            | Self::OtherHotRestart { .. }
            | Self::Binary(_)
            | Self::BaseId(_)
            | Self::Spawn(_)
            | Self::Stuck { .. }
            | Self::NoRoom(_)
            | Self::Refuses { .. }
            | Self::NotLive { .. }
            | Self::Hung { .. }
            | Self::Deaf { .. }
            | Self::Overstayed { .. }
            | Self::KeptListening { .. }
            | Self::Lost(_) => None,
        }
    }
}

impl From<EnvoyFailed> for RunError {
    fn from(error: EnvoyFailed) -> Self {
        if error.is_permanent() {
            Self::permanent(error)
        } else {
            Self::transient(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Permanent, a rejection, and how Envoy ended.
    type Judged = (bool, bool, Option<ExitCause>);

    fn judged(failed: &EnvoyFailed) -> Judged {
        (failed.is_permanent(), failed.is_rejection(), failed.cause())
    }

    #[test]
    fn what_cannot_succeed_later_is_told_from_what_may_and_a_rejection_from_both() {
        let config = || PathBuf::from("/e.yaml");
        let message = || "no".to_owned();
        let ended = |failure, is_final: bool| EnvoyFailed::Ended {
            config: config(),
            failure,
            cause: ExitCause::Code(1),
            last_words: Vec::new(),
            final_cause: is_final.then_some(EndCause::Exit),
        };
        let rejected = || Failure::ConfigurationRejected { message: message() };
        let render = |source: std::io::Error| EnvoyFailed::Render {
            config: config(),
            epoch: Epoch::new(1),
            source: source.into(),
        };
        let shortage = std::io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        let not_drained = EnvoyFailed::NotDrained {
            config: config(),
            failure: Failure::Clean,
            cause: ExitCause::Code(0),
        };
        let refuses = EnvoyFailed::Refuses {
            config: config(),
            why: message(),
        };
        let hung = |is_final| EnvoyFailed::Hung {
            config: config(),
            silent_for: Duration::from_secs(1),
            is_final,
        };
        let not_live = EnvoyFailed::NotLive {
            config: config(),
            why: message(),
        };
        let of_config = EnvoyFailed::Rejected {
            config: config(),
            message: message(),
        };
        let code = Some(ExitCause::Code(1));
        for (failed, expected) in [
            (of_config, (true, true, None)),
            (refuses, (true, true, None)),
            (render(std::io::Error::other("no")), (true, true, None)),
            (render(shortage), (false, false, None)),
            (ended(rejected(), false), (true, true, code)),
            (
                ended(Failure::StillInitializing, false),
                (false, false, code),
            ),
            (ended(Failure::StillInitializing, true), (true, false, code)),
            (hung(false), (false, false, None)),
            (hung(true), (true, false, None)),
            (not_live, (false, false, None)),
            (not_drained, (false, false, Some(ExitCause::Code(0)))),
        ] {
            assert_eq!(judged(&failed), expected, "{failed:?}");
        }
    }
}
