//! The help texts, which are the manual.

use std::io::Write as _;

use crate::support::{finish, handover_client, output_of, stderr, stdout};

fn help_of(command: &[&str]) -> String {
    // The value that a variable has is shown as well, so there is none.
    let output = finish(&mut handover_client(
        command.iter().copied().chain(["--help"]),
    ));
    assert_eq!(output.status.code(), Some(0));
    stdout(&output)
}

#[test]
fn the_help_lists_commands_signals_and_exit_codes() {
    insta::assert_snapshot!("help", help_of(&[]));
}

#[test]
fn the_help_of_run_is_its_manual() {
    insta::assert_snapshot!("help_run", help_of(&["run"]));
}

#[test]
fn the_help_of_exec_is_its_manual() {
    insta::assert_snapshot!("help_exec", help_of(&["exec"]));
}

#[test]
fn the_help_of_those_who_speak_to_an_instance_is_their_manual() {
    for command in [
        "status", "wait", "reload", "drain", "undrain", "stop", "who", "events", "logs", "report",
    ] {
        insta::assert_snapshot!(format!("help_{command}"), help_of(&[command]));
    }
}

#[test]
fn the_help_of_demo_is_its_manual() {
    insta::assert_snapshot!("help_demo", help_of(&["demo"]));
}

#[test]
fn the_help_of_validate_is_its_manual() {
    insta::assert_snapshot!("help_validate", help_of(&["validate"]));
}

#[test]
fn the_help_of_doctor_is_its_manual() {
    insta::assert_snapshot!("help_doctor", help_of(&["doctor"]));
}

#[test]
fn the_help_of_resolve_is_its_manual() {
    insta::assert_snapshot!("help_resolve", help_of(&["resolve"]));
}

#[test]
fn the_help_of_private_ips_is_its_manual() {
    insta::assert_snapshot!("help_private_ips", help_of(&["private-ips"]));
}

#[test]
fn the_help_of_the_manual_itself_is_its_manual() {
    for command in ["completions", "man", "schema", "install"] {
        insta::assert_snapshot!(format!("help_{command}"), help_of(&[command]));
    }
}

#[test]
fn the_help_of_simulate_is_its_manual() {
    insta::assert_snapshot!("help_simulate", help_of(&["simulate"]));
}

/// An input that a script may have, and the help does not show, is one that nobody finds. The error
/// about an unknown input lists them all.
#[test]
fn the_help_of_simulate_has_each_input() {
    let mut script = tempfile::NamedTempFile::new().unwrap();
    script.write_all(b"0 no-such-input\n").unwrap();
    let output = output_of(["simulate", script.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
    let error = stderr(&output);
    let (_, inputs) = error.split_once("the inputs are ").unwrap();
    let inputs: Vec<&str> = inputs.split('`').skip(1).step_by(2).collect();
    assert!(inputs.contains(&"wait"), "{error}");
    let help = help_of(&["simulate"]);
    for input in inputs {
        assert!(help.contains(&format!("`{input}`")), "{input}: {help}");
    }
}

#[test]
fn the_version_is_printed() {
    let output = output_of(["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        concat!("handover ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn every_flag_has_its_variable() {
    for command in ["run", "exec", "demo", "validate", "private-ips"] {
        let help = help_of(&[command]);
        let is_flag = |line: &&str| line.starts_with("      --");
        let flags = help.lines().filter(is_flag).count();
        let variables = help.matches("[env: HANDOVER_").count();
        assert_eq!(flags, variables, "{command}");
    }
}

#[test]
fn without_a_command_the_help_goes_to_standard_error() {
    let output = output_of([""; 0]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("Usage: handover"));
}
