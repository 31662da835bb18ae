//! The state machine.
//!
//! The life of an epoch:
//!
//! ```text
//!            Start            Live(e)            Live(newer), StoppedServing(e)
//!   (none) ────────▶ Starting ────────▶ Live ─────────────────▶ Draining
//!                       │                 │                        │
//!                       │ deadline, stop, │ stop,                  │ stop,
//!                       │ restart         │ restart                │ restart
//!                       ▼                 ▼                        ▼
//!                    Aborting ◀───────────┴────────────────────────┘
//!                  (graceful, after the grace immediate)
//!
//!   Exited(e) leads from every state to (none), by way of Cleanup(e). A terminate withdraws what
//!   starts, and so does a newer desire: Withdrawn(e) leads from Starting to Draining.
//! ```
//!
//! The life of the machine, whose end is `Finished`:
//!
//! ```text
//!          Terminate(Drain)             drained, deadline, Terminate(Stop)
//!   Running ─────────────▶ Draining ──────────────────────────────────────▶ Stopping ──▶ Finished
//!      │                                                                       ▲   all have exited
//!      └───────────────────────────────────────────────────────────────────────┘
//!        given up with nothing to hold, clean exit under `Stop`, Terminate(Stop or Kill)
//! ```
//!
//! Each file beside this one has one job: [`slot`] a running epoch, [`pursuit`] a configuration and
//! its budget, `desire` what is asked for, `reconcile` what is started next, `exits` what follows
//! from an exit, `give_way` how a start makes room for a newer desire, `stop` the way to the end,
//! `timers` the deadlines, `view` what a machine tells of itself, `canonical` the one machine that
//! stands for all which do the same, `rename` the same machine with other names of configurations.

mod canonical;
mod desire;
mod exits;
mod give_way;
mod interval;
mod probation;
mod pursuit;
mod reconcile;
mod rename;
mod slot;
mod stop;
#[cfg(test)]
mod tests;
mod timers;
mod view;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use handover_retry::SplitMix64;

use self::probation::{Condemned, first_trial};
use self::pursuit::Pursuit;
use self::slot::{Slot, State};
use crate::policy::waits_for_live;
use crate::{
    Deadline, Denied, Epoch, Event, Exit, Held, Ignored, Input, Outcome, Output, Policy,
    PolicyError, Reception, Severity, Timestamp,
};
#[cfg(doc)]
use crate::{LATE, LOOK_AROUND};

pub use self::canonical::{CANONICAL_NOW, Canonical};
pub use self::slot::{EpochInfo, EpochState};
pub use self::view::Standing;

/// The state machine: it decides which epoch is started, aborted and cleaned up, and when.
///
/// The machine does no I/O and knows no clock. The caller, called the driver, owns the processes
/// and the time. It always does the same:
///
/// 1. Give the machine one input with the time: [`handle_input`](Self::handle_input), or
///    [`handle_timeout`](Self::handle_timeout) when a deadline is reached.
/// 2. Carry out every output, in order, until [`poll_output`](Self::poll_output) returns `None`. An
///    output that is not taken stays in the queue. The machine assumes that it was carried out.
/// 3. Ask for the deadline again with [`poll_timeout`](Self::poll_timeout): any input may have
///    moved, added or removed it.
/// 4. Wait for the next input or the deadline.
///
/// A driver can rely on this:
///
/// - The time need not be exact. An early timeout does nothing, a late one does what was due, and a
///   repeated one does no harm. A timeout that is later than [`LATE`] shows that the driver was
///   stopped. Then everything that was due is postponed by [`LOOK_AROUND`], so that the driver can
///   report first what has happened. A time before the last one counts as the last one.
/// - An input about an epoch that does not run is ignored, and so is a repeated one. The
///   [`Reception`] says so.
/// - After [`Output::Finish`] every input is ignored or denied, and no output follows.
/// - No input makes the machine panic.
///
/// The machine relies on this: the driver answers each [`Output::Start`] with exactly one
/// [`Input::Exited`], even if the start itself failed. It does so only when no part of the epoch
/// runs any more.
///
/// ```
/// use handover_core::{
///     Epoch, Exit, Input, Machine, Output, Policy, Reception, Target, Timestamp, Urgency,
/// };
///
/// let mut machine = Machine::new(Policy::default())?;
/// let mut running = Vec::new();
/// let mut inputs =
///     vec![Input::Terminate(Urgency::Drain), Input::Live(Epoch::ZERO), Input::Desire("a")];
///
/// while let Some(input) = inputs.pop() {
///     let now = Timestamp::ZERO; // A driver reads its clock here.
///     let reception = machine.handle_input(now, input);
///     assert!(!matches!(reception, Reception::Denied(_)));
///     while let Some(output) = machine.poll_output() {
///         match output {
///             Output::Start { epoch, target: Target::Serve(_) } => running.push(epoch),
///             // This proxy drains in no time.
///             Output::Start { epoch, target: Target::Drain } => {
///                 inputs.push(Input::Exited(epoch, Exit::Clean));
///             }
///             Output::Abort { epoch, .. } => inputs.push(Input::Exited(epoch, Exit::Aborted)),
///             // Nothing of it is left to finish.
///             Output::Retire { epoch, .. } => inputs.push(Input::Exited(epoch, Exit::Clean)),
///             // Nothing of it has taken anything over.
///             Output::Withdraw(epoch) => inputs.push(Input::Exited(epoch, Exit::Aborted)),
///             Output::Cleanup(epoch) => running.retain(|other| *other != epoch),
///             Output::Finish(outcome) => println!("finished: {outcome}"),
///             Output::Panic { config, epoch } => eprintln!("gave {config} up after {epoch}"),
///             Output::Event(event) => println!("{event:?}"),
///         }
///     }
///     // A driver arms its timer here.
///     let _deadline = machine.poll_timeout();
/// }
/// assert!(running.is_empty() && machine.outcome().is_some());
/// # Ok::<(), handover_core::PolicyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Machine<C> {
    policy: Policy,
    random: SplitMix64,
    now: Timestamp,
    /// When the driver was found to have missed a deadline. What was due until that moment is put
    /// off by [`LOOK_AROUND`] from then on.
    woke: Option<Timestamp>,
    phase: Phase,
    /// The running epochs, by number; the newest is the last.
    slots: Vec<Slot<C>>,
    desired: Option<Pursuit<C>>,
    /// The configuration that served last, from the end of its epoch until another goes live, or until
    /// that one has passed its probation. Only a policy that holds the last good one has it.
    fallback: Option<Pursuit<C>>,
    /// The configuration that was found unfit last.
    condemned: Option<Condemned<C>>,
    /// How many desires have been taken in, renewals and cold restarts among them. An epoch carries
    /// the number of the one that it was started for.
    generations: u64,
    /// How many starts in a row gave way to a newer desire, since one came to an end of its own.
    gave_way: u32,
    /// When the last change was started beside an epoch that serves, if the policy has a shortest time between
    /// two of them.
    last_change: Option<Timestamp>,
    /// Whether an epoch has ended in a way that makes the drain under way a failed one.
    drain_failed: bool,
    /// The reason that was reported last, so that it is reported once.
    reported: Option<Held>,
    outputs: VecDeque<Output<C>>,
}

/// The stage of the machine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Phase {
    /// The machine keeps the desired configuration running.
    Running,
    /// The machine was told to terminate, and waits for connections to end.
    Draining {
        /// The time at which the drain is cut; `None` if it has no limit.
        until: Option<Timestamp>,
        /// The epoch that drains the others, once it was started.
        epoch: Option<Epoch>,
    },
    /// The machine has aborted every epoch, and will finish with this outcome.
    Stopping(Outcome),
    /// The machine has finished with this outcome.
    Finished(Outcome),
}

impl<C: Clone + Eq> Machine<C> {
    /// Returns a machine that runs nothing and has no desired configuration.
    ///
    /// # Errors
    ///
    /// Returns an error if [`Policy::check`] does.
    pub fn new(policy: Policy) -> Result<Self, PolicyError> {
        Self::with_seed(policy, 0)
    }

    /// Returns a machine as [`new`](Self::new) does, with a seed for the jitter of the policy's
    /// retries. The same seed and the same inputs give the same outputs.
    ///
    /// # Errors
    ///
    /// Returns an error if [`Policy::check`] does.
    pub fn with_seed(policy: Policy, seed: u64) -> Result<Self, PolicyError> {
        policy.check()?;
        Ok(Self {
            policy,
            random: SplitMix64::new(seed),
            now: Timestamp::ZERO,
            woke: None,
            phase: Phase::Running,
            // Room for what a hand-over needs, so that a step does not allocate.
            slots: Vec::with_capacity(4),
            desired: None,
            fallback: None,
            condemned: None,
            generations: 0,
            gave_way: 0,
            last_change: None,
            drain_failed: false,
            reported: None,
            outputs: VecDeque::with_capacity(16),
        })
    }

    /// Takes one input. Fetch the outputs that follow with [`poll_output`](Self::poll_output).
    pub fn handle_input(&mut self, now: Timestamp, input: Input<C>) -> Reception {
        self.advance_to(now);
        if let Phase::Finished(_) = self.phase {
            return match input {
                Input::Desire(_) | Input::Renew(_) | Input::Restart(_) => {
                    Reception::Denied(Denied::Finished)
                }
                Input::Live(_)
                | Input::StoppedServing(_)
                | Input::Released(_)
                | Input::Withdrawn(_)
                | Input::Unfit(_)
                | Input::Exited(..)
                | Input::Terminate(_) => Reception::Ignored(Ignored::Finished),
            };
        }
        match input {
            Input::Desire(config) => self.desire(config),
            Input::Renew(config) => self.renew(config),
            Input::Restart(config) => self.restart(config),
            Input::Live(epoch) => self.live(epoch),
            Input::StoppedServing(epoch) => self.stopped_serving(epoch),
            Input::Released(epoch) => self.released(epoch),
            Input::Withdrawn(epoch) => self.withdrawn(epoch),
            Input::Unfit(epoch) => self.unfit(epoch),
            Input::Exited(epoch, exit) => self.exited(epoch, exit),
            Input::Terminate(urgency) => self.terminate(urgency),
        }
    }

    /// Carries out every deadline that has passed. If none has, it does nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance_to(now);
        while let Some(reason) = self.next_due() {
            self.fire(reason);
            self.notice_a_gap();
        }
    }

    /// Returns the next output, or `None` if all were taken. Carry the outputs out in this order.
    pub fn poll_output(&mut self) -> Option<Output<C>> {
        self.outputs.pop_front()
    }

    /// Returns the next deadline, at which [`handle_timeout`](Self::handle_timeout) must be called.
    /// `None` means that only an input can change anything.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.deadlines().min()
    }

    /// Rule: the newest epoch going live makes every older one draining.
    fn live(&mut self, epoch: Epoch) -> Reception {
        let now = self.now;
        let mut slots = self.slots.iter();
        let had_served = slots.any(|slot| slot.epoch == epoch && self.runs_fallback(slot));
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.epoch == epoch) else {
            return Reception::Ignored(Ignored::UnknownEpoch);
        };
        if !slot.is_starting() || slot.is_drain() {
            return Reception::Ignored(Ignored::OutOfOrder);
        }
        slot.state = State::Live {
            since: now,
            healthy: false,
            trial: first_trial(&self.policy, had_served),
        };
        self.gave_way = 0;
        let after = now.since(slot.started);
        self.event(Event::Live { epoch, after });
        if !had_served {
            self.choose_last_good(epoch);
        }
        if let Some(by) = self
            .slots
            .iter()
            .rev()
            .find(|slot| slot.is_live())
            .map(|slot| slot.epoch)
        {
            self.retire_older_than(by);
        }
        self.reconcile();
        Reception::Accepted
    }

    /// Rule: each older epoch is retired once, unless it was aborted. One that drains already, because
    /// it had stopped serving or was withdrawn, is told as well: nothing else tells it to end.
    fn retire_older_than(&mut self, by: Epoch) {
        for slot in self.slots.iter_mut().filter(|slot| slot.epoch < by) {
            let (released, is_superseded) = match slot.state {
                State::Starting { .. } | State::Live { .. } => (false, true),
                State::Draining {
                    released,
                    retired: false,
                } => (released, false),
                State::Draining { retired: true, .. } | State::Aborting { .. } => continue,
            };
            slot.state = State::Draining {
                released,
                retired: true,
            };
            slot.disown();
            let epoch = slot.epoch;
            self.outputs.push_back(Output::Retire { epoch, by });
            if is_superseded {
                self.outputs
                    .push_back(Output::Event(Event::Superseded { epoch, by }));
            }
        }
    }

    fn released(&mut self, epoch: Epoch) -> Reception {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.epoch == epoch) else {
            return Reception::Ignored(Ignored::UnknownEpoch);
        };
        let State::Draining {
            released: released @ false,
            ..
        } = &mut slot.state
        else {
            return Reception::Ignored(Ignored::OutOfOrder);
        };
        *released = true;
        self.reconcile();
        Reception::Accepted
    }

    /// Rule: an epoch whose start was withdrawn either exits, goes live, or drains with the others. If it
    /// was late, that is its failure.
    fn withdrawn(&mut self, epoch: Epoch) -> Reception {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.epoch == epoch) else {
            return Reception::Ignored(Ignored::UnknownEpoch);
        };
        if slot.withdrawn().is_none() {
            return Reception::Ignored(Ignored::OutOfOrder);
        }
        let was = slot.clone();
        slot.state = State::Draining {
            released: false,
            retired: false,
        };
        slot.disown();
        if was.is_late() && self.phase == Phase::Running {
            self.follow_up(was, Exit::Failed(Severity::Transient));
        } else {
            self.reconcile();
        }
        Reception::Accepted
    }

    /// The newest epoch that may be current: an aborted one never is, and neither is one that
    /// drains.
    fn current_slot(&self) -> Option<&Slot<C>> {
        let newest = self
            .slots
            .iter()
            .rev()
            .find(|slot| !slot.is_aborting() && !slot.is_drain())?;
        (newest.is_starting() || newest.is_live()).then_some(newest)
    }

    /// Whether the epoch runs the desired configuration and may be current. After a renewal the fallback
    /// may have an equal configuration, and is still another pursuit.
    fn runs_desired(&self, slot: &Slot<C>) -> bool {
        let desired = self.desired.as_ref().map(|desired| &desired.config);
        slot.counts()
            && desired.is_some()
            && slot.config.as_ref() == desired
            && !self.runs_fallback(slot)
    }

    /// Whether the epoch runs the fallback.
    fn runs_fallback(&self, slot: &Slot<C>) -> bool {
        self.fallback
            .as_ref()
            .is_some_and(|fallback| fallback.generation == slot.generation)
    }

    /// Whether any epoch serves. Where nothing waits for live, a start is taken for serving.
    fn is_serving(&self) -> bool {
        self.is_served_by(Slot::is_live)
    }

    /// Whether an epoch serves that was not found unfit.
    fn is_served_well(&self) -> bool {
        self.is_served_by(|slot| slot.is_live() && !slot.is_unfit())
    }

    fn is_served_by(&self, is_server: impl Fn(&Slot<C>) -> bool) -> bool {
        let started_serves = !waits_for_live(&self.policy);
        self.slots
            .iter()
            .any(|slot| is_server(slot) || (started_serves && slot.is_starting()))
    }

    fn advance_to(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.notice_a_gap();
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

impl<C: fmt::Debug> fmt::Debug for Machine<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("now", &self.now)
            .field("phase", &self.phase)
            .field("epochs", &self.slots)
            .field("desired", &self.desired)
            .field("fallback", &self.fallback)
            .finish_non_exhaustive()
    }
}
