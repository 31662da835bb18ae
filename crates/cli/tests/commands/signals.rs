//! What each signal does.

use rustix::process::Signal;

use crate::client::{Pending, get};
use crate::support::{
    Running, eventually, exec_deaf, exec_script, exec_server, finish, handover,
    with_every_signal_blocked,
};

#[test]
fn the_first_one_lets_requests_finish() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut handover = exec_server(&[], &[]);
        let address = handover.address();
        handover.says("epoch 0 is live");
        let slow = Pending::send(address, "/slow").unwrap();
        eventually("an answer", || get(address, "/").ok());
        handover.signal(signal);
        assert_eq!(slow.answer().unwrap().epoch, 0);
        assert_eq!(handover.code(), 0);
    }
}

#[test]
fn the_second_one_stops_without_a_drain() {
    let flags = ["--drain-time", "1h", "--abort-grace", "50ms"];
    let mut handover = exec_deaf(&flags);
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    handover.says("received SIGTERM: draining");
    handover.signal_again(Signal::TERM);
    handover.says("received SIGTERM: stopping without a drain");
    assert_eq!(handover.code(), 75);
    let last = handover.stderr.all().pop().unwrap();
    assert!(
        last.ends_with("the drain was cut, because a further SIGTERM asked for it"),
        "{last}"
    );
}

#[test]
fn the_third_one_kills() {
    let flags = ["--drain-time", "1h", "--abort-grace", "1h"];
    let mut handover = exec_deaf(&flags);
    handover.says("epoch 0 is live");
    for what in ["draining", "stopping", "killing"] {
        handover.signal_again(Signal::INT);
        handover.says(what);
    }
    assert_eq!(handover.code(), 128 + 2);
}

/// As `timeout` does it: to the process, and then to its group. Equal signals would be one for the kernel.
#[test]
fn a_signal_that_a_wrapper_passes_on_as_well_counts_once() {
    let script = "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.02; done";
    let mut handover = exec_script(&["--live-after", "10ms"], script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    handover.signal(Signal::INT);
    handover.says("within 500ms of the signal before: both count as one");
    assert_eq!(handover.code(), 0);
}

#[test]
fn a_drain_that_takes_too_long_is_cut() {
    let flags = ["--drain-time", "50ms", "--abort-grace", "50ms"];
    let mut handover = exec_deaf(&flags);
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 75);
    let last = handover.stderr.all().pop().unwrap();
    assert!(
        last.ends_with("was not done in time and was cut; --drain-time sets its time"),
        "{last}"
    );
}

/// It has had the sockets since its start, so it may have clients, live or not.
#[test]
fn an_epoch_that_is_not_live_yet_has_the_time_of_a_drain_and_no_more() {
    let flags = ["--live-after", "1h", "--drain-time", "100ms"];
    let script = "trap '' TERM; echo up; while :; do sleep 0.02; done";
    let mut handover = exec_script(&flags, script);
    handover.stdout.wait_for("[epoch 0] up");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 75);
    assert_eq!(handover.stderr.count("epoch 0 is live"), 0);
}

#[test]
fn hup_leads_to_the_next_epoch_although_nothing_has_changed() {
    let handover = exec_script(&["--live-after", "10ms"], "exec sleep 100");
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    // Ended by the signal, as it was told to.
    handover.says("epoch 0 ended cleanly");
    assert_eq!(handover.stderr.count("failed"), 0);
}

#[test]
fn usr1_is_passed_on_to_every_epoch() {
    let script = "trap 'echo opened again' USR1; trap '' TERM; while :; do sleep 0.02; done";
    let flags = ["--live-after", "10ms", "--drain-time", "1h"];
    let handover = exec_script(&flags, script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    handover.signal(Signal::USR1);
    handover.stdout.wait_for("[epoch 0] opened again");
    handover.stdout.wait_for("[epoch 1] opened again");
}

#[test]
fn another_stop_signal_is_used_where_one_is_named() {
    let script = "trap 'echo finishing; exit 0' QUIT; while :; do sleep 0.02; done";
    let flags = ["--live-after", "10ms", "--stop-signal", "QUIT"];
    let mut handover = exec_script(&flags, script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    handover.stdout.wait_for("[epoch 0] finishing");
}

/// Sends signals by their numbers, of which some have no name.
fn kill(handover: &Running, numbers: impl IntoIterator<Item = u32>) {
    let pid = handover.pid();
    let commands = numbers
        .into_iter()
        .map(|number| format!("kill -{number} {pid}"));
    let script = commands.collect::<Vec<_>>().join(" && ");
    let output = finish(std::process::Command::new("sh").args(["-c", &script]));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn no_signal_without_a_meaning_ends_it() {
    let mut handover = exec_server(&[], &[]);
    let address = handover.address();
    handover.says("epoch 0 is live");
    // STKFLT, XCPU, XFSZ, VTALRM, PROF, IO, PWR and ALRM, and all real-time signals. The C library
    // hides the first two of those.
    for _ in 0..3 {
        kill(
            &handover,
            [14, 16, 24, 25, 26, 27, 29, 30].into_iter().chain(32..=64),
        );
    }
    // What does nothing by default still does nothing.
    kill(&handover, [17, 18, 23, 28, 13]);
    assert_eq!(get(address, "/").unwrap().epoch, 0);
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    assert_eq!(handover.stderr.count("failed"), 0);
}

#[test]
fn a_signal_that_tells_of_a_fault_ends_it() {
    let mut handover = exec_script(&["--live-after", "10ms"], "exec sleep 100");
    handover.says("epoch 0 is live");
    handover.signal(Signal::ABORT);
    assert_eq!(handover.code(), 128 + 6);
}

#[test]
fn usr2_is_no_end_where_nothing_can_be_drained_on_request() {
    let mut handover = exec_server(&[], &[]);
    let address = handover.address();
    handover.says("epoch 0 is live");
    handover.signal(Signal::USR2);
    handover.says("WARN  the drain failed: drain is not for exec");
    assert_eq!(get(address, "/").unwrap().epoch, 0);
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn signals_that_the_parent_has_blocked_are_heard() {
    let words = [
        "exec",
        "--live-after",
        "10ms",
        "--",
        "sh",
        "-c",
        "grep SigBlk /proc/self/status; exec sleep 100",
    ];
    let mut handover = Running::start(with_every_signal_blocked(&mut handover(words)));
    handover.says("epoch 0 is live");
    handover
        .stdout
        .wait_for("[epoch 0] SigBlk:\t0000000000000000");
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn a_client_with_blocked_signals_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("silent.sock");
    let silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let words = ["status", "--socket", socket.to_str().unwrap()];
    let mut client = Running::start(with_every_signal_blocked(&mut handover(words)));
    let _asked = silent.accept().unwrap();
    client.signal(Signal::INT);
    assert_eq!(client.code(), 128 + 2);
}

#[test]
fn signals_that_the_parent_ignores_are_taken_all_the_same() {
    let binary = env!("CARGO_BIN_EXE_handover");
    let script = format!(
        "trap '' TERM INT QUIT HUP USR1 USR2 ALRM; exec {binary} exec --socket none \
         --live-after 10ms -- sh -c 'grep SigIgn /proc/self/status; exec sleep 100'"
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]);
    let mut handover = Running::start(&mut command);
    handover.says("epoch 0 is live");
    handover
        .stdout
        .wait_for("[epoch 0] SigIgn:\t0000000000000000");
    // As under nohup: to a supervisor, this signal is a request.
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}
