//! The binary of a running agent is replaced by each of several versions, up and down.
//!
//! `HANDOVER_ENVOYS` names the binaries; `cargo xtask soak` sets it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use handover_core::retry::Retry;
use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::envoy_config::Break;
use handover_test_support::require_envoys;
use handover_tokio::NotLive;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::world::{Setup, World, rounds};

/// The parent-shutdown time of [`Setup::brisk`].
const PARENT_SHUTDOWN: Duration = Duration::from_secs(2);

/// One of the binaries.
struct Version {
    path: PathBuf,
    number: String,
}

impl Version {
    fn of(path: PathBuf) -> Self {
        let output = Command::new(&path).arg("--version").output();
        let said = String::from_utf8(output.expect("it runs").stdout).expect("it says text");
        // PATH  version: REVISION/1.40.0/Clean/RELEASE/BoringSSL
        let number = said
            .rsplit_once("version: ")
            .and_then(|(_, version)| version.split('/').nth(1))
            .unwrap_or_else(|| panic!("{} says {said:?}", path.display()))
            .to_owned();
        Self { path, number }
    }
}

/// The symbolic link that the agent is given as its binary.
struct Link(TempDir);

impl Link {
    fn to(envoy: &Path) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let link = Self(dir);
        link.switch(envoy);
        link
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("envoy")
    }

    fn switch(&self, envoy: &Path) {
        let new = self.0.path().join("envoy.new");
        symlink(envoy, &new).expect("the directory is ours");
        fs::rename(new, self.path()).expect("the directory is ours");
    }
}

/// The way up, and down again, as often as asked; it starts at the first one and comes back to it.
fn up_and_down(versions: &[Version], times: u32) -> Vec<&Version> {
    let up = versions.iter().skip(1);
    let down = versions.iter().rev().skip(1);
    let once: Vec<&Version> = up.chain(down).collect();
    let count = once.len() * usize::try_from(times).expect("a small number");
    once.into_iter().cycle().take(count).collect()
}

fn versions(paths: Vec<PathBuf>) -> Vec<Version> {
    paths.into_iter().map(Version::of).collect()
}

fn setup() -> Setup {
    let mut setup = Setup::brisk();
    setup.parent_shutdown_time = PARENT_SHUTDOWN;
    setup.policy.retry = Retry::new(1, Duration::from_millis(50));
    setup
}

fn assert_is_live(world: &World, version: &Version) {
    let live = world.admin().version();
    assert_eq!(live.as_ref(), Some(&version.number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_takes_over_from_each_neighbour_and_stands_bad_configurations() {
    let versions = versions(require_envoys!());
    let link = Link::to(&versions[0].path);
    let world = World::with(&AnyEnvoy::real(link.path()), setup()).await;
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    assert_is_live(&world, &versions[0]);
    let way = up_and_down(&versions, rounds(1, 5));
    for (step, version) in way.iter().enumerate() {
        link.switch(&version.path);
        // The first is rejected by the new binary beside the old epoch; the second fails in the
        // middle of its start, when the admin endpoint of the old one is gone.
        for broken in [Break::UnknownField, Break::PortConflict(taken)] {
            let error = world.apply("bad", Some(broken)).await;
            let error = error.expect_err("it is bad");
            assert!(
                matches!(error, NotLive::GivenUp { .. }),
                "{}, {broken:?}: {error}",
                version.number
            );
        }
        let name = format!("v{step}-{}", version.number.replace('.', "-"));
        let live = world.apply(&name, None).await;
        live.unwrap_or_else(|error| panic!("{name} does not go live: {error}"));
        assert_is_live(&world, version);
        world.served_by(&name).await;
    }
    let report = world.finish().await;
    println!(
        "=== {} changes of the version: {} requests, {} lost, longest gap {:?}",
        way.len(),
        report.requests,
        report.failed,
        report.longest_gap
    );
    report.assert_no_loss();
}

/// What is killed takes its own requests along, at most one of each client, and nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_lives_on_when_the_old_epoch_of_its_neighbour_is_killed() {
    let versions = versions(require_envoys!());
    let link = Link::to(&versions[0].path);
    let setup = setup();
    let clients = setup.clients();
    let world = World::with(&AnyEnvoy::real(link.path()), setup).await;
    let way = up_and_down(&versions, rounds(1, 3));
    for (step, version) in way.iter().enumerate() {
        let before = world.failed();
        let old = world.process(world.newest());
        link.switch(&version.path);
        let name = format!("v{step}-{}", version.number.replace('.', "-"));
        let live = world.apply(&name, None).await;
        let live = live.unwrap_or_else(|error| panic!("{name} does not go live: {error}"));
        old.send(Signal::KILL);
        let live_since = Instant::now();
        world.served_by(&name).await;
        // Unless it were answered in the place of the dead one, it would stand still when it tells that
        // one to end, 2 s after it went live, and abort in the end.
        while live_since.elapsed() < 2 * PARENT_SHUTDOWN {
            assert_is_live(&world, version);
            sleep(Duration::from_millis(100)).await;
        }
        assert!(world.is_live(live.number()), "{name}");
        let lost = world.failed() - before;
        assert!(lost <= clients, "{name}: {lost} lost by {clients} clients");
    }
    let report = world.finish().await;
    println!(
        "=== {} old epochs killed over all versions: {} requests, {} lost",
        way.len(),
        report.requests,
        report.failed
    );
}
