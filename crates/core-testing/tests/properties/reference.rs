//! The machine against a model that is written to be compared with the rules, not to be fast.

use handover_core::Output;
use std::fmt;

use handover_core_testing::scenario::{Scenario, What};
use proptest::prelude::*;

use crate::generate::{self, Script};
use crate::model::{Act, Model};

proptest! {
    #![proptest_config(generate::config(2_000))]

    #[test]
    fn the_machine_does_what_the_model_does(Script(scenario) in generate::scenario(40)) {
        let difference = difference(&scenario);
        prop_assert_eq!(difference, None);
    }
}

/// Runs the script on the machine, with every invariant checked, and on the model. What they do
/// differently is told in words; an assertion compares it with nothing.
fn difference(scenario: &Scenario) -> Option<Told> {
    let transcript = match scenario.run() {
        Ok(transcript) => transcript,
        Err(error) => return Some(Told(error.to_string())),
    };
    let mut model = Model::new(scenario.policy);
    for (index, step) in transcript.steps.iter().enumerate() {
        match &step.what {
            What::Input(input, _) => model.input(step.at, input),
            What::Timeout(_) => model.timeout(step.at),
        }
        let expected = model.take_acts();
        let done: Vec<Act> = step.outputs.iter().filter_map(act).collect();
        let waits = model.deadline();
        if done != expected || step.deadline.map(|deadline| deadline.at) != waits {
            return Some(Told(format!(
                "{transcript}\nin row {index} the model does {expected:?} and waits until {waits:?}"
            )));
        }
    }
    None
}

/// A text that is shown as it is.
#[derive(PartialEq)]
struct Told(String);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

fn act(output: &Output<String>) -> Option<Act> {
    match output {
        Output::Event(_) => None,
        command @ (Output::Start { .. }
        | Output::Abort { .. }
        | Output::Retire { .. }
        | Output::Withdraw(_)
        | Output::Cleanup(_)
        | Output::Panic { .. }
        | Output::Finish(_)) => Some(command.clone()),
    }
}
