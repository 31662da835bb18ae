//! `handover wait`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use handover_supervisor::control::wire::{self, Code, Until, WaitRequest, WaitResult, Waited};
use handover_supervisor::control::{Answered, Client, ClientError, Directory, FindError, find};
use tokio::time::{Instant, sleep};

use super::{decoded, refused, selector, unanswered};
use crate::cli::control::{TargetArgs, WaitArgs};
use crate::commands::control::table::plain;
use crate::commands::print;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

/// The pause between two looks for an instance that is not there yet.
const PAUSE: Duration = Duration::from_millis(100);
/// The least time that an instance gets for an answer: it has to look at its processes.
const LEAST: Duration = Duration::from_secs(1);

pub(crate) async fn wait(args: &WaitArgs) -> Result<ExitCode, Fatal> {
    let begun = Instant::now();
    loop {
        let left = args.timeout.saturating_sub(begun.elapsed());
        let missing = match socket_of(&args.target)? {
            Instance::NotThere(why) => why,
            Instance::At(socket) => match ask(args, &socket, left.max(LEAST)).await? {
                Asked::Answered(waited) => return ended(args.until(), &waited),
                Asked::NotThere(why) => why,
            },
        };
        if left.is_zero() {
            let limit = humantime::format_duration(args.timeout);
            let error = anyhow::anyhow!("no instance to wait for within {limit}: {missing}");
            return Err(Fatal::new(ExitCode::CUT, error));
        }
        sleep(PAUSE.min(left)).await;
    }
}

enum Instance {
    At(PathBuf),
    /// It has yet to start, or another one has ended there. Why it is thought so.
    NotThere(String),
}

fn socket_of(target: &TargetArgs) -> Result<Instance, Fatal> {
    match find(&selector(target)?, &Directory::new(target.lock_dir.clone())) {
        Ok(socket) => Ok(Instance::At(socket)),
        Err(error @ FindError::NotRunning(_)) => Ok(Instance::NotThere(error.to_string())),
        Err(error) => Err(error).or_exit(ExitCode::UNAVAILABLE),
    }
}

enum Asked {
    Answered(Waited),
    NotThere(String),
}

async fn ask(args: &WaitArgs, socket: &std::path::Path, limit: Duration) -> Result<Asked, Fatal> {
    let request = WaitRequest {
        until: args.until(),
        timeout_ms: Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
    };
    match Client::new(socket).post(wire::WAIT, &request, limit).await {
        Ok(Answered::Done(answer)) => Ok(Asked::Answered(decoded(&answer)?)),
        Ok(Answered::Refused(refusal)) if refusal.code == Code::NotFound => {
            let error = anyhow::anyhow!(
                "the instance at {} is an older handover, which cannot be waited for: repeat `handover \
                 status` until it ends with 0",
                socket.display()
            );
            Err(Fatal::new(ExitCode::UNAVAILABLE, error))
        }
        Ok(Answered::Refused(refusal)) => Err(refused(&refusal)),
        Err(error) if is_not_there(&error) => Ok(Asked::NotThere(error.to_string())),
        Err(error) => Err(unanswered(error)),
    }
}

/// Whether nobody listens at the socket: it is not there yet, or was left by an instance that was killed.
fn is_not_there(error: &ClientError) -> bool {
    let ClientError::Unreachable { source, .. } = error else {
        return false;
    };
    let kind = source.kind();
    kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused
}

fn ended(until: Until, waited: &Waited) -> Result<ExitCode, Fatal> {
    if waited.result == WaitResult::Ended {
        let outcome = waited.outcome.as_deref().map(plain).unwrap_or_default();
        let code = match waited.exit_code {
            // What was waited for has not happened.
            None | Some(0) => ExitCode::UNAVAILABLE,
            Some(code) => ExitCode::passed_on(code),
        };
        let error = anyhow::anyhow!("the instance has ended: {outcome}");
        return Err(Fatal::new(code, error));
    }
    let epoch = waited.epoch.map(|epoch| epoch.to_string());
    let epoch = epoch.unwrap_or_else(|| "?".to_owned());
    print(format_args!("{}: epoch {epoch}", word(until)))?;
    Ok(ExitCode::CLEAN)
}

/// What is waited for, in a word.
pub(super) fn word(until: Until) -> &'static str {
    match until {
        Until::Ready => "ready",
        Until::Live => "live",
        Until::Current => "current",
    }
}
