//! Facts 7 and 8: which epoch may follow which.

use std::thread;

use handover_test_support::bare_envoy::LIMIT;
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::Signal;

use crate::subject::Subject;
use crate::world::{long_request, small_load, stays};

/// The parent of a live child does not listen, so the child's death is an outage. The same number ends it.
pub(crate) fn a_dead_child_is_replaced_by_the_same_epoch(subject: &Subject) {
    let host = subject.host().with_flag("--parent-shutdown-time-s", "100");
    let old = host.live(0);
    let mut new = host.live(1);
    host.wait_served_by("v1");
    new.kill();
    // The parent was told to close its listeners just before the child was live.
    let what = "refused connections";
    eventually(LIMIT, what, || host.is_refused().then_some(()));
    let refused = || host.is_refused() && host.is_admin_refused() && old.is_running();
    stays("nothing listens", refused);
    let again = host.live_with(1, &host.config("again"));
    assert_eq!(host.served_by().ok().as_deref(), Some("again"));
    stays("both run", || old.is_running() && again.is_running());
}

/// The number after the dead child's has no parent: it hangs, and aborts after ten seconds.
pub(crate) fn the_number_after_a_dead_child_hangs_and_aborts(subject: &Subject) {
    let host = subject.host().with_flag("--parent-shutdown-time-s", "100");
    let old = host.live(0);
    host.live(1).kill();
    let mut next = host.start(2, &host.config("v2"));
    thread::sleep(subject.seconds(5.0));
    assert!(next.is_running(), "it hangs");
    assert!(host.is_admin_refused() && host.is_refused());
    next.wait().assert_signal(Signal::ABORT, "");
    assert!(old.is_running());
}

/// The third epoch lets the first go at once, with its long requests; new connections lose nothing.
pub(crate) fn the_next_but_one_ends_an_epoch_at_once(subject: &Subject) {
    let host = subject.host().with_flag("--parent-shutdown-time-s", "100");
    let mut first = host.live(0);
    let load = small_load(host.web());
    let cut = long_request(&host, subject.seconds(20.0));
    let second = host.live(1);
    stays("the first runs", || first.is_running());
    let _third = host.live(2);
    first.wait().assert_exit(0, "");
    cut.assert_cut();
    assert!(second.is_running());
    load.stop_blocking().assert_no_loss();
}
