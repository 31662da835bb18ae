//! A run directory whose file system hangs. The loop must go on meanwhile: it answers, it keeps what serves, and
//! it takes the change in once the disk is back.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use handover_test_support::envoy_bin::report_skip;
use handover_test_support::supervisor::{Signal, fake_envoy_bin, handover_bin};

use crate::world::{LIMIT, World};

/// For `sh -c`: mounts the image on the run directory of the command that follows, and becomes that command.
const MOUNT: &str = "for word; do [ \"$flag\" = --run-dir ] && dir=$word; flag=$word; done; \
    mkdir -p \"$dir\" && mount -o loop \"$0\" \"$dir\" && chmod 700 \"$dir\" && exec \"$@\"";

/// A file system that hangs until this is dropped. A directory of it stays open, because the process that has it
/// mounted may be a zombie by then, which shows no directory any more.
struct Frozen(File);

impl Frozen {
    /// Freezes the file system that a process sees at this path.
    fn freeze(pid: u32, path: &Path) -> Self {
        let inside = path.strip_prefix("/").expect("a full path");
        let seen = PathBuf::from(format!("/proc/{pid}/root")).join(inside);
        let frozen = Self(File::open(seen).expect("the directory is there"));
        assert!(frozen.is_done("--freeze"), "the file system can be frozen");
        frozen
    }

    fn is_done(&self, what: &str) -> bool {
        let directory = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd());
        let done = Command::new("fsfreeze").arg(what).arg(directory).status();
        done.is_ok_and(|status| status.success())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The supervisor may have ended, and its file system with it.
        let _thawed = self.is_done("--unfreeze");
    }
}

/// An image of a file system, if one can be made, mounted and frozen here.
fn image(directory: &Path) -> Option<PathBuf> {
    let image = directory.join("image");
    let file = File::create(&image).ok()?;
    file.set_len(16 << 20).ok()?;
    let made = Command::new("mkfs.ext4")
        .arg("-q")
        .arg(&image)
        .output()
        .ok()?;
    let try_it =
        "mount -o loop \"$0\" \"$1\" && fsfreeze --freeze \"$1\" && fsfreeze --unfreeze \"$1\"";
    let tried = Command::new("unshare")
        .args(["--mount", "sh", "-c", try_it])
        .arg(&image)
        .arg(directory)
        .output()
        .ok()?;
    (made.status.success() && tried.status.success()).then_some(image)
}

/// A handover whose run directory can be frozen, or `None` with a line that tells why not.
fn freezable(place: &Path, test: &str) -> Option<World> {
    let Some(image) = image(place) else {
        report_skip(
            test,
            "no file system can be mounted and frozen here (it needs root)",
        );
        return None;
    };
    let image = image.to_str().expect("the path is text");
    Some(World::launch(&fake_envoy_bin(), |launch| {
        launch.by("unshare", &["--mount", "sh", "-c", MOUNT, image])
    }))
}

/// What the end removes is there until the disk is back. That it ends is told before.
#[tokio::test]
async fn an_end_whose_removals_hang_is_told_and_nothing_is_left_once_the_disk_is_back() {
    let place = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .expect("a directory");
    let test =
        "frozen_disk::an_end_whose_removals_hang_is_told_and_nothing_is_left_once_the_disk_is_back";
    let Some(world) = freezable(place.path(), test) else {
        return;
    };
    world.served_by("v0");
    let run = world.site.dir.path().join("run");
    let frozen = Frozen::freeze(world.supervisor.pid(), &run);
    world.supervisor.signal(Signal::TERM);
    // A loop that removes them itself logs nothing more.
    world.supervisor.wait_for_line(
        "what the proxy removes at its end is still there after 2s",
        LIMIT,
    );
    drop(frozen);
    world.finish().await;
}

#[tokio::test]
async fn while_the_run_directory_hangs_everything_is_answered_and_the_change_follows() {
    let place = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .expect("a directory");
    let test =
        "frozen_disk::while_the_run_directory_hangs_everything_is_answered_and_the_change_follows";
    let Some(world) = freezable(place.path(), test) else {
        return;
    };
    let run = world.site.dir.path().join("run");
    let frozen = Frozen::freeze(world.supervisor.pid(), &run);
    world.site.write("v1");
    world
        .supervisor
        .wait_for_line("epoch 1 waits for its file in ", LIMIT);
    // A loop that waits for the disk answers nothing before it is back.
    let status = Command::new(handover_bin())
        .args(["status", "--socket"])
        .arg(world.site.socket())
        .output()
        .expect("the client runs");
    assert!(
        status.status.success(),
        "{status:?}\n{}",
        world.supervisor.log()
    );
    world.served_by("v0");
    drop(frozen);
    world.served_by("v1");
    world.finish().await.assert_no_loss();
}
