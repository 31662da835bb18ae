//! What follows from an exit.

use handover_retry::Jitter;

use super::pursuit::Stage;
use super::slot::{Slot, State};
use super::{Machine, Phase};
use crate::policy::{Consequence, End, Role, consequence, may_hold};
use crate::{Epoch, Event, Exit, GaveUp, Ignored, Outcome, Output, Purpose, Reception, Severity};

impl<C: Clone + Eq> Machine<C> {
    /// Rule: the cleanup comes once per started epoch, after its exit and before its number is
    /// used again.
    pub(super) fn exited(&mut self, epoch: Epoch, exit: Exit) -> Reception {
        let Some(index) = self.slots.iter().position(|slot| slot.epoch == epoch) else {
            return Reception::Ignored(Ignored::UnknownEpoch);
        };
        let slot = self.slots.remove(index);
        if slot.is_starting() && end_of(&slot, exit).is_some() {
            self.gave_way = 0;
        }
        self.event(Event::Exited {
            epoch,
            exit,
            was: slot.view(),
        });
        self.outputs.push_back(Output::Cleanup(epoch));
        match self.phase {
            Phase::Running => self.follow_up(slot, exit),
            Phase::Draining { epoch: drain, .. } => {
                self.drain_failed |= self.is_undrained(&slot, exit, drain);
                self.reconcile();
            }
            Phase::Stopping(outcome) => self.finish_if_empty(outcome),
            Phase::Finished(_) => {}
        }
        Reception::Accepted
    }

    /// Rule: an epoch that has stopped serving drains. What it ran is started again: without a retry
    /// where a newer epoch may have taken its listeners over, and otherwise as after its failure.
    pub(super) fn stopped_serving(&mut self, epoch: Epoch) -> Reception {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.epoch == epoch) else {
            return Reception::Ignored(Ignored::UnknownEpoch);
        };
        if !slot.is_live() {
            return Reception::Ignored(Ignored::OutOfOrder);
        }
        let was = slot.clone();
        slot.state = State::Draining {
            released: false,
            retired: false,
        };
        slot.disown();
        self.event(Event::StoppedServing { epoch });
        match self.phase {
            Phase::Running if was.contested => self.start_again(was),
            Phase::Running => self.follow_up(was, Exit::Failed(Severity::Transient)),
            Phase::Draining { .. } | Phase::Stopping(_) | Phase::Finished(_) => self.reconcile(),
        }
        Reception::Accepted
    }

    /// Rule: what has lost its listeners to the start of another epoch may be started at once, and no
    /// retry is spent or refilled. That start is charged where it fails, to what it was for.
    ///
    /// This does not go round for ever without a cost. Each time takes a newer start beside an epoch
    /// that serves. If that epoch ran the desired configuration, nothing is started beside it until
    /// another one is asked for. If it ran the last good one, only the desired one is started beside
    /// it: the first time, or for a retry that was spent. An epoch that loses its listeners with no
    /// newer start beside it has lost them by itself, so it is charged as one that fails; and so is
    /// the start of the fallback that fails, for nothing serves beside it.
    fn start_again(&mut self, slot: Slot<C>) {
        if self.runs_desired(&slot) {
            if let Some(desired) = &mut self.desired {
                // It has served, whatever another epoch of the same configuration has come to.
                desired.stage = Stage::Ready;
                desired.tried = true;
            }
        } else if may_hold(&self.policy) {
            // Ready, as every fallback that is new or runs.
            self.make_fallback(slot);
        }
        self.reconcile();
    }

    /// Rule: an epoch that fails while clients may be connected to it was not drained, and a drain
    /// that fails has drained nobody. A program that is drained may end by itself, so its clean exit
    /// is all right, even if it was late to go live; but not before the drain has begun, because nobody has
    /// asked for it then.
    fn is_undrained(&self, slot: &Slot<C>, exit: Exit, drain: Option<Epoch>) -> bool {
        let has_clients = self.holds_clients(slot) && !slot.is_released();
        match end_of(slot, exit) {
            Some(End::Failed(_)) if exit != Exit::Clean => has_clients || slot.is_drain(),
            Some(End::Failed(_) | End::Clean) => slot.is_live() && drain.is_none(),
            None => false,
        }
    }

    pub(super) fn follow_up(&mut self, slot: Slot<C>, exit: Exit) {
        let Some(end) = end_of(&slot, exit) else {
            return self.reconcile();
        };
        let epoch = slot.epoch;
        match consequence(&self.policy, self.role_of(&slot), end) {
            Consequence::Noted => {
                self.forget_fallback_of(&slot);
                self.reconcile();
            }
            Consequence::Stays => {
                if slot.is_live() {
                    // It has done what it was wanted for, so there is nothing to go back from.
                    self.fallback = None;
                }
                if let Some(desired) = &mut self.desired {
                    desired.stage = Stage::NotRestarted;
                }
                self.event(Event::NotRestarted { epoch });
                self.reconcile();
            }
            Consequence::Retry { abort_others } => {
                if abort_others {
                    self.abort_all_but(epoch);
                }
                let healthy = self.is_healthy(&slot);
                self.retry_desired(epoch, healthy);
            }
            Consequence::GiveUp => self.give_up(epoch, GaveUp::Permanent),
            Consequence::FallBack => self.fall_back(slot),
            Consequence::Stop => self.stop(Outcome::ProxyEnded { epoch }),
        }
    }

    /// A fallback whose epoch ended cleanly is taken as wanted to end; without this it would be
    /// started again at once, and without a budget.
    fn forget_fallback_of(&mut self, slot: &Slot<C>) {
        if self.runs_fallback(slot) {
            self.fallback = None;
            self.event(Event::NotRestarted { epoch: slot.epoch });
        }
    }

    fn role_of(&self, slot: &Slot<C>) -> Role {
        let newer_runs = self
            .slots
            .iter()
            .any(|other| other.epoch > slot.epoch && !other.is_aborting());
        if self.runs_desired(slot) && !newer_runs {
            Role::Desired
        } else if self.runs_fallback(slot) || (slot.is_live() && !self.runs_desired(slot)) {
            Role::Serving
        } else {
            Role::Bystander
        }
    }

    /// Whether the epoch had been live long enough to be trusted. The deadline that says so may not
    /// have been handled yet, so the time decides; but not a time in which nobody looked.
    fn is_healthy(&self, slot: &Slot<C>) -> bool {
        match (slot.state, self.policy.retry.reset_after) {
            (State::Live { healthy: true, .. }, Some(_)) => true,
            (
                State::Live {
                    since,
                    healthy: false,
                    ..
                },
                Some(enough),
            ) => self.due(since.after(enough)) <= self.now,
            (State::Live { .. }, None)
            | (State::Starting { .. } | State::Draining { .. } | State::Aborting { .. }, _) => {
                false
            }
        }
    }

    /// Rule: a failure costs one retry, and only one is scheduled at a time.
    fn retry_desired(&mut self, epoch: Epoch, healthy: bool) {
        let random = self.random();
        let Some(desired) = &mut self.desired else {
            return;
        };
        if let Stage::Waiting(_) | Stage::GivenUp { .. } = desired.stage {
            return self.reconcile();
        }
        desired.tried = true;
        if healthy {
            desired.budget.refill_after_health(&self.policy.retry);
        }
        let Some(delay) = desired.budget.take(&self.policy.retry, random) else {
            return self.give_up(epoch, GaveUp::BudgetSpent);
        };
        desired.stage = Stage::after(self.now, delay);
        let retries_left = desired.budget.left();
        self.event(Event::RetryScheduled {
            purpose: Purpose::Desired,
            delay,
            retries_left,
        });
        self.reconcile();
    }

    /// The configuration that served last is started again, with a budget of its own, while the
    /// desired one may not be.
    fn fall_back(&mut self, slot: Slot<C>) {
        let random = self.random();
        let healthy = self.is_healthy(&slot);
        let epoch = slot.epoch;
        if self.has_proven_less(&slot) {
            return self.reconcile();
        }
        self.make_fallback(slot);
        let Some(fallback) = &mut self.fallback else {
            return self.reconcile();
        };
        if healthy {
            fallback.budget.refill_after_health(&self.policy.retry);
        }
        match fallback.budget.take(&self.policy.retry, random) {
            Some(delay) => {
                fallback.stage = Stage::after(self.now, delay);
                let retries_left = fallback.budget.left();
                let purpose = Purpose::Fallback;
                self.event(Event::RetryScheduled {
                    purpose,
                    delay,
                    retries_left,
                });
            }
            None => {
                self.fallback = None;
                self.event(Event::FallbackLost { epoch });
            }
        }
        self.reconcile();
    }

    /// Makes what the epoch ran the fallback, with a full budget, unless it is that already.
    fn make_fallback(&mut self, slot: Slot<C>) {
        if self.runs_fallback(&slot) || self.has_proven_less(&slot) {
            return;
        }
        let Some(config) = slot.config else { return };
        self.fallback = Some(self.pursuit(slot.generation, config));
    }

    fn give_up(&mut self, epoch: Epoch, why: GaveUp) {
        let holding = may_hold(&self.policy) && (self.is_serving() || self.fallback.is_some());
        if !holding {
            return self.give_up_and_stop(epoch, why);
        }
        if let Some(desired) = &mut self.desired {
            desired.stage = Stage::GivenUp { epoch, why };
        }
        self.event(Event::GaveUp {
            epoch,
            why,
            holding,
        });
        self.reconcile();
    }

    /// Rule: the panic comes once, then everything that runs is aborted, then the machine finishes.
    pub(super) fn give_up_and_stop(&mut self, epoch: Epoch, why: GaveUp) {
        self.event(Event::GaveUp {
            epoch,
            why,
            holding: false,
        });
        if let Some(desired) = self.desired.take() {
            self.outputs.push_back(Output::Panic {
                config: desired.config,
                epoch,
            });
        }
        self.stop(Outcome::GaveUp { epoch, why });
    }

    /// The random number for the next delay. It is drawn only where it is used, so that machines
    /// without jitter that behave the same are the same.
    fn random(&mut self) -> u64 {
        if self.policy.retry.jitter == Jitter::NONE {
            0
        } else {
            self.random.next_u64()
        }
    }
}

/// How the epoch ended, or `None` when it ended because it was told to. A start that was withdrawn
/// is dropped only before it has taken anything over.
fn end_of<C>(slot: &Slot<C>, exit: Exit) -> Option<End> {
    match (slot.state, exit) {
        (State::Aborting { timed_out: false, .. }, _)
        | (State::Starting { withdrawn: Some(_), late: false }, Exit::Aborted) => None,
        (_, Exit::Failed(severity)) => Some(End::Failed(severity)),
        // Too late to go live is a failure, whatever the exit looks like.
        (
            State::Aborting { timed_out: true, .. } | State::Starting { late: true, .. },
            Exit::Clean | Exit::Aborted,
        )
        // Somebody else aborted it.
        | (State::Starting { .. } | State::Live { .. } | State::Draining { .. }, Exit::Aborted) => {
            Some(End::Failed(Severity::Transient))
        }
        (State::Starting { .. } | State::Live { .. } | State::Draining { .. }, Exit::Clean) => {
            Some(End::Clean)
        }
    }
}
