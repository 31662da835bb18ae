//! What signals do.

use std::fs;

use handover_test_support::bare_envoy::LIMIT;
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::Signal;

use crate::subject::Subject;
use crate::world::{long_request, small_load, stays};

/// TERM ends an epoch with 0, without a drain: what runs is cut.
pub(crate) fn term_ends_an_epoch_without_a_drain(subject: &Subject) {
    ends_without_a_drain(subject, Signal::TERM);
}

/// INT does the same.
pub(crate) fn int_ends_an_epoch_without_a_drain(subject: &Subject) {
    ends_without_a_drain(subject, Signal::INT);
}

fn ends_without_a_drain(subject: &Subject, signal: Signal) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    let cut = long_request(&host, subject.seconds(20.0));
    epoch_0.signal(signal);
    epoch_0.wait().assert_exit(0, "");
    cut.assert_cut();
    assert!(host.is_refused() && host.is_admin_refused());
}

/// A signal of a crash ends it, whoever has sent it.
pub(crate) fn segv_ends_an_epoch_by_that_signal(subject: &Subject) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    epoch_0.signal(Signal::SEGV);
    epoch_0.wait().assert_signal(Signal::SEGV, "");
    assert!(host.is_refused());
}

/// HUP is ignored.
pub(crate) fn hup_is_ignored(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let load = small_load(host.web());
    epoch_0.signal(Signal::HUP);
    stays("it runs", || epoch_0.is_running());
    host.wait_live(0);
    load.stop_blocking().assert_no_loss();
}

/// USR1 lets it open its log file again, after a rotation.
pub(crate) fn usr1_opens_the_log_file_again(subject: &Subject) {
    let host = subject.host();
    let log = host.dir().join("envoy.log");
    let path = log.to_str().expect("the directory has a plain name");
    let epoch_0 = host.start_with(0, &host.config("v0"), &["--log-path", path]);
    host.wait_live_of(0, &epoch_0);
    fs::rename(&log, host.dir().join("rotated.log")).expect("it is written");
    assert!(!log.exists());
    epoch_0.signal(Signal::USR1);
    eventually(LIMIT, "a new log file", || log.exists().then_some(()));
    assert!(epoch_0.is_running());
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
}
