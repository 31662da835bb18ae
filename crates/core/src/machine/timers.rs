//! The deadlines.
//!
//! None of them is stored: each follows from the state, so none can be forgotten, left armed or
//! fired twice. Firing one changes the state so that it is gone.
//!
//! A deadline that is handled very late was missed by a driver that did not run. The world went on
//! meanwhile, and what it has to say is still on its way. So the machine keeps the moment at which it
//! noticed the gap, and what was due until then is due only [`LOOK_AROUND`] later. A deadline that
//! was put off is handled at its new moment: nothing is put off while one of them is due.

use super::pursuit::{Pursuit, Stage};
use super::slot::{Slot, State, Trial};
use super::{Machine, Phase};
use crate::{
    Abort, Deadline, DeadlineReason, Epoch, Event, LATE, LOOK_AROUND, Outcome, Output, Timestamp,
};

impl<C: Clone + Eq> Machine<C> {
    /// Every deadline there is at present, at the moment at which it is to be handled.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Deadline> {
        self.moments().map(|deadline| Deadline {
            at: self.due(deadline.at),
            ..deadline
        })
    }

    /// When a deadline of this moment is to be handled.
    pub(super) fn due(&self, at: Timestamp) -> Timestamp {
        due(at, self.woke)
    }

    /// Whether a deadline of this moment was missed and has been put off.
    pub(super) fn is_put_off(&self, at: Timestamp) -> bool {
        self.woke.is_some_and(|woke| at <= woke)
    }

    /// The deadline that is to be handled first; those that were put off come before all others.
    pub(super) fn next_due(&self) -> Option<DeadlineReason> {
        self.moments()
            .map(|it| (!self.is_put_off(it.at), self.due(it.at), it.reason))
            .filter(|(_, due, _)| *due <= self.now)
            .min()
            .map(|(.., reason)| reason)
    }

    /// Rule: a deadline that was missed for long is put off once.
    ///
    /// While one that was put off waits to be handled, nothing is put off: it would be put off again.
    pub(super) fn notice_a_gap(&mut self) {
        let mut first_missed: Option<Timestamp> = None;
        for Deadline { at, .. } in self.moments() {
            if self.is_put_off(at) {
                if self.due(at) <= self.now {
                    return;
                }
            } else if self.now.since(at) > LATE {
                first_missed = Some(first_missed.map_or(at, |first| first.min(at)));
            }
        }
        if let Some(at) = first_missed {
            self.woke = Some(self.now);
            let late = self.now.since(at);
            self.event(Event::WokeLate { late });
        }
    }

    /// Every deadline there is at present, at its own moment.
    pub(super) fn moments(&self) -> impl Iterator<Item = Deadline> {
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
        let of_trials = self.slots.iter().filter_map(|slot| self.end_of_trial(slot));
        let of_withdrawal = self.withdrawal();
        let of_newer_desire = self.giving_way();
        let of_interval = self.interval();
        of_machine
            .into_iter()
            .flatten()
            .chain(of_slots)
            .chain(of_trials)
            .chain(of_withdrawal)
            .chain(of_newer_desire)
            .chain(of_interval)
    }

    /// When a start that was withdrawn is aborted: where nothing serves beside it that is drained.
    fn withdrawal(&self) -> Option<Deadline> {
        let Phase::Draining { epoch: None, .. } = self.phase else {
            return None;
        };
        let slot = self.slots.iter().find(|slot| slot.withdrawn().is_some())?;
        let at = slot.withdrawn()?.after(self.policy.abort_grace);
        let reason = DeadlineReason::Withdrawal(slot.epoch);
        (!self.has_something_to_drain()).then_some(Deadline { at, reason })
    }

    fn deadline_of_slot(&self, slot: &Slot<C>) -> Option<Deadline> {
        let epoch = slot.epoch;
        match slot.state {
            State::Starting { .. } if slot.is_drain() => None,
            State::Starting {
                withdrawn: Some(asked),
                late: true,
            } => Some(Deadline {
                at: asked.after(self.policy.abort_grace),
                reason: DeadlineReason::LateStart(epoch),
            }),
            State::Starting { .. } => self.policy.start_deadline.map(|span| Deadline {
                at: slot.started.after(span),
                reason: DeadlineReason::StartDeadline(epoch),
            }),
            State::Live {
                since,
                healthy: false,
                ..
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

    /// When an epoch that is on probation has passed it.
    fn end_of_trial(&self, slot: &Slot<C>) -> Option<Deadline> {
        let State::Live {
            since,
            trial: Trial::OnProbation,
            ..
        } = slot.state
        else {
            return None;
        };
        let span = self
            .policy
            .probation
            .filter(|_| self.phase == Phase::Running)?;
        Some(Deadline {
            at: since.after(span),
            reason: DeadlineReason::Probation(slot.epoch),
        })
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
                self.withdraw_late_start(epoch);
                self.reconcile();
            }
            DeadlineReason::LateStart(epoch) => {
                self.abort_late_start(epoch);
                self.reconcile();
            }
            DeadlineReason::Grace(_) => self.abort_overdue(),
            DeadlineReason::Withdrawal(_) => self.stop(self.outcome_of_drain()),
            DeadlineReason::GiveWay(_) => self.give_way_if_due(),
            DeadlineReason::Healthy(epoch) => self.trust(epoch),
            DeadlineReason::Probation(epoch) => self.pass_probation(epoch),
            DeadlineReason::Interval => {
                self.last_change = None;
                self.reconcile();
            }
        }
    }

    /// Rule: a start that is late is withdrawn, and aborted where it has no answer in time.
    ///
    /// It may have taken its listeners over from the older one already. To kill it then would be an
    /// outage, and one moment later it is live. Only the proxy can tell. One that was withdrawn before is
    /// not asked again.
    fn withdraw_late_start(&mut self, epoch: Epoch) {
        self.gave_way = 0;
        let (now, grace, woke) = (self.now, self.policy.abort_grace, self.woke);
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.epoch == epoch) else {
            return;
        };
        let asked_before = slot.withdrawn();
        let asked = asked_before.unwrap_or(now);
        if due(asked.after(grace), woke) <= now {
            return self.abort_late_start(epoch);
        }
        slot.state = State::Starting {
            withdrawn: Some(asked),
            late: true,
        };
        if asked_before.is_none() {
            self.outputs.push_back(Output::Withdraw(epoch));
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
        let (now, grace, woke) = (self.now, self.policy.abort_grace, self.woke);
        let is_overdue = |slot: &Slot<C>| match slot.state {
            State::Aborting {
                how: Abort::Graceful,
                since,
                ..
            } => due(since.after(grace), woke) <= now,
            State::Aborting {
                how: Abort::Immediate,
                ..
            }
            | State::Starting { .. }
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

/// When a deadline of this moment is to be handled by a driver that woke late then.
fn due(at: Timestamp, woke: Option<Timestamp>) -> Timestamp {
    match woke {
        Some(woke) if at <= woke => woke.after(LOOK_AROUND),
        Some(_) | None => at,
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
