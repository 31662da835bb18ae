//! Watching the steps of the machine.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use handover_core::{Input, Machine, Output, Timestamp, Urgency};
use handover_tokio::{Agent, Observer};

use crate::fake::{Config, Fake, Log};
use crate::{GOOD, two_retries};

/// A machine beside the agent's, which takes what the agent's takes.
struct Beside {
    /// As the agent's was before its first step, the seed of its jitter included.
    machine: Option<Machine<Config>>,
    expected: Vec<Output<Config>>,
    steps: Arc<Mutex<(usize, usize)>>,
}

impl Observer<Config> for Beside {
    fn step_begins(
        &mut self,
        machine: &Machine<Config>,
        now: Timestamp,
        input: Option<&Input<Config>>,
    ) {
        assert_eq!(self.expected, [], "outputs of the last step are missing");
        let beside = self.machine.get_or_insert_with(|| machine.clone());
        assert!(*beside == *machine, "it is as it was before the step");
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match input {
            Some(input) => {
                let _ = beside.handle_input(now, input.clone());
                steps.0 += 1;
            }
            None => {
                beside.handle_timeout(now);
                steps.1 += 1;
            }
        }
        self.expected = std::iter::from_fn(|| beside.poll_output()).collect();
    }

    fn output(&mut self, output: &Output<Config>) {
        assert!(!self.expected.is_empty(), "an output too much: {output:?}");
        assert_eq!(self.expected.remove(0), *output);
    }
}

/// A recording rests on it: whoever takes what is observed does what the agent's machine does.
#[tokio::test(start_paused = true)]
async fn an_observer_hears_of_each_step_and_each_output_in_order() {
    let fake = Arc::new(Fake::new(Log::default()));
    let mut agent = Agent::new(fake, two_retries()).expect("a good policy");
    let steps = Arc::new(Mutex::new((0, 0)));
    agent.observe(Box::new(Beside {
        machine: None,
        expected: Vec::new(),
        steps: Arc::clone(&steps),
    }));
    let handle = agent.handle();
    let running = tokio::spawn(agent.run(pending()));
    handle.apply_and_wait(GOOD).await.expect("it goes live");
    handle
        .apply_and_wait(Config::Bad)
        .await
        .expect_err("it is bad");
    handle.terminate(Urgency::Drain);
    running.await.expect("no panic of the observer");
    let (inputs, deadlines) = *steps.lock().unwrap_or_else(PoisonError::into_inner);
    // Two desires, a live, three failures; two retries and more.
    assert!(inputs >= 7 && deadlines >= 2, "{inputs} {deadlines}");
}
