//! `handover simulate`: the state machine by itself, from a script.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use handover_core::{
    Abort, EpochInfo, EpochState, Event, Exit, GaveUp, Outcome, Output, Phase, Purpose, Reception,
    Severity, Target,
};
use handover_core_testing::scenario::{RunError, Scenario, Step, Transcript, What};
use serde_json::{Value, json};

use crate::cli::simulate::SimulateArgs;
use crate::escape::escaped;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

pub(super) fn run(args: &SimulateArgs) -> Result<ExitCode, Fatal> {
    let script = read(&args.script).or_exit(ExitCode::CONFIG)?;
    let name = name(&args.script);
    let scenario = Scenario::parse(&script)
        .with_context(|| format!("reading the script {name}"))
        .or_exit(ExitCode::CONFIG)?;
    let transcript = match scenario.run() {
        Ok(transcript) => transcript,
        Err(RunError::Violation(before, violation)) => {
            show(&before, args.json)?;
            let error = anyhow::Error::new(violation).context(format!(
                "the machine broke an invariant in the step after those shown, running {name}"
            ));
            return Err(Fatal::new(ExitCode::CONFIG, error));
        }
        Err(error @ (RunError::Policy(_) | RunError::TooLarge { .. })) => {
            let error = anyhow::Error::new(error).context(format!("running the script {name}"));
            return Err(Fatal::new(ExitCode::CONFIG, error));
        }
    };
    show(&transcript, args.json)?;
    Ok(ExitCode::CLEAN)
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return read_all(std::io::stdin()).context("reading the script from standard input");
    }
    std::fs::File::open(path)
        .and_then(read_all)
        .with_context(|| format!("reading the script {}", path.display()))
}

/// The largest script that is read, in bytes.
const MAX_SCRIPT: u64 = 16 << 20;

/// Reads to the end, within limits: not each file has one.
fn read_all(file: impl std::io::Read) -> std::io::Result<String> {
    let mut script = String::new();
    let read = file.take(MAX_SCRIPT + 1).read_to_string(&mut script)?;
    if u64::try_from(read).is_ok_and(|read| read <= MAX_SCRIPT) {
        Ok(script)
    } else {
        let message = format!("it is larger than {MAX_SCRIPT} bytes");
        Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            message,
        ))
    }
}

fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "from standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn show(transcript: &Transcript, as_json: bool) -> Result<(), Fatal> {
    if as_json {
        let steps: Vec<Value> = transcript.steps.iter().map(step).collect();
        let object = json!({ "title": transcript.title, "steps": steps });
        super::print(format_args!("{object:#}"))
    } else {
        super::print(escaped(transcript.to_string().trim_end(), &['\n']))
    }
}

fn step(step: &Step) -> Value {
    let reception = match step.what {
        What::Input(_, reception) => reception_of(reception),
        What::Timeout(_) => Value::Null,
    };
    let (input, timeout) = match &step.what {
        What::Input(..) => (Value::from(step.what.to_string()), Value::Null),
        What::Timeout(_) => (Value::Null, Value::from(step.what.to_string())),
    };
    json!({
        "at_ms": millis(step.at.elapsed()),
        "input": input,
        "timeout": timeout,
        "reception": reception,
        "outputs": step.outputs.iter().map(output).collect::<Vec<_>>(),
        "phase": phase(step.phase),
        "epochs": step.epochs.iter().map(epoch).collect::<Vec<_>>(),
        "desired": step.desired,
        "current": step.current,
        "retries_left": step.retries_left,
        "held": step.held.map(|held| held.to_string()),
        "deadline": step.deadline.map(|deadline| json!({
            "at_ms": millis(deadline.at.elapsed()),
            "reason": deadline.reason.to_string(),
        })),
    })
}

fn reception_of(reception: Reception) -> Value {
    match reception {
        Reception::Accepted => json!({ "accepted": true }),
        Reception::Ignored(why) => json!({ "accepted": false, "ignored": why.to_string() }),
        Reception::Denied(why) => json!({ "accepted": false, "denied": why.to_string() }),
    }
}

fn output(output: &Output<String>) -> Value {
    match output {
        Output::Start { epoch, target } => {
            let config = match target {
                Target::Serve(config) => Some(config),
                Target::Drain => None,
            };
            json!({ "command": "start", "epoch": epoch.number(), "config": config,
                    "target": if config.is_some() { "serve" } else { "drain" } })
        }
        Output::Abort { epoch, how } => {
            json!({ "command": "abort", "epoch": epoch.number(), "how": abort(*how) })
        }
        Output::Retire { epoch, by } => {
            json!({ "command": "retire", "epoch": epoch.number(), "by": by.number() })
        }
        Output::Withdraw(epoch) => json!({ "command": "withdraw", "epoch": epoch.number() }),
        Output::Cleanup(epoch) => json!({ "command": "cleanup", "epoch": epoch.number() }),
        Output::Panic { config, epoch } => {
            json!({ "command": "panic", "config": config, "epoch": epoch.number() })
        }
        Output::Finish(outcome) => {
            json!({ "command": "finish", "outcome": outcome_name(*outcome), "text": outcome.to_string() })
        }
        Output::Event(event) => event_of(event),
    }
}

fn event_of(event: &Event) -> Value {
    match event {
        Event::Started { epoch, purpose } => {
            json!({ "event": "started", "epoch": epoch.number(), "purpose": purpose_of(*purpose) })
        }
        Event::Live { epoch, after } => {
            json!({ "event": "live", "epoch": epoch.number(), "after_ms": millis(*after) })
        }
        Event::Superseded { epoch, by } => {
            json!({ "event": "superseded", "epoch": epoch.number(), "by": by.number() })
        }
        Event::StoppedServing { epoch } => {
            json!({ "event": "stopped_serving", "epoch": epoch.number() })
        }
        Event::WokeLate { late } => json!({ "event": "woke_late", "late_ms": millis(*late) }),
        Event::StartTimedOut { epoch } => {
            json!({ "event": "start_timed_out", "epoch": epoch.number() })
        }
        Event::GivesWay { epoch, after } => json!({
            "event": "gives_way", "epoch": epoch.number(), "after_ms": millis(*after),
        }),
        Event::Exited { epoch, exit, was } => json!({
            "event": "exited", "epoch": epoch.number(), "exit": exit_of(*exit), "was": state(*was),
        }),
        Event::RetryScheduled {
            purpose,
            delay,
            retries_left,
        } => json!({
            "event": "retry_scheduled", "purpose": purpose_of(*purpose),
            "delay_ms": millis(*delay), "retries_left": retries_left,
        }),
        Event::BudgetRefilled {
            epoch,
            retries_left,
        } => json!({
            "event": "budget_refilled", "epoch": epoch.number(), "retries_left": retries_left,
        }),
        Event::ProbationPassed { epoch } => {
            json!({ "event": "probation_passed", "epoch": epoch.number() })
        }
        Event::Unfit { epoch, replaced } => json!({
            "event": "unfit", "epoch": epoch.number(), "replaced": replaced,
        }),
        Event::BeyondCap { epoch, running } => json!({
            "event": "beyond_cap", "epoch": epoch.number(), "running": running,
        }),
        Event::Restarting => json!({ "event": "restarting" }),
        Event::Held(held) => json!({ "event": "held", "why": held.to_string() }),
        Event::GaveUp {
            epoch,
            why,
            holding,
        } => json!({
            "event": "gave_up", "epoch": epoch.number(), "holding": holding,
            "why": match why {
                GaveUp::BudgetSpent => "budget_spent",
                GaveUp::Permanent => "permanent",
                GaveUp::Unfit => "unfit",
                _ => "other",
            },
        }),
        Event::FallbackLost { epoch } => {
            json!({ "event": "fallback_lost", "epoch": epoch.number() })
        }
        Event::NotRestarted { epoch } => json!({ "event": "stayed", "epoch": epoch.number() }),
        Event::Draining { until } => json!({
            "event": "draining", "until_ms": until.map(|until| millis(until.elapsed())),
        }),
        Event::DrainTimedOut => json!({ "event": "drain_timed_out" }),
        event => json!({ "event": format!("{event:?}") }),
    }
}

fn epoch(info: &EpochInfo) -> Value {
    json!({
        "epoch": info.epoch.number(),
        "state": state(info.state),
        "purpose": purpose_of(info.purpose),
        "desired": info.desired,
        "released": info.released,
        "withdrawn": info.withdrawn, "on_probation": info.on_probation, "unfit": info.unfit,
        "started_ms": millis(info.started.elapsed()),
    })
}

fn state(state: EpochState) -> &'static str {
    match state {
        EpochState::Starting => "starting",
        EpochState::Live => "live",
        EpochState::Draining => "draining",
        EpochState::Aborting(Abort::Graceful) => "aborting_gracefully",
        EpochState::Aborting(Abort::Immediate) => "aborting_immediately",
    }
}

fn abort(how: Abort) -> &'static str {
    match how {
        Abort::Graceful => "graceful",
        Abort::Immediate => "immediate",
    }
}

fn purpose_of(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Desired => "desired",
        Purpose::Fallback => "fallback",
        Purpose::Drain => "drain",
    }
}

fn exit_of(exit: Exit) -> &'static str {
    match exit {
        Exit::Clean => "clean",
        Exit::Aborted => "aborted",
        Exit::Failed(Severity::Transient) => "failed",
        Exit::Failed(Severity::Permanent) => "permanent",
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Draining { .. } => "draining",
        Phase::Stopping(_) => "stopping",
        Phase::Finished(_) => "finished",
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Drained => "drained",
        Outcome::DrainTimedOut => "drain_timed_out",
        Outcome::DrainSkipped => "drain_skipped",
        Outcome::DrainFailed => "drain_failed",
        Outcome::Killed => "killed",
        Outcome::GaveUp { .. } => "gave_up",
        Outcome::ProxyEnded { .. } => "proxy_ended",
        _ => "other",
    }
}

/// With a fraction where there is one.
fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}
