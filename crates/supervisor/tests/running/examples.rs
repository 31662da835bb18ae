//! The examples, run as a user would run them.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use handover_supervisor::control::wire;
use handover_supervisor::process::Signal;
use handover_test_support::limit::{eventually, poll};

use crate::support::{LIMIT, Place, status_when};

/// An example, which cargo builds beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(name)
}

/// A process whose lines are read. It is killed with this, if it still runs.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo builds the examples with the tests, unless it is told `--test`");
        let lines = lines_of(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines
            .recv_timeout(LIMIT)
            .expect("a line within the limit")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let signal = rustix::process::Signal::from_named_raw(signal.number()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        let ended = poll(LIMIT, || self.child.try_wait().unwrap());
        ended.expect("its end within the limit")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_ones_own_has_signals_a_watched_file_and_a_control_socket() {
    let place = Place::with("good morning");
    let mut command = Command::new(example("own_proxy"));
    let process = Process::start(command.args([place.file(), place.socket()]));
    assert_eq!(process.line(), "epoch 0 says good morning");
    place.write("good evening");
    assert_eq!(process.line(), "epoch 1 says good evening");
    process.signal(Signal::HUP);
    assert_eq!(process.line(), "epoch 2 says good evening");
    let status = status_when(&place, "epoch 2", |status| status.current_is_desired).await;
    assert_eq!(status.state, wire::State::Live);
    process.signal(Signal::TERM);
    assert_eq!(process.line(), "drained");
    assert!(process.end().success());
}

#[test]
fn any_server_is_handed_over_on_its_socket() {
    let place = Place::with("one");
    let log = place.path().join("log");
    let script = format!(
        "echo up $RESTART_EPOCH $LISTEN_FDS >> {log}; trap 'exit 0' TERM; while :; do sleep 0.02; done",
        log = log.display()
    );
    let mut command = Command::new(example("program"));
    let process = Process::start(command.arg(place.file()).args(["sh", "-c", &script]));
    assert!(process.line().starts_with("listening on 127.0.0.1:"));
    let says = |text: &str| {
        eventually(LIMIT, text, || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            log.lines().any(|line| line == text).then_some(())
        });
    };
    says("up 0 1");
    place.write("two");
    says("up 1 1");
    process.signal(Signal::TERM);
    assert_eq!(process.line(), "drained");
    assert!(process.end().success());
}

#[test]
fn an_operator_is_driven_by_hand() {
    let output = Command::new(example("reload_and_stop")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}", output.status);
    // The hang-up renews an equal configuration, and the second signal stops what the first one drains.
    let mut rest = text.as_str();
    for part in [
        "Apply {",
        "Renew {",
        "Terminate(Drain)",
        "Terminate(Stop)",
        "Finish(",
    ] {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{part}: {text}"));
        rest = after;
    }
}
