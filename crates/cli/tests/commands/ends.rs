//! How it ends when the program does, or never begins.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{exec_script, output_of, stderr};

#[track_caller]
fn ends(words: &[&str], code: i32, reason: &str) {
    let output = output_of(words.iter().copied());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains(reason), "`{reason}` is not in:\n{said}");
}

#[test]
fn a_program_that_fails_again_and_again_is_given_up_by_name() {
    let flags = ["exec", "--max-retries", "2", "--retry-interval", "5ms"];
    let words = [&flags[..], &["--", "sh", "-c", "echo no luck >&2; exit 3"]].concat();
    ends(&words, 69, "gave up on sh, as its retries are spent");
    ends(&words, 69, "exited with code 3; its last line: no luck");
}

#[test]
fn the_reason_of_a_failed_start_is_told_once_for_each_attempt_and_once_at_the_end() {
    let retries = [
        "exec",
        "--max-retries",
        "2",
        "--retry-interval",
        "5ms",
        "--",
    ];
    for (program, attempts, reason) in [
        (&["sh", "-c", "echo no luck >&2; exit 3"][..], 3, "no luck"),
        (&["/nonexistent/server"], 1, "there is no program"),
        (&["sh", "-c", "kill -SEGV $$"], 3, "SIGSEGV"),
    ] {
        let output = output_of([&retries[..], program].concat());
        let said = stderr(&output);
        let own = said.lines().filter(|line| !line.starts_with("[epoch"));
        let told = own.filter(|line| line.contains(reason)).count();
        assert_eq!(told, attempts + 1, "{said}");
        assert_eq!(said.matches("ERROR").count(), 1, "{said}");
    }
}

#[test]
fn a_program_that_is_not_there_is_not_tried_again() {
    ends(
        &["exec", "--", "/nonexistent/server"],
        127,
        "there is no program at `/nonexistent/server`",
    );
    ends(
        &["exec", "--", "no-such-program"],
        127,
        "`no-such-program` was not found in PATH",
    );
}

#[test]
fn a_program_that_cannot_be_executed_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    ends(
        &["exec", "--", plain.to_str().unwrap()],
        126,
        "may not be executed",
    );
    ends(
        &["exec", "--", dir.path().to_str().unwrap()],
        126,
        "is a directory",
    );
    std::fs::set_permissions(&plain, PermissionsExt::from_mode(0o755)).unwrap();
    ends(
        &["exec", "--", plain.to_str().unwrap()],
        126,
        "is not a program this machine can run",
    );
}

#[test]
fn the_end_of_the_program_is_the_end_where_that_is_asked_for() {
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)] {
        for live_after in ["0s", "1h"] {
            let flags = ["--on-exit", "stop", "--live-after", live_after];
            assert_eq!(
                exec_script(&flags, script).code(),
                code,
                "{script} {live_after}"
            );
        }
    }
}

#[test]
fn a_clean_end_is_left_alone_where_that_is_asked_for() {
    let mut handover = exec_script(&["--on-exit", "stay", "--live-after", "0s"], "sleep 0.1");
    handover.says("epoch 0 ended cleanly and is not restarted");
    handover.signal(rustix::process::Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn a_clean_end_is_a_failure_otherwise() {
    let flags = [
        "--live-after",
        "0s",
        "--max-retries",
        "1",
        "--retry-interval",
        "5ms",
    ];
    let mut handover = exec_script(
        &[&flags[..], &["--reset-after", "none"]].concat(),
        "sleep 0.1",
    );
    assert_eq!(handover.code(), 69);
    assert_eq!(handover.stderr.count("starting epoch 0"), 2);
}

#[test]
fn a_program_that_is_never_live_is_ended_and_tried_again() {
    let flags = ["--notify", "--start-deadline", "50ms", "--max-retries", "1"];
    let flags = [
        &flags[..],
        &["--retry-interval", "5ms", "--abort-grace", "1s"],
    ]
    .concat();
    let mut handover = exec_script(&flags, "exec sleep 100");
    assert_eq!(handover.code(), 69);
    assert_eq!(handover.stderr.count("is not live in time"), 2);
}

#[test]
fn a_file_to_watch_must_be_there_at_the_start() {
    ends(
        &["exec", "--watch", "/nonexistent/f", "--", "true"],
        65,
        "`/nonexistent/f` does not exist",
    );
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    ends(
        &["exec", "--listen", &address, "--", "true"],
        71,
        &format!("{address} is in use"),
    );
}
