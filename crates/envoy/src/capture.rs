//! Running a short-lived program to its end, within limits of time and of output.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// How much is kept of each output stream: its end, where programs say why they fail.
const KEPT: usize = 64 << 10;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum CaptureError {
    Spawn(io::Error),
    Wait(io::Error),
    TimedOut,
}

/// Runs a program without standard input.
///
/// # Cancel safety
///
/// Dropping it kills the program.
pub(crate) async fn capture(
    binary: &Path,
    args: &[OsString],
    limit: Duration,
) -> Result<Captured, CaptureError> {
    let run = async {
        let mut child = spawn(binary, args).await.map_err(CaptureError::Spawn)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr, status) = tokio::join!(last_of(stdout), last_of(stderr), child.wait());
        Ok(Captured {
            status: status.map_err(CaptureError::Wait)?,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    };
    match tokio::time::timeout(limit, run).await {
        Ok(result) => result,
        Err(_elapsed) => Err(CaptureError::TimedOut),
    }
}

async fn spawn(binary: &Path, args: &[OsString]) -> io::Result<tokio::process::Child> {
    let mut command = Command::new(binary);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // "Text file busy" means that somebody has the file open for writing: it is being replaced, or
    // another thread was between fork and exec while it was. Either is over in a moment.
    for _ in 0..20 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            result => return result,
        }
    }
    command.spawn()
}

/// Reads a stream to its end and keeps the last [`KEPT`] bytes. A stream that breaks ends there.
async fn last_of(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return kept;
    };
    let mut chunk = vec![0; 8 << 10];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
    kept.drain(..kept.len().saturating_sub(KEPT));
    kept
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
        let captured = capture(&program, &[], LONG).await.unwrap();
        assert_eq!(captured.stderr.len(), KEPT);
        assert!(captured.stderr.ends_with("y\nend"));
        assert_eq!(captured.stdout, "out");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_at_the_limit() {
        let dir = dir();
        let pid_file = dir.path().join("pid");
        let program = script(
            &dir,
            &format!("echo $$ > {}; exec sleep 600", pid_file.display()),
        );
        let result = capture(&program, &[], Duration::from_millis(300)).await;
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
