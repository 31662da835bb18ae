//! Variables in place of flags.

use std::process::{Command, Output};

use crate::support::{finish, handover, handover_client, output_of, stderr, stdout};

/// Every variable that a command's help shows, and those that Istio's agent has.
fn variables_of(command: &str) -> Vec<String> {
    let help = stdout(&output_of([command, "--help"]));
    let shown = help.split("[env: ").skip(1);
    let names = shown.map(|text| text.split('=').next().unwrap().to_owned());
    names
        .chain(
            [
                "TERMINATION_DRAIN_DURATION_SECONDS",
                "MINIMUM_DRAIN_DURATION",
                "EXIT_ON_ZERO_ACTIVE_CONNECTIONS",
                "ISTIO_CPU_LIMIT",
                "TMPDIR",
                "NO_COLOR",
            ]
            .map(str::to_owned),
        )
        .collect()
}

/// A command that ends by itself, from the temporary directory, where nothing may be left.
fn command(words: &str) -> Command {
    handover_client(words.split_whitespace())
}

const RUN: &str = "run --config-path /nonexistent/envoy.json --envoy-path /bin/true \
    --base-id 7 --socket none";

/// What each command does without any variable: the last one is the exit code.
const COMMANDS: [(&str, &str, i32); 8] = [
    ("run", RUN, 65),
    (
        "run",
        "run --print-command --config-path x --envoy-path /bin/true --base-id 7",
        0,
    ),
    ("run", "run --help", 0),
    ("exec", "exec --socket none --on-exit stop -- sh -c true", 0),
    ("exec", "exec --help", 0),
    (
        "validate",
        "validate --config-path /nonexistent/envoy.json --envoy-path /bin/true",
        65,
    ),
    ("private-ips", "private-ips --help", 0),
    ("demo", "demo --help", 0),
];

#[track_caller]
fn ends_with(code: i32, output: &Output, what: &str) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{what}: {}",
        stderr(output)
    );
}

#[test]
fn an_empty_variable_is_an_unset_one_for_every_flag() {
    for (name, words, code) in COMMANDS {
        // TMPDIR is among those that are emptied.
        let without = finish(command(words).env_remove("TMPDIR"));
        ends_with(code, &without, words);
        let mut with = command(words);
        let variables = variables_of(name);
        assert!(variables.len() > 4, "{variables:?}");
        for variable in variables {
            with.env(variable, "");
        }
        let with = finish(&mut with);
        ends_with(code, &with, words);
        assert_eq!(stdout(&with), stdout(&without), "{words}");
    }
}

#[test]
fn an_empty_variable_names_no_instance_and_no_directory() {
    for name in ["HANDOVER_SOCKET", "HANDOVER_NAME"] {
        let dir = tempfile::tempdir().unwrap();
        let words = ["status", "--lock-dir", dir.path().to_str().unwrap()];
        let output = finish(handover(words).env("HANDOVER_SOCKET", "").env(name, ""));
        ends_with(69, &output, name);
        assert!(
            stderr(&output).contains("no instance is running"),
            "{}",
            stderr(&output)
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let words = RUN
        .split_whitespace()
        .filter(|word| *word != "none" && *word != "--socket");
    let mut run = handover(words);
    finish(run.env("TMPDIR", "").current_dir(dir.path()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn print_command_and_help_judge_variables_as_the_command_does() {
    let print = "run --print-command --config-path x --envoy-path /bin/true --base-id 7";
    for (variable, value, reason) in [
        (
            "TERMINATION_DRAIN_DURATION_SECONDS",
            "5s",
            "is no number of whole seconds",
        ),
        (
            "HANDOVER_MAX_RETRIES",
            "many",
            "note: the variable HANDOVER_MAX_RETRIES is set to",
        ),
        (
            "HANDOVER_START_DEADLINE",
            "5",
            "note: the variable HANDOVER_START_DEADLINE is set to",
        ),
        (
            "HANDOVER_RESET_AFTER",
            "0s",
            "a crash loop would never be slowed down",
        ),
        ("HANDOVER_FALLBACK", "last-known-good", "needs --state-dir"),
        (
            "HANDOVER_ON_EXIT",
            "x",
            "note: the variable HANDOVER_ON_EXIT is set to",
        ),
        (
            "HANDOVER_DRAIN_EXCLUDE_PORT",
            "1,0",
            "note: the variable HANDOVER_DRAIN_EXCLUDE_PORT is",
        ),
        ("HANDOVER_BASE_ID", "4294967295", ""),
    ] {
        for words in [RUN, print, "run --help"] {
            let base_id = if variable == "HANDOVER_BASE_ID" {
                "--base-id 7"
            } else {
                ""
            };
            let words = words.replace(base_id, "");
            let output = finish(command(&words).env(variable, value));
            ends_with(64, &output, &format!("{variable}={value} {words}"));
            assert!(stderr(&output).contains(reason), "{}", stderr(&output));
            // What was asked for is there all the same.
            assert_eq!(words.contains("--help"), stdout(&output).contains("Usage:"));
        }
    }
    let names = finish(command("exec --help").env("HANDOVER_FD_NAME", "web"));
    ends_with(64, &names, "a name without a socket");
}

#[test]
fn a_switch_that_a_variable_turns_off_is_not_given() {
    for no in ["", "0", "false", "no", "off", "n", "F"] {
        let mut exec = command("exec --socket none --ready-fd --on-exit stop -- sh -c true");
        let output = finish(exec.env("HANDOVER_NOTIFY", no));
        ends_with(0, &output, no);
        let mut validate = command("validate --config-path /nonexistent/envoy.json");
        let output = finish(
            validate
                .env("HANDOVER_PRINT", no)
                .env("HANDOVER_ENVOY_PATH", "/bin/true"),
        );
        ends_with(65, &output, no);
    }
    let mut exec = command("exec --socket none --ready-fd -- true");
    let output = finish(exec.env("HANDOVER_NOTIFY", "1"));
    ends_with(64, &output, "1");
    let note = "note: the variable HANDOVER_NOTIFY is set to \"1\"";
    assert!(stderr(&output).contains(note), "{}", stderr(&output));
}

#[test]
fn a_wrong_flag_is_not_blamed_on_its_variable() {
    let mut exec = command("exec --max-retries x -- true");
    let output = finish(exec.env("HANDOVER_MAX_RETRIES", "y"));
    ends_with(64, &output, "the flag is wrong");
    assert!(stderr(&output).contains("'x'"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("note:"), "{}", stderr(&output));
}
