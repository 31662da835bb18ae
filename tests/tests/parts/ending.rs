//! Real ends, and what they are taken for.

use std::net::TcpListener;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use handover_envoy::args::{ArgsOptions, EnvoyArgs};
use handover_envoy::failure::Failure;
use handover_envoy::hot_restart::SharedMemory;
use handover_test_support::require_envoy;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

use crate::support::{Epoch, Host};

fn failure(epoch: &mut Epoch) -> Failure {
    let status = epoch.wait();
    Failure::classify(status, &epoch.stderr(), false)
}

#[tokio::test]
async fn the_reasons_of_failed_starts_are_recognised() {
    let binary = require_envoy!();
    let host = Host::new(binary);

    host.write(0, "static_resources: {listenerz: []}");
    let rejected = failure(&mut host.start(0));
    assert!(
        matches!(&rejected, Failure::ConfigurationRejected { message } if message.contains("'listenerz'")),
        "{rejected}"
    );

    let taken = TcpListener::bind(host.web).unwrap();
    host.write(0, &host.config(host.web));
    assert_eq!(
        failure(&mut host.start(0)).to_string(),
        format!("cannot listen on {}: Address already in use", host.web)
    );
    drop(taken);

    host.write(0, &host.config(host.web));
    let id = host.base_id.id();
    let unknown = [
        host.args.serve("x".as_ref(), 0, id),
        vec!["--nonsense".into()],
    ]
    .concat();
    let refused = failure(&mut Epoch::spawn(&host.binary, &unknown));
    assert!(
        matches!(refused, Failure::ArgumentsRejected { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn the_reasons_of_failed_hand_overs_are_recognised() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    host.write(1, &host.config(host.web));
    let absent = failure(&mut host.start(1));
    assert!(matches!(absent, Failure::SharedMemory { .. }), "{absent}");

    let mut first = host.start_live(0).await;
    let conflict = failure(&mut host.start(0));
    let expected = Failure::BaseIdConflict {
        base_id: Some(host.base_id.id().get()),
        slot: Some(0),
    };
    assert_eq!(conflict, expected);

    let status = first.kill();
    let killed = Failure::classify(status, &first.stderr(), false);
    assert_eq!(killed, Failure::Killed { signal: 9 });
}

#[tokio::test]
async fn a_hand_over_is_told_from_other_clean_ends() {
    let binary = require_envoy!();
    let mut host = Host::new(binary);
    // Envoy tells of it at the level `info`.
    host.args = EnvoyArgs::new(ArgsOptions {
        drain_time: Duration::from_secs(1),
        parent_shutdown_time: Duration::from_secs(2),
        concurrency: NonZeroU32::new(2),
        ..ArgsOptions::default()
    })
    .unwrap();
    let mut first = host.start_live(0).await;
    let mut second = host.start_live(1).await;
    assert_eq!(failure(&mut first), Failure::HandedOver);

    signal(&second, Signal::TERM);
    assert_eq!(failure(&mut second), Failure::Clean);
}

#[tokio::test]
async fn another_hot_restart_protocol_is_recognised() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let _first = host.start_live(0).await;
    let memory = SharedMemory::new(host.base_id.id());
    let file = std::fs::File::options()
        .write(true)
        .open(memory.path())
        .unwrap();
    host.write(1, &host.config(host.web));
    // The version of the layout, and then its size, as an Envoy of tomorrow may have them.
    for (field, known) in [(8, 11_u64), (0, 104)] {
        file.write_all_at(&(known + 1).to_ne_bytes(), field)
            .unwrap();
        let other = failure(&mut host.start(1));
        assert!(matches!(other, Failure::VersionMismatch { .. }), "{other}");
        file.write_all_at(&known.to_ne_bytes(), field).unwrap();
    }
    host.get().unwrap();
}

#[tokio::test]
async fn a_lost_parent_is_recognised() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    host.start_live(0).await.kill();
    // Its shared memory is there, but nobody answers: the next one asks ten times, once a second.
    host.write(1, &host.config(host.web));
    let lost = failure(&mut host.start(1));
    assert!(matches!(lost, Failure::ParentLost { .. }), "{lost}");
}

#[tokio::test]
async fn a_crash_names_its_signal_and_what_caught_it() {
    let binary = require_envoy!();
    // No core file is to be left in the working directory.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).unwrap();
    let host = Host::new(binary);
    let mut epoch = host.start_live(0).await;
    signal(&epoch, Signal::SEGV);
    let crashed = failure(&mut epoch);
    let Failure::Crashed {
        signal: 11,
        message,
        ..
    } = &crashed
    else {
        panic!("{crashed}");
    };
    assert!(
        message.starts_with("Caught Segmentation fault"),
        "{message}"
    );
}

fn signal(epoch: &Epoch, signal: Signal) {
    let pid = Pid::from_raw(epoch.pid().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
