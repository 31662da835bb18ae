//! `handover status`, `wait`, `reload`, `apply`, `drain`, `undrain`, `stop` and `who`: what is asked of a running instance.

#[cfg(feature = "envoy")]
mod apply;
mod connections;
mod table;
mod wait;
#[cfg_attr(not(feature = "tools"), path = "control/watch_absent.rs")]
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use handover_supervisor::control::wire::{
    self, Code, DrainRequest, DrainResult, Drained, EpochState, Refusal, Released, ReloadRequest,
    ReloadResult, Reloaded, Status, StopRequest, Stopped, UndrainRequest, Until, Who, WhoRequest,
};
use handover_supervisor::control::{
    Answered, Client, ClientError, Directory, NameError, Selector, find,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::print;
use crate::cli::control::{
    DrainArgs, ReloadArgs, StatusArgs, StopArgs, TargetArgs, TimeoutArgs, UndrainArgs, WhoArgs,
};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
pub(super) use table::plain;
use table::table;

#[cfg(feature = "envoy")]
pub(super) use apply::apply;
pub(super) use wait::wait;

pub(super) async fn status(args: &StatusArgs) -> Result<ExitCode, Fatal> {
    if args.watch {
        return watch::watch(&args.target).await;
    }
    let socket = socket_of(&args.target)?;
    let answer = done(
        Client::new(&socket)
            .get(wire::STATUS)
            .await
            .map_err(unanswered)?,
    )?;
    let status: Status = decoded(&answer)?;
    if let Some(what) = args.check {
        return check(&status, what.into());
    }
    if args.json {
        // As it came, so that what a later version adds is not lost.
        print(String::from_utf8_lossy(answer.trim_ascii()))?;
    } else {
        print(table(&status))?;
    }
    Ok(match status.ready {
        true => ExitCode::CLEAN,
        false => ExitCode::CUT,
    })
}

/// Prints whether this is so, and why not.
fn check(status: &Status, what: Until) -> Result<ExitCode, Fatal> {
    let word = wait::word(what);
    if let Some(missing) = status.missing(what) {
        print(format_args!("not {word}: {}", plain(&missing)))?;
        return Ok(ExitCode::CUT);
    }
    let mut epochs = status.epochs.iter().rev();
    let live = epochs.find(|epoch| epoch.state == EpochState::Live);
    let live = live.map(|epoch| format!(": epoch {}", epoch.epoch));
    print(format_args!("{word}{}", live.unwrap_or_default()))?;
    Ok(ExitCode::CLEAN)
}

pub(super) async fn reload(args: &ReloadArgs) -> Result<ExitCode, Fatal> {
    let request = ReloadRequest {
        wait: args.wait,
        now: args.now,
        cold: args.cold,
        if_changed: args.if_changed,
        through_probation: args.through_probation,
        timeout_ms: timeout_ms(args.wait, args.timeout),
    };
    let limit = args.timeout.limit();
    let reloaded: Reloaded = post(&args.target, wire::RELOAD, &request, limit).await?;
    for released in &reloaded.released {
        print(sentence(released))?;
    }
    let change = match reloaded.changed {
        true => "the configuration has changed",
        false => "the configuration has not changed",
    };
    print(match (reloaded.result, reloaded.epoch) {
        (ReloadResult::Unchanged, _) => format!("{change}: no epoch is started"),
        (ReloadResult::Live, Some(epoch)) => format!("{change}: epoch {epoch} is live"),
        (ReloadResult::Asked | ReloadResult::Live, _) => format!("{change}: the next epoch is due"),
    })?;
    Ok(ExitCode::CLEAN)
}

pub(super) async fn drain(args: &DrainArgs) -> Result<ExitCode, Fatal> {
    let request = DrainRequest {
        wait: args.wait,
        timeout_ms: timeout_ms(args.wait, args.timeout),
    };
    let limit = args.timeout.limit();
    print_drained(post(&args.target, wire::DRAIN, &request, limit).await?)
}

pub(super) async fn undrain(args: &UndrainArgs) -> Result<ExitCode, Fatal> {
    let request = UndrainRequest {};
    print_drained(post(&args.target, wire::UNDRAIN, &request, Duration::ZERO).await?)
}

fn print_drained(drained: Drained) -> Result<ExitCode, Fatal> {
    let who = match drained.epoch {
        Some(epoch) => format!("epoch {epoch}"),
        None => "the next epoch to go live".to_owned(),
    };
    print(match drained.result {
        DrainResult::Draining => format!("{who} drains: its health checks fail"),
        DrainResult::Drained => format!("{who} drains, and no client is connected"),
        DrainResult::Undrained => format!("{who} does not drain: its health checks succeed"),
    })?;
    Ok(ExitCode::CLEAN)
}

pub(super) async fn stop(args: &StopArgs) -> Result<ExitCode, Fatal> {
    let request = StopRequest {
        now: args.now,
        wait: args.wait,
        timeout_ms: timeout_ms(args.wait, args.timeout),
    };
    let limit = args.timeout.limit();
    let stopped: Stopped = post(&args.target, wire::STOP, &request, limit).await?;
    match (stopped.outcome, stopped.exit_code) {
        (Some(outcome), Some(code)) => {
            print(format_args!(
                "ended: {} (exit code {code})",
                plain(&outcome)
            ))?;
            // What became of the end is what became of this command.
            Ok(ExitCode::passed_on(code))
        }
        _ => {
            print(match stopped.state {
                wire::State::Ended => "it has ended",
                wire::State::Stopping => "stopping without a drain",
                wire::State::Starting | wire::State::Live | wire::State::Draining => "draining",
            })?;
            Ok(ExitCode::CLEAN)
        }
    }
}

/// How long looking and closing may take, beside the way there and back.
const LOOKING: Duration = Duration::from_secs(30);

pub(super) async fn who(args: &WhoArgs) -> Result<ExitCode, Fatal> {
    let request = WhoRequest {
        epoch: args.epoch,
        sort: args.sort.into(),
        limit: Some(args.limit),
        end: args.end,
    };
    let socket = socket_of(&args.target)?;
    let answer = Client::new(&socket)
        .post(wire::WHO, &request, LOOKING)
        .await;
    let answer = done(answer.map_err(unanswered)?)?;
    let who: Who = decoded(&answer)?;
    if args.json {
        // As it came, so that what a later version adds is not lost.
        print(String::from_utf8_lossy(answer.trim_ascii()))?;
    } else {
        print(connections::text(&who, args.end))?;
    }
    Ok(match &who.ended {
        Some(ended) if ended.refused > 0 || is_blind(&who, args.epoch) => ExitCode::UNAVAILABLE,
        Some(ended) if ended.late > 0 || ended.still_held > 0 => ExitCode::CUT,
        Some(_) | None => ExitCode::CLEAN,
    })
}

/// Whether nothing was seen of an epoch whose connections were to be closed.
fn is_blind(who: &Who, named: Option<u32>) -> bool {
    let mut epochs = who.epochs.iter();
    epochs.any(|epoch| {
        let is_old = matches!(epoch.state, EpochState::Draining | EpochState::Aborting);
        epoch.connections.is_none() && (is_old || named.is_some())
    })
}

fn timeout_ms(wait: bool, timeout: TimeoutArgs) -> Option<u64> {
    wait.then(|| milliseconds(timeout.limit()))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn sentence(released: &Released) -> String {
    let Released { epoch, cut, .. } = released;
    match (cut, released.active_connections) {
        (false, _) => format!("epoch {epoch} still drains, and the next one does not wait for it"),
        (true, None) => format!("cuts what is left of epoch {epoch}"),
        (true, Some(1)) => format!("cuts 1 connection of epoch {epoch}"),
        (true, Some(connections)) => format!("cuts {connections} connections of epoch {epoch}"),
    }
}

/// The socket of the instance that is meant. A flag wins over a variable.
pub(super) fn socket_of(target: &TargetArgs) -> Result<PathBuf, Fatal> {
    let wanted = selector(target)?;
    find(&wanted, &Directory::new(target.lock_dir.clone())).or_exit(ExitCode::UNAVAILABLE)
}

/// The instance that is meant.
fn selector(target: &TargetArgs) -> Result<Selector, Fatal> {
    match (&target.socket, &target.name) {
        (Some(path), _) => Ok(Selector::Socket(path.clone())),
        (None, Some(name)) => Ok(Selector::Name(name.clone())),
        (None, None) => from_environment(),
    }
}

/// As the environment of an instance has it.
fn from_environment() -> Result<Selector, Fatal> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("HANDOVER_SOCKET") {
        if path == "none" {
            let error = anyhow::anyhow!(
                "HANDOVER_SOCKET is `none`: name the instance with --socket or --name"
            );
            return Err(Fatal::new(ExitCode::UNAVAILABLE, error));
        }
        return Ok(Selector::Socket(path.into()));
    }
    match variable("HANDOVER_NAME") {
        None => Ok(Selector::Only),
        Some(name) => {
            let name = name.to_string_lossy().parse();
            Ok(Selector::Name(name.map_err(|problem: NameError| {
                Fatal::usage(format_args!("HANDOVER_NAME is no name: {problem}"))
            })?))
        }
    }
}

async fn post<T: DeserializeOwned>(
    target: &TargetArgs,
    path: &'static str,
    request: &impl Serialize,
    limit: Duration,
) -> Result<T, Fatal> {
    let socket = socket_of(target)?;
    let answer = Client::new(&socket).post(path, request, limit).await;
    let answer = answer.map_err(unanswered)?;
    decoded(&done(answer)?)
}

/// What was done; or why it was not, with what else there is to say.
fn done(answer: Answered) -> Result<Bytes, Fatal> {
    match answer {
        Answered::Done(answer) => Ok(answer),
        Answered::Refused(refusal) => Err(refused(&refusal)),
    }
}

/// Why there is no answer.
pub(super) fn unanswered(error: ClientError) -> Fatal {
    let code = match error {
        ClientError::TimedOut { .. } => ExitCode::CUT,
        ClientError::Request(_) => ExitCode::INTERNAL,
        ClientError::Unreachable { .. }
        | ClientError::NotBelieved { .. }
        | ClientError::BrokenOff { .. }
        | ClientError::NotUnderstood { .. }
        | _ => ExitCode::UNAVAILABLE,
    };
    Fatal::new(code, error)
}

/// The exit code of a command that was refused.
fn code_of(code: Code) -> ExitCode {
    match code {
        Code::Rejected => ExitCode::CONFIG,
        Code::TimedOut => ExitCode::CUT,
        Code::BadRequest
        | Code::NotFound
        | Code::UnknownVersion
        | Code::MethodNotAllowed
        | Code::TooLarge
        | Code::Forbidden
        | Code::NotSupported
        | Code::Ending
        | Code::Replaced
        | Code::Failed
        | Code::Busy
        | Code::Other => ExitCode::UNAVAILABLE,
    }
}

pub(super) fn refused(refusal: &Refusal) -> Fatal {
    let mut message = plain(&refusal.message);
    for line in &refusal.lines {
        message.push('\n');
        message.push_str(&plain(line));
    }
    Fatal::new(code_of(refusal.code), anyhow::Error::msg(message))
}

pub(super) fn decoded<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Fatal> {
    serde_json::from_slice(answer)
        .context("the answer of the instance cannot be parsed; is it another version of handover?")
        .or_exit(ExitCode::UNAVAILABLE)
}
