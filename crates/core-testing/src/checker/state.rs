//! What must be true between two steps.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use handover_core::{
    Abort, Deadline, Epoch, EpochInfo, EpochState, Event, Held, LATE, LOOK_AROUND, Outcome, Output,
    Phase, Purpose, Urgency,
};

use super::record::{Owed, Stage, Watched};
use super::{Checker, due, rules};
use crate::invariant::ensure;
use crate::{Invariant, Observation, View, Violation};

impl<C: Clone + Eq> Checker<C> {
    /// Nothing that the step owed is left out.
    pub(super) fn check_debts(&mut self, after: &View<C>) -> Result<(), Violation> {
        let step = self.step;
        let ended = matches!(
            after.phase,
            Phase::Stopping(Outcome::ProxyEnded { .. })
                | Phase::Finished(Outcome::ProxyEnded { .. })
        );
        let is_paid = match step.owed {
            None => ended == self.proxy_ended,
            Some(Owed::End) => ended,
            Some(
                Owed::Retry { .. }
                | Owed::GiveUp(_)
                | Owed::LoseFallback
                | Owed::Unfit { .. }
                | Owed::Stay(_),
            ) => false,
        };
        ensure(
            !matches!(step.owed, Some(Owed::Unfit { .. })),
            Invariant::UnfitMakesRoom,
            || format!("nobody says {:?}", step.owed),
        )?;
        ensure(step.beyond_cap.is_none(), Invariant::CapRespected, || {
            format!("nobody says that {:?} is beyond the cap", step.beyond_cap)
        })?;
        ensure(is_paid, Invariant::FailureCostsWhatThePolicySays, || {
            format!("still owed: {:?}, {:?}", step.owed, after.phase)
        })?;
        if let Some(failed) = step.aborts_for {
            let spared = self.running.iter().find(|(epoch, it)| {
                **epoch != failed && it.aborted.is_none() && step.fresh != Some(**epoch)
            });
            ensure(
                spared.is_none(),
                Invariant::FailureCostsWhatThePolicySays,
                || format!("{:?} runs on", spared.map(|(epoch, _)| epoch)),
            )?;
        }
        ensure(
            step.unannounced.is_none(),
            Invariant::StartsWhatIsAskedFor,
            || super::unannounced(step.unannounced),
        )?;
        ensure(
            !step.panic_due,
            Invariant::PanicAtMostOnceThenFinish,
            || "given up with nothing to hold, and no panic".into(),
        )
    }

    /// All that is due has been handled: an epoch that is trusted has refilled what it runs.
    pub(super) fn let_deadlines_pass(&mut self, after: &View<C>) -> Result<(), Violation> {
        if after.phase == Phase::Running {
            for (epoch, watched) in &self.running {
                let pursuit = if watched.trusted || !self.is_healthy(watched) {
                    None
                } else if self.is_desired(watched) {
                    self.desired.as_ref()
                } else {
                    self.fallback.as_ref().filter(|_| watched.is_fallback())
                };
                let used = pursuit.map_or(0, |pursuit| pursuit.used);
                ensure(used == 0, Invariant::RetriesWithinBudget, || {
                    format!("{epoch} is healthy, and {used} retries are still used")
                })?;
            }
        }
        self.handle_all_due(|_| true);
        let is_over = |it: &Watched<C>| self.end_of_trial(it).is_some_and(|end| self.is_due(end));
        let overdue = self.running.iter().find(|(_, it)| is_over(it));
        ensure(
            overdue.is_none() || after.phase != Phase::Running,
            Invariant::ProbationEndsOnTime,
            || {
                format!(
                    "{:?} is still on probation",
                    overdue.map(|(epoch, _)| epoch)
                )
            },
        )
    }

    /// What must be true whenever all outputs have been taken.
    pub(super) fn check_state(&self, after: &View<C>) -> Result<(), Violation> {
        ensure(
            self.to_clean.is_empty(),
            Invariant::CleanupExactlyOnce,
            || format!("{:?} have exited and were not cleaned up", self.to_clean),
        )?;
        let is_renewed = after.phase == Phase::Running && after.epochs.iter().any(|it| it.desired);
        ensure(
            !(self.renewing && is_renewed),
            Invariant::RenewalStartsAnEpoch,
            || "an older epoch counts as renewed".into(),
        )?;
        self.check_epochs(after)?;
        let live = self.running.values().filter(|it| it.is_live()).count();
        ensure(live <= 1, Invariant::OneStartAtATime, || {
            format!("{live} epochs are live")
        })?;
        self.check_urgency(after)?;
        self.check_retired()?;
        match after.phase {
            Phase::Running => self.check_running(after),
            Phase::Draining { .. } | Phase::Stopping(_) => {
                ensure(!self.running.is_empty(), Invariant::AlwaysFinishes, || {
                    "nothing runs and the machine has not finished".into()
                })?;
                self.check_starts(after)
            }
            Phase::Finished(_) => ensure(self.finished, Invariant::AlwaysFinishes, || {
                "the machine has finished and did not say so".into()
            }),
        }
    }

    fn check_epochs(&self, after: &View<C>) -> Result<(), Violation> {
        let is_running = after.phase == Phase::Running;
        let expected = self.running.iter().map(|(epoch, it)| EpochInfo {
            epoch: *epoch,
            state: it.state(),
            purpose: it.purpose,
            started: it.started,
            desired: self.is_desired(it),
            released: it.released && it.state() == EpochState::Draining,
            withdrawn: it.withdrawn.is_some() && it.is_starting(),
            on_probation: it.is_on_probation() && is_running,
            unfit: it.is_unfit(),
        });
        // On the way to the end nothing is desired any more.
        let shown = after.epochs.iter().map(|it| EpochInfo {
            desired: it.desired && is_running,
            ..*it
        });
        let expected: Vec<EpochInfo> = expected
            .map(|it| EpochInfo {
                desired: it.desired && is_running,
                ..it
            })
            .collect();
        ensure(
            shown.eq(expected.iter().copied()),
            Invariant::ShowsWhatRuns,
            || format!("{:?} are shown, {expected:?} run", after.epochs),
        )
    }

    fn check_running(&self, after: &View<C>) -> Result<(), Violation> {
        let desired = self.desired.as_ref();
        let most = self.policy.retry.max_retries;
        let left = desired.map(|it| most.saturating_sub(it.used));
        ensure(
            after.desired.as_ref() == desired.map(|it| &it.config) && after.retries_left == left,
            Invariant::ShowsWhatRuns,
            || {
                format!(
                    "{:?} retries are left for what is shown as desired, not {left:?}",
                    after.retries_left
                )
            },
        )?;
        let current = self.current();
        ensure(
            after.current.as_ref() == current.and_then(|it| it.config.as_ref()),
            Invariant::ShowsWhatRuns,
            || "another configuration is shown as current".into(),
        )?;
        let all_end = self.running.values().all(|it| it.aborted.is_some());
        ensure(
            !self.restarting || (all_end && !self.running.is_empty()),
            Invariant::RestartBeginsAnew,
            || format!("{:?} run on", self.running.keys()),
        )?;
        let given_up = desired.is_some_and(|it| matches!(it.stage, Stage::GivenUp(_)));
        ensure(
            !given_up || self.has_something_to_hold(),
            Invariant::HoldsLastGood,
            || "given up with nothing to hold, and the agent does not end".into(),
        )?;
        self.check_desire(after)
    }

    fn check_urgency(&self, after: &View<C>) -> Result<(), Violation> {
        let is_over = matches!(after.phase, Phase::Stopping(_) | Phase::Finished(_));
        let all_killed = self
            .running
            .values()
            .all(|it| it.aborted == Some(Abort::Immediate));
        let far_enough = match self.urgency {
            None => !matches!(after.phase, Phase::Draining { .. }),
            Some(Urgency::Drain) => after.phase != Phase::Running,
            Some(Urgency::Stop) => is_over,
            Some(Urgency::Kill) => is_over && all_killed,
        };
        ensure(far_enough, Invariant::UrgencyNeverFalls, || {
            format!(
                "{:?} although {:?} was asked for",
                after.phase, self.urgency
            )
        })
    }

    fn check_retired(&self) -> Result<(), Violation> {
        let newest_live = self.running.iter().rev().find(|(_, it)| it.is_live());
        let Some((live, _)) = newest_live else {
            return Ok(());
        };
        let forgotten = self
            .running
            .range(..live)
            .find(|(_, it)| !it.retired && it.aborted.is_none());
        ensure(forgotten.is_none(), Invariant::RetiredAtMostOnce, || {
            let forgotten = forgotten.map(|(epoch, _)| epoch);
            format!("{forgotten:?} was not retired although {live} is live")
        })
    }

    fn check_starts(&self, after: &View<C>) -> Result<(), Violation> {
        let mut starts = self.running.values().filter(|it| it.is_starting());
        let drains = matches!(after.phase, Phase::Draining { .. });
        let forgotten = starts.any(|it| !it.is_drain() && (it.withdrawn.is_none() || !drains));
        // What is aborted has its own deadline, and what serves or drains is what is waited for.
        let is_waited_for = |it: &Watched<C>| it.withdrawn.is_none() || !it.is_starting();
        let waits_for_nothing = !self.running.values().any(is_waited_for);
        ensure(
            !forgotten && (!waits_for_nothing || after.deadline.is_some()),
            Invariant::NoStartOutlivesTerminate,
            || format!("{:?} run", self.running.keys()),
        )
    }

    /// What must be true of a timeout that comes so late that the driver was stopped before it.
    pub(super) fn check_late(&self, step: &Observation<C>) -> Result<(), Violation> {
        let Some(due) = step.before.deadline.filter(|due| due.at <= self.now) else {
            return Ok(());
        };
        let next = step.after.deadline;
        let looked_until = step.before.looks_around_until;
        let looked_enough = looked_until.is_some_and(|until| until <= self.now);
        let noticed = |it: &Output<C>| matches!(it, Output::Event(Event::WokeLate { .. }));
        let holds = if looked_enough {
            // What was put off is handled, however late that is; only what was not is put off.
            step.outputs.iter().any(noticed) || next.is_none_or(|next| next.reason != due.reason)
        } else if self.now.since(due.at) > LATE {
            step.outputs.iter().all(noticed)
                && step.outputs.len() == 1
                && next.is_some_and(|next| next.at == self.now.after(LOOK_AROUND))
        } else {
            true
        };
        ensure(holds, Invariant::LooksBeforeLateDeadlines, || {
            format!("{due:?} at {} led to {next:?}", self.now)
        })
    }

    fn check_desire(&self, after: &View<C>) -> Result<(), Violation> {
        if self.desired.is_none() {
            return Ok(());
        }
        let is_current = self.current().is_some_and(|it| self.is_desired(it));
        ensure(
            is_current != after.held.is_some(),
            Invariant::NoLostDesire,
            || {
                format!(
                    "the desired configuration is current: {is_current}; held: {:?}",
                    after.held
                )
            },
        )?;
        let Some(held) = after.held else {
            return Ok(());
        };
        ensure(
            self.is_true(held, after.deadline),
            Invariant::NoLostDesire,
            || self.lost(held),
        )
    }

    fn lost(&self, held: Held) -> String {
        let stage = self.desired.as_ref().map(|it| it.stage);
        format!("held: {held}, but it is {stage:?}")
    }

    /// Whether this holds the desired configuration, and ends by an input or a deadline.
    fn is_true(&self, held: Held, next: Option<Deadline>) -> bool {
        let Some(stage) = self.desired.as_ref().map(|it| it.stage) else {
            return false;
        };
        let of = |epoch: Epoch| self.running.get(&epoch);
        match held {
            Held::Starting(epoch) => {
                rules::waits(&self.policy) && of(epoch).is_some_and(Watched::is_starting)
            }
            Held::Aborting(epoch) => of(epoch).is_some_and(|it| it.aborted.is_some()),
            Held::Cap { running } => {
                let may_end =
                    !rules::waits(&self.policy) || self.running.values().any(|it| it.drains);
                self.policy.max_epochs.is_some_and(|max| running >= max)
                    && running == self.counted()
                    && may_end
                    && !self.has_unfit()
            }
            Held::NumbersUsedUp => of(Epoch::new(u32::MAX)).is_some(),
            // From here on, what holds it is not an epoch; then the fallback must not be forgotten.
            _ if self.fallback_is_due() => false,
            Held::Retry(at) => {
                let waits_until = |stage| match stage {
                    Stage::Waiting(at) => Some(due(at, self.woke)),
                    Stage::Due | Stage::Started | Stage::GivenUp(_) | Stage::NotRestarted => None,
                };
                let fallback = self.fallback.as_ref().filter(|_| !self.is_served_well());
                let fallback = fallback.and_then(|it| waits_until(it.stage));
                let first = [waits_until(stage), fallback].into_iter().flatten().min();
                first == Some(at) && next.is_some_and(|next| next.at <= at)
            }
            Held::Interval(at) => {
                self.held_by_interval() == Some(at) && next.is_some_and(|next| next.at <= at)
            }
            Held::GivenUp => matches!(stage, Stage::GivenUp(_)) && self.is_serving(),
            Held::NotRestarted => stage == Stage::NotRestarted,
            _ => true,
        }
    }

    /// Whether the last good configuration must be started: nothing serves well, and it need not wait.
    fn fallback_is_due(&self) -> bool {
        let is_due = self
            .fallback
            .as_ref()
            .is_some_and(|it| matches!(it.stage, Stage::Due | Stage::Started));
        let is_starting = self
            .running
            .values()
            .any(|it| it.is_starting() && it.purpose == Purpose::Fallback);
        is_due && !is_starting && !self.is_served_well()
    }
}
