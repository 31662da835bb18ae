//! What no sequence of inputs of a bearable length leads to, and what a script cannot say.

use super::*;
use crate::{Exit, Purpose, Target, Urgency};

const LAST: Epoch = Epoch::new(u32::MAX);

/// A machine whose live epoch has the last number there is.
fn at_the_last_number(policy: Policy) -> Machine<&'static str> {
    let mut machine = Machine::new(policy).unwrap();
    let _ = machine.handle_input(Timestamp::ZERO, Input::Desire("A"));
    let _ = machine.handle_input(Timestamp::ZERO, Input::Live(Epoch::ZERO));
    machine.slots[0].epoch = LAST;
    drop(outputs(&mut machine));
    machine
}

fn outputs(machine: &mut Machine<&'static str>) -> Vec<Output<&'static str>> {
    core::iter::from_fn(|| machine.poll_output()).collect()
}

#[test]
fn a_change_is_held_while_the_numbers_are_used_up_and_goes_on_with_the_exit() {
    let mut machine = at_the_last_number(Policy::default());
    let _ = machine.handle_input(Timestamp::ZERO, Input::Desire("B"));
    assert_eq!(
        outputs(&mut machine),
        [Output::Event(Event::Held(Held::NumbersUsedUp))]
    );
    assert_eq!(machine.standing(), Standing::Pending(Held::NumbersUsedUp));

    let _ = machine.handle_input(Timestamp::ZERO, Input::Exited(LAST, Exit::Clean));
    let (epoch, target) = (Epoch::ZERO, Target::Serve("B"));
    assert!(outputs(&mut machine).contains(&Output::Start { epoch, target }));
}

#[test]
fn a_terminate_skips_the_drain_when_the_numbers_are_used_up() {
    let mut machine = at_the_last_number(Policy::default());
    let _ = machine.handle_input(Timestamp::ZERO, Input::Terminate(Urgency::Drain));
    assert_eq!(machine.phase(), Phase::Stopping(Outcome::DrainSkipped));

    let _ = machine.handle_input(Timestamp::ZERO, Input::Exited(LAST, Exit::Aborted));
    assert_eq!(machine.outcome(), Some(Outcome::DrainSkipped));
}

#[test]
fn a_time_before_the_last_one_counts_as_the_last_one() {
    let mut machine = Machine::new(Policy::default()).unwrap();
    let _ = machine.handle_input(Timestamp::from_millis(500), Input::Desire("A"));
    let _ = machine.handle_input(Timestamp::from_millis(100), Input::Live(Epoch::ZERO));
    let after = core::time::Duration::ZERO;
    let epoch = Epoch::ZERO;
    assert!(outputs(&mut machine).contains(&Output::Event(Event::Live { epoch, after })));
    machine.handle_timeout(Timestamp::ZERO);
    assert_eq!(machine.now, Timestamp::from_millis(500));
}

#[test]
fn outputs_that_are_left_over_are_not_lost() {
    let mut machine = Machine::new(Policy::default()).unwrap();
    let _ = machine.handle_input(Timestamp::ZERO, Input::Desire("A"));
    let _ = machine.handle_input(Timestamp::ZERO, Input::Terminate(Urgency::Kill));
    let all = outputs(&mut machine);
    let (epoch, target, purpose) = (Epoch::ZERO, Target::Serve("A"), Purpose::Desired);
    let how = crate::Abort::Immediate;
    assert_eq!(
        all,
        [
            Output::Start { epoch, target },
            Output::Event(Event::Started { epoch, purpose }),
            Output::Abort { epoch, how },
        ]
    );
}

#[test]
fn a_machine_is_degraded_only_while_it_holds_an_older_configuration() {
    let give_up = |mut machine: Machine<&'static str>, epoch| {
        assert!(!machine.is_degraded());
        let rejected = Exit::Failed(Severity::Permanent);
        let _ = machine.handle_input(Timestamp::ZERO, Input::Exited(epoch, rejected));
        machine
    };
    let mut machine = Machine::new(Policy::resilient()).unwrap();
    let _ = machine.handle_input(Timestamp::ZERO, Input::Desire("A"));
    let alone = give_up(machine.clone(), Epoch::ZERO);
    assert_eq!(alone.standing(), Standing::GivenUp(Epoch::ZERO));
    assert!(!alone.is_degraded(), "it has ended");

    let _ = machine.handle_input(Timestamp::ZERO, Input::Live(Epoch::ZERO));
    let _ = machine.handle_input(Timestamp::ZERO, Input::Desire("B"));
    let mut held = give_up(machine, Epoch::new(1));
    assert!(held.is_degraded());
    let _ = held.handle_input(Timestamp::ZERO, Input::Desire("A"));
    assert!(!held.is_degraded(), "what serves is what is desired");
}

#[test]
fn a_machine_shows_its_state_and_not_its_random_numbers() {
    let mut machine = Machine::new(Policy::default()).unwrap();
    let _ = machine.handle_input(Timestamp::ZERO, Input::Desire("A"));
    let shown = alloc::format!("{machine:?}");
    assert!(shown.starts_with("Machine { now: Timestamp("), "{shown}");
    assert!(shown.contains("phase: Running"), "{shown}");
    assert!(shown.contains("config: \"A\""), "{shown}");
    assert!(!shown.contains("random"), "{shown}");
}

#[test]
fn the_seed_decides_the_jitter_and_nothing_else_does() {
    let mut policy = Policy::default();
    policy.retry.jitter = handover_retry::Jitter::percent(50);
    let first_retry = |seed| {
        let mut machine = Machine::with_seed(policy, seed).unwrap();
        let failed = Exit::Failed(Severity::Transient);
        let _ = machine.handle_input(Timestamp::ZERO, Input::Desire("A"));
        let _ = machine.handle_input(Timestamp::ZERO, Input::Exited(Epoch::ZERO, failed));
        machine.poll_timeout().unwrap().at
    };
    assert_eq!(first_retry(1), first_retry(1));
    assert_ne!(first_retry(1), first_retry(2));
    let longest = Timestamp::new(policy.retry.initial_interval);
    assert!(first_retry(1) <= longest && first_retry(2) <= longest);
}
