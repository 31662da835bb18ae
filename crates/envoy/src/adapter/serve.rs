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
use super::lines::Line;
use super::start::Waiting;
use super::{Envoy, EnvoyConfig, EnvoyFailed};
use crate::admin::AdminClient;
use crate::failure::Failure;
use crate::heard::Heard;
use crate::text::{is_about_reading, one_line};

/// How many of Envoy's last lines a failure tells.
const LAST_WORDS: usize = 10;

/// How many base ids are tried for one epoch, where others take each that is chosen.
const CHOICES: u32 = 10;

/// Why an epoch is killed although nobody has asked for it.
pub(super) enum PutDown {
    Hung { silent_for: Duration },
    Refuses { why: String },
    Overstayed,
    KeptListening,
}

impl fmt::Display for PutDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hung { silent_for } => {
                write!(f, "it was killed: it did not answer for {silent_for:?}")
            }
            Self::Refuses { why } => {
                write!(f, "it was killed: it cannot be seen live, because {why}")
            }
            Self::Overstayed => f.write_str("it was killed: it did not end at its time"),
            Self::KeptListening => f.write_str("it was killed: it did not close its listeners"),
        }
    }
}

/// What came of a start that has not failed.
enum Served {
    /// The epoch has ended as it should.
    Ended,
    /// It has ended at once, because another Envoy has the base id that was chosen for it.
    BaseIdInUse(Line),
}

impl Envoy {
    /// Runs one epoch. A base id that handover has chosen itself, and that turns out to be in use, is
    /// exchanged for another one: that is no failure of the epoch.
    pub(super) async fn serve(
        &self,
        config: Arc<EnvoyConfig>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        let mut choices = CHOICES;
        loop {
            let may_choose = choices > 0;
            let config = Arc::clone(&config);
            match self.serve_once(config, epoch, &control, may_choose).await? {
                Served::Ended => return Ok(()),
                Served::BaseIdInUse(line) => {
                    self.lines.choose_again(line).map_err(EnvoyFailed::from)?;
                    choices -= 1;
                }
            }
        }
    }

    async fn serve_once(
        &self,
        config: Arc<EnvoyConfig>,
        epoch: Epoch,
        control: &RunControl,
        may_choose: bool,
    ) -> Result<Served, RunError> {
        let launched = tokio::select! {
            biased;
            started = self.launch(config, epoch) => started?,
            // No Envoy runs yet; one that validates is killed with the future.
            _ = control.abort() => return Err(RunError::Aborted),
            () = control.withdrawn() => return Err(RunError::Aborted),
        };
        let started = Instant::now();
        let Launched {
            child,
            config,
            line,
            ..
        } = &launched;
        let registered = self.epochs.register(epoch, &launched, control);
        let waiting = Arc::default();
        let mut put_down = None;
        let mut dropped = false;
        let result = tokio::select! {
            // After a time in which this process was stopped, what has ended must not be judged.
            biased;
            cause = child.wait() => cause,
            why = self.watch(config, epoch, &launched, control, &waiting) => {
                put_down = Some(why);
                child.kill().await.map(|stopped| stopped.cause)
            }
            how = control.abort() => self.end(epoch, &launched, how, control, &waiting).await,
            cause = self.end_if_withdrawn(epoch, &launched, control, &waiting) => {
                dropped = true;
                cause
            }
        };
        let was_live = self.epochs.is_live(epoch);
        let time = self.args.parent_shutdown_time();
        let undrained = self.on_request.stops() && self.epochs.is_undrained(epoch, time);
        drop(registered);
        let overstayed = matches!(put_down, Some(PutDown::Overstayed));
        self.take_care_of_the_child_of(epoch, line, overstayed)
            .await;
        let repaired = self.repair(epoch, line);
        if !was_live {
            self.look_after_a_failed_start(epoch).await;
        }
        let cause = result.map_err(EnvoyFailed::from)?;
        let asked = dropped || control.aborted().is_some();
        let mut failure = classify(cause, child, &launched.heard);
        if matches!(failure, Failure::BaseIdConflict { .. })
            && may_choose
            && !asked
            && line.may_be_chosen_again(epoch)
        {
            return Ok(Served::BaseIdInUse(line.clone()));
        }
        if failure.is_bus_error() && line.shared_memory().is_full() {
            failure = failure.with_full_shared_memory(line.shared_memory().path());
        }
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
        let admin = &config.bootstrap().admin;
        let config = config.source().to_owned();
        if control.is_late() && !was_live {
            let why = waiting.why(admin);
            return Err(EnvoyFailed::NotLive { config, why }.into());
        }
        if asked {
            return Err(RunError::Aborted);
        }
        if undrained && put_down.is_none() {
            return Err(not_drained(&launched.config, child, Ok(cause)).into());
        }
        if let Failure::ConfigurationRejected { message } = &failure
            && is_about_reading(message, &launched.file)
        {
            let file = launched.file;
            return Err(EnvoyFailed::Unreadable { config, file }.into());
        }
        match put_down {
            Some(PutDown::Refuses { why }) => {
                return Err(EnvoyFailed::Refuses { config, why }.into());
            }
            Some(PutDown::Hung { silent_for }) => {
                let is_final = self.settings.end_is_final;
                return Err(EnvoyFailed::Hung {
                    config,
                    silent_for,
                    is_final,
                }
                .into());
            }
            Some(PutDown::Overstayed) => return Err(EnvoyFailed::Overstayed { config }.into()),
            Some(PutDown::KeptListening) => {
                return Err(EnvoyFailed::KeptListening { config }.into());
            }
            None => {}
        }
        // Where an end is final, a clean one of an epoch that has never served would end the one that
        // serves as well.
        let takes_others_along =
            self.settings.end_is_final && !was_live && self.epochs.others_run(line, epoch);
        if matches!(failure, Failure::Clean | Failure::HandedOver) && !takes_others_along {
            return Ok(Served::Ended);
        }
        if failure == Failure::StillInitializing
            && let Err(error) = repaired
            && let Some(stuck) = self.stuck(line, Some(error))
        {
            return Err(stuck.into());
        }
        Err(EnvoyFailed::Ended {
            config,
            // One that found the flag of an earlier epoch set has not been let in.
            is_final: self.settings.end_is_final && failure != Failure::StillInitializing,
            cause,
            // The reason is told already, and the lines behind it are the configuration.
            last_words: if matches!(failure, Failure::ConfigurationRejected { .. }) {
                Vec::new()
            } else {
                last_words(child)
            },
            failure,
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
        waiting: &Arc<Waiting>,
    ) -> PutDown {
        let line = &launched.line;
        let info = match self.wait_until_live(config, epoch, launched, waiting).await {
            Ok(info) => info,
            Err(why) => return why,
        };
        let admin = AdminClient::new(config.bootstrap().admin.clone());
        if !self.goes_live(epoch, info.clone(), &admin).await {
            // Its end is under way.
            return std::future::pending().await;
        }
        self.keep_last_good(epoch, config, &info);
        control.live();
        tokio::select! {
            _ = control.retired() => {}
            () = self.look_after_failed_starts() => {}
            silent_for = self.until_hung(config, epoch, line) => return PutDown::Hung { silent_for },
        }
        self.follow_to_the_end(epoch, launched, control).await
    }

    /// Ends the epoch as it was told to.
    pub(super) async fn end(
        &self,
        epoch: Epoch,
        Launched {
            child,
            config,
            line,
            ..
        }: &Launched,
        how: Abort,
        control: &RunControl,
        waiting: &Waiting,
    ) -> Result<ExitCause, handover_tokio::process::WaitError> {
        if control.is_late() {
            let admin = &config.bootstrap().admin;
            waiting.look(child.pid(), admin).await;
        }
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

/// What an end means. What was heard of the reason goes before the last lines.
pub(super) fn classify(cause: ExitCause, child: &Child, heard: &Heard) -> Failure {
    let mut said = Vec::new();
    match heard.reason() {
        // What follows is the configuration, which may say anything.
        Some(reason) => said.extend_from_slice(reason.as_bytes()),
        None => {
            for line in child.stderr_tail().lines() {
                said.extend_from_slice(line);
                said.push(b'\n');
            }
        }
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
