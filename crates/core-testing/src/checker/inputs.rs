//! What an input leads to.

use handover_core::{Epoch, Exit, GaveUp, Input, Purpose, Severity};

use super::record::{Owed, Pursuit, Stage, Trial, Watched};
use super::rules::{self, Cost, Part};
use super::{Checker, StepRecord};

impl<C: Clone + Eq> Checker<C> {
    /// Takes an accepted input into the record. `is_running`: the machine was not on the way to the end.
    pub(super) fn take_in(&mut self, input: &Input<C>, is_running: bool) {
        if matches!(
            input,
            Input::Desire(_) | Input::Renew(_) | Input::Restart(_)
        ) {
            self.forget_interval_that_is_over();
        }
        match input {
            Input::Desire(config) => self.desire(config),
            Input::Renew(config) => {
                self.condemned.take_if(|it| it == config);
                for watched in self.running.values_mut() {
                    watched.outdated = true;
                }
                self.desired = Some(Pursuit::new(config.clone()));
                self.renewing = true;
            }
            Input::Restart(config) => self.restart(config),
            Input::Live(epoch) => self.live(*epoch),
            Input::StoppedServing(epoch) => {
                if let Some(watched) = self.running.get_mut(epoch) {
                    let was = watched.clone();
                    watched.drains = true;
                    if is_running && was.contested {
                        self.lose_to_a_newer_start(&was);
                    } else if is_running {
                        self.charge(*epoch, &was, Exit::Failed(Severity::Transient));
                    }
                }
            }
            Input::Withdrawn(epoch) => {
                if let Some(watched) = self.running.get_mut(epoch) {
                    let was = watched.clone();
                    watched.drains = true;
                    watched.late = false;
                    if was.late && is_running {
                        self.charge(*epoch, &was, Exit::Failed(Severity::Transient));
                    } else if !was.late {
                        self.may_be_started_again(was.is_fallback());
                    }
                }
            }
            Input::Unfit(epoch) => self.found_unfit(*epoch),
            Input::Released(epoch) => {
                if let Some(watched) = self.running.get_mut(epoch) {
                    watched.released = true;
                }
            }
            Input::Exited(epoch, exit) => {
                let watched = self.running.get(epoch);
                if let Some(watched) = watched.filter(|it| it.is_dropped_by(*exit)) {
                    self.may_be_started_again(watched.is_fallback());
                }
                if let Some(watched) = self.running.remove(epoch) {
                    if watched.is_starting() && !watched.is_dropped_by(*exit) {
                        self.gave_way = 0;
                    }
                    self.undrained |= self.urgency.is_some() && self.lost_clients(&watched, *exit);
                    if is_running {
                        self.charge(*epoch, &watched, *exit);
                    }
                }
                self.to_clean.push(*epoch);
            }
            Input::Terminate(_) => {
                // Whoever was asked has the same time from here on.
                for watched in self.running.values_mut().filter(|_| is_running) {
                    watched.withdrawn = watched.withdrawn.map(|_| self.now);
                }
            }
        }
    }

    fn desire(&mut self, config: &C) {
        // One that runs, and is older than a renewal, cannot be what is asked for.
        let is_tied = self
            .running
            .values()
            .any(|it| it.is_fallback() && it.outdated && it.aborted.is_none());
        let was_fallback = self
            .fallback
            .take_if(|it| it.config == *config && !is_tied)
            .is_some();
        for watched in self.running.values_mut() {
            watched.outdated |= watched.aborted.is_some() || watched.late;
            watched.fallback &= !was_fallback;
        }
        self.desired = Some(Pursuit::new(config.clone()));
        self.renewing = false;
        // What was found unfit is not tried again while there is better.
        if self.condemned.as_ref() == Some(config) {
            let has_better = self.is_served_well() || self.fallback.is_some();
            if has_better && !self.current().is_some_and(|it| self.is_desired(it)) {
                self.step.owed = Some(Owed::GiveUp(GaveUp::Unfit));
            } else {
                self.condemned = None;
            }
        }
    }

    fn found_unfit(&mut self, epoch: Epoch) {
        let replaced = self.fallback.is_some();
        let watched = self.running.get(&epoch);
        let is_desired = watched.is_some_and(|it| self.is_desired(it));
        let gives_up = replaced && is_desired;
        // A renewal asks for it again already.
        let desired = self.desired.as_ref().map(|it| &it.config);
        let is_renewed = !is_desired && watched.is_some_and(|it| it.config.as_ref() == desired);
        self.step.owed = Some(Owed::Unfit {
            epoch,
            replaced,
            gives_up,
        });
        if let Some(watched) = self.running.get_mut(&epoch) {
            watched.trial = Trial::Lost;
            watched.outdated |= replaced;
            let holds = rules::holds(&self.policy);
            self.condemned = watched.config.clone().filter(|_| holds && !is_renewed);
        }
    }

    /// What served until then is the last good one, should the desired one fail.
    fn restart(&mut self, config: &C) {
        self.condemned = None;
        let serving = self.running.values().rev().find(|it| it.is_live());
        let last_good = match serving.filter(|it| !self.has_proven_less(it)) {
            Some(serving) => serving.config.clone(),
            None => self.fallback.take().map(|it| it.config),
        };
        self.fallback = last_good
            .filter(|last_good| last_good != config && rules::holds(&self.policy))
            .map(Pursuit::new);
        self.desired = Some(Pursuit::new(config.clone()));
        for watched in self.running.values_mut() {
            watched.forgiven = true;
            watched.late = false;
        }
        self.restarting = true;
        self.renewing = false;
    }

    fn live(&mut self, epoch: Epoch) {
        self.gave_way = 0;
        let is_new = self.running.get(&epoch).is_some_and(|it| !it.is_fallback());
        if is_new && self.policy.probation.is_some() && rules::holds(&self.policy) {
            self.keep_a_good_one(epoch);
        } else if is_new {
            // What serves from here on is the last good one, should it fail.
            self.forget_fallback();
        }
        if is_new
            && self.policy.probation.is_some()
            && let Some(watched) = self.running.get_mut(&epoch)
        {
            watched.trial = Trial::Begun;
        }
        for (other, watched) in &mut self.running {
            if *other == epoch {
                watched.live = Some(self.now);
                watched.late = false;
            }
            watched.drains |= *other < epoch && watched.aborted.is_none();
            watched.late &= !watched.drains;
        }
    }

    /// Until it has passed its probation, there is something better than the epoch that goes live.
    fn keep_a_good_one(&mut self, epoch: Epoch) {
        let mut before = self.running.range(..epoch).rev().map(|(_, it)| it);
        let before = before.find(|it| it.is_live()).cloned();
        if let Some(before) = before
            && !before.is_fallback()
            && !before.is_unfit()
            && !self.has_proven_less(&before)
        {
            self.forget_fallback();
            self.fallback = before.config.map(Pursuit::new);
        }
        let new = self.running.get(&epoch).and_then(|it| it.config.clone());
        match &mut self.fallback {
            Some(fallback) if Some(&fallback.config) == new.as_ref() => self.forget_fallback(),
            Some(fallback) => fallback.stage = Stage::Due,
            None => {}
        }
    }

    /// What it ran is started again, for nothing.
    fn lose_to_a_newer_start(&mut self, was: &Watched<C>) {
        let is_desired = self.is_desired(was);
        if !is_desired && self.has_proven_less(was) {
            // There is better, and whether that waits for a retry of its own is another matter.
            return;
        }
        if !is_desired && rules::holds(&self.policy) {
            self.become_fallback(was);
        }
        let of = if is_desired {
            Purpose::Desired
        } else {
            Purpose::Fallback
        };
        if let Some(pursuit) = self.pursuit_mut(of) {
            pursuit.untried = false;
            pursuit.stage = Stage::Due;
        }
    }

    /// The last good one, whose start gave way, is started again for nothing.
    fn may_be_started_again(&mut self, was_fallback: bool) {
        if let Some(fallback) = self.fallback.as_mut().filter(|_| was_fallback) {
            fallback.stage = Stage::Due;
        }
    }

    fn become_fallback(&mut self, was: &Watched<C>) {
        if !was.is_fallback() && !self.has_proven_less(was) {
            self.fallback = was.config.clone().map(Pursuit::new);
        }
    }

    /// Whether an end on the way to the end has cost clients, or was not the end of a drain.
    fn lost_clients(&self, watched: &Watched<C>, exit: Exit) -> bool {
        let serves = watched.live.is_some() || watched.drains || !rules::waits(&self.policy);
        let failed = !watched.is_dropped_by(exit)
            && exit != Exit::Clean
            && (watched.is_drain() || (serves && !watched.released));
        let unasked = watched.is_live() && !self.drain_started;
        watched.aborted.is_none() && (failed || unasked)
    }

    /// Works out what an end costs, and which event must say so.
    fn charge(&mut self, epoch: Epoch, watched: &Watched<C>, exit: Exit) {
        let exit = match exit {
            // It was told to.
            _ if watched.aborted.is_some() && !watched.late => return,
            _ if watched.is_dropped_by(exit) => return,
            // Whatever it says of itself, it did not go live.
            Exit::Clean | Exit::Aborted if watched.late => Exit::Failed(Severity::Transient),
            Exit::Clean | Exit::Aborted | Exit::Failed(_) => exit,
        };
        let part = self.part(epoch, watched);
        let cost = rules::cost(&self.policy, part, exit);
        let owed = match cost {
            Cost::Nothing => None,
            Cost::Stays if part == Part::Desired => {
                if watched.is_live() {
                    // Its work is done, and nothing is to come back in its place.
                    self.forget_fallback();
                }
                self.set_desired_stage(Stage::NotRestarted);
                Some(Owed::Stay(Purpose::Desired))
            }
            Cost::Stays => watched.is_fallback().then(|| {
                self.fallback = None;
                Owed::Stay(Purpose::Fallback)
            }),
            Cost::AgentEnds => {
                self.proxy_ended = true;
                Some(Owed::End)
            }
            Cost::GivenUp => Some(Owed::GiveUp(GaveUp::Permanent)),
            Cost::Retry => self.owe_retry(watched),
            Cost::FallbackRetry if self.has_proven_less(watched) => None,
            Cost::FallbackRetry => {
                self.become_fallback(watched);
                self.owe_fallback_retry(watched)
            }
        };
        self.step = StepRecord {
            owed,
            aborts_for: (cost == Cost::Retry && rules::aborts_all(&self.policy)).then_some(epoch),
            ..self.step
        };
    }

    fn part(&self, epoch: Epoch, watched: &Watched<C>) -> Part {
        let mut others = self.running.iter();
        let newer_runs = others.any(|(other, it)| *other > epoch && it.aborted.is_none());
        if self.is_desired(watched) && !newer_runs {
            Part::Desired
        } else if watched.is_fallback() || (watched.is_live() && !self.is_desired(watched)) {
            Part::LastGood
        } else {
            Part::Other
        }
    }

    /// One at a time: a failure while a retry waits, or after the last one, costs nothing more.
    fn owe_retry(&mut self, watched: &Watched<C>) -> Option<Owed> {
        let healthy = self.is_healthy(watched);
        let most = self.policy.retry.max_retries;
        let desired = self.desired.as_mut()?;
        if matches!(desired.stage, Stage::Waiting(_) | Stage::GivenUp(_)) {
            return None;
        }
        desired.untried = false;
        if healthy {
            desired.refill(true);
        }
        Some(if desired.used < most {
            Owed::Retry {
                purpose: Purpose::Desired,
                used: desired.used,
                at_once: desired.at_once,
            }
        } else {
            Owed::GiveUp(GaveUp::BudgetSpent)
        })
    }

    fn owe_fallback_retry(&mut self, watched: &Watched<C>) -> Option<Owed> {
        let healthy = self.is_healthy(watched);
        let most = self.policy.retry.max_retries;
        let fallback = self.fallback.as_mut()?;
        if healthy {
            fallback.refill(true);
        }
        Some(if fallback.used < most {
            Owed::Retry {
                purpose: Purpose::Fallback,
                used: fallback.used,
                at_once: fallback.at_once,
            }
        } else {
            Owed::LoseFallback
        })
    }

    pub(super) fn set_desired_stage(&mut self, stage: Stage) {
        if let Some(desired) = &mut self.desired {
            desired.stage = stage;
        }
    }
}
