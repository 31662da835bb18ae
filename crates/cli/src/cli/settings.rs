//! The settings of `run` and `exec`: a flag wins over a variable, a variable over the settings file, and the
//! file over the default.
//!
//! No list of settings is kept: the arguments of the command are the list. What a file or a variable of
//! another program says becomes words of the command line, for the arguments that have neither a flag nor a
//! variable. So each value is read by the parser of its flag, and every rule between flags holds for it.

mod file;
mod istio;
mod key;
mod print;
#[cfg(feature = "tools")]
mod schema;
#[cfg(all(feature = "envoy", feature = "tools"))]
#[cfg(test)]
mod tests;
mod toml_text;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, CommandFactory as _};

use super::Cli;
use super::environment::switches_off;
use crate::escape::escaped;
use file::Entry;

pub(crate) use file::state_dir;
#[cfg(feature = "envoy")]
pub(crate) use istio::{CPU_LIMIT, MINIMUM_DRAIN, TERMINATION_DRAIN, minimum_drain, seconds};
pub(crate) use istio::{EXIT_ON_ZERO, says_true};
pub(super) use print::print;
#[cfg(feature = "tools")]
pub(crate) use schema::schema;

/// The commands that have settings.
const SUPERVISING: [&str; 2] = ["run", "exec"];

/// Where settings come from beside flags and variables.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub(crate) struct SettingsArgs {
    /// Read settings from this TOML file: its keys are the names of the flags. See docs/settings.md.
    ///
    /// A flag wins over its variable, and a variable wins over the file. The file is read once, at the
    /// start. An unknown key is an error.
    #[arg(long, value_name = "FILE", env = "HANDOVER_SETTINGS")]
    pub(crate) settings: Option<PathBuf>,

    /// Print every setting, its value and its origin, and end. Nothing is started.
    ///
    /// The output is a file for --settings. Values are printed in full, also those that are secret.
    #[arg(long, env = "HANDOVER_PRINT_CONFIG")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) print_config: bool,
}

/// Who has set a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Variable(String),
    File { path: PathBuf, line: usize },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File { path, line } => f.write_str(&place(path, *line)),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A command line to which the settings from elsewhere are added.
#[derive(Default)]
pub(super) struct Layered {
    /// The words with those that stand for settings from elsewhere.
    pub(super) words: Vec<OsString>,
    /// Who has set an argument that is no flag and has no variable of its own, by the id of the argument.
    pub(super) origins: BTreeMap<String, Origin>,
    /// The arguments whose values are complete, so that a comma in one of them is part of it.
    complete: Vec<String>,
    /// The command that is run.
    name: String,
}

impl Layered {
    /// Lets the values from a file keep their commas.
    pub(super) fn adapt(&self, command: Command) -> Command {
        if self.complete.is_empty() {
            return command;
        }
        command.mut_subcommand(&self.name, |command| {
            let ids = self.complete.iter();
            ids.fold(command, |command, id| {
                command.mut_arg(id, |arg| arg.value_delimiter(None))
            })
        })
    }
}

/// Adds what the settings file and the variables of Istio say to the words of a command line. `None` if they
/// say nothing.
///
/// # Errors
///
/// What is wrong with the file or the variables.
pub(super) fn layered(
    command: &Command,
    words: &[OsString],
) -> Result<Option<Layered>, clap::Error> {
    // What follows costs time and memory, and few need it.
    let is_named = words
        .iter()
        .any(|word| word.to_string_lossy().starts_with("--settings"));
    if !is_named && !file::is_in_environment() && !istio::is_in_environment() {
        return Ok(None);
    }
    // A wrong word is left to the parser that sees the whole. It is wrong for that one as well.
    let matches = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(words);
    let Ok(matches) = matches else {
        return Ok(None);
    };
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(None);
    };
    // `doctor` judges what `run` would do.
    let has_settings = if name == "doctor" { "run" } else { name };
    // With every variable in it, set or not.
    let all = Cli::command();
    let Some(settings) = all
        .find_subcommand(has_settings)
        .filter(|_| SUPERVISING.contains(&has_settings))
    else {
        return Ok(None);
    };
    let path = matches.get_one::<PathBuf>("settings");
    let entries = match path {
        Some(path) => file::read(path, settings).map_err(usage)?,
        None => Vec::new(),
    };
    let mut layers = Layers {
        matches,
        settings,
        layered: Layered {
            name: name.to_owned(),
            ..Layered::default()
        },
        flags: Vec::new(),
        last: Vec::new(),
    };
    if has_settings == "run" {
        layers.add_istio(&entries)?;
    }
    if let Some(path) = path {
        layers.add_file(path, entries);
    }
    Ok(Some(layers.into_layered(words)))
}

fn usage(message: impl fmt::Display) -> clap::Error {
    clap::Error::raw(
        clap::error::ErrorKind::ValueValidation,
        format!("{message}\n"),
    )
}

/// A command line while settings are added to it, the ones that win first.
struct Layers<'a> {
    matches: &'a ArgMatches,
    settings: &'a Command,
    layered: Layered,
    flags: Vec<OsString>,
    last: Vec<OsString>,
}

impl Layers<'_> {
    fn arg(&self, id: &str) -> Option<&Arg> {
        self.settings.get_arguments().find(|arg| arg.get_id() == id)
    }

    /// Returns whether a flag or its own variable sets the argument.
    fn is_given(&self, id: &str) -> bool {
        let source = self.matches.value_source(id);
        matches!(
            source,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
    }

    /// Returns whether the argument is set by one that wins.
    fn is_set(&self, id: &str) -> bool {
        self.is_given(id) || self.layered.origins.contains_key(id)
    }

    fn add_istio(&mut self, entries: &[Entry]) -> Result<(), clap::Error> {
        for (variable, id, convert) in istio::VARIABLES {
            let Some(text) = istio::variable(variable).filter(|_| !self.is_set(id)) else {
                continue;
            };
            let Some(value) = convert(&text).map_err(usage)? else {
                continue;
            };
            self.set_by(variable, id, &value);
        }
        let keeps_draining = istio::variable(EXIT_ON_ZERO)
            .filter(|_| !self.is_given("min_drain"))
            .map(|text| says_true(&text).map(|is_true| !is_true))
            .transpose()
            .map_err(usage)?;
        // It wins over the shortest drain of Istio, as there.
        if keeps_draining == Some(true) {
            let whole = self.termination_drain(entries);
            self.set_by(EXIT_ON_ZERO, "min_drain", &whole);
        }
        Ok(())
    }

    /// Returns the longest drain as it will be.
    fn termination_drain(&self, entries: &[Entry]) -> String {
        let id = "termination_drain";
        let added = self.flags.iter().find_map(|word| {
            let word = word.to_str()?;
            word.strip_prefix("--termination-drain=").map(str::to_owned)
        });
        let of_file = || {
            let entry = entries.iter().find(|entry| entry.id == id);
            entry
                .filter(|_| !self.is_set(id))
                .and_then(|entry| entry.values.first().cloned())
        };
        let parsed = || {
            let raw = self.matches.get_raw(id)?.next()?;
            Some(raw.to_string_lossy().into_owned())
        };
        added.or_else(of_file).or_else(parsed).unwrap_or_default()
    }

    fn set_by(&mut self, variable: &str, id: &str, value: &str) {
        let Some(long) = self.arg(id).and_then(Arg::get_long) else {
            return;
        };
        // A variable that wins over another one takes its place.
        let before = format!("--{long}=");
        self.flags
            .retain(|word| !word.to_string_lossy().starts_with(&before));
        self.flags.push(format!("{before}{value}").into());
        let origin = Origin::Variable(variable.to_owned());
        self.layered.origins.insert(id.to_owned(), origin);
    }

    fn add_file(&mut self, path: &Path, entries: Vec<Entry>) {
        for entry in entries {
            if self.is_set(&entry.id) {
                continue;
            }
            if let Some(variable) = self.arg(&entry.id).and_then(switches_off) {
                // Without a file it says nothing, as the switch is off by itself.
                let origin = Origin::Variable(variable);
                self.layered.origins.insert(entry.id, origin);
                continue;
            }
            let origin = Origin::File {
                path: path.to_owned(),
                line: entry.line,
            };
            if entry.is_last {
                self.last.extend(entry.values.iter().map(OsString::from));
            } else {
                self.flags.extend(entry.flags().map(OsString::from));
                if entry.is_list {
                    self.layered.complete.push(entry.id.clone());
                }
            }
            self.layered.origins.insert(entry.id, origin);
        }
    }

    fn into_layered(mut self, words: &[OsString]) -> Layered {
        // The program and its command come before all flags.
        let (start, rest) = words.split_at(words.len().min(2));
        self.layered.words = [start, &self.flags, rest].concat();
        if !self.last.is_empty() {
            if !rest.iter().any(|word| word == "--") {
                self.layered.words.push("--".into());
            }
            self.layered.words.extend(self.last);
        }
        self.layered
    }
}

/// Returns a place in a file, as errors name it.
fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", escaped(&path.display().to_string(), &[]))
}

/// Returns the origin of an argument that is set, if it is.
pub(super) fn origin(
    arg: &Arg,
    matches: &ArgMatches,
    origins: &BTreeMap<String, Origin>,
) -> Option<Origin> {
    let id = arg.get_id().as_str();
    if let Some(origin) = origins.get(id) {
        return Some(origin.clone());
    }
    match matches.value_source(id)? {
        ValueSource::CommandLine => Some(Origin::Flag),
        ValueSource::EnvVariable => {
            let name = arg.get_env().unwrap_or(OsStr::new("of the flag"));
            Some(Origin::Variable(name.to_string_lossy().into_owned()))
        }
        ValueSource::DefaultValue | _ => Some(Origin::Default),
    }
}
