//! An Envoy that the kernel ends because it is out of memory, and one that is not started for that.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use handover_test_support::control_group::{Group, JOIN};
use handover_test_support::require_envoy;
use rustix::process::Signal;

use crate::world::{LIMIT, Site};

/// Enough for the supervisor, the shells and a validation.
const LIMIT_OF_GROUP: u64 = 128 << 20;

#[test]
fn an_envoy_without_memory_is_told_from_one_that_was_killed() {
    let envoy = require_envoy!();
    let test = "proof::memory::an_envoy_without_memory_is_told_from_one_that_was_killed";
    let Some(group) = Group::with_limit(test, LIMIT_OF_GROUP) else {
        return;
    };
    let site = Site::new();
    site.write("v0");
    // It stands for an Envoy that takes more and more: one that merely has too little spends minutes
    // on reading its own code again and again before the kernel ends it.
    let greedy = site.file().with_file_name("greedy-envoy");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--restart-epoch*) exec tail /dev/zero ;; esac\nexec {} \"$@\"\n",
        envoy.display()
    );
    fs::write(&greedy, script).expect("the directory is ours");
    fs::set_permissions(&greedy, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let state = site.file().with_file_name("state");
    let mut supervisor = site
        .launch(&greedy)
        .args(["--max-retries", "0", "--state-dir"])
        .arg(&state)
        .by("sh", &["-c", JOIN, &group.members()])
        .start();
    let status = supervisor.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(69), "{status}");
    supervisor.wait_for_line("it ran out of memory", LIMIT);
    let reports = fs::read_dir(&state).expect("the state directory");
    let reports = reports.flatten().map(|entry| entry.path());
    let is_report = |path: &PathBuf| path.extension().is_some_and(|it| it == "json");
    let reports: Vec<_> = reports.filter(is_report).collect();
    let [report] = reports.as_slice() else {
        panic!("one report was expected: {reports:?}");
    };
    let report = fs::read_to_string(report).expect("the report");
    assert!(report.contains(r#""label": "out_of_memory""#), "{report}");
    assert!(report.contains(r#""signal": 9"#), "{report}");
    site.assert_nothing_left();
}

#[test]
fn a_hand_over_waits_for_memory_and_what_serves_goes_on() {
    let envoy = require_envoy!();
    let test = "proof::memory::a_hand_over_waits_for_memory_and_what_serves_goes_on";
    let Some(group) = Group::with_limit(test, 2 << 30) else {
        return;
    };
    let site = Site::new();
    site.write("v0");
    let mut supervisor = site
        .launch(&envoy)
        .args(["--retry-max-interval", "100ms"])
        .by("sh", &["-c", JOIN, &group.members()])
        .start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    group.leave(4 << 20);
    site.write("v1");
    let why = supervisor.wait_for_line("epoch 1 failed: ", LIMIT);
    for part in [
        "a second process would need about",
        "the control group ",
        "--memory-guard warn",
    ] {
        assert!(why.text.contains(part), "{}", why.text);
    }
    supervisor.wait_for_line("is tried again later", LIMIT);
    assert_eq!(supervisor.count_lines("epoch 0 ended"), 0);
    group.limit(2 << 30);
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}
