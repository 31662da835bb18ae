//! The time after live in which a configuration must prove itself.
//!
//! Until it has, the configuration that served before stays the fallback: to go back to if what is seen says
//! that the new one is unfit, and to serve with if the new one fails.

use super::pursuit::Stage;
use super::slot::{Slot, State, Trial};
use super::{Machine, Phase};
use crate::policy::may_hold;
use crate::{Epoch, Event, GaveUp, Ignored, Policy, Reception};

/// A configuration that was found unfit, and the epoch that it was found of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Condemned<C> {
    pub(super) config: C,
    pub(super) epoch: Epoch,
}

/// What an epoch that goes live begins with. What had served before has nothing to prove.
pub(super) fn first_trial(policy: &Policy, had_served: bool) -> Trial {
    if policy.probation.is_none() || had_served {
        Trial::Passed
    } else {
        Trial::OnProbation
    }
}

impl<C: Clone + Eq> Machine<C> {
    /// Chooses what to go back to from the epoch that has gone live.
    ///
    /// Rule: it is the configuration that served last and has passed its probation. One that has not,
    /// in a flood of changes, is better than none; one that was found unfit is not. A configuration is
    /// not gone back to from an equal one: that is a renewal, and what is different stays different.
    pub(super) fn choose_last_good(&mut self, epoch: Epoch) {
        if self.policy.probation.is_none() || !may_hold(&self.policy) {
            // Whatever else serves is the last good configuration from here on.
            self.fallback = None;
            return;
        }
        let mut older = self.slots.iter().rev().filter(|slot| slot.epoch < epoch);
        let before = older.find(|slot| slot.is_live()).filter(|slot| {
            let is_better = slot.is_proven() || self.fallback.is_none();
            is_better && !slot.is_unfit() && !self.runs_fallback(slot)
        });
        if let Some((before, generation)) = before.map(|slot| (slot.epoch, slot.generation)) {
            let mut slots = self.slots.iter_mut();
            let before = slots.find(|slot| slot.epoch == before);
            // It is retired next, and from then on nobody asks what it runs.
            if let Some(config) = before.and_then(|slot| slot.config.take()) {
                self.fallback = Some(self.pursuit(generation, config));
            }
        }
        let mut slots = self.slots.iter();
        let new = slots.find(|slot| slot.epoch == epoch);
        let new = new.and_then(|slot| slot.config.as_ref());
        self.fallback.take_if(|it| Some(&it.config) == new);
        if let Some(fallback) = &mut self.fallback {
            fallback.stage = Stage::Ready;
        }
    }

    /// Rule: an unfit epoch makes room for what served before, and what it ran is given up.
    pub(super) fn unfit(&mut self, epoch: Epoch) -> Reception {
        let Some(slot) = self.slots.iter().find(|slot| slot.epoch == epoch) else {
            return Reception::Ignored(Ignored::UnknownEpoch);
        };
        if self.phase == Phase::Running && slot.is_unfit() {
            return Reception::Ignored(Ignored::UnderWay);
        }
        if self.phase != Phase::Running || !slot.is_on_probation() {
            return Reception::Ignored(Ignored::OutOfOrder);
        }
        let was_desired = self.runs_desired(slot);
        let replaced = self.fallback.is_some();
        // Where nothing is held there is never anything better. What was renewed meanwhile is tried again.
        let is_renewed = !was_desired && self.desired() == slot.config.as_ref();
        let is_kept = may_hold(&self.policy) && !is_renewed;
        let config = slot.config.clone().filter(|_| is_kept);
        self.condemned = config.map(|config| Condemned { config, epoch });
        self.end_trial(epoch, Trial::Unfit);
        // What serves until it is replaced is not what is desired, even if that is asked for again.
        for slot in self.slots.iter_mut().filter(|slot| slot.epoch == epoch) {
            slot.outdated |= replaced;
        }
        self.event(Event::Unfit { epoch, replaced });
        if replaced && was_desired {
            self.give_up_as_unfit(epoch);
        }
        self.reconcile();
        Reception::Accepted
    }

    /// Rule: what was found unfit is not tried again because it is desired again, as long as
    /// something else serves or can be started. Where there is nothing better, or it is what runs, it
    /// is forgotten that it was found unfit.
    pub(super) fn refuse_condemned(&mut self) {
        let desired = self.desired.as_ref().map(|desired| &desired.config);
        let Some(condemned) = self.condemned.take_if(|it| Some(&it.config) == desired) else {
            return;
        };
        let mut current = self.current_slot().into_iter();
        let runs_already = current.any(|slot| self.runs_desired(slot));
        if !runs_already && (self.is_served_well() || self.fallback.is_some()) {
            self.give_up_as_unfit(condemned.epoch);
            self.condemned = Some(condemned);
        }
    }

    /// Forgets that the configuration was found unfit: it is asked for once more on purpose.
    pub(super) fn pardon(&mut self, config: &C) {
        self.condemned.take_if(|it| it.config == *config);
    }

    fn give_up_as_unfit(&mut self, epoch: Epoch) {
        let why = GaveUp::Unfit;
        if let Some(desired) = &mut self.desired {
            desired.stage = Stage::GivenUp { epoch, why };
        }
        self.event(Event::GaveUp {
            epoch,
            why,
            holding: true,
        });
    }

    /// Whether what the epoch ran must not take the place of the fallback, because it has proven less.
    pub(super) fn has_proven_less(&self, slot: &Slot<C>) -> bool {
        self.fallback.is_some() && (slot.is_on_probation() || slot.is_unfit())
    }

    /// Rule: what was not found unfit in time is the last good configuration, should it fail.
    pub(super) fn pass_probation(&mut self, epoch: Epoch) {
        self.end_trial(epoch, Trial::Passed);
        self.fallback = None;
        self.event(Event::ProbationPassed { epoch });
    }

    fn end_trial(&mut self, epoch: Epoch, verdict: Trial) {
        let slot = self.slots.iter_mut().find(|slot| slot.epoch == epoch);
        if let Some(State::Live { trial, .. }) = slot.map(|slot| &mut slot.state) {
            *trial = verdict;
        }
    }
}
