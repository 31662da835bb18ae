//! What must be true of each output.

use alloc::format;

use super::{Attempts, Checker, Invariant, Violation, Watched, ensure};
use crate::policy::waits_for_live;
use crate::{Abort, Epoch, Event, Machine, OnFailure, Outcome, Output, Phase, Purpose, Target};

impl Checker {
    pub(super) fn take_out<C: Clone + Eq>(
        &mut self,
        machine: &Machine<C>,
        output: &Output<C>,
    ) -> Result<(), Violation> {
        ensure(!self.finished, Invariant::AlwaysFinishes, || {
            "an output after Finish".into()
        })?;
        match output {
            Output::Start { epoch, target } => self.start(machine, *epoch, target),
            Output::Abort { epoch, how } => self.abort(machine, *epoch, *how),
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
            Output::Panic { epoch, .. } => {
                let once = !self.panicked;
                self.panicked = true;
                ensure(once, Invariant::PanicAtMostOnceThenFinish, || {
                    format!("a second panic, after {epoch}")
                })
            }
            Output::Finish(outcome) => {
                self.finished = true;
                ensure(self.running.is_empty(), Invariant::AlwaysFinishes, || {
                    format!("finished while {:?} run", self.running)
                })?;
                let called_drained = *outcome == Outcome::Drained;
                let called_failed = *outcome == Outcome::DrainFailed;
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
                )
            }
            Output::Event(event) => self.event(machine, event),
        }
    }

    fn start<C: Clone + Eq>(
        &mut self,
        machine: &Machine<C>,
        epoch: Epoch,
        target: &Target<C>,
    ) -> Result<(), Violation> {
        let running = &self.running;
        let policy = machine.policy();
        let successor = running
            .keys()
            .next_back()
            .map_or(Some(Epoch::ZERO), |last| last.next());
        ensure(
            successor == Some(epoch),
            Invariant::EpochIsSuccessor,
            || format!("{epoch} was started beside {running:?}"),
        )?;
        ensure(
            !self.to_clean.contains(&epoch),
            Invariant::CleanupExactlyOnce,
            || format!("{epoch} was started before its predecessor was cleaned up"),
        )?;
        let starting = running.values().any(Watched::is_starting);
        ensure(
            !(waits_for_live(policy) && starting),
            Invariant::OneStartAtATime,
            || format!("{epoch} was started beside {running:?}"),
        )?;
        let aborting = running.values().any(|it| it.aborted.is_some());
        ensure(!aborting, Invariant::NoStartWhileAborting, || {
            format!("{epoch} was started beside {running:?}")
        })?;
        ensure(!self.panicked, Invariant::PanicAtMostOnceThenFinish, || {
            format!("{epoch} was started after the panic")
        })?;
        ensure(
            !self.restarting || running.is_empty(),
            Invariant::RestartBeginsAnew,
            || format!("{epoch} was started beside {running:?}"),
        )?;
        if let Target::Serve(_) = target {
            ensure(
                self.urgency.is_none(),
                Invariant::NoServeStartAfterTerminate,
                || format!("{epoch} was started to serve"),
            )?;
            let counted = running.values().filter(|it| !it.released).count();
            let fits = policy
                .max_epochs
                .is_none_or(|max| u32::try_from(counted).is_ok_and(|counted| counted < max));
            ensure(fits, Invariant::CapRespected, || {
                format!("{epoch} beside {running:?}")
            })?;
            for older in self.running.values_mut() {
                older.contested |= older.may_serve();
            }
        }
        self.drain_started |= matches!(target, Target::Drain);
        let watched = Watched {
            live: None,
            fallback: false,
            released: false,
            superseded: false,
            retired: false,
            withdrawn: false,
            contested: false,
            drain: matches!(target, Target::Drain),
            trusted: false,
            aborted: None,
        };
        self.running.insert(epoch, watched);
        Ok(())
    }

    fn abort<C: Clone + Eq>(
        &mut self,
        machine: &Machine<C>,
        epoch: Epoch,
        how: Abort,
    ) -> Result<(), Violation> {
        let Some(watched) = self.running.get_mut(&epoch) else {
            return ensure(false, Invariant::AbortsEscalate, || {
                format!("{epoch} was aborted and does not run")
            });
        };
        ensure(
            watched.aborted.is_none_or(|before| before < how),
            Invariant::AbortsEscalate,
            || {
                format!(
                    "{epoch} was aborted again, {how:?} after {:?}",
                    watched.aborted
                )
            },
        )?;
        watched.aborted = Some(how);
        let keeps = machine.policy().on_failure == OnFailure::KeepServing;
        let ending = machine.phase() != Phase::Running || self.restarting;
        let good = watched.live.is_some() || watched.superseded;
        ensure(
            !(keeps && good && !ending),
            Invariant::GoodEpochSurvivesBadOne,
            || format!("{epoch} serves and was aborted"),
        )
    }

    fn retire(&mut self, epoch: Epoch, by: Epoch) -> Result<(), Violation> {
        let serves = |it: &Watched| it.live.is_some() && it.may_serve();
        let newer_serves = by > epoch && self.running.get(&by).is_some_and(serves);
        let watched = self.running.get_mut(&epoch);
        let due = watched.is_some_and(|it| {
            !core::mem::replace(&mut it.retired, true) && it.aborted.is_none() && !it.drain
        });
        ensure(due && newer_serves, Invariant::RetiredAtMostOnce, || {
            format!("{epoch} was retired by {by}, beside {:?}", self.running)
        })
    }

    fn withdraw(&mut self, epoch: Epoch) -> Result<(), Violation> {
        let terminated = self.urgency.is_some();
        let watched = self.running.get_mut(&epoch).filter(|it| it.is_starting());
        let due = watched.is_some_and(|it| !core::mem::replace(&mut it.withdrawn, true));
        ensure(due && terminated, Invariant::WithdrawnAtMostOnce, || {
            format!("{epoch} was withdrawn, terminated: {terminated}")
        })
    }

    fn event<C: Clone + Eq>(
        &mut self,
        machine: &Machine<C>,
        event: &Event,
    ) -> Result<(), Violation> {
        let max = machine.policy().retry.max_retries;
        let is_failure = matches!(
            event,
            Event::RetryScheduled { .. }
                | Event::GaveUp { .. }
                | Event::FallbackLost { .. }
                | Event::Stayed { .. }
        );
        ensure(
            !(is_failure && self.restarting),
            Invariant::RestartBeginsAnew,
            || format!("{event:?} of what was ended"),
        )?;
        ensure(
            !(is_failure && self.last.robbed),
            Invariant::RetriesWithinBudget,
            || format!("{event:?} of what lost its listeners to a newer start"),
        )?;
        match event {
            Event::RetryScheduled {
                purpose,
                retries_left,
                ..
            } => {
                let anew =
                    self.last.healthy || (*purpose == Purpose::Fallback && !self.last.fallback);
                let attempts = self.attempts(*purpose);
                let used = if anew { 0 } else { attempts.retries };
                attempts.retries = used.saturating_add(1);
                attempts.start_due = true;
                let (used, left) = (attempts.retries, *retries_left);
                ensure(
                    used.checked_add(left) == Some(max),
                    Invariant::RetriesWithinBudget,
                    || format!("{used} retries used and {left} left of {max}"),
                )
            }
            Event::BudgetRefilled { epoch, .. } => {
                let fallback = self.running.get(epoch).is_some_and(|it| it.fallback);
                let of = if fallback {
                    Purpose::Fallback
                } else {
                    Purpose::Desired
                };
                self.attempts(of).retries = 0;
                Ok(())
            }
            Event::Started { epoch, purpose } if *purpose != Purpose::Drain => {
                let restarted = core::mem::take(&mut self.restarting);
                ensure(
                    !restarted || *purpose == Purpose::Desired,
                    Invariant::RestartBeginsAnew,
                    || format!("{epoch} was started for {purpose:?}"),
                )?;
                if let Some(watched) = self.running.get_mut(epoch) {
                    watched.fallback = *purpose == Purpose::Fallback;
                }
                self.renewing &= *purpose != Purpose::Desired;
                let due = core::mem::take(&mut self.attempts(*purpose).start_due);
                ensure(due, Invariant::RetriesWithinBudget, || {
                    format!("{epoch} was started again without a retry")
                })
            }
            Event::Started { .. }
            | Event::Live { .. }
            | Event::Superseded { .. }
            | Event::StoppedServing { .. }
            | Event::WokeLate { .. }
            | Event::StartTimedOut { .. }
            | Event::Exited { .. }
            | Event::Restarting
            | Event::Held(_)
            | Event::GaveUp { .. }
            | Event::FallbackLost { .. }
            | Event::Stayed { .. }
            | Event::Draining { .. }
            | Event::DrainTimedOut => Ok(()),
        }
    }

    fn attempts(&mut self, purpose: Purpose) -> &mut Attempts {
        match purpose {
            Purpose::Fallback => &mut self.fallback,
            Purpose::Desired | Purpose::Drain => &mut self.desired,
        }
    }
}
