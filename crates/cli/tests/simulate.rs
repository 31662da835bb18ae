//! `handover simulate`, from outside, with the scripts that are shipped.

// A binary without it has fewer commands.
#![cfg(feature = "tools")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails by a panic")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const SCRIPT: &str = "../core-testing/scenarios/failed_epoch_is_retried_with_its_number.txt";

fn simulate(args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_handover"))
        .arg("simulate")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not read its input closes it, which is not what is tested.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_shipped_script_gives_the_transcript_that_its_snapshot_has() {
    let output = simulate(&[SCRIPT], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let snapshot = include_str!(
        "../../core-testing/tests/snapshots/scenarios__failed_epoch_is_retried_with_its_number.snap"
    );
    let (_, transcript) = snapshot.split_once("transcript(script)\n---\n").unwrap();
    assert_eq!(text(&output.stdout).trim(), transcript.trim());
}

#[test]
fn the_object_tells_each_step_in_full() {
    let output = simulate(&["--json", SCRIPT], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(object["title"].as_str().unwrap().contains("failed"));
    let first = &object["steps"][0];
    assert_eq!(first["at_ms"], 0.0);
    assert_eq!(first["input"], "desire A");
    assert_eq!(first["reception"]["accepted"], true);
    let start = &first["outputs"][0];
    assert_eq!(
        (&start["command"], &start["epoch"], &start["config"]),
        (&"start".into(), &0.into(), &"A".into())
    );
    assert_eq!(first["epochs"][0]["state"], "starting");
    assert_eq!(
        (&first["desired"], &first["held"]),
        (&"A".into(), &Value::Null)
    );
    let retry = object["steps"].as_array().unwrap().iter();
    let waits: Vec<_> = retry
        .filter(|step| step["deadline"]["reason"] == "retry")
        .collect();
    assert!(!waits.is_empty());
    assert!(
        waits
            .iter()
            .all(|step| step["deadline"]["at_ms"].is_number())
    );
}

#[test]
fn a_script_comes_from_standard_input_too() {
    let output = simulate(&["-"], "# By hand.\n0 desire A\n50ms live 0\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.starts_with("By hand.\n"), "{printed}");
    assert!(printed.contains("START 0 to serve A"), "{printed}");
}

#[test]
fn a_line_that_cannot_be_read_is_named() {
    let output = simulate(&["-"], "0 desire A\n1s start B\n");
    assert_eq!(output.status.code(), Some(65));
    let said = text(&output.stderr);
    assert!(said.contains("line 2: `start B` is not an input"), "{said}");
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_policy_that_cannot_be_honoured_is_told() {
    let output = simulate(&["-"], "policy default max_epochs=1\n0 desire A\n");
    assert_eq!(output.status.code(), Some(65));
    let said = text(&output.stderr);
    assert!(said.contains("max_epochs is 1"), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = simulate(&["no/such/script.txt"], "");
    assert_eq!(output.status.code(), Some(65));
    let said = text(&output.stderr);
    assert!(said.contains("no/such/script.txt"), "{said}");
}

#[test]
fn a_cold_restart_is_an_input_and_an_event() {
    let output = simulate(&["--json", "-"], "0 desire A\n1s restart B\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let restart = &object["steps"][1];
    assert_eq!(restart["input"], "restart B");
    assert_eq!(restart["outputs"][0]["event"], "restarting");
    assert_eq!(restart["desired"], "B");
}

/// A width in a format string may be 65,535 at most.
#[test]
fn a_name_of_any_length_is_shown_shortened() {
    for length in [65_534, 70_000, 1_000_000] {
        let script = format!("0 desire {}\n1s live 0\n", "n".repeat(length));
        let output = simulate(&["-"], &script);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let longest = text(&output.stdout).lines().map(str::len).max();
        assert!(
            longest.is_some_and(|longest| longest < 2_000),
            "{longest:?}"
        );
    }
}

/// Each step lists all running epochs, so such a script took memory with the square of its length.
#[test]
fn a_script_with_thousands_of_epochs_at_once_is_refused() {
    let mut script = "policy default max_epochs=4294967295\n".to_owned();
    for epoch in 0..3_000 {
        script += &format!("+1ms desire c{epoch}\n+1ms live {epoch}\n");
    }
    let long_names = format!("0 desire {0}\n+1ms live 0\n", "n".repeat(1_000_000));
    let long_names = long_names + &"+1ms wait\n".repeat(100);
    for script in [script, long_names] {
        let output = simulate(&["-"], &script);
        assert_eq!(output.status.code(), Some(65), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("grows too large after"));
    }
}

#[test]
fn a_script_without_an_end_is_refused() {
    let output = simulate(&["/dev/zero"], "");
    assert_eq!(output.status.code(), Some(65));
    assert!(text(&output.stderr).contains("larger than 16777216 bytes"));
}
