//! The main thread of a child stands still when it asks its parent and gets no answer: when the statistics are
//! merged, every five seconds.

use std::time::{Duration, Instant};

use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::report::ClientKind;
use handover_test_support::require_envoy;
use rustix::process::Signal;

use crate::children::Prey;
use crate::old_epoch::{assert_only_its_own_are_lost, survives};
use crate::world::{LIMIT, Setup, World};

/// The agent continues it after four seconds, before its child waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_epoch_that_stays_stopped_is_continued_before_its_child_feels_it() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let stop = async |_: &World, old: Prey| old.send(Signal::STOP);
    let early = survives(&envoy, 0, stop);
    let late = survives(&envoy, 1500, stop);
    let (early, late) = tokio::join!(early, late);
    assert_only_its_own_are_lost("old epoch stopped for good at once", &early);
    assert_only_its_own_are_lost("old epoch stopped for good after 1500 ms", &late);
}

/// The worst that can happen to a child: its parent dies while it waits for the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_whose_parent_died_owing_it_an_answer_wakes_up() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let setup = Setup {
        parent_shutdown_time: Duration::from_secs(60),
        ..Setup::default()
    };
    let world = World::with(&envoy, setup).await;
    let old = world.process(0);
    world.hand_over("v1", 1).await;
    let new = world.process(1);
    // Held down against the agent, which would continue it, and killed the moment it owes an answer.
    let holding = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + LIMIT;
        while !new.waits_for_a_message() {
            assert!(Instant::now() < end, "the child never asks its parent");
            old.send(Signal::STOP);
            std::thread::sleep(Duration::from_micros(200));
        }
        old.send(Signal::KILL);
    });
    holding.await.expect("the child asks its parent");
    let killed = Instant::now();
    world
        .until("the child to wake up", |world| {
            world.admin().server_info().is_some()
        })
        .await;
    println!(
        "=== a child that waited for a dead parent woke up {:?} later",
        killed.elapsed()
    );
    assert!(killed.elapsed() < LIMIT / 2);
    // Workers serve on meanwhile, so only what the killed epoch had is lost.
    world.hand_over("v2", 2).await;
    world.hand_over("v3", 3).await;
    let report = world.finish().await;
    assert_only_its_own_are_lost("old epoch killed owing an answer", &report);
    let fresh = report.failed_by.iter();
    let fresh = fresh.filter(|((client, _), _)| *client == ClientKind::NewConnection);
    assert!(fresh.map(|(_, count)| count).sum::<u64>() <= 2, "{report}");
}
