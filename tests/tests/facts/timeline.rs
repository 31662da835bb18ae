//! The order of a hot restart. The times are the machine's, and no fact.

use std::time::{Duration, Instant};

use handover_test_support::bare_envoy::LIMIT;
use handover_test_support::kept_connection::{KeptConnection, PeerState};
use handover_test_support::limit::eventually;

use crate::subject::Subject;
use crate::world::{long_request, small_load};

/// The admin endpoint goes from the old epoch to the new one once, and never back.
pub(crate) fn the_admin_endpoint_goes_over_once(subject: &Subject) {
    let host = subject.host();
    let _epoch_0 = host.live(0);
    let _epoch_1 = host.start(1, &host.config("v1"));
    let admin = host.admin();
    let mut seen = Vec::new();
    let end = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < end, "epoch 1 is not live: {seen:?}");
        let Some(info) = admin.server_info() else {
            continue;
        };
        let is_live = info.state == "LIVE";
        let epoch = info.restart_epoch;
        if seen.last() != Some(&(epoch, is_live)) {
            seen.push((epoch, is_live));
        }
        if (epoch, is_live) == (1, true) {
            break;
        }
    }
    let [first, .., last] = seen[..] else {
        panic!("only {seen:?}");
    };
    assert_eq!((first, last), ((0, true), (1, true)));
    assert!(seen.is_sorted(), "{seen:?}");
}

/// New connections go over to the child by the time that it says it is live, and never back to the parent.
pub(crate) fn connections_go_over_once(subject: &Subject) {
    let host = subject.host();
    let _epoch_0 = host.live(0);
    let _epoch_1 = host.start(1, &host.config("v1"));
    let mut served = Vec::new();
    while served.last().is_none_or(|last| last != "v1") {
        served.push(host.served_by().expect("nothing is lost"));
        assert!(served.len() < 100_000, "epoch 1 does not serve");
    }
    host.wait_live(1);
    // For a moment both accept. After it the parent's listeners are closed.
    let settled = Instant::now() + Duration::from_secs(1);
    let mut last_of_parent = None;
    while Instant::now() < settled {
        if host.served_by().expect("nothing is lost") == "v0" {
            last_of_parent = Some(settled - Instant::now());
        }
    }
    let closed = Duration::from_millis(500);
    assert!(
        last_of_parent.is_none_or(|left| left > closed),
        "{last_of_parent:?}"
    );
}

/// The parent exits with 0 at the parent-shutdown time, because its child asks for it.
pub(crate) fn the_parent_ends_at_the_parent_shutdown_time(subject: &Subject) {
    let host = subject.host();
    let mut parent = host.live(0);
    let load = small_load(host.web());
    let child = host.live(1);
    let since = Instant::now();
    parent
        .wait()
        .assert_exit(0, "shutting down due to child request");
    // Two seconds after the child's initialisation, which began before it was seen to be live.
    let lived = since.elapsed();
    assert!(lived > subject.seconds(1.5), "{lived:?}");
    assert!(child.is_running());
    load.stop_blocking().assert_no_loss();
}

/// A request that takes longer than that is cut, and one that does not is answered by the parent.
pub(crate) fn requests_are_cut_at_the_parent_shutdown_time(subject: &Subject) {
    let host = subject.host();
    let mut parent = host.live(0);
    let whole = long_request(&host, subject.seconds(1.0));
    let cut = long_request(&host, subject.seconds(20.0));
    let _child = host.live(1);
    let whole = whole.answer().expect("there is time for it");
    assert_eq!(whole.header("x-config"), Some("v0"));
    assert!(cut.is_waiting());
    parent.wait().assert_exit(0, "");
    cut.assert_cut();
}

/// Idle connections get a FIN then, and not before.
pub(crate) fn idle_connections_end_with_the_parent(subject: &Subject) {
    let host = subject.host();
    let mut parent = host.live(0);
    let mut idle = KeptConnection::open(host.web(), LIMIT).expect("it listens");
    assert!(idle.get("/").is_ok());
    let _child = host.live(1);
    assert_eq!(idle.peer(), PeerState::Open);
    parent.wait().assert_exit(0, "");
    assert_eq!(idle.peer(), PeerState::Closed);
}

/// With an immediate drain the next answer on a kept connection announces its end.
pub(crate) fn an_immediate_drain_closes_with_the_next_request(subject: &Subject) {
    let host = subject
        .host()
        .with_flag("--drain-strategy", "immediate")
        .with_flag("--drain-time-s", "90")
        .with_flag("--parent-shutdown-time-s", "100");
    let _parent = host.live(0);
    let mut kept = KeptConnection::open(host.web(), LIMIT).expect("it listens");
    assert!(kept.get("/").expect("it serves").reusable);
    let _child = host.live(1);
    host.wait_served_by("v1");
    let last = kept.get("/").expect("it is still answered");
    assert_eq!(
        (last.header("x-config"), last.reusable),
        (Some("v0"), false)
    );
    eventually(LIMIT, "the FIN", || {
        (kept.peer() == PeerState::Closed).then_some(())
    });
}

/// A gradual drain, the default, spreads those announcements over the drain time: at its end all are made.
pub(crate) fn a_gradual_drain_closes_over_the_drain_time(subject: &Subject) {
    let host = subject
        .host()
        .with_flag("--drain-time-s", "2")
        .with_flag("--parent-shutdown-time-s", "100");
    let _parent = host.live(0);
    let mut kept = KeptConnection::open(host.web(), LIMIT).expect("it listens");
    assert!(kept.get("/").expect("it serves").reusable);
    let _child = host.live(1);
    host.wait_served_by("v1");
    std::thread::sleep(subject.seconds(2.0));
    let last = kept.get("/").expect("it is still answered");
    assert_eq!(
        (last.header("x-config"), last.reusable),
        (Some("v0"), false)
    );
}
