//! One epoch from its configuration to its end.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover_core::{Abort, Epoch};
use handover_tokio::process::{Child, ExitCause, Signal};
use handover_tokio::{RunControl, RunError};

use super::drain::not_drained;
use super::epochs::Launched;
use super::keep::Ended;
use super::{Envoy, EnvoyConfig, EnvoyFailed};
use crate::admin::AdminClient;
use crate::failure::Failure;
use crate::text::one_line;

/// How many of Envoy's last lines a failure tells.
const LAST_WORDS: usize = 10;

/// Why an epoch is killed although nobody has asked for it.
pub(super) enum PutDown {
    Hung { silent_for: Duration },
    Overstayed,
    KeptListening,
}

impl fmt::Display for PutDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hung { silent_for } => {
                write!(f, "it was killed: it did not answer for {silent_for:?}")
            }
            Self::Overstayed => f.write_str("it was killed: it did not end at its time"),
            Self::KeptListening => f.write_str("it was killed: it did not close its listeners"),
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
        let launched = tokio::select! {
            started = self.launch(config, epoch) => started?,
            // No Envoy runs yet; one that validates is killed with the future.
            _ = control.abort() => return Err(RunError::Aborted),
        };
        let started = Instant::now();
        let Launched {
            child,
            config,
            line,
            ..
        } = &launched;
        let registered = self.epochs.register(epoch, &launched);
        let mut put_down = None;
        let result = tokio::select! {
            cause = child.wait() => cause,
            why = self.watch(config, epoch, &launched, &control) => {
                put_down = Some(why);
                child.kill().await.map(|stopped| stopped.cause)
            }
            how = control.abort() => self.end(epoch, &launched, how, &control).await,
        };
        let time = self.args.parent_shutdown_time();
        let undrained = self.on_request.stops() && self.epochs.is_undrained(epoch, time);
        drop(registered);
        let overstayed = matches!(put_down, Some(PutDown::Overstayed));
        self.take_care_of_the_child_of(epoch, line, overstayed)
            .await;
        let repaired = self.repair(epoch, line);
        let cause = result.map_err(EnvoyFailed::from)?;
        let asked = control.aborted().is_some();
        let failure = classify(cause, child);
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
        self.report(epoch, config, child, ended);
        if asked {
            return Err(RunError::Aborted);
        }
        if undrained && put_down.is_none() {
            return Err(not_drained(config, child, Ok(cause)).into());
        }
        let config = config.source().to_owned();
        match put_down {
            Some(PutDown::Hung { silent_for }) => {
                return Err(EnvoyFailed::Hung { config, silent_for }.into());
            }
            Some(PutDown::Overstayed) => return Err(EnvoyFailed::Overstayed { config }.into()),
            Some(PutDown::KeptListening) => {
                return Err(EnvoyFailed::KeptListening { config }.into());
            }
            None => {}
        }
        if matches!(failure, Failure::Clean | Failure::HandedOver) {
            return Ok(());
        }
        if failure == Failure::StillInitializing
            && let Err(error) = repaired
            && let Some(stuck) = self.stuck(line, Some(error))
        {
            return Err(stuck.into());
        }
        Err(EnvoyFailed::Ended {
            config,
            failure,
            cause,
            last_words: last_words(child),
        }
        .into())
    }

    /// Reports the epoch live once it is, and follows it: as the newest one, and then as an old one.
    /// It returns when the epoch must be killed.
    async fn watch(
        &self,
        config: &EnvoyConfig,
        epoch: Epoch,
        launched: &Launched,
        control: &RunControl,
    ) -> PutDown {
        let line = &launched.line;
        let admin = AdminClient::new(config.bootstrap().admin.clone());
        match admin
            .wait_live(line.restart_epoch(epoch), &self.settings.live_poll)
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
            silent_for = self.until_hung(config, epoch, line) => return PutDown::Hung { silent_for },
        }
        self.follow_to_the_end(epoch, launched, control).await
    }

    /// Ends the epoch as it was told to.
    async fn end(
        &self,
        epoch: Epoch,
        Launched { child, line, .. }: &Launched,
        how: Abort,
        control: &RunControl,
    ) -> Result<ExitCause, handover_tokio::process::WaitError> {
        // The orderly end of an epoch that initialises tells its parent to end as well.
        let would_take_the_parent_along =
            !self.epochs.is_live(epoch) && self.epochs.others_run(line, epoch);
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

pub(super) fn classify(cause: ExitCause, child: &Child) -> Failure {
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
