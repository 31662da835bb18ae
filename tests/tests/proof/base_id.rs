//! The base id that handover chooses by itself.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::eventually;
use handover_test_support::load::{Load, Mix};
use handover_test_support::supervisor::{Launch, Signal, Supervisor};
use handover_test_support::{envoy_bin::report_skip, require_any_envoy};

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
    let envoy = require_any_envoy!();
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
    // Its environment goes before its sockets. As long as they are there, its base id is left alone.
    eventually(LIMIT, "only shared memory to be left", || {
        let left = of_envoy(base_id);
        left.iter()
            .all(|it| it.starts_with("shared memory "))
            .then_some(())
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
    let envoy = require_any_envoy!();
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

/// Two containers on the network of their host: one network namespace, and neither shared memory nor
/// lock files in common.
#[test]
fn two_that_start_at_once_and_share_the_network_alone_both_serve() {
    const ROUNDS: usize = 8;
    let envoy = require_any_envoy!();
    let tried = Command::new("unshare").args(["--mount", "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        let test = "proof::base_id::two_that_start_at_once_and_share_the_network_alone_both_serve";
        report_skip(test, "no mount namespace can be made");
        return;
    }
    let sites = [Site::new(), Site::new()];
    // Both see the same paths, so both would choose the same base id.
    let place = sites[0].dir.path().join("place");
    fs::create_dir(&place).expect("the directory is made");
    for round in 0..ROUNDS {
        let start = |site: &Site| {
            site.write("v0");
            let (place, file) = (place.display(), site.file());
            let script = format!(
                "mount -t tmpfs none /dev/shm && mount -t tmpfs none {place} && \
                 cp {} {place}/envoy.yaml && exec \"$@\"",
                file.display()
            );
            Launch::handover()
                .arg("run")
                .arg("--config-path")
                .arg(format!("{place}/envoy.yaml"))
                .arg("--envoy-path")
                .arg(envoy.path())
                .arg("--lock-dir")
                .arg(format!("{place}/locks"))
                .args(["--concurrency", "1", "--max-retries", "0"])
                .by("unshare", &["--mount", "sh", "-c", &script, "sh"])
                .start()
        };
        let mut both = [start(&sites[0]), start(&sites[1])];
        for supervisor in &both {
            supervisor.wait_for_line("epoch 0 is live", LIMIT);
            assert_eq!(supervisor.count_lines("failed"), 0, "round {round}");
        }
        for supervisor in &mut both {
            supervisor.signal(Signal::TERM);
            assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0), "round {round}");
        }
    }
}

/// An Envoy that waits until it may go on, when the base id has been looked at already.
struct Late {
    script: PathBuf,
    waits: PathBuf,
    go: PathBuf,
}

impl Late {
    /// Lets it go on, under a base id that another one has by then.
    fn find_in_use(&self, base_id: u32) -> Vec<UnixDatagram> {
        eventually(LIMIT, "the Envoy", || self.waits.exists().then_some(()));
        let sockets = foreign(base_id);
        fs::write(&self.go, "").expect("the file is written");
        sockets
    }
}

fn late(site: &Site, envoy: &Path) -> Late {
    let path = |name: &str| site.dir.path().join(name);
    let (script, waits, go) = (path("late"), path("waits"), path("go"));
    let text = format!(
        "#!/bin/sh\n\
         case \" $* \" in *\" --base-id \"*) : > {waits}; until [ -e {go} ]; do sleep 0.02; done;; esac\n\
         exec {envoy} \"$@\"\n",
        waits = waits.display(),
        go = go.display(),
        envoy = envoy.display(),
    );
    fs::write(&script, text).expect("the script is written");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&script, mode).expect("it becomes executable");
    Late { script, waits, go }
}

/// The sockets of an Envoy's epoch 0.
fn foreign(base_id: u32) -> Vec<UnixDatagram> {
    let bind = |role| {
        let name = format!("envoy_domain_socket_{role}_{}", base_id * 10);
        let mut padded = name.into_bytes();
        padded.resize(107, 0);
        let address = SocketAddr::from_abstract_name(padded).expect("it is short enough");
        UnixDatagram::bind_addr(&address).expect("the name is free")
    };
    ["parent", "child"].into_iter().map(bind).collect()
}

#[test]
fn one_that_another_envoy_takes_before_the_start_is_chosen_again() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let late = late(&site, &envoy);
    let (mut supervisor, base_id) = start(&site, &late.script, &["--max-retries", "0"]);
    let _foreign = late.find_in_use(base_id);
    supervisor.wait_for_line(&format!("base id {base_id} is in use"), LIMIT);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    assert_eq!(supervisor.count_lines("epoch 0 failed"), 0);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    let locks: Vec<_> = fs::read_dir(locks(&site)).expect("it is there").collect();
    assert!(locks.is_empty(), "{locks:?}");
}

#[test]
fn one_that_was_asked_for_and_that_another_envoy_takes_ends_it() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let late = late(&site, &envoy);
    let launch = site.launch(&late.script).args(["--max-retries", "0"]);
    let mut supervisor = launch.start();
    let _foreign = late.find_in_use(site.base_id());
    supervisor.wait_for_line("another Envoy has base id", LIMIT);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(69));
}
