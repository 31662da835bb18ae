//! One epoch from its configuration to its end.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover_core::{Abort, Epoch};
use handover_tokio::process::{Child, Command, ExitCause, Signal};
use handover_tokio::{RunControl, RunError};

use super::epochs::FileId;
use super::keep::Ended;
#[cfg(feature = "template")]
use super::rendered::for_epoch;
use super::{Envoy, EnvoyConfig, EnvoyFailed};
use crate::admin::AdminClient;
use crate::failure::Failure;
use crate::hot_restart::{Repair, RepairError, State};
use crate::text::one_line;
use crate::validate::{Verdict, validate};
use crate::version::{BinaryError, check_binary, hot_restart_version};

/// How many of Envoy's last lines a failure tells.
const LAST_WORDS: usize = 10;

/// Why an epoch is killed although nobody has asked for it.
enum PutDown {
    Hung { silent_for: Duration },
    Overstayed,
}

impl fmt::Display for PutDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hung { silent_for } => {
                write!(f, "it was killed: it did not answer for {silent_for:?}")
            }
            Self::Overstayed => f.write_str("it was killed: it did not end at its time"),
        }
    }
}

impl Envoy {
    pub(super) async fn serve(
        &self,
        config: Arc<EnvoyConfig>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        let (child, binary, config) = tokio::select! {
            started = self.launch(config, epoch) => started?,
            // No Envoy runs yet; one that validates is killed with the future.
            _ = control.abort() => return Err(RunError::Aborted),
        };
        let started = Instant::now();
        let child = Arc::new(child);
        let registered = self.epochs.register(epoch, &child, &config, binary);
        let mut put_down = None;
        let result = tokio::select! {
            cause = child.wait() => cause,
            why = self.watch(&config, epoch, &child, &control) => {
                put_down = Some(why);
                child.kill().await.map(|stopped| stopped.cause)
            }
            how = control.abort() => self.end(&child, epoch, how, &control).await,
        };
        drop(registered);
        let overstayed = matches!(put_down, Some(PutDown::Overstayed));
        self.take_care_of_the_child_of(epoch, overstayed).await;
        let repaired = self.repair(epoch);
        let cause = result.map_err(EnvoyFailed::from)?;
        let asked = control.aborted().is_some();
        let failure = classify(cause, &child);
        let ended = Ended {
            cause,
            failure: if asked {
                failure.clone().when_asked()
            } else {
                failure.clone()
            },
            note: put_down.as_ref().map(ToString::to_string),
            uptime: started.elapsed(),
        };
        self.report(epoch, &config, &child, ended);
        if asked {
            return Err(RunError::Aborted);
        }
        let config = config.source().to_owned();
        match put_down {
            Some(PutDown::Hung { silent_for }) => {
                return Err(EnvoyFailed::Hung { config, silent_for }.into());
            }
            Some(PutDown::Overstayed) => return Err(EnvoyFailed::Overstayed { config }.into()),
            None => {}
        }
        if matches!(failure, Failure::Clean | Failure::HandedOver) {
            return Ok(());
        }
        if failure == Failure::StillInitializing
            && let Err(error) = repaired
            && let Some(stuck) = self.stuck(Some(error))
        {
            return Err(stuck.into());
        }
        Err(EnvoyFailed::Ended {
            config,
            failure,
            cause,
            last_words: last_words(&child),
        }
        .into())
    }

    /// Validates the configuration where an older epoch would suffer from a bad one, and starts
    /// Envoy with it. Returns it as this epoch runs it.
    async fn launch(
        &self,
        config: Arc<EnvoyConfig>,
        epoch: Epoch,
    ) -> Result<(Child, FileId, Arc<EnvoyConfig>), EnvoyFailed> {
        let config = for_epoch(config, epoch).await?;
        let settings = &self.settings;
        check_binary(&settings.binary)?;
        let binary = FileId::of(&settings.binary).map_err(|source| BinaryError::Run {
            path: settings.binary.clone(),
            source,
        })?;
        let file = self
            .run_dir
            .write(epoch.number(), config.format(), config.content())?;
        if self.epochs.others_run(epoch) {
            self.check_hot_restart(binary).await?;
            self.validate(&config, binary, &file).await?;
            self.check_flag()?;
            self.epochs.note_ports().await;
        } else {
            // An epoch 0 makes the shared memory anew, from under any Envoy that somebody else has
            // started with this base id since it was claimed.
            self.base_id.remove_stale_shared_memory()?;
        }
        self.stand_ins.vacate(epoch).await;
        let arguments = self.args.serve(&file, epoch.number(), self.base_id.id());
        let command = Command::new(&settings.binary)
            .args(arguments)
            .epoch(epoch.number())
            .label("envoy")
            // Envoy asks for the same by itself; this covers the moments before it does.
            .death_signal(Signal::TERM)
            .shared_output(Arc::clone(&settings.output));
        Ok((command.spawn().await?, binary, config))
    }

    /// A binary that was replaced may speak another hot restart protocol than the one that runs.
    async fn check_hot_restart(&self, binary: FileId) -> Result<(), EnvoyFailed> {
        let Some((running_binary, running)) = self.epochs.running_binary() else {
            return Ok(());
        };
        if running_binary == binary {
            return Ok(());
        }
        let found = hot_restart_version(&self.settings.binary).await?;
        if found.as_str() == running {
            return Ok(());
        }
        let binary = self.settings.binary.clone();
        Err(EnvoyFailed::OtherHotRestart {
            binary,
            found,
            running,
        })
    }

    async fn validate(
        &self,
        config: &Arc<EnvoyConfig>,
        binary: FileId,
        file: &std::path::Path,
    ) -> Result<(), EnvoyFailed> {
        let known = (Arc::clone(config), binary);
        if self.validated.lock().await.as_ref() == Some(&known) {
            return Ok(());
        }
        let source = || config.source().to_owned();
        match validate(&self.settings.binary, &self.args, file).await {
            Verdict::Valid => {
                *self.validated.lock().await = Some(known);
                Ok(())
            }
            Verdict::Rejected { message } => Err(EnvoyFailed::Rejected {
                config: source(),
                message,
            }),
            Verdict::CouldNotRun(error) => Err(EnvoyFailed::NotValidated {
                config: source(),
                source: error,
            }),
        }
    }

    /// Reports the epoch live once it is, and follows it: as the newest one, and then as an old one.
    /// It returns when the epoch must be killed.
    async fn watch(
        &self,
        config: &EnvoyConfig,
        epoch: Epoch,
        child: &Child,
        control: &RunControl,
    ) -> PutDown {
        let admin = AdminClient::new(config.bootstrap().admin.clone());
        match admin
            .wait_live(epoch.number(), &self.settings.live_poll)
            .await
        {
            Ok(info) => {
                self.keep_last_good(epoch, config, &info);
                self.goes_live(epoch, info, &admin).await;
                control.live();
            }
            // Only a poll with a limit gives up; the start deadline ends what is not live by then.
            Err(error) => {
                tracing::warn!(epoch = epoch.number(), "{error}");
                return std::future::pending().await;
            }
        }
        tokio::select! {
            () = self.epochs.superseded(epoch) => {}
            silent_for = self.until_hung(config, epoch) => return PutDown::Hung { silent_for },
        }
        self.follow_to_the_end(epoch, child, control).await;
        PutDown::Overstayed
    }

    /// Ends the epoch as it was told to.
    async fn end(
        &self,
        child: &Child,
        epoch: Epoch,
        how: Abort,
        control: &RunControl,
    ) -> Result<ExitCause, handover_tokio::process::WaitError> {
        // The orderly end of an epoch that initialises tells its parent to end as well.
        let would_take_the_parent_along =
            !self.epochs.is_live(epoch) && self.epochs.others_run(epoch);
        if how == Abort::Immediate || would_take_the_parent_along {
            return child.kill().await.map(|stopped| stopped.cause);
        }
        if let Err(error) = child.signal(Signal::TERM) {
            tracing::debug!(epoch = epoch.number(), "{error}");
        }
        tokio::select! {
            cause = child.wait() => cause,
            () = control.abort_immediately() => child.kill().await.map(|stopped| stopped.cause),
        }
    }

    /// Clears the flag that an epoch leaves in shared memory when it ends while it initialises, once
    /// it is reaped and while no other one initialises.
    fn repair(&self, epoch: Epoch) -> Result<(), RepairError> {
        if !self.settings.repair || self.epochs.any_initializes() || self.epochs.is_empty() {
            return Ok(());
        }
        match self.base_id.shared_memory().clear_initializing() {
            Ok(Repair::Cleared) => tracing::info!(
                epoch = epoch.number(),
                "epoch {epoch} ended while it initialised; cleared the flag it left"
            ),
            Ok(Repair::Absent | Repair::NotNeeded) => {}
            Err(error) => {
                tracing::error!(epoch = epoch.number(), "{error}");
                return Err(error);
            }
        }
        Ok(())
    }

    /// Refuses to start an epoch that would find the flag of a dead one. Where the layout of the
    /// memory is unknown the flag cannot be seen; then Envoy itself says that it is set.
    fn check_flag(&self) -> Result<(), EnvoyFailed> {
        if self.settings.repair || self.epochs.any_initializes() {
            return Ok(());
        }
        match self.base_id.shared_memory().inspect() {
            Ok(State::Known { initializing: true }) => self.stuck(None).map_or(Ok(()), Err),
            Ok(State::Known { .. } | State::Absent | State::Unknown { .. }) => Ok(()),
            Err(error) => {
                tracing::debug!("{error}");
                Ok(())
            }
        }
    }

    /// That the flag stays set, where an epoch serves that can be held.
    fn stuck(&self, source: Option<RepairError>) -> Option<EnvoyFailed> {
        let (holding, _) = self.epochs.newest_live()?;
        Some(EnvoyFailed::Stuck {
            holding,
            path: self.base_id.shared_memory().path().to_owned(),
            source,
        })
    }
}

/// The last lines of standard error, for a person.
fn last_words(child: &Child) -> Vec<String> {
    let tail = child.stderr_tail();
    let lines = tail.lines().rev().take(LAST_WORDS);
    let mut words: Vec<_> = lines
        .map(|line| one_line(&String::from_utf8_lossy(line)))
        .collect();
    words.reverse();
    words
}

/// Without templates every epoch runs the same.
#[cfg(not(feature = "template"))]
async fn for_epoch(
    config: Arc<EnvoyConfig>,
    _epoch: Epoch,
) -> Result<Arc<EnvoyConfig>, EnvoyFailed> {
    Ok(config)
}

fn classify(cause: ExitCause, child: &Child) -> Failure {
    let mut said = Vec::new();
    for line in child.stderr_tail().lines() {
        said.extend_from_slice(line);
        said.push(b'\n');
    }
    let (status, out_of_memory) = match cause {
        ExitCause::Code(code) => (code << 8, false),
        // The bit by which the kernel tells of a core dump.
        ExitCause::Signal {
            number,
            core_dumped: true,
        } => (number | 0x80, false),
        ExitCause::Signal {
            number,
            core_dumped: false,
        } => (number, false),
        ExitCause::OutOfMemory => (Signal::KILL.number(), true),
    };
    Failure::classify(
        ExitStatus::from_raw(status),
        &String::from_utf8_lossy(&said),
        out_of_memory,
    )
}
