//! A settings file: read with limits, and each key judged with its line.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use rustix::fs::OFlags;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::nearest::nearest;
use super::key::{Key, Kind, is_of_one_call, keys};
use super::{SUPERVISING, place, toml_text};
use crate::cli::{Cli, absent};
use crate::escape::escaped;

/// The largest file, in bytes. All settings together need a few kilobytes, and a list may have thousands of paths.
const LARGEST: u64 = 1 << 18;

/// How many faults are reported at once.
const MOST_FAULTS: usize = 20;

/// The longest value that an error repeats, in characters.
const LONGEST: usize = 60;

/// The variable of the flag for the file.
const VARIABLE: &str = "HANDOVER_SETTINGS";

/// What a file says about one argument.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) line: usize,
    /// Whether the values follow `--`.
    pub(super) is_last: bool,
    pub(super) is_list: bool,
    /// The values as the parser of the flag reads them. A switch has none.
    pub(super) values: Vec<String>,
    /// The words that mean the same. There are none for what is so without a word.
    words: Vec<String>,
}

impl Entry {
    /// Returns the words that mean the same.
    pub(super) fn flags(&self) -> impl Iterator<Item = &String> {
        self.words.iter()
    }
}

/// Returns whether the variable of the flag names a file.
pub(super) fn is_in_environment() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty())
}

/// Reads the settings of a command, in the order of the file.
///
/// # Errors
///
/// What is wrong with the file or with its keys, with the lines.
pub(super) fn read(path: &Path, command: &Command) -> Result<Vec<Entry>, String> {
    let text = text(path)?;
    let table = DeTable::parse(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let message = escaped(error.message(), &[]);
        let line = line_ends(&text, 0..at).saturating_add(1);
        format!("{}: {message}", place(path, line))
    })?;
    let keys = keys(command);
    let mut found: Vec<_> = table.get_ref().iter().collect();
    found.sort_unstable_by_key(|(key, _)| key.span().start);
    let mut entries = Vec::with_capacity(found.len());
    let mut faults = Vec::new();
    // The lines are counted on the way, so that a long file costs no more than its length.
    let (mut line, mut counted) = (1_usize, 0);
    for (place_in_file, (name, value)) in found.iter().enumerate() {
        let start = name.span().start;
        line = line.saturating_add(line_ends(&text, counted..start));
        counted = start;
        let known = keys.iter().find(|key| key.name == name.get_ref().as_ref());
        let entry = match known {
            Some(key) => entry(key, value.get_ref(), line)
                .map_err(|why| format!("{} = {}: {why}", key.name, shown(value, &text))),
            None => Err(unknown(name.get_ref(), value.get_ref(), command, &keys)),
        };
        match entry {
            Ok(entry) => entries.push(entry),
            Err(fault) => faults.push(format!("{}: {fault}", place(path, line))),
        }
        if faults.len() == MOST_FAULTS {
            let after = found.len().saturating_sub(place_in_file).saturating_sub(1);
            if after > 0 {
                faults.push(format!("the {after} keys after them were not judged"));
            }
            break;
        }
    }
    match faults.is_empty() {
        true => Ok(entries),
        false => Err(faults.join("\n       ")),
    }
}

/// Returns the state directory that the settings file of another process names. What cannot be read names none.
pub(crate) fn state_dir(path: &Path) -> Option<PathBuf> {
    let text = text(path).ok()?;
    let table = DeTable::parse(&text).ok()?;
    let value = table.get_ref().get("state-dir")?;
    value.get_ref().as_str().map(PathBuf::from)
}

/// Reads the file, which must be a regular one: a pipe could let the start wait for ever.
fn text(path: &Path) -> Result<String, String> {
    let shown = escaped(&path.display().to_string(), &[]);
    let remedy = "name a TOML file with --settings or HANDOVER_SETTINGS, or leave both out";
    let open = || -> io::Result<Option<Vec<u8>>> {
        let file: File = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut content = Vec::new();
        file.take(LARGEST.saturating_add(1))
            .read_to_end(&mut content)?;
        Ok(Some(content))
    };
    let content = match open() {
        Ok(Some(content)) => content,
        Ok(None) => return Err(format!("{shown} is not a regular file: {remedy}")),
        Err(error) => {
            return Err(format!(
                "reading the settings file {shown}: {error}: {remedy}"
            ));
        }
    };
    if u64::try_from(content.len()).map_or(true, |length| length > LARGEST) {
        return Err(format!(
            "{shown} is larger than {LARGEST} bytes, the limit of a settings file: {remedy}"
        ));
    }
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
    let text = String::from_utf8(content.to_vec());
    text.map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count();
        format!(
            "{}: the file is not UTF-8, as TOML must be: save it as UTF-8",
            place(path, line.saturating_add(1))
        )
    })
}

/// How many lines end among these bytes.
fn line_ends(text: &str, range: Range<usize>) -> usize {
    let part = text.as_bytes().get(range).unwrap_or_default();
    part.iter().filter(|byte| **byte == b'\n').count()
}

/// A value as it stands in the file, on one line.
fn shown(value: &Spanned<DeValue<'_>>, text: &str) -> String {
    let text = text.get(value.span()).unwrap_or_default();
    let mut shown = escaped(text, &[]);
    if shown.chars().count() > LONGEST {
        shown = shown.chars().take(LONGEST).collect::<String>() + "...";
    }
    shown
}

/// Why there is no such key for the command, and what was meant.
fn unknown(name: &str, value: &DeValue<'_>, command: &Command, keys: &[Key<'_>]) -> String {
    let shown = toml_text::string(name);
    let own = command.get_name();
    if value.is_table() {
        return format!(
            "{shown} is a table, and settings are in none: write its keys without it, above all tables"
        );
    }
    if is_of_one_call(name) {
        return format!("{shown} cannot be set in a file: give the flag --{name}");
    }
    let all = Cli::command();
    let others = SUPERVISING.iter().filter(|other| **other != own);
    let other = others
        .filter_map(|other| all.find_subcommand(other))
        .find(|other| super::key::keys(other).iter().any(|key| key.name == name));
    if let Some(other) = other {
        return format!(
            "{shown} is a setting of `{}`, and not of `{own}`: remove the line, or keep a file for each \
             command",
            other.get_name()
        );
    }
    let wanted = name
        .trim_start_matches('-')
        .replace('_', "-")
        .to_lowercase();
    let mut why = match nearest(&wanted, keys.iter().map(|key| &*key.name)) {
        Some(key) => format!("there is no setting {shown}: did you mean {key}?"),
        None => format!("there is no setting {shown}: `handover {own} --help` lists the flags"),
    };
    if let Some(hint) = absent::settings_of_run() {
        why = format!("{why} ({hint})");
    }
    why
}

/// What a key says, once its value fits.
fn entry(key: &Key<'_>, value: &DeValue<'_>, line: usize) -> Result<Entry, String> {
    let values = values(key, value)?;
    judge(key.arg, values.iter().flatten())?;
    let is_list = matches!(key.kind, Kind::Texts | Kind::Integers);
    let defaults = key.arg.get_default_values();
    let given = values.iter().flatten().map(AsRef::<OsStr>::as_ref);
    let is_default = given.eq(defaults.iter().map(AsRef::<OsStr>::as_ref));
    let words = match key.arg.get_long() {
        // A word would count as one that was typed, and so demand what its flag goes with.
        Some(_) if is_default && !defaults.is_empty() && !values.is_empty() => Vec::new(),
        Some(long) => values
            .iter()
            .map(|value| match value {
                Some(value) => format!("--{long}={value}"),
                None => format!("--{long}"),
            })
            .collect(),
        None => Vec::new(),
    };
    Ok(Entry {
        id: key.arg.get_id().to_string(),
        line,
        is_last: key.arg.is_last_set(),
        is_list,
        values: values.into_iter().flatten().collect(),
        words,
    })
}

/// The values of a key as the words of its flag have them. `None` is a flag without a value.
fn values(key: &Key<'_>, value: &DeValue<'_>) -> Result<Vec<Option<String>>, String> {
    let one = |value: &DeValue<'_>, wants_integer: bool| match (value, wants_integer) {
        (DeValue::String(text), false) => Ok(Some(text.clone().into_owned())),
        (DeValue::Integer(number), true) => {
            let parsed = i64::from_str_radix(&number.as_str().replace('_', ""), number.radix());
            let parsed = parsed.map_err(|_| "the number is too large".to_owned())?;
            Ok(Some(parsed.to_string()))
        }
        (_, true) => Err("write a whole number, without quotes".to_owned()),
        (_, false) => Err("write a string, in double quotes".to_owned()),
    };
    let each = |wants_integer: bool| match value {
        DeValue::Array(values) => values
            .iter()
            .map(|value| one(value.get_ref(), wants_integer))
            .collect(),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => Err("write an array, in square brackets".to_owned()),
    };
    match (key.kind, value) {
        (Kind::Switch | Kind::MaybeInteger, DeValue::Boolean(true)) => Ok(vec![None]),
        (Kind::Switch, DeValue::Boolean(false)) => Ok(Vec::new()),
        (Kind::Switch, _) => Err("write true or false, without quotes".to_owned()),
        (Kind::Integer, _) | (Kind::MaybeInteger, DeValue::Integer(_)) => {
            Ok(vec![one(value, true)?])
        }
        (Kind::MaybeInteger, _) => Err("write a whole number, or true for any".to_owned()),
        (Kind::Text, _) => Ok(vec![one(value, false).map_err(|why| with_words(key, why))?]),
        (Kind::Integers, _) => each(true),
        (Kind::Texts, _) => each(false),
    }
}

/// The words that a key takes beside the reason, if it takes only some.
fn with_words(key: &Key<'_>, why: String) -> String {
    let words = key.arg.get_possible_values();
    let words = words
        .iter()
        .filter(|word| !word.is_hide_set())
        .map(|word| toml_text::string(word.get_name()));
    match words.collect::<Vec<_>>() {
        words if words.is_empty() => why,
        words => one_of(&words),
    }
}

fn one_of(words: &[String]) -> String {
    format!("write one of {}", words.join(", "))
}

/// Lets the parser of the flag judge the values.
fn judge(arg: &Arg, values: impl Iterator<Item = impl fmt::Display>) -> Result<(), String> {
    let alone = Arg::new("value")
        .long("value")
        .action(ArgAction::Append)
        .value_parser(arg.get_value_parser().clone());
    let command = Command::new("settings").no_binary_name(true).arg(alone);
    let words = values.map(|value| format!("--value={value}"));
    let Err(error) = command.try_get_matches_from(words) else {
        return Ok(());
    };
    if let Some(ContextValue::Strings(words)) = error.get(ContextKind::ValidValue)
        && !words.is_empty()
    {
        let words: Vec<_> = words.iter().map(|word| toml_text::string(word)).collect();
        return Err(one_of(&words));
    }
    let why = std::error::Error::source(&error).map(|why| escaped(&why.to_string(), &[]));
    Err(why.unwrap_or_else(|| "a value is needed: leave the line out to set none".to_owned()))
}
