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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use handover_core::{Epoch, EpochState, Event, Exit, Policy, Severity};

    use super::*;

    /// Keeps what it is told of.
    struct Seen(Arc<Mutex<Vec<&'static str>>>);

    impl Observer<()> for Seen {
        fn step_begins(&mut self, _: &Machine<()>, _: Timestamp, _: Option<&Input<()>>) {
            self.0.lock().unwrap().push("step");
        }

        fn output(&mut self, _: &Output<()>) {
            self.0.lock().unwrap().push("output");
        }

        fn failed(&mut self, _: &Failure) {
            self.0.lock().unwrap().push("failed");
        }
    }

    #[tokio::test]
    async fn events_are_written_with_their_reason_and_everything_is_passed_on() {
        let seen = Arc::default();
        let events = Events::new(None);
        let mut watched = Watched::new(events.clone(), Box::new(Seen(Arc::clone(&seen))));
        let machine = Machine::new(Policy::resilient()).unwrap();
        watched.step_begins(&machine, Timestamp::ZERO, None);
        watched.failed(&Failure {
            epoch: Epoch::ZERO,
            error: Arc::new(std::fmt::Error),
        });
        watched.output(&Output::Event(Event::Exited {
            epoch: Epoch::ZERO,
            exit: Exit::Failed(Severity::Transient),
            was: EpochState::Live,
        }));
        watched.output(&Output::Event(Event::Restarting));
        assert_eq!(
            *seen.lock().unwrap(),
            ["step", "failed", "output", "output"]
        );
        let written = events.after(None, Duration::ZERO).await.events;
        let written = written.into_iter().map(|event| (event.event, event.detail));
        let why = std::fmt::Error.to_string();
        let expected = [("failed", Some(why)), ("restarting", None)];
        let expected = expected.map(|(event, why)| (event.to_owned(), why));
        assert_eq!(written.collect::<Vec<_>>(), expected);
    }
}
