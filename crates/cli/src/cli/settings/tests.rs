use std::collections::BTreeSet;
use std::io::Write as _;

use clap::{Command, CommandFactory as _};
use serde_json::Value;

use super::key::{Kind, keys};
use super::{SUPERVISING, file, schema};
use crate::cli::Cli;

fn of(name: &str) -> Command {
    Cli::command().find_subcommand(name).unwrap().clone()
}

#[test]
fn each_key_is_a_flag_of_the_command_or_what_follows_the_flags() {
    for (name, last) in [("run", "envoy-args"), ("exec", "command")] {
        let command = of(name);
        let keys = keys(&command);
        let names: BTreeSet<_> = keys.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names.len(), keys.len(), "{name}: a key is there twice");
        let flags = command.get_arguments().filter_map(clap::Arg::get_long);
        let flags: BTreeSet<_> = flags.chain([last]).collect();
        let left: Vec<_> = flags.difference(&names).copied().collect();
        let mut of_one_call = vec!["print-config", "settings"];
        if name == "run" {
            of_one_call.insert(0, "print-command");
        }
        assert_eq!(left, of_one_call, "{name}");
    }
}

/// A number whose type is not known here would have to be written in quotes.
#[test]
fn what_the_help_calls_a_number_is_a_number_in_the_file() {
    for command in SUPERVISING.map(of) {
        for key in keys(&command) {
            let names = key.arg.get_value_names().unwrap_or_default();
            let is_number = names
                .first()
                .is_some_and(|name| ["N", "PID", "PORT", "FD"].contains(&name.as_str()));
            let has_numbers = matches!(
                key.kind,
                Kind::Integer | Kind::Integers | Kind::MaybeInteger
            );
            assert_eq!(is_number, has_numbers, "{}", key.name);
        }
    }
}

/// Judges a value by those words of JSON schema that the schema of the settings has.
fn fits(schema: &Value, value: &Value) -> bool {
    let schema = schema.as_object().unwrap();
    schema.iter().all(|(word, rule)| match word.as_str() {
        "$schema" | "title" | "description" | "default" => true,
        "type" => match rule.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64(),
            "boolean" => value.is_boolean(),
            other => panic!("a type that is not known here: {other}"),
        },
        "const" => value == rule,
        "enum" => rule.as_array().unwrap().contains(value),
        "anyOf" => rule
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| fits(rule, value)),
        "items" => value
            .as_array()
            .is_none_or(|values| values.iter().all(|value| fits(rule, value))),
        "properties" => value.as_object().is_none_or(|object| {
            object
                .iter()
                .all(|(key, value)| rule.get(key).is_none_or(|rule| fits(rule, value)))
        }),
        "additionalProperties" => {
            assert_eq!(*rule, Value::Bool(false));
            let known = schema["properties"].as_object().unwrap();
            value
                .as_object()
                .is_none_or(|object| object.keys().all(|key| known.contains_key(key)))
        }
        other => panic!("a word that is not known here: {other}"),
    })
}

/// Whether the program takes the file, and whether the schema does.
fn judged(command: &str, text: &str) -> (bool, bool) {
    let command = of(command);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let read = file::read(file.path(), &command);
    let value: Value = toml::from_str(text).unwrap();
    (read.is_ok(), fits(&schema(&command), &value))
}

#[test]
fn the_schema_takes_what_the_program_takes() {
    for (command, text) in [
        ("run", ""),
        (
            "run",
            "config-path = '/etc/envoy.yaml'\nenvoy-args = ['--cpuset-threads']",
        ),
        (
            "run",
            "max-retries = 3\ndrain-time = '20s'\ntemplate = true\nno-repair = false",
        ),
        (
            "run",
            "drain-exclude-port = [80, 0x51]\nwatch = []\non-exit = 'stay,oom=stop'",
        ),
        (
            "exec",
            "command = ['./server', '-x']\nlisten = ['127.0.0.1:0']\nready-fd = true",
        ),
        ("exec", "ready-fd = 5\nstop-signal = 'QUIT'\nrecord = 'no'"),
    ] {
        assert_eq!(judged(command, text), (true, true), "{text}");
    }
    for (command, text) in [
        ("run", "drain_time = '20s'"),
        ("run", "command = ['x']"),
        ("exec", "config-path = '/etc/envoy.yaml'"),
        ("run", "settings = 'x'"),
        ("run", "print-config = true"),
        ("run", "[run]\nmax-retries = 3"),
        ("run", "max-retries = '3'"),
        ("run", "max-retries = 3.0"),
        ("run", "drain-time = 20"),
        ("run", "template = 'yes'"),
        ("run", "template = 1"),
        ("run", "watch = 'x'"),
        ("run", "watch = ['x', 3]"),
        ("run", "drain-exclude-port = ['80']"),
        ("run", "record = false"),
        ("exec", "ready-fd = false"),
        ("exec", "ready-fd = 'auto'"),
        ("exec", "command = 'sleep 1'"),
    ] {
        assert_eq!(judged(command, text), (false, false), "{text}");
    }
    // The parsers of the flags know more than the schema.
    for text in [
        "drain-time = '20'",
        "max-epochs = 1",
        "config-path = ''",
        "drain-exclude-port = [0]",
        "on-exit = 'Restart'",
        "on-exit = 'crash=stay'",
    ] {
        assert_eq!(judged("run", text), (false, true), "{text}");
    }
}
