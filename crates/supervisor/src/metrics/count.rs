//! What has happened, as numbers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use handover_core::{Epoch, EpochState, Event, Exit, GaveUp, Purpose, Timestamp};
use handover_process::{ExitCause, Signal};
use prometheus_client::metrics::histogram::Histogram;

use super::catalogue::{BUCKETS, STAGES};
use super::{Observed, State};
use crate::control::wire::Counters;
use crate::operator::{self, Gauges};
use crate::statistics::NotScraped;

/// The numbers so far: fed by the events of both machines and by what a proxy observes of its processes.
///
/// It has no clock: each event comes with its time. Every event of a machine is told, and in its order.
#[derive(Debug)]
pub(super) struct Metrics {
    /// The running epochs that are to serve.
    epochs: BTreeMap<Epoch, Running>,
    pub(super) counters: Counters,
    pub(super) hand_overs: BTreeMap<&'static str, u64>,
    pub(super) first_starts: BTreeMap<&'static str, u64>,
    pub(super) gave_up: BTreeMap<&'static str, u64>,
    pub(super) verdicts: BTreeMap<&'static str, u64>,
    pub(super) exits: BTreeMap<End, u64>,
    pub(super) cut_connections: Option<u64>,
    pub(super) uncounted_ends: u64,
    pub(super) failed_reads: u64,
    pub(super) failed_hooks: u64,
    pub(super) not_scraped: BTreeMap<&'static str, u64>,
    pub(super) stages: BTreeMap<&'static str, Histogram>,
    pub(super) envoy: Option<String>,
    pub(super) base_id: Option<u32>,
    pub(super) reload: Reload,
    /// What the operator has said of itself last.
    pub(super) gauges: Gauges,
}

/// How the last reload went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reload {
    pub(super) successful: Option<bool>,
    pub(super) succeeded_at: Option<SystemTime>,
}

/// The labels of an end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) cause: &'static str,
    pub(super) signal: Option<String>,
    pub(super) code: Option<&'static str>,
}

/// An epoch that has not ended.
#[derive(Debug)]
struct Running {
    purpose: Purpose,
    /// Whether an older one was live when it was started.
    beside: bool,
    /// The result of its start, once there is one.
    result: Option<&'static str>,
    gives_way: bool,
    /// Whether it was counted as one that has taken over.
    has_taken_over: bool,
    /// It was not live in time, and has not gone live since.
    late: bool,
    /// How long its configuration was validated.
    validated: Option<Duration>,
    live_since: Option<Timestamp>,
    drains_since: Option<Timestamp>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        // One that appeared with its first observation would hide it from `increase()`.
        let mut stages = BTreeMap::new();
        stages.extend(STAGES.iter().map(|stage| (*stage, Histogram::new(BUCKETS))));
        Self {
            epochs: BTreeMap::new(),
            counters: Counters::default(),
            hand_overs: BTreeMap::new(),
            first_starts: BTreeMap::new(),
            gave_up: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            exits: BTreeMap::new(),
            cut_connections: None,
            uncounted_ends: 0,
            failed_reads: 0,
            failed_hooks: 0,
            not_scraped: BTreeMap::new(),
            stages,
            envoy: None,
            base_id: None,
            reload: Reload::default(),
            gauges: Gauges::default(),
        }
    }

    /// Counts an event of the agent's machine. `now` is by the clock of that machine.
    pub(super) fn agent_event(&mut self, now: Timestamp, wall: SystemTime, event: &Event) {
        match *event {
            Event::Started { epoch, purpose } => self.started(epoch, purpose),
            Event::Live { epoch, after } => self.live(epoch, after, now, wall),
            Event::Superseded { epoch, by } => {
                self.handed_over_to(by);
                self.drains(epoch, now);
            }
            Event::StoppedServing { epoch } => self.drains(epoch, now),
            // It may go live all the same. Otherwise it has failed with its end.
            Event::StartTimedOut { epoch } => {
                if let Some(running) = self.epochs.get_mut(&epoch) {
                    running.late = true;
                }
            }
            Event::GivesWay { epoch, .. } => {
                if let Some(running) = self.epochs.get_mut(&epoch) {
                    running.gives_way = true;
                }
            }
            Event::Exited { epoch, exit, was } => self.exited(epoch, exit, was, now),
            Event::RetryScheduled { .. } => grow(&mut self.counters.retries),
            Event::ProbationPassed { epoch } => self.probation_is_over(epoch, now),
            Event::Unfit { epoch, replaced } => {
                self.probation_is_over(epoch, now);
                let outcome = if replaced { "replaced" } else { "left" };
                grow(self.verdicts.entry(outcome).or_default());
            }
            Event::GaveUp { why, .. } => {
                let reason = match why {
                    GaveUp::BudgetSpent => "budget_spent",
                    GaveUp::Unfit => "unfit",
                    // A reason of a later version is one that no retry helps against.
                    GaveUp::Permanent | _ => "permanent",
                };
                grow(self.gave_up.entry(reason).or_default());
                self.reload_failed();
            }
            Event::Draining { .. } => {
                let live: Vec<Epoch> = self.live_epochs().collect();
                for epoch in live {
                    self.drains(epoch, now);
                }
            }
            Event::BeyondCap { .. }
            | Event::WokeLate { .. }
            | Event::BudgetRefilled { .. }
            | Event::Restarting
            | Event::Held(_)
            | Event::FallbackLost { .. }
            | Event::NotRestarted { .. }
            | Event::DrainTimedOut
            | _ => {}
        }
    }

    /// Counts an event of the operator, which has these gauges after it. They are not kept: more may follow
    /// from the same input.
    pub(super) fn operator_event(
        &mut self,
        wall: SystemTime,
        event: &operator::Event,
        gauges: Gauges,
    ) {
        match event {
            operator::Event::NotRead(_) => {
                grow(&mut self.failed_reads);
                self.reload_failed();
            }
            operator::Event::HookFailed { .. } => grow(&mut self.failed_hooks),
            operator::Event::Unchanged(_) if gauges.current => self.reload_succeeded(wall),
            operator::Event::Unchanged(_)
            | operator::Event::Ending { .. }
            | operator::Event::NextIsDue(_)
            | operator::Event::NotTakenIn(_)
            | operator::Event::Short(_)
            | operator::Event::TriesAgain(_)
            | operator::Event::Called { .. }
            | operator::Event::ProbeUnknown { .. }
            | operator::Event::DrainTooLate
            | operator::Event::AwaitsFiles(_)
            | operator::Event::FilesAreThere
            | operator::Event::AwaitsConfiguration => {}
        }
    }

    /// Keeps what the operator says of itself, once it was told everything that has happened.
    ///
    /// After a failed reload, a file that is put back as it was starts nothing. That it serves again what the
    /// files ask for is the success then. So is an epoch that was live before the operator was heard to desire it.
    pub(super) fn operator_is(&mut self, wall: SystemTime, gauges: Gauges) {
        let is_put_right = gauges.current && !self.gauges.current;
        self.gauges = gauges;
        if is_put_right && self.reload.successful != Some(true) {
            self.reload_succeeded(wall);
        }
    }

    /// Counts what a proxy has observed of a process.
    pub(super) fn observed(&mut self, observed: Observed) {
        match observed {
            Observed::Validated { epoch, took } => {
                self.observe("validate", took);
                if let Some(running) = self.epochs.get_mut(&epoch) {
                    let before = running.validated.unwrap_or_default();
                    running.validated = Some(before.saturating_add(took));
                }
            }
            Observed::Live {
                version, base_id, ..
            } => {
                self.envoy = version;
                self.base_id = base_id;
            }
            Observed::Ended {
                epoch,
                cause,
                exit,
                connections,
            } => self.ended(epoch, cause, exit, connections),
            Observed::Statistics { text, .. } => {
                if let Err(error) = text {
                    self.not_scraped(error);
                }
            }
        }
    }

    /// Counts that the statistics of an epoch were asked for and are not known.
    pub(super) fn not_scraped(&mut self, error: NotScraped) {
        grow(self.not_scraped.entry(error.label()).or_default());
    }

    /// What the agent's state adds at the moment of a scrape.
    pub(super) fn seen(&self, state: State) -> Seen<'_> {
        Seen {
            metrics: self,
            state,
        }
    }

    fn started(&mut self, epoch: Epoch, purpose: Purpose) {
        if purpose == Purpose::Drain {
            return;
        }
        grow(&mut self.counters.started);
        let beside = self.live_epochs().next().is_some();
        let running = Running {
            purpose,
            beside,
            result: None,
            gives_way: false,
            has_taken_over: false,
            late: false,
            validated: None,
            live_since: None,
            drains_since: None,
        };
        self.epochs.insert(epoch, running);
    }

    fn live(&mut self, epoch: Epoch, after: Duration, now: Timestamp, wall: SystemTime) {
        self.has_result(epoch, "live");
        let Some(running) = self.epochs.get_mut(&epoch) else {
            return;
        };
        running.live_since = Some(now);
        running.late = false;
        // The older one may have ended while this one started, and then nobody is superseded.
        let has_taken_over = running.beside;
        let start = after.saturating_sub(running.validated.unwrap_or_default());
        let is_desired = running.purpose == Purpose::Desired;
        if has_taken_over {
            self.handed_over_to(epoch);
        }
        self.observe("start", start);
        // What stands in for a file that cannot be used is no reload, and neither is what was desired
        // before a file that cannot be read.
        if is_desired && !self.gauges.stands_in && !self.gauges.problem {
            self.reload_succeeded(wall);
        }
    }

    /// Counts a hand-over, once for the epoch that took over.
    fn handed_over_to(&mut self, epoch: Epoch) {
        let Some(running) = self.epochs.get_mut(&epoch) else {
            return;
        };
        if !std::mem::replace(&mut running.has_taken_over, true) {
            grow(&mut self.counters.hand_overs);
        }
    }

    fn drains(&mut self, epoch: Epoch, now: Timestamp) {
        if let Some(running) = self.epochs.get_mut(&epoch) {
            running.drains_since.get_or_insert(now);
        }
    }

    fn probation_is_over(&mut self, epoch: Epoch, now: Timestamp) {
        let running = self.epochs.get(&epoch);
        if let Some(since) = running.and_then(|running| running.live_since) {
            self.observe("probation", between(since, now));
        }
    }

    fn exited(&mut self, epoch: Epoch, exit: Exit, was: EpochState, now: Timestamp) {
        let running = self.epochs.get(&epoch);
        let is_late = running.is_some_and(|running| running.late);
        let gives_way = running.is_some_and(|running| running.gives_way);
        let has_failed = matches!(exit, Exit::Failed(_)) && !matches!(was, EpochState::Aborting(_));
        if has_failed || is_late {
            grow(&mut self.counters.failed);
        }
        let result = match exit {
            _ if is_late => "timed_out",
            _ if gives_way => "gave_way",
            Exit::Failed(_) => "start_failed",
            // One that drains and was never live was withdrawn, and has finished its requests.
            Exit::Clean if was == EpochState::Draining => "withdrawn",
            Exit::Aborted => "withdrawn",
            Exit::Clean => "exited",
        };
        self.has_result(epoch, result);
        let running = self.epochs.remove(&epoch);
        if let Some(since) = running.and_then(|running| running.drains_since) {
            self.observe("drain", between(since, now));
        }
    }

    /// Counts how a start has ended, once for each.
    fn has_result(&mut self, epoch: Epoch, result: &'static str) {
        let Some(running) = self.epochs.get_mut(&epoch) else {
            return;
        };
        if running.result.is_some() {
            return;
        }
        running.result = Some(result);
        let has_failed = matches!(result, "start_failed" | "timed_out");
        if has_failed && running.purpose == Purpose::Desired {
            self.reload.successful = Some(false);
        }
        let counts = match running.beside {
            true => &mut self.hand_overs,
            false => &mut self.first_starts,
        };
        grow(counts.entry(result).or_default());
    }

    fn ended(
        &mut self,
        epoch: Epoch,
        cause: &'static str,
        exit: Option<ExitCause>,
        connections: Option<u64>,
    ) {
        grow(self.exits.entry(End::of(cause, exit)).or_default());
        let running = self.epochs.get(&epoch);
        if running.is_none_or(|running| running.live_since.is_none()) {
            return;
        }
        match connections {
            Some(connections) => {
                let before = self.cut_connections.unwrap_or_default();
                self.cut_connections = Some(before.saturating_add(connections));
            }
            None => grow(&mut self.uncounted_ends),
        }
    }

    fn reload_succeeded(&mut self, wall: SystemTime) {
        self.reload = Reload {
            successful: Some(true),
            succeeded_at: Some(wall),
        };
    }

    fn reload_failed(&mut self) {
        self.reload.successful = Some(false);
    }

    fn observe(&mut self, stage: &'static str, took: Duration) {
        let histogram = self.stages.entry(stage);
        let histogram = histogram.or_insert_with(|| Histogram::new(BUCKETS));
        histogram.observe(took.as_secs_f64());
    }

    fn live_epochs(&self) -> impl Iterator<Item = Epoch> {
        let live = self.epochs.iter();
        let live = live.filter(|(_, it)| it.live_since.is_some() && it.drains_since.is_none());
        live.map(|(epoch, _)| *epoch)
    }
}

/// The numbers so far, with the state at the moment.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) state: State,
}

impl End {
    fn of(cause: &'static str, exit: Option<ExitCause>) -> Self {
        let (signal, code) = match exit {
            Some(ExitCause::Code(code)) => (None, Some(class(code))),
            Some(ExitCause::Signal { number, .. }) => (Some(signal_name(number)), None),
            Some(ExitCause::OutOfMemory) | None => (None, None),
        };
        Self {
            cause,
            signal,
            code,
        }
    }
}

/// A code of its own for each program would be a time series of its own for each.
fn class(code: i32) -> &'static str {
    match code {
        0 => "0",
        1 => "1",
        2..=125 => "2_to_125",
        // From here on a shell tells of a program that it could not start, or of a signal.
        _ => "126_to_255",
    }
}

fn signal_name(number: i32) -> String {
    Signal::from_number(number).map_or_else(|| number.to_string(), |signal| signal.to_string())
}

fn between(since: Timestamp, now: Timestamp) -> Duration {
    now.elapsed().saturating_sub(since.elapsed())
}

fn grow(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
