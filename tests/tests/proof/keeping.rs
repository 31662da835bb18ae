//! What is kept from one run to the next, and what is told about an end.

use std::fs;
use std::path::{Path, PathBuf};

use handover_test_support::envoy_config::Break;
use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::{Signal, Supervisor};
use rustix::process::{Pid, kill_process};

use crate::world::{LIMIT, Site, World};

fn state_dir(site: &Site) -> PathBuf {
    site.dir.path().join("state")
}

fn start_with_fallback(site: &Site, envoy: &Path) -> Supervisor {
    let state = state_dir(site);
    let state = state.to_str().expect("the path is text");
    site.launch(envoy)
        .args(["--state-dir", state, "--fallback", "last-known-good"])
        .start()
}

/// Lets `v0` go live and ends it; returns where it is kept.
fn keep_v0(site: &Site, envoy: &Path) -> PathBuf {
    site.write("v0");
    let supervisor = start_with_fallback(site, envoy);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let kept = state_dir(site).join("last-known-good");
    eventually(LIMIT, "the last known good configuration", || {
        kept.exists().then_some(())
    });
    end(supervisor);
    kept
}

fn end(mut supervisor: Supervisor) {
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
}

#[tokio::test]
async fn a_cold_start_on_a_bad_configuration_runs_the_last_known_good_one() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    keep_v0(&site, &envoy);

    let bad: [fn(&Site); 3] = [
        |site| site.write_broken(Break::UnknownField),
        |site| fs::write(site.file(), "").expect("a file"),
        |site| fs::remove_file(site.file()).expect("the file is there"),
    ];
    for make_bad in bad {
        make_bad(&site);
        let supervisor = start_with_fallback(&site, &envoy);
        supervisor.wait_for_line("falls back", LIMIT);
        supervisor.wait_for_line("epoch 0 is live", LIMIT);
        let answer = handover_test_support::http::get(site.listener.addr(), "/", LIMIT);
        assert_eq!(
            answer.expect("Envoy answers").header("x-config"),
            Some("v0")
        );
        // The one that is desired is awaited.
        site.write("v1");
        site.admin().wait_live(1, LIMIT);
        end(supervisor);
        site.write("v0");
        let supervisor = start_with_fallback(&site, &envoy);
        supervisor.wait_for_line("epoch 0 is live", LIMIT);
        let kept = state_dir(&site).join("last-known-good");
        eventually(LIMIT, "v0 to be kept again", || {
            let kept = fs::read_to_string(&kept).ok()?;
            kept.contains("v0").then_some(())
        });
        end(supervisor);
    }
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_damaged_last_known_good_configuration_is_refused_with_the_reason() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let kept = keep_v0(&site, &envoy);
    let mut bytes = fs::read(&kept).expect("it is there");
    bytes.push(b' ');
    fs::write(&kept, bytes).expect("it can be written");
    site.write_broken(Break::UnknownField);
    let mut supervisor = start_with_fallback(&site, &envoy);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(65));
    supervisor.wait_for_line("refused as damaged", LIMIT);
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_crash_is_reported_and_a_hanging_envoy_is_restarted() {
    let envoy = require_any_envoy!();
    let reports = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .expect("a directory");
    let reports = reports.path().join("state");
    let path = reports.to_str().expect("the path is text").to_owned();
    let world = World::start(&envoy, &["--state-dir", &path, "--hung-after", "1s"]);
    let first = world.only_envoy();
    let pid = i32::try_from(first)
        .ok()
        .and_then(Pid::from_raw)
        .expect("it is a process id");
    kill_process(pid, Signal::STOP).expect("it runs");
    eventually(LIMIT, "another Envoy", || {
        let mut children = world.supervisor.children().into_iter();
        children.find(|pid| *pid != first)
    });
    world.served_by("v0");
    let report = eventually(LIMIT, "a report of the crash", || {
        let mut files = fs::read_dir(&reports).ok()?.flatten();
        let crash = files.find(|file| file.file_name().to_string_lossy().starts_with("crash-"))?;
        fs::read_to_string(crash.path())
            .ok()
            .filter(|text| !text.is_empty())
    });
    assert!(
        report.contains("\"epoch\": 0") && report.contains("envoy.yaml"),
        "{report}"
    );
    world.finish().await;
}

#[tokio::test]
async fn the_reason_of_an_end_goes_to_the_termination_log() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write_broken(Break::UnknownField);
    let log = site.dir.path().join("termination-log");
    let path = log.to_str().expect("the path is text");
    let mut supervisor = site
        .launch(&envoy)
        .args(["--termination-log", path])
        .start();
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(65));
    let message = fs::read_to_string(&log).expect("it was written");
    assert!(
        message.contains("no such field") && message.lines().count() == 1,
        "{message}"
    );
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_fallback_without_a_place_to_keep_it_is_a_usage_error() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let mut supervisor = site
        .launch(&envoy)
        .args(["--fallback", "last-known-good"])
        .start();
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(64));
    supervisor.wait_for_line("--state-dir", LIMIT);
    site.assert_nothing_left();
}
