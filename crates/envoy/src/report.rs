//! What is left of an epoch that ended otherwise than asked: a crash report in the state directory,
//! and a message where Kubernetes looks for one.
//!
//! A report is one JSON object in a file `crash-<UTC time>-epoch<N>.json`, readable by its owner only,
//! because Envoy's last words may quote its configuration. The number of reports and the size of each
//! are bounded, so a crash loop fills no disk. Names of fields and labels are stable; sentences are
//! for people.

mod termination;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use handover_process::ExitCause;
use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use crate::failure::Failure;
use handover_files::{Digest, DirectoryError, PrivateDir, replace_durably, sweep_unfinished};

pub use termination::{MAX_MESSAGE, TerminationError, termination_message};

/// How many lines of standard error a report holds at most: the last 50.
pub const MAX_LINES: usize = 50;
/// How many bytes of standard error a report holds at most: the last 32 KiB.
pub const MAX_BYTES: usize = 32 << 10;

/// The state directory's crash reports.
///
/// ```
/// use handover_envoy::Digest;
/// use handover_envoy::failure::Failure;
/// use handover_envoy::report::{CrashReport, CrashReports};
/// use handover_process::ExitCause;
/// use std::time::{Duration, SystemTime};
///
/// # let parent = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// # let path = parent.path().join("state");
/// let reports = CrashReports::open(&path)?;
/// let file = reports.write(&CrashReport {
///     time: SystemTime::now(),
///     epoch: 3,
///     pid: 4711,
///     cause: ExitCause::OutOfMemory,
///     failure: Failure::OutOfMemory,
///     note: None,
///     config: "/etc/envoy.yaml".into(),
///     digest: Digest::of(b"its content"),
///     binary: "/usr/bin/envoy".into(),
///     version: Some("1.40.0".to_owned()),
///     uptime: Duration::from_secs(90),
///     stderr: vec![b"its last line".to_vec()],
/// })?;
/// assert!(std::fs::read_to_string(&file)?.contains(r#""label": "out_of_memory""#));
/// assert_eq!(reports.list()?, [file]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReports {
    dir: PrivateDir,
    keep: usize,
}

/// One epoch's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// When it ended.
    pub time: SystemTime,
    /// The epoch.
    pub epoch: u32,
    /// Its process id, which may be another process's by the time the report is read.
    pub pid: u32,
    /// How it ended.
    pub cause: ExitCause,
    /// Why, as far as its last words tell.
    pub failure: Failure,
    /// What the agent knows beside that: that it killed an epoch which did not answer, for example.
    pub note: Option<String>,
    /// The file its configuration was read from.
    pub config: PathBuf,
    /// The SHA-256 of its configuration. The content is not reported: it may hold secrets.
    pub digest: Digest,
    /// The binary.
    pub binary: PathBuf,
    /// What Envoy said its version is; nothing where it was never live.
    pub version: Option<String>,
    /// How long it ran.
    pub uptime: Duration,
    /// The end of its standard error, line by line. Of more than [`MAX_LINES`] or [`MAX_BYTES`] the
    /// last ones are reported.
    pub stderr: Vec<Vec<u8>>,
}

/// Why a report cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The report cannot be written.
    #[error("cannot write the crash report {}", path.display())]
    Write {
        /// The report.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The reports cannot be listed.
    #[error("cannot list the crash reports in {}", path.display())]
    List {
        /// The state directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An old report cannot be removed.
    #[error("cannot remove the old crash report {}", path.display())]
    Remove {
        /// The report.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl CrashReports {
    /// How many reports are kept: 10.
    pub const KEPT: usize = 10;

    /// Makes the state directory with mode 0700, or checks the one that is there, and removes reports
    /// that were only half written when an agent was killed.
    ///
    /// # Errors
    ///
    /// [`ReportError::Directory`].
    pub fn open(dir: &Path) -> Result<Self, ReportError> {
        let dir = PrivateDir::create(dir)?;
        sweep_unfinished(dir.path(), is_report);
        Ok(Self {
            dir,
            keep: Self::KEPT,
        })
    }

    /// Keeps another number of reports; at least one.
    #[must_use]
    pub fn keep(mut self, reports: usize) -> Self {
        self.keep = reports.max(1);
        self
    }

    /// Writes a report, mode 0600, whole or not at all, and removes the oldest ones beyond the
    /// number that is kept. It blocks for as long as the disk does.
    ///
    /// # Errors
    ///
    /// [`ReportError::Write`] where there is no report; another error where it is there, but an old
    /// one is too.
    pub fn write(&self, report: &CrashReport) -> Result<PathBuf, ReportError> {
        let name = report.file_name();
        let path = self.dir.path().join(&name);
        let failed = |source| ReportError::Write {
            path: path.clone(),
            source,
        };
        let mut json = serde_json::to_vec_pretty(report).map_err(|error| failed(error.into()))?;
        json.push(b'\n');
        replace_durably(self.dir.path(), &name, &[&json]).map_err(failed)?;
        let reports = self.list()?;
        for old in reports.iter().rev().skip(self.keep) {
            match fs::remove_file(old) {
                Ok(()) => {}
                // Another process of the same state directory was quicker.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let path = old.clone();
                    return Err(ReportError::Remove { path, source });
                }
            }
        }
        Ok(path)
    }

    /// Returns the paths of the reports, oldest first. Other files in the directory are passed
    /// over.
    ///
    /// # Errors
    ///
    /// [`ReportError::List`].
    pub fn list(&self) -> Result<Vec<PathBuf>, ReportError> {
        let dir = self.dir.path();
        let list = || -> io::Result<Vec<PathBuf>> {
            let mut reports = Vec::new();
            for entry in fs::read_dir(dir)? {
                let name = entry?.file_name();
                if name.to_str().is_some_and(is_report) {
                    reports.push(dir.join(name));
                }
            }
            // The time in the names has a fixed length, so their order is that of time.
            reports.sort_unstable();
            Ok(reports)
        };
        list().map_err(|source| ReportError::List {
            path: dir.to_owned(),
            source,
        })
    }
}

impl CrashReport {
    fn file_name(&self) -> String {
        let time: String = self.utc().chars().filter(|c| !"-:.".contains(*c)).collect();
        format!("crash-{time}-epoch{}.json", self.epoch)
    }

    /// The time in UTC to the millisecond, as RFC 3339 writes it.
    fn utc(&self) -> String {
        // RFC 3339 knows no year after 9999.
        let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let time = self.time.clamp(SystemTime::UNIX_EPOCH, latest);
        humantime::format_rfc3339_millis(time).to_string()
    }

    /// The last lines within the limits. A line that does not fit whole is cut at its beginning.
    fn last_lines(&self) -> Vec<Cow<'_, str>> {
        let mut left = MAX_BYTES;
        let mut lines = Vec::new();
        for line in self.stderr.iter().rev().take(MAX_LINES) {
            if left == 0 {
                break;
            }
            let kept = line.get(line.len().saturating_sub(left)..).unwrap_or(line);
            left -= kept.len();
            lines.push(String::from_utf8_lossy(kept));
        }
        lines.reverse();
        lines
    }
}

impl Serialize for CrashReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("CrashReport", 16)?;
        report.serialize_field("time", &self.utc())?;
        report.serialize_field("epoch", &self.epoch)?;
        report.serialize_field("pid", &self.pid)?;
        report.serialize_field("label", self.failure.label())?;
        report.serialize_field("failure", &self.failure.to_string())?;
        report.serialize_field("note", &self.note)?;
        let (code, signal, core_dumped) = match self.cause {
            ExitCause::Code(code) => (Some(code), None, false),
            ExitCause::Signal {
                number,
                core_dumped,
            } => (None, Some(number), core_dumped),
            ExitCause::OutOfMemory => (None, self.cause.signal(), false),
        };
        report.serialize_field("exit_code", &code)?;
        report.serialize_field("signal", &signal)?;
        report.serialize_field("core_dumped", &core_dumped)?;
        report.serialize_field("out_of_memory", &(self.failure == Failure::OutOfMemory))?;
        report.serialize_field("uptime_seconds", &self.uptime.as_secs_f64())?;
        report.serialize_field("config", &self.config.to_string_lossy())?;
        report.serialize_field("config_sha256", &self.digest)?;
        report.serialize_field("binary", &self.binary.to_string_lossy())?;
        report.serialize_field("version", &self.version)?;
        report.serialize_field("stderr", &self.last_lines())?;
        report.end()
    }
}

/// Whether a file name is that of a report.
fn is_report(name: &str) -> bool {
    let parts = name
        .strip_prefix("crash-")
        .and_then(|rest| rest.strip_suffix(".json"))
        .and_then(|rest| rest.split_once("-epoch"));
    parts.is_some_and(|(time, epoch)| {
        // 20261122T164720123Z
        time.len() == 19 && time.ends_with('Z') && epoch.parse::<u32>().is_ok()
    })
}

#[cfg(test)]
mod tests;
