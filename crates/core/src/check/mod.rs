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

mod names;
mod outputs;
mod state;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::policy::waits_for_live;
use crate::{Abort, Epoch, Exit, Input, Machine, Output, Reception, Timestamp};

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
    /// Between two refills, no more retries are scheduled than the policy has, and each further
    /// start has had its retry.
    RetriesWithinBudget,
    /// The panic comes at most once, and after it nothing but the way to the end.
    PanicAtMostOnceThenFinish,
    /// Where a policy keeps serving, a live epoch is aborted only on the way to the end and by a cold
    /// restart.
    GoodEpochSurvivesBadOne,
    /// A cold restart aborts every epoch; until the last of them has exited nothing is started and
    /// nothing counts as a failure, and then the desired configuration is, as epoch 0.
    RestartBeginsAnew,
    /// The desired configuration is current, or there is a reason why not that will end.
    NoLostDesire,
    /// On the way to the end, the machine finishes once nothing runs, and no deadline is missing.
    AlwaysFinishes,
    /// An epoch is aborted only while it runs, and each time more urgently.
    AbortsEscalate,
    /// An end is called drained only if, since the terminate, neither the drain nor an epoch that
    /// clients may be connected to has failed, and the live one did not end before the drain began;
    /// and a failed drain only otherwise.
    DrainedMeansDrained,
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
    desired: Attempts,
    fallback: Attempts,
    /// What the last epoch that has exited had been.
    last: Exited,
    now: Timestamp,
    /// A cold restart was asked for, and nothing has been started since.
    restarting: bool,
    terminated: bool,
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
    aborted: Option<Abort>,
    /// It drains the others.
    drains: bool,
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
        self.now = self.now.max(now);
        let reception = machine.handle_input(now, input);
        if reception == Reception::Accepted {
            self.take_in(machine, note);
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
        self.now = self.now.max(now);
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

    fn take_in<C: Clone + Eq>(&mut self, machine: &Machine<C>, note: Note) {
        match note {
            Note::Desired => {
                self.desired = Attempts::FIRST;
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
                    let failed =
                        exit != Exit::Clean && (watched.drains || (serves && !watched.released));
                    let unasked =
                        watched.live.is_some() && !watched.superseded && !self.drain_started;
                    self.undrained |=
                        self.terminated && watched.aborted.is_none() && (failed || unasked);
                    self.last = self.look_back(machine, watched);
                }
                self.to_clean.push(epoch);
            }
            Note::Terminated => self.terminated = true,
        }
    }

    fn look_back<C: Clone + Eq>(&self, machine: &Machine<C>, watched: Watched) -> Exited {
        let ended_itself = watched.aborted.is_none() && !watched.superseded;
        let enough = machine.policy().retry.reset_after;
        let healthy = watched
            .live
            .zip(enough)
            .is_some_and(|(since, enough)| self.now.since(since) >= enough);
        Exited {
            fallback: watched.fallback,
            healthy: healthy && ended_itself,
        }
    }
}

/// What the checker remembers of an input.
#[derive(Clone, Copy)]
enum Note {
    Desired,
    Restart,
    Live(Epoch),
    Released(Epoch),
    Exited(Epoch, Exit),
    Terminated,
}

impl Note {
    fn of<C>(input: &Input<C>) -> Self {
        match input {
            Input::Desire(_) => Self::Desired,
            Input::Restart(_) => Self::Restart,
            Input::Live(epoch) => Self::Live(*epoch),
            Input::Released(epoch) => Self::Released(*epoch),
            Input::Exited(epoch, exit) => Self::Exited(*epoch, *exit),
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
