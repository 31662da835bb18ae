//! Facts 1 and 2: the flag that a failed epoch leaves behind, and how it is repaired.

use handover_test_support::bare_envoy::{BareEnvoy, Epoch, word};
use handover_test_support::envoy_config::Break;

use crate::subject::Subject;
use crate::world::{INITIALIZING, SilentSource, broken, initializing, small_load, taken_port};

/// All there is on standard error, once the flag stops an epoch.
const STUCK: &str = "previous envoy process is still initializing";

/// The shared memory has 104 bytes: a size, a version, two mutexes and the flags.
pub(crate) fn the_layout_of_the_shared_memory(subject: &Subject) {
    let host = subject.host();
    let _epoch_0 = host.live(0);
    let memory = host.memory();
    assert_eq!(memory.len(), 104);
    assert_eq!(word(&memory, 0), Some(104), "its size");
    assert_eq!(word(&memory, 8), Some(11), "the version of its layout");
    assert_eq!(word(&memory, 96), Some(0), "its flags");
}

/// An epoch sets the flag as it begins, and clears it once it is live.
pub(crate) fn the_flag_is_set_while_an_epoch_initializes(subject: &Subject) {
    let host = subject.host();
    let _epoch_0 = host.live(0);
    let source = SilentSource::new();
    let mut waiting = initializing(&host, 1, &source);
    assert_eq!(host.flags(), Some(INITIALIZING));
    waiting.kill();
    assert_eq!(host.flags(), Some(INITIALIZING), "a dead epoch leaves it");
    host.write_flags(0);
    let _epoch_1 = host.live(1);
    assert_eq!(host.flags(), Some(0));
}

/// Epoch 1 failed by an error of YAML; each further try exits with 1 and the bare text.
pub(crate) fn a_failed_epoch_blocks_every_later_try(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let load = small_load(host.web());
    let mut bad = host.start(1, &broken(&host, Break::YamlError));
    bad.wait().assert_exit(1, "");
    assert_eq!(host.flags(), Some(INITIALIZING));
    for _ in 0..2 {
        assert_is_stuck(&mut host.start(1, &host.config("v1")));
    }
    assert!(epoch_0.is_running());
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    load.stop_blocking().assert_no_loss();
}

/// Six kinds of failure, each repaired by storing 0. Nothing is lost, and the hand-over then is a usual one.
pub(crate) fn a_cleared_flag_lets_the_same_epoch_go_live(subject: &Subject) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    let load = small_load(host.web());
    let (_holder, taken) = taken_port();
    for kind in [
        Break::YamlError,
        Break::UnknownField,
        Break::MissingCertificate,
        Break::PortConflict(taken),
        Break::AdminPortTaken(taken),
    ] {
        load.mark(format!("{kind:?}"));
        let mut bad = host.start(1, &broken(&host, kind));
        bad.wait().assert_exit(1, "");
        repair(&host, &format!("{kind:?}"));
    }
    load.mark("killed with the flag set");
    let mut killed = host.start(1, &host.config("killed"));
    // The window is some milliseconds wide. A look every 10 ms may come too late, and then the killed epoch
    // had taken over: so the epoch is kept in the window.
    killed.kill();
    let source = SilentSource::new();
    killed = initializing(&host, 1, &source);
    killed.kill();
    repair(&host, "killed");
    load.mark("repaired");
    let mut epoch_1 = host.live(1);
    epoch_0.wait().assert_exit(0, "");
    load.mark("the next epoch");
    let _epoch_2 = host.live(2);
    epoch_1.wait().assert_exit(0, "");
    assert_eq!(host.served_by().ok().as_deref(), Some("v2"));
    load.stop_blocking().assert_no_loss();
}

/// A third epoch beside one that initialises exits like one that finds a stuck flag; the others live on.
pub(crate) fn an_epoch_that_initializes_blocks_the_next(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let load = small_load(host.web());
    let source = SilentSource::new();
    let epoch_1 = initializing(&host, 1, &source);
    assert_is_stuck(&mut host.start(2, &host.config("v2")));
    assert!(epoch_0.is_running() && epoch_1.is_running());
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    load.stop_blocking().assert_no_loss();
}

/// A kill before the epoch has begun to initialise leaves nothing to repair.
pub(crate) fn a_kill_right_after_the_spawn_is_harmless(subject: &Subject) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    let load = small_load(host.web());
    host.start(1, &host.config("killed")).kill();
    assert_eq!(host.flags(), Some(0));
    let _epoch_1 = host.live(1);
    epoch_0.wait().assert_exit(0, "");
    load.stop_blocking().assert_no_loss();
}

fn repair(host: &BareEnvoy, what: &str) {
    assert_eq!(host.flags(), Some(INITIALIZING), "{what}");
    assert_is_stuck(&mut host.start(1, &host.config("v1")));
    host.write_flags(0);
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"), "{what}");
}

fn assert_is_stuck(epoch: &mut Epoch) {
    let ended = epoch.wait();
    ended.assert_exit(1, STUCK);
    let lines = epoch.process().log().lines();
    let said: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(said.last(), Some(&STUCK), "without a prefix\n{}", ended.log);
    // It is not one that was ended in another way, and there was no time to serve.
    assert!(!epoch.has_said("starting main dispatch loop"));
}
