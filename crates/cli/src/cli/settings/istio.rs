//! The variables of Istio's agent that have an equal among the flags of `run`.

use std::ffi::OsString;
use std::time::Duration;

use crate::cli::duration;

/// The longest drain, in whole seconds.
pub(crate) const TERMINATION_DRAIN: &str = "TERMINATION_DRAIN_DURATION_SECONDS";
/// The shortest drain, with a unit.
pub(crate) const MINIMUM_DRAIN: &str = "MINIMUM_DRAIN_DURATION";
/// Whether a drain ends when no connection is left, or takes its whole time.
pub(crate) const EXIT_ON_ZERO: &str = "EXIT_ON_ZERO_ACTIVE_CONNECTIONS";
/// The processors of the container, rounded up. Istio starts as many worker threads.
pub(crate) const CPU_LIMIT: &str = "ISTIO_CPU_LIMIT";

/// Returns what the flag would be given, `None` if the variable asks for nothing.
type Convert = fn(&OsString) -> Result<Option<String>, String>;

/// The variables that stand for a flag, and the id of the flag. [`EXIT_ON_ZERO`] is none of them: what it means
/// depends on another flag.
pub(super) const VARIABLES: [(&str, &str, Convert); 3] = [
    (TERMINATION_DRAIN, "termination_drain", |text| {
        seconds(text).map(|time| Some(format!("{}s", time.as_secs())))
    }),
    (MINIMUM_DRAIN, "min_drain", |text| {
        minimum_drain(text)?;
        Ok(Some(text.to_string_lossy().into_owned()))
    }),
    (CPU_LIMIT, "concurrency", |text| {
        let number = text.to_str().and_then(|text| text.parse::<u32>().ok());
        match number {
            // Istio takes 0 for no limit.
            Some(0) => Ok(None),
            Some(number) => Ok(Some(number.to_string())),
            None => Err(format!(
                "{CPU_LIMIT} is {text:?}, which is no whole number of processors: set it to a number \
                 such as 2, or unset it and use --concurrency"
            )),
        }
    }),
];

/// Returns the value of a variable. An empty one is unset.
pub(super) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns whether any of these variables is set.
pub(super) fn is_in_environment() -> bool {
    let names = VARIABLES.iter().map(|(name, ..)| *name);
    names
        .chain([EXIT_ON_ZERO])
        .any(|name| variable(name).is_some())
}

/// Reads the longest drain.
///
/// # Errors
///
/// A message if it is no number of seconds.
pub(crate) fn seconds(text: &OsString) -> Result<Duration, String> {
    let seconds = text.to_str().and_then(|text| text.parse::<u32>().ok());
    seconds
        .map(|seconds| Duration::from_secs(seconds.into()))
        .ok_or_else(|| {
            format!(
                "{TERMINATION_DRAIN} is {text:?}, which is no number of whole seconds: set it to a \
                 number such as 5, or unset it and use --termination-drain"
            )
        })
}

/// Reads the shortest drain.
///
/// # Errors
///
/// A message if it is no time.
pub(crate) fn minimum_drain(text: &OsString) -> Result<Duration, String> {
    duration::parse(&text.to_string_lossy()).map_err(|error| {
        format!(
            "{MINIMUM_DRAIN} is {text:?}, which is no time ({error}): correct it, or unset it and use \
             --min-drain"
        )
    })
}

/// Reads whether a drain ends when no connection is left, in the words that Istio takes.
///
/// # Errors
///
/// A message if it is none of them.
pub(crate) fn says_true(text: &OsString) -> Result<bool, String> {
    match text.to_str() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(_) | None => Err(format!(
            "{EXIT_ON_ZERO} is {text:?}: set it to true or false, or unset it and use --min-drain"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_seconds_is_named() {
        assert_eq!(seconds(&"45".into()), Ok(Duration::from_secs(45)));
        for bad in ["", "5s", "-1", "1.5", " 5", "4294967296"] {
            let error = seconds(&bad.into()).unwrap_err();
            assert!(error.starts_with(TERMINATION_DRAIN), "{error}");
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_time_is_written_as_istio_writes_it() {
        for (text, seconds) in [
            ("5s", 5.0),
            ("1m0s", 60.0),
            ("1h2m3s", 3723.0),
            ("500ms", 0.5),
        ] {
            let time = Duration::from_secs_f64(seconds);
            assert_eq!(minimum_drain(&text.into()), Ok(time), "{text}");
        }
        let error = minimum_drain(&"5".into()).unwrap_err();
        assert!(
            error.starts_with("MINIMUM_DRAIN_DURATION is \"5\""),
            "{error}"
        );
    }

    #[test]
    fn each_stands_for_a_flag_of_run() {
        let command = <crate::cli::Cli as clap::CommandFactory>::command();
        let run = command.find_subcommand("run").unwrap();
        for (variable, id, _) in VARIABLES {
            let arg = run.get_arguments().find(|arg| arg.get_id() == id).unwrap();
            assert!(arg.get_long().is_some(), "{variable}");
        }
    }
}
