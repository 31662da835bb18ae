//! Requests that outlast a hand-over.

use std::time::{Duration, Instant};

use handover_test_support::load::Mix;
use handover_test_support::report::ClientKind;
use handover_test_support::require_any_envoy;

use crate::world::{Setup, World};

const REQUEST: Duration = Duration::from_secs(1);
const PARENT_SHUTDOWN: Duration = Duration::from_secs(60);

/// With a third epoch the oldest would end at once and cut them; so a further change waits for the
/// last connection of the oldest, and no longer than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_change_waits_for_long_requests_and_then_goes_on_at_once() {
    let envoy = require_any_envoy!();
    let setup = Setup {
        parent_shutdown_time: PARENT_SHUTDOWN,
        load: Mix {
            slow: Some((3, REQUEST)),
            ..Setup::default().load
        },
        ..Setup::brisk()
    };
    let world = World::with(&envoy, setup).await;
    world.hand_over_now("v1", 1).await;
    let mut waits = Vec::new();
    for number in 2..5 {
        let asked = Instant::now();
        world.hand_over_now(&format!("v{number}"), number).await;
        waits.push(asked.elapsed());
    }
    println!("=== a change that waits for requests of {REQUEST:?} goes live after {waits:?}");
    for wait in waits {
        // One request, the five seconds for which Envoy may keep its connection afterwards, and the
        // start of an Envoy on a busy machine.
        assert!(wait < PARENT_SHUTDOWN / 3, "{wait:?}");
    }
    world.served_by("v4").await;
    let report = world.finish().await;
    report.assert_no_loss();
    assert!(report.ok_by_kind[&ClientKind::Slow] >= 3, "{report}");
}
