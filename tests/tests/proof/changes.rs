//! Changes of a configuration that is good.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use handover_test_support::envoy_config::Break;
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::Signal;
use handover_test_support::{require_any_envoy, require_envoy};

use crate::world::{LIMIT, Site, World};

#[tokio::test]
async fn a_changed_file_leads_to_the_next_epoch_and_nobody_loses_a_request() {
    let envoy = require_envoy!();
    let world = World::start(&envoy, &[]);
    for epoch in 1..=6 {
        world.hand_over(&format!("v{epoch}"), epoch);
    }
    let report = world.finish().await;
    println!("{report}");
    report.assert_no_loss();
    assert!(report.ok_from("v6") > 0);
}

#[tokio::test]
async fn a_hangup_leads_to_the_next_epoch_although_nothing_has_changed() {
    let envoy = require_envoy!();
    let world = World::start(&envoy, &[]);
    world.supervisor.signal(Signal::HUP);
    world.site.admin().wait_live(1, LIMIT);
    world.supervisor.wait_for_line("epoch 1 is live", LIMIT);
    world.served_by("v0");
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_changed_configuration_takes_over_and_a_rejected_one_does_not() {
    let envoy = require_envoy!();
    let world = World::start(&envoy, &[]);
    // The output of Envoy is passed on, with the epoch in front.
    world.supervisor.wait_for_line("[epoch 0] ", LIMIT);
    world.hand_over("v1", 1);
    world.supervisor.wait_for_line("epoch 1 is live", LIMIT);

    world.site.write_broken(Break::UnknownField);
    let failed = world.supervisor.wait_for_line("epoch 2 failed", LIMIT).text;
    assert!(failed.contains("envoy.yaml: "), "{failed}");
    assert!(
        failed.contains("no such field: 'no_such_field'"),
        "{failed}"
    );
    fs::write(world.site.file(), "").expect("the file can be written");
    world
        .supervisor
        .wait_for_line("the running configuration serves on", LIMIT);
    world.served_by("v1");
    // A file that cannot be read does not keep the end from coming.
    world.supervisor.signal(Signal::HUP);
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_file_that_is_touched_or_written_with_the_same_content_changes_nothing() {
    let envoy = require_envoy!();
    let world = World::start(&envoy, &["--log-level", "debug"]);
    let file = world.site.file();
    let content = fs::read(&file).expect("the file is there");
    for _ in 0..20 {
        fs::write(&file, &content).expect("the file can be written");
    }
    // A real change afterwards shows that the ones before it were seen and led to nothing.
    world.hand_over("v1", 1);
    assert_eq!(world.supervisor.count_lines("starting epoch"), 2);
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_config_map_is_followed_through_its_symbolic_links() {
    let envoy = require_envoy!();
    let site = Site::new();
    let volume = site.dir.path();
    // As the kubelet lays a volume out: the file is a link into `..data`, which is a link to a
    // directory, and a change replaces the second link by rename.
    let publish = |name: &str| {
        let data = volume.join(format!("..{name}"));
        fs::create_dir(&data).expect("a directory");
        fs::write(data.join("envoy.yaml"), site.config(name).render()).expect("a file");
        symlink(&data, volume.join("..data_tmp")).expect("a link");
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("a rename");
    };
    publish("v0");
    symlink("..data/envoy.yaml", site.file()).expect("a link");
    let mut supervisor = site.launch(&envoy).start();
    site.admin().wait_live(0, LIMIT);
    publish("v1");
    site.admin().wait_live(1, LIMIT);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

#[tokio::test]
async fn thirty_changes_in_a_row_cost_a_handful_of_epochs_and_the_last_one_serves() {
    let envoy = require_envoy!();
    let world = World::start(&envoy, &[]);
    for number in 1..=30 {
        world.site.write(&format!("v{number}"));
    }
    world.served_by("v30");
    let epochs = world.supervisor.count_lines("starting epoch");
    println!("{epochs} epochs for 30 changes");
    assert!((2..=6).contains(&epochs), "{epochs} epochs");
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn another_watched_file_leads_to_the_next_epoch_too() {
    let envoy = require_envoy!();
    let certificates = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .expect("a directory");
    let path = certificates
        .path()
        .to_str()
        .expect("the path is text")
        .to_owned();
    let world = World::start(&envoy, &["--watch", &path]);
    fs::write(certificates.path().join("key.pem"), "new").expect("a file");
    world.site.admin().wait_live(1, LIMIT);
    world.served_by("v0");
    world.finish().await.assert_no_loss();
}

/// The name of a process changes as it executes another program, and no file system tells of it.
#[tokio::test]
async fn a_file_whose_changes_nobody_reports_is_looked_at_in_the_interval() {
    let envoy = require_envoy!();
    let mut process = Command::new("sh")
        .args(["-c", "read line; exec sleep 600"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let path = format!("/proc/{}/comm", process.id());
    let world = World::start(&envoy, &["--watch", &path, "--rescan-interval", "100ms"]);
    let mut line = process.stdin.take().expect("it is piped");
    line.write_all(b"go\n").expect("it reads");
    world.site.admin().wait_live(1, LIMIT);
    world.served_by("v0");
    world.finish().await.assert_no_loss();
    process.kill().expect("it sleeps");
    process.wait().expect("it is ours");
}

#[tokio::test]
async fn a_file_that_is_removed_while_running_is_awaited_and_the_old_epoch_serves() {
    let envoy = require_envoy!();
    let world = World::start(&envoy, &[]);
    fs::remove_file(world.site.file()).expect("the file is there");
    world.supervisor.wait_for_line("does not exist", LIMIT);
    world.served_by("v0");
    fs::write(world.site.file(), "").expect("the file can be written");
    eventually(LIMIT, "a word about the empty file", || {
        (world.supervisor.count_lines("empty") > 0).then_some(())
    });
    world.served_by("v0");
    world.hand_over("v1", 1);
    world.finish().await.assert_no_loss();
}

#[test]
fn a_relative_configuration_is_that_of_the_release_to_which_the_link_leads() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let at = |name: &str| site.dir.path().join(name);
    for release in ["1", "2"] {
        fs::create_dir(at(release)).expect("the directory is made");
        let file = at(release).join("envoy.yaml");
        site.config(&format!("release-{release}")).write_to(&file);
    }
    let current = at("current");
    symlink("1", &current).expect("the link is made");
    let launch = site.launch_without_file(&envoy);
    let launch = launch.args(["--config-path", "envoy.yaml"]);
    let launch = launch.current_dir(&current).env("PWD", &current);
    let mut supervisor = launch.start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let first = supervisor.children();
    symlink("2", at("next")).expect("the link is made");
    fs::rename(at("next"), &current).expect("the link is replaced");
    fs::remove_dir_all(at("1")).expect("nobody needs it");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    // Envoy finds its own relative paths there as well.
    let second = supervisor.children();
    let second = second.iter().find(|pid| !first.contains(pid));
    let second = second.expect("it runs");
    let directory = fs::read_link(format!("/proc/{second}/cwd")).expect("it is ours");
    assert_eq!(directory, at("2").canonicalize().expect("it is there"));
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}
