//! The way to the end: terminate, abort, finish.

use super::slot::{Slot, State};
use super::{Machine, Phase};
use crate::{Abort, Epoch, EpochState, Event, Ignored, Outcome, Output, Reception, Urgency};

impl<C: Clone + Eq> Machine<C> {
    /// Rule: the strongest urgency said so far counts, and where it stands follows from the phase.
    pub(super) fn terminate(&mut self, urgency: Urgency) -> Reception {
        match (urgency, self.phase) {
            (_, Phase::Finished(_)) => return Reception::Ignored(Ignored::Finished),
            (Urgency::Kill, _) => return self.kill(),
            (Urgency::Drain | Urgency::Stop, Phase::Stopping(_))
            | (Urgency::Drain, Phase::Draining { .. }) => {
                return Reception::Ignored(Ignored::UnderWay);
            }
            (Urgency::Drain | Urgency::Stop, Phase::Running) if self.slots.is_empty() => {
                self.finish(Outcome::Drained);
            }
            (Urgency::Drain, Phase::Running) => self.drain(),
            (Urgency::Stop, Phase::Running | Phase::Draining { .. }) => {
                self.stop(Outcome::DrainSkipped);
            }
        }
        Reception::Accepted
    }

    fn drain(&mut self) {
        let until = self.policy.drain_deadline.map(|span| self.now.after(span));
        self.phase = Phase::Draining { until, epoch: None };
        self.event(Event::Draining { until });
        self.withdraw_starts();
        self.reconcile();
    }

    /// Rule: a terminate withdraws every epoch that starts.
    ///
    /// An epoch that starts may have taken its listeners over from the older one already. To kill
    /// it then would cut connections that a drain can save, and to wait for it otherwise would
    /// spend the time of the drain on an epoch that is not wanted. Only the proxy can tell which.
    fn withdraw_starts(&mut self) {
        let now = self.now;
        // Without a grace there is no time to answer in, and what is alone is aborted at once.
        if self.policy.abort_grace.is_zero() && !self.has_something_to_drain() {
            return;
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.is_starting()) {
            // One that gives way was asked already. Its time to answer begins again.
            if slot.withdrawn().is_none() {
                self.outputs.push_back(Output::Withdraw(slot.epoch));
            }
            slot.state = State::Starting {
                withdrawn: Some(now),
                late: slot.is_late(),
            };
        }
    }

    fn kill(&mut self) -> Reception {
        let outcome = match self.phase {
            Phase::Running | Phase::Draining { .. } if self.slots.is_empty() => Outcome::Drained,
            Phase::Stopping(outcome @ (Outcome::GaveUp { .. } | Outcome::ProxyEnded { .. })) => {
                outcome
            }
            Phase::Running
            | Phase::Draining { .. }
            | Phase::Stopping(
                Outcome::Drained
                | Outcome::DrainTimedOut
                | Outcome::DrainSkipped
                | Outcome::DrainFailed
                | Outcome::Killed,
            ) => Outcome::Killed,
            Phase::Finished(_) => return Reception::Ignored(Ignored::Finished),
        };
        let before = core::mem::replace(&mut self.phase, Phase::Stopping(outcome));
        let aborted = self.abort_all_immediately();
        if before == self.phase && !aborted {
            return Reception::Ignored(Ignored::UnderWay);
        }
        self.finish_if_empty(outcome);
        Reception::Accepted
    }

    /// Aborts what runs and finishes once it has exited.
    pub(super) fn stop(&mut self, outcome: Outcome) {
        self.phase = Phase::Stopping(outcome);
        self.abort_all();
        self.finish_if_empty(outcome);
    }

    pub(super) fn finish_if_empty(&mut self, outcome: Outcome) {
        if self.slots.is_empty() {
            self.finish(outcome);
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        self.phase = Phase::Finished(outcome);
        self.outputs.push_back(Output::Finish(outcome));
    }

    /// Aborts every epoch that has not been aborted.
    pub(super) fn abort_all(&mut self) {
        self.abort_each(self.first_abort(), |slot| !slot.is_aborting());
    }

    /// Aborts every other epoch that has not been aborted.
    pub(super) fn abort_all_but(&mut self, epoch: Epoch) {
        self.abort_each(self.first_abort(), |slot| {
            slot.epoch != epoch && !slot.is_aborting()
        });
    }

    fn first_abort(&self) -> Abort {
        if self.policy.abort_grace.is_zero() {
            Abort::Immediate
        } else {
            Abort::Graceful
        }
    }

    /// Aborts every epoch that has not been aborted so; says whether there was any.
    fn abort_all_immediately(&mut self) -> bool {
        self.abort_each(Abort::Immediate, |slot| {
            slot.view() != EpochState::Aborting(Abort::Immediate)
        })
    }

    /// Aborts these epochs, the newest first: an older one may be needed by it. Says whether there
    /// was any.
    pub(super) fn abort_each(&mut self, how: Abort, which: impl Fn(&Slot<C>) -> bool) -> bool {
        let mut any = false;
        for slot in self.slots.iter_mut().rev().filter(|slot| which(slot)) {
            self.outputs.push_back(slot.abort(how, self.now, false));
            any = true;
        }
        any
    }
}
