//! What a service manager is told: once that an epoch serves, then of each reload and of the end.

use handover_core::{Phase, Standing, Urgency};

use super::{Notification, Operator, Output, Summary};

/// What the service manager was told last, apart from the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) enum Told {
    Nothing,
    Ready,
    Reloading,
    Stopping,
}

impl<C: Clone + Eq> Operator<C> {
    /// Rule: a reload is told of when its read begins, and only to a service manager that was told that
    /// an epoch serves.
    pub(super) fn reload_begins(&mut self) {
        if self.told == Told::Ready {
            self.tell(Told::Reloading, Notification::Reloading);
        }
    }

    /// Rule: ready means that the present epochs were looked at, and clients can connect to one.
    ///
    /// The first time, a newer change may be under way: what serves already is not kept waiting for
    /// it. After a reload it is ready again once that reload has come to its end, whichever.
    pub(super) fn notify(&mut self) {
        let is_quiet = self.read.is_none() && self.change.is_none();
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
        match (self.agent.live(), self.agent.standing) {
            (None, _) if self.is_gated() => Summary::AwaitingFiles,
            (None, _) => Summary::Starting,
            (Some(epoch), _) if self.looks.listening() == Some(false) => {
                Summary::NotListening(epoch)
            }
            (Some(_), _) if !self.looks.let_clients_in() => Summary::Starting,
            (Some(epoch), Standing::Live(desired)) if desired == epoch => Summary::Serving(epoch),
            (Some(epoch), _) => Summary::ServingAnother(epoch),
        }
    }
}
