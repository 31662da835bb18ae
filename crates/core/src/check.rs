//! The named invariants, checked from outside.
//!
//! A [`Checker`] watches what goes into a machine and what comes out of it, keeps a record of its
//! own, and tells which invariant a step has broken. It trusts nothing but the public surface, so
//! that the machine it watches is the one that is shipped.
//!
//! ```
//! use handover_core::check::Checker;
//! use handover_core::{Input, Machine, Policy, Timestamp};
//!
//! let mut machine = Machine::new(Policy::default())?;
//! let mut checker = Checker::new();
//! let (_reception, outputs) =
//!     checker.give_input(&mut machine, Timestamp::ZERO, Input::Desire("a"))?;
//! assert_eq!(outputs.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::policy::{may_hold, waits_for_live};
use crate::{
    Abort, Epoch, EpochState, Event, Held, Input, Machine, OnFailure, Outcome, Output, Phase,
    Purpose, Reception, Target, Timestamp,
};

/// The names of the invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// A new epoch is 1 + the highest that runs, or 0 if none runs.
    EpochIsSuccessor,
    /// Where a policy waits for live, nothing is started while an epoch is starting.
    OneStartAtATime,
    /// No serve epoch is started while as many run as may.
    CapRespected,
    /// A cleanup comes once per started epoch, after its exit, before its number is used again.
    CleanupExactlyOnce,
    /// Nothing is started while an aborted epoch runs.
    NoStartWhileAborting,
    /// After a terminate, no epoch is started to serve.
    NoServeStartAfterTerminate,
    /// Between two refills, no more retries are scheduled than the policy has.
    RetriesWithinBudget,
    /// The panic comes at most once, and after it nothing but the way to the end.
    PanicAtMostOnceThenFinish,
    /// Where a policy keeps serving, a live epoch is aborted only on the way to the end.
    GoodEpochSurvivesBadOne,
    /// The desired configuration is current, or there is a reason why not that will end.
    NoLostDesire,
    /// On the way to the end, the machine finishes once nothing runs, and no deadline is missing.
    AlwaysFinishes,
    /// An epoch is aborted only while it runs, and each time more urgently.
    AbortsEscalate,
}

/// An invariant that does not hold, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: Invariant,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} does not hold: {}", self.invariant, self.seen)
    }
}

impl core::error::Error for Violation {}

/// The record of one machine's run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checker {
    running: BTreeMap<Epoch, Watched>,
    /// Epochs that have exited and whose cleanup has not come.
    to_clean: Vec<Epoch>,
    retries: u32,
    fallback_retries: u32,
    terminated: bool,
    panicked: bool,
    finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Watched {
    live: bool,
    drains: bool,
    released: bool,
    superseded: bool,
    aborted: Option<Abort>,
}

impl Checker {
    /// The record of a machine that has not run yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the machine one input, takes all outputs and checks every invariant.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold.
    pub fn give_input<C: Clone + Eq>(
        &mut self,
        machine: &mut Machine<C>,
        now: Timestamp,
        input: Input<C>,
    ) -> Result<(Reception, Vec<Output<C>>), Violation> {
        let note = Note::of(&input);
        let reception = machine.handle_input(now, input);
        if reception == Reception::Accepted {
            self.take_in(note);
        }
        Ok((reception, self.take_outputs(machine)?))
    }

    /// Gives the machine a timeout, takes all outputs and checks every invariant.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold.
    pub fn give_timeout<C: Clone + Eq>(
        &mut self,
        machine: &mut Machine<C>,
        now: Timestamp,
    ) -> Result<Vec<Output<C>>, Violation> {
        machine.handle_timeout(now);
        self.take_outputs(machine)
    }

    fn take_outputs<C: Clone + Eq>(
        &mut self,
        machine: &mut Machine<C>,
    ) -> Result<Vec<Output<C>>, Violation> {
        let mut outputs = Vec::new();
        while let Some(output) = machine.poll_output() {
            self.take_out(machine, &output)?;
            outputs.push(output);
        }
        self.check_state(machine)?;
        Ok(outputs)
    }

    fn take_in(&mut self, note: Note) {
        match note {
            Note::Desired => {
                self.retries = 0;
            }
            Note::Live(epoch) => {
                for (other, watched) in &mut self.running {
                    watched.live |= *other == epoch;
                    watched.superseded |= *other < epoch;
                }
            }
            Note::Released(epoch) => {
                if let Some(watched) = self.running.get_mut(&epoch) {
                    watched.released = true;
                }
            }
            Note::Exited(epoch) => {
                self.running.remove(&epoch);
                self.to_clean.push(epoch);
            }
            Note::Terminated => self.terminated = true,
        }
    }

    fn take_out<C: Clone + Eq>(
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
        let starting = running
            .values()
            .any(|it| !it.live && !it.superseded && it.aborted.is_none());
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
        if let Target::Serve(_) = target {
            ensure(
                !self.terminated,
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
        }
        let drains = matches!(target, Target::Drain);
        let watched = Watched {
            live: false,
            drains,
            released: false,
            superseded: false,
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
        let ending = machine.phase() != Phase::Running;
        let good = watched.live || watched.superseded;
        ensure(
            !(keeps && good && !ending),
            Invariant::GoodEpochSurvivesBadOne,
            || format!("{epoch} serves and was aborted"),
        )
    }

    fn event<C: Clone + Eq>(
        &mut self,
        machine: &Machine<C>,
        event: &Event,
    ) -> Result<(), Violation> {
        let max = machine.policy().retry.max_retries;
        match event {
            Event::RetryScheduled {
                purpose,
                delay,
                retries_left,
            } => {
                let used = match purpose {
                    Purpose::Fallback => &mut self.fallback_retries,
                    Purpose::Desired | Purpose::Drain => &mut self.retries,
                };
                // A delay of zero tells that a healthy epoch has refilled the budget.
                let refilled =
                    delay.is_zero() && !machine.policy().retry.initial_interval.is_zero();
                let fresh = *purpose == Purpose::Fallback && retries_left.saturating_add(1) == max;
                *used = if refilled || fresh {
                    1
                } else {
                    used.saturating_add(1)
                };
                let (used, left) = (*used, *retries_left);
                ensure(used <= max, Invariant::RetriesWithinBudget, || {
                    format!("retry {used} of {max}")
                })?;
                ensure(
                    used.saturating_add(left) == max,
                    Invariant::RetriesWithinBudget,
                    || format!("{used} retries used and {left} left of {max}"),
                )
            }
            Event::BudgetRefilled { epoch, .. } => {
                let of_fallback = machine
                    .epochs()
                    .any(|it| it.epoch == *epoch && it.purpose == Purpose::Fallback && !it.desired);
                if of_fallback {
                    self.fallback_retries = 0;
                } else {
                    self.retries = 0;
                }
                Ok(())
            }
            Event::Started { .. }
            | Event::Live { .. }
            | Event::Superseded { .. }
            | Event::StartTimedOut { .. }
            | Event::Exited { .. }
            | Event::Held(_)
            | Event::GaveUp { .. }
            | Event::FallbackLost { .. }
            | Event::Stayed { .. }
            | Event::Draining { .. }
            | Event::DrainTimedOut => Ok(()),
        }
    }

    /// What must be true whenever all outputs have been taken.
    fn check_state<C: Clone + Eq>(&self, machine: &Machine<C>) -> Result<(), Violation> {
        ensure(
            self.to_clean.is_empty(),
            Invariant::CleanupExactlyOnce,
            || format!("{:?} have exited and were not cleaned up", self.to_clean),
        )?;
        let shown: Vec<Epoch> = machine.epochs().map(|it| it.epoch).collect();
        ensure(
            shown.iter().eq(self.running.keys()),
            Invariant::EpochIsSuccessor,
            || format!("{shown:?} are shown, {:?} run", self.running),
        )?;
        let live = machine
            .epochs()
            .filter(|it| it.state == EpochState::Live)
            .count();
        ensure(live <= 1, Invariant::OneStartAtATime, || {
            format!("{live} epochs are live")
        })?;
        match machine.phase() {
            Phase::Running => Self::check_desire(machine),
            Phase::Draining { .. } | Phase::Stopping(_) => {
                ensure(!self.running.is_empty(), Invariant::AlwaysFinishes, || {
                    "nothing runs and the machine has not finished".into()
                })
            }
            Phase::Finished(_) => ensure(self.finished, Invariant::AlwaysFinishes, || {
                "the machine has finished and did not say so".into()
            }),
        }
    }

    fn check_desire<C: Clone + Eq>(machine: &Machine<C>) -> Result<(), Violation> {
        let Some(desired) = machine.desired() else {
            return Ok(());
        };
        let held = machine.held();
        let current = machine.current() == Some(desired);
        ensure(current != held.is_some(), Invariant::NoLostDesire, || {
            format!("the desired configuration is current: {current}; held: {held:?}")
        })?;
        let Some(held) = held else { return Ok(()) };
        let ends = match held {
            Held::Starting(epoch) => machine
                .epochs()
                .any(|it| it.epoch == epoch && it.state == EpochState::Starting),
            Held::Aborting(epoch) => machine
                .epochs()
                .any(|it| it.epoch == epoch && matches!(it.state, EpochState::Aborting(_))),
            Held::Cap { running } => {
                machine
                    .policy()
                    .max_epochs
                    .is_some_and(|max| running >= max)
                    && (machine.epochs().any(|it| it.state == EpochState::Draining)
                        || !waits_for_live(machine.policy()))
            }
            Held::Retry(at) => machine
                .poll_timeout()
                .is_some_and(|deadline| deadline.at <= at),
            Held::GivenUp => may_hold(machine.policy()),
            Held::Stayed | Held::NumbersUsedUp => true,
        };
        ensure(ends, Invariant::NoLostDesire, || {
            format!("held for ever: {held}")
        })
    }
}

/// What the checker remembers of an input.
#[derive(Clone, Copy)]
enum Note {
    Desired,
    Live(Epoch),
    Released(Epoch),
    Exited(Epoch),
    Terminated,
}

impl Note {
    fn of<C>(input: &Input<C>) -> Self {
        match input {
            Input::Desire(_) => Self::Desired,
            Input::Live(epoch) => Self::Live(*epoch),
            Input::Released(epoch) => Self::Released(*epoch),
            Input::Exited(epoch, _) => Self::Exited(*epoch),
            Input::Terminate | Input::Kill => Self::Terminated,
        }
    }
}

fn ensure(
    holds: bool,
    invariant: Invariant,
    seen: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            seen: seen(),
        })
    }
}
