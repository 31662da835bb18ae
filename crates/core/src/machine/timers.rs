//! The deadlines.
//!
//! None of them is stored: each follows from the state, so none can be forgotten, left armed or
//! fired twice. Firing one changes the state so that it is gone.

use super::pursuit::{Pursuit, Stage};
use super::slot::{Slot, State};
use super::{Machine, Phase};
use crate::{Abort, Deadline, DeadlineReason, Epoch, Event, Outcome};

impl<C: Clone + Eq> Machine<C> {
    /// Every deadline there is at present.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Deadline> {
        let of_machine = match self.phase {
            Phase::Running => [
                deadline_of(self.desired.as_ref(), DeadlineReason::Retry),
                deadline_of(self.fallback.as_ref(), DeadlineReason::FallbackRetry),
            ],
            Phase::Draining { until, .. } => [
                until.map(|at| Deadline {
                    at,
                    reason: DeadlineReason::DrainDeadline,
                }),
                None,
            ],
            Phase::Stopping(_) | Phase::Finished(_) => [None, None],
        };
        let of_slots = self
            .slots
            .iter()
            .filter_map(|slot| self.deadline_of_slot(slot));
        of_machine.into_iter().flatten().chain(of_slots)
    }

    fn deadline_of_slot(&self, slot: &Slot<C>) -> Option<Deadline> {
        let epoch = slot.epoch;
        match slot.state {
            State::Starting if slot.is_drain() => None,
            State::Starting => self.policy.start_deadline.map(|span| Deadline {
                at: slot.started.after(span),
                reason: DeadlineReason::StartDeadline(epoch),
            }),
            State::Live {
                since,
                healthy: false,
            } if self.phase == Phase::Running => {
                let span = self.policy.retry.reset_after?;
                Some(Deadline {
                    at: since.after(span),
                    reason: DeadlineReason::Healthy(epoch),
                })
            }
            State::Aborting {
                how: Abort::Graceful,
                since,
                ..
            } => Some(Deadline {
                at: since.after(self.policy.abort_grace),
                reason: DeadlineReason::Grace(epoch),
            }),
            State::Live { .. }
            | State::Draining { .. }
            | State::Aborting {
                how: Abort::Immediate,
                ..
            } => None,
        }
    }

    /// Does what the deadline is for, after which it is gone.
    pub(super) fn fire(&mut self, reason: DeadlineReason) {
        match reason {
            DeadlineReason::Retry => {
                make_ready(&mut self.desired);
                self.reconcile();
            }
            DeadlineReason::FallbackRetry => {
                make_ready(&mut self.fallback);
                self.reconcile();
            }
            DeadlineReason::DrainDeadline => {
                self.event(Event::DrainTimedOut);
                self.stop(Outcome::DrainTimedOut);
            }
            DeadlineReason::StartDeadline(epoch) => {
                self.event(Event::StartTimedOut { epoch });
                self.abort_late_start(epoch);
                self.reconcile();
            }
            DeadlineReason::Grace(_) => self.abort_overdue(),
            DeadlineReason::Healthy(epoch) => self.trust(epoch),
        }
    }

    fn abort_late_start(&mut self, epoch: Epoch) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.epoch == epoch) {
            let abort = slot.abort(Abort::Immediate, self.now, true);
            self.outputs.push_back(abort);
        }
    }

    /// Aborts every epoch whose grace is over.
    fn abort_overdue(&mut self) {
        let (now, grace) = (self.now, self.policy.abort_grace);
        let is_overdue = |slot: &Slot<C>| match slot.state {
            State::Aborting {
                how: Abort::Graceful,
                since,
                ..
            } => since.after(grace) <= now,
            State::Aborting {
                how: Abort::Immediate,
                ..
            }
            | State::Starting
            | State::Live { .. }
            | State::Draining { .. } => false,
        };
        self.abort_each(Abort::Immediate, is_overdue);
    }

    /// Rule: an epoch that stayed live long enough refills the budget of what it runs.
    fn trust(&mut self, epoch: Epoch) {
        let slot = self.slots.iter_mut().find(|slot| slot.epoch == epoch);
        if let Some(State::Live { healthy, .. }) = slot.map(|slot| &mut slot.state) {
            *healthy = true;
        }
        let slot = self.slots.iter().find(|slot| slot.epoch == epoch);
        let pursuit = if slot.is_some_and(|slot| self.runs_desired(slot)) {
            &mut self.desired
        } else if slot.is_some_and(|slot| self.runs_fallback(slot)) {
            &mut self.fallback
        } else {
            return;
        };
        let Some(Pursuit { budget, .. }) = pursuit else {
            return;
        };
        if budget.used() > 0 {
            budget.refill(&self.policy.retry);
            let retries_left = budget.left();
            self.event(Event::BudgetRefilled {
                epoch,
                retries_left,
            });
        }
    }
}

fn deadline_of<C>(pursuit: Option<&Pursuit<C>>, reason: DeadlineReason) -> Option<Deadline> {
    let at = pursuit?.stage.waits_until()?;
    Some(Deadline { at, reason })
}

fn make_ready<C>(pursuit: &mut Option<Pursuit<C>>) {
    if let Some(pursuit) = pursuit {
        pursuit.stage = Stage::Ready;
    }
}
