//! The judge sees what is wrong: runs in which one step is forged, each breaking a named invariant.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use handover_core::{Epoch, Event, Machine, Output, Purpose, Target};
use handover_core_testing::scenario::Scenario;
use handover_core_testing::{Checker, Invariant, Observation};

/// One test for each forged step, and the list of what they break.
macro_rules! forged {
    ($($name:ident: $invariant:ident, $script:expr, $forge:expr;)*) => {
        pub(crate) const BROKEN: &[handover_core_testing::Invariant] =
            &[$(handover_core_testing::Invariant::$invariant),*];

        $(
            #[test]
            fn $name() {
                let invariant = handover_core_testing::Invariant::$invariant;
                crate::breaks(invariant, $script, $forge);
            }
        )*
    };
}
mod forged;

/// A step of a run whose configurations are words.
type Step = Observation<String>;

/// Takes all steps of the script. The last one passes as it is; forged it must break the invariant.
fn breaks(invariant: Invariant, script: &str, forge: fn(&mut Step)) {
    let scenario = Scenario::parse(script).unwrap();
    let mut machine = Machine::new(scenario.policy).unwrap();
    let mut checker = Checker::new(scenario.policy);
    let (last, lines) = scenario.lines.split_last().unwrap();
    for line in lines {
        if !line.missing_deadlines {
            let_time_pass(&mut machine, &mut checker, line.at);
        }
        let step = Observation::make(&mut machine, line.at, line.input.clone());
        checker.judge(&step).unwrap();
    }
    if !last.missing_deadlines {
        let_time_pass(&mut machine, &mut checker, last.at);
    }
    let mut step = Observation::make(&mut machine, last.at, last.input.clone());
    let honest = checker.clone().judge(&step);
    assert_eq!(honest, Ok(()), "the step passes as it is");
    let before = step.clone();
    forge(&mut step);
    assert_ne!(step, before, "the step is forged");
    match checker.judge(&step) {
        Err(violation) => assert_eq!(violation.invariant, invariant, "{violation}"),
        Ok(()) => panic!("the forged step passes: {step:#?}"),
    }
}

fn let_time_pass(
    machine: &mut Machine<String>,
    checker: &mut Checker<String>,
    until: handover_core::Timestamp,
) {
    while let Some(next) = machine.poll_timeout().filter(|next| next.at < until) {
        checker.give_timeout(machine, next.at).unwrap();
    }
}

#[test]
fn each_invariant_is_broken_by_a_forged_run() {
    for invariant in Invariant::ALL {
        assert!(forged::BROKEN.contains(invariant), "{invariant:?}");
    }
}

#[test]
fn a_violation_is_told_with_its_invariant_and_what_was_seen() {
    let mut checker = Checker::new(handover_core::Policy::default());
    let mut machine = Machine::new(handover_core::Policy::default()).unwrap();
    let desire = handover_core::Input::Desire("A".to_owned());
    let mut step = Observation::make(&mut machine, handover_core::Timestamp::ZERO, Some(desire));
    step.outputs.retain(|it| matches!(it, Output::Start { .. }));
    insta::assert_snapshot!(checker.judge(&step).unwrap_err(), @"StartsWhatIsAskedFor does not hold: epoch 0 was started and no event says for what");
}

#[test]
fn what_does_not_hold_the_desired_configuration_is_told_with_what_is_known_of_it() {
    let mut checker = Checker::new(handover_core::Policy::default());
    let mut machine = Machine::new(handover_core::Policy::default()).unwrap();
    let desire = |config: &str| Some(handover_core::Input::Desire(config.to_owned()));
    let first = Observation::make(&mut machine, handover_core::Timestamp::ZERO, desire("A"));
    checker.judge(&first).unwrap();
    let mut step = Observation::make(&mut machine, handover_core::Timestamp::ZERO, desire("B"));
    step.after.held = Some(handover_core::Held::GivenUp);
    insta::assert_snapshot!(checker.judge(&step).unwrap_err(), @"NoLostDesire does not hold: held: the desired configuration was given up, but it is Some(Due)");
}

/// The outputs of a start, as the machine gives them.
fn start(number: u32, config: &str, purpose: Purpose) -> [Output<String>; 2] {
    let epoch = Epoch::new(number);
    let target = Target::Serve(config.to_owned());
    [
        Output::Start { epoch, target },
        Output::Event(Event::Started { epoch, purpose }),
    ]
}

/// Leaves out the outputs of this kind, of which there must be some.
fn omit(step: &mut Step, is_omitted: fn(&Output<String>) -> bool) {
    let before = step.outputs.len();
    step.outputs.retain(|output| !is_omitted(output));
    assert!(step.outputs.len() < before, "{:?}", step.outputs);
}

/// Changes each event.
fn change(step: &mut Step, change: fn(&mut Event)) {
    for output in &mut step.outputs {
        if let Output::Event(event) = output {
            change(event);
        }
    }
}
