//! The log in Envoy's format.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
    file: Option<LogFile>,
}

/// The file of `--log-path`.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    open: Mutex<File>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(path)
    }
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
        self.file = Some(LogFile {
            path: path.to_owned(),
            open: Mutex::new(LogFile::open(path)?),
        });
        Ok(self)
    }

    /// Opens the log file again by its path, after a rotation. The old file stays in use if the path
    /// cannot be opened, and a line says so. Nothing without a file.
    pub(crate) fn reopen(&self) {
        let Some(file) = &self.file else { return };
        match LogFile::open(&file.path) {
            Ok(again) => {
                if let Ok(mut open) = file.open.lock() {
                    *open = again;
                }
            }
            Err(error) => {
                let path = file.path.display();
                let text =
                    format!("unable to open log file {path} again, the old one stays: {error}");
                self.line(Level::Warning, "main", "fake.cc:1", &text);
            }
        }
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
        let directory = if source.starts_with("common/") || source.starts_with("extensions/") {
            "source"
        } else {
            "source/server"
        };
        let line = format!(
            "[{date}.{millis:03}][{thread}][{level}][{logger}] [{directory}/{source}] {text}\n"
        );
        match self.file.as_ref().and_then(|file| file.open.lock().ok()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_rotated_file_is_made_again_and_an_unreachable_one_stays_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let path = logs.join("envoy.log");
        let log = Log::new("info").with_file(&path).unwrap();
        let line = |text| log.line(Level::Info, "main", "server.cc:1", text);
        line("before");
        let rotated = logs.join("rotated.log");
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen();
        assert_eq!(text(&path), "");
        line("after");
        assert!(text(&rotated).ends_with(" before\n"));
        assert!(text(&path).ends_with(" after\n"));
        let moved = dir.path().join("moved");
        std::fs::rename(&logs, &moved).unwrap();
        log.reopen();
        let kept = text(&moved.join("envoy.log"));
        assert!(kept.contains("unable to open log file"), "{kept}");
    }
}
