//! A command that prepares a process for its end.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use handover_core::Epoch;
use handover_process::{Child, Command, OutputSink};
use handover_runtime::time_limit::timeout;

/// Runs the command by a shell, until it has ended, the child has, or the time is over. It finds the process id
/// of the child in `MAINPID`, the name that systemd gives it, and the number of the epoch in `RESTART_EPOCH`.
///
/// That it fails is only logged: the signals that ask the process to end follow in any case.
///
/// # Cancel safety
///
/// Dropping it kills the command with its children.
pub(super) async fn run(
    command: &OsStr,
    child: &Child,
    epoch: Epoch,
    output: Arc<dyn OutputSink>,
    limit: Duration,
) {
    let drain = async {
        let spawned = Command::new("/bin/sh")
            .arg("-c")
            .arg(command)
            .env("MAINPID", child.pid().to_string())
            .epoch(epoch.number())
            .label("drain-cmd")
            .kill_group_at_end(true)
            .shared_output(output)
            .spawn()
            .await;
        match spawned {
            Ok(command) => match command.wait().await {
                Ok(cause) if cause.success() => Ok(()),
                Ok(cause) => Err(cause.to_string()),
                Err(error) => Err(handover_tokio::error_chain(&error)),
            },
            Err(error) => Err(handover_tokio::error_chain(&error)),
        }
    };
    let drained = tokio::select! {
        drained = timeout(limit, drain) => drained,
        // Its end is what it was to be prepared for.
        _ = child.wait() => return,
    };
    let why = match drained {
        Ok(Ok(())) => return,
        Ok(Err(why)) => why,
        Err(_) => format!("it took longer than {}", humantime::format_duration(limit)),
    };
    tracing::warn!(
        epoch = epoch.number(),
        "the command that prepares epoch {epoch} for its end failed: {why}; it is asked to end all the same"
    );
}
