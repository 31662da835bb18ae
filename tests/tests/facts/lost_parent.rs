//! Facts 4 and 5: a child cannot live when its parent dies early, unless somebody answers in the parent's place.

use std::time::{Duration, Instant};

use handover_test_support::bare_envoy::LIMIT;
use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::Signal;

use crate::stand_in::StandIn;
use crate::subject::Subject;
use crate::world::{NO_ANSWER, small_load};

/// The child freezes as it wants to tell its parent to end, and aborts some ten seconds later. Until then it
/// serves, but its admin endpoint does not answer.
pub(crate) fn a_child_aborts_after_its_parent_was_killed(subject: &Subject) {
    let host = subject.host();
    let mut parent = host.live(0);
    let mut child = host.live(1);
    host.wait_served_by("v1");
    parent.kill();
    let load = small_load(host.web());
    let silent = || http::get(host.admin_addr(), "/server_info", NO_ANSWER).is_err();
    eventually(LIMIT, "a frozen main thread", || silent().then_some(()));
    assert!(child.is_running());
    assert_eq!(host.served_by().ok().as_deref(), Some("v1"));
    load.stop_blocking().assert_no_loss();
    child.wait().assert_signal(Signal::ABORT, "");
    assert!(host.is_refused());
}

/// Whoever takes the dead parent's socket and answers keeps the child alive, and the next epoch takes over.
pub(crate) fn a_child_lives_when_its_dead_parent_is_stood_in_for(subject: &Subject) {
    // The statistics are asked for after five seconds, and the end is ordered after seven.
    let host = subject.host().with_flag("--parent-shutdown-time-s", "7");
    let mut parent = host.live(0);
    let mut child = host.live(1);
    host.wait_served_by("v1");
    parent.kill();
    let stand_in = StandIn::for_parent(host.base_id(), 0);
    let load = small_load(host.web());
    let asked = stand_in.answer_until_terminate(LIMIT);
    assert!(asked.statistics >= 1, "{asked:?}");
    // Without the answers it would be frozen.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        host.wait_live(1);
    }
    // The next one need not wait for the statistics.
    let host = host.with_flag("--parent-shutdown-time-s", "2");
    let _next = host.live(2);
    host.wait_served_by("v2");
    child.wait().assert_exit(0, "");
    load.stop_blocking().assert_no_loss();
}

/// The same answers let an epoch start: it is told that its parent has no admin endpoint any more and no sockets,
/// and makes its own.
pub(crate) fn an_epoch_starts_when_its_dead_parent_is_stood_in_for(subject: &Subject) {
    let host = subject.host();
    host.live(0).kill();
    let stand_in = StandIn::for_parent(host.base_id(), 0);
    let mut epoch_1 = host.start(1, &host.config("v1"));
    let asked = stand_in.answer_until_terminate(LIMIT);
    let of_each = (asked.admin, asked.sockets > 0, asked.drains);
    assert_eq!(of_each, (1, true, 1), "{asked:?}");
    host.wait_live_of(1, &epoch_1);
    assert_eq!(host.flags(), Some(0));
    let load = small_load(host.web());
    let _next = host.live(2);
    host.wait_served_by("v2");
    epoch_1.wait().assert_exit(0, "");
    load.stop_blocking().assert_no_loss();
}

/// Connections are taken while a child initialises whose parent has died: the child has the sockets. Nothing
/// answers.
pub(crate) fn a_killed_parent_leaves_connections_without_an_answer(subject: &Subject) {
    let host = subject.host();
    let mut parent = host.live(0);
    let source = crate::world::SilentSource::new();
    let child = crate::world::initializing(&host, 1, &source);
    parent.kill();
    assert!(!host.is_refused());
    let answer = http::get(host.web(), "/", NO_ANSWER);
    assert!(answer.is_err(), "{answer:?}");
    assert!(child.is_running());
}
