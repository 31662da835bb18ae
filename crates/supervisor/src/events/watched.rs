//! Sees each event of the agent's machine, and why an epoch has failed.

use handover_core::{Input, Machine, Output, Timestamp};
use handover_tokio::{Failure, Observer};

use super::{Events, words};

/// Writes the events of the agent's machine, and passes each step on to another observer.
pub(crate) struct Watched<C> {
    events: Events,
    next: Box<dyn Observer<C>>,
    failure: Option<Failure>,
}

impl<C> Watched<C> {
    pub(crate) fn new(events: Events, next: Box<dyn Observer<C>>) -> Self {
        Self {
            events,
            next,
            failure: None,
        }
    }
}

impl<C> Observer<C> for Watched<C> {
    fn step_begins(&mut self, machine: &Machine<C>, now: Timestamp, input: Option<&Input<C>>) {
        self.next.step_begins(machine, now, input);
    }

    fn output(&mut self, output: &Output<C>) {
        if let Output::Event(event) = output {
            let told = words::of_agent(event, self.failure.as_ref());
            self.events.write(told);
        }
        self.next.output(output);
    }

    fn failed(&mut self, failure: &Failure) {
        self.failure = Some(failure.clone());
        self.next.failed(failure);
    }
}
