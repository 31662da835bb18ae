//! What the lines look like, and that nothing waits for their reader.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::Value;

use crate::client::get;
use crate::support::{eventually, exec_script, handover};

#[test]
fn every_line_is_a_json_object_where_that_is_asked_for() {
    let script = r#"echo '{"level":"warn","n":1.50}'; echo plain "text" >&2; exec sleep 100"#;
    let mut handover = exec_script(&["--log-format", "json", "--live-after", "10ms"], script);
    handover.says("is live");
    handover.says("plain text");
    handover.stdout.wait_for("1.50");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);

    let parse = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    let events: Vec<Value> = handover.stderr.all().iter().map(parse).collect();
    assert!(
        events.iter().all(|event| event["time"].is_string()),
        "{events:?}"
    );
    let live = events
        .iter()
        .find(|event| event["message"].to_string().contains("is live"));
    let live = live.unwrap();
    assert_eq!(live["epoch"], 0);
    assert_eq!(live["level"], "info");
    assert!(live["after_ms"].is_u64());
    let plain = events
        .iter()
        .find(|event| event["line"] == "plain text")
        .unwrap();
    assert_eq!(plain["stream"], "stderr");
    assert_eq!(plain["epoch"], 0);
    assert!(plain["pid"].is_u64());

    let lines = handover.stdout.all();
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert!(
        line.ends_with(r#","json":{"level":"warn","n":1.50}}"#),
        "{line}"
    );
    assert_eq!(parse(line)["line"], r#"{"level":"warn","n":1.50}"#);
}

#[test]
fn the_log_level_has_no_say_in_what_the_program_prints() {
    let script = "echo to out; echo to err >&2; exec sleep 100";
    let handover = exec_script(&["--log-level", "error", "--live-after", "10ms"], script);
    handover.stdout.wait_for("[epoch 0] to out");
    handover.says("[epoch 0] to err");
    assert_eq!(handover.stderr.all().len(), 1);
}

#[test]
fn a_reader_that_stands_still_holds_nothing_up() {
    let script =
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done";
    let dir = tempfile::tempdir().unwrap();
    let marks = dir.path().join("marks");
    let script = format!("echo $RESTART_EPOCH >> {}; {script}", marks.display());
    let words = ["exec", "--live-after", "20ms", "--", "sh", "-c", &script];
    let mut command: Command = handover(words);
    // Both pipes are there and nobody reads them.
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let child = Arc::new(Mutex::new(child));
    let _guard = KillOnDrop(Arc::clone(&child));
    let started = |count: usize| {
        eventually("the next epoch", || {
            let text = std::fs::read_to_string(&marks).ok()?;
            (text.lines().count() >= count).then_some(())
        });
    };
    let pid = rustix::process::Pid::from_child(&child.lock().unwrap());
    for epoch in 0..3 {
        started(epoch + 1);
        rustix::process::kill_process(pid, Signal::HUP).unwrap();
    }
    started(4);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = eventually("the end", || child.lock().unwrap().try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

struct KillOnDrop(Arc<Mutex<std::process::Child>>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let mut child = self.0.lock().unwrap();
        drop(child.kill());
        drop(child.wait());
    }
}

#[test]
fn a_log_that_nobody_reads_any_more_is_no_reason_to_end() {
    let server = env!("CARGO_BIN_EXE_handover");
    let words = [
        "exec",
        "--listen",
        "127.0.0.1:0",
        "--notify",
        "--",
        server,
        "demo-server",
    ];
    let mut command = handover(words);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let child = Arc::new(Mutex::new(child));
    let _guard = KillOnDrop(Arc::clone(&child));
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
    // From here on, each line finds a closed pipe.
    drop(stderr);

    eventually("the first epoch", || get(address, "/").ok());
    let pid = rustix::process::Pid::from_child(&child.lock().unwrap());
    rustix::process::kill_process(pid, Signal::HUP).unwrap();
    eventually("the next epoch", || {
        (get(address, "/").ok()?.epoch == 1).then_some(())
    });
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = eventually("the end", || child.lock().unwrap().try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
