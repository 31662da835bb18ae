//! Starting the binary, reading what it says, and ending it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use handover_test_support::envoy_bin::report_skip;
use handover_test_support::envoy_config::replace_file;
use handover_test_support::limit;
use handover_test_support::log::{Log, Stream};
use handover_test_support::process_tag::{self, ProcessTag};
use handover_test_support::supervisor::Supervisor;
use rustix::process::{Pid, Signal};

/// How long anything may take. It is reached only when something is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

const BINARY: &str = env!("CARGO_BIN_EXE_handover");

/// A command of the binary, without what the environment says about it.
pub(crate) fn handover(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HANDOVER_") {
            command.env_remove(name);
        }
    }
    // A service manager that has started the tests is none of theirs.
    for name in [
        "JOURNAL_STREAM",
        "LISTEN_FDS",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
    ] {
        command.env_remove(name);
    }
    command
        .args(args)
        .env_remove("TERMINATION_DRAIN_DURATION_SECONDS")
        .env_remove("MINIMUM_DRAIN_DURATION")
        .env_remove("EXIT_ON_ZERO_ACTIVE_CONNECTIONS")
        .env_remove("ISTIO_CPU_LIMIT")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        // A test that wants a control socket names a place of its own.
        .env("HANDOVER_SOCKET", "none")
        .env("COLUMNS", "100");
    command
}

/// The same command, executed by a shell that sets these variables.
pub(crate) fn from_shell(variables: &str, command: &Command) -> Command {
    let script = format!("{variables} exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]);
    executing(shell, command)
}

/// Lets a launcher execute a command, with the environment that the command would have. The words of the
/// command follow those of the launcher.
pub(crate) fn executing(mut launcher: Command, command: &Command) -> Command {
    launcher.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => launcher.env(name, value),
            None => launcher.env_remove(name),
        };
    }
    launcher.stdin(Stdio::null());
    launcher
}

/// A command of the binary that looks for an instance by itself, unless its flags name one.
pub(crate) fn handover_client(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = handover(args);
    command.env_remove("HANDOVER_SOCKET");
    command
}

/// Lets the command start with every signal blocked, as some launchers do.
pub(crate) fn with_every_signal_blocked(command: &mut Command) -> &mut Command {
    let block = || {
        let mut set = std::mem::MaybeUninit::zeroed();
        #[expect(unsafe_code, reason = "signal masks have no safe wrapper")]
        // SAFETY: the set is valid for writes.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
        }
        #[expect(unsafe_code, reason = "signal masks have no safe wrapper")]
        // SAFETY: the set was filled above; the old mask is not asked for.
        unsafe {
            libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "the mask is inherited over fork and exec")]
    // SAFETY: between fork and exec, this makes two calls that are allowed there.
    unsafe {
        command.pre_exec(block)
    }
}

/// Runs it to its end: a command that ends by itself.
pub(crate) fn output_of(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    finish(&mut handover(args))
}

pub(crate) fn finish(command: &mut Command) -> Output {
    let mut running = Running::start(command);
    let code = running.code();
    let log = running.process.log();
    let (stdout, stderr) = (log.text_of(Stream::Stdout), log.text_of(Stream::Stderr));
    Output {
        status: std::os::unix::process::ExitStatusExt::from_raw(code << 8),
        stdout: stdout.into_bytes(),
        stderr: stderr.into_bytes(),
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// `exec` with these flags and the demo server as the program, with these arguments.
pub(crate) fn exec_server(flags: &[&str], server: &[&str]) -> Running {
    let flags = flags.iter().copied();
    let always = ["exec", "--listen", "127.0.0.1:0", "--notify"];
    let words = always.into_iter().chain(flags);
    let program = ["--", BINARY, "demo-server"].into_iter();
    Running::start(&mut handover(
        words.chain(program).chain(server.iter().copied()),
    ))
}

/// `exec` with these flags and a shell script as the program.
pub(crate) fn exec_script(flags: &[&str], script: &str) -> Running {
    let words = ["exec"].into_iter().chain(flags.iter().copied());
    Running::start(&mut handover(words.chain(["--", "sh", "-c", script])))
}

/// `exec` of a program that SIGKILL alone ends. It is live once that is so: a shell that is asked to end before it has
/// come to its first command ends.
pub(crate) fn exec_deaf(flags: &[&str]) -> Running {
    let script = "trap '' TERM; eval \"echo >&$READY_FD\"; while :; do sleep 0.02; done";
    exec_script(&[&["--ready-fd"], flags].concat(), script)
}

/// A running binary. It is killed when the test ends, and all its descendants with it.
pub(crate) struct Running {
    process: Supervisor,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let process = Supervisor::start(command, ProcessTag::new());
        let lines = |stream| Lines {
            log: process.log().clone(),
            stream,
        };
        Self {
            stdout: lines(Stream::Stdout),
            stderr: lines(Stream::Stderr),
            process,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// A further request to end, which does not count as the one before.
    pub(crate) fn signal_again(&self, signal: Signal) {
        self.process.signal_again(signal);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for a line with this text on standard error.
    pub(crate) fn says(&self, text: &str) -> String {
        self.stderr.wait_for(text)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let line = self.says("listening on ");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits for its end; the code is that of a shell.
    pub(crate) fn code(&mut self) -> i32 {
        let status = self.process.wait_exit(LIMIT);
        let log = self.process.log();
        assert!(log.wait_for_end(LIMIT), "somebody holds the outputs");
        let killed = std::os::unix::process::ExitStatusExt::signal(&status);
        status.code().unwrap_or_else(|| 128 + killed.unwrap())
    }
}

/// The processes whose parent this is.
pub(crate) fn children_of(parent: u32) -> Vec<Pid> {
    let children = process_tag::children_of(parent).into_iter();
    children
        .filter_map(|child| Pid::from_raw(i32::try_from(child.pid).ok()?))
        .collect()
}

/// The lines of one output.
pub(crate) struct Lines {
    log: Log,
    stream: Stream,
}

impl Lines {
    pub(crate) fn all(&self) -> Vec<String> {
        let lines = self.log.lines().into_iter();
        let lines = lines.filter(|line| line.stream == self.stream);
        lines.map(|line| line.text).collect()
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        self.all().iter().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_for_nth(1, text)
    }

    /// Waits until so many lines have this text; returns the last of them.
    pub(crate) fn wait_for_nth(&self, nth: usize, text: &str) -> String {
        let all = || self.all().join("\n");
        eventually_or(
            &|| format!("{nth} lines with `{text}` in:\n{}", all()),
            || {
                let all = self.all();
                all.into_iter()
                    .filter(|line| line.contains(text))
                    .nth(nth - 1)
            },
        )
    }
}

/// Looks again and again until there is something.
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_or(&|| what.to_owned(), look)
}

fn eventually_or<T>(what: &dyn Fn() -> String, look: impl FnMut() -> Option<T>) -> T {
    let found = limit::poll(LIMIT, look);
    assert!(found.is_some(), "not within {LIMIT:?}: {}", what());
    found.unwrap()
}

/// Says that a test was not run, and why.
pub(crate) fn skipped(test: &str, why: &str) {
    report_skip(&format!("commands::{test}"), why);
}

/// Replaces a file in one step.
pub(crate) fn replace(path: &std::path::Path, content: &str) {
    replace_file(path, content.as_bytes());
}
