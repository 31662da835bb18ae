//! The history, as those who write and those who ask share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use handover_core::{EpochInfo, Input, Machine, Output, Timestamp};
use handover_tokio::{Failure, Observer};

use super::History;
use crate::control::wire::EpochHistory;
use crate::metrics::Observed;

/// A history. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<History>>);

impl Shared {
    /// Takes in what a proxy has observed of a process.
    pub(crate) fn observed(&self, observed: &Observed) {
        self.lock().observed(observed);
    }

    /// Returns what is held, oldest first. `now` is by the clock of the agent's machine, and `epochs` is how the
    /// epochs are now.
    pub(crate) fn view(&self, now: Timestamp, epochs: &[EpochInfo]) -> Vec<EpochHistory> {
        let mut history = self.lock();
        history.epochs_are(epochs.iter().copied());
        history.view(now, SystemTime::now())
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the history from the steps of the agent's machine, and passes each step on to another observer.
pub(crate) struct Watched<C> {
    history: Shared,
    next: Box<dyn Observer<C>>,
    now: Timestamp,
}

impl<C> Watched<C> {
    pub(crate) fn new(history: Shared, next: Box<dyn Observer<C>>) -> Self {
        let now = Timestamp::ZERO;
        Self { history, next, now }
    }
}

impl<C: Clone + Eq> Observer<C> for Watched<C> {
    fn step_begins(&mut self, machine: &Machine<C>, now: Timestamp, input: Option<&Input<C>>) {
        self.now = now;
        self.history.lock().epochs_are(machine.epochs());
        self.next.step_begins(machine, now, input);
    }

    fn output(&mut self, output: &Output<C>) {
        match output {
            Output::Event(event) => self.history.lock().agent_event(self.now, event),
            Output::Abort { epoch, .. } => self.history.lock().aborts(self.now, *epoch),
            Output::Start { .. }
            | Output::Withdraw { .. }
            | Output::Retire { .. }
            | Output::Cleanup(_)
            | Output::Panic { .. }
            | Output::Finish(_) => {}
        }
        self.next.output(output);
    }

    fn failed(&mut self, failure: &Failure) {
        self.next.failed(failure);
    }
}
