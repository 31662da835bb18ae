//! `--watch-binary`: the binary itself is replaced.
//!
//! Scripts that run the real Envoy stand in for the binaries, so that one can tell which was started.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use tempfile::TempDir;

use crate::world::{LIMIT, World};

/// The directory that `--envoy-path` leads into.
struct Shelf {
    real: PathBuf,
    dir: TempDir,
}

impl Shelf {
    /// With the binary `one`.
    fn new(real: &Path) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let shelf = Self {
            real: real.to_owned(),
            dir,
        };
        shelf.replace(&shelf.script("one"), 0o755);
        shelf
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("envoy")
    }

    /// The text of a binary of this name.
    fn script(&self, name: &str) -> String {
        format!(
            "#!/bin/sh\nBINARY={name} exec {} \"$@\"\n",
            self.real.display()
        )
    }

    fn write(&self, file: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(file);
        fs::write(&path, text).expect("the directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        path
    }

    /// Replaces the binary by rename.
    fn replace(&self, text: &str, mode: u32) {
        let new = self.write("envoy.new", text, mode);
        fs::rename(new, self.path()).expect("it is ours");
    }

    /// Replaces what is at the path by a symbolic link.
    fn link_to(&self, target: &Path) {
        let link = self.dir.path().join("envoy.link");
        symlink(target, &link).expect("the directory is ours");
        fs::rename(link, self.path()).expect("it is ours");
    }
}

/// A supervised Envoy under load, whose binary is watched.
fn start(shelf: &Shelf, more: &[&str]) -> World {
    World::start(&shelf.path(), &[&["--watch-binary"], more].concat())
}

/// Waits until this epoch is live and the only one, and tells the name of its binary.
fn binary_of(world: &World, epoch: u64) -> String {
    world.site.admin().wait_live(epoch, LIMIT);
    world.served_by("v0");
    let only = eventually(LIMIT, "one Envoy to be left", || {
        match world.supervisor.children().as_slice() {
            [envoy] => Some(*envoy),
            _ => None,
        }
    });
    let environment = fs::read(format!("/proc/{only}/environ")).expect("it runs");
    let name = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"BINARY="));
    String::from_utf8(name.unwrap_or(b"the real one").to_vec()).expect("it is text")
}

#[tokio::test]
async fn a_replaced_binary_leads_to_the_next_epoch_and_nobody_loses_a_request() {
    let envoy = require_any_envoy!();
    let shelf = Shelf::new(&envoy);
    let world = start(&shelf, &[]);
    assert_eq!(binary_of(&world, 0), "one");
    shelf.replace(&shelf.script("two"), 0o755);
    assert_eq!(binary_of(&world, 1), "two");
    shelf.link_to(&shelf.write("third", &shelf.script("three"), 0o755));
    assert_eq!(binary_of(&world, 2), "three");
    shelf.link_to(&envoy);
    assert_eq!(binary_of(&world, 3), "the real one");
    let report = world.finish().await;
    println!("{report}");
    report.assert_no_loss();
}

/// The two Envoys run side by side for as long as the old one has connections.
#[tokio::test]
async fn a_binary_of_another_hot_restart_version_is_started_side_by_side() {
    let envoy = require_any_envoy!();
    let shelf = Shelf::new(&envoy);
    let world = start(&shelf, &[]);
    let other = "[ \"$1\" != --hot-restart-version ] || { printf 11.105 >&2; exit 0; }";
    let script = shelf.script("two");
    let (first_line, rest) = script.split_once('\n').expect("it has two lines");
    shelf.replace(&format!("{first_line}\n{other}\n{rest}"), 0o755);
    let said = "hot restart version 11.105 differs from 11.104: starting side by side on base id ";
    let line = world.supervisor.wait_for_line(said, LIMIT);
    let (_, number) = line.text.split_once(said).expect("it was waited for");
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    let leftovers = Leftovers::watch().base_id(digits.parse().expect("it is a number"));
    world.supervisor.wait_for_line("epoch 1 is live", LIMIT);
    // For Envoy it is the first one again.
    assert_eq!(binary_of(&world, 0), "two");
    assert!(!leftovers.list().is_empty(), "it runs under that base id");
    // The next one takes over by hot restart.
    world.hand_over("v1", 1);
    world.finish().await.assert_no_loss();
    leftovers.assert_nothing_left(LIMIT);
}

#[tokio::test]
async fn what_cannot_be_run_costs_nothing_and_the_next_replacement_is_tried() {
    let envoy = require_any_envoy!();
    let shelf = Shelf::new(&envoy);
    let retries = ["--max-retries", "1", "--retry-interval", "50ms"];
    let world = start(&shelf, &retries);
    for (text, mode, reason) in [
        (&*shelf.script("two"), 0o644, "is not executable"),
        (
            "\x7fELF nonsense",
            0o755,
            "is it a program for this machine",
        ),
        ("#!/bin/sh\necho I am a teapot\n", 0o755, "is not an Envoy"),
    ] {
        let before = world.supervisor.count_lines(reason);
        shelf.replace(text, mode);
        let told = || (world.supervisor.count_lines(reason) > before).then_some(());
        eventually(LIMIT, reason, told);
        world.served_by("v0");
    }
    shelf.replace(&shelf.script("two"), 0o755);
    assert_eq!(binary_of(&world, 1), "two");
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_binary_that_is_written_slowly_is_started_once_it_is_whole() {
    let envoy = require_any_envoy!();
    let shelf = Shelf::new(&envoy);
    let retries = ["--max-retries", "1", "--retry-interval", "50ms"];
    let world = start(&shelf, &retries);
    let text = shelf.script("two");
    // In the middle of the first line, so that it names no interpreter.
    let (half, rest) = text.split_at(8);
    fs::remove_file(shelf.path()).expect("it is there");
    world.supervisor.wait_for_line("does not exist", LIMIT);
    let mut file = fs::File::create(shelf.path()).expect("the directory is ours");
    let executable = fs::Permissions::from_mode(0o755);
    file.set_permissions(executable).expect("it is ours");
    file.write_all(half.as_bytes()).expect("there is room");
    world.supervisor.wait_for_line("cannot run", LIMIT);
    world.served_by("v0");
    file.write_all(rest.as_bytes()).expect("there is room");
    drop(file);
    assert_eq!(binary_of(&world, 1), "two");
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn without_the_option_a_replaced_binary_is_used_by_the_next_epoch_only() {
    let envoy = require_any_envoy!();
    let shelf = Shelf::new(&envoy);
    let world = World::start(&shelf.path(), &[]);
    shelf.replace(&shelf.script("two"), 0o755);
    // A change that comes later shows that the replacement before it led to nothing.
    world.hand_over("v1", 1);
    assert_eq!(world.supervisor.count_lines("starting epoch"), 2);
    world.finish().await.assert_no_loss();
}
