//! Envoy's command line: typed, complete, and the same for every epoch.
//!
//! Envoy's parser takes a flag and its value as two arguments (`--flag=value` is refused), does not
//! know abbreviations, refuses a flag given twice, and combines short flags (`-ch` is `-h`: it
//! prints the help text and exits 0, which looks like a clean end). So everything a user adds is
//! checked here, before an epoch is spent.

mod command_line;
mod refused;
mod risk;
mod user;

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use self::user::{Given, UserArgs};
use crate::hot_restart::BaseId;

pub use self::risk::ConcurrencyRisk;

/// How a draining Envoy spreads the closing of connections over the drain time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DrainStrategy {
    /// The share of responses that ask the client to close grows over the drain time. Envoy's
    /// default.
    #[default]
    Gradual,
    /// Every response asks the client to close from the start of the drain.
    Immediate,
}

/// The address family of the local address that Envoy reports for its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// IPv4, `v4`.
    V4,
    /// IPv6, `v6`.
    V6,
}

impl fmt::Display for DrainStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gradual => "gradual",
            Self::Immediate => "immediate",
        })
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// What [`EnvoyArgs`] is made from. Plain data; [`EnvoyArgs::new`] checks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgsOptions {
    /// How long a draining epoch takes to close its connections, in whole seconds (the unit of
    /// Envoy's flag). Must be shorter than `parent_shutdown_time`. Default: 45 s.
    pub drain_time: Duration,
    /// How long after the next epoch's start an epoch ends, in whole seconds. Default: 60 s.
    pub parent_shutdown_time: Duration,
    /// How connections are closed over the drain time.
    pub drain_strategy: DrainStrategy,
    /// `--service-cluster`.
    pub service_cluster: Option<String>,
    /// `--service-node`.
    pub service_node: Option<String>,
    /// `--log-level`: `trace`, `debug`, `info`, `warning`, `error` or `critical`; Envoy's default is
    /// `info`.
    pub log_level: Option<String>,
    /// `--component-log-level`, for example `upstream:debug,config:trace`.
    pub component_log_level: Option<String>,
    /// The number of worker threads. It is passed to every epoch even where it is not given here
    /// (then it is the number of processors at the time of [`EnvoyArgs::new`]), because epochs that
    /// differ in it lose connections while one hands over to the other.
    pub concurrency: Option<NonZeroU32>,
    /// `--local-address-ip-version`.
    pub local_address_ip_version: Option<IpVersion>,
    /// More arguments for Envoy, as the user wrote them. `-l`, `--log-level`,
    /// `--component-log-level`, `--concurrency`, `--drain-strategy`, `--service-cluster`,
    /// `--service-node` and `--local-address-ip-version` are taken too where the field above is
    /// not set.
    pub extra: Vec<String>,
}

impl Default for ArgsOptions {
    fn default() -> Self {
        Self {
            drain_time: Duration::from_secs(45),
            parent_shutdown_time: Duration::from_secs(60),
            drain_strategy: DrainStrategy::default(),
            service_cluster: None,
            service_node: None,
            log_level: None,
            component_log_level: None,
            concurrency: None,
            local_address_ip_version: None,
            extra: Vec::new(),
        }
    }
}

/// Why arguments cannot be passed to Envoy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// A duration has a fraction of a second. It is not rounded: a drain that is longer than asked
    /// for surprises as much as one that is shorter.
    #[error("{what} is {given:?}, but Envoy counts it in whole seconds: use {}s or {}s",
        given.as_secs(), given.as_secs().saturating_add(1))]
    NotWholeSeconds {
        /// Which duration.
        what: &'static str,
        /// The duration given.
        given: Duration,
    },
    /// A duration does not fit Envoy's 32-bit seconds.
    #[error(
        "{what} is {given:?}, and the longest that Envoy takes is {}s: shorten it",
        u32::MAX
    )]
    TooLong {
        /// Which duration.
        what: &'static str,
        /// The duration given.
        given: Duration,
    },
    /// The old epoch would be ended before its drain is over.
    #[error(
        "the drain time ({drain:?}) must be shorter than the parent shutdown time ({shutdown:?}), \
         or the old epoch is ended while it still drains: shorten the one or lengthen the other"
    )]
    DrainOutlastsShutdown {
        /// The drain time.
        drain: Duration,
        /// The parent shutdown time.
        shutdown: Duration,
    },
    /// A flag is set by Handover, or would break the hand-over.
    #[error("envoy argument {flag} cannot be passed on: {reason}; {remedy}")]
    Refused {
        /// The flag as the user wrote it, without a value.
        flag: String,
        /// Why it cannot be passed on, as the end of the sentence.
        reason: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A flag was written as `--flag=value`.
    #[error(
        "envoy argument {flag}={value} is one argument, but Envoy takes two: write {flag} {value}"
    )]
    Joined {
        /// The flag.
        flag: String,
        /// The value.
        value: String,
    },
    /// Short flags were combined, or a value was glued to one.
    #[error(
        "envoy argument {0} joins letters to a short flag, which Envoy reads as more flags: put a space between them"
    )]
    Combined(String),
    /// A flag is there twice, and Envoy refuses that.
    #[error("envoy argument {0} is set twice, and Envoy refuses that: set it once")]
    Duplicate(String),
    /// A flag needs a value and has none.
    #[error("envoy argument {0} needs a value after it")]
    MissingValue(String),
    /// A value of a flag that is understood here makes no sense.
    #[error("envoy argument {flag} does not take {value:?}: {expected}")]
    BadValue {
        /// The flag.
        flag: String,
        /// The value.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// Something that is neither a flag nor a flag's value.
    #[error("envoy argument {0:?} is neither a flag nor the value of one: remove it")]
    Stray(String),
    /// An argument holds a NUL byte, which no program can be given.
    #[error("envoy argument {0:?} holds a NUL byte: remove it")]
    Nul(String),
}

/// Checked arguments for every epoch of one Envoy.
///
/// ```
/// use handover_envoy::args::{ArgsOptions, EnvoyArgs};
/// use handover_envoy::hot_restart::BaseId;
/// use std::num::NonZeroU32;
///
/// let args = EnvoyArgs::new(ArgsOptions {
///     concurrency: NonZeroU32::new(2),
///     extra: vec!["--service-zone".into(), "eu-1".into()],
///     ..ArgsOptions::default()
/// })?;
/// let line = args.serve("/run/x/envoy-rev1.yaml".as_ref(), 1, BaseId::new(7)?);
/// assert_eq!(line[..4], ["-c", "/run/x/envoy-rev1.yaml", "--restart-epoch", "1"]);
///
/// // What would break the hand-over is refused, with the reason.
/// let refused = EnvoyArgs::new(ArgsOptions {
///     extra: vec!["--base-id".into(), "3".into()],
///     ..ArgsOptions::default()
/// });
/// assert!(refused.unwrap_err().to_string().contains("--base-id cannot be passed on"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyArgs {
    drain_time_s: u32,
    parent_shutdown_time_s: u32,
    concurrency: NonZeroU32,
    /// Flags that only a serving Envoy needs, rendered.
    logging: Vec<OsString>,
    /// Flags that have a say in whether a configuration is valid, rendered.
    common: Vec<OsString>,
    drain_strategy: String,
}

impl EnvoyArgs {
    /// Checks the options.
    ///
    /// # Errors
    ///
    /// [`ArgsError`] names the option or argument, and what to do.
    pub fn new(options: ArgsOptions) -> Result<Self, ArgsError> {
        let drain_time_s = whole_seconds("the drain time", options.drain_time)?;
        let parent_shutdown_time_s =
            whole_seconds("the parent shutdown time", options.parent_shutdown_time)?;
        if drain_time_s >= parent_shutdown_time_s {
            return Err(ArgsError::DrainOutlastsShutdown {
                drain: options.drain_time,
                shutdown: options.parent_shutdown_time,
            });
        }
        let mut user = UserArgs::parse(&options.extra)?;
        let mut common = Vec::new();
        let mut logging = Vec::new();

        let concurrency = match user.take("--concurrency", options.concurrency)? {
            Given::Field(count) => count,
            Given::Argument(value) => value.parse().map_err(|_| ArgsError::BadValue {
                flag: "--concurrency".to_owned(),
                value,
                expected: "a number of worker threads, at least 1",
            })?,
            Given::Nothing => processors(),
        };
        let strategy =
            (options.drain_strategy != DrainStrategy::Gradual).then_some(options.drain_strategy);
        let drain_strategy = match user.take("--drain-strategy", strategy)? {
            Given::Field(strategy) => strategy.to_string(),
            Given::Argument(value) if matches!(&*value, "gradual" | "immediate") => value,
            Given::Argument(value) => {
                return Err(ArgsError::BadValue {
                    flag: "--drain-strategy".to_owned(),
                    value,
                    expected: "use gradual or immediate",
                });
            }
            Given::Nothing => DrainStrategy::default().to_string(),
        };
        for (flag, field) in [
            ("--service-cluster", options.service_cluster),
            ("--service-node", options.service_node),
        ] {
            user.take(flag, field)?.render(flag, &mut common)?;
        }
        let flag = "--local-address-ip-version";
        match user.take(flag, options.local_address_ip_version)? {
            Given::Argument(value) if !matches!(&*value, "v4" | "v6") => {
                return Err(ArgsError::BadValue {
                    flag: flag.to_owned(),
                    value,
                    expected: "use v4 or v6",
                });
            }
            given @ (Given::Field(_) | Given::Argument(_) | Given::Nothing) => {
                given.render(flag, &mut common)?;
            }
        }
        for (flag, field) in [
            ("--log-level", options.log_level),
            ("--component-log-level", options.component_log_level),
        ] {
            let given = user.take(flag, field)?;
            if flag == "--log-level"
                && let Some(value) = given.value()
                && !LOG_LEVELS.contains(&&*value)
            {
                let expected = match &*value {
                    "off" => "Envoy would not tell why it fails; use critical",
                    _ => "use trace, debug, info, warning, error or critical",
                };
                return Err(ArgsError::BadValue {
                    flag: flag.to_owned(),
                    value,
                    expected,
                });
            }
            given.render(flag, &mut logging)?;
        }
        // What is left goes last, in the user's order.
        common.extend(user.rest());
        Ok(Self {
            drain_time_s,
            parent_shutdown_time_s,
            concurrency,
            logging,
            common,
            drain_strategy,
        })
    }

    /// Returns the arguments with which an epoch serves.
    #[must_use]
    pub fn serve(&self, config: &Path, epoch: u32, base_id: BaseId) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["-c".into(), config.into()];
        let mut flag = |flag: &str, value: &dyn fmt::Display| {
            args.push(flag.into());
            args.push(value.to_string().into());
        };
        flag("--restart-epoch", &epoch);
        flag("--base-id", &base_id);
        flag("--drain-time-s", &self.drain_time_s);
        flag("--parent-shutdown-time-s", &self.parent_shutdown_time_s);
        flag("--drain-strategy", &self.drain_strategy);
        flag("--concurrency", &self.concurrency);
        args.extend_from_slice(&self.logging);
        args.extend_from_slice(&self.common);
        args
    }

    /// Returns the arguments with which Envoy checks a configuration: those that can change the
    /// verdict, and a log level at which the reason is written. Base id and epoch are absent,
    /// because validation does not touch shared memory.
    #[must_use]
    pub fn validate(&self, config: &Path) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--mode".into(), "validate".into()];
        args.extend(["-c".into(), config.into()]);
        args.extend(["--concurrency".into(), self.concurrency.to_string().into()]);
        args.extend(["--log-level".into(), "warning".into()]);
        args.extend_from_slice(&self.common);
        args
    }

    /// Returns the number of worker threads that every epoch is given.
    #[must_use]
    pub fn concurrency(&self) -> NonZeroU32 {
        self.concurrency
    }

    /// Returns the drain time, in whole seconds as Envoy is given it.
    #[must_use]
    pub fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_time_s.into())
    }

    /// Returns the parent-shutdown time, in whole seconds as Envoy is given it.
    #[must_use]
    pub fn parent_shutdown_time(&self) -> Duration {
        Duration::from_secs(self.parent_shutdown_time_s.into())
    }
}

/// What `--log-level` takes here. Envoy also knows `off`, which would hide why it fails.
const LOG_LEVELS: [&str; 7] = [
    "trace", "debug", "info", "warning", "warn", "error", "critical",
];

fn whole_seconds(what: &'static str, given: Duration) -> Result<u32, ArgsError> {
    // With a fraction, the next whole second has to fit too, because it is offered.
    let ceiling = given
        .as_secs()
        .saturating_add(u64::from(given.subsec_nanos() != 0));
    if ceiling > u64::from(u32::MAX) {
        return Err(ArgsError::TooLong { what, given });
    }
    if given.subsec_nanos() != 0 {
        return Err(ArgsError::NotWholeSeconds { what, given });
    }
    u32::try_from(given.as_secs()).map_err(|_| ArgsError::TooLong { what, given })
}

/// The number of processors this process may use, which is what Envoy would choose.
fn processors() -> NonZeroU32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|count| NonZeroU32::try_from(count).ok())
        .unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests;
