//! When an epoch is live.

use handover_test_support::ports::Port;
use rustix::process::Signal;

use crate::support::{Running, exec_script, handover};

#[test]
fn a_line_on_the_descriptor_is_readiness() {
    let script = "echo $READY_FD; sleep 0.1; eval \"echo >&$READY_FD\"; exec sleep 100";
    let handover = exec_script(&["--ready-fd", "--listen", "127.0.0.1:0"], script);
    handover.stdout.wait_for("[epoch 0] 4");
    handover.says("epoch 0 is live");
    let handover = exec_script(&["--ready-fd=7"], "echo >&7; exec sleep 100");
    handover.says("epoch 0 is live");
}

#[test]
fn a_program_that_closes_the_descriptor_in_silence_fails() {
    let flags = [
        "--ready-fd=3",
        "--max-retries",
        "0",
        "--abort-grace",
        "50ms",
    ];
    let mut handover = exec_script(&flags, "exec 3>&-; exec sleep 100");
    assert_eq!(handover.code(), 69);
    handover.says("closed its readiness descriptor without writing a line");
}

#[test]
fn one_that_does_not_end_either_is_killed() {
    let flags = ["--ready-fd=3", "--max-retries", "0", "--drain-time", "50ms"];
    let script = "trap '' TERM; exec 3>&-; while :; do sleep 0.02; done";
    let mut handover = exec_script(&flags, script);
    assert_eq!(handover.code(), 69);
}

#[test]
fn the_reason_of_an_end_before_readiness_is_the_end() {
    let flags = ["--ready-fd=3", "--max-retries", "0"];
    let ended = "the program ended before it was live: exited with code 4";
    for (script, words) in [
        ("exit 4", ""),
        // Some programs write everything to standard output.
        (
            "echo the port is taken; echo; exit 4",
            "; its last line: the port is taken",
        ),
        (
            "echo the end >&2; echo bye; exit 4",
            "; its last line: the end",
        ),
    ] {
        let mut handover = exec_script(&flags, script);
        assert_eq!(handover.code(), 69);
        let told = handover.says(ended);
        assert!(told.ends_with(&format!("{ended}{words}")), "{told}");
    }
}

#[test]
fn a_probe_is_asked_until_it_is_answered() {
    let port = Port::free();
    let address = port.addr();
    let server = env!("CARGO_BIN_EXE_handover");
    // The inner one listens for its server; to the outer one it is a program like any other.
    let inner = format!(
        "sleep 0.2; exec {server} exec --listen {address} --notify -- {server} demo-server"
    );
    for (flag, target) in [
        ("--probe-tcp", address.to_string()),
        ("--probe-http", format!("http://{address}/ready")),
    ] {
        let mut running = exec_script(&[flag, &target, "--live-after", "0s"], &inner);
        let live = running.says("INFO  epoch 0 is live after ");
        let live = match live.strip_prefix("[epoch 0] ") {
            Some(_) => running
                .stderr
                .wait_for_nth(2, "INFO  epoch 0 is live after "),
            None => live,
        };
        assert!(!live.starts_with('['), "{live}");
        assert!(millis_in(&live) >= 200, "{live}");
        running.signal(Signal::TERM);
        assert_eq!(running.code(), 0);
    }
}

/// The number in `... after 12 ms`.
fn millis_in(line: &str) -> u64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    words[words.len() - 2].parse().unwrap()
}

#[test]
fn without_a_word_of_the_program_the_time_it_has_run_counts() {
    let handover = exec_script(&["--live-after", "150ms"], "exec sleep 100");
    let live = handover.says("epoch 0 is live after");
    assert!(millis_in(&live) >= 150, "{live}");
}

#[test]
fn what_was_seen_of_one_that_is_late_is_the_reason() {
    let port = Port::free();
    let address = port.addr();
    let probed = address.to_string();
    let refused = format!("could not connect to {address}: Connection refused (os error 111)");
    let cases: [(&[&str], &str); 4] = [
        (&["--probe-tcp", &probed, "--live-after", "0s"], &refused),
        (&["--live-after", "1h"], "it has not run for 1h yet"),
        (
            &["--notify"],
            "no READY=1 of its processes has come to NOTIFY_SOCKET",
        ),
        (
            &["--ready-fd"],
            "it has written no line to READY_FD, which is 3",
        ),
    ];
    for (flags, reason) in cases {
        let always = ["exec", "--start-deadline", "1s", "--max-retries", "0"];
        let words = [&always, flags, &["--", "sleep", "100"]].concat();
        let mut handover = Running::start(&mut handover(words));
        assert_eq!(handover.code(), 69, "{reason}");
        handover.says(&format!("epoch 0 was not seen ready: {reason}"));
        handover.says(&format!(
            "as its retries are spent: it was not live within 1s: {reason}"
        ));
    }
}
