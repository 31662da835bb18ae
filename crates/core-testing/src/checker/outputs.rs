//! What must be true of each output.

use alloc::format;
use core::time::Duration;

use handover_core::{
    Abort, Epoch, Event, GaveUp, Outcome, Output, Phase, Purpose, Target, Urgency,
};

use super::record::{Owed, Stage, Started, Trial, Watched, waiting};
use super::{Checker, rules};
use crate::invariant::ensure;
use crate::{Invariant, View, Violation};

impl<C: Clone + Eq> Checker<C> {
    pub(super) fn take_out(
        &mut self,
        output: &Output<C>,
        after: &View<C>,
    ) -> Result<(), Violation> {
        ensure(!self.finished, Invariant::AlwaysFinishes, || {
            "an output after Finish".into()
        })?;
        match output {
            Output::Start { epoch, target } => self.start(*epoch, target),
            Output::Abort { epoch, how } => self.abort(*epoch, *how, after),
            Output::Retire { epoch, by } => self.retire(*epoch, *by),
            Output::Withdraw(epoch) => self.withdraw(*epoch),
            Output::Cleanup(epoch) => {
                let waiting = self.to_clean.iter().position(|other| other == epoch);
                let index = waiting.ok_or_else(|| Violation {
                    invariant: Invariant::CleanupExactlyOnce,
                    seen: format!("cleanup of {epoch}, which has not just exited"),
                })?;
                self.to_clean.remove(index);
                Ok(())
            }
            Output::Panic { config, epoch } => {
                let is_due = core::mem::take(&mut self.step.panic_due) && !self.panicked;
                self.panicked = true;
                let desired = self.desired.take();
                ensure(
                    is_due && desired.is_some_and(|it| it.config == *config),
                    Invariant::PanicAtMostOnceThenFinish,
                    || format!("a panic after {epoch}, of what was not given up"),
                )
            }
            Output::Finish(outcome) => self.finish(*outcome),
            Output::Event(event) => self.event(event),
        }
    }

    fn start(&mut self, epoch: Epoch, target: &Target<C>) -> Result<(), Violation> {
        let running = &self.running;
        let beside = || format!("{epoch} was started beside {:?}", running.keys());
        let successor = match running.keys().next_back() {
            Some(highest) => highest.number().checked_add(1),
            None => Some(0),
        };
        ensure(
            successor == Some(epoch.number()),
            Invariant::EpochIsSuccessor,
            beside,
        )?;
        ensure(
            !self.to_clean.contains(&epoch),
            Invariant::CleanupExactlyOnce,
            || format!("{epoch} was started before its predecessor was cleaned up"),
        )?;
        let starting = running.values().any(Watched::is_starting);
        ensure(
            !(rules::waits(&self.policy) && starting),
            Invariant::OneStartAtATime,
            beside,
        )?;
        let aborting = running.values().any(|it| it.aborted.is_some());
        ensure(!aborting, Invariant::NoStartWhileAborting, beside)?;
        ensure(!self.panicked, Invariant::PanicAtMostOnceThenFinish, || {
            format!("{epoch} was started after the panic")
        })?;
        ensure(
            !self.restarting || running.is_empty(),
            Invariant::RestartBeginsAnew,
            beside,
        )?;
        let started = Started {
            epoch,
            beside_good: self.is_served_well(),
            beside_desired: self.current().is_some_and(|it| self.is_desired(it)),
        };
        let config = match target {
            Target::Drain => {
                self.drain_started = true;
                None
            }
            Target::Serve(config) => {
                self.check_serve_start(epoch)?;
                for older in self.running.values_mut() {
                    older.contested |= older.may_serve();
                }
                Some(config.clone())
            }
        };
        self.running.insert(epoch, Watched::new(config, self.now));
        let before = self.step.unannounced.replace(started);
        self.step.fresh = Some(epoch);
        ensure(before.is_none(), Invariant::StartsWhatIsAskedFor, || {
            super::unannounced(before)
        })
    }

    fn check_serve_start(&mut self, epoch: Epoch) -> Result<(), Violation> {
        ensure(
            self.urgency.is_none(),
            Invariant::NoServeStartAfterTerminate,
            || format!("{epoch} was started to serve"),
        )?;
        let counted = self.counted();
        let fits = self.policy.max_epochs.is_none_or(|max| counted < max);
        // What serves badly is replaced at once, and then that is said.
        let replaces = self.has_unfit();
        self.step.beyond_cap = (!fits).then_some((epoch, counted));
        ensure(fits || replaces, Invariant::CapRespected, || {
            format!("{epoch} beside {counted} others")
        })
    }

    /// How many epochs count towards the cap.
    pub(super) fn counted(&self) -> u32 {
        let counted = self.running.values().filter(|it| !it.released).count();
        u32::try_from(counted).unwrap_or(u32::MAX)
    }

    fn abort(&mut self, epoch: Epoch, how: Abort, after: &View<C>) -> Result<(), Violation> {
        let is_killed = self.urgency == Some(Urgency::Kill);
        let is_ending = after.phase != Phase::Running || self.restarting;
        let aborts_for = self.step.aborts_for;
        let Some(watched) = self.running.get_mut(&epoch) else {
            return ensure(false, Invariant::AbortsEscalate, || {
                format!("{epoch} was aborted and does not run")
            });
        };
        let before = watched.aborted.replace(how);
        let (was_late, asked) = (watched.late && before.is_none(), watched.withdrawn);
        // What is ended for another reason gets its grace, and its end is no failure.
        watched.late &= how == Abort::Immediate;
        let is_good = watched.live.is_some() || watched.drains;
        let is_overdue = was_late && self.has_had_time_to_answer(asked);
        let first = rules::first_abort(&self.policy, is_killed);
        let is_first = how == first || (is_overdue && how == Abort::Immediate);
        let is_for_another = is_ending || aborts_for.is_some_and(|failed| failed != epoch);
        ensure(
            !was_late || is_overdue || is_for_another,
            Invariant::LateStartsMayAnswer,
            || format!("{epoch} is late and was aborted, asked: {asked:?}"),
        )?;
        ensure(
            before.map_or(is_first, |before| before < how),
            Invariant::AbortsEscalate,
            || format!("{epoch} was aborted, {how:?} after {before:?}"),
        )?;
        let keeps = !rules::aborts_all(&self.policy);
        ensure(
            !(keeps && is_good && !is_ending),
            Invariant::GoodEpochSurvivesBadOne,
            || format!("{epoch} serves and was aborted"),
        )?;
        let has_cause = is_for_another || is_overdue || before.is_some();
        ensure(has_cause, Invariant::FailureCostsWhatThePolicySays, || {
            format!("{epoch} was aborted for no cause")
        })
    }

    fn retire(&mut self, epoch: Epoch, by: Epoch) -> Result<(), Violation> {
        let newer_serves = by > epoch && self.running.get(&by).is_some_and(Watched::is_live);
        let watched = self.running.get_mut(&epoch);
        let due = watched.is_some_and(|it| {
            !core::mem::replace(&mut it.retired, true) && it.aborted.is_none() && !it.is_drain()
        });
        ensure(due && newer_serves, Invariant::RetiredAtMostOnce, || {
            format!("{epoch} was retired by {by}")
        })
    }

    fn withdraw(&mut self, epoch: Epoch) -> Result<(), Violation> {
        let terminated = self.urgency.is_some();
        let now = self.now;
        let watched = self.running.get_mut(&epoch).filter(|it| it.is_starting());
        let due = watched.is_some_and(|it| it.withdrawn.replace(now).is_none());
        let gives_way = self.step.gives_way.take() == Some(epoch);
        let is_late = self.step.asks_late.take() == Some(epoch);
        ensure(
            due && (terminated || gives_way || is_late),
            Invariant::WithdrawnAtMostOnce,
            || format!("{epoch} was withdrawn, terminated: {terminated}"),
        )
    }

    fn finish(&mut self, outcome: Outcome) -> Result<(), Violation> {
        self.finished = true;
        ensure(self.running.is_empty(), Invariant::AlwaysFinishes, || {
            format!("finished while {:?} run", self.running.keys())
        })?;
        let called_drained = outcome == Outcome::Drained;
        let called_failed = outcome == Outcome::DrainFailed;
        ensure(
            !(called_drained && self.undrained) && (self.undrained || !called_failed),
            Invariant::DrainedMeansDrained,
            || format!("finished with {outcome:?}, undrained: {}", self.undrained),
        )?;
        let gave_up = matches!(outcome, Outcome::GaveUp { .. });
        ensure(
            gave_up == self.panicked,
            Invariant::PanicAtMostOnceThenFinish,
            || format!("finished with {outcome:?}, panicked: {}", self.panicked),
        )?;
        let ended = matches!(outcome, Outcome::ProxyEnded { .. });
        let is_true = ended == self.proxy_ended
            && (outcome != Outcome::Killed || self.urgency == Some(Urgency::Kill))
            && (outcome != Outcome::DrainSkipped || self.urgency.is_some());
        ensure(is_true, Invariant::AlwaysFinishes, || {
            format!("finished with {outcome:?}")
        })
    }

    fn event(&mut self, event: &Event) -> Result<(), Violation> {
        let is_failure = matches!(
            event,
            Event::RetryScheduled { .. }
                | Event::GaveUp { .. }
                | Event::FallbackLost { .. }
                | Event::NotRestarted { .. }
        );
        ensure(
            !(is_failure && self.restarting),
            Invariant::RestartBeginsAnew,
            || format!("{event:?} of what was ended"),
        )?;
        match event {
            Event::Started { epoch, purpose } => self.started(*epoch, *purpose),
            Event::Superseded { epoch, by } => {
                let by_serves = by > epoch && self.running.get(by).is_some_and(Watched::is_live);
                let drains = self.running.get(epoch).is_some_and(|it| it.drains);
                ensure(by_serves && drains, Invariant::RetiredAtMostOnce, || {
                    format!("{epoch} is called superseded by {by}")
                })
            }
            Event::WokeLate { .. } => {
                self.note_gap();
                Ok(())
            }
            Event::StartTimedOut { epoch } => self.start_timed_out(*epoch),
            Event::GivesWay { epoch, .. } => self.gives_way(*epoch),
            Event::ProbationPassed { epoch } => self.probation_passed(*epoch),
            Event::Unfit { epoch, replaced } => self.called_unfit(*epoch, *replaced),
            Event::BeyondCap { epoch, running } => {
                let due = self.step.beyond_cap.take();
                ensure(
                    due == Some((*epoch, *running)),
                    Invariant::CapRespected,
                    || {
                        format!(
                            "{epoch} is called beyond the cap, beside {running}; that is: {due:?}"
                        )
                    },
                )
            }
            Event::RetryScheduled {
                purpose,
                delay,
                retries_left,
            } => self.retry_scheduled(*purpose, *delay, *retries_left),
            Event::BudgetRefilled {
                epoch,
                retries_left,
            } => self.budget_refilled(*epoch, *retries_left),
            Event::GaveUp { why, holding, .. } => self.gave_up(*why, *holding),
            Event::FallbackLost { epoch } => {
                self.pay(Owed::LoseFallback, *epoch)?;
                self.fallback = None;
                Ok(())
            }
            Event::NotRestarted { epoch } => match self.step.owed.take() {
                Some(Owed::Stay(_)) => Ok(()),
                owed => Err(Violation {
                    invariant: Invariant::FailureCostsWhatThePolicySays,
                    seen: format!("{epoch} is left alone, owed: {owed:?}"),
                }),
            },
            Event::Live { .. }
            | Event::StoppedServing { .. }
            | Event::Exited { .. }
            | Event::Restarting
            | Event::Held(_)
            | Event::Draining { .. }
            | Event::DrainTimedOut
            | _ => Ok(()),
        }
    }

    /// A probation is passed when it is over, and then there is nothing better any more.
    fn probation_passed(&mut self, epoch: Epoch) -> Result<(), Violation> {
        let watched = self.running.get(&epoch);
        let end = watched.and_then(|it| self.end_of_trial(it));
        let is_over = end.is_some_and(|end| self.is_due(end));
        self.forget_fallback();
        if let Some(watched) = self.running.get_mut(&epoch) {
            watched.trial = Trial::None;
        }
        ensure(is_over, Invariant::ProbationEndsOnTime, || {
            format!("{epoch} has passed its probation, which ends at {end:?}")
        })
    }

    fn called_unfit(&mut self, epoch: Epoch, replaced: bool) -> Result<(), Violation> {
        let owed = self.step.owed.take();
        let called = |gives_up| {
            Some(Owed::Unfit {
                epoch,
                replaced,
                gives_up,
            })
        };
        if owed == called(true) {
            self.step.owed = Some(Owed::GiveUp(GaveUp::Unfit));
            return Ok(());
        }
        ensure(owed == called(false), Invariant::UnfitMakesRoom, || {
            format!("{epoch} is called unfit, replaced: {replaced}, owed: {owed:?}")
        })
    }

    /// The event must be the one that is owed.
    fn pay(&mut self, event: Owed, epoch: Epoch) -> Result<(), Violation> {
        let owed = self.step.owed.take();
        ensure(
            owed == Some(event),
            Invariant::FailureCostsWhatThePolicySays,
            || format!("{event:?} after {epoch}, owed: {owed:?}"),
        )
    }

    fn started(&mut self, epoch: Epoch, purpose: Purpose) -> Result<(), Violation> {
        let wrong = |invariant, why: &str| Violation {
            invariant,
            seen: format!("{epoch} was started for {purpose:?}: {why}"),
        };
        let asked = Invariant::StartsWhatIsAskedFor;
        let Some(started) = self.step.unannounced.take().filter(|it| it.epoch == epoch) else {
            return Err(wrong(asked, "no start came before"));
        };
        let is_due = |stage| matches!(stage, Some(Stage::Due));
        let desired_is_due = is_due(self.desired.as_ref().map(|it| it.stage));
        let Some(watched) = self.running.get_mut(&epoch) else {
            return Err(wrong(asked, "it does not run"));
        };
        let is_drain = watched.is_drain();
        watched.purpose = purpose;
        watched.fallback = purpose == Purpose::Fallback;
        let config = watched.config.clone();
        if is_drain || purpose == Purpose::Drain {
            let fits = is_drain && purpose == Purpose::Drain;
            return if fits {
                Ok(())
            } else {
                Err(wrong(asked, "the target is another"))
            };
        }
        let restarted = core::mem::take(&mut self.restarting);
        if restarted && purpose != Purpose::Desired {
            return Err(wrong(Invariant::RestartBeginsAnew, "not as desired"));
        }
        self.renewing &= purpose != Purpose::Desired;
        if purpose == Purpose::Fallback {
            if !rules::holds(&self.policy) {
                return Err(wrong(Invariant::HoldsLastGood, "the policy holds none"));
            }
            if started.beside_good || desired_is_due {
                return Err(wrong(asked, "there is better"));
            }
        } else if started.beside_desired {
            return Err(wrong(asked, "it is current"));
        }
        let now = self.now;
        let woke = self.woke;
        let end_of_interval = self.end_of_interval();
        let keeps_intervals = self.policy.min_interval.is_some();
        let Some(pursuit) = self.pursuit_mut(purpose) else {
            return Err(wrong(asked, "nothing is to be started"));
        };
        if config.as_ref() != Some(&pursuit.config) {
            return Err(wrong(asked, "its configuration is another"));
        }
        let is_first = core::mem::replace(&mut pursuit.untried, false);
        let is_change = is_first && purpose == Purpose::Desired && started.beside_good;
        if is_change && end_of_interval.is_some_and(|end| end > now) {
            return Err(wrong(
                Invariant::ChangesAreApart,
                "another change was started just before",
            ));
        }
        let stage = core::mem::replace(&mut pursuit.stage, Stage::Started);
        if is_change && keeps_intervals {
            self.last_change = Some(now);
        }
        match stage {
            Stage::Due => Ok(()),
            Stage::Waiting(at) if super::due(at, woke) <= now => Ok(()),
            Stage::Waiting(_) => Err(wrong(Invariant::RetriesWait, "the retry is not due")),
            Stage::Started | Stage::GivenUp(_) | Stage::NotRestarted => Err(wrong(
                Invariant::RetriesWithinBudget,
                "again, and without a retry",
            )),
        }
    }

    fn retry_scheduled(
        &mut self,
        purpose: Purpose,
        delay: Duration,
        left: u32,
    ) -> Result<(), Violation> {
        let owed = self.step.owed.take();
        let Some(Owed::Retry {
            purpose: owed_to,
            used,
            at_once,
        }) = owed
        else {
            return ensure(false, Invariant::FailureCostsWhatThePolicySays, || {
                format!("a retry for {purpose:?}, owed: {owed:?}")
            });
        };
        ensure(
            owed_to == purpose,
            Invariant::FailureCostsWhatThePolicySays,
            || format!("a retry for {purpose:?}, owed: {owed:?}"),
        )?;
        let retry = self.policy.retry;
        ensure(
            rules::is_delay(&retry, used, at_once, delay),
            Invariant::RetriesWait,
            || format!("a delay of {delay:?} after {used} retries, the first at once: {at_once}"),
        )?;
        let stage = waiting(self.now, delay);
        let used = used.saturating_add(1);
        if let Some(pursuit) = self.pursuit_mut(purpose) {
            pursuit.used = used;
            pursuit.stage = stage;
        }
        ensure(
            used.checked_add(left) == Some(retry.max_retries),
            Invariant::RetriesWithinBudget,
            || format!("{used} retries used and {left} left"),
        )
    }

    fn budget_refilled(&mut self, epoch: Epoch, left: u32) -> Result<(), Violation> {
        let watched = self.running.get(&epoch).cloned();
        let healthy = watched.as_ref().is_some_and(|it| self.is_healthy(it));
        let purpose = match &watched {
            Some(it) if self.is_desired(it) => Purpose::Desired,
            Some(it) if it.is_fallback() => Purpose::Fallback,
            Some(_) | None => Purpose::Drain,
        };
        let most = self.policy.retry.max_retries;
        let pursuit = self.pursuit_mut(purpose);
        let was_used = pursuit.is_some_and(|pursuit| {
            let used = pursuit.used;
            pursuit.refill(false);
            used > 0
        });
        ensure(
            healthy && was_used && purpose != Purpose::Drain && left == most,
            Invariant::RetriesWithinBudget,
            || format!("{left} retries again for {epoch}, healthy: {healthy}"),
        )
    }

    /// Either a failure is the last one, or what was held since an earlier one is gone.
    fn gave_up(&mut self, why: GaveUp, holding: bool) -> Result<(), Violation> {
        let stage = self.desired.as_ref().map(|it| it.stage);
        let owed = self.step.owed.take();
        ensure(
            match owed {
                Some(owed) => owed == Owed::GiveUp(why),
                None => stage == Some(Stage::GivenUp(why)) && !holding,
            },
            Invariant::FailureCostsWhatThePolicySays,
            || format!("given up as {why:?}, owed: {owed:?}"),
        )?;
        self.set_desired_stage(Stage::GivenUp(why));
        let holds = self.has_something_to_hold();
        self.step.panic_due = !holding;
        ensure(holding == holds, Invariant::HoldsLastGood, || {
            format!("given up, holding: {holding}, something to hold: {holds}")
        })
    }
}
