//! The arguments of an instance without what could be a secret, for a recording and a report.
//!
//! What is shown is listed, and all else is hidden: a value that is not known to be harmless is one that
//! may be a secret. So a flag that is added later hides its value until somebody lists it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::builder::Resettable;
use clap::{Arg, ArgMatches, Command, CommandFactory as _};
use serde::Serialize;

use super::Cli;
use super::settings::{Origin, origin};

/// The commands that record.
const RECORDING: [&str; 2] = ["run", "exec"];

/// The arguments whose values are shown, beside those that are one of a few words. They are times, numbers,
/// addresses, names and paths.
const SHOWN: [&str; 67] = [
    "abort_grace",
    "ambient_caps",
    "arg_epoch",
    "base_id",
    "concurrency",
    "config_overlay",
    "config_path",
    "cwd",
    "drain_exclude_listener",
    "drain_exclude_port",
    "drain_inbound_only",
    "drain_time",
    "drain_while_connected",
    "envoy_log_level",
    "envoy_path",
    "exit_with_file",
    "exit_with_pid",
    "fd_name",
    "give_way_after",
    "group",
    "hook_timeout",
    "hung_after",
    "listen",
    "listen_backlog",
    "listen_defer_accept",
    "listen_group",
    "listen_mode",
    "listen_user",
    "listen_v6only",
    "listen_workers",
    "live_after",
    "lock_dir",
    "max_epochs",
    "max_retries",
    "min_drain",
    "min_interval",
    "name",
    "native_sidecar",
    "no_repair",
    "nofile",
    "nonblocking",
    "notify",
    "on_exit",
    "parent_shutdown_time",
    "pre_drain_delay",
    "ready_fd",
    "rescan_interval",
    "reset_after",
    "retry_interval",
    "retry_jitter",
    "retry_max_interval",
    "run_dir",
    "run_dir_group",
    "settings",
    "socket",
    "start_deadline",
    "state_dir",
    "status_address",
    "stop",
    "stop_signal",
    "template",
    "termination_drain",
    "termination_log",
    "user",
    "wait_for_file",
    "wait_for_file_timeout",
    "watch",
];

/// An argument that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Described {
    /// The flag, or what a word without one is called.
    argument: String,
    /// Its values. One that is hidden is told by its length.
    values: Vec<String>,
    /// Whether it was a word, a variable or a line of the settings file.
    from: &'static str,
}

/// The arguments of this process, once they are parsed.
static OWN: OnceLock<Vec<Described>> = OnceLock::new();

/// Keeps the arguments of this process, its variables among them, without what could be a secret. To parse
/// them again for a recording would cost memory for the rest of the process.
pub(super) fn remember(
    command: &Command,
    matches: &ArgMatches,
    origins: &BTreeMap<String, Origin>,
) {
    if let Some((name, matches)) = matches.subcommand()
        && RECORDING.contains(&name)
    {
        // Those of the first parse are the ones that count.
        let _kept = OWN.set(describe_all(command, name, matches, origins));
    }
}

/// Returns the arguments of this process.
pub(crate) fn own() -> &'static [Described] {
    OWN.get().map(Vec::as_slice).unwrap_or_default()
}

/// Returns the arguments among the words of another process, without what could be a secret. The variables of
/// this process do not count. There are none where the words cannot be parsed.
pub(crate) fn described(words: &[OsString]) -> Vec<Described> {
    let Some((command, name, matches)) = parsed(words) else {
        return Vec::new();
    };
    describe_all(&command, &name, &matches, &BTreeMap::new())
}

/// Returns the path that an argument has among these words.
pub(crate) fn path(words: &[OsString], id: &str) -> Option<PathBuf> {
    let (_, _, matches) = parsed(words)?;
    let path = matches.try_get_one::<PathBuf>(id).ok()??;
    Some(path.clone())
}

/// All commands, the name of the one of these words, and what they say.
fn parsed(words: &[OsString]) -> Option<(Command, String, ArgMatches)> {
    // What such a command line lacks is in its settings file.
    let mut command = Cli::command()
        .ignore_errors(true)
        .mut_subcommands(|command| {
            command.mut_args(|arg| match arg.get_env() {
                Some(_) => arg.env(Resettable::Reset),
                None => arg,
            })
        });
    let mut matches = command.try_get_matches_from_mut(words).ok()?;
    let (name, matches) = matches.remove_subcommand()?;
    Some((command, name, matches))
}

fn describe_all(
    command: &Command,
    name: &str,
    matches: &ArgMatches,
    origins: &BTreeMap<String, Origin>,
) -> Vec<Described> {
    let command = command.find_subcommand(name);
    let args = command.into_iter().flat_map(Command::get_arguments);
    args.filter_map(|arg| describe(arg, matches, origins))
        .collect()
}

fn describe(
    arg: &Arg,
    matches: &ArgMatches,
    origins: &BTreeMap<String, Origin>,
) -> Option<Described> {
    let id = arg.get_id().as_str();
    let from = match origin(arg, matches, origins)? {
        Origin::Flag => "command line",
        Origin::Variable(_) => "variable",
        Origin::File { .. } => "settings file",
        Origin::Default => return None,
    };
    let values = matches.get_raw(id).into_iter().flatten();
    let is_shown = SHOWN.contains(&id) || !arg.get_possible_values().is_empty();
    let values = values.enumerate().map(|(place, value)| match id {
        _ if is_shown => value.to_string_lossy().into_owned(),
        // The program, but not its arguments.
        "command" if place == 0 => value.to_string_lossy().into_owned(),
        "envoy_args" => flag_of(value),
        _ => hidden(value),
    });
    Some(Described {
        argument: match arg.get_long() {
            Some(long) => format!("--{long}"),
            None => id.to_owned(),
        },
        values: values.collect(),
        from,
    })
}

/// The name of a flag, without its value.
fn flag_of(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    match text.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') => {
            format!("{flag}={}", hidden(value.as_ref()))
        }
        None if text.starts_with('-') => text.into_owned(),
        Some(_) | None => hidden(word),
    }
}

fn hidden(value: &OsStr) -> String {
    format!("[{} bytes hidden]", value.len())
}

#[cfg(feature = "envoy")]
#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Vec<(String, Vec<String>)> {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        let described = described(&words).into_iter();
        described.map(|it| (it.argument, it.values)).collect()
    }

    fn is(argument: &str, values: &[&str]) -> (String, Vec<String>) {
        let values = values.iter().map(ToString::to_string).collect();
        (argument.to_owned(), values)
    }

    #[test]
    fn what_may_be_a_secret_is_hidden_and_what_cannot_be_one_is_shown() {
        let described = of(&[
            "handover",
            "exec",
            "--listen",
            "127.0.0.1:80",
            "--drain-time=3s",
            "--log-level",
            "debug",
            "--probe-http",
            "http://u:s3cret@h/x",
            "--",
            "/bin/server",
            "--password",
            "s3cret",
        ]);
        for expected in [
            is("--listen", &["127.0.0.1:80"]),
            is("--drain-time", &["3s"]),
            is("--log-level", &["debug"]),
            is("--probe-http", &["[19 bytes hidden]"]),
            is(
                "command",
                &["/bin/server", "[10 bytes hidden]", "[6 bytes hidden]"],
            ),
        ] {
            assert!(described.contains(&expected), "{expected:?}: {described:?}");
        }
        assert_eq!(described.len(), 5, "{described:?}");
        let described = of(&[
            "handover",
            "run",
            "--config-path",
            "/e.yaml",
            "--service-node",
            "s3cret",
            "--",
            "--flag=s3cret",
            "--other",
            "s3cret",
        ]);
        let extra = is(
            "envoy_args",
            &["--flag=[6 bytes hidden]", "--other", "[6 bytes hidden]"],
        );
        assert!(described.contains(&extra), "{described:?}");
        assert!(
            !format!("{described:?}").contains("s3cret"),
            "{described:?}"
        );
        assert_eq!(of(&["handover", "exec", "--nonsense"]), []);
    }

    #[test]
    fn each_argument_that_is_shown_is_one_of_run_or_exec() {
        let command = Cli::command();
        let supervising = RECORDING
            .into_iter()
            .filter_map(|name| command.find_subcommand(name));
        let known: Vec<_> = supervising
            .flat_map(|command| command.get_arguments().map(|arg| arg.get_id().as_str()))
            .collect();
        for shown in SHOWN {
            assert!(known.contains(&shown), "{shown}");
        }
    }
}
