//! The log in Envoy's format.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::date::Date;

/// The weight of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
    Off,
}

impl Level {
    /// Reads the value of `-l`.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "trace" | "debug" => Self::Debug,
            "warning" | "warn" => Self::Warning,
            "error" => Self::Error,
            "critical" => Self::Critical,
            "off" => Self::Off,
            _ => Self::Info,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical | Self::Off => "critical",
        }
    }
}

/// Where lines go, and which ones.
#[derive(Debug)]
pub(crate) struct Log {
    level: Level,
    file: Option<Mutex<File>>,
}

impl Log {
    /// Logs to standard error.
    pub(crate) fn new(level: &str) -> Self {
        Self {
            level: Level::named(level),
            file: None,
        }
    }

    /// Logs to a file.
    pub(crate) fn with_file(mut self, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        self.file = Some(Mutex::new(file));
        Ok(self)
    }

    /// Writes a line: its logger, the file of Envoy that writes it, and the text.
    pub(crate) fn line(&self, level: Level, logger: &str, source: &str, text: &str) {
        if level < self.level {
            return;
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let date = Date::of(now.as_secs());
        let millis = now.subsec_millis();
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let level = level.name();
        let directory = if source.starts_with("common/") {
            "source"
        } else {
            "source/server"
        };
        let line = format!(
            "[{date}.{millis:03}][{thread}][{level}][{logger}] [{directory}/{source}] {text}\n"
        );
        match self.file.as_ref().and_then(|file| file.lock().ok()) {
            Some(mut file) => write_all(&mut *file, line.as_bytes()),
            None => write_all(&mut io::stderr().lock(), line.as_bytes()),
        }
    }

    /// Writes text to standard error as it is.
    pub(crate) fn raw(text: &str) {
        write_all(&mut io::stderr().lock(), text.as_bytes());
    }
}

/// Writes what can be written. A reader that has gone is no reason to end.
fn write_all(to: &mut impl Write, bytes: &[u8]) {
    let _reader_may_have_gone = to.write_all(bytes).and_then(|()| to.flush());
}
