//! Letting every epoch finish its work before a stop.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::Epoch;
use handover_process::{ExitCause, WaitError};
use handover_runtime::time_limit::timeout_at;
use handover_tokio::{RunControl, RunError, error_chain};
use tokio::time::{Instant, sleep};

use super::super::epochs::draining::{Count, Emptying, Progress};
use super::super::running::{EnvoyProcess, LiveClients, RunningEpochs, TIME_TO_END, UnknownCount};
use super::super::{EnvoyFailed, StopOptions};
use super::Drains;
use crate::admin::ListenerConnections;
use crate::drain::reports::Reports;
use crate::drain::{DrainOptions, drain_counting, inbound_ports, least_pause, list, pause_after};
use crate::syn_filter::keep_new_connections_away;

/// How often the connections of older epochs are counted at most while a stop waits for them.
const COUNT: Duration = Duration::from_millis(20);

/// How long before the limit the drain ends by itself, so that what is cut can be named before it
/// is.
const TO_TELL: Duration = Duration::from_millis(50);

/// How the wait for an epoch to be without connections was over.
enum Waited {
    NoneLeft,
    /// Its process has ended first.
    Ended,
    TimeOver,
}

/// What drains have cut, or hold.
#[derive(Debug, Default)]
pub(in crate::adapter) struct CutConnections {
    /// What a drain had not seen end at its limit.
    cut: Mutex<Vec<String>>,
    /// What each epoch held a drain with when it was looked at last.
    held: Mutex<BTreeMap<Epoch, Vec<String>>>,
    /// How many connections each epoch had then, if they were counted.
    counts: Mutex<BTreeMap<Epoch, Option<u64>>>,
}

impl CutConnections {
    /// Returns what was cut.
    pub(in crate::adapter) fn all(&self) -> Vec<String> {
        lock(&self.cut).clone()
    }

    /// Keeps what an epoch holds the drain with at this moment.
    pub(in crate::adapter) fn note_held(
        &self,
        epoch: Epoch,
        counted: &Result<Vec<ListenerConnections>, UnknownCount>,
    ) {
        match counted {
            Ok(holding) => {
                let count = holding.iter().map(|listener| listener.active).sum();
                lock(&self.counts).insert(epoch, Some(count));
            }
            // What was seen before its end is what there is to see.
            Err(why) if why.has_ended() => {}
            Err(_) => drop(lock(&self.counts).insert(epoch, None)),
        }
        let holds = match counted {
            Ok(holding) => holding.iter().map(ToString::to_string).collect(),
            Err(why) if why.has_ended() => Vec::new(),
            Err(why) => vec![format!("unknown connections ({why})")],
        };
        lock(&self.held).insert(epoch, holds);
    }

    /// Returns how many connections an epoch held the drain with when it was looked at last, if they were
    /// counted.
    pub(in crate::adapter) fn last_count(&self, epoch: Epoch) -> Option<u64> {
        lock(&self.counts).get(&epoch).copied().flatten()
    }

    fn add_what_was_held(&self) {
        for (epoch, holds) in lock(&self.held).iter() {
            for what in holds {
                self.add(*epoch, what);
            }
        }
    }

    /// Logs what is cut, and keeps it for the last words.
    fn add(&self, epoch: Epoch, what: &str) {
        tracing::warn!(epoch = epoch.number(), "cutting {what} of epoch {epoch}");
        lock(&self.cut).push(format!("{what} of epoch {epoch}"));
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half-way by a panic.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stop that lets every epoch finish its work.
pub(in crate::adapter) struct Stop<'a> {
    pub(in crate::adapter) running: &'a RunningEpochs,
    pub(in crate::adapter) options: &'a StopOptions,
    pub(in crate::adapter) cut: &'a CutConnections,
    pub(in crate::adapter) drains: &'a Drains,
}

impl Stop<'_> {
    /// Lets the live epoch drain through its admin endpoint, and waits until the older ones have no
    /// connection left. It returns when all is drained, or when that has become impossible because the
    /// live epoch has ended; otherwise the agent's deadline ends it.
    pub(in crate::adapter) async fn drain(&self, control: &RunControl) -> Result<(), RunError> {
        let limit = self.options.limit.saturating_sub(TO_TELL);
        let now = Instant::now();
        // A limit too far away for the clock is as good as none that a person would see the end of.
        let end = now
            .checked_add(limit)
            .unwrap_or_else(|| now + Duration::from_secs(86_400 * 365));
        tokio::select! {
            result = self.drain_all(end) => Ok(result?),
            _ = control.abort() => {
                // On a busy host the agent's deadline may come before ours is seen.
                if Instant::now() >= end && self.cut.all().is_empty() {
                    self.cut.add_what_was_held();
                }
                Err(RunError::Aborted)
            }
        }
    }

    async fn drain_all(&self, end: Instant) -> Result<(), EnvoyFailed> {
        // Afterwards they do not listen any more.
        self.running.note_listening().await;
        let (live, older) = tokio::join!(self.drain_live(end), self.wait_for_older(end));
        if !(live? && older) {
            // Not drained in time: the agent cuts what is left when its own deadline comes.
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// Whether the live epoch has no connection left.
    async fn drain_live(&self, end: Instant) -> Result<bool, EnvoyFailed> {
        let Some(process) = self.running.newest_live() else {
            return self.drains.take_lost().map_or(Ok(true), Err);
        };
        tokio::select! {
            biased;
            waited = self.drain_epoch(&process, end) => match waited {
                Waited::NoneLeft => return Ok(true),
                Waited::TimeOver => return Ok(false),
                Waited::Ended => {}
            },
            _ = process.child.wait() => {}
        }
        Err(not_drained(&process, process.child.wait().await))
    }

    async fn drain_epoch(&self, process: &EnvoyProcess, end: Instant) -> Waited {
        let epoch = process.epoch;
        let stop = self.options;
        let options = DrainOptions {
            pre_drain_delay: stop.pre_drain_delay,
            minimum: stop.minimum,
            limit: end.saturating_duration_since(Instant::now()),
            exclude: stop.exclude.clone(),
            listeners: process.config.bootstrap().listeners.clone(),
            child: Some(process.pid()),
            ..DrainOptions::default()
        };
        if stop.exclude.inbound_only && !options.listeners.iter().any(|it| it.inbound) {
            tracing::info!(
                epoch = epoch.number(),
                "no static listener of epoch {epoch} has the traffic direction INBOUND, so the drain closes \
                 only those of a control plane that have it"
            );
        }
        let clients = LiveClients {
            running: self.running,
            process,
            cut: self.cut,
        };
        match drain_counting(&process.admin(), &options, &clients).await {
            Ok(report) if report.is_drained() => {
                self.running.table().set_drained(epoch);
                return Waited::NoneLeft;
            }
            Ok(report) => {
                for connections in &report.holding {
                    self.cut.add(epoch, &connections.to_string());
                }
                return Waited::TimeOver;
            }
            Err(_) if process.has_ended() => return Waited::Ended,
            Err(error) if Instant::now() >= end => {
                let error = error_chain(&error);
                self.cut
                    .add(epoch, &format!("unknown connections ({error})"));
                return Waited::TimeOver;
            }
            Err(error) => {
                // One that is just ending does not answer either, and then this is the end of it.
                sleep(TIME_TO_END).await;
                let error = error_chain(&error);
                tracing::warn!(
                    epoch = epoch.number(),
                    "the drain of epoch {epoch} cannot be observed: {error}"
                );
            }
        }
        // An epoch that cannot be asked: a newer one that failed has taken its admin endpoint along,
        // or the configuration narrows it. Nobody new is let in; connections that their clients keep
        // last until the limit.
        if Instant::now() >= end {
            return Waited::TimeOver;
        }
        let inbound = inbound_ports(&options.listeners);
        let is_spared = |port| stop.exclude.inbound_only && !inbound.contains(&port);
        if let Err(error) = keep_new_connections_away(process.pid(), is_spared).await {
            error.log();
        }
        self.without_connections(process, true, end).await
    }

    /// Whether no older epoch has a connection left. One whose connections cannot be counted is waited
    /// for until it has ended.
    async fn wait_for_older(&self, end: Instant) -> bool {
        let Some(live) = self.running.newest_live() else {
            return true;
        };
        let all = self.running.all();
        let older = all.iter().filter(|process| process.epoch < live.epoch);
        for process in older {
            if let Waited::TimeOver = self.without_connections(process, false, end).await {
                return false;
            }
        }
        true
    }

    /// Waits until an epoch, which may be the live one, has no connection or has ended.
    async fn without_connections(
        &self,
        process: &EnvoyProcess,
        is_live: bool,
        end: Instant,
    ) -> Waited {
        let epoch = process.epoch;
        let mut last = Ok(Vec::new());
        let begun = Instant::now();
        let mut reports = Reports::new(begun.into_std(), begun.into_std());
        let mut emptying = match is_live {
            true => Emptying::of_live(),
            false => Emptying::of_old(begun.into_std()),
        };
        let over = async {
            loop {
                let looking = Instant::now();
                let gives_way = self.running.table().must_give_way(epoch);
                if emptying.needs_look_at_listeners() {
                    let seen = self.running.closing_all(process).await;
                    emptying.handle_listeners(seen, Instant::now().into_std());
                }
                let counted = match is_live {
                    true => self.running.count_live(process).await,
                    false => self.running.count_old(process).await,
                };
                self.cut.note_held(epoch, &counted);
                let now = Instant::now().into_std();
                match emptying.handle_count(Count::from(&counted), gives_way, now) {
                    Progress::Drained => {
                        self.running.table().set_drained(epoch);
                        return Waited::NoneLeft;
                    }
                    Progress::Ended => return Waited::Ended,
                    Progress::Waits => {}
                }
                match &counted {
                    Err(why) => self.running.log_unknown_count(process, why),
                    Ok(holding) if !holding.is_empty() && reports.is_due(now) => tracing::info!(
                        epoch = epoch.number(),
                        "the drain waits for {} of epoch {epoch}",
                        list(holding)
                    ),
                    Ok(_) => {}
                }
                last = counted;
                let least = least_pause(begun.elapsed(), COUNT);
                sleep(pause_after(looking.elapsed(), least)).await;
            }
        };
        if let Ok(waited) = timeout_at(end, over).await {
            return waited;
        }
        match last {
            Ok(holding) => {
                for connections in holding {
                    self.cut.add(epoch, &connections.to_string());
                }
            }
            Err(why) => self.cut.add(epoch, &format!("unknown connections ({why})")),
        }
        Waited::TimeOver
    }
}

/// Returns the error for an epoch that has ended before it was drained.
pub(in crate::adapter) fn not_drained(
    process: &EnvoyProcess,
    cause: Result<ExitCause, WaitError>,
) -> EnvoyFailed {
    match cause {
        Ok(cause) => EnvoyFailed::NotDrained {
            config: process.config.source().to_owned(),
            failure: process.failure_while_live(cause),
            cause,
        },
        Err(error) => EnvoyFailed::Lost(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Exclude;

    #[test]
    fn what_each_epoch_held_last_is_what_was_cut() {
        let cut = CutConnections::default();
        let web = |active| ListenerConnections {
            listener: "web".to_owned(),
            active,
        };
        cut.note_held(Epoch::ZERO, &Ok(vec![web(1)]));
        cut.note_held(Epoch::ZERO, &Ok(vec![web(3)]));
        cut.note_held(Epoch::new(1), &Err(UnknownCount::of_running()));
        cut.note_held(Epoch::new(2), &Ok(vec![web(1)]));
        cut.note_held(Epoch::new(2), &Err(UnknownCount::of_ended()));
        assert_eq!(cut.all(), [""; 0]);
        let counts = [0, 1, 2, 3].map(|epoch| cut.last_count(Epoch::new(epoch)));
        // The third one was seen with a connection before it was seen to have ended.
        assert_eq!(counts, [Some(3), None, Some(1), None]);
        cut.add_what_was_held();
        let all = cut.all();
        let [held, unknown] = &all[..] else {
            panic!("{all:?}");
        };
        assert_eq!(held, "3 connections on listener web of epoch 0");
        assert!(unknown.starts_with("unknown connections (not from outside: "));
        assert!(unknown.ends_with(") of epoch 1"), "{unknown}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_that_finds_nobody_to_drain_asks_whether_what_served_has_just_ended() {
        let (running, options) = (
            RunningEpochs::new(Exclude::default()),
            StopOptions::default(),
        );
        let (cut, drains) = (CutConnections::default(), Drains::default());
        let stop = Stop {
            running: &running,
            options: &options,
            cut: &cut,
            drains: &drains,
        };
        let end = Instant::now() + options.limit;
        assert!(matches!(stop.drain_live(end).await, Ok(true)));
        let lost = || EnvoyFailed::Lost(WaitError::Lost { pid: 1 });
        drains.note_lost(lost());
        assert!(matches!(
            stop.drain_live(end).await,
            Err(EnvoyFailed::Lost(_))
        ));
        // It is told once, and one that has ended long before is a matter of its own.
        assert!(matches!(stop.drain_live(end).await, Ok(true)));
        drains.note_lost(lost());
        sleep(Duration::from_millis(1_001)).await;
        assert!(matches!(stop.drain_live(end).await, Ok(true)));
        // At the end each one who asks is told the same.
        drains.note_lost(lost());
        assert!(drains.lost_in_words().is_some());
        assert!(drains.lost_in_words().is_some());
        let late = Drains::default();
        late.note_lost(lost());
        sleep(Duration::from_millis(1_001)).await;
        assert_eq!(late.lost_in_words(), None);
    }
}
