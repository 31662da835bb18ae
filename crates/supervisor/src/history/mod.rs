//! What has become of each epoch, and when: the time line of the status.
//!
//! ```text
//!              Live          Superseded, StoppedServing, Draining
//!   Starting ───────▶ Live ──────────────────────────────────────▶ Draining ──┐
//!      │               ▲                                              ▲       │ Exited
//!      │ ProbationPassed                                              │       ▼
//!      │         Probation ───────────────────────────────────────────┤     (end)
//!      │              │ Unfit                                         │       ▲
//!      │              └────────▶ Unfit ───────────────────────────────┘       │
//!      └──────────────── Abort ─────────────────────────▶ Aborting ───────────┘
//! ```
//!
//! Each stage can end in `Aborting` or in the end as well. None comes twice: an epoch that drains never goes live
//! again.
//!
//! It decides nothing and has no clock: each event comes with its time. It holds no text from a file, a
//! proxy or a user, so anyone may read it. What it holds is bounded: the last epochs, and each stage once.

mod shared;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use handover_core::{Epoch, EpochInfo, Event, Exit, Purpose, Severity, Timestamp};

use crate::control::wire::{EndResult, EpochEnd, EpochHistory, Stage, StageSince};
use crate::metrics::Observed;
pub(crate) use shared::{Shared, Watched};

/// How many epochs are held.
const EPOCHS: usize = 32;

/// The last epochs, in the order of their starts.
#[derive(Debug, Default)]
struct History {
    epochs: VecDeque<Record>,
}

/// An epoch, from its start to its end.
#[derive(Debug)]
struct Record {
    epoch: Epoch,
    /// What it was from when on, oldest first. It begins with the start.
    stages: Vec<(Timestamp, Stage)>,
    /// It was not live in time, and has not gone live since.
    late: bool,
    gives_way: bool,
    unfit: bool,
    superseded: bool,
    cause: Option<&'static str>,
    connections: Option<u64>,
    end: Option<(Timestamp, Exit)>,
}

impl History {
    /// Takes in how the epochs are. Only this shows who is on probation.
    fn epochs_are(&mut self, epochs: impl IntoIterator<Item = EpochInfo>) {
        let on_probation = epochs.into_iter().filter(|info| info.on_probation);
        for info in on_probation {
            if let Some(record) = self.running(info.epoch) {
                record.live_was_probation();
            }
        }
    }

    /// Takes in an event of the agent's machine.
    fn agent_event(&mut self, now: Timestamp, event: &Event) {
        match *event {
            // The one that stands for a drain has no process.
            Event::Started {
                purpose: Purpose::Drain,
                ..
            } => {}
            Event::Started { epoch, .. } => self.started(now, epoch),
            Event::Live { epoch, .. } => self.change(epoch, |record| {
                record.late = false;
                record.enter(now, Stage::Live);
            }),
            Event::Superseded { epoch, .. } => self.change(epoch, |record| {
                record.superseded = true;
                record.enter(now, Stage::Draining);
            }),
            Event::StoppedServing { epoch } => {
                self.change(epoch, |record| record.enter(now, Stage::Draining));
            }
            Event::StartTimedOut { epoch } => self.change(epoch, |record| record.late = true),
            Event::GivesWay { epoch, .. } => self.change(epoch, |record| record.gives_way = true),
            Event::ProbationPassed { epoch } => self.change(epoch, |record| {
                record.live_was_probation();
                record.enter(now, Stage::Live);
            }),
            Event::Unfit { epoch, .. } => self.change(epoch, |record| {
                record.live_was_probation();
                record.unfit = true;
                record.enter(now, Stage::Unfit);
            }),
            Event::Exited { epoch, exit, .. } => {
                self.change(epoch, |record| record.end = Some((now, exit)));
            }
            Event::Draining { .. } => {
                let serving = self.epochs.iter_mut().filter(|record| record.serves());
                serving.for_each(|record| record.enter(now, Stage::Draining));
            }
            // They are no change of an epoch's stage.
            Event::BeyondCap { .. }
            | Event::WokeLate { .. }
            | Event::RetryScheduled { .. }
            | Event::BudgetRefilled { .. }
            | Event::Restarting
            | Event::Held(_)
            | Event::GaveUp { .. }
            | Event::FallbackLost { .. }
            | Event::NotRestarted { .. }
            | Event::DrainTimedOut
            | _ => {}
        }
    }

    /// Takes in that an epoch is being aborted.
    fn aborts(&mut self, now: Timestamp, epoch: Epoch) {
        self.change(epoch, |record| record.enter(now, Stage::Aborting));
    }

    /// Takes in what a proxy has observed of a process. Its end may be observed before the machine hears of it,
    /// or after.
    fn observed(&mut self, observed: &Observed) {
        if let Observed::Ended {
            epoch,
            cause,
            connections,
            ..
        } = *observed
        {
            let mut records = self.epochs.iter_mut().rev();
            let record = records.find(|record| record.epoch == epoch && record.cause.is_none());
            if let Some(record) = record {
                (record.cause, record.connections) = (Some(cause), connections);
            }
        }
    }

    /// Returns what is held, oldest first. `now` and `wall` are the same moment, by the clock of the machine and
    /// by the clock of the host.
    fn view(&self, now: Timestamp, wall: SystemTime) -> Vec<EpochHistory> {
        let at = |then: Timestamp| written(wall, now.elapsed().saturating_sub(then.elapsed()));
        let records = self.epochs.iter().map(|record| EpochHistory {
            epoch: record.epoch.number(),
            stages: record
                .stages
                .iter()
                .map(|&(since, stage)| StageSince {
                    stage,
                    at: at(since),
                })
                .collect(),
            end: record.end.map(|(end, exit)| EpochEnd {
                at: at(end),
                result: record.result(exit),
                cause: record.cause.map(str::to_owned),
                connections: record.connections,
            }),
        });
        records.collect()
    }

    fn started(&mut self, now: Timestamp, epoch: Epoch) {
        if self.epochs.len() >= EPOCHS {
            // One that has ended goes before one that runs.
            let ended = self.epochs.iter().position(|record| record.end.is_some());
            self.epochs.remove(ended.unwrap_or(0));
        }
        self.epochs.push_back(Record {
            epoch,
            stages: vec![(now, Stage::Starting)],
            late: false,
            gives_way: false,
            unfit: false,
            superseded: false,
            cause: None,
            connections: None,
            end: None,
        });
    }

    /// The running epoch with this number. A retry has the number of the one that failed.
    fn running(&mut self, epoch: Epoch) -> Option<&mut Record> {
        let mut records = self.epochs.iter_mut().rev();
        records.find(|record| record.epoch == epoch && record.end.is_none())
    }

    fn change(&mut self, epoch: Epoch, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.running(epoch) {
            change(record);
        }
    }
}

impl Record {
    fn enter(&mut self, now: Timestamp, stage: Stage) {
        let is_known = self.stages.iter().any(|(_, entered)| *entered == stage);
        if !is_known {
            self.stages.push((now, stage));
        }
    }

    fn serves(&self) -> bool {
        let last = self.stages.last().map(|(_, stage)| *stage);
        self.end.is_none() && matches!(last, Some(Stage::Live | Stage::Probation | Stage::Unfit))
    }

    /// An epoch is live before the machine shows that it is on probation, or was.
    fn live_was_probation(&mut self) {
        let was_on_probation = self
            .stages
            .iter()
            .any(|(_, stage)| *stage == Stage::Probation);
        if let Some((_, stage @ Stage::Live)) = self.stages.last_mut()
            && !was_on_probation
        {
            *stage = Stage::Probation;
        }
    }

    fn result(&self, exit: Exit) -> EndResult {
        match exit {
            _ if self.unfit => EndResult::Unfit,
            // A process that ends has a cause.
            Exit::Failed(Severity::Permanent) if self.cause.is_none() => EndResult::Rejected,
            Exit::Failed(_) => EndResult::Failed,
            Exit::Clean | Exit::Aborted if self.late => EndResult::Late,
            Exit::Clean | Exit::Aborted if self.gives_way => EndResult::GaveWay,
            Exit::Clean | Exit::Aborted if self.superseded => EndResult::HandedOver,
            Exit::Clean | Exit::Aborted => EndResult::Ended,
        }
    }
}

/// A moment so long ago, in UTC as by RFC 3339.
fn written(wall: SystemTime, ago: Duration) -> String {
    let then = wall.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    // A clock outside of what RFC 3339 can write is shown as the nearest that it can.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let then = then.clamp(SystemTime::UNIX_EPOCH, last);
    humantime::format_rfc3339_millis(then).to_string()
}

#[cfg(test)]
mod tests;
