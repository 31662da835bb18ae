//! The way to the end.

use std::time::Duration;

use handover_core::{Abort, Epoch, Outcome, Output, Timestamp};

use super::{Life, Model, State, is_told};

impl Model {
    pub(super) fn drain(&mut self) {
        match self.life {
            Life::Running if self.running.is_empty() => self.finish(Outcome::Drained),
            Life::Running => {
                let until = self.policy.drain_deadline.map(|span| self.now.after(span));
                self.life = Life::Draining { until, drain: None };
                if self.policy.abort_grace > Duration::ZERO || self.has_anything_to_drain() {
                    self.withdraw_starts();
                }
                self.go_on();
            }
            Life::Draining { .. } | Life::Stopping(_) | Life::Finished => {}
        }
    }

    pub(super) fn skip_the_drain(&mut self) {
        match self.life {
            Life::Running if self.running.is_empty() => self.finish(Outcome::Drained),
            Life::Running | Life::Draining { .. } => self.stop(Outcome::DrainSkipped),
            Life::Stopping(_) | Life::Finished => {}
        }
    }

    fn withdraw_starts(&mut self) {
        for (&epoch, proxy) in &mut self.running {
            if let State::Starting { withdrawn, .. } = &mut proxy.state
                && withdrawn.replace(self.now).is_none()
            {
                self.acts.push(Output::Withdraw(Epoch::new(epoch)));
            }
        }
    }

    /// One that is too late is asked whether it serves, and told to stop if it has no answer in time.
    pub(super) fn too_late(&mut self, epoch: u32) {
        let (now, grace) = (self.now, self.policy.abort_grace);
        let State::Starting { withdrawn, .. } = self.running[&epoch].state else {
            return;
        };
        let asked = withdrawn.unwrap_or(now);
        if self.due(asked.after(grace)) <= now {
            return self.tell(epoch, Abort::Immediate, true);
        }
        self.running.get_mut(&epoch).unwrap().state = State::Starting {
            withdrawn: Some(asked),
            late: true,
        };
        if withdrawn.is_none() {
            self.acts.push(Output::Withdraw(Epoch::new(epoch)));
        }
    }

    pub(super) fn kill(&mut self) {
        let outcome = match self.life {
            Life::Stopping(own @ (Outcome::GaveUp { .. } | Outcome::ProxyEnded { .. })) => own,
            _ if self.running.is_empty() => Outcome::Drained,
            Life::Running | Life::Draining { .. } | Life::Stopping(_) | Life::Finished => {
                Outcome::Killed
            }
        };
        self.life = Life::Stopping(outcome);
        let epochs: Vec<u32> = self.running.keys().rev().copied().collect();
        for epoch in epochs {
            if !matches!(
                self.running[&epoch].state,
                State::Told {
                    how: Abort::Immediate,
                    ..
                }
            ) {
                self.tell(epoch, Abort::Immediate, false);
            }
        }
        self.go_on();
    }

    pub(super) fn stop(&mut self, outcome: Outcome) {
        self.life = Life::Stopping(outcome);
        self.tell_all();
        self.go_on();
    }

    pub(super) fn finish(&mut self, outcome: Outcome) {
        self.life = Life::Finished;
        self.acts.push(Output::Finish(outcome));
    }

    pub(super) fn tell_all(&mut self) {
        self.tell_all_but(None);
    }

    pub(super) fn tell_all_but(&mut self, spared: Option<u32>) {
        let graceful = self.policy.abort_grace > Duration::ZERO;
        let how = if graceful {
            Abort::Graceful
        } else {
            Abort::Immediate
        };
        let epochs: Vec<u32> = self.running.keys().rev().copied().collect();
        for epoch in epochs {
            if Some(epoch) != spared && !is_told(&self.running[&epoch]) {
                self.tell(epoch, how, false);
            }
        }
    }

    pub(super) fn end_all_graces(&mut self) {
        let due = |(at, kind, _): &(Timestamp, u32, u32)| *kind == 5 && self.due(*at) <= self.now;
        let mut epochs: Vec<u32> = self
            .timers()
            .into_iter()
            .filter(due)
            .map(|(.., epoch)| epoch)
            .collect();
        epochs.sort_unstable();
        for epoch in epochs.into_iter().rev() {
            self.tell(epoch, Abort::Immediate, false);
        }
    }

    pub(super) fn tell(&mut self, epoch: u32, how: Abort, late: bool) {
        self.running.get_mut(&epoch).unwrap().state = State::Told {
            how,
            at: self.now,
            late,
        };
        let epoch = Epoch::new(epoch);
        self.acts.push(Output::Abort { epoch, how });
    }
}
