//! Flags that several commands share.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use handover_watch::Rescan;
use tracing::level_filters::LevelFilter;

use super::duration;

/// The files whose changes lead to the next epoch.
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchArgs {
    /// Start the next epoch when the content of this file or directory changes. Repeat it for more.
    #[arg(
        long,
        value_name = "PATH",
        env = "HANDOVER_WATCH",
        value_delimiter = ','
    )]
    pub(crate) watch: Vec<PathBuf>,

    /// Check the watched files at this interval, even if the system reports no change.
    ///
    /// `auto` checks every 10 seconds, but only while the system cannot report every change. Examples
    /// are NFS, FUSE and the limit of inotify watches. A time, at least 100ms, reads every file each
    /// time, which also finds writes through memory maps. `none` never checks.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_RESCAN_INTERVAL",
        default_value = "auto"
    )]
    pub(crate) rescan_interval: RescanInterval,
}

/// When the watched files are checked without an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RescanInterval(pub(crate) Rescan);

/// The shortest interval: a shorter one keeps a processor busy.
const SHORTEST_RESCAN: Duration = Duration::from_millis(100);

impl FromStr for RescanInterval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rescan = match text.trim() {
            "auto" => Rescan::default(),
            "none" => Rescan::Never,
            text => match duration::parse(text) {
                Ok(interval) if interval < SHORTEST_RESCAN => {
                    return Err("give at least 100ms, `auto` or `none`".to_owned());
                }
                Ok(interval) => Rescan::Always(interval),
                Err(error) => return Err(format!("{error}, `auto` or `none`")),
            },
        };
        Ok(Self(rescan))
    }
}

/// How the supervisor logs.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Logging")]
pub(crate) struct LoggingArgs {
    /// The format of all log lines. Lines of the supervised program carry their epoch in both.
    #[arg(long, value_enum, value_name = "FORMAT", env = "HANDOVER_LOG_FORMAT")]
    #[arg(default_value = "human")]
    pub(crate) log_format: LogFormat,

    /// The lowest level of handover's own lines. Lines of the supervised program are always shown.
    #[arg(long, value_enum, value_name = "LEVEL", env = "HANDOVER_LOG_LEVEL")]
    #[arg(default_value = "info")]
    pub(crate) log_level: LogLevel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// One sentence per line, in colour on a terminal unless `NO_COLOR` is set.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rescan_interval_is_a_time_that_is_not_too_short_or_a_word() {
        let parse = |text: &str| text.parse().map(|RescanInterval(rescan)| rescan);
        assert_eq!(parse("auto"), Ok(Rescan::default()));
        assert_eq!(parse(" none "), Ok(Rescan::Never));
        let interval = Duration::from_millis(1500);
        assert_eq!(parse("1s 500ms"), Ok(Rescan::Always(interval)));
        for (text, problem) in [
            ("0s", "at least 100ms"),
            ("99ms", "at least 100ms"),
            ("10", "`auto` or `none`"),
            ("", "`auto` or `none`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
