//! Who the program runs as, and how many files it may open.

use std::process::Command;

use handover_test_support::stranger::may_run;
use rustix::process::{Resource, getrlimit};

use crate::support::{exec_script, executing, finish, handover, output_of, stderr};

const NOBODY: [&str; 4] = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];

/// Prints who it is, opens its output again, and stays.
const SCRIPT: &str = "grep -E '^(Uid|Gid|Groups|CapEff|CapAmb):' /proc/self/status | tr '\\t' ' '; \
     echo again > /dev/stdout; exec sleep 60";

#[test]
fn exec_runs_the_program_as_the_user_with_the_group_and_the_capabilities() {
    const TEST: &str =
        "commands::run_as::exec_runs_the_program_as_the_user_with_the_group_and_the_capabilities";
    if !may_run(TEST, &NOBODY, &["sleep".as_ref()]) {
        return;
    }
    let flags = [
        "--user",
        "65534",
        "--group",
        "4711",
        "--ambient-caps",
        "net_bind_service,CAP_Net_Raw",
    ];
    let handover = exec_script(&flags, SCRIPT);
    for line in [
        "Uid: 65534 65534 65534 65534",
        "Gid: 4711 4711 4711 4711",
        "CapEff: 0000000000002400",
        "CapAmb: 0000000000002400",
        "again",
    ] {
        handover.stdout.wait_for(line);
    }
}

#[test]
fn what_the_flags_cannot_mean_is_refused_with_64() {
    let refused = |flags: &[&str], expected: &str| {
        let words = ["exec"].iter().chain(flags).chain(&["--", "true"]);
        let output = output_of(words);
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    };
    refused(
        &["--ambient-caps", "net_bind_servce"],
        "did you mean `net_bind_service`?",
    );
    refused(
        &["--user", "no such user"],
        "/etc/passwd has no user of this name",
    );
    refused(&["--user", "4000000000"], "name it with --group");
    refused(&["--nofile", "0"], "give a number from 1 on");
    let hard = getrlimit(Resource::Nofile).maximum;
    if let Some(above) = hard.and_then(|hard| hard.checked_add(1)) {
        refused(&["--nofile", &above.to_string()], "is above the hard limit");
    }
}

#[test]
fn without_the_right_to_change_the_user_it_ends_with_77() {
    const TEST: &str = "commands::run_as::without_the_right_to_change_the_user_it_ends_with_77";
    let words = ["exec", "--user", "root", "--", "true"];
    let command = handover(words);
    if !may_run(TEST, &NOBODY, &[command.get_program().as_ref()]) {
        return;
    }
    let mut launcher = Command::new("setpriv");
    launcher.args(NOBODY);
    let output = finish(&mut executing(launcher, &command));
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.contains("--user: this process lacks CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID"),
        "{said}"
    );
}

#[test]
fn nofile_sets_the_soft_limit_of_the_program() {
    let limit = |flag: &str| {
        let script = "echo limit: $(ulimit -S -n); exec sleep 60";
        let handover = exec_script(&["--nofile", flag], script);
        handover.stdout.wait_for("limit: ")
    };
    assert!(limit("99").ends_with("limit: 99"));
    let hard = getrlimit(Resource::Nofile).maximum;
    let hard = hard.map_or("unlimited".to_owned(), |hard| hard.to_string());
    assert!(limit("max").ends_with(&format!("limit: {hard}")));
}
