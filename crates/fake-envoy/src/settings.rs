//! What is fake about the process: flags that Envoy does not have.
//!
//! The same flags can come in the variable `HANDOVER_FAKE_ENVOY`, separated by white space, because an
//! agent may not let foreign flags through.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::faults::{Fault, FaultError};

/// The environment variable with flags that begin with `--fake-`, separated by white space. Flags of
/// the command line come after them, and win.
pub const VARIABLE: &str = "HANDOVER_FAKE_ENVOY";

/// What is fake about the process.
///
/// The text form is that of the variable [`VARIABLE`]:
///
/// ```
/// use handover_fake_envoy::Settings;
///
/// let settings: Settings = "--fake-time-scale 0.1 --fake-fault exit=3@live:epoch=2".parse()?;
/// assert_eq!(settings.time_scale, 0.1);
/// assert_eq!(settings.faults.len(), 1);
/// assert_eq!(settings.to_string(), "--fake-time-scale 0.1 --fake-fault exit=3@live:epoch=2");
/// # Ok::<(), handover_fake_envoy::SettingsError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// `--fake-time-scale F`: the factor of every time that was measured on the real Envoy, and of
    /// `--drain-time-s` and `--parent-shutdown-time-s`. Default: 1.
    pub time_scale: f64,
    /// `--fake-flag-time-scale F`: the factor of `--drain-time-s` and `--parent-shutdown-time-s` alone. An agent
    /// that keeps these times itself needs 1, or it sees an old epoch end too early. Default: as `time_scale`.
    pub flag_time_scale: Option<f64>,
    /// `--fake-fault TEXT`, which may come several times.
    pub faults: Vec<Fault>,
    /// `--fake-script-socket PATH`: the Unix socket of a driver that decides on faults.
    pub script_socket: Option<PathBuf>,
    /// `--fake-state DIR`: the directory in which starts are counted, and faults that come once are
    /// remembered.
    pub state: Option<PathBuf>,
    /// `--fake-version X.Y.Z`: the version that `--version` and `/server_info` give. Default: 1.40.0.
    pub version: String,
    /// `--fake-hot-restart-version N.SIZE`: the version of the hot restart protocol, and the size of
    /// its shared memory. Default: 11.104.
    pub hot_restart_version: HotRestartVersion,
}

/// The version of the hot restart protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotRestartVersion {
    /// The version of the layout.
    pub number: u32,
    /// The size of the shared memory in bytes.
    pub size: u32,
}

impl fmt::Display for HotRestartVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.size)
    }
}

/// Why a setting of the fake is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The flag needs a value.
    #[error("{0} needs a value after it")]
    MissingValue(String),
    /// There is no such flag.
    #[error("{0:?} is no flag of the fake Envoy: see --help of its documentation")]
    Unknown(String),
    /// The value makes no sense.
    #[error("{flag} does not take {value:?}: {expected}")]
    BadValue {
        /// The flag.
        flag: &'static str,
        /// The value.
        value: String,
        /// What the flag takes.
        expected: &'static str,
    },
    /// A fault cannot be read.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A fault counts starts, and there is no place to count them.
    #[error("the fault {0} counts starts of several processes: add --fake-state with a directory")]
    NoState(String),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            time_scale: 1.0,
            flag_time_scale: None,
            faults: Vec::new(),
            script_socket: None,
            state: None,
            version: "1.40.0".to_owned(),
            hot_restart_version: HotRestartVersion {
                number: 11,
                size: 104,
            },
        }
    }
}

impl Settings {
    /// Takes a flag of the fake and its value. Returns whether the argument is such a flag.
    pub(crate) fn take(
        &mut self,
        argument: &str,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<bool, SettingsError> {
        if !argument.starts_with("--fake-") {
            return Ok(false);
        }
        let mut value = || {
            rest.next()
                .ok_or_else(|| SettingsError::MissingValue(argument.to_owned()))
        };
        match argument {
            "--fake-time-scale" => self.time_scale = scale("--fake-time-scale", value()?)?,
            "--fake-flag-time-scale" => {
                self.flag_time_scale = Some(scale("--fake-flag-time-scale", value()?)?);
            }
            "--fake-fault" => self.faults.push(value()?.parse()?),
            "--fake-script-socket" => self.script_socket = Some(value()?.into()),
            "--fake-state" => self.state = Some(value()?.into()),
            "--fake-version" => self.version = version(value()?)?,
            "--fake-hot-restart-version" => {
                self.hot_restart_version = hot_restart_version(value()?)?;
            }
            other => return Err(SettingsError::Unknown(other.to_owned())),
        }
        Ok(true)
    }

    /// Checks what only the whole can tell.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let mut counting = self.faults.iter().filter(|fault| fault.counts_starts());
        match (counting.next(), &self.state) {
            (Some(fault), None) => Err(SettingsError::NoState(fault.to_string())),
            _ => Ok(()),
        }
    }

    /// Returns whether the version is this one or newer.
    pub(crate) fn is_since(&self, major: u32, minor: u32) -> bool {
        let mut numbers = self
            .version
            .split('.')
            .map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }

    /// Scales a time of the real Envoy.
    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        times(time, self.time_scale)
    }

    /// Scales the drain time or the parent-shutdown time.
    pub(crate) fn scaled_flag(&self, time: Duration) -> Duration {
        times(time, self.flag_time_scale.unwrap_or(self.time_scale))
    }
}

impl std::str::FromStr for Settings {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        let mut words = text.split_whitespace().map(str::to_owned);
        while let Some(word) = words.next() {
            if !settings.take(&word, &mut words)? {
                return Err(SettingsError::Unknown(word));
            }
        }
        Ok(settings)
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::default();
        let mut words = Vec::new();
        let mut add = |flag: &str, value: String| words.push(format!("--fake-{flag} {value}"));
        if self.time_scale != default.time_scale {
            add("time-scale", self.time_scale.to_string());
        }
        if let Some(scale) = self.flag_time_scale {
            add("flag-time-scale", scale.to_string());
        }
        for fault in &self.faults {
            add("fault", fault.to_string());
        }
        for (flag, path) in [
            ("script-socket", &self.script_socket),
            ("state", &self.state),
        ] {
            if let Some(path) = path {
                add(flag, path.display().to_string());
            }
        }
        if self.version != default.version {
            add("version", self.version.clone());
        }
        if self.hot_restart_version != default.hot_restart_version {
            add("hot-restart-version", self.hot_restart_version.to_string());
        }
        f.write_str(&words.join(" "))
    }
}

fn times(time: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

fn scale(flag: &'static str, value: String) -> Result<f64, SettingsError> {
    let number = value.parse().ok();
    number
        .filter(|number: &f64| number.is_finite() && *number >= 0.0)
        .ok_or(SettingsError::BadValue {
            flag,
            value,
            expected: "use a factor such as 0.1, at least 0",
        })
}

fn version(value: String) -> Result<String, SettingsError> {
    let is_version = |text: &str| {
        let parts: Vec<_> = text.split('.').map(str::parse::<u32>).collect();
        parts.len() == 3 && parts.iter().all(Result::is_ok)
    };
    if is_version(&value) {
        return Ok(value);
    }
    Err(SettingsError::BadValue {
        flag: "--fake-version",
        value,
        expected: "use a version such as 1.40.0",
    })
}

fn hot_restart_version(value: String) -> Result<HotRestartVersion, SettingsError> {
    let read = |text: &str| {
        let (number, size) = text.split_once('.')?;
        let number = number.parse().ok()?;
        let size = size
            .parse()
            .ok()
            .filter(|size| (24..=4096).contains(size))?;
        Some(HotRestartVersion { number, size })
    };
    read(&value).ok_or(SettingsError::BadValue {
        flag: "--fake-hot-restart-version",
        value,
        expected: "use a version and a size of 24 to 4096 bytes, such as 11.104",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_reads_back() {
        for text in [
            "",
            "--fake-time-scale 0.25 --fake-flag-time-scale 1",
            "--fake-fault crash@live:epoch=2,once --fake-fault ignore-term --fake-state /tmp/x",
            "--fake-script-socket /s --fake-version 1.36.4 --fake-hot-restart-version 12.112",
        ] {
            let settings: Settings = text.parse().unwrap();
            assert_eq!(settings.to_string(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_remedy() {
        for (text, words) in [
            (
                "--fake-time-scale x",
                "--fake-time-scale does not take \"x\": use a factor such as 0.1, at least 0",
            ),
            ("--fake-fault", "--fake-fault needs a value after it"),
            (
                "--base-id 3",
                "\"--base-id\" is no flag of the fake Envoy: see --help of its documentation",
            ),
            (
                "--fake-version 1.40",
                "--fake-version does not take \"1.40\": use a version such as 1.40.0",
            ),
        ] {
            let error = text.parse::<Settings>().unwrap_err().to_string();
            assert_eq!(error, words);
        }
        let counting: Settings = "--fake-fault crash@live:once".parse().unwrap();
        assert!(matches!(counting.check(), Err(SettingsError::NoState(_))));
    }

    #[test]
    fn times_are_scaled() {
        let settings: Settings = "--fake-time-scale 0.1".parse().unwrap();
        let scaled = settings.scaled(Duration::from_secs(5));
        assert_eq!(scaled, Duration::from_millis(500));
        let whole = Duration::from_secs(5);
        assert_eq!(settings.scaled_flag(whole), scaled);
        let settings: Settings = format!("{settings} --fake-flag-time-scale 1")
            .parse()
            .unwrap();
        assert_eq!(settings.scaled_flag(whole), whole);
        assert_eq!(settings.scaled(whole), scaled);
    }
}
