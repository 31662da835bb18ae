//! What the user wants to see of an epoch on probation.

use std::collections::VecDeque;
use std::error::Error;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_core::Epoch;
use handover_process::ready::Probe;
use handover_process::{Command, ExitCause, Line};
use handover_runtime::Shortage;
use handover_runtime::time_limit::timeout;
use handover_tokio::error_chain;

use crate::operator::{ProbeResult, Probed};

/// So many lines of a command are shown.
const LINES: usize = 3;
/// So many characters of a line are shown.
const LONGEST_LINE: usize = 200;

/// A probe that is made once a second while an epoch is on probation. If it fails several times in a row,
/// the epoch is unfit.
#[derive(Clone, Debug)]
pub struct Verify {
    name: String,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Network(Probe),
    Command(OsString),
}

impl Verify {
    /// Returns a verification by this probe. `name` is what it is called in reports.
    pub fn probe(name: impl Into<String>, probe: Probe) -> Self {
        Self {
            name: name.into(),
            how: How::Network(probe),
        }
    }

    /// Returns a verification by a command for `/bin/sh -c`, which succeeds with exit code 0. `name` is what
    /// it is called in reports.
    ///
    /// The command finds the number of the epoch in `HANDOVER_EPOCH`. It has a process group of its own,
    /// which is killed once the command has ended or the time limit has passed. The codes 126 and 127, by
    /// which a shell reports that it could not run something, prove nothing.
    pub fn command(name: impl Into<String>, command: impl Into<OsString>) -> Self {
        Self {
            name: name.into(),
            how: How::Command(command.into()),
        }
    }

    /// Makes the probe once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the probe, and the command with its children.
    pub(crate) async fn make(&self, epoch: Epoch, limit: Duration) -> Probed {
        let result = match &self.how {
            How::Network(probe) => match probe.check_within(limit).await {
                Ok(()) => ProbeResult::Passed,
                Err(error) => result_of(&error),
            },
            How::Command(command) => run(command, epoch, limit).await,
        };
        Probed {
            name: self.name.clone(),
            result,
        }
    }
}

/// What a probe has shown that has ended with this error. A shortage here says nothing of the server.
fn result_of(error: &(dyn Error + 'static)) -> ProbeResult {
    let problem = error_chain(error);
    match Shortage::of(error) {
        Some(_) => ProbeResult::Unknown(problem),
        None => ProbeResult::Failed(problem),
    }
}

async fn run(command: &OsString, epoch: Epoch, limit: Duration) -> ProbeResult {
    let said = LastLines::default();
    let lines = said.clone();
    let command = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env("HANDOVER_EPOCH", epoch.number().to_string())
        .kill_group_at_end(true)
        .output(move |line: &Line<'_>| lines.take(line));
    let work = async {
        let child = command.spawn().await.map_err(|error| error_chain(&error))?;
        child.wait().await.map_err(|error| error_chain(&error))
    };
    // At the limit the child is dropped, which kills its group.
    match timeout(limit, work).await {
        Ok(Ok(ExitCause::Code(0))) => ProbeResult::Passed,
        Ok(Ok(cause @ ExitCause::Code(126 | 127))) => ProbeResult::Unknown(said.after(cause)),
        Ok(Ok(cause)) => ProbeResult::Failed(said.after(cause)),
        Ok(Err(problem)) => ProbeResult::Unknown(problem),
        Err(_) => ProbeResult::Failed(said.after(format!("not done within {limit:?}"))),
    }
}

/// The last lines that a command has written.
#[derive(Clone, Default)]
pub(crate) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    pub(crate) fn take(&self, line: &Line<'_>) {
        let text = String::from_utf8_lossy(line.bytes);
        let text: String = text.trim().chars().take(LONGEST_LINE).collect();
        if text.is_empty() {
            return;
        }
        // Lines are whole whenever the lock is free, whatever has panicked.
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(text);
        if lines.len() > LINES {
            lines.pop_front();
        }
    }

    /// Returns what has happened, and the last lines behind it.
    pub(crate) fn after(&self, what: impl std::fmt::Display) -> String {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = lines.make_contiguous().join(" | ");
        match lines.is_empty() {
            true => what.to_string(),
            false => format!("{what}: {lines}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than any of these takes on a busy machine.
    const LIMIT: Duration = Duration::from_secs(60);

    async fn made(command: &str, limit: Duration) -> ProbeResult {
        let verify = Verify::command("--verify", command);
        verify.make(Epoch::new(7), limit).await.result
    }

    fn failed(what: &str) -> ProbeResult {
        ProbeResult::Failed(what.to_owned())
    }

    #[tokio::test]
    async fn a_command_passes_with_0_and_fails_with_its_last_lines() {
        assert_eq!(
            made("test $HANDOVER_EPOCH = 7", LIMIT).await,
            ProbeResult::Passed
        );
        let says = "echo one; echo two; echo; echo three; echo four; exit 3";
        let expected = failed("exited with code 3: two | three | four");
        assert_eq!(made(says, LIMIT).await, expected);
        assert_eq!(made("exit 1", LIMIT).await, failed("exited with code 1"));
    }

    #[test]
    fn a_shortage_here_proves_nothing_of_the_server() {
        let refused =
            std::io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert!(matches!(result_of(&refused), ProbeResult::Failed(_)));
        let no_descriptor =
            std::io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        assert!(matches!(result_of(&no_descriptor), ProbeResult::Unknown(_)));
    }

    #[tokio::test]
    async fn what_the_shell_cannot_run_proves_nothing() {
        let ProbeResult::Unknown(why) = made("there-is-no-such-command-here", LIMIT).await else {
            panic!("it counts");
        };
        assert!(why.starts_with("exited with code 127: "), "{why}");
        assert!(why.contains("there-is-no-such-command-here"), "{why}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_has_failed_and_its_children_are_ended() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!(
            "sleep 600 & echo $$ $! > {}; echo asked; wait",
            pids.display()
        );
        let result = made(&script, Duration::from_secs(2)).await;
        assert_eq!(result, failed("not done within 2s: asked"));
        let pids = std::fs::read_to_string(pids).unwrap();
        for pid in pids.split_whitespace() {
            ends(pid).await;
        }
    }

    #[tokio::test]
    async fn a_child_that_a_command_leaves_behind_is_ended_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; exit 0", pid.display());
        assert_eq!(made(&script, LIMIT).await, ProbeResult::Passed);
        ends(std::fs::read_to_string(pid).unwrap().trim()).await;
    }

    /// Waits until the process has ended: it is gone, or a zombie that somebody else collects.
    async fn ends(pid: &str) {
        let path = format!("/proc/{pid}/stat");
        let gone = async {
            loop {
                match std::fs::read_to_string(&path) {
                    Ok(stat) if !stat.contains(") Z ") => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    _ => break,
                }
            }
        };
        let in_time = tokio::time::timeout(LIMIT, gone).await;
        in_time.unwrap_or_else(|_| panic!("process {pid} still runs"));
    }
}
