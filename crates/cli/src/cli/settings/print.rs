//! `--print-config`: every setting with its value and its origin, as a file for `--settings`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{ArgMatches, Command};

use super::key::{Key, Kind, keys};
use super::{Origin, origin, toml_text};
use crate::escape::escaped;

/// The column of the origins. A longer line has its origin after two spaces.
const WIDEST: usize = 44;

/// Returns the settings of a command, one a line, in the order of its help.
pub(in crate::cli) fn print(
    settings: &Command,
    matches: &ArgMatches,
    origins: &BTreeMap<String, Origin>,
) -> String {
    let lines: Vec<(String, String)> = keys(settings)
        .iter()
        .map(|key| match origin(key.arg, matches, origins) {
            Some(origin) => line(key, matches, &origin),
            None if key.kind == Kind::Switch => {
                (format!("{} = false", key.name), Origin::Default.to_string())
            }
            None => (format!("# {}", key.name), "not set".to_owned()),
        })
        .collect();
    let widths = lines.iter().map(|(line, _)| line.chars().count());
    let column = widths.filter(|width| *width <= WIDEST).max().unwrap_or(0);
    let mut text = String::new();
    for (line, origin) in lines {
        // Writing to a string cannot fail.
        let _written = writeln!(text, "{line:<column$}  # {origin}");
    }
    text
}

fn line(key: &Key<'_>, matches: &ArgMatches, origin: &Origin) -> (String, String) {
    let id = key.arg.get_id().as_str();
    let raw = matches.get_raw(id).into_iter().flatten();
    let raw: Vec<_> = raw.collect();
    let mut texts = Vec::with_capacity(raw.len());
    for value in raw {
        let Some(text) = value.to_str() else {
            let shown = escaped(&value.to_string_lossy(), &[]);
            let line = format!("# {} is {shown}, which is not UTF-8", key.name);
            return (line, origin.to_string());
        };
        texts.push(text);
    }
    let first = texts.first().copied().unwrap_or_default();
    let integer = |text: &str| match text.trim().parse::<i64>() {
        Ok(number) => number.to_string(),
        Err(_) => toml_text::string(text),
    };
    let value = match key.kind {
        Kind::Switch => matches.get_flag(id).to_string(),
        Kind::Text => toml_text::string(first),
        Kind::Integer => integer(first),
        Kind::MaybeInteger => match first.parse::<i64>() {
            Ok(number) => number.to_string(),
            Err(_) => "true".to_owned(),
        },
        Kind::Texts => {
            let texts = texts.iter().map(|text| toml_text::string(text));
            toml_text::array(&texts.collect::<Vec<_>>())
        }
        Kind::Integers => {
            let numbers = texts.iter().map(|text| integer(text));
            toml_text::array(&numbers.collect::<Vec<_>>())
        }
    };
    (format!("{} = {value}", key.name), origin.to_string())
}
