//! Flags that are set by variables: what counts as unset, and which variable is wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{
    Arg, ArgAction, ArgMatches, Args as _, Command, CommandFactory as _, FromArgMatches as _,
};

use super::exec::ExecArgs;
#[cfg(feature = "envoy")]
use super::run::RunArgs;
use super::settings::{self, Origin};
use super::{Cli, absent, arguments};

/// What switches a flag off that takes no value; the rest switches it on.
const NO: [&str; 6] = ["0", "f", "false", "n", "no", "off"];

/// The flags that may be repeated and take a path, which can have a comma in it.
const PATHS: [&str; 3] = ["watch", "wait_for_file", "config_overlay"];

/// Why a command line is refused, or the help that was asked for.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: clap::Error,
    /// What else explains the error: the variables and the lines of the settings file behind it.
    pub(crate) notes: Vec<String>,
}

impl Refusal {
    fn new(error: clap::Error, words: &[OsString], origins: &BTreeMap<String, Origin>) -> Self {
        let notes = notes(&error, words, origins);
        Self { error, notes }
    }
}

impl Cli {
    /// Parses the words of a command line, with the variables of this process and its settings file.
    ///
    /// # Errors
    ///
    /// What is wrong with the words, the variables or the file, or the help that was asked for.
    pub(crate) fn parse_words(words: &[OsString]) -> Result<Self, Refusal> {
        if let Some(error) = absent::refusal(words) {
            let notes = Vec::new();
            return Err(Refusal { error, notes });
        }
        // A help text and an error need every command. What can be run needs one, and the flags of all others
        // would take longer to make than everything else before the first process is started.
        if let Some(one) = only_command(words)
            && let Ok(cli) = Self::parse_by(adapted(one, words), words)
        {
            return Ok(cli);
        }
        Self::parse_by(adapted(Self::command(), words), words)
    }

    fn parse_by(mut command: Command, words: &[OsString]) -> Result<Self, Refusal> {
        let layered = settings::layered(&command, words)
            .map_err(|error| Refusal::new(error, words, &BTreeMap::new()))?;
        let (all, origins) = match layered {
            Some(layered) => {
                command = layered.adapt(command);
                (Cow::Owned(layered.words), layered.origins)
            }
            None => (Cow::Borrowed(words), BTreeMap::new()),
        };
        let matches = command.try_get_matches_from_mut(all.iter());
        if let Ok(matches) = &matches {
            arguments::remember(&command, matches, &origins);
        }
        let config = matches
            .as_ref()
            .ok()
            .and_then(|matches| printed(matches, &origins));
        match matches.and_then(|mut matches| Self::from_arg_matches_mut(&mut matches)) {
            Ok(cli) => Ok(Self { config, ..cli }),
            // With every variable in it, set or not.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                let error = Self::command()
                    .try_get_matches_from(words)
                    .err()
                    .unwrap_or(error);
                Err(Refusal::new(error, words, &origins))
            }
            Err(error) => Err(Refusal::new(error, words, &origins)),
        }
    }

    /// Parses a command for which help was asked, as if it were run with the variables of this
    /// process and the flags that it cannot be without; `None` for help that is about no command.
    ///
    /// # Errors
    ///
    /// What is wrong with the variables.
    pub(crate) fn parse_for_help(words: &[OsString]) -> Option<Result<Self, Refusal>> {
        let known = Self::command();
        let (program, name) = (words.first()?, words.get(1)?);
        let command = known.find_subcommand(name)?;
        let mut minimal = vec![program.clone(), name.clone()];
        for arg in command.get_arguments().filter(|arg| arg.is_required_set()) {
            match arg.get_long() {
                Some(long) => minimal.push(format!("--{long}=x").into()),
                None if arg.is_last_set() => minimal.extend(["--".into(), "x".into()]),
                None => {
                    let values = arg.get_possible_values();
                    let value = values.first().map_or("x", |value| value.get_name());
                    minimal.push(value.into());
                }
            }
        }
        minimal.extend(place_of_configuration(command).map(OsString::from));
        Some(Self::parse_words(&minimal))
    }
}

/// The flag that tells where the configuration is, if no variable does. Which one it is depends on another
/// flag, so the parser does not know that it is required.
fn place_of_configuration(command: &Command) -> Option<&'static str> {
    let find = |id: &str| command.get_arguments().find(|arg| arg.get_id() == id);
    let is_unset = |arg: &Arg| arg.get_env().is_none_or(|name| is_unset(arg, name));
    let from = find("config_from")?;
    let name = from.get_env().filter(|_| !is_unset(from));
    let is_socket = name
        .and_then(std::env::var_os)
        .is_some_and(|from| from == "socket");
    let (id, flag) = match is_socket {
        true => ("state_dir", "--state-dir=x"),
        false => ("config_path", "--config-path=x"),
    };
    find(id).is_some_and(is_unset).then_some(flag)
}

/// The command that supervises, without any other, if the words begin with one.
fn only_command(words: &[OsString]) -> Option<Command> {
    let name = words.get(1)?.to_str()?;
    let command = match name {
        #[cfg(feature = "envoy")]
        "run" => RunArgs::augment_args(Command::new("run")),
        "exec" => ExecArgs::augment_args(Command::new("exec")),
        _ => return None,
    };
    Some(Command::new("handover").subcommand(command))
}

/// The command, for which an empty variable is an unset one, and so is one that switches a flag off. A typed
/// flag that takes a path takes it as it is, and its variable takes a list with commas.
fn adapted(command: Command, words: &[OsString]) -> Command {
    let adapted = |arg: Arg| {
        let arg = match arg.get_env().is_some_and(|name| is_unset(&arg, name)) {
            true => arg.env(Resettable::Reset),
            false => arg,
        };
        match PATHS.contains(&arg.get_id().as_str()) && is_typed(&arg, words) {
            true => arg.value_delimiter(None),
            false => arg,
        }
    };
    command.mut_subcommands(|command| command.mut_args(adapted))
}

/// Whether the words have the flag.
fn is_typed(arg: &Arg, words: &[OsString]) -> bool {
    let Some(long) = arg.get_long() else {
        return false;
    };
    let mut flags = words.iter().take_while(|word| *word != "--");
    flags.any(|word| {
        let word = word.as_encoded_bytes().strip_prefix(b"--");
        let rest = word.and_then(|word| word.strip_prefix(long.as_bytes()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
    })
}

/// Whether the variable says nothing about the flag.
fn is_unset(arg: &Arg, variable: &OsStr) -> bool {
    let Some(value) = std::env::var_os(variable) else {
        return true;
    };
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    value.is_empty() || (is_switch && says_no(&value))
}

/// Returns the variable that switches the flag off, if it does.
pub(super) fn switches_off(arg: &Arg) -> Option<String> {
    let name = arg.get_env()?;
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let is_off = is_switch && std::env::var_os(name).is_some_and(|value| says_no(&value));
    is_off.then(|| name.to_string_lossy().into_owned())
}

fn says_no(value: &OsStr) -> bool {
    let value = value.to_string_lossy().to_ascii_lowercase();
    NO.contains(&value.as_str())
}

/// What `--print-config` prints, if it is given.
fn printed(matches: &ArgMatches, origins: &BTreeMap<String, Origin>) -> Option<String> {
    let (name, matches) = matches.subcommand()?;
    let is_asked = matches.try_get_one::<bool>("print_config").ok()??;
    if !is_asked {
        return None;
    }
    // `doctor` has the settings of `run`.
    let name = if name == "doctor" { "run" } else { name };
    // In the order of the help, which a changed argument leaves.
    let all = Cli::command();
    Some(settings::print(
        all.find_subcommand(name)?,
        matches,
        origins,
    ))
}

/// What has set the flags that an error is about and that the command line does not have: variables, and lines
/// of the settings file.
fn notes(
    error: &clap::Error,
    words: &[OsString],
    origins: &BTreeMap<String, Origin>,
) -> Vec<String> {
    let known = Cli::command();
    let Some(command) = words.get(1).and_then(|name| known.find_subcommand(name)) else {
        return Vec::new();
    };
    let flags = words.iter().take_while(|word| *word != "--");
    let typed: Vec<_> = flags.map(|word| word.to_string_lossy()).collect();
    let named = [ContextKind::InvalidArg, ContextKind::PriorArg];
    let named = named.into_iter().filter_map(|kind| error.get(kind));
    let named = named.flat_map(|value| {
        if let ContextValue::String(name) = value {
            std::slice::from_ref(name)
        } else if let ContextValue::Strings(names) = value {
            names.as_slice()
        } else {
            &[]
        }
    });
    let long_of = |name: &String| {
        let end = name.find([' ', '[', '=']).unwrap_or(name.len());
        name.get(..end).map(str::to_owned)
    };
    named
        .filter_map(long_of)
        .filter(|long| {
            !typed
                .iter()
                .any(|word| word.split('=').next() == Some(long))
        })
        .filter_map(|long| {
            let mut args = command.get_arguments();
            let arg = args.find(|arg| arg.get_long() == long.strip_prefix("--"))?;
            let variable = |name: &OsStr| {
                let value = std::env::var_os(name).unwrap_or_default();
                let name = name.to_string_lossy();
                format!("note: the variable {name} is set to {value:?}")
            };
            match origins.get(arg.get_id().as_str()) {
                Some(Origin::Variable(name)) => Some(variable(OsStr::new(name))),
                Some(origin @ Origin::File { .. }) => Some(format!("note: {origin} sets {long}")),
                Some(Origin::Flag | Origin::Default) | None => {
                    let name = arg.get_env().filter(|name| !is_unset(arg, name))?;
                    Some(variable(name))
                }
            }
        })
        .collect()
}

#[cfg(feature = "envoy")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_off_by_each_word_for_no_and_by_no_other() {
        for no in ["0", "false", "FALSE", "no", "off", "n", "f"] {
            assert!(says_no(OsStr::new(no)), "{no}");
        }
        for yes in ["1", "true", "yes", "on", "none", " 0", "x"] {
            assert!(!says_no(OsStr::new(yes)), "{yes}");
        }
    }

    #[test]
    fn a_typed_path_may_have_a_comma_and_a_list_of_a_variable_is_split() {
        for id in PATHS {
            let all = Cli::command();
            let known = |name| {
                let mut args = all.find_subcommand(name)?.get_arguments();
                args.find(|arg| arg.get_id() == id)
            };
            let arg = known("exec").or_else(|| known("run")).unwrap();
            assert_eq!(arg.get_value_delimiter(), Some(','), "{id}");
            let flag = format!("--{}", arg.get_long().unwrap());
            let value = "/etc/a,b";
            let command = if known("exec").is_some() {
                "exec"
            } else {
                "run"
            };
            let end = match command {
                "exec" => &["--", "server"][..],
                _ => &["--config-path", "/c"],
            };
            for typed in [
                vec![flag.clone(), value.into()],
                vec![format!("{flag}={value}")],
            ] {
                let typed = typed.iter().map(String::as_str);
                let words = ["handover", command].into_iter().chain(typed);
                let words: Vec<OsString> =
                    words.chain(end.iter().copied()).map(Into::into).collect();
                let parser = adapted(Cli::command(), &words);
                let matches = parser.try_get_matches_from(&words).unwrap();
                let (_, matches) = matches.subcommand().unwrap();
                let values: Vec<_> = matches.get_raw(id).unwrap().collect();
                assert_eq!(values, [value], "{id}");
            }
            // After `--` it is a word of the program.
            let words = ["handover", command, "--", &flag].map(OsString::from);
            let parser = adapted(Cli::command(), &words);
            let mut args = parser.find_subcommand(command).unwrap().get_arguments();
            let arg = args.find(|arg| arg.get_id() == id).unwrap();
            assert_eq!(arg.get_value_delimiter(), Some(','), "{id}");
        }
    }

    /// Each argument of a command, with all that the parser knows of it.
    fn known(command: &Command) -> Vec<String> {
        let arguments = command.get_arguments();
        arguments.map(|argument| format!("{argument:?}")).collect()
    }

    #[test]
    fn a_command_by_itself_has_the_arguments_that_it_has_among_others() {
        let all = Cli::command();
        for name in ["run", "exec"] {
            let one = only_command(&["handover".into(), name.into()]).unwrap();
            let (one, among) = (one.find_subcommand(name), all.find_subcommand(name));
            let (one, among) = (one.unwrap(), among.unwrap());
            assert_eq!(known(one), known(among), "{name}");
        }
        assert!(only_command(&["handover".into(), "status".into()]).is_none());
    }

    #[test]
    fn what_a_command_cannot_be_without_is_made_up_for_its_help() {
        let known = Cli::command();
        for command in known.get_subcommands() {
            let words = ["handover", command.get_name(), "--help"].map(OsString::from);
            let parsed = Cli::parse_for_help(&words).unwrap();
            assert!(
                parsed.is_ok(),
                "{}: {:?}",
                command.get_name(),
                parsed.unwrap_err()
            );
        }
        assert!(Cli::parse_for_help(&["handover".into(), "--help".into()]).is_none());
    }
}
