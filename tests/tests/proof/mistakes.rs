//! Configurations and command lines that are bad.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use handover_test_support::envoy_bin::report_skip;
use handover_test_support::envoy_config::Break;
use handover_test_support::log::Stream;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::Supervisor;

use crate::world::{LIMIT, Site, World};

/// One line must tell the file and the reason.
fn one_line_tells(supervisor: &Supervisor, file: &Path, reason: &str) {
    let file = file.to_str().expect("the path is text");
    handover_test_support::limit::eventually(
        LIMIT,
        &format!("{file} and {reason} on one line"),
        || {
            let lines = supervisor.log().lines();
            lines
                .iter()
                .any(|line| line.text.contains(file) && line.text.contains(reason))
                .then_some(())
        },
    );
}

async fn is_survived(broken: Break, reason: &str) {
    let envoy = require_envoy!();
    let world = World::start(&envoy, &["--max-retries", "2"]);
    world.site.write_broken(broken);
    one_line_tells(&world.supervisor, &world.site.file(), reason);
    world.served_by("v0");
    world.hand_over("v1", 1);
    world.hand_over("v2", 2);
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_broken_file_is_survived() {
    is_survived(Break::YamlError, "line").await;
}

#[tokio::test]
async fn an_unknown_field_is_survived() {
    is_survived(Break::UnknownField, "no such field").await;
}

#[tokio::test]
async fn a_missing_certificate_is_survived() {
    is_survived(Break::MissingCertificate, "key.pem").await;
}

#[tokio::test]
async fn a_taken_port_is_survived() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = holder.local_addr().expect("it is bound").port();
    is_survived(Break::PortConflict(port), "Address already in use").await;
}

#[tokio::test]
async fn a_spent_budget_with_nothing_to_hold_ends_with_69_and_names_the_configuration() {
    let envoy = require_envoy!();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = holder.local_addr().expect("it is bound").port();
    let site = Site::new();
    site.write_broken(Break::PortConflict(port));
    let retries = ["--max-retries", "2", "--retry-interval", "10ms"];
    let mut supervisor = site.launch(&envoy).args(retries).start();
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(69));
    one_line_tells(&supervisor, &site.file(), "gave up");
    assert_eq!(supervisor.count_lines("starting epoch 0"), 3);
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_configuration_that_is_rejected_at_the_start_ends_with_65() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write_broken(Break::UnknownField);
    let mut supervisor = site.launch(&envoy).start();
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(65));
    one_line_tells(&supervisor, &site.file(), "no such field");
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_file_that_cannot_be_used_at_the_start_ends_with_65_and_is_named() {
    let envoy = require_envoy!();
    type Prepare = fn(&Path) -> std::io::Result<()>;
    let cases: [(&str, Prepare); 5] = [
        ("does not exist", |_| Ok(())),
        ("directory", |file| fs::create_dir(file)),
        ("empty", |file| fs::write(file, "")),
        ("admin", |file| fs::write(file, "node: {}")),
        ("YAML", |file| fs::write(file, "a: [")),
    ];
    for (reason, prepare) in cases {
        let site = Site::new();
        prepare(&site.file()).expect("it can be prepared");
        let mut supervisor = site.launch(&envoy).start();
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(65), "{reason}");
        one_line_tells(&supervisor, &site.file(), reason);
        site.assert_nothing_left();
    }
}

#[tokio::test]
async fn a_binary_that_cannot_be_run_ends_as_in_a_shell_and_is_named() {
    let site = Site::new();
    site.write("v0");
    let dir = site.dir.path();
    let text = dir.join("text");
    fs::write(&text, "no program").expect("a file");
    fs::set_permissions(&text, fs::Permissions::from_mode(0o644)).expect("its mode can be set");
    for (binary, code) in [
        (dir.join("missing"), 127),
        (text, 126),
        (dir.to_owned(), 126),
    ] {
        let mut supervisor = site.launch(&binary).start();
        assert_eq!(
            supervisor.wait_exit(LIMIT).code(),
            Some(code),
            "{}",
            binary.display()
        );
        one_line_tells(&supervisor, &binary, "");
    }
    site.assert_nothing_left();
}

/// Envoy keeps its shared memory in `/dev/shm`, which is small in a container.
#[tokio::test]
async fn a_full_shared_memory_is_told_as_that_and_not_as_a_crash() {
    let envoy = require_envoy!();
    let mounted = std::process::Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"])
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        let test = "mistakes::a_full_shared_memory_is_told_as_that_and_not_as_a_crash";
        return report_skip(test, "no file system can be mounted here");
    }
    let site = Site::new();
    site.write("v0");
    let full = "mount -t tmpfs -o size=64k tmpfs /dev/shm && \
                { head -c 100000 /dev/zero > /dev/shm/full 2>/dev/null; exec \"$@\"; }";
    let launch = site.launch(&envoy).args(["--max-retries", "0"]);
    let mut supervisor = launch
        .by("unshare", &["--mount", "sh", "-c", full, "sh"])
        .start();
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(69));
    one_line_tells(&supervisor, &site.file(), "/dev/shm is full");
    site.assert_nothing_left();
}

#[test]
fn what_envoy_rejects_at_the_start_ends_with_its_reason() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write_broken(Break::UnknownField);
    let mut supervisor = site.launch(&envoy).start();
    let status = supervisor.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(65), "{}", supervisor.log());
    let errors = supervisor.log().text_of(Stream::Stderr);
    let last = errors.lines().last().unwrap_or_default();
    for part in [
        "gave up on ",
        "envoy.yaml",
        "no such field: 'no_such_field'",
    ] {
        assert!(last.contains(part), "{part}: {last}");
    }
    site.assert_nothing_left();
}

#[test]
fn what_envoy_does_not_understand_after_the_dashes_is_a_usage_error() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write("v0");
    // The usage that Envoy prints below its reason is the longer the longer its path is.
    let deep = site.dir.path().join("deep/".repeat(60));
    fs::create_dir_all(&deep).expect("the directories can be made");
    let far = deep.join("envoy");
    std::os::unix::fs::symlink(&envoy, &far).expect("the link can be made");
    for envoy in [envoy, far] {
        let launch = site.launch(&envoy).args(["--", "--no-such-flag"]);
        let mut supervisor = launch.start();
        let status = supervisor.wait_exit(LIMIT);
        assert_eq!(status.code(), Some(64), "{}", supervisor.log());
        let errors = supervisor.log().text_of(Stream::Stderr);
        assert!(errors.contains("Argument: --no-such-flag"), "{errors}");
    }
    site.assert_nothing_left();
}
