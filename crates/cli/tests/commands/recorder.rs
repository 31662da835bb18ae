//! The flight recorder: what it holds after a crash, what it never holds, and what a report packs.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::client::get;
use crate::support::{
    Running, eventually, exec_script, exec_server, finish, handover, handover_client, output_of,
    replace, stderr, stdout,
};

/// It is in the configuration, the environment and the arguments of a run, and nowhere else may it be.
const MARKER: &str = "k3y-0f-the-t3st";

const QUICK: [&str; 6] = [
    "--live-after",
    "50ms",
    "--max-retries",
    "1",
    "--retry-interval",
    "20ms",
];

/// The files of an archive, with their names.
fn unpacked(archive: &Path) -> Vec<(String, String)> {
    let mode = archive.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let file = std::fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let entries = archive.entries().unwrap();
    let read = entries.map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (
            name.strip_prefix("handover-report/").unwrap().to_owned(),
            text,
        )
    });
    read.collect()
}

fn file<'a>(files: &'a [(String, String)], name: &str) -> &'a str {
    let file = files.iter().find(|(known, _)| known == name);
    assert!(file.is_some(), "{name} is not packed: {files:?}");
    &file.unwrap().1
}

fn summary(files: &[(String, String)]) -> Value {
    serde_json::from_str(file(files, "report.json")).unwrap()
}

#[test]
fn a_killed_run_with_changes_and_failures_is_replayed_without_a_difference() {
    let dir = tempfile::tempdir().unwrap();
    let (config, state) = (dir.path().join("server.conf"), dir.path().join("state"));
    replace(&config, "one");
    let (path, state_dir) = (config.to_str().unwrap(), state.to_str().unwrap());
    let mut flags = vec!["--watch", path, "--state-dir", state_dir];
    flags.extend(QUICK);
    let start = || {
        let running = exec_server(&flags, &["--config", path]);
        running.says("epoch 0 is live");
        running
    };
    let mut first = start();
    replace(&config, "two");
    first.says("epoch 1 is live");
    first.says("epoch 0 ended cleanly");
    replace(&config, "broken on purpose");
    first.says("gave up the configuration");
    replace(&config, "three");
    first.stderr.wait_for_nth(3, " is live after ");
    // What was written before is read after: nothing of it is in the process alone.
    eventually("the last record", || {
        let text = std::fs::read_to_string(state.join("recording")).ok()?;
        (text.matches("agent < {\"Live\":").count() >= 3).then_some(())
    });
    first.signal(Signal::KILL);
    first.code();
    let replay = |args: &[&str]| output_of([&["simulate"], args].concat());
    let output = replay(&[state_dir]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(text.contains("the machines did the same again"), "{text}");
    assert!(text.contains("desire config 3"), "{text}");
    assert!(text.contains("gave up after 2"), "{text}");
    assert!(text.contains("FilesChanged"), "{text}");
    // Another run goes on in the same file, and says how it has ended.
    let mut second = start();
    second.signal(Signal::TERM);
    assert_eq!(second.code(), 0);
    let output = replay(&["--json", state_dir]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&object["differences"], &object["left_out"]),
        (&0.into(), &0.into())
    );
    let runs = object["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    assert!(
        runs[1]["notes"][0]
            .as_str()
            .unwrap()
            .contains("the run ended")
    );
    assert!(!runs[0]["agent"].as_array().unwrap().is_empty());
    // A recording that says something else than the machine does.
    let recording = state.join("recording");
    let text = std::fs::read_to_string(&recording).unwrap();
    let other = text.replacen(
        "> {\"Retire\":{\"epoch\":0,\"by\":1}}",
        "> {\"Retire\":{\"epoch\":0,\"by\":7}}",
        1,
    );
    assert_ne!(text, other);
    let changed = dir.path().join("changed");
    std::fs::write(&changed, other).unwrap();
    let output = replay(&[changed.to_str().unwrap()]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("recorded: {\"Retire\":{\"by\":7,\"epoch\":0}}"),
        "{text}"
    );
    assert!(
        text.contains("replayed: {\"Retire\":{\"by\":1,\"epoch\":0}}"),
        "{text}"
    );
    // One of another version.
    std::fs::write(&changed, "handover-recording 99\n").unwrap();
    let output = replay(&[changed.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("format of another version"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn no_secret_is_in_a_recording_or_a_report_and_a_report_replaces_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (config, state) = (dir.path().join("server.conf"), dir.path().join("state"));
    let (socket, archive) = (dir.path().join("web.sock"), dir.path().join("r.tar.gz"));
    replace(&config, &format!("password: {MARKER}"));
    let script = format!(
        "test ! -e {}/fail || exit 65; exec sleep 600 # {MARKER}",
        dir.path().display()
    );
    let mut words = vec!["exec", "--watch", config.to_str().unwrap()];
    words.extend([
        "--state-dir",
        state.to_str().unwrap(),
        "--socket",
        socket.to_str().unwrap(),
    ]);
    words.extend(QUICK);
    words.extend(["--", "sh", "-c", &script, MARKER]);
    let mut command = handover(words);
    let mut running = Running::start(command.env("A_PASSWORD", MARKER));
    running.says("epoch 0 is live");
    std::fs::write(dir.path().join("fail"), "").unwrap();
    replace(&config, &format!("other: {MARKER}"));
    running.says("gave up the configuration");

    let report = |target: &[&str], flags: &[&str]| {
        let words = ["report", "--output", archive.to_str().unwrap()];
        finish(&mut handover_client(
            words.iter().chain(target).chain(flags),
        ))
    };
    let live = ["--socket", socket.to_str().unwrap()];
    let output = report(&live, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let files = unpacked(&archive);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..2], ["report.json", "status.json"]);
    let object = summary(&files);
    assert_eq!(object["instance"]["pid"], running.pid());
    assert_eq!(object["state_dir"], state.to_str().unwrap());
    let arguments = object["arguments"].to_string();
    assert!(
        arguments.contains("[") && arguments.contains("bytes hidden]"),
        "{arguments}"
    );
    assert!(arguments.contains("--live-after"), "{arguments}");
    assert!(file(&files, "recording").contains("\"GaveUp\""));
    let status: Value = serde_json::from_str(file(&files, "status.json")).unwrap();
    assert_eq!(status["pid"], running.pid());
    for (name, text) in &files {
        assert!(!text.contains(MARKER), "{name}: {text}");
    }
    // It is never overwritten unless that is asked for.
    let output = report(&live, &[]);
    assert_eq!(output.status.code(), Some(71));
    assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
    assert_eq!(report(&live, &["--force"]).status.code(), Some(0));

    running.signal(Signal::KILL);
    running.code();
    let output = report(&live, &["--force"]);
    assert_eq!(output.status.code(), Some(69), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("--state-dir"),
        "{}",
        stderr(&output)
    );
    // The recording knows what the process was started with.
    let output = report(&live, &["--force", "--state-dir", state.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("missing: the instance was not asked"),
        "{}",
        stdout(&output)
    );
    let files = unpacked(&archive);
    assert_eq!(summary(&files)["arguments"].to_string(), arguments);
    assert_eq!(summary(&files)["instance"], Value::Null);
    for (name, text) in &files {
        assert!(!text.contains(MARKER), "{name}: {text}");
    }
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        let found = content
            .windows(MARKER.len())
            .any(|part| part == MARKER.as_bytes());
        assert!(!found, "{}", path.display());
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[test]
fn the_last_lines_of_each_epoch_outlive_the_supervisor() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut flags = vec!["--state-dir", state.to_str().unwrap()];
    flags.extend(QUICK);
    let mut running = exec_script(&flags, "echo \"I am $RESTART_EPOCH\" >&2; exec sleep 600");
    running.says("epoch 0 is live");
    running.signal(Signal::HUP);
    running.says("epoch 1 is live");
    let lines = state.join("last-lines");
    eventually("the lines of both", || {
        let text = std::fs::read_to_string(&lines).ok()?;
        (text.contains("stderr: I am 0\n") && text.contains("stderr: I am 1\n")).then_some(())
    });
    running.signal(Signal::KILL);
    running.code();
    let archive = dir.path().join("r.tar.gz");
    let words = [
        "report",
        "--output",
        archive.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
    ];
    let output = output_of(words);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let files = unpacked(&archive);
    let lines = file(&files, "last-lines");
    assert!(lines.contains("== epoch 0, process "), "{lines}");
    assert!(lines.contains(" stderr: I am 1\n"), "{lines}");
}

#[test]
fn without_a_state_directory_or_where_it_is_switched_off_nothing_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let off = ["--state-dir", state.to_str().unwrap(), "--record", "no"];
    for flags in [off.as_slice(), &[]] {
        let mut words = vec!["exec", "--live-after", "1ms"];
        words.extend(flags);
        words.extend(["--", "sleep", "600"]);
        let mut command = handover(words);
        let mut running = Running::start(command.current_dir(dir.path()));
        running.says("epoch 0 is live");
        running.signal(Signal::TERM);
        assert_eq!(running.code(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_directory_that_cannot_be_recorded_in_is_told_of_once_and_the_proxy_serves() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let first = exec_server(&["--state-dir", state.to_str().unwrap()], &[]);
    first.says("epoch 0 is live");
    // Another instance records there; and what is no directory.
    for (place, reason) in [
        (&state, "written by another process"),
        (&file, "cannot create the directory"),
    ] {
        let running = exec_server(&["--state-dir", place.to_str().unwrap()], &[]);
        running.says("epoch 0 is live");
        assert_eq!(get(running.address(), "/").unwrap().epoch, 0);
        let warned = running.says("nothing is recorded (--record no switches it off)");
        assert!(warned.contains(reason), "{warned}");
        running.signal(Signal::HUP);
        running.says("epoch 1 is live");
        assert_eq!(running.stderr.count("nothing is recorded"), 1);
    }
    assert_eq!(first.stderr.count("WARN"), 0, "{:?}", first.stderr.all());
}

#[test]
fn a_full_disk_ends_the_recording_with_one_warning_and_costs_no_hand_over() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // A file that may not grow beyond a few kilobytes refuses writes as a full disk does.
    let exec = "ulimit -f 16 && exec \"$0\" \"$@\"";
    let binary = env!("CARGO_BIN_EXE_handover");
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        exec,
        binary,
        "exec",
        "--listen",
        "127.0.0.1:0",
        "--notify",
    ]);
    command
        .args(["--socket", "none", "--state-dir"])
        .arg(&state);
    command.args(["--", binary, "demo-server"]);
    let mut running = Running::start(&mut command);
    let address = running.address();
    running.says("epoch 0 is live");
    for epoch in 1..=12 {
        running.signal(Signal::HUP);
        eventually("the next epoch", || {
            (get(address, "/").ok()?.epoch > 0).then_some(())
        });
        running.stderr.wait_for_nth(epoch, " ended cleanly");
    }
    // The recording, and the events.
    for _ in 0..2 {
        running.says("nothing is recorded until it can be written again");
    }
    assert_eq!(running.stderr.count("nothing is recorded"), 2);
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
    let output = output_of(["simulate", state.to_str().unwrap()]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(text.contains("the machines did the same again"), "{text}");
}
