//! The same machine with other names for its configurations.

use super::Machine;
use super::probation::Condemned;
use super::pursuit::Pursuit;
use super::slot::Slot;
use crate::{Input, Output, Target};

impl<C> Machine<C> {
    /// Returns this machine with another value for each configuration.
    ///
    /// If `rename` maps equal configurations to equal values and others to different ones, the two
    /// machines do the same for ever. So a machine can be saved without the content of its
    /// configurations.
    ///
    /// ```
    /// use handover_core::{Input, Machine, Policy, Timestamp};
    ///
    /// let mut machine = Machine::new(Policy::default())?;
    /// let _ = machine.handle_input(Timestamp::ZERO, Input::Desire("with a secret"));
    /// let mut renamed = machine.map_config(&mut |_| 1);
    /// assert_eq!(renamed.poll_output(), machine.poll_output().map(|output| output.map_config(&mut |_| 1)));
    /// # Ok::<(), handover_core::PolicyError>(())
    /// ```
    #[must_use]
    pub fn map_config<D>(&self, rename: &mut impl FnMut(&C) -> D) -> Machine<D> {
        let Self {
            policy,
            random,
            now,
            woke,
            phase,
            slots,
            desired,
            fallback,
            condemned,
            generations,
            gave_way,
            last_change,
            drain_failed,
            reported,
            outputs,
        } = self;
        Machine {
            policy: *policy,
            random: random.clone(),
            now: *now,
            woke: *woke,
            phase: *phase,
            slots: slots.iter().map(|slot| slot.map_config(rename)).collect(),
            desired: desired.as_ref().map(|pursuit| pursuit.map_config(rename)),
            fallback: fallback.as_ref().map(|pursuit| pursuit.map_config(rename)),
            condemned: condemned.as_ref().map(|condemned| Condemned {
                config: rename(&condemned.config),
                epoch: condemned.epoch,
            }),
            generations: *generations,
            gave_way: *gave_way,
            last_change: *last_change,
            drain_failed: *drain_failed,
            reported: *reported,
            outputs: outputs
                .iter()
                .map(|output| output.map_config(rename))
                .collect(),
        }
    }
}

impl<C> Slot<C> {
    fn map_config<D>(&self, rename: &mut impl FnMut(&C) -> D) -> Slot<D> {
        let Self {
            epoch,
            purpose,
            generation,
            config,
            outdated,
            started,
            contested,
            state,
        } = self;
        Slot {
            epoch: *epoch,
            purpose: *purpose,
            generation: *generation,
            config: config.as_ref().map(rename),
            outdated: *outdated,
            started: *started,
            contested: *contested,
            state: *state,
        }
    }
}

impl<C> Pursuit<C> {
    fn map_config<D>(&self, rename: &mut impl FnMut(&C) -> D) -> Pursuit<D> {
        let Self {
            config,
            generation,
            tried,
            budget,
            stage,
        } = self;
        Pursuit {
            config: rename(config),
            generation: *generation,
            tried: *tried,
            budget: *budget,
            stage: *stage,
        }
    }
}

impl<C> Input<C> {
    /// Returns this input with another value for its configuration.
    #[must_use]
    pub fn map_config<D>(&self, rename: &mut impl FnMut(&C) -> D) -> Input<D> {
        match self {
            Self::Desire(config) => Input::Desire(rename(config)),
            Self::Renew(config) => Input::Renew(rename(config)),
            Self::Restart(config) => Input::Restart(rename(config)),
            Self::Live(epoch) => Input::Live(*epoch),
            Self::StoppedServing(epoch) => Input::StoppedServing(*epoch),
            Self::Released(epoch) => Input::Released(*epoch),
            Self::Withdrawn(epoch) => Input::Withdrawn(*epoch),
            Self::Unfit(epoch) => Input::Unfit(*epoch),
            Self::Exited(epoch, exit) => Input::Exited(*epoch, *exit),
            Self::Terminate(urgency) => Input::Terminate(*urgency),
        }
    }
}

impl<C> Output<C> {
    /// Returns this output with another value for its configuration.
    #[must_use]
    pub fn map_config<D>(&self, rename: &mut impl FnMut(&C) -> D) -> Output<D> {
        match self {
            Self::Start { epoch, target } => Output::Start {
                epoch: *epoch,
                target: match target {
                    Target::Serve(config) => Target::Serve(rename(config)),
                    Target::Drain => Target::Drain,
                },
            },
            Self::Abort { epoch, how } => Output::Abort {
                epoch: *epoch,
                how: *how,
            },
            Self::Retire { epoch, by } => Output::Retire {
                epoch: *epoch,
                by: *by,
            },
            Self::Withdraw(epoch) => Output::Withdraw(*epoch),
            Self::Cleanup(epoch) => Output::Cleanup(*epoch),
            Self::Panic { config, epoch } => Output::Panic {
                config: rename(config),
                epoch: *epoch,
            },
            Self::Finish(outcome) => Output::Finish(*outcome),
            Self::Event(event) => Output::Event(*event),
        }
    }
}
