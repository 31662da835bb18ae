//! A binary of another hot restart version: it replaces the running one side by side.
//!
//! All Envoys that can be had speak the same version, so a script stands in for the binary, which
//! answers the question for the version differently and is the Envoy of the test otherwise.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use handover_core::{Event, Exit, Outcome};
use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::envoy_config::Break;
use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::within;
use handover_test_support::require_any_envoy;
use handover_tokio::NotLive;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::children::{Hunt, Prey};
use crate::world::{LIMIT, Setup, World};

/// What all of them say.
const USUAL: &str = "11.104";

/// The script at the place of the binary.
struct Binary {
    envoy: AnyEnvoy,
    dir: TempDir,
}

impl Binary {
    fn new(envoy: &AnyEnvoy) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let binary = Self {
            envoy: envoy.clone(),
            dir,
        };
        binary.install(USUAL);
        binary
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("envoy")
    }

    /// The Envoy of the test, by this name.
    fn as_envoy(&self) -> AnyEnvoy {
        self.envoy.at(&self.path())
    }

    /// Replaces it by one that says this version.
    fn install(&self, version: &str) {
        self.install_script(
            version,
            &format!("exec {} \"$@\"", self.envoy.path().display()),
        );
    }

    /// Replaces it by one that does this when it is to serve.
    fn install_script(&self, version: &str, serve: &str) {
        let new = self.dir.path().join("envoy.new");
        let script = format!(
            "#!/bin/sh\n\
             case \"$1\" in\n\
             --hot-restart-version) printf {version} >&2; exit 0 ;;\n\
             --mode) exec {real} \"$@\" ;;\n\
             esac\n\
             {serve}\n",
            real = self.envoy.path().display()
        );
        fs::write(&new, script).expect("the directory is ours");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::rename(&new, self.path()).expect("it is ours");
    }
}

/// The base ids that the agent owns besides its first one.
fn spares(world: &World) -> BTreeSet<u32> {
    let mut owned = world.owned_base_ids();
    assert!(owned.remove(&world.base_id()), "the first one is kept");
    owned
}

fn only_spare(world: &World) -> u32 {
    let spares = spares(world);
    assert_eq!(spares.len(), 1, "{spares:?}");
    spares.into_iter().next().expect("there is one")
}

fn process(base_id: u32, restart_epoch: u32) -> Option<Prey> {
    Hunt::new(base_id, restart_epoch).look()
}

/// Waits until no epoch runs but the newest.
async fn alone(world: &World) {
    world
        .until("the older epoch to end", |world| {
            world.handle.status().borrow().epochs.len() == 1
        })
        .await;
}

/// Waits until the agent owns its first base id alone: a thread of its own gives others back.
async fn nothing_is_kept(world: &World) {
    world
        .until("the other base id to be given back", |world| {
            spares(world).is_empty()
        })
        .await;
}

/// Runs a test at moments that are given in milliseconds of a real Envoy: three rows beside each other, because each
/// test mostly waits.
async fn at_moments(rows: [[u64; 2]; 3], test: impl AsyncFn(Duration)) {
    let row = async |moments: [u64; 2]| {
        for moment in moments {
            test(Duration::from_millis(moment)).await;
        }
    };
    let [one, two, three] = rows;
    tokio::join!(row(one), row(two), row(three));
}

async fn given_up(world: &World, name: &str, broken: Option<Break>) -> String {
    match world.apply(name, broken).await {
        Err(NotLive::GivenUp { failure, .. }) => {
            let message = failure.expect("it is known").message();
            println!("{name}: {message}");
            message
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_changes_side_by_side_and_a_hot_restart_after_them_lose_nothing() {
    let envoy = require_any_envoy!();
    let binary = Binary::new(&envoy);
    let mut setup = Setup::brisk();
    setup.load.slow = Some((2, Duration::from_millis(700)));
    setup.load.new_connections = 6;
    setup.load.pause = Some(Duration::from_millis(1));
    let mut world = World::with(&binary.as_envoy(), setup).await;
    let home = world.base_id();

    binary.install("11.105");
    world.hand_over("v1", 1).await;
    let spare = only_spare(&world);
    let leftovers = Leftovers::watch().base_id(spare);
    assert!(process(spare, 0).is_some(), "it counts from 0");
    alone(&world).await;
    assert!(process(home, 0).is_none());

    binary.install("11.106");
    world.hand_over("v2", 2).await;
    assert!(process(home, 0).is_some(), "the first one is free again");
    alone(&world).await;
    nothing_is_kept(&world).await;
    leftovers.assert_nothing_left(Duration::from_secs(10));

    // The same binary takes over by hot restart, within its line.
    world.hand_over("v3", 3).await;
    assert!(process(home, 1).is_some());
    assert!(spares(&world).is_empty());
    // The old ones were told to end, and have not been killed because they overstayed.
    let failed = |event: &Event| {
        matches!(
            event,
            Event::Exited {
                exit: Exit::Failed(_),
                ..
            }
        )
    };
    let events = world.events();
    assert!(!events.iter().any(failed), "{events:?}");
    world.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_binary_that_fails_at_its_start_costs_nothing_and_the_next_change_works() {
    let envoy = require_any_envoy!();
    let binary = Binary::new(&envoy);
    let mut setup = Setup::brisk();
    setup.policy.retry.max_retries = 1;
    setup.policy.retry.initial_interval = Duration::from_millis(50);
    let world = World::with(&binary.as_envoy(), setup).await;
    let old = world.process(0);

    binary.install_script("11.105", "echo nothing works >&2; exit 3");
    let message = given_up(&world, "exits", None).await;
    assert!(
        message.contains("exit code 3") || message.contains("3"),
        "{message}"
    );
    // The admin endpoint of the old one is gone. This one fails in the middle of its start.
    binary.install("11.105");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    given_up(&world, "conflict", Some(Break::PortConflict(taken))).await;
    nothing_is_kept(&world).await;
    assert!(old.is_running() && old.listens_on(world.listener_port()));
    world.served_by("v0").await;

    // A binary that can take over by hot restart does, from the old one without an admin endpoint.
    binary.install(USUAL);
    world.hand_over("v1", 1).await;
    assert!(process(world.base_id(), 1).is_some());
    alone(&world).await;
    binary.install("11.107");
    world.hand_over("v2", 2).await;
    assert!(process(only_spare(&world), 0).is_some());
    world.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_any_moment_of_it_leaves_nothing() {
    let envoy = require_any_envoy!();
    let stops = async |moment: Duration| {
        let binary = Binary::new(&envoy);
        let mut world = World::with(&binary.as_envoy(), Setup::brisk()).await;
        binary.install("11.105");
        let config = world.config("v1", None);
        world.stop_load().await.assert_no_loss();
        world.handle.apply(config).await.expect("it is taken in");
        let mut spare = None;
        world
            .until("the other base id to be taken", |world| {
                spare = spares(world).first().copied();
                spare.is_some()
            })
            .await;
        let leftovers = Leftovers::watch().base_id(spare.expect("it is taken"));
        sleep(world.scaled(moment)).await;
        let (_, outcome) = world.end().await;
        assert_eq!(outcome, Outcome::Drained, "after {moment:?}");
        leftovers.assert_nothing_left(Duration::from_secs(10));
    };
    at_moments([[0, 90], [30, 120], [60, 200]], stops).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_epoch_that_is_stopped_is_continued_for_it() {
    let envoy = require_any_envoy!();
    let binary = Binary::new(&envoy);
    let world = World::with(&binary.as_envoy(), Setup::brisk()).await;
    let old = world.process(0);
    binary.install("11.105");
    old.send(Signal::STOP);
    world.hand_over("v1", 1).await;
    alone(&world).await;
    world.finish().await.assert_no_loss();
}

/// Killed shortly before or after it goes live, while the old one gives way or is about to: the next try
/// finds the old one in any state, and what was lost is over once it is live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_that_is_killed_at_any_moment_is_followed_by_one_that_serves() {
    let envoy = require_any_envoy!();
    let killed = async |moment: Duration| {
        let binary = Binary::new(&envoy);
        let world = World::with(&binary.as_envoy(), Setup::brisk()).await;
        binary.install("11.105");
        let config = world.config("v1", None);
        world.handle.apply(config).await.expect("it is taken in");
        let mut new = None;
        world
            .until("the new epoch", |world| {
                new = spares(world).first().and_then(|spare| process(*spare, 0));
                new.is_some()
            })
            .await;
        let new = new.expect("it runs");
        let age = world.scaled(moment);
        let killed = tokio::task::spawn_blocking(move || new.send_at(age, Signal::KILL));
        killed.await.expect("it is killed");
        world.served_by("v1").await;
        alone(&world).await;
        let before = world.failed();
        world.served_by("v1").await;
        world.hand_over("v2", world.newest() + 1).await;
        assert_eq!(world.failed(), before, "after {moment:?}");
        world.finish().await;
    };
    at_moments([[50, 140], [80, 170], [110, 200]], killed).await;
}

/// As after a hot restart: the old one has closed its listeners, so there is an outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_that_dies_is_started_again_beside_the_old_one() {
    let envoy = require_any_envoy!();
    let binary = Binary::new(&envoy);
    let mut setup = Setup::brisk();
    setup.parent_shutdown_time = Duration::from_secs(30);
    // On probation the old binary would serve meanwhile, and the retry wait for the cap.
    setup.policy.probation = None;
    let world = World::with(&binary.as_envoy(), setup).await;
    // It never asks for anything, so Envoy's own drain does not close it.
    let kept = std::net::TcpStream::connect(world.addresses().0).expect("Envoy listens");
    binary.install("11.105");
    world.hand_over("v1", 1).await;
    let first = process(only_spare(&world), 0).expect("it runs");
    first.send(Signal::KILL);
    let dead = async {
        while first.is_running() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    within(LIMIT, "its end", dead).await;
    world.next_success().await;
    world.served_by("v1").await;
    assert!(world.process(0).is_running(), "it has a client");
    drop(kept);
    alone(&world).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_they_cannot_serve_side_by_side_the_running_epoch_is_held_with_the_reason() {
    let envoy = require_any_envoy!();
    let binary = Binary::new(&envoy);
    let world = World::with(&binary.as_envoy(), Setup::brisk()).await;
    let old = world.process(0);
    binary.install("11.105");
    let config = world.config_with("alone", |config| config.reuse_port(false));
    let applied = world.handle.apply_and_wait(config);
    let error = within(LIMIT, "it to be settled", applied).await;
    let error = error.expect_err("it cannot be started").to_string();
    println!("{error}");
    assert!(
        error.contains("speaks hot restart version 11.105, the running Envoy 11.104")
            && error.contains("(enable_reuse_port: false): only a cold restart can go on"),
        "{error}"
    );
    binary.install("disabled");
    let error = given_up(&world, "without", None).await;
    assert!(
        error.contains("built without hot restart cannot give way"),
        "{error}"
    );
    binary.install("11.105");
    nothing_is_kept(&world).await;
    // Nothing was taken from the old one.
    world.admin().wait_live(0, Duration::from_secs(5));
    assert!(old.is_running());
    world.served_by("v0").await;
    world.hand_over("v1", 1).await;
    world.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_epoch_ends_with_its_last_connection_long_before_its_time() {
    let envoy = require_any_envoy!();
    let binary = Binary::new(&envoy);
    let setup = Setup {
        parent_shutdown_time: Duration::from_secs(50),
        ..Setup::brisk()
    };
    let world = World::with(&binary.as_envoy(), setup).await;
    binary.install("11.105");
    world.hand_over("v1", 1).await;
    let live = Instant::now();
    alone(&world).await;
    let took = live.elapsed();
    assert!(took < Duration::from_secs(30), "it took {took:?}");
    world.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_epoch_whose_client_stays_is_ended_in_order_at_its_time() {
    let envoy = require_any_envoy!();
    let binary = Binary::new(&envoy);
    let setup = Setup {
        parent_shutdown_time: Duration::from_secs(3),
        ..Setup::brisk()
    };
    let mut world = World::with(&binary.as_envoy(), setup).await;
    // It never asks for anything, so Envoy's own drain does not close it.
    let kept = std::net::TcpStream::connect(world.addresses().0).expect("Envoy listens");
    let old = world.process(0);
    binary.install("11.105");
    world.hand_over("v1", 1).await;
    world.events();
    sleep(Duration::from_secs(1)).await;
    assert!(old.is_running(), "it has a client and still has time");
    alone(&world).await;
    let events = world.events();
    let failed = events.iter().any(|event| {
        matches!(
            event,
            Event::Exited {
                exit: Exit::Failed(_),
                ..
            }
        )
    });
    assert!(!failed, "{events:?}");
    drop(kept);
    world.finish().await.assert_no_loss();
}
