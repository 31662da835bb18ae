//! The ordinary case.

use handover_test_support::require_any_envoy;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_overs_under_load_lose_nothing_and_a_stop_drains_and_leaves_nothing() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy).await;
    for number in 1..6 {
        world.hand_over(&format!("v{number}"), number).await;
    }
    world.finish().await.assert_no_loss();
}
