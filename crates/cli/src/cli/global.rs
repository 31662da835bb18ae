//! Flags that several commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

/// What leads to the next epoch, besides a signal.
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchArgs {
    /// Start the next epoch when this file, or a file in this directory, has other contents. Repeat
    /// it for more.
    #[arg(
        long,
        value_name = "PATH",
        env = "HANDOVER_WATCH",
        value_delimiter = ','
    )]
    pub(crate) watch: Vec<PathBuf>,
}

/// How the supervisor logs.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Logging")]
pub(crate) struct LoggingArgs {
    /// How log lines look; children's lines carry their epoch in both.
    #[arg(long, value_enum, value_name = "FORMAT", env = "HANDOVER_LOG_FORMAT")]
    #[arg(default_value = "human")]
    pub(crate) log_format: LogFormat,

    /// Which of the supervisor's own lines are shown; children's lines always are.
    #[arg(long, value_enum, value_name = "LEVEL", env = "HANDOVER_LOG_LEVEL")]
    #[arg(default_value = "info")]
    pub(crate) log_level: LogLevel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// One sentence per line, in colour on a terminal (unless `NO_COLOR` is set).
    Human,
    /// One JSON object per line.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}
