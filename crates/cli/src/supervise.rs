//! What `run`, `exec` and `demo` have in common: threads that must be there early, and the way from the end
//! of a supervisor to an exit code.

use anyhow::Context as _;
use handover_core::Outcome;
use handover_process::{adopts_orphans, reap_orphans};
use handover_runtime::offload;
use handover_supervisor::{BuildError, Ended, Signals};
use tracing::warn;

use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::supervised::Supervisor;

/// Starts the threads that a supervisor must have later on.
///
/// # Errors
///
/// When the operating system has none left, with [`ExitCode::OS`].
pub(crate) fn prepare_threads() -> Result<(), Fatal> {
    offload::prepare()
        .context("starting the thread for work that blocks")
        .or_exit(ExitCode::OS)?;
    handover_process::prepare().or_exit(ExitCode::OS)
}

/// Runs a supervisor to its end. The flag is the one that gives a drain more time.
///
/// # Errors
///
/// Why it ended otherwise than it was asked to.
pub(crate) async fn supervise(
    supervisor: Supervisor,
    signals: Signals,
    drain_time_flag: &str,
) -> Result<ExitCode, Fatal> {
    if adopts_orphans() {
        // It ends with the runtime.
        tokio::spawn(async {
            let Err(error) = reap_orphans().await;
            warn!("orphaned processes are not collected: {error}");
        });
    }
    let ended = supervisor.run(signals).await;
    let ended = ended
        .context("serving the control socket and the status server")
        .or_exit(ExitCode::OS)?;
    let code = ExitCode::of_ended(&ended);
    match problem(&ended, drain_time_flag) {
        None => Ok(code),
        Some(problem) => Err(Fatal::new(code, anyhow::Error::msg(problem))),
    }
}

fn problem(ended: &Ended, drain_time_flag: &str) -> Option<String> {
    let problem = ended.problem()?;
    Some(match ended.ending.agent {
        Ok(Outcome::DrainTimedOut) => format!("{problem}; {drain_time_flag} sets its time"),
        _ => problem,
    })
}

impl From<BuildError> for Fatal {
    fn from(error: BuildError) -> Self {
        let code = match error {
            BuildError::Policy(_) | BuildError::AwaitsWithStandIn { .. } => ExitCode::USAGE,
            BuildError::Files(_) => ExitCode::CONFIG,
            BuildError::Watch(_) | _ => ExitCode::OS,
        };
        Self::new(code, error)
    }
}
