//! A new epoch that cannot start: the old one serves throughout, the next good one is live, and the
//! one after it too.

use std::net::TcpListener;
use std::time::Duration;

use handover_core::retry::Retry;
use handover_core::{Event, Policy};
use handover_envoy::EnvoyConfig;
use handover_test_support::envoy_config::Break;
use handover_test_support::require_any_envoy;
use handover_tokio::NotLive;
use rustix::process::Signal;

use crate::world::{Setup, World};

/// Five ways to be bad, four times: with one retry each, nothing of it stops the old epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_bad_configurations_in_a_row_leave_the_old_epoch_serving() {
    let envoy = require_any_envoy!();
    let mut setup = Setup::brisk();
    setup.policy.retry = Retry::new(1, Duration::from_millis(50));
    let mut world = World::with(&envoy, setup).await;
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    world.events();
    for round in 0..4 {
        let name = format!("bad-{round}");
        let path = world.write(&name, Some(Break::YamlError));
        EnvoyConfig::read(&path).expect_err("it is no YAML, and never comes to an epoch");
        for broken in [
            Break::UnknownField,
            Break::MissingCertificate,
            Break::PortConflict(taken),
            Break::AdminPortTaken(taken),
        ] {
            let error = world.apply(&name, Some(broken)).await;
            let error = error.expect_err("it is bad");
            assert!(matches!(error, NotLive::GivenUp { .. }), "{error}");
            println!("{broken:?}: {error}");
            let retried = world
                .events()
                .iter()
                .any(|event| matches!(event, Event::RetryScheduled { .. }));
            let rejected = matches!(broken, Break::UnknownField | Break::MissingCertificate);
            assert_eq!(retried, !rejected, "{broken:?}: a rejection costs no retry");
            world.served_by("v0").await;
        }
    }
    world.hand_over("better", 1).await;
    world.hand_over("best", 2).await;
    world.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_that_stands_still_is_ended_by_the_start_deadline() {
    let envoy = require_any_envoy!();
    let mut setup = Setup::brisk();
    // A machine that is busy enough may need more than two seconds for a start, and then another.
    setup.policy = Policy {
        start_deadline: Some(Duration::from_secs(2)),
        retry: Retry::new(10, Duration::from_millis(50)).with_max_interval(Duration::from_secs(1)),
        ..setup.policy
    };
    let mut world = World::with(&envoy, setup).await;
    let port = world.listener_port();
    world.events();
    let mut epoch = 0;
    loop {
        let old = world.process(epoch);
        epoch += 1;
        // On a busy machine the stop may come too late; then it counts for nothing.
        let moment = world.scaled(Duration::from_millis(20));
        let stopped = world.hunt(epoch, move |new| {
            new.send_at(moment, Signal::STOP);
            // What it had asked the old one for before is done by then, on a busy machine as well.
            std::thread::sleep(Duration::from_millis(400));
            let in_time = old.listens_on(port);
            if !in_time {
                new.send(Signal::CONT);
            }
            in_time
        });
        world.hand_over(&format!("v{epoch}"), epoch).await;
        if stopped.await.expect("the hunter does not panic") {
            break;
        }
        assert!(epoch < 5, "no stop came in time");
    }
    let events = world.events();
    let timed_out = |event: &Event| matches!(event, Event::StartTimedOut { .. });
    assert!(events.iter().any(timed_out), "{events:?}");
    world.hand_over("better", epoch + 1).await;
    world.hand_over("best", epoch + 2).await;
    world.finish().await.assert_no_loss();
}
