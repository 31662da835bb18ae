//! The flag of a dead epoch that is not cleared: the running epoch is held, and nothing written.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use handover_core::Epoch;
use handover_core::retry::Retry;
use handover_envoy::hot_restart::{BaseId, SharedMemory, SharedMemoryState};
use handover_test_support::envoy_config::Break;
use handover_test_support::require_any_envoy;
use handover_tokio::NotLive;

use crate::world::{Setup, World};

/// What the flags field of a stuck memory reads in a layout that nobody knows yet: the known flag
/// and another one.
const UNKNOWN_FLAGS: [u8; 8] = 3_u64.to_ne_bytes();
const FLAGS: usize = 96;

fn without_repair() -> Setup {
    let mut setup = Setup {
        settings: Box::new(|builder| builder.repair(false)),
        ..Setup::default()
    };
    setup.policy.retry = Retry::new(5, Duration::from_millis(50));
    setup
}

async fn fails(world: &World, name: &str, broken: Option<Break>) -> (Epoch, String) {
    match world.apply(name, broken).await {
        Err(NotLive::GivenUp { epoch, failure }) => {
            let message = failure.expect("it is known").message();
            println!("{name}: {message}");
            (epoch, message)
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn memory(world: &World) -> SharedMemory {
    SharedMemory::new(BaseId::new(world.base_id()).expect("it is small"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_repair_the_running_epoch_is_held_and_the_remedy_named() {
    let envoy = require_any_envoy!();
    let world = World::with(&envoy, without_repair()).await;
    let memory = memory(&world);
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    // It passes the validation and fails in the middle of its start. Its first retry is refused.
    let (epoch, message) = fails(&world, "bad", Some(Break::PortConflict(taken))).await;
    assert_eq!(epoch, Epoch::new(1));
    let stuck = "holding epoch 0: only a cold restart can go on";
    assert!(message.starts_with(stuck), "{message}");
    assert!(message.contains("clearing it is switched off"), "{message}");
    assert_eq!(
        memory.inspect().ok(),
        Some(SharedMemoryState::Known { initializing: true })
    );
    // A good one does not help, and no epoch is spent on it.
    let hunted = world.process(0);
    let (_, message) = fails(&world, "good", None).await;
    assert!(message.starts_with(stuck), "{message}");
    assert_eq!(
        memory.inspect().ok(),
        Some(SharedMemoryState::Known { initializing: true })
    );
    assert!(hunted.is_running());
    world.served_by("v0").await;
    world.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layout_that_is_not_known_is_not_written_to() {
    let envoy = require_any_envoy!();
    let mut setup = without_repair();
    setup.settings = Box::new(|builder| builder);
    let world = World::with(&envoy, setup).await;
    let memory = memory(&world);
    let mut bytes = fs::read(memory.path()).expect("epoch 0 has made it");
    bytes[FLAGS..].copy_from_slice(&UNKNOWN_FLAGS);
    // In place, as Envoy has the file mapped.
    fs::write(memory.path(), &bytes).expect("it is ours");
    let (_, message) = fails(&world, "v1", None).await;
    assert!(
        message.starts_with("holding epoch 0: only a cold restart can go on"),
        "{message}"
    );
    assert!(message.contains("has an unknown layout"), "{message}");
    assert_eq!(fs::read(memory.path()).expect("it is still there"), bytes);
    world.served_by("v0").await;
    world.finish().await.assert_no_loss();
}
