//! What hot restarts lose under load: nothing, as long as the listeners stay what they are.

use handover_test_support::bare_envoy::{BareEnvoy, LIMIT, is_refused};
use handover_test_support::limit::eventually;
use handover_test_support::ports::Port;
use handover_test_support::supervisor::Signal;

use crate::subject::Subject;
use crate::world::small_load;

/// Three hot restarts in a row lose nothing.
pub(crate) fn hot_restarts_lose_nothing(subject: &Subject) {
    restarts(&subject.host());
}

/// So with an immediate drain.
pub(crate) fn hot_restarts_with_an_immediate_drain_lose_nothing(subject: &Subject) {
    restarts(&subject.host().with_flag("--drain-strategy", "immediate"));
}

fn restarts(host: &BareEnvoy) {
    let mut old = host.live(0);
    let load = small_load(host.web());
    for epoch in 1..=3 {
        load.mark(format!("epoch {epoch}"));
        let new = host.live(epoch);
        old.wait().assert_exit(0, "");
        old = new;
    }
    assert_eq!(host.served_by().ok().as_deref(), Some("v3"));
    load.stop_blocking().assert_no_loss();
}

/// One socket for all workers is handed over whole, so their number may change.
pub(crate) fn without_reuse_port_the_concurrency_may_change(subject: &Subject) {
    let host = subject.host().with_flag("--concurrency", "1");
    let mut old = host.live_with(0, &host.config("v0").reuse_port(false));
    let load = small_load(host.web());
    for (epoch, workers) in [(1, "3"), (2, "2")] {
        let config = host.config(&format!("v{epoch}")).reuse_port(false);
        let mut words = host.arguments(epoch, &config);
        let place = words.iter().position(|word| word == "--concurrency");
        let value = place.and_then(|place| words.get_mut(place + 1));
        *value.expect("it is there") = workers.into();
        let new = host.run(words);
        host.wait_live_of(epoch, &new);
        old.wait().assert_exit(0, "");
        old = new;
    }
    load.stop_blocking().assert_no_loss();
}

/// An Envoy with another base id shares the port of one that runs, as its sockets may be bound twice. Once the old
/// one is drained, the other has it alone.
pub(crate) fn another_base_id_shares_the_port(subject: &Subject) {
    let (host, other) = (subject.host(), subject.host());
    let mut old = host.live(0);
    let load = small_load(host.web());
    let config = other.config("other").listening_on(host.web().port());
    let _new = other.live_with(0, &config);
    host.wait_served_by("other");
    host.wait_served_by("v0");
    // The kernel resets what waits in the queue of a socket that is closed, so the load ends before the drain.
    load.stop_blocking().assert_no_loss();
    let drained = host.order("/drain_listeners");
    assert_eq!(drained.map(|answer| answer.status).ok(), Some(200));
    let all_by_the_other = || (0..50).all(|_| host.served_by().is_ok_and(|name| name == "other"));
    let what = "all requests to go to the other";
    eventually(LIMIT, what, || all_by_the_other().then_some(()));
    old.signal(Signal::TERM);
    old.wait().assert_exit(0, "");
    assert_eq!(host.served_by().ok().as_deref(), Some("other"));
}

/// The admin endpoint may move from epoch to epoch.
pub(crate) fn the_admin_port_may_change(subject: &Subject) {
    let (host, other) = (subject.host(), subject.host());
    let mut old = host.live(0);
    let load = small_load(host.web());
    let config = other.config("v1").listening_on(host.web().port());
    let new = host.start(1, &config);
    other.wait_live_of(1, &new);
    assert!(host.is_admin_refused());
    old.wait().assert_exit(0, "");
    assert_eq!(host.served_by().ok().as_deref(), Some("v1"));
    load.stop_blocking().assert_no_loss();
}

/// A listener that moves to another port is gone from its old one at once.
pub(crate) fn a_moved_listener_leaves_its_port_at_once(subject: &Subject) {
    let host = subject.host().with_flag("--parent-shutdown-time-s", "100");
    let old = host.live(0);
    let port = Port::free();
    let config = host.config("v1").listening_on(port.number());
    let _new = host.live_with(1, &config);
    let what = "the old port to be closed";
    eventually(LIMIT, what, || host.is_refused().then_some(()));
    assert!(old.is_running());
    assert!(!is_refused(port.addr()));
}
