//! Running a short-lived program to its end, within limits of time and of output.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::rejection_reason::RejectionReason;
use handover_process::{Child, Command, ExitCause, Line, RunAs, Signal, SpawnError, Stream};

/// How much is kept of each output stream: its end, where programs say why they fail.
const KEPT: usize = 64 << 10;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Why Envoy does not accept its configuration, where it says so.
    pub(crate) reason: Option<String>,
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum CaptureError {
    Spawn(io::Error),
    Wait(io::Error),
    TimedOut,
}

/// Runs a program. Its status is not lost to a supervisor that collects orphans, as that of a child
/// made in any other way would be.
///
/// # Cancel safety
///
/// Dropping it kills the program.
pub(crate) async fn capture(
    binary: &Path,
    args: &[OsString],
    run_as: &RunAs,
    limit: Duration,
) -> Result<Captured, CaptureError> {
    let said = Said::default();
    let run = async {
        let child = spawn(binary, args, run_as, &said)
            .await
            .map_err(io::Error::other);
        let cause = child.map_err(CaptureError::Spawn)?.wait().await;
        cause.map_err(|error| CaptureError::Wait(io::Error::other(error)))
    };
    match handover_runtime::time_limit::timeout(limit, run).await {
        Ok(cause) => Ok(Captured {
            status: exit_status(cause?),
            stdout: said.text(Stream::Stdout),
            stderr: said.text(Stream::Stderr),
            reason: said.heard.reason(),
        }),
        Err(_elapsed) => Err(CaptureError::TimedOut),
    }
}

/// How a child ended, as the standard library has it. Want of memory is a SIGKILL there.
pub(crate) fn exit_status(cause: ExitCause) -> ExitStatus {
    ExitStatus::from_raw(match cause {
        ExitCause::Code(code) => code << 8,
        // The bit by which the kernel tells of a core dump.
        ExitCause::Signal {
            number,
            core_dumped: true,
        } => number | 0x80,
        ExitCause::Signal {
            number,
            core_dumped: false,
        } => number,
        ExitCause::OutOfMemory => Signal::KILL.number(),
    })
}

async fn spawn(
    binary: &Path,
    args: &[OsString],
    run_as: &RunAs,
    said: &Said,
) -> Result<Child, SpawnError> {
    let mut attempts = 0;
    loop {
        let sink = said.clone();
        let command = Command::new(binary)
            .args(args.iter().cloned())
            .kill_group_at_end(true)
            .run_as(run_as.clone())
            .output(move |line: &Line<'_>| sink.take(line));
        match command.spawn().await {
            // Somebody has the file open for writing: it is being replaced, or another thread was
            // between fork and exec while it was. Either is over in a moment.
            Err(SpawnError::Busy { .. }) if attempts < 20 => {
                attempts += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            result => return result,
        }
    }
}

/// The end of what a program has written to each stream.
#[derive(Clone, Default)]
struct Said {
    ends: Arc<Mutex<Ends>>,
    heard: RejectionReason,
}

#[derive(Default)]
struct Ends {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Said {
    fn take(&self, line: &Line<'_>) {
        self.heard.take(line);
        let mut ends = self.lock();
        let kept = match line.stream {
            Stream::Stdout => &mut ends.stdout,
            Stream::Stderr => &mut ends.stderr,
        };
        kept.extend_from_slice(line.bytes);
        if !line.continues {
            kept.push(b'\n');
        }
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }

    fn text(&self, stream: Stream) -> String {
        let ends = self.lock();
        let kept = match stream {
            Stream::Stdout => &ends.stdout,
            Stream::Stderr => &ends.stderr,
        };
        let end = kept.len().saturating_sub(KEPT);
        String::from_utf8_lossy(kept.get(end..).unwrap_or_default()).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        // Bytes are whole whenever the lock is free, whatever has panicked.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    /// A program of the test's own: a shell script.
    pub(crate) fn script(dir: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = dir.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub(crate) fn dir() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn of_endless_output_the_end_is_kept() {
        let dir = dir();
        let program = script(
            &dir,
            "yes | head -c 1000000 >&2; printf end >&2; printf out",
        );
        let captured = capture(&program, &[], &RunAs::new(), LONG).await.unwrap();
        assert_eq!(captured.stderr.len(), KEPT);
        assert!(captured.stderr.ends_with("y\nend\n"));
        assert_eq!(captured.stdout, "out\n");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_at_the_limit() {
        let dir = dir();
        let pid_file = dir.path().join("pid");
        let program = script(
            &dir,
            &format!("echo $$ > {}; exec sleep 600", pid_file.display()),
        );
        let result = capture(&program, &[], &RunAs::new(), Duration::from_millis(300)).await;
        assert!(matches!(result, Err(CaptureError::TimedOut)));
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        for _ in 0..1000 {
            // Killed means gone, or a zombie that tokio has not reaped yet.
            match std::fs::read_to_string(&stat) {
                Ok(stat) if !stat.contains(") Z ") => {}
                Ok(_) | Err(_) => return,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the program {pid} still runs");
    }
}
