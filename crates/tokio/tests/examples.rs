//! The examples run and print what they promise.

use std::process::Command;

/// What an example prints, sorted: which of two tasks prints first is for the runtime to decide.
fn lines_of(example: &str) -> Vec<String> {
    // Cargo puts examples beside the directory of this test.
    let test = std::env::current_exe().expect("Linux has /proc");
    let directory = test.parent().expect("a program is in a directory");
    let examples = directory.with_file_name("examples");
    let output = Command::new(examples.join(example)).output();
    let output = output.expect("`cargo build -p handover-tokio --examples` has built it");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{errors}", output.status);
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_server_with_one_listener_is_changed_three_times() {
    assert_eq!(
        lines_of("one_listener"),
        [
            "epoch 0 gives way to epoch 1",
            "epoch 0 says good morning",
            "epoch 1 gives way to epoch 2",
            "epoch 1 says good evening",
            "epoch 2 says good night",
            "the agent has ended: drained",
        ]
    );
}

#[test]
fn a_bad_change_leaves_the_good_one_live_until_the_shutdown() {
    assert_eq!(
        lines_of("change_and_shut_down"),
        [
            "a bad one:",
            "another good one:",
            "epoch 0 has ended",
            "epoch 0 is live",
            "epoch 0 starts",
            "epoch 1 has ended",
            "epoch 1 is Live",
            "epoch 1 is live",
            "epoch 1 starts",
            // The bad one first, then the drain: the number of an epoch that has ended is used again.
            "epoch 2 has ended",
            "epoch 2 has ended",
            "epoch 2 starts",
            "epoch 2 starts",
            "good:",
            "not live: line 1: there is no port",
            "remove what epoch 0 has left",
            "remove what epoch 1 has left",
            "remove what epoch 2 has left",
            "remove what epoch 2 has left",
            "shutdown:",
            "the agent has ended: drained",
            "the configuration of epoch 2 is given up: a retry cannot help",
        ]
    );
}
