//! Base ids: who owns one, and what is left of one.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use handover_core::Outcome;
use handover_envoy::hot_restart::{BaseId, SharedMemory};
use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::envoy_admin::EnvoyAdmin;
use handover_test_support::envoy_config::EnvoyConfig;
use handover_test_support::ports::Port;
use handover_test_support::{ports, require_any_envoy};
use handover_tokio::NotLive;

use crate::world::{LIMIT, Setup, World, builder};

/// An Envoy that somebody has started by hand.
struct Foreign {
    child: Child,
    admin: EnvoyAdmin,
    _ports: [Port; 2],
    _dir: tempfile::TempDir,
}

impl Foreign {
    fn start(envoy: &AnyEnvoy, base_id: u32) -> Self {
        let ports = [Port::free(), Port::free()];
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let file = dir.path().join("foreign.yaml");
        let [admin, listener] = &ports;
        EnvoyConfig::new("foreign", admin.number(), listener.number()).write_to(&file);
        let child = Command::new(envoy.path())
            .arg("-c")
            .arg(&file)
            .args(["--base-id", &base_id.to_string(), "--restart-epoch", "0"])
            .args(["--concurrency", "1", "--log-level", "error"])
            .args(envoy.arguments())
            .stdin(Stdio::null())
            .spawn()
            .expect("Envoy can be started");
        let admin = EnvoyAdmin::on(admin.number());
        let foreign = Self {
            child,
            admin,
            _ports: ports,
            _dir: dir,
        };
        foreign.admin.wait_live(0, LIMIT);
        foreign
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_side_by_side_do_not_disturb_each_other() {
    let envoy = require_any_envoy!();
    let (one, two) = tokio::join!(
        World::with(&envoy, Setup::brisk()),
        World::with(&envoy, Setup::brisk())
    );
    for number in 1..4 {
        let name = format!("v{number}");
        tokio::join!(one.hand_over(&name, number), two.hand_over(&name, number));
    }
    // The end of one is nothing to the other.
    one.finish().await.assert_no_loss();
    two.hand_over("v4", 4).await;
    two.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_envoy_is_found_before_it_is_harmed() {
    let envoy = require_any_envoy!();
    let base_id = ports::BaseId::free();
    let mut foreign = Foreign::start(&envoy, base_id.number());
    let memory = fs::read(base_id.shared_memory()).expect("the foreign Envoy has made it");
    let dir = tempfile::tempdir().expect("a directory");
    let error = builder(envoy.path(), base_id.number(), dir.path()).build();
    let error = error.expect_err("the base id is in use").to_string();
    println!("{error}");
    assert!(
        error.contains(&format!("base id {} is in use", base_id.number()))
            && error.contains(&format!("pid {}", foreign.child.id()))
            && error.contains("stop that one, or use another base id"),
        "{error}"
    );
    assert_eq!(fs::read(base_id.shared_memory()).ok(), Some(memory));
    foreign.admin.wait_live(0, Duration::from_secs(5));
    assert!(matches!(foreign.child.try_wait(), Ok(None)));
}

/// It comes when the base id has been claimed, and no epoch runs yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_envoy_that_comes_later_is_found_before_epoch_0() {
    let envoy = require_any_envoy!();
    let mut setup = Setup::default();
    setup.policy.retry.max_retries = 0;
    let world = World::idle(&envoy, setup).await;
    let mut foreign = Foreign::start(&envoy, world.base_id());
    let error = world.apply("v0", None).await.expect_err("it is in use");
    assert!(matches!(error, NotLive::GivenUp { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("stop that one, or use another base id"),
        "{error}"
    );
    foreign.admin.wait_live(0, Duration::from_secs(5));
    assert!(matches!(foreign.child.try_wait(), Ok(None)));
    let memory = SharedMemory::new(BaseId::new(world.base_id()).expect("it is small"));
    assert!(memory.path().exists());
    drop(foreign);
    fs::remove_file(memory.path()).expect("nobody removes it for a foreign Envoy");
    let outcome = world.outcome().await;
    assert!(matches!(outcome, Outcome::GaveUp { .. }), "{outcome}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_memory_of_a_dead_owner_is_removed() {
    let envoy = require_any_envoy!();
    let base_id = ports::BaseId::free();
    drop(Foreign::start(&envoy, base_id.number()));
    assert!(base_id.shared_memory().exists(), "Envoy never removes it");
    let dir = tempfile::tempdir().expect("a directory");
    let owner = builder(envoy.path(), base_id.number(), dir.path()).build();
    let owner = owner.expect("nobody uses the base id");
    assert!(!base_id.shared_memory().exists());
    drop(owner);
}
