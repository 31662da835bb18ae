//! Sees each event of the agent's machine.

use std::time::SystemTime;

use handover_core::{Input, Machine, Output, Timestamp};
use handover_tokio::{Failure, Observer};

use super::Shared;

/// Counts the events of the agent's machine, and passes each step on to another observer.
pub(crate) struct Watched<C> {
    metrics: Shared,
    next: Option<Box<dyn Observer<C>>>,
    now: Timestamp,
}

impl<C> Watched<C> {
    pub(crate) fn new(metrics: Shared, next: Option<Box<dyn Observer<C>>>) -> Self {
        Self {
            metrics,
            next,
            now: Timestamp::ZERO,
        }
    }
}

impl<C> Observer<C> for Watched<C> {
    fn step_begins(&mut self, machine: &Machine<C>, now: Timestamp, input: Option<&Input<C>>) {
        self.now = now;
        if let Some(next) = &mut self.next {
            next.step_begins(machine, now, input);
        }
    }

    fn output(&mut self, output: &Output<C>) {
        if let Output::Event(event) = output {
            let mut metrics = self.metrics.lock();
            metrics.agent_event(self.now, SystemTime::now(), event);
        }
        if let Some(next) = &mut self.next {
            next.output(output);
        }
    }

    fn failed(&mut self, failure: &Failure) {
        if let Some(next) = &mut self.next {
            next.failed(failure);
        }
    }
}
