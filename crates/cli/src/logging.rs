//! What the supervisor says, and what its children print.
//!
//! Both go through bounded queues to threads of their own, so that a reader which stands still
//! holds neither the control loop nor a child. Lines that find the queue full are dropped and
//! counted.

mod children;
mod events;
mod text;
mod writer;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use handover_tokio::process::OutputSink;
use tracing::level_filters::LevelFilter;

use crate::cli::global::{LogFormat, LoggingArgs};
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;
use children::ChildLines;
use events::EventLines;
use text::Style;

pub(crate) use writer::Writer;

/// How long the last lines may take to be written when the program ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The two output streams, for as long as the program runs.
pub(crate) struct Logging {
    stdout: Writer,
    stderr: Writer,
    style: Style,
}

impl Logging {
    /// Begins to log to standard error.
    ///
    /// # Errors
    ///
    /// When the writers' threads cannot be started.
    pub(crate) fn start(options: &LoggingArgs) -> std::io::Result<Self> {
        let style = match options.log_format {
            LogFormat::Json => Style::Json,
            LogFormat::Human if wants_colour() => Style::Coloured,
            LogFormat::Human => Style::Plain,
        };
        let logging = Self {
            stdout: Writer::start("stdout", std::io::stdout())?,
            stderr: Writer::start("stderr", std::io::stderr())?,
            style,
        };
        let subscriber = EventLines {
            style,
            level: LevelFilter::from(options.log_level),
            writer: logging.stderr.clone(),
        };
        // Only a second start could fail, and there is one.
        let _is_first = tracing::subscriber::set_global_default(subscriber);
        Ok(logging)
    }

    /// Where the children's lines go: to the stream of the same name, each with its epoch.
    pub(crate) fn children(&self) -> Arc<dyn OutputSink> {
        Arc::new(ChildLines {
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
            style: self.style,
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

/// Colour is for people: on a terminal, unless `NO_COLOR` is set to something.
fn wants_colour() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
