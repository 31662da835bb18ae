//! The program that the crate's page shows, run with a real Envoy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use handover_test_support::{limit, require_envoy};

use crate::support::{Host, LIMIT};

/// The example, which cargo builds beside the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.join("examples/hand_over")
}

#[test]
fn the_program_on_the_crates_page_hands_over() {
    let host = Host::new(require_envoy!());
    let dir = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap();
    let text = host.config(host.web);
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let first = write("first.yaml", &text);
    let second = write("second.yaml", &format!("{text}\n# another one\n"));
    let mut program = Command::new(example())
        .arg(&host.binary)
        .args([first, second])
        // Its own files are then in a directory of this test.
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo builds the examples with the tests, unless it is told `--test`");
    if limit::poll(LIMIT, || program.try_wait().unwrap()).is_none() {
        program.kill().unwrap();
        program.wait().unwrap();
        panic!("it did not end within {LIMIT:?}");
    }
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "epoch 0 serves\nepoch 1 serves\nDrained\n"
    );
}

#[test]
fn the_page_shows_the_example_as_it_is() {
    let example = include_str!("../../../crates/envoy/examples/hand_over.rs");
    let (_, program) = example.split_once("\n\n").unwrap();
    let page = include_str!("../../../crates/envoy/src/lib.rs");
    let shown = page
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(shown.contains(program.trim()), "{program}");
}
