//! The rows of the table of failures that are about numbers, shared memory and stopped processes.

use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use handover_test_support::bare_envoy::LIMIT;
use handover_test_support::http;
use handover_test_support::limit::{eventually, poll};
use handover_test_support::stranger::Stranger;
use handover_test_support::supervisor::Signal;

use crate::subject::Subject;
use crate::world::{NO_ANSWER, small_load, stays};

/// A second process with the number of a running epoch exits with 1, because the socket is taken. So does one
/// with the same number modulo three. The running epoch is not harmed.
pub(crate) fn a_duplicate_of_a_running_epoch_is_refused(subject: &Subject) {
    let host = subject.host().with_flag("--parent-shutdown-time-s", "100");
    let (epoch_0, epoch_1) = (host.live(0), host.live(1));
    host.wait_served_by("v1");
    let load = small_load(host.web());
    for epoch in [0, 1, 3, 4] {
        let config = host.config("duplicate");
        let mut duplicate = host.start(epoch, &config);
        // Ten times the base id, and the number as it was given.
        let base_id = host.base_id() * 10;
        let text = format!(
            "unable to bind domain socket with base_id={base_id}, id={epoch}, errno=98 (see --base-id option)"
        );
        duplicate.wait().assert_exit(1, &text);
    }
    assert!(epoch_0.is_running() && epoch_1.is_running());
    assert_eq!(host.flags(), Some(0));
    assert_eq!(host.served_by().ok().as_deref(), Some("v1"));
    load.stop_blocking().assert_no_loss();
}

/// The system may give it no thread, as with a limit of processes.
pub(crate) fn an_epoch_that_gets_no_thread_aborts(subject: &Subject) {
    let host = subject.host();
    let test = "failures::an_epoch_that_gets_no_thread_aborts";
    let Some(stranger) = Stranger::new(test, &[&subject.binary]) else {
        return;
    };
    let words = host.arguments(0, &host.config("v0"));
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(host.dir(), all).expect("the directory is ours");
    let mut as_stranger = stranger.flags();
    as_stranger.extend(["prlimit", "--nproc=1"]);
    let launch = host.launch().args(words).by("setpriv", &as_stranger);
    let mut epoch = host.start_as(launch);
    let text = "assert failure: false. Details: Unable to create a thread with return code: 11";
    epoch.wait().assert_signal(Signal::ABORT, text);
}

/// A later epoch without shared memory aborts, whether or not it may do without a parent.
pub(crate) fn a_later_epoch_without_shared_memory_aborts(subject: &Subject) {
    let host = subject.host();
    for words in [&[][..], &["--skip-hot-restart-on-no-parent"]] {
        let mut epoch = host.start_with(1, &host.config("v1"), words);
        let text = "cannot open shared memory region";
        epoch.wait().assert_signal(Signal::ABORT, text);
        assert!(!host.shared_memory().exists());
    }
}

/// With the shared memory of an Envoy that is gone, a later epoch hangs and aborts after ten seconds.
pub(crate) fn a_later_epoch_without_a_parent_hangs_and_aborts(subject: &Subject) {
    let host = subject.host();
    host.live(0).kill();
    let mut epoch = host.start(1, &host.config("v1"));
    thread::sleep(subject.seconds(5.0));
    assert!(epoch.is_running(), "it hangs");
    assert!(host.is_admin_refused() && host.is_refused());
    epoch.wait().assert_signal(Signal::ABORT, "");
}

/// A flag makes it begin anew instead, and the next epoch takes over from it.
pub(crate) fn a_later_epoch_may_begin_without_a_parent(subject: &Subject) {
    let host = subject.host();
    host.live(0).kill();
    let words = ["--skip-hot-restart-on-no-parent"];
    let mut epoch_1 = host.start_with(1, &host.config("v1"), &words);
    host.wait_live_of(1, &epoch_1);
    assert!(epoch_1.has_said("falling back to regular restart"));
    let load = small_load(host.web());
    let _epoch_2 = host.live(2);
    epoch_1.wait().assert_exit(0, "");
    load.stop_blocking().assert_no_loss();
}

/// An epoch 0 starts beside a later epoch of the same base id if its number modulo three is free. Then it makes
/// the shared memory anew, and both serve.
pub(crate) fn epoch_0_starts_beside_a_later_epoch_of_its_base_id(subject: &Subject) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    let epoch_1 = host.live(1);
    epoch_0.wait().assert_exit(0, "");
    // Only a new file has no such flag.
    host.write_flags(2);
    let other = subject.host();
    let stranger = other.config("stranger").listening_on(host.web().port());
    let second = host.start(0, &stranger);
    other.wait_live_of(0, &second);
    assert_eq!(host.flags(), Some(0));
    assert!(epoch_1.is_running());
    host.wait_served_by("stranger");
    host.wait_served_by("v1");
}

/// Envoy never removes its shared memory. Epoch 0 takes no notice of what a dead one has left.
pub(crate) fn epoch_0_replaces_stale_shared_memory(subject: &Subject) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    epoch_0.kill();
    assert!(host.shared_memory().exists());
    host.write_flags(1);
    let mut again = host.live(0);
    assert_eq!(host.flags(), Some(0));
    again.signal(Signal::TERM);
    again.wait().assert_exit(0, "");
    assert!(host.shared_memory().exists());
}

/// A parent of an unknown version is found out; the child aborts, the parent serves on.
pub(crate) fn shared_memory_of_another_version_aborts_the_child(subject: &Subject) {
    mismatch(subject, 8, 12, "Hot restart version mismatch!");
}

/// So is one with shared memory of another size.
pub(crate) fn shared_memory_of_another_size_aborts_the_child(subject: &Subject) {
    mismatch(subject, 0, 112, "SharedMemory size mismatch!");
}

fn mismatch(subject: &Subject, offset: usize, value: u64, text: &str) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let load = small_load(host.web());
    host.write_memory(offset, &value.to_ne_bytes());
    let mut epoch_1 = host.start(1, &host.config("v1"));
    epoch_1.wait().assert_signal(Signal::ABORT, text);
    assert!(epoch_0.is_running());
    host.wait_live(0);
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    load.stop_blocking().assert_no_loss();
}

/// A stopped epoch takes connections and answers nothing, nor does its admin endpoint. A child that is started
/// meanwhile waits, and goes on once the parent does.
pub(crate) fn a_stopped_epoch_takes_connections_and_holds_its_child_up(subject: &Subject) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    epoch_0.signal(Signal::STOP);
    assert!(!host.is_refused() && !host.is_admin_refused());
    for addr in [host.web(), host.admin_addr()] {
        assert!(http::get(addr, "/", NO_ANSWER).is_err(), "{addr} answers");
    }
    let epoch_1 = host.start(1, &host.config("v1"));
    host.wait_flags(1);
    stays("it waits", || {
        epoch_1.is_running() && host.flags() == Some(1)
    });
    epoch_0.signal(Signal::CONT);
    host.wait_live_of(1, &epoch_1);
    epoch_0.wait().assert_exit(0, "");
    assert_eq!(host.served_by().ok().as_deref(), Some("v1"));
}

/// A child whose old epoch is stopped hangs from the next merge of the statistics on, until the old one goes
/// on. Its traffic does not.
pub(crate) fn a_stopped_old_epoch_hangs_the_admin_endpoint_of_its_child(subject: &Subject) {
    let host = subject.host().with_flag("--parent-shutdown-time-s", "100");
    let old = host.live(0);
    let new = host.live(1);
    host.wait_served_by("v1");
    old.signal(Signal::STOP);
    let load = small_load(host.web());
    let answers = || http::get(host.admin_addr(), "/server_info", NO_ANSWER).is_ok();
    eventually(LIMIT, "a frozen main thread", || (!answers()).then_some(()));
    old.signal(Signal::CONT);
    eventually(LIMIT, "an answer", || answers().then_some(()));
    assert!(old.is_running() && new.is_running());
    load.stop_blocking().assert_no_loss();
}

/// Once the old epoch was told to end, it may be killed: its child lives on, and its admin endpoint answers.
pub(crate) fn an_old_epoch_may_be_killed_after_it_was_told_to_end(subject: &Subject) {
    let host = subject.host();
    let mut old = host.live(0);
    let new = host.live(1);
    old.signal(Signal::STOP);
    // The order comes after two seconds, and waits in the socket of the stopped process.
    thread::sleep(subject.seconds(3.0));
    host.wait_live(1);
    old.kill();
    let load = small_load(host.web());
    let ended = poll(subject.seconds(6.0), || (!new.is_running()).then_some(()));
    assert!(ended.is_none(), "the child ends with it");
    host.wait_live(1);
    load.stop_blocking().assert_no_loss();
}
