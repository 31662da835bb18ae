//! A canonical machine does what each machine does that it stands for: what the model checker's state
//! space rests on.

use handover_core::{
    CANONICAL_NOW, Canonical, Deadline, DeadlineReason, Epoch, Event, Held, Input, Machine,
    Outcome, Output, Reception, Target, Timestamp,
};
use handover_core_testing::Checker;
use handover_core_testing::scenario::{Line, Scenario};
use proptest::prelude::*;

use crate::generate::{self, Script};

/// The same moment in the two machines.
type Moments = (Timestamp, Timestamp);

proptest! {
    #![proptest_config(generate::config(1_000))]

    #[test]
    fn a_canonical_machine_does_what_the_machine_does(
        Script(scenario) in generate::scenario(40), every in 1_usize..6,
    ) {
        let difference = difference(&scenario, every);
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }

    #[test]
    fn what_is_canonical_stays_as_it_is(Script(scenario) in generate::scenario(40)) {
        let mut one = Machine::new(scenario.policy).unwrap();
        let mut watch = Checker::new(scenario.policy);
        for line in &scenario.lines {
            give(&mut one, &mut watch, line.at, line.input.clone());
            let (Canonical { machine, .. }, record) = watch.canonical(&one, line.at);
            let (again, record_again) = record.canonical(&machine, CANONICAL_NOW);
            prop_assert_eq!(machine, again.machine);
            prop_assert_eq!(record, record_again);
        }
    }
}

/// Runs the script on a machine and on its canonical one, which is taken anew every few steps, and tells
/// where they part.
fn difference(scenario: &Scenario, every: usize) -> Option<String> {
    let mut one = Machine::new(scenario.policy).unwrap();
    let mut watch_one = Checker::new(scenario.policy);
    let (canonical, mut watch_other) = watch_one.canonical(&one, Timestamp::ZERO);
    let (mut other, mut configs) = (canonical.machine, canonical.configs);
    // The moments that are the same, and what runs.
    let mut base: Moments = (Timestamp::ZERO, CANONICAL_NOW);
    let (mut of_one, mut of_other) = (running(&one), running(&other));

    for (index, Line { at, input, .. }) in scenario.lines.iter().enumerate() {
        if index % every == 0 {
            let canonical;
            (canonical, watch_other) = watch_one.canonical(&one, *at);
            (other, configs) = (canonical.machine, canonical.configs);
            base = (*at, CANONICAL_NOW);
            of_other = running(&other);
        }
        let at_other = base.1.after(at.since(base.0));
        let translated = input
            .as_ref()
            .map(|it| translate(it, &configs, &one, &other));
        let (reception, outputs) = give(&mut one, &mut watch_one, *at, input.clone());
        let (expected, answers) = give(&mut other, &mut watch_other, at_other, translated);
        let outputs: Vec<_> = outputs
            .iter()
            .map(|it| shape(it, *at, &mut of_one))
            .collect();
        let answers: Vec<_> = answers
            .iter()
            .map(|it| shape(it, at_other, &mut of_other))
            .collect();
        let deadlines = (
            one.poll_timeout().map(|it| due(it, *at, &of_one)),
            other.poll_timeout().map(|it| due(it, at_other, &of_other)),
        );
        let (image, record) = watch_one.canonical(&one, *at);
        let (other_image, other_record) = watch_other.canonical(&other, at_other);
        if reception != expected
            || outputs != answers
            || deadlines.0 != deadlines.1
            || image.machine != other_image.machine
            || record != other_record
        {
            return Some(format!(
                "line {index}: {reception:?} {outputs:?} {one:?}\nbut {expected:?} {answers:?} {other:?}"
            ));
        }
    }
    None
}

/// The input for a machine that was made canonical some steps ago: an epoch is the one in the same place.
fn translate(
    input: &Input<String>,
    configs: &[String],
    one: &Machine<String>,
    other: &Machine<usize>,
) -> Input<usize> {
    let epoch = |epoch: &Epoch| {
        let place = one.epochs().position(|info| info.epoch == *epoch);
        let info = place.and_then(|place| other.epochs().nth(place));
        info.map_or(Epoch::new(u32::MAX), |info| info.epoch)
    };
    let config = |config: &String| {
        let place = configs.iter().position(|it| it == config);
        // What is new to the machine gets a number that depends on nothing but itself.
        place.unwrap_or_else(|| 100 + config.bytes().map(usize::from).sum::<usize>())
    };
    match input {
        Input::Desire(it) => Input::Desire(config(it)),
        Input::Renew(it) => Input::Renew(config(it)),
        Input::Restart(it) => Input::Restart(config(it)),
        Input::Live(it) => Input::Live(epoch(it)),
        Input::StoppedServing(it) => Input::StoppedServing(epoch(it)),
        Input::Released(it) => Input::Released(epoch(it)),
        Input::Withdrawn(it) => Input::Withdrawn(epoch(it)),
        Input::Unfit(it) => Input::Unfit(epoch(it)),
        Input::Exited(it, exit) => Input::Exited(epoch(it), *exit),
        Input::Terminate(urgency) => Input::Terminate(*urgency),
    }
}

fn give<C: Clone + Eq>(
    machine: &mut Machine<C>,
    checker: &mut Checker<C>,
    at: Timestamp,
    input: Option<Input<C>>,
) -> (Option<Reception>, Vec<Output<C>>) {
    match input {
        Some(input) => {
            let (reception, outputs) = checker.give_input(machine, at, input).unwrap();
            (Some(reception), outputs)
        }
        None => (None, checker.give_timeout(machine, at).unwrap()),
    }
}

fn running<C: Clone + Eq>(machine: &Machine<C>) -> Vec<Epoch> {
    machine.epochs().map(|info| info.epoch).collect()
}

/// The output with each running epoch called by its place, and each moment by its distance.
fn shape<C: Clone>(output: &Output<C>, now: Timestamp, running: &mut Vec<Epoch>) -> String {
    let place = |epoch: &Epoch| running.iter().position(|other| other == epoch);
    match output {
        Output::Start { epoch, target } => {
            running.push(*epoch);
            let drains = matches!(target, Target::Drain);
            format!("start {}, drain: {drains}", running.len())
        }
        Output::Abort { epoch, how } => format!("abort {:?} {how:?}", place(epoch)),
        Output::Retire { epoch, by } => format!("retire {:?} by {:?}", place(epoch), place(by)),
        Output::Withdraw(epoch) => format!("withdraw {:?}", place(epoch)),
        Output::Cleanup(epoch) => {
            let place = place(epoch);
            running.retain(|other| other != epoch);
            format!("cleanup {place:?}")
        }
        Output::Panic { .. } => "panic".to_owned(),
        Output::Finish(outcome) => format!("finish {}", outcome_shape(*outcome)),
        Output::Event(event) => match event {
            Event::Started { epoch, purpose } => format!("started {:?} {purpose:?}", place(epoch)),
            // How long the start took is forgotten where no deadline needs it.
            Event::Live { epoch, .. } => format!("live {:?}", place(epoch)),
            Event::Superseded { epoch, by } => format!("{:?} by {:?}", place(epoch), place(by)),
            Event::StoppedServing { epoch } => format!("serves no more {:?}", place(epoch)),
            Event::StartTimedOut { epoch } => format!("late {:?}", place(epoch)),
            // How old the start is is forgotten where it gives way at once anyway.
            Event::GivesWay { epoch, .. } => format!("gives way {:?}", place(epoch)),
            Event::Exited { epoch, exit, was } => format!("{:?} {exit:?} {was:?}", place(epoch)),
            Event::BudgetRefilled {
                epoch,
                retries_left,
            } => {
                format!("refilled {:?} {retries_left}", place(epoch))
            }
            Event::ProbationPassed { epoch } => format!("passed {:?}", place(epoch)),
            Event::Unfit { epoch, replaced } => format!("unfit {:?} {replaced}", place(epoch)),
            Event::BeyondCap { epoch, running } => {
                format!("beyond the cap {:?} {running}", place(epoch))
            }
            Event::Held(held) => match held {
                Held::Starting(epoch) => format!("held: starting {:?}", place(epoch)),
                Held::Aborting(epoch) => format!("held: aborting {:?}", place(epoch)),
                Held::Retry(at) => format!("held: retry in {:?}", at.since(now)),
                Held::Interval(at) => format!("held: interval in {:?}", at.since(now)),
                Held::Cap { .. } | Held::GivenUp | Held::NotRestarted | Held::NumbersUsedUp | _ => {
                    format!("held: {held}")
                }
            },
            Event::GaveUp { why, holding, .. } => format!("gave up: {why}, {holding}"),
            Event::FallbackLost { .. } => "fallback lost".to_owned(),
            Event::NotRestarted { .. } => "stayed".to_owned(),
            Event::Draining { until } => format!("draining {:?}", until.map(|at| at.since(now))),
            event @ (Event::RetryScheduled { .. }
            | Event::WokeLate { .. }
            | Event::Restarting
            | Event::DrainTimedOut
            | _) => {
                format!("{event:?}")
            }
        },
    }
}

fn outcome_shape(outcome: Outcome) -> String {
    match outcome {
        Outcome::GaveUp { why, .. } => format!("gave up: {why}"),
        Outcome::ProxyEnded { .. } => "ended".to_owned(),
        Outcome::Drained
        | Outcome::DrainTimedOut
        | Outcome::DrainSkipped
        | Outcome::DrainFailed
        | Outcome::Killed
        | _ => outcome.to_string(),
    }
}

fn due(deadline: Deadline, now: Timestamp, running: &[Epoch]) -> String {
    let place = |epoch: Epoch| running.iter().position(|other| *other == epoch);
    let (wait, late) = (deadline.at.since(now), now.since(deadline.at));
    let reason = match deadline.reason {
        DeadlineReason::StartDeadline(epoch) => format!("start {:?}", place(epoch)),
        DeadlineReason::Healthy(epoch) => format!("health {:?}", place(epoch)),
        DeadlineReason::Grace(epoch) => format!("grace {:?}", place(epoch)),
        DeadlineReason::GiveWay(epoch) => format!("give way {:?}", place(epoch)),
        DeadlineReason::Probation(epoch) => format!("probation {:?}", place(epoch)),
        DeadlineReason::LateStart(epoch) => format!("late start {:?}", place(epoch)),
        DeadlineReason::Withdrawal(epoch) => format!("withdrawal {:?}", place(epoch)),
        reason @ (DeadlineReason::Retry
        | DeadlineReason::FallbackRetry
        | DeadlineReason::DrainDeadline
        | _) => reason.to_string(),
    };
    format!("{reason} in {wait:?}, late {late:?}")
}

/// The record of the machine after the script, at the time of its last line.
fn record(script: &str) -> Checker<usize> {
    let scenario = Scenario::parse(script).unwrap();
    let mut machine = Machine::new(scenario.policy).unwrap();
    let mut watch = Checker::new(scenario.policy);
    for line in &timed(&scenario).lines {
        give(&mut machine, &mut watch, line.at, line.input.clone());
    }
    let end = scenario.lines.last().map(|line| line.at);
    watch.canonical(&machine, end.unwrap_or_default()).1
}

/// The scenario with a line for each deadline that is not missed.
fn timed(scenario: &Scenario) -> Scenario {
    let mut machine = Machine::new(scenario.policy).unwrap();
    let mut watch = Checker::new(scenario.policy);
    let mut lines = Vec::new();
    for line in &scenario.lines {
        while !line.missing_deadlines
            && let Some(next) = machine.poll_timeout().filter(|next| next.at < line.at)
        {
            give(&mut machine, &mut watch, next.at, None);
            lines.push(Line {
                at: next.at,
                missing_deadlines: false,
                input: None,
            });
        }
        give(&mut machine, &mut watch, line.at, line.input.clone());
        lines.push(line.clone());
    }
    Scenario {
        lines,
        ..scenario.clone()
    }
}

/// What the random scripts come by seldom.
#[test]
fn a_canonical_machine_does_what_the_machine_does_in_every_scenario() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let scenario = Scenario::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for every in 1..4 {
            let difference = difference(&timed(&scenario), every);
            assert!(
                difference.is_none(),
                "{}, every {every}: {}",
                path.display(),
                difference.unwrap_or_default()
            );
        }
        tried += 1;
    }
    assert!(tried > 0, "there are no scenarios in {folder}");
}

/// Records whose difference will never matter are equal.
#[test]
fn what_makes_no_difference_is_not_in_the_record() {
    let pairs = [
        (
            "how long an epoch has been live whose health is put off",
            "policy resilient probation=none reset_after=2s\n0 desire A\n1s live 0\n5s! wait",
            "policy resilient probation=none reset_after=2s\n0 desire A\n1500ms live 0\n5s! wait",
        ),
        (
            "how long an epoch has been live whose health and probation are put off",
            "policy resilient probation=2s reset_after=2s\n0 desire A\n1s live 0\n5s! wait",
            "policy resilient probation=2s reset_after=2s\n0 desire A\n1500ms live 0\n5s! wait",
        ),
        (
            "whether an epoch has passed its probation once the machine drains",
            "policy resilient probation=2s reset_after=none\n0 desire A\n1s live 0\n\
             2s terminate drain",
            "policy resilient probation=2s reset_after=none\n0 desire A\n1s live 0\n\
             9s terminate drain",
        ),
    ];
    for (what, one, other) in pairs {
        assert_eq!(record(one), record(other), "{what}");
    }
}

/// The opposite: what will matter is in the record.
#[test]
fn what_makes_a_difference_is_in_the_record() {
    let pairs = [
        (
            "how long an epoch has been on probation whose health is put off",
            "policy resilient probation=9s reset_after=2s\n0 desire A\n1s live 0\n5s! wait",
            "policy resilient probation=9s reset_after=2s\n0 desire A\n1500ms live 0\n5s! wait",
        ),
        (
            "whether an epoch was released",
            "policy default\n0 desire A\n1s live 0\n2s desire B\n3s live 1\n4s released 0",
            "policy default\n0 desire A\n1s live 0\n2s desire B\n3s live 1\n4s wait",
        ),
    ];
    for (what, one, other) in pairs {
        assert_ne!(record(one), record(other), "{what}");
    }
}

/// The image of the machine after the script, at the time of its last line.
fn image(script: &str) -> Machine<usize> {
    let scenario = Scenario::parse(script).unwrap();
    let mut machine = Machine::new(scenario.policy).unwrap();
    let mut watch = Checker::new(scenario.policy);
    for line in &scenario.lines {
        give(&mut machine, &mut watch, line.at, line.input.clone());
    }
    let end = scenario.lines.last().map(|line| line.at);
    machine.canonical(end.unwrap_or_default()).machine
}

/// Machines whose difference will never matter have one image: or else a checker would go through
/// more states than there are.
#[test]
fn what_makes_no_difference_is_not_in_the_image() {
    let pairs = [
        (
            "when an epoch was started, where no deadline counts from it",
            "policy default\n0 desire A\n9s wait",
            "policy default\n5s desire A\n9s wait",
        ),
        (
            "when an epoch was started that is live",
            "policy resilient\n0 desire A\n7s live 0\n9s wait",
            "policy resilient\n5s desire A\n7s live 0\n9s wait",
        ),
        (
            "when the drain was started",
            "policy resilient drain=none\n0 desire A\n1s live 0\n7s terminate drain\n9s wait",
            "policy resilient drain=none\n0 desire A\n1s live 0\n8s terminate drain\n9s wait",
        ),
        (
            "how long an epoch has been live, where health does not count",
            "policy default\n0 desire A\n1s live 0\n9s wait",
            "policy default\n0 desire A\n5s live 0\n9s wait",
        ),
        (
            "whether an epoch is healthy once the machine drains",
            "policy resilient\n0 desire A\n1s live 0\n30s wait\n40s terminate drain",
            "policy resilient\n0 desire A\n39s live 0\n40s terminate drain",
        ),
        (
            "what had been desired before the machine drained",
            "policy resilient\n0 desire A\n1s live 0\n2s desire B\n3s live 1\n40s terminate drain",
            "policy resilient\n0 desire B\n1s live 0\n2s desire A\n3s live 1\n40s terminate drain",
        ),
        (
            "that an epoch is older than a renewal, once it drains",
            "policy default\n0 desire A\n1s live 0\n2s renew A\n3s live 1\n9s wait",
            "policy default\n0 desire B\n1s live 0\n2s desire A\n3s live 1\n9s wait",
        ),
        (
            "how long an epoch has been live that has passed its probation",
            "policy resilient reset_after=none probation=2s\n0 desire A\n1s live 0\n9s wait",
            "policy resilient reset_after=none probation=2s\n0 desire A\n3s live 0\n9s wait",
        ),
        (
            "what was found unfit, once the machine drains",
            "policy resilient probation=9s\n0 desire A\n1s live 0\n2s unfit 0\n20s terminate drain",
            "policy resilient probation=9s\n0 desire A\n1s live 0\n20s terminate drain",
        ),
        (
            "when an epoch was aborted immediately",
            "policy resilient grace=0\n0 desire A\n1s restart B\n9s wait",
            "policy resilient grace=0\n0 desire A\n5s restart B\n9s wait",
        ),
        (
            "which desire a draining epoch was started for",
            "policy default\n0 desire A\n1s live 0\n2s desire B\n3s live 1\n9s wait",
            "policy default\n0 desire B\n1s live 0\n2s desire A\n3s live 1\n9s wait",
        ),
        (
            "that a deadline was missed which is gone",
            "policy default start_deadline=1s\n0 desire A\n9s! live 0\n10s wait",
            "policy default start_deadline=1s\n0 desire A\n500ms live 0\n10s wait",
        ),
    ];
    for (what, one, other) in pairs {
        assert_eq!(image(one), image(other), "{what}");
    }
}

/// The opposite: what will matter is in the image.
#[test]
fn what_makes_a_difference_is_in_the_image() {
    let pairs = [
        (
            "when an epoch was started, where a deadline counts from it",
            "policy resilient\n0 desire A\n9s wait",
            "policy resilient\n5s desire A\n9s wait",
        ),
        (
            "how long an epoch has been live, where health counts",
            "policy resilient\n0 desire A\n1s live 0\n9s wait",
            "policy resilient\n0 desire A\n5s live 0\n9s wait",
        ),
        (
            "how long an epoch has been on probation",
            "policy resilient reset_after=none probation=9s\n0 desire A\n1s live 0\n5s wait",
            "policy resilient reset_after=none probation=9s\n0 desire A\n2s live 0\n5s wait",
        ),
        (
            "what is gone back to from an epoch on probation",
            "policy resilient probation=9s\n0 desire A\n1s live 0\n20s desire B\n21s live 1\n22s exit 0 clean",
            "policy resilient probation=9s\n0 desire B\n21s live 0",
        ),
        (
            "which configuration was found unfit",
            "policy resilient probation=9s\n0 desire A\n1s live 0\n2s unfit 0\n20s wait",
            "policy resilient probation=9s\n0 desire A\n1s live 0\n20s wait",
        ),
        (
            "when an epoch was aborted gracefully",
            "policy resilient\n0 desire A\n1s restart B\n3s wait",
            "policy resilient\n0 desire A\n2s restart B\n3s wait",
        ),
        (
            "whether two epochs run the same configuration",
            "policy default\n0 desire A\n1s live 0\n2s desire B\n3s desire A",
            "policy default\n0 desire A\n1s live 0\n2s desire B\n3s desire C",
        ),
        (
            "whether an epoch is older than a renewal",
            "policy default\n0 desire A\n1s live 0\n2s renew B\n9s wait",
            "policy default\n0 desire A\n1s live 0\n2s desire B\n9s wait",
        ),
        (
            "whether an epoch that drains was retired",
            "policy default\n0 desire A\n1s live 0\n2s stopped_serving 0\n9s wait",
            "policy default\n0 desire A\n1s live 0\n2s desire B\n3s live 1\n3s exit 1 failed\n9s wait",
        ),
        (
            "when a start was withdrawn that is alone",
            "policy default\n0 desire A\n1s terminate drain\n3s wait",
            "policy default\n0 desire A\n2s terminate drain\n3s wait",
        ),
        (
            "until when a missed deadline is put off",
            "policy default start_deadline=1s\n0 desire A\n8s! wait\n8500ms! desire B",
            "policy default start_deadline=1s\n0 desire A\n8200ms! wait\n8500ms! desire B",
        ),
    ];
    for (what, one, other) in pairs {
        assert_ne!(image(one), image(other), "{what}");
    }
}
