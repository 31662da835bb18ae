//! The states and transitions of the machine, found by trying: it explores what a machine can come
//! to under each preset, and prints what it has seen, as two Mermaid diagrams and two tables.
//!
//! `cargo xtask generate` puts its output into `docs/state-machine.md`.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use handover_core::retry::Retry;
use handover_core::{
    Abort, CANONICAL_NOW as NOW, DeadlineReason, Epoch, EpochState, Event, Exit, Input, Machine,
    Output, Phase, Policy, PolicyError, Reception, Severity, Timestamp, Urgency,
};

/// How many epochs run at once, and how many configurations are told apart, in what is explored.
const EPOCHS: usize = 3;
const CONFIGS: usize = 2;

/// From, to.
type Edge = (&'static str, &'static str);

#[derive(Default)]
struct Seen {
    epochs: BTreeMap<Edge, Transition>,
    phases: BTreeMap<Edge, Transition>,
}

/// What leads over an edge, and the outputs that always come with it.
#[derive(Default)]
struct Transition {
    causes: BTreeSet<String>,
    outputs: Option<BTreeSet<&'static str>>,
}

fn main() -> Result<(), PolicyError> {
    let mut seen = Seen::default();
    for policy in [Policy::default(), Policy::istio_1_2(), Policy::resilient()] {
        explore(policy, &mut seen)?;
    }
    print!("{}", text(&seen));
    Ok(())
}

/// Goes through every state that can be reached, each once.
fn explore(policy: Policy, seen: &mut Seen) -> Result<(), PolicyError> {
    let machine = Machine::<usize>::new(with_distinct_spans(policy))?;
    let start = machine.canonical(Timestamp::ZERO).machine;
    let mut known = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(machine) = waiting.pop() {
        for step in steps(&machine) {
            let Some(next) = take(&machine, &step, seen) else {
                continue;
            };
            let within =
                next.epochs().count() <= EPOCHS && next.canonical(NOW).configs.len() <= CONFIGS;
            if within && known.insert(format!("{next:?} {:?}", next.held())) {
                waiting.push(next);
            }
        }
    }
    Ok(())
}

/// Few retries, and spans of which no two sums coincide, so that one deadline comes at a time.
fn with_distinct_spans(policy: Policy) -> Policy {
    Policy {
        retry: Retry {
            max_retries: 1,
            // Health moves no epoch from one state to another, and its age multiplies the states.
            reset_after: None,
            ..policy.retry
        },
        // Nor does what is seen of an epoch, which only leads to the start of another.
        probation: None,
        start_deadline: policy.start_deadline.map(|_| Duration::from_millis(60_007)),
        give_way_after: policy.give_way_after.map(|_| Duration::from_millis(2_003)),
        drain_deadline: Some(Duration::from_millis(7_019)),
        ..policy
    }
}

enum Step {
    Give(Input<usize>),
    Wait(Duration, DeadlineReason),
}

fn steps(machine: &Machine<usize>) -> Vec<Step> {
    if machine.outcome().is_some() {
        return Vec::new();
    }
    let known = machine.canonical(NOW).configs.len();
    let mut inputs: Vec<_> = (0..=known).map(Input::Desire).collect();
    inputs.extend((0..=known).map(Input::Renew));
    inputs.extend((0..=known).map(Input::Restart));
    for info in machine.epochs() {
        let epoch = info.epoch;
        inputs.extend([
            Input::Live(epoch),
            Input::StoppedServing(epoch),
            Input::Released(epoch),
            Input::Withdrawn(epoch),
            Input::Exited(epoch, Exit::Clean),
            Input::Exited(epoch, Exit::Aborted),
            Input::Exited(epoch, Exit::Failed(Severity::Transient)),
            Input::Exited(epoch, Exit::Failed(Severity::Permanent)),
        ]);
    }
    inputs.extend([Urgency::Drain, Urgency::Stop, Urgency::Kill].map(Input::Terminate));
    let mut steps: Vec<_> = inputs.into_iter().map(Step::Give).collect();
    if let Some(deadline) = machine.poll_timeout() {
        steps.push(Step::Wait(deadline.at.since(NOW), deadline.reason));
    }
    steps
}

/// Takes a step and notes what it changes; nothing where the input is not accepted.
fn take(machine: &Machine<usize>, step: &Step, seen: &mut Seen) -> Option<Machine<usize>> {
    let mut next = machine.clone();
    let now = match step {
        Step::Give(input) => {
            let reception = next.handle_input(NOW, input.clone());
            if reception != Reception::Accepted {
                return None;
            }
            NOW
        }
        Step::Wait(span, _) => {
            next.handle_timeout(NOW.after(*span));
            NOW.after(*span)
        }
    };
    let outputs: Vec<_> = core::iter::from_fn(|| next.poll_output()).collect();
    note_epochs(machine, step, &outputs, &next, seen);
    let edge = (phase(machine.phase()), phase(next.phase()));
    if edge.0 != edge.1 {
        let names = outputs.iter().filter_map(|it| of_phase(it)).collect();
        note(&mut seen.phases, edge, cause(step, None), names);
    }
    Some(next.canonical(now).machine)
}

fn note_epochs(
    before: &Machine<usize>,
    step: &Step,
    outputs: &[Output<usize>],
    after: &Machine<usize>,
    seen: &mut Seen,
) {
    let ended = match step {
        Step::Give(Input::Exited(epoch, _)) => Some(*epoch),
        Step::Give(_) | Step::Wait(..) => None,
    };
    let state_in = |machine: &Machine<usize>, epoch| {
        let info = machine.epochs().find(|info| info.epoch == epoch);
        info.map_or(NONE, |info| state(info.state))
    };
    let about = |epoch| outputs.iter().filter_map(move |it| of_epoch(it, epoch));
    for info in before.epochs() {
        let epoch = info.epoch;
        let to = if ended == Some(epoch) {
            NONE
        } else {
            state_in(after, epoch)
        };
        let edge = (state(info.state), to);
        if edge.0 != edge.1 {
            // The next start may take the number of the one that has ended.
            let is_own = |name: &&str| ended != Some(epoch) || !name.starts_with("`Start");
            let names = about(epoch).filter(is_own).collect();
            note(&mut seen.epochs, edge, cause(step, Some(epoch)), names);
        }
    }
    for info in after.epochs() {
        let epoch = info.epoch;
        if state_in(before, epoch) == NONE || ended == Some(epoch) {
            let is_start = |name: &&str| name.starts_with("`Start");
            let names = about(epoch).filter(is_start).collect();
            let edge = (NONE, state(info.state));
            note(&mut seen.epochs, edge, cause(step, None), names);
        }
    }
}

fn note(
    seen: &mut BTreeMap<Edge, Transition>,
    edge: Edge,
    cause: String,
    outputs: BTreeSet<&'static str>,
) {
    let transition = seen.entry(edge).or_default();
    transition.causes.insert(cause);
    transition.outputs = Some(match &transition.outputs {
        Some(before) => before & &outputs,
        None => outputs,
    });
}

const NONE: &str = "none";

fn state(state: EpochState) -> &'static str {
    match state {
        EpochState::Starting => "Starting",
        EpochState::Live => "Live",
        EpochState::Draining => "Draining",
        EpochState::Aborting(Abort::Graceful) => "AbortingGracefully",
        EpochState::Aborting(Abort::Immediate) => "AbortingImmediately",
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "Running",
        Phase::Draining { .. } => "Draining",
        Phase::Stopping(_) => "Stopping",
        Phase::Finished(_) => "Finished",
    }
}

/// The step as it looks to an epoch `e`, or to the machine.
fn cause(step: &Step, to: Option<Epoch>) -> String {
    let whose = |epoch: &Epoch| match to {
        Some(to) if to == *epoch => "e",
        Some(to) if to < *epoch => "newer",
        Some(_) => "older",
        None => "any",
    };
    match step {
        Step::Give(Input::Desire(_)) => "`Desire`".to_owned(),
        Step::Give(Input::Renew(_)) => "`Renew`".to_owned(),
        Step::Give(Input::Restart(_)) => "`Restart`".to_owned(),
        Step::Give(Input::Live(epoch)) => format!("`Live({})`", whose(epoch)),
        Step::Give(Input::StoppedServing(epoch)) => {
            format!("`StoppedServing({})`", whose(epoch))
        }
        Step::Give(Input::Unfit(epoch)) => format!("`Unfit({})`", whose(epoch)),
        Step::Give(Input::Withdrawn(epoch)) => format!("`Withdrawn({})`", whose(epoch)),
        Step::Give(Input::Released(epoch)) => format!("`Released({})`", whose(epoch)),
        Step::Give(Input::Exited(epoch, _)) => format!("`Exited({})`", whose(epoch)),
        Step::Give(Input::Terminate(urgency)) => format!("`Terminate({urgency:?})`"),
        Step::Wait(_, reason) => match reason {
            DeadlineReason::StartDeadline(_) => "the start deadline",
            DeadlineReason::Retry => "the retry is due",
            DeadlineReason::FallbackRetry => "the retry of the fallback is due",
            DeadlineReason::Healthy(_) => "an epoch counts as healthy",
            DeadlineReason::DrainDeadline => "the drain deadline",
            DeadlineReason::Grace(_) => "the grace is over",
            DeadlineReason::GiveWay(_) => "a start gives way",
            DeadlineReason::Probation(_) => "an epoch has passed its probation",
            DeadlineReason::LateStart(_) => "the grace of a late start is over",
            DeadlineReason::Interval => "the time since the last change is over",
            DeadlineReason::Withdrawal(_) => "the grace of a withdrawn start is over",
            _ => "a deadline",
        }
        .to_owned(),
    }
}

/// What an output says of this epoch.
fn of_epoch(output: &Output<usize>, of: Epoch) -> Option<&'static str> {
    let (epoch, name) = match output {
        Output::Start { epoch, .. } => (*epoch, "`Start`"),
        Output::Abort { epoch, how } => match how {
            Abort::Graceful => (*epoch, "`Abort` gracefully"),
            Abort::Immediate => (*epoch, "`Abort` immediately"),
        },
        Output::Retire { epoch, .. } => (*epoch, "`Retire`"),
        Output::Withdraw(epoch) => (*epoch, "`Withdraw`"),
        Output::Cleanup(epoch) => (*epoch, "`Cleanup`"),
        Output::Event(Event::Started { epoch, .. }) => (*epoch, "`Started`"),
        Output::Event(Event::Live { epoch, .. }) => (*epoch, "`Live`"),
        Output::Event(Event::Superseded { epoch, .. }) => (*epoch, "`Superseded`"),
        Output::Event(Event::StoppedServing { epoch }) => (*epoch, "`StoppedServing`"),
        Output::Event(Event::Exited { epoch, .. }) => (*epoch, "`Exited`"),
        Output::Panic { .. } | Output::Finish(_) | Output::Event(_) => return None,
    };
    (epoch == of).then_some(name)
}

fn of_phase(output: &Output<usize>) -> Option<&'static str> {
    match output {
        Output::Finish(_) => Some("`Finish`"),
        Output::Event(Event::Draining { .. }) => Some("`Draining`"),
        Output::Start { .. }
        | Output::Abort { .. }
        | Output::Retire { .. }
        | Output::Withdraw(_)
        | Output::Cleanup(_)
        | Output::Panic { .. }
        | Output::Event(_) => None,
    }
}

fn text(seen: &Seen) -> String {
    let mut text = String::new();
    section(&mut text, "The life of an epoch", &seen.epochs);
    section(&mut text, "The life of the machine", &seen.phases);
    text
}

fn section(text: &mut String, title: &str, edges: &BTreeMap<Edge, Transition>) {
    let node = |name: &'static str| if name == NONE { "[*]" } else { name };
    let mut line = |line: String| writeln!(text, "{line}").unwrap_or_default();
    line(format!("## {title}\n\n```mermaid\nstateDiagram-v2"));
    for ((from, to), transition) in edges {
        let label = transition.causes.iter().map(|it| it.replace('`', ""));
        let label: Vec<_> = label.collect();
        let label = label.join(", ");
        line(format!("    {} --> {}: {label}", node(from), node(to)));
    }
    line("```\n\n| from | to | on | always comes with |\n| --- | --- | --- | --- |".to_owned());
    for ((from, to), transition) in edges {
        let causes: Vec<_> = transition.causes.iter().cloned().collect();
        let outputs: Vec<_> = transition.outputs.iter().flatten().copied().collect();
        let (causes, outputs) = (causes.join(", "), outputs.join(", "));
        line(format!("| {from} | {to} | {causes} | {outputs} |"));
    }
    line(String::new());
}
