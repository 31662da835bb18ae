//! A process that a measure has started: its output is in a file, and it ends with the value.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::clock;

/// Variables that configure a supervisor, beside all that begin with `HANDOVER_`.
const CLEARED: [&str; 8] = [
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "RESTART_EPOCH",
    "RUST_LOG",
    "WATCHDOG_USEC",
];

/// After this time an end by SIGTERM becomes one by SIGKILL.
const GRACE: Duration = Duration::from_secs(3);

/// How many of the last lines of a process an error shows.
const SHOWN_LINES: usize = 3;

/// A running process.
#[derive(Debug)]
pub(crate) struct Started {
    child: Child,
    handle: OwnedFd,
    log: PathBuf,
    /// The monotonic clock directly before the start.
    pub(crate) at: u64,
}

impl Started {
    /// Starts a program without input, whose output goes to the file `log`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HANDOVER_") {
                command.env_remove(name);
            }
        }
        for name in CLEARED {
            command.env_remove(name);
        }
        let (output, _) = fs_err::File::create(&log)?.into_parts();
        let errors = output.try_clone().context("duplicating a descriptor")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let at = clock::now();
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let handle = open(child.id()).context("opening a handle of a child")?;
        Ok(Self {
            child,
            handle,
            log,
            at,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(&self.handle, signal)
            .with_context(|| format!("sending {signal:?}{}", self.last_words()))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// When it has not ended within the limit.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        if !ends_within(&self.handle, limit) {
            bail!(
                "process {} did not end in {limit:?}{}",
                self.pid(),
                self.last_words()
            );
        }
        self.child.wait().context("collecting a child")
    }

    pub(crate) fn has_ended(&self) -> bool {
        ends_within(&self.handle, Duration::ZERO)
    }

    /// Its last lines, for the message of an error.
    pub(crate) fn last_words(&self) -> String {
        let text = fs_err::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..);
        match shown.unwrap_or_default() {
            [] => "; it has printed nothing".to_owned(),
            lines => format!("; it has printed: {}", lines.join(" | ")),
        }
    }

    /// Asks it to end, and ends it if it does not.
    pub(crate) fn stop(&mut self) {
        // One that has ended is what is wanted.
        let _ended = pidfd_send_signal(&self.handle, Signal::TERM);
        if !ends_within(&self.handle, GRACE) {
            let _ended = pidfd_send_signal(&self.handle, Signal::KILL);
        }
        let _status = self.child.wait();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.stop();
        }
    }
}

/// A process that a supervisor has started.
#[derive(Debug)]
pub(crate) struct Grandchild {
    handle: OwnedFd,
}

impl Grandchild {
    /// The process with this id, if its program is `program`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(crate) fn find(pid: u32, program: &Path) -> Result<Self> {
        let handle = open(pid).with_context(|| format!("opening a handle of process {pid}"))?;
        // Read after the handle is fixed to one process, so that no other process can be meant.
        let running = fs_err::read_link(format!("/proc/{pid}/exe"))?;
        if running != program {
            bail!("process {pid} runs {}", running.display());
        }
        Ok(Self { handle })
    }

    /// Kills it, and returns the time directly before.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub(crate) fn kill(&self) -> Result<u64> {
        let at = clock::now();
        pidfd_send_signal(&self.handle, Signal::KILL).context("killing a child")?;
        Ok(at)
    }

    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        ends_within(&self.handle, limit)
    }
}

fn open(pid: u32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("0 is no process id")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// The handle of a process becomes readable when the process ends.
fn ends_within(handle: &OwnedFd, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut descriptors = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Runs a program to its end, and returns how long that took, in milliseconds.
///
/// # Errors
///
/// When it does not succeed within the limit.
pub(crate) fn time_of(command: Command, log: PathBuf, limit: Duration) -> Result<f64> {
    let mut started = Started::start(command, log)?;
    let status = started.wait(limit)?;
    let took = clock::milliseconds(started.at, clock::now());
    if !status.success() {
        let signal = status.signal();
        let how = signal.map_or_else(|| status.to_string(), |number| format!("signal {number}"));
        bail!("it ended with {how}{}", started.last_words());
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_its_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = || directory.path().join("log");
        let error = time_of(shell("echo one; echo two >&2; exit 3"), log(), LIMIT).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it ended with exit status: 3; it has printed: one | two"
        );
        let error = time_of(shell("kill -9 $$"), log(), LIMIT).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it ended with signal 9; it has printed nothing"
        );
        assert!(time_of(shell("exit 0"), log(), LIMIT).unwrap() > 0.0);
    }

    #[test]
    fn what_does_not_end_by_itself_ends_with_the_value() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut started = Started::start(shell("exec sleep 1000"), log).unwrap();
        let pid = started.pid();
        let error = started
            .wait(Duration::from_millis(1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("did not end in 1ms"), "{error}");
        drop(started);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_process_of_another_program_is_not_ended() {
        let error = Grandchild::find(std::process::id(), Path::new("/other")).unwrap_err();
        assert!(error.to_string().contains(" runs "), "{error}");
    }
}
