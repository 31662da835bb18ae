//! How a process ends: by itself once it was asked to, or by force.

use std::sync::Arc;
use std::time::Duration;

use handover_core::Abort;
use handover_process::{Reach, Stop, Stopped, WaitError};
use handover_runtime::time_limit::LATE;
use handover_tokio::{RunControl, RunError};
use tokio::time::{Instant, sleep};

use super::process::Process;
use super::running::Finish;
use super::{Program, ProgramError, drain_command, overtime};

/// For as long as it takes: the state machine bounds it.
const UNBOUNDED: Duration = Duration::MAX;

/// What a process has left of its grace when the command before its first signal has taken this long. The command is ended
/// when the grace is over, so if it has taken longer, this process did not run meanwhile: the child was asked nothing yet,
/// and has all of its time.
fn left_of(grace: Duration, command: Duration) -> Duration {
    match grace.checked_sub(command) {
        _ if grace == UNBOUNDED => UNBOUNDED,
        Some(left) => left,
        None if command.saturating_sub(grace) > LATE => grace,
        None => Duration::ZERO,
    }
}

impl Program {
    /// Lets a process finish what it is doing. Its end is then the expected one, whatever it is.
    pub(super) async fn finish(
        &self,
        process: Process<'_>,
        finish: Finish,
        control: &RunControl,
    ) -> Result<(), RunError> {
        let Process { epoch, child, .. } = process;
        let (always, longest) = match finish {
            Finish::Superseded => self.times(),
            Finish::Terminated => (UNBOUNDED, UNBOUNDED),
        };
        let over = async {
            sleep(always).await;
            overtime::over(epoch, child, &self.settings.sockets).await;
        };
        let killed_after = tokio::select! {
            biased;
            how = control.abort() => {
                self.abort(process, how, control).await?;
                return Err(RunError::Aborted);
            }
            stopped = self.stop(process, always, longest) => {
                let stopped = stopped.map_err(ProgramError::Lost)?;
                stopped.forced.then_some(longest)
            }
            () = over, if always < longest => {
                let stopped = process.kill().await.map_err(ProgramError::Lost)?;
                stopped.forced.then_some(always)
            }
        };
        if let Some(time) = killed_after {
            let time = humantime::format_duration(time);
            tracing::warn!(
                epoch = epoch.number(),
                "epoch {epoch} did not end within {time} and was killed"
            );
        }
        Ok(())
    }

    /// How long an epoch that was replaced may take in any case, and how long while it has connections.
    fn times(&self) -> (Duration, Duration) {
        let always = self.settings.drain_time;
        let longest = self.settings.drain_while_connected.unwrap_or(always);
        (always, longest.max(always))
    }

    /// Ends a process as the state machine says.
    pub(super) async fn abort(
        &self,
        process: Process<'_>,
        how: Abort,
        control: &RunControl,
    ) -> Result<(), ProgramError> {
        if how == Abort::Graceful {
            let stop = async {
                process.strays.look(process.child).await;
                process.child.stop(self.firm_stop()).await
            };
            tokio::select! {
                stopped = stop => {
                    stopped.map_err(ProgramError::Lost)?;
                    return Ok(());
                }
                () = control.abort_immediately() => {}
            }
        }
        process.kill().await.map_err(ProgramError::Lost)?;
        Ok(())
    }

    /// Tells every epoch to finish, and waits until they have ended.
    pub(super) async fn drain(&self, control: &RunControl) -> Result<(), RunError> {
        self.running.finish_all(Finish::Terminated);
        tokio::select! {
            () = self.running.empty() => Ok(()),
            _ = control.abort() => Err(RunError::Aborted),
        }
    }

    /// Asks a process to end, and kills it once its time is over. The command that prepares it has `limit`.
    pub(super) async fn stop(
        &self,
        process: Process<'_>,
        limit: Duration,
        grace: Duration,
    ) -> Result<Stopped, WaitError> {
        let Process { epoch, child, .. } = process;
        let settings = &self.settings;
        let mut left = grace;
        if let Some(command) = &settings.drain_command {
            let begun = Instant::now();
            let output = Arc::clone(&settings.output);
            drain_command::run(command, child, epoch, output, limit).await;
            left = left_of(grace, begun.elapsed());
        }
        process.strays.look(child).await;
        settings.stop.stop(process, left).await
    }

    /// What asks a process most firmly.
    fn firm_stop(&self) -> Stop {
        Stop {
            signal: self.settings.stop.firmest(),
            reach: Reach::Child,
            grace: UNBOUNDED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_takes_of_the_grace_what_it_has_run_and_not_what_handover_has_stood_still() {
        let seconds = Duration::from_secs;
        assert_eq!(left_of(seconds(8), seconds(3)), seconds(5));
        assert_eq!(left_of(seconds(8), seconds(8)), Duration::ZERO);
        assert_eq!(left_of(seconds(8), seconds(8) + LATE), Duration::ZERO);
        assert_eq!(left_of(seconds(8), seconds(10)), seconds(8));
        assert_eq!(left_of(UNBOUNDED, seconds(3)), UNBOUNDED);
    }
}
