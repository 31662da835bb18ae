//! One epoch from its configuration to its end.
//!
//! An [`EpochRun`] owns the process of its epoch, its control by the agent and everything that
//! watches it. It decides nothing: `epochs` does.
//!
//! ```text
//!   launch ──> until_live ──> watchdog ──> retirement ──> end
//!                  │                           │
//!                  └── withdrawal              └── side_by_side, if the newer one is of another lineage
//!
//!   after the end: initializing_flag, stand_ins
//! ```

mod deaf_parent;
mod gate;
mod initializing_flag;
mod launch;
mod retirement;
mod side_by_side;
mod stand_ins;
mod until_live;
mod watchdog;
mod withdrawal;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use handover_core::{Abort, EndCause, Epoch};
use handover_process::{Child, ExitCause, Signal, WaitError};
use handover_tokio::{RunControl, RunError};

use self::deaf_parent::Deaf;
use self::gate::Gate;
use self::until_live::Waiting;
use super::drain::not_drained;
use super::epochs::Ending;
use super::epochs::end::{End, KillReason, Meaning, cuts_clients};
use super::lineage::{Lineage, Tenancy};
use super::observed::Observed;
use super::records::EndRecord;
use super::running::{EnvoyProcess, now};
use super::statistics::{be_taken_over, last_look};
use super::{Envoy, EnvoyConfig, EnvoyFailed};
use crate::failure::Failure;
use crate::hot_restart::RepairError;
use crate::last_good::WentLive;
use crate::text::{is_about_reading, one_line};

pub(super) use self::stand_ins::StandIns;
pub use self::watchdog::{HungAction, Watchdog};

/// How many of Envoy's last lines a failure tells.
const LAST_WORDS: usize = 10;

/// How many base ids are tried for one epoch, where others take each that is chosen.
const CHOICES: u32 = 10;

/// One run of an epoch.
struct EpochRun<'a> {
    envoy: &'a Envoy,
    process: Arc<EnvoyProcess>,
    /// What was seen of it before it was live.
    waiting: Arc<Waiting>,
    /// Its gate, until it is kept.
    gate: Mutex<Option<Gate>>,
}

/// How the process of an epoch came to its end.
struct ProcessEnd {
    cause: Result<ExitCause, WaitError>,
    /// Why it was killed, where the agent did not ask for it.
    killed: Option<KillReason>,
    /// Whether it was dropped because its start was withdrawn.
    dropped: bool,
}

/// What came of a start that has not failed.
enum Served {
    /// The epoch has ended as it should.
    Ended,
    /// It has ended at once, because another Envoy has the base id that was chosen for it.
    BaseIdInUse(Lineage),
}

/// Runs one epoch. A base id that the adapter has chosen itself, and that turns out to be in use, is
/// exchanged for another one: that is no failure of the epoch.
pub(super) async fn serve(
    envoy: &Envoy,
    config: Arc<EnvoyConfig>,
    epoch: Epoch,
    control: RunControl,
) -> Result<(), RunError> {
    let mut choices = CHOICES;
    loop {
        let launched = tokio::select! {
            biased;
            launched = launch::launch(envoy, Arc::clone(&config), epoch, &control) => launched?,
            // No Envoy runs yet; one that validates is killed with the future.
            _ = control.abort() => return Err(RunError::Aborted),
            () = control.withdrawn() => return Err(RunError::Aborted),
        };
        let (process, tenancy, gate) = launched;
        let run = EpochRun {
            envoy,
            process: Arc::new(process),
            waiting: Arc::default(),
            gate: Mutex::new(gate),
        };
        match run.run(tenancy, choices > 0).await? {
            Served::Ended => return Ok(()),
            Served::BaseIdInUse(lineage) => {
                launch::choose_again(envoy, lineage).await?;
                choices -= 1;
            }
        }
    }
}

impl EpochRun<'_> {
    /// Follows the process to its end, and says what that means.
    async fn run(self, tenancy: Tenancy, may_choose_base_id: bool) -> Result<Served, RunError> {
        let EnvoyProcess { epoch, lineage, .. } = &*self.process;
        let epoch = *epoch;
        let registered = self.envoy.running.register(&self.process);
        self.replace_lost_parent();
        let ended = self.until_end().await;
        let (was_live, is_undrained, was_newest) = {
            let table = self.envoy.running.table();
            let time = self.parent_shutdown_time();
            let is_undrained = table.is_undrained(epoch, now(), time);
            let was_newest = table.newest_live() == Some(epoch);
            (table.is_live(epoch), is_undrained, was_newest)
        };
        let was_asked = ended.dropped || self.process.control.aborted().is_some();
        if let Ok(cause) = ended.cause
            && was_newest
            && cuts_clients(is_undrained, was_asked, ended.killed.as_ref())
        {
            // Before it is gone from those that run: a stop that finds none of them looks here.
            self.envoy
                .drains
                .note_lost(not_drained(&self.process, Ok(cause)));
        }
        drop(registered);
        let in_order = ended.cause.as_ref().is_ok_and(|cause| cause.success());
        self.take_care_of_child(in_order).await;
        let repaired = self.clear_initializing_flag();
        let failure = ended.cause.as_ref().ok().map(|cause| self.failure(*cause));
        // The looks below take their time, and the next first epoch may start meanwhile.
        drop(tenancy);
        let deaf = match self.process.control.is_late() && !was_live {
            true => self.look_at_parent().await,
            false => None,
        };
        let must_look = self.envoy.running.table().must_look_after_end(was_live);
        if must_look {
            self.look_after_end().await;
        }
        let cause = ended.cause.map_err(EnvoyFailed::from)?;
        let failure = failure.unwrap_or_else(|| self.failure(cause));
        let end_cause = failure.end_cause(cause.signal().is_none().then(|| cause.exit_code()));
        let (others_run, newest_live) = {
            let table = self.envoy.running.table();
            (table.others_run(lineage.id(), epoch), table.newest_live())
        };
        let cannot_read_file = matches!(
            &failure,
            Failure::ConfigurationRejected { message }
                if is_about_reading(message, &self.process.file)
        );
        let end = End {
            failure,
            killed: ended.killed,
            dropped: ended.dropped,
            aborted: self.process.control.aborted().is_some(),
            is_late: self.process.control.is_late(),
            was_live,
            stop_drains: self.envoy.drains.stop_drains(),
            is_undrained,
            may_choose_base_id: may_choose_base_id && lineage.may_be_chosen_again(epoch),
            cannot_read_file,
            others_run,
            end_is_final: self.envoy.settings.on_exit.is_final(end_cause),
            repair_failed: repaired.is_err(),
            newest_live,
        };
        let meaning = end.meaning();
        if meaning == Meaning::BaseIdInUse {
            // The epoch goes on under another base id, so there is no end to record.
            return Ok(Served::BaseIdInUse(lineage.clone()));
        }
        self.record(&end, cause);
        self.outcome(meaning, end.failure, (cause, end_cause), repaired, deaf)
    }

    fn take_gate(&self) -> Option<Gate> {
        // Nothing in there is left half-way by a panic.
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.take()
    }

    /// Waits for the end of the process, and brings it about where it must.
    async fn until_end(&self) -> ProcessEnd {
        let child = &self.process.child;
        let mut killed = None;
        let mut dropped = false;
        let cause = tokio::select! {
            // After a time in which this process was stopped, what has ended must not be judged.
            biased;
            cause = child.wait() => cause,
            reason = self.until_it_must_be_killed() => {
                killed = Some(reason);
                kill(child).await
            }
            how = self.process.control.abort() => self.end(how).await,
            cause = self.end_if_withdrawn() => {
                dropped = true;
                cause
            }
        };
        ProcessEnd {
            cause,
            killed,
            dropped,
        }
    }

    /// Reports the epoch live once it is, and follows it: as the newest one, and then as an old one.
    /// Returns when it must be killed.
    async fn until_it_must_be_killed(&self) -> KillReason {
        tokio::select! {
            reason = self.follow() => reason,
            () = self.until_deaf() => KillReason::Deaf,
        }
    }

    async fn follow(&self) -> KillReason {
        let info = match self.until_live().await {
            Ok(info) => info,
            Err(reason) => return reason,
        };
        let (envoy, process) = (self.envoy, &*self.process);
        if !envoy.drains.go_live(&envoy.running, process, &info).await {
            // Its end is under way.
            return std::future::pending().await;
        }
        let live = envoy.records.note_live(process.epoch, &info);
        envoy.observer.tell(Observed::Live {
            epoch: process.epoch,
            version: live.envoy.clone(),
            base_id: process.lineage.base_id().get(),
        });
        process.control.live();
        tokio::select! {
            // One that has passed its probation just before is good, whatever follows.
            biased;
            never = self.keep_once_proven(live) => match never {},
            _ = process.control.retired() => envoy.running.table().retire(process.epoch),
            () = self.look_after_failed_starts() => {}
            silent_for = self.until_hung() => return KillReason::Hung { silent_for },
        }
        tokio::select! {
            reason = self.follow_to_the_end() => reason,
            never = be_taken_over(envoy, process) => match never {},
        }
    }

    /// Keeps the configuration as the last good one once the epoch has passed its probation.
    async fn keep_once_proven(&self, live: WentLive) -> Infallible {
        let (envoy, process) = (self.envoy, &*self.process);
        process.control.proven().await;
        envoy.running.table().prove(process.epoch);
        envoy
            .records
            .keep_last_good(process.epoch, &process.config, live);
        std::future::pending().await
    }

    /// Ends the epoch as it was told to.
    async fn end(&self, how: Abort) -> Result<ExitCause, WaitError> {
        let EnvoyProcess {
            child,
            control,
            epoch,
            ..
        } = &*self.process;
        if control.is_late() {
            self.look_at_sockets().await;
        }
        // With the end of everything there is nobody left to ask for them.
        if how == Abort::Graceful && !self.envoy.drains.stop_drains() {
            tokio::select! {
                () = last_look(self.envoy, &self.process) => {}
                () = control.abort_immediately() => {}
            }
        }
        let ending = self.envoy.running.table().abort(*epoch, how);
        match ending {
            Ending::Kill => kill(child).await,
            Ending::Orderly => {
                if let Err(error) = child.signal(Signal::TERM) {
                    tracing::debug!(epoch = epoch.number(), "{error}");
                }
                tokio::select! {
                    cause = child.wait() => cause,
                    () = control.abort_immediately() => kill(child).await,
                }
            }
        }
    }

    /// Returns why the process ended, as far as its last words and its shared memory tell.
    fn failure(&self, cause: ExitCause) -> Failure {
        let failure = self.process.failure(cause);
        let memory = self.process.lineage.shared_memory();
        match failure.is_bus_error() && memory.is_full() {
            true => failure.with_full_shared_memory(memory.path()),
            false => failure,
        }
    }

    /// Keeps how the epoch ended.
    fn record(&self, end: &End, cause: ExitCause) {
        let failure = match end.was_asked() {
            true => end.failure.clone().when_asked(),
            false => end.failure.clone(),
        };
        let ended = EndRecord {
            cause,
            failure,
            note: end.killed.as_ref().map(ToString::to_string),
            uptime: self.process.started.elapsed(),
        };
        let EnvoyProcess {
            epoch,
            config,
            child,
            ..
        } = &*self.process;
        self.envoy.observer.tell(Observed::Ended {
            epoch: *epoch,
            failure: ended.failure.clone(),
            cause,
            connections: self.last_count(),
        });
        self.envoy.records.report(*epoch, config, child, ended);
    }

    /// Returns how many connections clients had when the epoch was looked at last, if they were counted.
    fn last_count(&self) -> Option<u64> {
        let at_stop = self.envoy.cut.last_count(self.process.epoch);
        at_stop.or_else(|| self.process.last_count())
    }

    /// Puts the meaning of an end into the words of the agent.
    fn outcome(
        &self,
        meaning: Meaning,
        failure: Failure,
        (cause, end_cause): (ExitCause, EndCause),
        repaired: Result<(), RepairError>,
        deaf: Option<Deaf>,
    ) -> Result<Served, RunError> {
        let config = self.process.config.source().to_owned();
        let on_exit = &self.envoy.settings.on_exit;
        let error = match meaning {
            Meaning::AsItShould => return Ok(Served::Ended),
            Meaning::BaseIdInUse => return Ok(Served::BaseIdInUse(self.process.lineage.clone())),
            Meaning::Aborted => return Err(RunError::Aborted),
            Meaning::NotLive => EnvoyFailed::NotLive {
                config,
                why: match deaf {
                    Some(deaf) => deaf.to_string(),
                    None => self.waiting.why(&self.process.config.bootstrap().admin),
                },
            },
            Meaning::NotDrained => not_drained(&self.process, Ok(cause)),
            Meaning::Unreadable => EnvoyFailed::Unreadable {
                config,
                file: self.process.file.clone(),
            },
            Meaning::Killed(KillReason::Refuses { why }) => EnvoyFailed::Refuses { config, why },
            Meaning::Killed(KillReason::Hung { silent_for }) => EnvoyFailed::Hung {
                config,
                silent_for,
                is_final: on_exit.is_final(EndCause::Hung),
            },
            Meaning::Killed(KillReason::Deaf) => EnvoyFailed::Deaf { config },
            Meaning::Killed(KillReason::Overstayed) => EnvoyFailed::Overstayed { config },
            Meaning::Killed(KillReason::KeptListening) => EnvoyFailed::KeptListening { config },
            Meaning::Stuck { holding } => EnvoyFailed::Stuck {
                holding,
                path: self.process.lineage.shared_memory().path().to_owned(),
                source: repaired.err(),
            },
            Meaning::Failed {
                is_final,
                with_last_words,
            } => EnvoyFailed::Ended {
                config,
                final_cause: is_final.then_some(end_cause),
                cause,
                last_words: match with_last_words {
                    true => last_words(&self.process.child),
                    false => Vec::new(),
                },
                failure,
            },
        };
        Err(error.into())
    }

    fn parent_shutdown_time(&self) -> std::time::Duration {
        self.envoy.args.parent_shutdown_time()
    }
}

async fn kill(child: &Child) -> Result<ExitCause, WaitError> {
    child.kill().await.map(|stopped| stopped.cause)
}

/// Returns the last lines of standard error, for a person.
fn last_words(child: &Child) -> Vec<String> {
    let tail = child.stderr_tail();
    let lines = tail.lines().rev().take(LAST_WORDS);
    let mut words: Vec<_> = lines
        .map(|line| one_line(&String::from_utf8_lossy(line)))
        .collect();
    words.reverse();
    words
}
