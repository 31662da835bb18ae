//! What a service manager is told: once that an epoch serves, then of each reload and of the end. And
//! what it must hear again in time, so that it does not end this process.

use core::time::Duration;

use handover_core::{Phase, Timestamp, Urgency};

use super::{Deadline, DeadlineReason, Notification, Operator, Output, Summary};

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
        let every = self.settings.service_manager?.alive_every?;
        let last = self.heard.alive;
        let due = last.map_or(self.now, |last| last.after(every.max(SHORTEST_ALIVE)));
        self.ended.is_none().then_some(due)
    }

    /// When to ask for more time. Rule: a start and a drain take the time that they need, because the
    /// agent has limits of its own for both. A stop has the time that the service manager gives.
    fn more_time_due(&self) -> Option<Timestamp> {
        self.settings.service_manager?;
        let takes_time = match self.told {
            Told::Nothing => true,
            Told::Ready | Told::Reloading => false,
            Told::Stopping => self.summary() == Summary::Draining,
        };
        let last = self.heard.more_time;
        let due = last.map_or(self.now, |last| last.after(MORE_TIME_EVERY));
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
            None => Summary::Starting,
            Some(epoch) if self.looks.listening() == Some(false) => Summary::NotListening(epoch),
            Some(_) if !self.looks.let_clients_in() => Summary::Starting,
            Some(epoch) if self.is_asked_for(epoch) => Summary::Serving(epoch),
            Some(epoch) => Summary::ServingAnother(epoch),
        }
    }
}
