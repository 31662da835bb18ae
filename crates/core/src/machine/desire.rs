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
        // What was the fallback becomes what is desired. One that runs and is older than a renewal cannot,
        // so it stays what it is.
        if !self.runs_outdated_fallback() {
            self.fallback.take_if(|it| it.config == config);
        }
        // What was aborted before this desire, or late, is not held against it, whatever it ran.
        for slot in &mut self.slots {
            slot.outdated |= slot.is_aborting() || slot.is_late();
        }
        self.desired = Some(self.new_pursuit(config));
        self.refuse_condemned();
        self.reconcile();
        Reception::Accepted
    }

    /// Rule: a renewal is a desire that no running epoch fulfils.
    ///
    /// What serves until then is the last good one, even if its configuration is equal: the new epoch
    /// may fail over what the proxy reads beside its configuration.
    pub(super) fn renew(&mut self, config: C) -> Reception {
        if self.phase != Phase::Running {
            return Reception::Denied(Denied::Terminating);
        }
        self.pardon(&config);
        for slot in &mut self.slots {
            slot.outdated = true;
        }
        self.desired = Some(self.new_pursuit(config));
        self.reconcile();
        Reception::Accepted
    }

    /// Rule: a cold restart ends everything that runs, whatever it runs, and then starts what is
    /// desired as epoch 0.
    ///
    /// It needs no state of its own. Once every epoch is aborted, nothing can be started before the
    /// last of them has exited, and then no number is taken. What was found unfit beside what ends here is
    /// forgotten.
    pub(super) fn restart(&mut self, config: C) -> Reception {
        if self.phase != Phase::Running {
            return Reception::Denied(Denied::Terminating);
        }
        if self.is_restarting_with(&config) {
            return Reception::Ignored(Ignored::UnderWay);
        }
        self.condemned = None;
        // What ends here has served until then: where the policy holds the last good one, it is
        // what to come back to should the new one fail.
        self.fallback = self
            .last_good()
            .filter(|(_, last_good)| *last_good != config)
            .map(|(generation, config)| self.pursuit(generation, config));
        self.desired = Some(self.new_pursuit(config));
        for slot in &mut self.slots {
            slot.disown();
        }
        self.event(Event::Restarting);
        self.abort_all();
        self.reconcile();
        Reception::Accepted
    }

    fn runs_outdated_fallback(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.outdated && !slot.is_aborting() && self.runs_fallback(slot))
    }

    /// What a desire begins with.
    fn new_pursuit(&mut self, config: C) -> Pursuit<C> {
        self.generations = self.generations.saturating_add(1);
        self.forget_interval_that_is_over();
        Pursuit {
            tried: false,
            ..self.pursuit(self.generations, config)
        }
    }

    /// A configuration that may be started, with a full budget. It has been started before, unless it is what
    /// a desire begins with.
    pub(super) fn pursuit(&self, generation: u64, config: C) -> Pursuit<C> {
        Pursuit {
            config,
            generation,
            tried: true,
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

    /// The configuration that serves, or else that of the fallback there already is, with its
    /// generation; nothing where the policy holds none.
    fn last_good(&self) -> Option<(u64, C)> {
        if !may_hold(&self.policy) {
            return None;
        }
        let live = self.slots.iter().rev().find(|slot| slot.is_live());
        let live = live.filter(|slot| !self.has_proven_less(slot));
        match (live, &self.fallback) {
            (Some(live), _) => Some((live.generation, live.config.clone()?)),
            (None, Some(fallback)) => Some((fallback.generation, fallback.config.clone())),
            (None, None) => None,
        }
    }
}
