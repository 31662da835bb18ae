//! Fact 3: an orderly end of the newer epoch takes the older one along.

use handover_test_support::bare_envoy::{BareEnvoy, Epoch};
use handover_test_support::supervisor::Signal;

use crate::subject::Subject;
use crate::world::{SilentSource, initializing, small_load, stays};

/// TERM to an initialising epoch: it and its healthy parent exit with 0, and nothing serves.
pub(crate) fn term_to_an_initializing_epoch_ends_its_parent(subject: &Subject) {
    both_end(subject, Signal::TERM);
}

/// INT is as bad as TERM.
pub(crate) fn int_to_an_initializing_epoch_ends_its_parent(subject: &Subject) {
    both_end(subject, Signal::INT);
}

fn both_end(subject: &Subject, signal: Signal) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    let source = SilentSource::new();
    let mut epoch_1 = initializing(&host, 1, &source);
    epoch_1.signal(signal);
    epoch_1.wait().assert_exit(0, "");
    epoch_0.wait().assert_exit(0, "");
    assert!(host.is_refused());
}

/// KILL is the one way to abort a newer epoch alone. The parent has lost its admin endpoint to it.
pub(crate) fn kill_of_an_initializing_epoch_spares_its_parent(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let load = small_load(host.web());
    let source = SilentSource::new();
    initializing(&host, 1, &source).kill();
    stays("epoch 0 runs", || epoch_0.is_running());
    assert!(host.is_admin_refused());
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    load.stop_blocking().assert_no_loss();
}

/// TERM to a live child ends a parent that still drains.
pub(crate) fn term_to_a_live_child_ends_its_draining_parent(subject: &Subject) {
    let (_host, mut old, mut new) = draining_parent(subject);
    new.signal(Signal::TERM);
    new.wait().assert_exit(0, "");
    old.wait().assert_exit(0, "");
}

/// So does the order to end by the admin endpoint.
pub(crate) fn quitquitquit_of_a_live_child_ends_its_draining_parent(subject: &Subject) {
    let (host, mut old, mut new) = draining_parent(subject);
    host.order("/quitquitquit").expect("it answers first");
    new.wait().assert_exit(0, "");
    old.wait().assert_exit(0, "");
}

/// KILL of the live child does not end the parent; the parent does not listen any more.
pub(crate) fn kill_of_a_live_child_spares_its_draining_parent(subject: &Subject) {
    let (host, old, mut new) = draining_parent(subject);
    new.kill();
    stays("the parent runs", || old.is_running());
    assert!(host.is_refused());
}

/// A parent that would drain for longer than any test, and its live child.
fn draining_parent(subject: &Subject) -> (BareEnvoy, Epoch, Epoch) {
    let host = subject.host().with_flag("--parent-shutdown-time-s", "100");
    let old = host.live(0);
    let new = host.live(1);
    host.wait_served_by("v1");
    assert!(old.is_running());
    (host, old, new)
}
