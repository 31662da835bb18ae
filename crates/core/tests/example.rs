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

    insta::assert_snapshot!(text.expect("it ends in time").unwrap(), @r#"
    Desire("good"): Accepted
        Start { epoch: Epoch(0), target: Serve("good") }
    Live(Epoch(0)): Accepted
    Desire("broken"): Accepted
        Start { epoch: Epoch(1), target: Serve("broken") }
    Exited(Epoch(1), Failed(Transient)): Accepted
        Cleanup(Epoch(1))
        Start { epoch: Epoch(1), target: Serve("broken") }
    Exited(Epoch(1), Failed(Transient)): Accepted
        Cleanup(Epoch(1))
    Desire("better"): Accepted
        Start { epoch: Epoch(1), target: Serve("better") }
    Live(Epoch(1)): Accepted
        Retire { epoch: Epoch(0), by: Epoch(1) }
    Exited(Epoch(0), Clean): Accepted
        Cleanup(Epoch(0))
    Terminate(Drain): Accepted
        Start { epoch: Epoch(2), target: Drain }
    Exited(Epoch(1), Clean): Accepted
        Cleanup(Epoch(1))
        Abort { epoch: Epoch(2), how: Graceful }
    Exited(Epoch(2), Aborted): Accepted
        Cleanup(Epoch(2))
        Finish(Drained)
    "#);
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
