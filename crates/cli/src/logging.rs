//! What the supervisor says, and what its children print.
//!
//! Both go through bounded queues to threads of their own, so that a reader which stands still
//! holds neither the control loop nor a child. Lines that find the queue full are dropped and
//! counted, and so are those that a full disk does not take.

mod children;
mod events;
pub(crate) mod journal;
mod text;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use handover_process::OutputSink;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::cli::global::{LogFormat, LoggingArgs};
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;
use children::ChildLines;
use events::EventLines;
use text::Style;

use writer::Unbuffered;

pub(crate) use writer::Writer;

/// How long the last lines may take to be written when the program ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Why there can be no output.
const NO_WRITER: &str = "starting the threads that write the log (is a limit reached: of processes, \
    RLIMIT_NPROC or pids.max of the control group, or of memory?)";

/// The two output streams, for as long as the program runs.
pub(crate) struct Logging {
    stdout: Writer,
    stderr: Writer,
    style: Style,
    /// Whether each stream leads to the journal.
    in_journal: InJournal,
}

/// Which streams lead to the journal of systemd.
#[derive(Clone, Copy, Debug)]
struct InJournal {
    stdout: bool,
    stderr: bool,
}

impl Logging {
    /// Begins to log to standard error.
    ///
    /// # Errors
    ///
    /// When the writers' threads cannot be started.
    pub(crate) fn start(options: &LoggingArgs) -> anyhow::Result<Self> {
        let style = match options.log_format {
            LogFormat::Json => Style::Json,
            LogFormat::Human if wants_colour() => Style::Coloured,
            LogFormat::Human => Style::Plain,
        };
        let in_journal = InJournal {
            stdout: journal::receives(std::io::stdout()),
            stderr: journal::receives(std::io::stderr()),
        };
        let notes = |in_journal| match in_journal {
            true => journal::prefix(Level::WARN),
            false => "",
        };
        let (stdout, stderr) = (Unbuffered(std::io::stdout()), Unbuffered(std::io::stderr()));
        let logging = Self {
            stdout: Writer::start("stdout", stdout, notes(in_journal.stdout)).context(NO_WRITER)?,
            stderr: Writer::start("stderr", stderr, notes(in_journal.stderr)).context(NO_WRITER)?,
            style,
            in_journal,
        };
        let subscriber = EventLines {
            style,
            in_journal: in_journal.stderr,
            level: LevelFilter::from(options.log_level),
            writer: logging.stderr.clone(),
        };
        // Only a second start could fail, and there is one.
        let _is_first = tracing::subscriber::set_global_default(subscriber);
        std::panic::set_hook(Box::new(log_panic));
        Ok(logging)
    }

    /// Where the children's lines go: to the stream of the same name, each with its epoch.
    pub(crate) fn children(&self) -> Arc<dyn OutputSink> {
        Arc::new(ChildLines {
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
            style: self.style,
            in_journal: self.in_journal,
        })
    }

    /// Says why the command failed, if it did, and waits until everything is written, but not for
    /// ever. Returns the exit code.
    pub(crate) fn finish(self, result: Result<ExitCode, Fatal>) -> ExitCode {
        let code = result.unwrap_or_else(|error| {
            tracing::error!("{error}");
            error.code
        });
        self.stdout.flush(FLUSH_LIMIT);
        self.stderr.flush(FLUSH_LIMIT);
        code
    }
}

/// Logs a panic, which is a bug, like any other event. The standard library's hook would block a
/// thread if standard error is a full pipe.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed").to_owned();
    tracing::error!(
        "a bug: thread {thread} panicked: {}",
        panic.to_string().replace('\n', " ")
    );
    // Where `RUST_BACKTRACE` asks for one.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        for line in backtrace.to_string().lines() {
            tracing::error!("{}", line.trim());
        }
    }
}

/// Colour is for people: on a terminal, unless `NO_COLOR` is set to something.
fn wants_colour() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
