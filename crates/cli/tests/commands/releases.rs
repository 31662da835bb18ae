//! A working directory that a deployment replaces: a directory for each release, and a link to the newest.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Running, handover};

/// A deployment with its first release.
struct Deployment(TempDir);

impl Deployment {
    fn new() -> Self {
        let deployment = Self(tempfile::tempdir().unwrap());
        deployment.release("1");
        symlink("1", deployment.current()).unwrap();
        deployment
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The link to the release that counts.
    fn current(&self) -> PathBuf {
        self.at("current")
    }

    /// Makes a release, whose program says which one it is, and where it runs.
    fn release(&self, release: &str) {
        fs::create_dir(self.at(release)).unwrap();
        fs::write(self.at(release).join("conf"), release).unwrap();
        let program = self.at(release).join("server");
        let text = format!("#!/bin/sh\necho \"release {release} in $(pwd)\"\nexec sleep 600\n");
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Lets the link lead to a new release, and removes the first one.
    fn switch_to(&self, release: &str) {
        self.release(release);
        symlink(release, self.at("next")).unwrap();
        fs::rename(self.at("next"), self.current()).unwrap();
        fs::remove_dir_all(self.at("1")).unwrap();
    }
}

/// The command as a shell starts it that was led to this directory by this name.
fn exec_in(directory: &Path, name: &Path, words: &[&str]) -> Running {
    let mut command: Command = handover(["exec"].iter().chain(words));
    Running::start(command.current_dir(directory).env("PWD", name))
}

#[test]
fn a_switched_link_leads_to_an_epoch_of_the_next_release() {
    let deployment = Deployment::new();
    let current = deployment.current();
    let handover = exec_in(&current, &current, &["--watch", "conf", "--", "./server"]);
    let shown = current.display();
    handover.stdout.wait_for(&format!("release 1 in {shown}"));
    handover.says("epoch 0 is live");
    deployment.switch_to("2");
    handover.says(&format!("{shown}/conf has changed"));
    handover.stdout.wait_for(&format!("release 2 in {shown}"));
    handover.says("epoch 0 drains, 1 serves");
}

#[test]
fn a_directory_without_a_link_stays_the_one_of_the_start() {
    let deployment = Deployment::new();
    let first = deployment.at("1");
    // Not the name of the directory: the variable is of somebody else.
    let handover = exec_in(&first, Path::new("/"), &["--", "./server"]);
    handover.says("epoch 0 is live");
    deployment.switch_to("2");
    handover.signal(Signal::HUP);
    handover.says(
        "`./server` counts from the working directory, which was removed: start from a directory that stays, or name \
         the program with its full path",
    );
}

#[test]
fn a_program_with_a_full_path_runs_on_without_a_directory() {
    let deployment = Deployment::new();
    let first = deployment.at("1");
    let script = "echo started; exec sleep 600";
    let handover = exec_in(&first, &first, &["--", "/bin/sh", "-c", script]);
    handover.says("epoch 0 is live");
    fs::remove_dir_all(&first).unwrap();
    handover.signal(Signal::HUP);
    handover.stdout.wait_for_nth(2, "started");
    handover.says("epoch 0 drains, 1 serves");
}
