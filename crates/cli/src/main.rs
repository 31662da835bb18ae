//! The `handover` command: parse, run, exit.

mod cli;
mod commands;
#[cfg(all(feature = "envoy", feature = "tools"))]
mod demo;
#[cfg(feature = "envoy")]
mod doctor;
mod escape;
mod exit_code;
mod fatal;
mod instance;
mod logging;
mod passed;
mod service_manager;
mod supervise;
mod supervised;
#[cfg(feature = "envoy")]
#[cfg(test)]
mod units;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::error::ErrorKind;
use handover_supervisor::Signals;
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit};
use tracing::Level;

use cli::Cli;
use cli::environment::Refusal;
use escape::escaped;
use exit_code::ExitCode;
use fatal::{Fatal, OrExit as _};
use logging::journal;
use passed::Passed;

/// The one of musl maps pages for each size of an allocation, and gives them back at once. That was a fifth of the
/// time from the start to the first child. dlmalloc takes a page for 4 kB, which is sure on x86-64 alone.
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// How many descriptors every command needs: those of the runtime, of the signals, and one socket.
const DESCRIPTORS: usize = 12;

/// How long is waited at the end until the kernel has collected the last children. It takes microseconds, and more
/// than a second on a busy host.
const LAST_CHILDREN: Duration = Duration::from_secs(3);

fn main() -> std::process::ExitCode {
    #[cfg(feature = "fake-envoy")]
    if let Some(code) = demo::fake_envoy::run_if_named() {
        return code;
    }
    // First of all: what is opened before would be taken for what was passed.
    let passed = passed::take();
    // Without it the first milliseconds are as they were: a signal that comes in them ends the program.
    let _held = Signals::hold();
    use_the_usual_temporary_directory();
    let words: Vec<OsString> = std::env::args_os().collect();
    let code = match Cli::parse_words(&words) {
        Ok(cli) => run(cli, passed).unwrap_or_else(|error| report(&error)),
        Err(refusal) => refuse(&refusal, &words),
    };
    code.into()
}

/// An empty variable is an unset one, so it does not mean the working directory.
fn use_the_usual_temporary_directory() {
    if std::env::var_os("TMPDIR").is_some_and(|dir| dir.is_empty()) {
        // Only a second call could fail, and there is one.
        let _is_first = tempfile::env::override_temp_dir(Path::new("/tmp"));
    }
}

/// Runs the command on this thread. What it started in the background, a lookup that hangs for
/// example, does not keep the program from ending.
fn run(cli: Cli, passed: Passed) -> Result<ExitCode, Fatal> {
    require_descriptors().or_exit(ExitCode::OS)?;
    require_socket_pair().or_exit(ExitCode::OS)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(ExitCode::OS)?;
    let result = runtime.block_on(commands::run(cli, passed));
    runtime.shutdown_background();
    // A child that outlives its kill has been waited for as long as is worth it: process 1 gets it.
    let _all_are_gone = handover_process::collect_ended(LAST_CHILDREN);
    result
}

/// Makes sure of a few descriptors: without them the runtime would panic.
///
/// # Errors
///
/// What the operating system says, and which limit is meant.
fn require_descriptors() -> anyhow::Result<()> {
    let open = |_| eventfd(0, EventfdFlags::CLOEXEC);
    let opened: Result<Vec<_>, _> = (0..DESCRIPTORS).map(open).collect();
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    opened.map(drop).with_context(|| {
        format!(
            "fewer than {DESCRIPTORS} further files can be opened: raise the limit of open files \
             (RLIMIT_NOFILE, `ulimit -n`), which is {limit}"
        )
    })
}

/// Makes sure of the pair of sockets by which the runtime hears of signals: without it the runtime would panic.
fn require_socket_pair() -> anyhow::Result<()> {
    UnixStream::pair().map(drop).context(
        "no pair of sockets can be made, by which signals are heard of: let the container allow the system call \
         `socketpair` (its seccomp profile)",
    )
}

/// Says what is wrong with the command line, or gives the help that was asked for. The variables
/// that the command would be run with are judged beside its help.
fn refuse(refusal: &Refusal, words: &[OsString]) -> ExitCode {
    let error = &refusal.error;
    // A closed pipe leaves nobody to tell.
    let _unread = if commands_a_terminal() {
        // What was typed is repeated in it. Without colours it can be shown.
        print_refusal(&as_lines_of_one(&error.render().to_string()))
    } else if error.use_stderr() && journal::receives(std::io::stderr()) {
        print_refusal(&error.render().to_string())
    } else {
        error.print()
    };
    if error.kind() == ErrorKind::DisplayVersion {
        return ExitCode::CLEAN;
    }
    if error.kind() == ErrorKind::DisplayHelp {
        return match Cli::parse_for_help(words) {
            None => ExitCode::CLEAN,
            Some(Ok(cli)) => match commands::judge(&cli.command) {
                Ok(()) => ExitCode::CLEAN,
                Err(error) => report(&error),
            },
            Some(Err(refusal)) => refuse(&refusal, words),
        };
    }
    for note in &refusal.notes {
        let _unread = print_refusal(note);
    }
    ExitCode::USAGE
}

/// Prints what is wrong on standard error, with a level for each line if the journal reads it.
fn print_refusal(text: &str) -> std::io::Result<()> {
    let text = journal::lines_for_stderr(text.trim_end_matches('\n'), Level::ERROR);
    writeln!(std::io::stderr(), "{text}")
}

/// Whether anything that was typed, or set for us, is more than text.
fn commands_a_terminal() -> bool {
    let ours = std::env::vars_os().filter_map(|(name, value)| {
        let is_ours = name.to_string_lossy().starts_with("HANDOVER_");
        is_ours.then_some(value)
    });
    std::env::args_os().chain(ours).any(|typed| {
        let typed = typed.to_string_lossy();
        escaped(&typed, &[]) != typed
    })
}

/// A text whose further lines cannot be taken for lines of somebody else.
fn as_lines_of_one(text: &str) -> String {
    let (text, end) = match text.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (text, ""),
    };
    escaped(text, &['\n', '\t']).replace('\n', "\n  ") + end
}

fn report(error: &Fatal) -> ExitCode {
    let text = format!("error: {}", as_lines_of_one(&error.to_string()));
    // As above.
    let _unread = print_refusal(&text);
    error.code
}
