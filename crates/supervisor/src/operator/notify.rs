//! What a service manager is told: once that an epoch serves, then of each reload and of the end. And
//! what it must hear again in time, so that it does not end this process.

use alloc::vec::Vec;
use core::time::Duration;

use handover_core::{Phase, Timestamp, Urgency};

use super::{Deadline, DeadlineReason, Notification, Operator, Output, ServiceManager, Summary};

/// What the service manager was told last, apart from the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) enum Told {
    Nothing,
    Ready,
    Reloading,
    Stopping,
}

/// When the service manager has heard last what it must hear again in time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub(super) struct Heard {
    /// That the loop turns.
    alive: Option<Timestamp>,
    /// That what is under way needs more time. There is none while nothing needs any.
    more_time: Option<Timestamp>,
}

impl Heard {
    /// When to report that the loop turns, if the service manager waits for that.
    fn alive_due(self, manager: ServiceManager, now: Timestamp) -> Option<Timestamp> {
        let every = manager.alive_every?.max(SHORTEST_ALIVE);
        Some(self.alive.map_or(now, |last| last.after(every)))
    }

    /// When to ask for more time, while something takes time.
    fn more_time_due(self, now: Timestamp) -> Timestamp {
        let last = self.more_time;
        last.map_or(now, |last| last.after(MORE_TIME_EVERY))
    }
}

/// What a service manager hears of an end without an [`Operator`].
///
/// The operator is gone, so it is unknown what was told of the end before. It is told again, which does no harm.
#[derive(Clone, Debug)]
pub(crate) struct LastReports {
    manager: ServiceManager,
    heard: Heard,
    /// What was told last of the end.
    told: Option<Summary>,
    /// Whether everything is killed, which needs no time.
    kills: bool,
}

impl LastReports {
    /// Returns the reports to this service manager.
    pub(crate) fn new(manager: ServiceManager) -> Self {
        Self {
            manager,
            heard: Heard::default(),
            told: None,
            kills: false,
        }
    }

    /// Returns what is told at this moment of an end that is so urgent.
    pub(crate) fn due(&mut self, now: Timestamp, urgency: Urgency) -> Vec<Notification> {
        let mut due = Vec::new();
        if self.told.is_none() {
            due.push(Notification::Stopping);
        }
        let summary = match urgency {
            Urgency::Drain => Summary::Draining,
            Urgency::Stop | Urgency::Kill => Summary::Stopping,
        };
        if self.told.replace(summary) != Some(summary) {
            due.push(Notification::Status(summary));
        }
        self.kills = urgency == Urgency::Kill;
        if !self.kills && self.heard.more_time_due(now) <= now {
            self.heard.more_time = Some(now);
            due.push(Notification::MoreTime(MORE_TIME));
        }
        let alive = self.heard.alive_due(self.manager, now);
        if alive.is_some_and(|alive| alive <= now) {
            self.heard.alive = Some(now);
            due.push(Notification::Alive);
        }
        due
    }

    /// Returns when to ask for the [next](Self::due) reports.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let more_time = (!self.kills).then(|| self.heard.more_time_due(now));
        let alive = self.heard.alive_due(self.manager, now);
        more_time.into_iter().chain(alive).min()
    }
}

/// How much more time is asked for at once. A supervisor that hangs is ended after at most this time.
const MORE_TIME: Duration = Duration::from_secs(30);

/// How often it is asked for. Two requests may be late or lost before the time is over.
const MORE_TIME_EVERY: Duration = Duration::from_secs(10);

/// The shortest time between two reports, so that the loop does more than report.
const SHORTEST_ALIVE: Duration = Duration::from_millis(1);

impl<C: Clone + Eq> Operator<C> {
    /// Rule: a reload is told of when its read begins, and only to a service manager that was told that
    /// an epoch serves.
    pub(super) fn reload_begins(&mut self) {
        if self.told == Told::Ready {
            self.tell(Told::Reloading, Notification::Reloading);
        }
    }

    /// Whether the service manager waits for the end of a reload.
    pub(super) fn is_reloading(&self) -> bool {
        self.told == Told::Reloading
    }

    /// Rule: a signal that comes during a reload is answered by a report of its own. A service manager
    /// that has sent it waits for a report that is younger than the signal.
    pub(super) fn reload_begins_again(&mut self) {
        self.tell(Told::Reloading, Notification::Reloading);
    }

    /// Rule: ready means that the present epochs were looked at, and clients can connect to one.
    ///
    /// The first time, a newer change may be under way: what serves already is not kept waiting for
    /// it. After a reload it is ready again once that reload has come to its end, whichever. A start
    /// that has failed is such an end, although it is tried again: that may take hours.
    pub(super) fn notify(&mut self) {
        let is_quiet = self.read.is_none() && self.change.is_none_or(|open| open.waits_for_a_retry);
        let is_seen_ready = self.is_ready() && self.looks.are_current();
        match self.told {
            Told::Nothing | Told::Ready | Told::Reloading if self.is_ending() => {
                self.tell(Told::Stopping, Notification::Stopping);
                // The time of a start that was asked for before is not that of the stop.
                self.heard.more_time = None;
            }
            Told::Nothing if is_seen_ready => self.tell(Told::Ready, Notification::Ready),
            Told::Reloading if is_quiet && is_seen_ready => {
                self.tell(Told::Ready, Notification::Ready);
            }
            Told::Nothing | Told::Reloading | Told::Ready | Told::Stopping => {}
        }
        let summary = self.summary();
        if self.ended.is_none() && self.summary != Some(summary) {
            self.summary = Some(summary);
            self.outputs
                .push_back(Output::Notify(Notification::Status(summary)));
        }
        self.keep_time();
    }

    /// Rule: what begins to take time is told at once, and again only while it takes time.
    fn keep_time(&mut self) {
        if self.more_time_due().is_none() {
            self.heard.more_time = None;
        } else if self.heard.more_time.is_none() {
            self.ask_for_more_time();
        }
        if self.alive_due().is_some() && self.heard.alive.is_none() {
            self.report_alive();
        }
    }

    /// Rule: a report that is late is made up for by one, however many were missed.
    pub(super) fn report_alive(&mut self) {
        self.heard.alive = Some(self.now);
        self.outputs.push_back(Output::Notify(Notification::Alive));
    }

    pub(super) fn ask_for_more_time(&mut self) {
        self.heard.more_time = Some(self.now);
        self.outputs
            .push_back(Output::Notify(Notification::MoreTime(MORE_TIME)));
    }

    pub(super) fn alive_deadline(&self) -> Option<Deadline> {
        Some(Deadline {
            at: self.alive_due()?,
            reason: DeadlineReason::Alive,
        })
    }

    pub(super) fn more_time_deadline(&self) -> Option<Deadline> {
        Some(Deadline {
            at: self.more_time_due()?,
            reason: DeadlineReason::MoreTime,
        })
    }

    /// When to report that the loop turns.
    fn alive_due(&self) -> Option<Timestamp> {
        let manager = self.settings.service_manager?;
        let due = self.heard.alive_due(manager, self.now)?;
        self.ended.is_none().then_some(due)
    }

    /// When to ask for more time. Rule: a start, a drain and a stop take the time that they need, because the
    /// agent has limits of its own for each. A kill needs none, so what outlives it is left to the service
    /// manager.
    fn more_time_due(&self) -> Option<Timestamp> {
        self.settings.service_manager?;
        let takes_time = match self.told {
            Told::Nothing => true,
            Told::Ready | Told::Reloading => false,
            Told::Stopping => self.urgency != Some(Urgency::Kill),
        };
        let due = self.heard.more_time_due(self.now);
        (takes_time && self.ended.is_none()).then_some(due)
    }

    fn tell(&mut self, told: Told, notification: Notification) {
        self.told = told;
        self.outputs.push_back(Output::Notify(notification));
    }

    fn summary(&self) -> Summary {
        if self.is_ending() {
            return match (self.urgency, self.agent.phase) {
                (Some(Urgency::Drain), Phase::Running | Phase::Draining { .. })
                | (None, Phase::Draining { .. }) => Summary::Draining,
                (Some(Urgency::Drain) | None, Phase::Stopping(_) | Phase::Finished(_))
                | (None, Phase::Running)
                | (Some(Urgency::Stop | Urgency::Kill), _) => Summary::Stopping,
            };
        }
        match self.agent.live() {
            None if self.awaits_files() => Summary::AwaitingFiles,
            None if self.awaits_configuration() => Summary::AwaitingConfiguration,
            None => Summary::Starting,
            Some(epoch) if self.looks.listening() == Some(false) => Summary::NotListening(epoch),
            Some(_) if !self.looks.let_clients_in() => Summary::Starting,
            Some(epoch) if self.is_asked_for(epoch) => Summary::Serving(epoch),
            Some(epoch) => Summary::ServingAnother(epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::new(Duration::from_millis(millis))
    }

    fn reports(alive_every: Option<Duration>) -> LastReports {
        LastReports::new(ServiceManager { alive_every })
    }

    /// The times in seconds and the reports, with a second signal after 25 seconds and a third after 45.
    fn heard(mut reports: LastReports) -> String {
        let mut told = String::new();
        let mut now = at(0);
        while now < at(60_000) {
            let urgency = match now.elapsed().as_secs() {
                0..25 => Urgency::Drain,
                25..45 => Urgency::Stop,
                _ => Urgency::Kill,
            };
            for notification in reports.due(now, urgency) {
                told += &format!("{:>3} {notification:?}\n", now.elapsed().as_secs());
            }
            let signals = [25_000, 45_000].map(at).into_iter();
            let next = signals
                .filter(|signal| *signal > now)
                .chain(reports.next(now));
            now = next.min().unwrap_or(at(60_000));
        }
        told
    }

    #[test]
    fn an_end_without_the_operator_is_reported_in_time_until_everything_is_killed() {
        let with_a_watchdog = heard(reports(Some(Duration::from_secs(20))));
        insta::assert_snapshot!(with_a_watchdog, @r"
          0 Stopping
          0 Status(Draining)
          0 MoreTime(30s)
          0 Alive
         10 MoreTime(30s)
         20 MoreTime(30s)
         20 Alive
         25 Status(Stopping)
         30 MoreTime(30s)
         40 MoreTime(30s)
         40 Alive
        ");
        let without = with_a_watchdog
            .lines()
            .filter(|line| !line.ends_with("Alive"));
        assert!(heard(reports(None)).lines().eq(without));
    }
}
