//! What is asked for: a configuration, by a hand-over or by a cold restart.

use handover_retry::Budget;

use super::pursuit::{Pursuit, Stage};
use super::slot::State;
use super::{Machine, Phase};
use crate::policy::may_hold;
use crate::{Denied, Event, Ignored, Reception};

impl<C: Clone + Eq> Machine<C> {
    /// Rule: the latest desire wins; the budget is full again, then and only then.
    pub(super) fn desire(&mut self, config: C) -> Reception {
        if self.phase != Phase::Running {
            return Reception::Denied(Denied::Terminating);
        }
        if self.desired().is_some_and(|desired| *desired == config) {
            return Reception::Ignored(Ignored::Unchanged);
        }
        if let Some(old) = self.desired.take() {
            self.bequeath(old);
        }
        // What was aborted before this desire is not held against it, whatever it ran.
        for slot in self.slots.iter_mut().filter(|slot| slot.is_aborting()) {
            slot.config = None;
        }
        if let Some(fallback) = self.fallback.take_if(|it| it.config == config) {
            self.bequeath(fallback);
        }
        self.desired = Some(self.new_pursuit(config));
        self.reconcile();
        Reception::Accepted
    }

    /// Rule: a cold restart ends everything that runs, whatever it runs, and then starts what is
    /// desired as epoch 0.
    ///
    /// It needs no state of its own. Once every epoch is aborted, nothing can be started before the
    /// last of them has exited, and then no number is taken.
    pub(super) fn restart(&mut self, config: C) -> Reception {
        if self.phase != Phase::Running {
            return Reception::Denied(Denied::Terminating);
        }
        if self.is_restarting_with(&config) {
            return Reception::Ignored(Ignored::UnderWay);
        }
        // What ends here has served until then: where the policy holds the last good one, it is
        // what to come back to should the new one fail.
        let last_good = self.take_last_good();
        let desired = self.new_pursuit(config);
        self.fallback = last_good
            .filter(|it| it.config != desired.config)
            .map(|it| Pursuit {
                budget: Budget::full(&self.policy.retry),
                stage: Stage::Ready,
                ..it
            });
        self.desired = Some(desired);
        for slot in &mut self.slots {
            slot.disown();
        }
        self.event(Event::Restarting);
        self.abort_all();
        self.reconcile();
        Reception::Accepted
    }

    /// The epoch that runs the configuration of a pursuit that is over may have to be compared with
    /// what is desired, then and later, so it takes the configuration over.
    fn bequeath(&mut self, pursuit: Pursuit<C>) {
        let heir = self.slots.iter_mut().rev().find(|slot| {
            slot.generation == pursuit.generation && (slot.is_starting() || slot.is_live())
        });
        if let Some(heir) = heir {
            heir.config = Some(pursuit.config);
        }
    }

    /// What a desire begins with.
    fn new_pursuit(&mut self, config: C) -> Pursuit<C> {
        self.generations = self.generations.saturating_add(1);
        Pursuit {
            config,
            generation: self.generations,
            budget: Budget::full(&self.policy.retry),
            stage: Stage::Ready,
        }
    }

    /// Whether a cold restart with this configuration would change nothing, because one is under
    /// way.
    fn is_restarting_with(&self, config: &C) -> bool {
        let full = Budget::full(&self.policy.retry);
        let is_fresh =
            |pursuit: &Pursuit<C>| pursuit.stage == Stage::Ready && pursuit.budget == full;
        let is_ending = |state| {
            matches!(
                state,
                State::Aborting {
                    timed_out: false,
                    ..
                }
            )
        };
        self.desired
            .as_ref()
            .is_some_and(|desired| desired.config == *config && is_fresh(desired))
            && self.fallback.as_ref().is_none_or(is_fresh)
            && !self.slots.is_empty()
            && self.slots.iter().all(|slot| is_ending(slot.state))
    }

    /// The configuration that serves, wherever it is kept, or else the fallback there already is;
    /// nothing where the policy holds none.
    fn take_last_good(&mut self) -> Option<Pursuit<C>> {
        if !may_hold(&self.policy) {
            return None;
        }
        let Some(live) = self.slots.iter_mut().rev().find(|slot| slot.is_live()) else {
            return self.fallback.take();
        };
        let generation = live.generation;
        let own = live.config.take();
        [&mut self.desired, &mut self.fallback]
            .into_iter()
            .find_map(|pursuit| pursuit.take_if(|it| it.generation == generation))
            .or_else(|| {
                own.map(|config| Pursuit {
                    config,
                    generation,
                    budget: Budget::full(&self.policy.retry),
                    stage: Stage::Ready,
                })
            })
    }
}
