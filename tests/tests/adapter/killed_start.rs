//! A new epoch that is killed at a moment of its start.

use std::time::Duration;

use handover_test_support::require_any_envoy;
use rustix::process::Signal;

use crate::world::{Setup, World};

/// Until the new epoch has told the old one to close its listeners, its death is no loss. After
/// that nobody listens until the same epoch runs again, and what it had accepted is gone with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_that_is_killed_while_it_starts_is_tried_again() {
    let envoy = require_any_envoy!();
    let world = World::with(&envoy, Setup::brisk()).await;
    let clients = Setup::brisk().clients();
    let port = world.listener_port();
    let mut newest = 0;
    for (number, ms) in (1..).zip([10, 30, 45, 60, 100]) {
        let name = format!("v{number}");
        let before = world.failed();
        let old = world.process(newest);
        let hunted = newest + 1;
        let age = world.scaled(Duration::from_millis(ms));
        let killed = world.hunt(hunted, move |new| {
            new.send_at(age, Signal::KILL);
            // The word to close the listeners may still be on its way; the next try is not.
            std::thread::sleep(Duration::from_millis(60));
            (new.pid, !old.listens_on(port))
        });
        let live = world.apply(&name, None).await;
        let live = live.unwrap_or_else(|error| panic!("{name} does not go live: {error}"));
        let (killed, taken_over) = killed.await.expect("the hunter does not panic");
        let live = live.number();
        // Where the killed epoch had the listeners, the old configuration serves again first.
        let numbers = if taken_over {
            hunted..=hunted + 1
        } else {
            hunted..=hunted
        };
        assert!(
            numbers.contains(&live),
            "{name} is live as epoch {live}, {taken_over}"
        );
        // The kill may come after it was live. Then another one takes its place, with the next number.
        newest = world.live_instead_of(killed, live..=hunted + 2).await;
        world.served_by(&name).await;
        let lost = world.failed() - before;
        println!("=== killed after {ms} ms: listeners taken over: {taken_over}, lost: {lost}");
        if !taken_over {
            assert_eq!(lost, 0, "killed after {ms} ms, before it had the listeners");
        }
        // A retry comes after 200 ms and takes less than the rest of ten seconds; each client
        // fails every 5 ms meanwhile.
        assert!(lost <= clients * 2000, "{lost} lost");
    }
    world.hand_over("better", newest + 1).await;
    world.hand_over("best", newest + 2).await;
    world.finish().await;
}
