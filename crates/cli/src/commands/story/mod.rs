//! `handover events` and `handover logs`: what has happened, from a running instance and its state directory.

mod events;
mod lines;

use std::path::PathBuf;

use handover_supervisor::control::wire::{self, Status};
use handover_supervisor::control::{Answered, Client};

use super::control::{decoded, refused, socket_of, unanswered};
use super::report::process::Process;
use crate::cli::control::TargetArgs;
use crate::cli::story::StateDirArgs;
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

pub(super) use events::events;
pub(super) use lines::logs;

/// A running instance, and where it keeps what has happened.
struct Instance {
    socket: PathBuf,
    state_dir: Option<PathBuf>,
}

/// Finds the instance that is asked about, and its state directory if none is given.
async fn instance(target: &TargetArgs, given: &StateDirArgs) -> Result<Instance, Fatal> {
    let socket = socket_of(target)?;
    if given.state_dir.is_some() {
        return Ok(Instance {
            socket,
            state_dir: given.state_dir.clone(),
        });
    }
    let answered = Client::new(&socket).get(wire::STATUS).await;
    let status: Status = match answered.map_err(unanswered)? {
        Answered::Done(answer) => decoded(&answer)?,
        Answered::Refused(refusal) => return Err(refused(&refusal)),
    };
    // Where the process cannot be looked at, what it keeps is not found either.
    let state_dir = Process::of(status.pid).ok().and_then(|it| it.state_dir());
    Ok(Instance { socket, state_dir })
}

fn unavailable(message: String) -> Fatal {
    Fatal::new(ExitCode::UNAVAILABLE, anyhow::Error::msg(message))
}
