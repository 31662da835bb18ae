//! A process under test: its output is kept, its descendants are known, and nothing outlives it.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
pub use rustix::process::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::limit::eventually;
use crate::log::{Line, Log};
use crate::process_tag::{Process, ProcessTag, children_of};

/// Variables that would configure the program under test, beside all that begin with `HANDOVER_`.
const CLEARED: [&str; 10] = [
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "RESTART_EPOCH",
    "RUST_LOG",
    "TERMINATION_DRAIN_DURATION_SECONDS",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// After the exit of the process, for the rest of its output: it is in the pipe already.
const LAST_LINES: Duration = Duration::from_secs(1);

/// For killed processes to be gone; the kernel needs milliseconds, a loaded machine more.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A process to be started.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    tag: ProcessTag,
}

impl Launch {
    /// The `handover` binary: the one named by `HANDOVER_BIN`, else the one that cargo built
    /// beside this test.
    ///
    /// # Panics
    ///
    /// When it has not been built; the message tells how.
    #[must_use]
    pub fn handover() -> Self {
        // A test that wants a control socket names a place of its own, with the flag.
        Self::program(handover_bin()).env("HANDOVER_SOCKET", "none")
    }

    /// Any other program.
    #[must_use]
    pub fn program(path: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HANDOVER_") {
                command.env_remove(name);
            }
        }
        for name in CLEARED {
            command.env_remove(name);
        }
        Self {
            command,
            tag: ProcessTag::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable. Those that begin with `HANDOVER_` are unset otherwise.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Starts it by another program, which is given it and its arguments after its own, and which
    /// must become it: `unshare`, for example.
    #[must_use]
    pub fn by(self, program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        command.arg(self.command.get_program());
        command.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = self.command.get_current_dir() {
            command.current_dir(directory);
        }
        Self {
            command,
            tag: self.tag,
        }
    }

    /// Refuses it these system calls, each with this number of an error. See [`refused_calls`](crate::refused_calls). It
    /// comes last: a program that is given later starts without.
    #[must_use]
    pub fn refuse(mut self, calls: &[i64], errno: u16) -> Self {
        crate::refused_calls::refuse(&mut self.command, calls, errno);
        self
    }

    /// Uses `tag` instead of a new one, so that a guard made before can look for it.
    #[must_use]
    pub fn tag(mut self, tag: &ProcessTag) -> Self {
        self.tag = tag.clone();
        self
    }

    /// Starts the process in a process group of its own, with empty input and both outputs kept.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(mut self) -> Supervisor {
        Supervisor::start(&mut self.command, self.tag)
    }
}

/// A running process; usually `handover`, which supervises others.
///
/// When it is dropped, the process and all its descendants are killed, and if the test is failing,
/// the log is printed.
#[derive(Debug)]
pub struct Supervisor {
    program: OsString,
    arguments: Vec<OsString>,
    tag: ProcessTag,
    log: Log,
    child: Child,
    /// Stays with this one process, whatever becomes of its number.
    handle: OwnedFd,
}

impl Supervisor {
    /// Starts a command as [`Launch::start`] does, with the environment that the caller has given it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(command: &mut Command, tag: ProcessTag) -> Self {
        tag.mark(command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {command:?}: {error}"),
        };
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        let handle = pid_of(&child)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
            .expect("a child that was not waited for has a pid");
        Self {
            program: command.get_program().to_owned(),
            arguments: command.get_args().map(OsStr::to_owned).collect(),
            tag,
            log: Log::follow(stdout, stderr),
            child,
            handle,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What marks it and its descendants.
    #[must_use]
    pub fn tag(&self) -> &ProcessTag {
        &self.tag
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits for the first line that contains `pattern`, be it printed already or not.
    ///
    /// # Panics
    ///
    /// When `limit` passes or the outputs end without it.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str, limit: Duration) -> Line {
        self.wait(pattern, 0, 1, limit)
    }

    /// Waits for the first line after `line` that contains `pattern`.
    ///
    /// # Panics
    ///
    /// When `limit` passes or the outputs end without it.
    #[track_caller]
    pub fn wait_for_line_after(&self, line: &Line, pattern: &str, limit: Duration) -> Line {
        self.wait(pattern, line.number + 1, 1, limit)
    }

    /// Waits until `count` lines contain `pattern`, and returns the last of them.
    ///
    /// # Panics
    ///
    /// When `limit` passes or the outputs end without them.
    #[track_caller]
    pub fn wait_for_lines(&self, pattern: &str, count: usize, limit: Duration) -> Line {
        self.wait(pattern, 0, count, limit)
    }

    /// How many lines contain `pattern` so far.
    #[must_use]
    pub fn count_lines(&self, pattern: &str) -> usize {
        self.log
            .lines()
            .iter()
            .filter(|line| line.text.contains(pattern))
            .count()
    }

    /// Waits until the process has exited, and for the rest of its output.
    ///
    /// # Panics
    ///
    /// When `limit` passes first.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        assert!(
            exits_within(&self.handle, limit),
            "{} did not exit in {limit:?}",
            self.name()
        );
        let status = self
            .child
            .wait()
            .expect("an exited child can be waited for");
        // Descendants may hold the outputs for longer; their lines come when they come.
        let _complete = self.log.wait_for_end(LAST_LINES);
        status
    }

    /// Whether it has not exited.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !exits_within(&self.handle, Duration::ZERO)
    }

    /// Sends a signal to this process alone, not to its group. After a STOP, none of its threads runs any more.
    ///
    /// # Panics
    ///
    /// When it has exited and was waited for, and when it is not stopped within ten seconds.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(&self.handle, signal) {
            panic!("cannot send {signal:?} to {}: {error}", self.name());
        }
        if signal == Signal::STOP {
            // One thread takes the signal and tells the others, which run on until then.
            let what = format!("the stop of {}", self.name());
            eventually(Duration::from_secs(10), &what, || {
                is_stopped(self.pid()).then_some(())
            });
        }
    }

    /// Sends a further request to end, so much later that it does not count as the one before.
    ///
    /// # Panics
    ///
    /// As [`signal`](Self::signal).
    #[track_caller]
    pub fn signal_again(&self, signal: Signal) {
        // Handover takes those within half a second for one.
        thread::sleep(Duration::from_millis(510));
        self.signal(signal);
    }

    /// The ids of its running children.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        let children = children_of(self.pid()).into_iter();
        children
            .filter(|child| !child.is_zombie)
            .map(|child| child.pid)
            .collect()
    }

    /// Itself, if it runs, and all its descendants.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        self.tag.processes()
    }

    #[track_caller]
    fn wait(&self, pattern: &str, from: usize, count: usize, limit: Duration) -> Line {
        let begun = Instant::now();
        match self.log.wait_for(pattern, from, count, limit) {
            Some(line) => line,
            None => panic!(
                "{} printed {} of {count} lines with {pattern:?} from line {from} on, in {:?}{}",
                self.name(),
                self.log
                    .lines()
                    .iter()
                    .skip(from)
                    .filter(|l| l.text.contains(pattern))
                    .count(),
                begun.elapsed(),
                if begun.elapsed() < limit {
                    ", and closed its outputs"
                } else {
                    ""
                },
            ),
        }
    }

    fn name(&self) -> String {
        format!(
            "{} (process {})",
            Path::new(&self.program).display(),
            self.pid()
        )
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // A stopped supervisor does not replace the children that are killed, and those that hide
        // their environment are still known as its children.
        let _running = pidfd_send_signal(&self.handle, Signal::STOP);
        let left = self.tag.kill_all(KILL_LIMIT);
        // Without a readable `/proc` it was not found, and it must not stay stopped.
        let _ended = pidfd_send_signal(&self.handle, Signal::KILL);
        let status = self.child.wait();
        if thread::panicking() {
            let _complete = self.log.wait_for_end(LAST_LINES);
            print_log(&format!(
                "--- log of {} {:?}, ended by {status:?}\n{}--- end of log",
                self.name(),
                self.arguments,
                self.log,
            ));
        } else {
            assert!(left.is_empty(), "cannot kill {left:?}");
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the test harness shows it with the failing test"
)]
fn print_log(text: &str) {
    eprintln!("{text}");
}

fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// The handle of a process becomes readable when the process exits.
fn exits_within(handle: &OwnedFd, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(error) => panic!("cannot poll a process handle: {error}"),
        }
    }
}

/// Whether each thread of a process is stopped, or has ended.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let mut threads = threads.into_iter().flatten().flatten();
    threads.all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which may hold anything.
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('T' | 't' | 'Z' | 'X') | None)
    })
}

/// Returns the `handover` binary: the one named by `HANDOVER_BIN`, else the one that cargo built beside
/// this test.
///
/// # Panics
///
/// When it has not been built; the message tells how.
#[must_use]
pub fn handover_bin() -> PathBuf {
    built("handover", "HANDOVER_BIN")
}

/// The fake Envoy: the one named by `HANDOVER_FAKE_ENVOY_BIN`, else the one that cargo built beside
/// this test.
///
/// # Panics
///
/// When it has not been built; the message tells how.
#[must_use]
pub fn fake_envoy_bin() -> PathBuf {
    built("handover-fake-envoy", "HANDOVER_FAKE_ENVOY_BIN")
}

/// A program that a variable names, or that cargo built beside this test.
fn built(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "{variable} names no file: {}",
            path.display()
        );
        return path;
    }
    let test = std::env::current_exe().expect("the kernel knows this executable");
    // A test lies in `deps`, a documentation test elsewhere.
    let candidates = test
        .ancestors()
        .skip(1)
        .map(|directory| directory.join(name));
    match candidates.into_iter().take(3).find(|path| path.is_file()) {
        Some(path) => path,
        None => panic!(
            "the program {name} is not beside {}: build it first, with `cargo build -p {name}` and \
             the same profile and target directory, or name it by {variable}",
            test.display(),
        ),
    }
}
