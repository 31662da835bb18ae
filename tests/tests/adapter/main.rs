//! The Envoy adapter as a library, on real Envoy: agent, adapter and a loss-counting client in one
//! process.

#![expect(
    clippy::print_stdout,
    reason = "what Envoy says explains a test that fails"
)]

mod world;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use handover_core::{Epoch, Outcome};
use handover_tests::envoy_config::Break;
use handover_tests::limit::within;
use handover_tests::require_envoy;
use handover_tokio::NotLive;

use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_overs_under_load_lose_nothing_and_a_stop_drains() {
    let envoy = require_envoy!();
    let mut world = World::start(&envoy).await;
    for number in 0..6 {
        let epoch = world
            .apply(&format!("v{number}"), None)
            .await
            .expect("it goes live");
        assert_eq!(epoch, Epoch::new(number));
        world.served_by(&format!("v{number}")).await;
    }
    let report = world.load.take().expect("the load runs").stop().await;
    report.assert_no_loss();
    let outcome = within(LIMIT, "the end", world.terminate()).await;
    assert_eq!(outcome, Outcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_leaves_the_old_epoch_serving() {
    let envoy = require_envoy!();
    let mut world = World::start(&envoy).await;
    world.apply("good", None).await.expect("it goes live");
    world.served_by("good").await;
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    for broken in [
        Break::UnknownField,
        Break::MissingCertificate,
        Break::PortConflict(taken),
        Break::AdminPortTaken(taken),
    ] {
        let error = world
            .apply("bad", Some(broken))
            .await
            .expect_err("it is bad");
        assert!(matches!(error, NotLive::GivenUp { .. }), "{error}");
        println!("=== {broken:?}: {error}");
        world.served_by("good").await;
    }
    world.apply("better", None).await.expect("it goes live");
    world.served_by("better").await;
    world.apply("best", None).await.expect("it goes live");
    world.served_by("best").await;
    world
        .load
        .take()
        .expect("the load runs")
        .stop()
        .await
        .assert_no_loss();
    within(LIMIT, "the end", world.terminate()).await;
}

/// Without a stand-in, the child's main thread stops at the next merge of statistics, 5 s later at
/// most, or when it tells its parent to end, 3 s after it went live; it aborts 13 s later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_early_death_of_an_old_epoch_goes_unnoticed() {
    let envoy = require_envoy!();
    let mut world = World::start(&envoy).await;
    world.apply("v0", None).await.expect("it goes live");
    world.apply("v1", None).await.expect("it goes live");
    world.kill(Epoch::ZERO);
    let killed = Instant::now();
    while killed.elapsed() < Duration::from_secs(7) {
        let asked = Instant::now();
        let info = world
            .admin()
            .server_info()
            .expect("the admin endpoint answers");
        assert_eq!(info.restart_epoch, 1);
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "the main thread stood still"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for number in 2..4 {
        let name = format!("v{number}");
        let epoch = world.apply(&name, None).await.expect("it goes live");
        assert_eq!(epoch, Epoch::new(number));
        world.served_by(&name).await;
    }
    let report = world.load.take().expect("the load runs").stop().await;
    // The killed epoch takes the connections along that it still had; nobody else notices.
    let lost = report.failed + report.idle_close_races;
    println!("{report}");
    assert!(lost <= 4, "{lost} requests were on the killed epoch");
    within(LIMIT, "the end", world.terminate()).await;
}
