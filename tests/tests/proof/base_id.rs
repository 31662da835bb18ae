//! The base id that handover chooses by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_tests::leftovers::Leftovers;
use handover_tests::limit::eventually;
use handover_tests::load::{Load, Mix};
use handover_tests::require_envoy;
use handover_tests::supervisor::{Signal, Supervisor};

use crate::world::{LIMIT, Site};

/// Starts it with locks of its own, and tells the base id it has chosen.
fn start(site: &Site, envoy: &Path, more: &[&str]) -> (Supervisor, u32) {
    let launch = site.launch_by_itself(envoy, "2s", "3s").args(more);
    let supervisor = launch.arg("--lock-dir").arg(locks(site)).start();
    let said = "Envoy has the base id ";
    let line = supervisor.wait_for_line(said, LIMIT);
    let (_, number) = line.text.split_once(said).expect("it was waited for");
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    let number = digits.parse();
    (supervisor, number.expect("it is a number"))
}

/// A run directory that goes with the site: one that is killed leaves its own behind.
fn run_dir(site: &Site, name: &str) -> String {
    let path = site.dir.path().join(name);
    path.to_str().expect("the path is text").to_owned()
}

fn locks(site: &Site) -> PathBuf {
    site.dir.path().join("locks")
}

/// The shared memory and the sockets of this base id.
fn of_envoy(base_id: u32) -> Vec<String> {
    Leftovers::watch().base_id(base_id).list()
}

#[test]
fn after_a_kill_the_same_one_is_taken_again_and_nothing_is_left_at_the_end() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write("v0");
    let run_dir = run_dir(&site, "run");
    let (mut first, base_id) = start(&site, &envoy, &["--run-dir", &run_dir]);
    site.admin().wait_live(0, LIMIT);
    first.signal(Signal::KILL);
    first.wait_exit(LIMIT);
    // Envoy has asked the kernel to be ended with its supervisor.
    eventually(LIMIT, "Envoy to end", || {
        first.processes().is_empty().then_some(())
    });
    let left = of_envoy(base_id);
    assert!(!left.is_empty(), "there is something to find");

    let (mut second, again) = start(&site, &envoy, &["--run-dir", &run_dir]);
    assert_eq!(again, base_id);
    site.admin().wait_live(0, LIMIT);
    second.signal(Signal::TERM);
    assert_eq!(second.wait_exit(LIMIT).code(), Some(0));
    Leftovers::watch()
        .base_id(base_id)
        .assert_nothing_left(Duration::from_secs(10));
    let locks: Vec<_> = fs::read_dir(locks(&site)).expect("it is there").collect();
    assert!(locks.is_empty(), "{locks:?}");
}

/// Two of one name, because they have one configuration; its ports are taken.
#[tokio::test]
async fn a_second_one_for_the_same_configuration_takes_another_and_disturbs_nobody() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write("v0");
    let (mut first, base_id) = start(&site, &envoy, &[]);
    site.admin().wait_live(0, LIMIT);
    let load = Load::start(site.listener.addr(), Mix::default());
    let (mut second, other) = start(&site, &envoy, &["--max-retries", "0"]);
    assert_ne!(other, base_id);
    assert_eq!(second.wait_exit(LIMIT).code(), Some(69));
    assert!(of_envoy(other).is_empty());
    load.stop().await.assert_no_loss();
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    assert!(of_envoy(base_id).is_empty());
}
