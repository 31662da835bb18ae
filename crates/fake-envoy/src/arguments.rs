//! The command line of Envoy.
//!
//! A flag and its value are two arguments. A flag given twice, an unknown flag and a joined
//! `--flag=value` are refused with the texts of Envoy 1.40.

mod flags;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use self::flags::{Flag, Kind, usage};
use crate::settings::{Settings, SettingsError};

/// What Envoy is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Serve requests. The default.
    #[default]
    Serve,
    /// Check the configuration, and end.
    Validate,
    /// Initialise, and end.
    InitOnly,
}

/// How a draining process spreads the closing of connections over the drain time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainStrategy {
    /// The share of responses that ask the client to close grows over the drain time. The default.
    #[default]
    Gradual,
    /// Every response asks the client to close.
    Immediate,
}

/// The arguments of a start, with Envoy's defaults.
///
/// ```
/// use handover_fake_envoy::{Arguments, Request};
///
/// let line = ["envoy", "-c", "envoy.yaml", "--restart-epoch", "2", "--base-id", "7"];
/// let Ok(Request::Start(arguments)) = Arguments::parse(line) else {
///     panic!("Envoy takes these arguments");
/// };
/// assert_eq!(arguments.restart_epoch, 2);
/// assert_eq!(arguments.parent_shutdown_time.as_secs(), 900);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Arguments {
    /// `-c`, the file with the configuration.
    pub config_path: Option<PathBuf>,
    /// `--config-yaml`, which is merged into the file.
    pub config_yaml: Option<String>,
    /// `--mode`.
    pub mode: Mode,
    /// `--restart-epoch`. Default: 0.
    pub restart_epoch: u32,
    /// `--base-id`. Default: 0.
    pub base_id: u32,
    /// `--use-dynamic-base-id`: choose a free base id.
    pub use_dynamic_base_id: bool,
    /// `--base-id-path`: where the chosen base id is written.
    pub base_id_path: Option<PathBuf>,
    /// `--drain-time-s`. Default: 600 s.
    pub drain_time: Duration,
    /// `--parent-shutdown-time-s`. Default: 900 s.
    pub parent_shutdown_time: Duration,
    /// `--drain-strategy`.
    pub drain_strategy: DrainStrategy,
    /// `--concurrency`, the number of worker threads. Default: the number of processors.
    pub concurrency: u32,
    /// `--disable-hot-restart`.
    pub disable_hot_restart: bool,
    /// `--skip-hot-restart-on-no-parent`: start alone if there is no parent.
    pub skip_hot_restart_on_no_parent: bool,
    /// `--skip-hot-restart-parent-stats`: do not merge the statistics of the parent.
    pub skip_hot_restart_parent_stats: bool,
    /// `--log-path`: where the log goes instead of standard error.
    pub log_path: Option<PathBuf>,
    /// `-l`. Default: `info`.
    pub log_level: String,
    /// `--socket-path`. Default: `@envoy_domain_socket`.
    pub socket_path: String,
    /// `--socket-mode`, the permissions of a domain socket with a path. Default: 0o600.
    pub socket_mode: u32,
    /// `--admin-address-path`: where the address of the admin endpoint is written.
    pub admin_address_path: Option<PathBuf>,
    /// `--service-node`.
    pub service_node: String,
    /// `--service-cluster`.
    pub service_cluster: String,
    /// What is fake about it. Envoy has no such flags.
    pub settings: Settings,
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// To start.
    Start(Box<Arguments>),
    /// `--version`.
    Version(Box<Settings>),
    /// `--hot-restart-version`.
    HotRestartVersion(Box<Settings>),
    /// `--help`, with the page.
    Help(String),
}

/// Why a command line is refused: the text that goes to standard error. The exit code is 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArgumentsError(String);

impl From<SettingsError> for ArgumentsError {
    fn from(error: SettingsError) -> Self {
        Self(format!("error: {error}\n"))
    }
}

/// The arguments as they were given: flags with their values.
type Given = BTreeMap<&'static str, Vec<String>>;

impl Arguments {
    /// Reads a command line; the first argument is the name of the program. The environment is not
    /// looked at: [`run`](crate::run) adds what it holds.
    ///
    /// # Errors
    ///
    /// [`ArgumentsError`] is what Envoy writes before it exits 1.
    pub fn parse<S: Into<String>>(
        line: impl IntoIterator<Item = S>,
    ) -> Result<Request, ArgumentsError> {
        Self::parse_with(line, Settings::default())
    }

    /// Reads a command line over settings that are there already.
    pub(crate) fn parse_with<S: Into<String>>(
        line: impl IntoIterator<Item = S>,
        mut settings: Settings,
    ) -> Result<Request, ArgumentsError> {
        let mut line = line.into_iter().map(Into::into);
        let program = line.next().unwrap_or_else(|| "envoy".to_owned());
        let refused = |argument: &str, why: &str| {
            ArgumentsError(format!(
                "PARSE ERROR: Argument: {argument}\n             {why}\n\n{}",
                usage(&program, false)
            ))
        };
        let mut given = Given::new();
        let mut wanted = None;
        while let Some(argument) = line.next() {
            if settings.take(&argument, &mut line)? {
                continue;
            }
            match &*argument {
                "--version" => {
                    wanted = wanted.or(Some(Request::Version(Box::default())));
                    continue;
                }
                "--help" | "-h" => return Ok(Request::Help(usage(&program, true))),
                // Everything behind it is ignored.
                "--" | "--ignore_rest" => break,
                // Short switches can be joined, and the only one asks for help.
                other if is_joined(other) => return Ok(Request::Help(usage(&program, true))),
                _ => {}
            }
            let Some(flag) = Flag::named(&argument) else {
                return Err(refused(&argument, "Couldn't find match for argument"));
            };
            let values = given.entry(flag.long).or_default();
            if !values.is_empty() && flag.kind != Kind::Texts {
                return Err(refused(&flag.in_complaints(), "Argument already set!"));
            }
            let value = match flag.kind {
                Kind::Switch => String::new(),
                Kind::Text | Kind::Texts | Kind::Number => line.next().ok_or_else(|| {
                    refused(&flag.in_complaints(), "Missing a value for this argument!")
                })?,
            };
            if flag.kind == Kind::Number && number(&value).is_none() {
                let why = format!("Couldn't read argument value from string '{value}'");
                return Err(refused(&flag.in_complaints(), &why));
            }
            values.push(value);
        }
        settings.check()?;
        if given.contains_key("--hot-restart-version") {
            return Ok(Request::HotRestartVersion(Box::new(settings)));
        }
        if wanted.is_some() {
            return Ok(Request::Version(Box::new(settings)));
        }
        Self::from_given(&mut given, settings).map(|it| Request::Start(Box::new(it)))
    }

    fn from_given(given: &mut Given, settings: Settings) -> Result<Self, ArgumentsError> {
        let error = |text: String| ArgumentsError(format!("error: {text}\n"));
        let mode_text = text(given, "--mode").unwrap_or_else(|| "serve".to_owned());
        let log_level = text(given, "--log-level").unwrap_or_else(|| "info".to_owned());
        if !LEVELS.contains(&&*log_level) {
            return Err(error(format!("invalid log level specified '{log_level}'")));
        }
        let mode = match &*mode_text {
            "serve" => Mode::Serve,
            "validate" => Mode::Validate,
            "init_only" => Mode::InitOnly,
            other => return Err(error(format!("unknown mode '{other}'"))),
        };
        let drain_strategy = match text(given, "--drain-strategy").as_deref() {
            None | Some("gradual") => DrainStrategy::Gradual,
            Some("immediate") => DrainStrategy::Immediate,
            // Envoy 1.40 names the mode here, not the strategy.
            Some(_) => return Err(error(format!("unknown drain-strategy '{mode_text}'"))),
        };
        let ip_version = text(given, "--local-address-ip-version");
        if let Some(other) = ip_version.filter(|it| it != "v4" && it != "v6") {
            return Err(error(format!("unknown IP address version '{other}'")));
        }
        let socket_mode = text(given, "--socket-mode");
        let socket_mode = match &socket_mode {
            None => 0o600,
            Some(text) => u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o777)
                .ok_or_else(|| error(format!("invalid socket-mode '{text}'")))?,
        };
        let restart_epoch = value(given, "--restart-epoch").unwrap_or(0);
        let use_dynamic_base_id = given.contains_key("--use-dynamic-base-id");
        if use_dynamic_base_id && restart_epoch > 0 {
            return Err(error(format!(
                "cannot use --restart-epoch={restart_epoch} with --use-dynamic-base-id"
            )));
        }
        let seconds = |number: u32| Duration::from_secs(number.into());
        let path = |given: &mut Given, flag| text(given, flag).map(PathBuf::from);
        Ok(Self {
            config_path: path(given, "--config-path"),
            config_yaml: text(given, "--config-yaml"),
            mode,
            restart_epoch,
            base_id: value(given, "--base-id").unwrap_or(0),
            use_dynamic_base_id,
            base_id_path: path(given, "--base-id-path"),
            drain_time: seconds(value(given, "--drain-time-s").unwrap_or(600)),
            parent_shutdown_time: seconds(value(given, "--parent-shutdown-time-s").unwrap_or(900)),
            drain_strategy,
            concurrency: value(given, "--concurrency")
                .unwrap_or_else(processors)
                .max(1),
            disable_hot_restart: given.contains_key("--disable-hot-restart"),
            skip_hot_restart_on_no_parent: given.contains_key("--skip-hot-restart-on-no-parent"),
            skip_hot_restart_parent_stats: given.contains_key("--skip-hot-restart-parent-stats"),
            log_path: path(given, "--log-path"),
            log_level,
            socket_path: text(given, "--socket-path")
                .unwrap_or_else(|| "@envoy_domain_socket".to_owned()),
            socket_mode,
            admin_address_path: path(given, "--admin-address-path"),
            service_node: text(given, "--service-node").unwrap_or_default(),
            service_cluster: text(given, "--service-cluster").unwrap_or_default(),
            settings,
        })
    }
}

/// What `-l` takes.
const LEVELS: [&str; 8] = [
    "trace", "debug", "info", "warning", "warn", "error", "critical", "off",
];

fn is_joined(argument: &str) -> bool {
    let letters = argument.strip_prefix('-').unwrap_or_default();
    letters.len() > 1 && !letters.starts_with('-') && letters.contains('h')
}

fn text(given: &mut Given, flag: &str) -> Option<String> {
    given.get_mut(flag)?.pop()
}

fn value(given: &mut Given, flag: &str) -> Option<u32> {
    number(&text(given, flag)?)
}

/// Reads a number as Envoy's parser does: a negative one wraps.
fn number(text: &str) -> Option<u32> {
    let number: i64 = text.parse().ok()?;
    if number < 0 {
        i32::try_from(number).ok().map(i32::cast_unsigned)
    } else {
        u32::try_from(number).ok()
    }
}

fn processors() -> u32 {
    let count = std::thread::available_parallelism();
    count.map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> String {
        let line = std::iter::once("envoy").chain(line.split_whitespace());
        let error = Arguments::parse(line).unwrap_err().to_string();
        let sentence = error.split("\n\n").next().unwrap();
        sentence.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The texts of Envoy 1.40.
    #[test]
    fn what_envoy_refuses_is_refused_in_its_words() {
        for (line, words) in [
            (
                "--bogus",
                "PARSE ERROR: Argument: --bogus Couldn't find match for argument",
            ),
            (
                "--base-id 7 --base-id 8",
                "PARSE ERROR: Argument: (--base-id) Argument already set!",
            ),
            (
                "-c a -c b",
                "PARSE ERROR: Argument: -c (--config-path) Argument already set!",
            ),
            (
                "--base-id=7",
                "PARSE ERROR: Argument: --base-id=7 Couldn't find match for argument",
            ),
            (
                "--base-id",
                "PARSE ERROR: Argument: (--base-id) Missing a value for this argument!",
            ),
            (
                "--base-id x",
                "PARSE ERROR: Argument: (--base-id) Couldn't read argument value from string 'x'",
            ),
            (
                "stray",
                "PARSE ERROR: Argument: stray Couldn't find match for argument",
            ),
            ("--mode foo", "error: unknown mode 'foo'"),
            (
                "--drain-strategy foo",
                "error: unknown drain-strategy 'serve'",
            ),
            ("-l foo", "error: invalid log level specified 'foo'"),
            (
                "--restart-epoch 1 --use-dynamic-base-id",
                "error: cannot use --restart-epoch=1 with --use-dynamic-base-id",
            ),
        ] {
            assert_eq!(refusal(line), words, "{line}");
        }
    }

    #[test]
    fn a_whole_line_is_read() {
        let line = "envoy -c a.yaml --restart-epoch 3 --base-id 7 --drain-time-s 2 \
                    --parent-shutdown-time-s 4 --drain-strategy immediate --concurrency 2 -l warning \
                    --stats-tag a:b --stats-tag c:d --fake-time-scale 0.5";
        let Request::Start(read) = Arguments::parse(line.split_whitespace()).unwrap() else {
            panic!("a start")
        };
        assert_eq!(
            (read.restart_epoch, read.base_id, read.concurrency),
            (3, 7, 2)
        );
        assert_eq!(read.drain_time, Duration::from_secs(2));
        assert_eq!(read.parent_shutdown_time, Duration::from_secs(4));
        assert_eq!(read.drain_strategy, DrainStrategy::Immediate);
        assert_eq!(read.settings.time_scale, 0.5);
    }

    #[test]
    fn questions_about_the_program_are_told_from_starts() {
        let ask = |line: &str| Arguments::parse(line.split_whitespace()).unwrap();
        assert!(matches!(ask("envoy --version"), Request::Version(_)));
        let version = ask("envoy --hot-restart-version");
        assert!(matches!(version, Request::HotRestartVersion(_)));
        for line in ["envoy --help", "envoy -h", "envoy -ch"] {
            assert!(matches!(ask(line), Request::Help(_)), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(
            proptest::string::string_regex("(-{0,2}(base-id|c|l|mode|fake-fault|fake-time-scale)|[a-z0-9@=:.-]{0,6})").unwrap(), 0..8,
        )) {
            let _read = Arguments::parse(line).is_ok();
        }
    }
}
