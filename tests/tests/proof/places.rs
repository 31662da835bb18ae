//! Where `handover run` keeps what it needs: in directories of its own, even if others can write beside
//! them, and gone when it has ended, however it did.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use handover_test_support::limit::eventually;
use handover_test_support::stranger::may_run;
use handover_test_support::supervisor::{Launch, Signal, handover_bin};
use handover_test_support::{require_any_envoy, require_envoy};

use crate::world::{LIMIT, Site};

/// As whom a container without rights runs.
const NOBODY: [&str; 4] = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];

/// Whether we may become another user, who can run Handover and Envoy. If not, it is told.
fn may_be_nobody(test: &str, envoy: &Path) -> bool {
    let test = format!("proof::places::{test}");
    may_run(&test, &NOBODY, &[&handover_bin(), envoy])
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// The directories for configurations in this one.
fn run_dirs(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).expect("it is there");
    let entries = entries.map(|entry| entry.expect("it can be read"));
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("handover-run-")
        })
        .map(|entry| entry.path())
        .collect()
}

#[test]
fn the_configurations_of_a_killed_one_are_removed_by_the_next_start() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let temporary = site.dir.path().join("tmp");
    fs::create_dir(&temporary).expect("the directory is made");
    let start = || {
        let launch = site.launch_by_itself(&envoy, "2s", "3s");
        let locks = site.dir.path().join("locks");
        let launch = launch
            .arg("--lock-dir")
            .arg(locks)
            .args(["--socket", "none"]);
        let supervisor = launch.env("TMPDIR", &temporary).start();
        supervisor.wait_for_line("epoch 0 is live", LIMIT);
        supervisor
    };
    for _ in 0..3 {
        let mut killed = start();
        let dirs = run_dirs(&temporary);
        let [dir] = dirs.as_slice() else {
            panic!("one directory was expected, and there are {dirs:?}");
        };
        let kept = fs::metadata(dir).expect("it is there");
        assert_eq!(kept.mode() & 0o777, 0o700);
        assert!(dir.join("envoy-rev0.yaml").exists());
        killed.signal(Signal::KILL);
        killed.wait_exit(LIMIT);
        eventually(LIMIT, "Envoy to end", || {
            killed.processes().is_empty().then_some(())
        });
        assert!(dir.exists(), "a killed one removes nothing");
    }
    let mut last = start();
    last.signal(Signal::TERM);
    assert_eq!(last.wait_exit(LIMIT).code(), Some(0));
    assert!(run_dirs(&temporary).is_empty());
}

/// As an `emptyDir` of Kubernetes is: root's, open to all, without a sticky bit.
#[test]
fn a_volume_that_everybody_can_write_to_does_for_one_without_rights() {
    let envoy = require_any_envoy!();
    if !may_be_nobody(
        "a_volume_that_everybody_can_write_to_does_for_one_without_rights",
        &envoy,
    ) {
        return;
    }
    let site = Site::new();
    site.write("v0");
    mode(site.dir.path(), 0o755);
    mode(&site.file(), 0o644);
    let volume = site.dir.path().join("volume");
    fs::create_dir(&volume).expect("the directory is made");
    mode(&volume, 0o777);
    let launch = site.launch_by_itself(&envoy, "2s", "3s");
    let places = ["--run-dir", "--lock-dir", "--state-dir"];
    let launch = places
        .iter()
        .fold(launch, |launch, flag| launch.arg(flag).arg(&volume));
    // The helpers say that there is no control socket.
    let unset = ["-u", "HANDOVER_SOCKET"];
    let as_nobody = [&unset[..], &["setpriv"], &NOBODY].concat();
    let launch = launch.args(["--name", "web"]).by("env", &as_nobody);
    let mut supervisor = launch.start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let own = volume.join("handover-65534");
    let found = fs::metadata(&own).expect("it was made");
    assert_eq!((found.uid(), found.mode() & 0o777), (65534, 0o700));
    for name in ["envoy-rev0.yaml", "web.sock", "last-known-good"] {
        // What went live is kept a moment later.
        eventually(LIMIT, name, || own.join(name).exists().then_some(()));
    }
    // Clients find it there: those of the same user, and root.
    for by in [&as_nobody[..], &unset] {
        let status = Launch::handover()
            .arg("status")
            .arg("--lock-dir")
            .arg(&volume);
        let mut status = status.by("env", by).start();
        status.wait_for_line("web (pid ", LIMIT);
        assert_eq!(status.wait_exit(LIMIT).code(), Some(0));
    }
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
}

#[test]
fn a_start_script_that_changes_the_user_is_told_of_and_a_group_lets_it_read() {
    let envoy = require_any_envoy!();
    if !may_be_nobody(
        "a_start_script_that_changes_the_user_is_told_of_and_a_group_lets_it_read",
        &envoy,
    ) {
        return;
    }
    let site = Site::new();
    site.write("v0");
    mode(site.dir.path(), 0o755);
    let script = site.dir.path().join("start");
    let nobody = NOBODY.join(" ");
    let text = format!(
        "#!/bin/sh\nexec setpriv {nobody} {} \"$@\"\n",
        envoy.display()
    );
    fs::write(&script, text).expect("the script is written");
    mode(&script, 0o755);
    let mut refused = site.launch(&script).start();
    refused.wait_for_line("it runs as another user", LIMIT);
    refused.wait_for_line("--run-dir-group", LIMIT);
    assert_eq!(refused.wait_exit(LIMIT).code(), Some(77));

    let mut supervisor = site
        .launch(&script)
        .args(["--run-dir-group", "65534"])
        .start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    // The next one is validated before, by the same script.
    site.write("v1");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

/// Envoy repeats the whole document behind its reason, twice.
#[test]
fn no_value_of_a_large_configuration_that_is_refused_is_repeated() {
    // What is repeated are the words of its parser.
    let envoy = require_envoy!();
    let site = Site::new();
    let sound = site.config("v0").render();
    for (secret, lines) in [("hunter2", 2_000), ("((hunter2", 1)] {
        let more = (0..lines).map(|line| format!("  # {secret} {line}\n"));
        let values: String = (0..lines)
            .map(|line| format!("    k{line}: \"{secret}\"\n"))
            .collect();
        let text = format!(
            "{sound}\n{}node:\n  id: [\"{secret}\"]\n  metadata:\n{values}",
            more.collect::<String>()
        );
        fs::write(site.file(), text).expect("the configuration is written");
        let mut supervisor = site
            .launch(&envoy)
            .args(["--state-dir"])
            .arg(state(&site))
            .start();
        supervisor.wait_for_line("Unable to parse JSON", LIMIT);
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(65));
        let lines = supervisor.log().lines();
        // Envoy's own output is passed on as it is.
        let own = lines.iter().filter(|line| !line.text.starts_with("[epoch"));
        for line in own {
            let text = &line.text;
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}

fn state(site: &Site) -> PathBuf {
    site.dir.path().join("state")
}
