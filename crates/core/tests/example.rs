//! The driver on plain threads, run as a user runs it.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by a panic; the limit for a real process needs a thread"
)]

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_std_driver_survives_a_failure_hands_over_and_drains() {
    let program = example("std_driver");
    assert!(
        program.exists(),
        "there is no {}: build it with `cargo build -p handover-core --examples`",
        program.display()
    );
    let mut child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = output.read_to_string(&mut text);
        tell.send(read.map(|_| text)).unwrap();
    });

    let text = told.recv_timeout(LIMIT);
    if text.is_err() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();

    insta::assert_snapshot!(text.expect("it ends in time").unwrap(), @r"
    epoch 0 started: Desired
    epoch 0 is live
    epoch 1 started: Desired
    epoch 1 exited: Failed(Transient)
    retry in 20ms
    epoch 1 started: Desired
    epoch 1 exited: Failed(Transient)
    gave up after epoch 1: its retries are spent
    epoch 1 started: Desired
    epoch 1 is live
    epoch 0 drains, 1 serves
    epoch 0 exited: Clean
    draining
    epoch 2 started: Drain
    epoch 1 exited: Clean
    epoch 2 exited: Aborted
    finished: drained
    ");
    assert!(status.success(), "{status}");
}

/// Where cargo puts an example: beside the folder of the tests.
fn example(name: &str) -> PathBuf {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("{name}{}", env::consts::EXE_SUFFIX));
    path
}
