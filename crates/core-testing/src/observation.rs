//! One step of a machine, as plain data.

use alloc::vec::Vec;

use handover_core::{
    Deadline, EpochInfo, Held, Input, Machine, Output, Phase, Reception, Timestamp,
};

/// What a machine shows of itself between two steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<C> {
    /// Where the machine is in its life.
    pub phase: Phase,
    /// The running epochs, oldest first.
    pub epochs: Vec<EpochInfo>,
    /// The desired configuration.
    pub desired: Option<C>,
    /// The configuration of the newest epoch that is starting or live.
    pub current: Option<C>,
    /// The retries that the desired configuration has left.
    pub retries_left: Option<u32>,
    /// Why the desired configuration is held, if it is.
    pub held: Option<Held>,
    /// The next deadline.
    pub deadline: Option<Deadline>,
    /// Until when missed deadlines are put off, if any is.
    pub looks_around_until: Option<Timestamp>,
}

impl<C: Clone + Eq> View<C> {
    /// Returns what the machine shows at present.
    #[must_use]
    pub fn of(machine: &Machine<C>) -> Self {
        Self {
            phase: machine.phase(),
            epochs: machine.epochs().collect(),
            desired: machine.desired().cloned(),
            current: machine.current().cloned(),
            retries_left: machine.retries_left(),
            held: machine.held(),
            deadline: machine.poll_timeout(),
            looks_around_until: machine.looks_around_until(),
        }
    }
}

/// One step of a machine: what went in, what came out, and what it showed before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation<C> {
    /// The time that was passed in.
    pub at: Timestamp,
    /// The input and its reception; `None` for a timeout.
    pub input: Option<(Input<C>, Reception)>,
    /// All outputs of the step, in order.
    pub outputs: Vec<Output<C>>,
    /// What the machine showed before the step.
    pub before: View<C>,
    /// What the machine shows once all outputs are taken.
    pub after: View<C>,
}

impl<C: Clone + Eq> Observation<C> {
    /// Gives the machine an input, or a timeout if there is none, and takes all outputs.
    pub fn make(machine: &mut Machine<C>, at: Timestamp, input: Option<Input<C>>) -> Self {
        let before = View::of(machine);
        let input = match input {
            Some(input) => {
                let reception = machine.handle_input(at, input.clone());
                Some((input, reception))
            }
            None => {
                machine.handle_timeout(at);
                None
            }
        };
        Self {
            at,
            input,
            outputs: core::iter::from_fn(|| machine.poll_output()).collect(),
            before,
            after: View::of(machine),
        }
    }
}
