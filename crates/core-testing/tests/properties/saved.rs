//! A machine that was saved and restored does what it would have done: what a recording rests on.

use handover_core::retry::Jitter;
use handover_core::{Input, Machine, Output, Reception, Timestamp};
use proptest::prelude::*;

use crate::generate::{self, Script};

proptest! {
    #![proptest_config(generate::config(500))]

    #[test]
    fn a_restored_machine_does_what_the_saved_one_does(
        Script(scenario) in generate::scenario(40),
        seed in any::<u64>(),
        every in 1_usize..6,
        jitter in 0_u8..=100,
    ) {
        let mut policy = scenario.policy;
        policy.retry.jitter = Jitter::percent(jitter);
        let mut machine = Machine::with_seed(policy, seed).unwrap();
        // The other one knows each configuration by its first letter.
        let mut name = |config: &String| config.chars().next().unwrap();
        let mut other = restored(&machine.map_config(&mut name));
        for (index, line) in scenario.lines.iter().enumerate() {
            if index % every == 0 {
                other = restored(&machine.map_config(&mut name));
                prop_assert_eq!(&other, &machine.map_config(&mut name));
            }
            let input = line.input.as_ref().map(|input| input.map_config(&mut name));
            let (said, outputs) = step(&mut machine, line.at, line.input.clone());
            let (said_by_other, outputs_of_other) = step(&mut other, line.at, input.as_ref().map(through_json));
            prop_assert_eq!(said, said_by_other);
            let outputs: Vec<_> =
                outputs.iter().map(|output| through_json(&output.map_config(&mut name))).collect();
            prop_assert_eq!(outputs, outputs_of_other);
            prop_assert_eq!(machine.poll_timeout(), other.poll_timeout());
        }
    }
}

fn step<C: Clone + Eq>(
    machine: &mut Machine<C>,
    at: Timestamp,
    input: Option<Input<C>>,
) -> (Option<Reception>, Vec<Output<C>>) {
    let said = match input {
        Some(input) => Some(machine.handle_input(at, input)),
        None => {
            machine.handle_timeout(at);
            None
        }
    };
    let outputs = std::iter::from_fn(|| machine.poll_output());
    (said, outputs.collect())
}

fn restored(machine: &Machine<char>) -> Machine<char> {
    serde_json::from_str(&serde_json::to_string(machine).unwrap()).unwrap()
}

fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}
