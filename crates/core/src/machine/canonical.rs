//! The one machine that stands for all which do the same.
//!
//! What a machine does depends on how far away its times are, on the order of its epochs and on
//! which of its configurations are equal, and on nothing else about them. So machines that differ
//! in these names alone are represented by one of them: a model checker explores that one, and has
//! explored all.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::probation::Condemned;
use super::pursuit::{NO_DESIRE, Pursuit, Stage};
use super::slot::{Slot, State, Trial};
use super::{Machine, Phase};
use crate::{Abort, Epoch, Held, Outcome, Timestamp};

/// The moment at which every [canonical](Machine::canonical) machine stands: ten thousand days after
/// the driver's start, so late that no time in the past is cut off.
pub const CANONICAL_NOW: Timestamp = Timestamp::new(Duration::from_secs(864_000_000));

/// What [`Machine::canonical`] returns: the machine that stands for all which do the same, and what
/// its configurations are called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Canonical<C> {
    /// The machine that stands for the others.
    pub machine: Machine<usize>,
    /// The configurations that the machine can tell apart. Each is called by its place in this list.
    /// A configuration that is not in the list is new to the machine, even if it was asked for before.
    pub configs: Vec<C>,
}

impl<C: Clone + Eq> Machine<C> {
    /// Returns the machine that stands for all which do at this moment what this one does.
    ///
    /// It differs from this one in:
    ///
    /// - the moment: it becomes [`CANONICAL_NOW`], and every other time keeps its distance;
    /// - the numbers of the running epochs: they become 0, 1, 2 and so on in the same order;
    /// - the configurations and the desires: they become numbers in the order in which they are found;
    /// - what the machine has no more use for: when an epoch was started that is past its start
    ///   deadline, the number of one that has ended, what was desired before the machine began to end.
    ///
    /// Two machines with the same canonical one give the same outputs for the same inputs, up to these
    /// names, for ever, as long as the highest epoch number there is stays out of reach. So a model
    /// checker needs to visit the canonical machines only, and their number is finite as long as the
    /// epochs at once and the configurations are.
    ///
    /// A moment before the machine's last one counts as the last one. Outputs that have not been taken
    /// are left out.
    ///
    /// ```
    /// use handover_core::{Input, Machine, Policy, Timestamp};
    ///
    /// let after = |seconds: u64, config: &'static str| {
    ///     let mut machine = Machine::new(Policy::default())?;
    ///     let now = Timestamp::from_millis(seconds * 1_000);
    ///     let _ = machine.handle_input(now, Input::Desire(config));
    ///     Ok::<_, handover_core::PolicyError>(machine.canonical(now))
    /// };
    /// assert_eq!(after(1, "a")?.machine, after(7, "b")?.machine);
    /// assert_eq!(after(7, "b")?.configs, ["b"]);
    /// # Ok::<(), handover_core::PolicyError>(())
    /// ```
    #[must_use]
    pub fn canonical(&self, now: Timestamp) -> Canonical<C> {
        let names = Names::of(self, now);
        Canonical {
            machine: names.rename(self),
            configs: names.configs,
        }
    }
}

/// What the machine's times, epochs, desires and configurations are called.
struct Names<C> {
    now: Timestamp,
    epochs: Vec<Epoch>,
    generations: Vec<u64>,
    configs: Vec<C>,
}

impl<C: Clone + Eq> Names<C> {
    /// The names in this machine, at this moment.
    fn of(machine: &Machine<C>, now: Timestamp) -> Self {
        let mut names = Self {
            now: now.max(machine.now),
            epochs: machine.slots.iter().map(|slot| slot.epoch).collect(),
            generations: Vec::new(),
            configs: Vec::new(),
        };
        if machine.phase == Phase::Running {
            for pursuit in [&machine.desired, &machine.fallback].into_iter().flatten() {
                note(&mut names.generations, &pursuit.generation);
                note(&mut names.configs, &pursuit.config);
            }
            if let Some(condemned) = &machine.condemned {
                note(&mut names.configs, &condemned.config);
            }
            for slot in machine.slots.iter().rev() {
                if slot.generation != NO_DESIRE {
                    note(&mut names.generations, &slot.generation);
                }
                if let Some(config) = slot.config.as_ref().filter(|_| is_asked_for(slot)) {
                    note(&mut names.configs, config);
                }
            }
        }
        names
    }

    fn rename(&self, machine: &Machine<C>) -> Machine<usize> {
        let is_running = machine.phase == Phase::Running;
        let pursuit = |of: &Option<Pursuit<C>>| {
            of.as_ref()
                .filter(|_| is_running)
                .map(|it| self.pursuit(machine, it))
        };
        let slots = machine.slots.iter().map(|slot| self.slot(machine, slot));
        Machine {
            policy: machine.policy,
            random: machine.random.clone(),
            now: CANONICAL_NOW,
            // It matters only while something is put off, or may be in this very moment.
            woke: machine
                .woke
                .filter(|woke| self.is_now(*woke) || machine.looks_around_until().is_some())
                .map(|at| self.time(at)),
            phase: self.phase(machine),
            slots: slots.collect(),
            desired: pursuit(&machine.desired),
            fallback: pursuit(&machine.fallback),
            condemned: machine
                .condemned
                .as_ref()
                .filter(|_| is_running)
                .map(|it| Condemned {
                    config: self.config(&it.config),
                    epoch: Epoch::ZERO,
                }),
            generations: u64::try_from(self.generations.len()).unwrap_or(u64::MAX),
            gave_way: if is_running { machine.gave_way } else { 0 },
            last_change: machine
                .last_change_that_matters(self.now)
                .zip(machine.policy.min_interval)
                .map(|(at, span)| self.beginning(machine, at, span)),
            // What it means is in the outcome from then on.
            drain_failed: machine.drain_failed && matches!(machine.phase, Phase::Draining { .. }),
            reported: match machine.phase {
                Phase::Running | Phase::Draining { .. } => machine.reported.map(|it| self.held(it)),
                Phase::Stopping(_) | Phase::Finished(_) => None,
            },
            outputs: VecDeque::new(),
        }
    }

    /// Whether this is the moment of the machine.
    fn is_now(&self, at: Timestamp) -> bool {
        at >= self.now
    }

    fn time(&self, at: Timestamp) -> Timestamp {
        let past = self.now.since(at);
        let since_start = CANONICAL_NOW.after(at.since(self.now)).elapsed();
        Timestamp::new(since_start.saturating_sub(past))
    }

    /// The moment of a deadline. What is put off is handled at one time, however long ago it was due.
    fn moment<D>(&self, machine: &Machine<D>, at: Timestamp) -> Timestamp {
        match machine.woke {
            Some(woke) if at <= woke => self.time(woke),
            Some(_) | None => self.time(at),
        }
    }

    /// When the time began that ends with a deadline.
    fn beginning<D>(&self, machine: &Machine<D>, from: Timestamp, span: Duration) -> Timestamp {
        let end = self.moment(machine, from.after(span));
        Timestamp::new(end.elapsed().saturating_sub(span))
    }

    /// When an epoch went live that has one, both or none of these times before it. What ends at one
    /// moment, because it is put off, may begin at one; but both together have one beginning.
    fn live_since<D>(
        &self,
        machine: &Machine<D>,
        since: Timestamp,
        health: Option<Duration>,
        probation: Option<Duration>,
    ) -> Timestamp {
        match (health, probation) {
            (None, None) => CANONICAL_NOW,
            (Some(span), None) | (None, Some(span)) => self.beginning(machine, since, span),
            (Some(health), Some(probation)) if health == probation => {
                self.beginning(machine, since, health)
            }
            (Some(_), Some(_)) => self.time(since),
        }
    }

    /// An epoch that does not run keeps away from the numbers of those that do.
    fn epoch(&self, epoch: Epoch) -> Epoch {
        let place = self.epochs.iter().position(|other| *other == epoch);
        let place = place.and_then(|place| u32::try_from(place).ok());
        Epoch::new(place.unwrap_or(u32::MAX))
    }

    fn config(&self, config: &C) -> usize {
        let place = self.configs.iter().position(|other| other == config);
        place.unwrap_or(self.configs.len())
    }

    /// From 1, since [`NO_DESIRE`] is called what it is.
    fn generation(&self, generation: u64) -> u64 {
        let place = self.generations.iter().position(|it| *it == generation);
        let place = place.and_then(|place| u64::try_from(place).ok());
        place.map_or(NO_DESIRE, |place| place.saturating_add(1))
    }

    fn pursuit(&self, machine: &Machine<C>, pursuit: &Pursuit<C>) -> Pursuit<usize> {
        Pursuit {
            config: self.config(&pursuit.config),
            generation: self.generation(pursuit.generation),
            // Only the time between two changes asks for it, and only of what may be started.
            tried: pursuit.tried
                || machine.policy.min_interval.is_none()
                || pursuit.stage != Stage::Ready,
            budget: pursuit.budget,
            stage: match pursuit.stage {
                Stage::Waiting(at) => Stage::Waiting(self.moment(machine, at)),
                Stage::GivenUp { why, .. } => Stage::GivenUp {
                    epoch: Epoch::ZERO,
                    why,
                },
                stage @ (Stage::Ready | Stage::NotRestarted) => stage,
            },
        }
    }

    fn slot(&self, machine: &Machine<C>, slot: &Slot<C>) -> Slot<usize> {
        let is_running = machine.phase == Phase::Running;
        let is_draining = matches!(machine.phase, Phase::Draining { epoch: None, .. });
        let start_deadline = machine.policy.start_deadline.filter(|_| !slot.is_drain());
        let health = machine.policy.retry.reset_after.filter(|_| is_running);
        let probation = machine.policy.probation.filter(|_| is_running);
        let grace = machine.policy.abort_grace;
        Slot {
            epoch: self.epoch(slot.epoch),
            purpose: slot.purpose,
            generation: if is_running {
                self.generation(slot.generation)
            } else {
                NO_DESIRE
            },
            config: slot
                .config
                .as_ref()
                .filter(|_| is_running && is_asked_for(slot))
                .map(|it| self.config(it)),
            outdated: slot.outdated && is_running && slot.generation != NO_DESIRE,
            started: match machine.start_that_matters(slot, self.now) {
                Some(started) => self.time(started),
                None => start_deadline
                    .filter(|_| slot.is_starting() && !slot.is_late())
                    .map_or(CANONICAL_NOW, |span| {
                        self.beginning(machine, slot.started, span)
                    }),
            },
            contested: slot.contested && is_running && (slot.is_starting() || slot.is_live()),
            state: match slot.state {
                State::Live {
                    since,
                    healthy,
                    trial,
                } => State::Live {
                    since: self.live_since(
                        machine,
                        since,
                        health.filter(|_| !healthy),
                        probation.filter(|_| trial == Trial::OnProbation),
                    ),
                    healthy: healthy && health.is_some(),
                    trial: if is_running { trial } else { Trial::Passed },
                },
                State::Aborting {
                    how,
                    since,
                    timed_out,
                } => State::Aborting {
                    how,
                    since: match how {
                        Abort::Graceful => self.beginning(machine, since, grace),
                        Abort::Immediate => CANONICAL_NOW,
                    },
                    timed_out: timed_out && is_running,
                },
                State::Starting { withdrawn, late } => State::Starting {
                    withdrawn: withdrawn.map(|at| match start_deadline {
                        _ if is_draining || late => self.beginning(machine, at, grace),
                        // A grace that is over by the deadline may be over by then.
                        Some(span) => {
                            let end = at.after(grace).max(slot.started.after(span));
                            let end = self.moment(machine, end).elapsed();
                            Timestamp::new(end.saturating_sub(grace))
                        }
                        None => CANONICAL_NOW,
                    }),
                    late,
                },
                state @ State::Draining { .. } => state,
            },
        }
    }

    fn phase(&self, machine: &Machine<C>) -> Phase {
        match machine.phase {
            Phase::Running => Phase::Running,
            Phase::Draining { until, epoch } => Phase::Draining {
                until: until.map(|at| self.moment(machine, at)),
                epoch: epoch.map(|epoch| self.epoch(epoch)),
            },
            Phase::Stopping(outcome) => Phase::Stopping(without_number(outcome)),
            Phase::Finished(outcome) => Phase::Finished(without_number(outcome)),
        }
    }

    fn held(&self, held: Held) -> Held {
        match held {
            Held::Starting(epoch) => Held::Starting(self.epoch(epoch)),
            Held::Aborting(epoch) => Held::Aborting(self.epoch(epoch)),
            Held::Retry(at) => Held::Retry(self.time(at)),
            Held::Interval(at) => Held::Interval(self.time(at)),
            held
            @ (Held::Cap { .. } | Held::GivenUp | Held::NotRestarted | Held::NumbersUsedUp) => held,
        }
    }
}

/// Whether anything is made of the epoch's configuration: it may be what is desired, or what served
/// last.
fn is_asked_for<C>(slot: &Slot<C>) -> bool {
    let may_serve = slot.is_starting() || slot.is_live();
    slot.counts() || (slot.generation != NO_DESIRE && may_serve)
}

/// Adds a name that is not there yet.
fn note<T: Clone + PartialEq>(names: &mut Vec<T>, name: &T) {
    if !names.contains(name) {
        names.push(name.clone());
    }
}

/// The epoch in an outcome has ended.
fn without_number(outcome: Outcome) -> Outcome {
    let epoch = Epoch::ZERO;
    match outcome {
        Outcome::GaveUp { why, .. } => Outcome::GaveUp { epoch, why },
        Outcome::ProxyEnded { .. } => Outcome::ProxyEnded { epoch },
        outcome @ (Outcome::Drained
        | Outcome::DrainTimedOut
        | Outcome::DrainSkipped
        | Outcome::DrainFailed
        | Outcome::Killed) => outcome,
    }
}
