//! The named invariants, checked from outside.
//!
//! A [`Checker`] watches the inputs and outputs of a machine and keeps its own record. It returns
//! the invariant that a step has broken. It uses only the public surface, so the machine under test
//! is the one that is shipped.
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

mod names;
mod outputs;
mod state;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::policy::{may_hold, waits_for_live};
use crate::{
    Abort, Epoch, Event, Exit, Ignored, Input, LOOK_AROUND, Machine, Output, Phase, Policy,
    Reception, Timestamp, Urgency,
};

/// The names of the invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// A new epoch is 1 + the highest that runs, or 0 if none runs.
    EpochIsSuccessor,
    /// Under a policy that waits for live, no epoch is started while another one is starting.
    OneStartAtATime,
    /// No epoch is started to serve while [`Policy::max_epochs`](crate::Policy::max_epochs) of them
    /// run.
    CapRespected,
    /// Each started epoch has exactly one cleanup, after its exit and before its number is used
    /// again.
    CleanupExactlyOnce,
    /// Nothing is started while an aborted epoch runs.
    NoStartWhileAborting,
    /// After a terminate, no epoch is started to serve.
    NoServeStartAfterTerminate,
    /// Between two refills, no more retries are scheduled than the policy allows. Each further
    /// start has cost a retry. The exception is an epoch that lost its listeners to a newer start,
    /// which costs nothing.
    RetriesWithinBudget,
    /// The panic comes at most once, and after it nothing but the way to the end.
    PanicAtMostOnceThenFinish,
    /// Under a policy that keeps serving, a live epoch is aborted only on the way to the end or by
    /// a cold restart.
    GoodEpochSurvivesBadOne,
    /// A cold restart aborts every epoch. Until the last one has exited, nothing is started and
    /// nothing counts as a failure. Then the desired configuration is started as epoch 0.
    RestartBeginsAnew,
    /// The desired configuration is current, or there is a reason why not, and that reason will
    /// end.
    NoLostDesire,
    /// A renewed configuration is current only with an epoch that was started since.
    RenewalStartsAnEpoch,
    /// An epoch is retired at most once, while it runs, is not aborted, and a newer one is live.
    /// Each such epoch is retired.
    RetiredAtMostOnce,
    /// The urgency of the end never falls. A request that is not more urgent than an earlier one is
    /// ignored and changes nothing. The phase is at least as far as the most urgent request asks.
    UrgencyNeverFalls,
    /// On the way to the end, the machine finishes once nothing runs, and no deadline is missing.
    AlwaysFinishes,
    /// An epoch is aborted only while it runs, and each time more urgently.
    AbortsEscalate,
    /// An epoch's start is withdrawn at most once, while it starts and after a terminate.
    WithdrawnAtMostOnce,
    /// While the machine drains, the start of each starting epoch was withdrawn. If nothing can be
    /// drained beside it, it has a deadline.
    NoStartOutlivesTerminate,
    /// A deadline that was missed by more than [`LATE`](crate::LATE) is postponed, so that the
    /// driver can report what happened. Then it is handled, and not postponed again.
    LooksBeforeLateDeadlines,
    /// An end is called drained only if three things hold since the terminate. The drain did not
    /// fail. No epoch failed to which clients may be connected. The live epoch did not end before
    /// the drain began. Otherwise, and only then, the drain is called failed.
    DrainedMeansDrained,
}

/// A broken invariant, with what the checker saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant that was broken.
    pub invariant: Invariant,
    /// What the checker saw, as a sentence.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} does not hold: {}", self.invariant, self.seen)
    }
}

impl core::error::Error for Violation {}

/// A record of one machine's run, which finds broken invariants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checker {
    running: BTreeMap<Epoch, Watched>,
    /// Epochs that have exited and whose cleanup has not come.
    to_clean: Vec<Epoch>,
    desired: Attempts,
    fallback: Attempts,
    /// What the last epoch that has exited had been.
    last: Exited,
    now: Timestamp,
    /// When the machine noticed last that it had missed deadlines.
    woke: Option<Timestamp>,
    /// A cold restart was asked for, and nothing has been started since.
    restarting: bool,
    /// A renewal was asked for, and nothing has been started as desired since.
    renewing: bool,
    /// The most urgent end that was asked for.
    urgency: Option<Urgency>,
    /// Since the terminate an epoch with clients, or the drain, has ended as it must not.
    undrained: bool,
    drain_started: bool,
    panicked: bool,
    finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Watched {
    live: Option<Timestamp>,
    /// It was started as the fallback, and that has not become the desired configuration since.
    fallback: bool,
    released: bool,
    superseded: bool,
    retired: bool,
    withdrawn: bool,
    /// A newer one was started to serve while it started or served.
    contested: bool,
    /// It was started to drain the others.
    drain: bool,
    /// It was live for the policy's `reset_after`, and that was seen.
    trusted: bool,
    aborted: Option<Abort>,
}

/// How often one configuration was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Attempts {
    /// The retries since the last refill.
    retries: u32,
    /// Whether a start is allowed: the first one, or one for a retry.
    start_due: bool,
}

impl Attempts {
    /// Of what has not been tried yet.
    const FIRST: Self = Self {
        retries: 0,
        start_due: true,
    };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Exited {
    fallback: bool,
    /// It was live for the policy's `reset_after`.
    healthy: bool,
    /// It runs on, and has lost its listeners to a newer start.
    robbed: bool,
}

impl Watched {
    fn is_starting(&self) -> bool {
        self.live.is_none() && self.may_serve()
    }

    fn may_serve(&self) -> bool {
        !self.superseded && self.aborted.is_none()
    }
}

impl Checker {
    /// Returns a checker for a machine that has not run yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the machine one input, takes all outputs and checks every invariant.
    ///
    /// # Errors
    ///
    /// Returns the first invariant that is broken.
    pub fn give_input<C: Clone + Eq>(
        &mut self,
        machine: &mut Machine<C>,
        now: Timestamp,
        input: Input<C>,
    ) -> Result<(Reception, Vec<Output<C>>), Violation> {
        let note = Note::of(machine, &input);
        self.now = self.now.max(now);
        let reception = machine.handle_input(now, input);
        let outputs = self.outputs_of(machine);
        self.note_urgency(note, reception, &outputs)?;
        if reception == Reception::Accepted {
            self.take_in(machine, note);
        }
        self.check(machine, &outputs)?;
        Ok((reception, outputs))
    }

    /// Gives the machine a timeout, takes all outputs and checks every invariant.
    ///
    /// # Errors
    ///
    /// Returns the first invariant that is broken.
    pub fn give_timeout<C: Clone + Eq>(
        &mut self,
        machine: &mut Machine<C>,
        now: Timestamp,
    ) -> Result<Vec<Output<C>>, Violation> {
        self.now = self.now.max(now);
        let before = (machine.poll_timeout(), machine.looks_around_until());
        machine.handle_timeout(now);
        let outputs = self.outputs_of(machine);
        self.check(machine, &outputs)?;
        self.check_late(before, machine, &outputs)?;
        self.note_health(machine);
        Ok(outputs)
    }

    /// Takes all outputs; a gap comes before everything else in them.
    fn outputs_of<C: Clone + Eq>(&mut self, machine: &mut Machine<C>) -> Vec<Output<C>> {
        self.last = Exited::default();
        let outputs: Vec<_> = core::iter::from_fn(|| machine.poll_output()).collect();
        let woke = |it: &Output<C>| matches!(it, Output::Event(Event::WokeLate { .. }));
        if outputs.iter().any(woke) {
            self.woke = Some(self.now);
        }
        outputs
    }

    fn check<C: Clone + Eq>(
        &mut self,
        machine: &Machine<C>,
        outputs: &[Output<C>],
    ) -> Result<(), Violation> {
        for output in outputs {
            self.take_out(machine, output)?;
        }
        self.check_state(machine)
    }

    fn take_in<C: Clone + Eq>(&mut self, machine: &Machine<C>, note: Note) {
        match note {
            Note::Desired { renewed } => {
                self.desired = Attempts::FIRST;
                self.renewing = renewed;
                for info in machine.epochs().filter(|it| it.desired) {
                    if let Some(watched) = self.running.get_mut(&info.epoch) {
                        watched.fallback = false;
                    }
                }
            }
            Note::Restart => {
                self.desired = Attempts::FIRST;
                // What served until then, should the desired one fail.
                self.fallback = Attempts::FIRST;
                self.restarting = true;
                self.renewing = false;
            }
            Note::Live(epoch) => {
                // The next fallback is another one.
                if self.running.get(&epoch).is_some_and(|it| !it.fallback) {
                    self.fallback = Attempts::default();
                }
                for (other, watched) in &mut self.running {
                    if *other == epoch {
                        watched.live = Some(self.now);
                    }
                    watched.superseded |= *other < epoch;
                }
            }
            Note::StoppedServing { epoch, desired } => {
                if let Some(watched) = self.running.get(&epoch).copied() {
                    self.last = self.look_back(machine, watched);
                    self.last.robbed = watched.contested && machine.phase() == Phase::Running;
                    if self.last.robbed {
                        self.allow_a_start(machine.policy(), watched.fallback, desired);
                    }
                }
                self.drains(epoch);
            }
            Note::Withdrawn(epoch) => self.drains(epoch),
            Note::Released(epoch) => {
                if let Some(watched) = self.running.get_mut(&epoch) {
                    watched.released = true;
                }
            }
            Note::Exited(epoch, exit) => {
                if let Some(watched) = self.running.remove(&epoch) {
                    let serves = watched.live.is_some()
                        || watched.superseded
                        || !waits_for_live(machine.policy());
                    // It has said that it had taken nothing over.
                    let dropped =
                        watched.withdrawn && watched.is_starting() && exit == Exit::Aborted;
                    let failed = !dropped
                        && exit != Exit::Clean
                        && (watched.drain || (serves && !watched.released));
                    let unasked =
                        watched.live.is_some() && !watched.superseded && !self.drain_started;
                    self.undrained |=
                        self.urgency.is_some() && watched.aborted.is_none() && (failed || unasked);
                    self.last = self.look_back(machine, watched);
                }
                self.to_clean.push(epoch);
            }
            Note::Terminated(_) => {}
        }
    }

    /// What is not more urgent than before is ignored, and nothing but a gap is told then.
    fn note_urgency<C>(
        &mut self,
        note: Note,
        reception: Reception,
        outputs: &[Output<C>],
    ) -> Result<(), Violation> {
        let Note::Terminated(urgency) = note else {
            return Ok(());
        };
        let before = self.urgency;
        self.urgency = before.max(Some(urgency));
        let ignored = matches!(
            reception,
            Reception::Ignored(Ignored::UnderWay | Ignored::Finished)
        );
        let quiet = outputs
            .iter()
            .all(|it| matches!(it, Output::Event(Event::WokeLate { .. })));
        let is_more = before < Some(urgency);
        ensure(
            if is_more {
                ignored || reception == Reception::Accepted
            } else {
                ignored && quiet
            },
            Invariant::UrgencyNeverFalls,
            || format!("{urgency} after {before:?} was {reception:?}"),
        )
    }

    fn drains(&mut self, epoch: Epoch) {
        if let Some(watched) = self.running.get_mut(&epoch) {
            watched.superseded = true;
        }
    }

    /// What has lost its listeners to a newer start may be started again without a retry.
    fn allow_a_start(&mut self, policy: &Policy, fallback: bool, desired: bool) {
        if desired {
            self.desired.start_due = true;
        } else if fallback {
            self.fallback.start_due = true;
        } else if may_hold(policy) {
            self.fallback = Attempts::FIRST;
        }
    }

    fn look_back<C: Clone + Eq>(&self, machine: &Machine<C>, watched: Watched) -> Exited {
        let ended_itself = watched.aborted.is_none() && !watched.superseded;
        Exited {
            fallback: watched.fallback,
            healthy: ended_itself && (watched.trusted || self.is_healthy(machine, &watched)),
            robbed: false,
        }
    }

    /// A timeout has told the machine which epochs are healthy.
    fn note_health<C: Clone + Eq>(&mut self, machine: &Machine<C>) {
        let mut running = core::mem::take(&mut self.running);
        for watched in running.values_mut() {
            watched.trusted |= self.is_healthy(machine, watched);
        }
        self.running = running;
    }

    /// Whether the epoch has been live for long enough; where that was missed, only once the world
    /// was looked at.
    fn is_healthy<C: Clone + Eq>(&self, machine: &Machine<C>, watched: &Watched) -> bool {
        let enough = machine.policy().retry.reset_after;
        watched.live.zip(enough).is_some_and(|(since, enough)| {
            let at = since.after(enough);
            let woke = self.woke.filter(|woke| at <= *woke);
            woke.map_or(at, |woke| woke.after(LOOK_AROUND)) <= self.now
        })
    }
}

/// What the checker remembers of an input.
#[derive(Clone, Copy)]
enum Note {
    Desired {
        /// Even if an epoch runs it already.
        renewed: bool,
    },
    Restart,
    Live(Epoch),
    StoppedServing {
        epoch: Epoch,
        /// It ran the desired configuration.
        desired: bool,
    },
    Released(Epoch),
    Withdrawn(Epoch),
    Exited(Epoch, Exit),
    Terminated(Urgency),
}

impl Note {
    fn of<C: Clone + Eq>(machine: &Machine<C>, input: &Input<C>) -> Self {
        match input {
            Input::Desire(_) => Self::Desired { renewed: false },
            Input::Renew(_) => Self::Desired { renewed: true },
            Input::Restart(_) => Self::Restart,
            Input::Live(epoch) => Self::Live(*epoch),
            Input::StoppedServing(epoch) => Self::StoppedServing {
                epoch: *epoch,
                desired: machine
                    .epochs()
                    .any(|info| info.epoch == *epoch && info.desired),
            },
            Input::Released(epoch) => Self::Released(*epoch),
            Input::Withdrawn(epoch) => Self::Withdrawn(*epoch),
            Input::Exited(epoch, exit) => Self::Exited(*epoch, *exit),
            Input::Terminate(urgency) => Self::Terminated(*urgency),
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
