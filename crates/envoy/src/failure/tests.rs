//! The outputs are those of real runs of Envoy 1.40.0, shortened only where they repeat themselves.

use super::*;

fn exit(code: i32) -> ExitStatus {
    ExitStatus::from_raw(code << 8)
}

fn signal(number: i32) -> ExitStatus {
    ExitStatus::from_raw(number)
}

/// Each case: a name, the exit, standard error.
fn cases() -> Vec<(&'static str, ExitStatus, &'static str)> {
    vec![
        ("port in use", exit(1), "\
[2026-11-22 15:35:29.280][6271][error][config] [source/common/listener_manager/listener_manager_impl.cc:1405] listener 'a' failed to bind or apply socket options: cannot bind '127.0.0.1:19930': Address already in use
[2026-11-22 15:35:29.280][6271][critical][main] [source/server/server.cc:449] error `cannot bind '127.0.0.1:19930': Address already in use` initializing config 'goo.gle/debugstr    \n  portconf.yaml'
cannot bind '127.0.0.1:19930': Address already in use
"),
        ("address absent", exit(1), "\
[2026-11-22 15:35:29.659][6310][critical][main] [source/server/server.cc:449] error `cannot bind '192.0.2.1:19944': Cannot assign requested address` initializing config 'goo.gle/debugstr    \n  noaddr.yaml'
cannot bind '192.0.2.1:19944': Cannot assign requested address
"),
        ("broken yaml", exit(1), "\
[2026-11-22 15:35:29.376][6282][info][main] [source/server/server.cc:989] runtime: {}
[2026-11-22 15:35:29.376][6282][critical][main] [source/server/server.cc:449] error `yaml-cpp: error at line 2, column 1: end of sequence flow not found` initializing config 'goo.gle/debugstr  \n  broken.yaml'
yaml-cpp: error at line 2, column 1: end of sequence flow not found
"),
        ("unknown field", exit(1), "\
[2026-11-22 15:35:29.426][6287][critical][main] [source/server/server.cc:449] error `Protobuf message (type envoy.config.bootstrap.v3.Bootstrap reason INVALID_ARGUMENT: invalid JSON in   envoy.config.bootstrap.v3.Bootstrap @  static_resources:   message envoy.config.bootstrap.v3.Bootstrap.StaticResources,  near  1:34 (offset 33): no such  field: 'listenerz') has unknown fields` initializing config 'goo.gle/debugonly  \n  unknown.yaml'
Protobuf message (type envoy.config.bootstrap.v3.Bootstrap reason INVALID_ARGUMENT: invalid JSON in   envoy.config.bootstrap.v3.Bootstrap @  static_resources:   message envoy.config.bootstrap.v3.Bootstrap.StaticResources,  near  1:34 (offset 33): no such  field: 'listenerz') has unknown fields
"),
        ("constraint", exit(1), "\
[2026-11-22 15:35:29.600][6304][critical][main] [source/server/server.cc:449] error `goo.gle/debugonly    \nadmin {\n  address {\n    socket_address {\n      address: \"127.0.0.1\"\n      port_value: 99999\n    }\n  }\n}
: Proto constraint validation failed (BootstrapValidationError.Admin: embedded message failed validation | caused by AdminValidationError.Address: embedded message failed validation | caused by AddressValidationError.SocketAddress: embedded message failed validation | caused by SocketAddressValidationError.PortValue: value must be less than or equal to 65535)` initializing config 'goo.gle/debugproto \n  bp.yaml'
"),
        ("missing certificate", exit(1), "\
[2026-11-22 15:35:29.487][6292][critical][main] [source/server/server.cc:449] error `Failed to load incomplete private key from path: /nonexist.key` initializing config 'goo.gle/debugproto    \n  cert.yaml'
Failed to load incomplete private key from path: /nonexist.key
"),
        ("missing file", exit(1), "\
[2026-11-22 15:35:29.542][6298][critical][main] [source/server/server.cc:449] error `Invalid path: missing.yaml` initializing config 'goo.gle/debugproto   \n  missing.yaml'
Invalid path: missing.yaml
"),
        ("shared memory absent", signal(6), "\
[2026-11-22 15:35:29.713][6316][critical][assert] [source/server/hot_restart_impl.cc:44] panic: cannot open shared memory region /envoy_shared_memory_430 check user permissions. Error: No such file or directory
[2026-11-22 15:35:29.713][6316][critical][backtrace] [./source/server/backtrace.h:173] Caught Aborted, suspect faulting address 0x18ac
[2026-11-22 15:35:29.720][6316][critical][backtrace] [./source/server/backtrace.h:167] #0: [0x7f448c3b6050]
"),
        ("base id taken", exit(1), "\
[2026-11-22 15:35:30.164][6331][debug][init] [source/common/init/watcher_impl.cc:31] init manager Server destroyed
unable to bind domain socket with base_id=440, id=0, errno=98 (see --base-id option)
"),
        ("still initializing", exit(1), "\
[2026-11-22 15:35:30.256][6341][debug][init] [source/common/init/watcher_impl.cc:31] init manager Server destroyed
previous envoy process is still initializing
"),
        ("bad flag", exit(1), "\
PARSE ERROR: Argument: --unknown
             Couldn't find match for argument

Brief USAGE: \n   envoy  [--stats-tag <string>] ...
"),
        ("bad value", exit(1), "error: unknown drain-strategy 'foo'\n"),
        ("other version", signal(6), "\
[2026-11-22 16:52:14.204][22829][critical][assert] [source/server/hot_restart_impl.cc:70] assert failure: shmem->version_ == HOT_RESTART_VERSION. Details: Hot restart version mismatch! You must have hot restarted into a not-hot-restart-compatible new version of Envoy.
[2026-11-22 16:52:14.204][22829][error][envoy_bug] [./source/common/common/assert.h:60] stacktrace for envoy bug
[2026-11-22 16:52:14.225][22829][error][envoy_bug] [./source/common/common/assert.h:66] #1 UNKNOWN [0x55f124aab8b0]
[2026-11-22 16:52:14.225][22829][critical][backtrace] [./source/server/backtrace.h:173] Caught Aborted, suspect faulting address 0x592d
"),
        ("other size", signal(6), "\
[2026-11-22 16:52:16.394][24738][critical][assert] [source/server/hot_restart_impl.cc:67] assert failure: shmem->size_ == sizeof(SharedMemory). Details: Hot restart SharedMemory size mismatch! You must have hot restarted into a not-hot-restart-compatible new version of Envoy.
[2026-11-22 16:52:16.394][24738][error][envoy_bug] [./source/common/common/assert.h:60] stacktrace for envoy bug
"),
        ("parent lost", signal(6), "\
[2026-11-22 16:51:48.366][1480][info][main] [source/server/drain_manager_impl.cc:226] shutting down parent after drain
[2026-11-22 16:51:48.366][1480][error][main] [source/server/hot_restarting_base.cc:136] hot restart sendmsg() connection refused, retrying
[2026-11-22 16:51:57.972][1480][error][main] [source/server/hot_restarting_base.cc:136] hot restart sendmsg() connection refused, retrying
[2026-11-22 16:51:58.987][1480][critical][assert] [source/server/hot_restarting_base.cc:147] assert failure: false. Details: hot restart sendmsg() failed: returned -1, errno 111
[2026-11-22 16:51:58.987][1480][error][envoy_bug] [./source/common/common/assert.h:60] stacktrace for envoy bug
[2026-11-22 16:51:58.998][1480][error][envoy_bug] [./source/common/common/assert.h:66] #7 UNKNOWN [0x7f323b82524a]
[2026-11-22 16:51:58.998][1480][critical][backtrace] [./source/server/backtrace.h:173] Caught Aborted, suspect faulting address 0x5c8
"),
        ("parent lost and found, then crashed", signal(11), "\
[2026-11-22 16:51:48.366][1480][error][main] [source/server/hot_restarting_base.cc:136] hot restart sendmsg() connection refused, retrying
[2026-11-22 16:52:20.667][1480][critical][backtrace] [./source/server/backtrace.h:173] Caught Segmentation fault, suspect faulting address 0x76e0
[2026-11-22 16:52:20.667][1480][critical][backtrace] [./source/server/backtrace.h:157] Backtrace (use tools/stack_decode.py to get line numbers):
[2026-11-22 16:52:20.695][1480][critical][backtrace] [./source/server/backtrace.h:167] #0: [0x7f5ac008e050]
"),
        ("allocator out of memory", signal(6), "\
28870 external/tcmalloc+/tcmalloc/internal/system_allocator.h:585] MmapAligned() failed - unable to allocate with tag (hint=0xe5780000000, size=1073741824, alignment=1073741824) - is something limiting address placement?
28870 external/tcmalloc+/tcmalloc/arena.cc:59] CHECK in Alloc: FATAL ERROR: Out of memory trying to allocate internal tcmalloc data (bytes=131072, object-size=16384); is something preventing mmap from succeeding (sandbox, VSS limitations)?
"),
        ("handed over", exit(0), "\
[2026-11-22 16:51:41.473][30466][warning][main] [source/server/server.cc:1174] shutting down admin due to child startup
[2026-11-22 16:51:44.521][30466][info][main] [source/server/hot_restarting_parent.cc:135] shutting down due to child request
[2026-11-22 16:51:44.522][30466][warning][main] [source/server/server.cc:1028] caught ENVOY_SIGTERM
[2026-11-22 16:51:44.522][30466][info][main] [source/server/server.cc:1159] exiting
"),
        ("killed after an old complaint", signal(9), "[2026-11-22 15:35:29.280][6271][warning][config] [source/x.cc:1405] cannot bind '127.0.0.1:19930': Address already in use\n"),
        ("segmentation fault", signal(11), ""),
        ("core dump", signal(6 | 0x80), "[2026-11-22 15:35:29.713][6316][critical][assert] [source/x.cc:44] assert failure: false.\n[2026-11-22 15:35:29.713][6316][critical][backtrace] [b.h:1] #0: x\n"),
        ("killed", signal(9), "[2026-11-22 15:35:29.713][6316][info][main] [source/x.cc:44] all is well\n"),
        ("terminated", signal(15), ""),
        ("unknown", exit(3), "[2026-11-22 15:35:29.713][6316][critical][main] [source/x.cc:44] something new\n\n"),
        ("silent", exit(2), ""),
        ("clean", exit(0), "previous envoy process is still initializing\n"),
    ]
}

#[test]
fn every_end_has_its_sentence() {
    let table: Vec<_> = cases()
        .into_iter()
        .map(|(name, status, stderr)| {
            let failure = Failure::classify(status, stderr, false);
            let permanent = if failure.is_permanent() {
                "permanent"
            } else {
                "transient"
            };
            format!("{name} ({}, {permanent}): {failure}", failure.label())
        })
        .collect();
    insta::assert_snapshot!("sentences", table.join("\n"));
}

#[test]
fn a_conflict_is_taken_apart() {
    let stderr =
        "unable to bind domain socket with base_id=440, id=2, errno=98 (see --base-id option)";
    assert_eq!(
        Failure::classify(exit(1), stderr, false),
        Failure::BaseIdConflict {
            base_id: Some(44),
            slot: Some(2)
        }
    );
    let in_use = Failure::classify(
        exit(1),
        "cannot bind '[::1]:80': Address already in use",
        false,
    );
    assert!(matches!(in_use, Failure::CannotBind { in_use: true, .. }));
    let absent = Failure::classify(exit(1), "cannot bind '/a/b.sock': Permission denied", false);
    assert!(matches!(absent, Failure::CannotBind { in_use: false, .. }));
}

#[test]
fn what_the_agent_asked_for_is_an_abort_and_a_crash_on_the_way_stays_one() {
    let asked = |status, stderr| {
        Failure::classify(status, stderr, false)
            .when_asked()
            .label()
    };
    assert_eq!(asked(exit(0), ""), "aborted");
    assert_eq!(asked(signal(9), ""), "aborted");
    assert_eq!(asked(signal(15), "x"), "aborted");
    assert_eq!(asked(signal(11), ""), "crashed");
    assert_eq!(asked(exit(3), ""), "exited");
    let memory = Failure::classify(signal(9), "", true).when_asked();
    assert_eq!(memory.label(), "out_of_memory");
    assert!(Failure::Aborted.is_expected() && Failure::HandedOver.is_expected());
    assert!(!memory.is_expected());
}

#[test]
fn a_known_kill_for_memory_comes_before_all_words() {
    let failure = Failure::classify(
        signal(9),
        "previous envoy process is still initializing",
        true,
    );
    assert_eq!(failure, Failure::OutOfMemory);
}

proptest::proptest! {
    #[test]
    fn no_output_makes_it_panic(
        words in "(error `|` initializing config '|: |error initializing configuration '|Proto constraint validation failed \\(|cannot bind '|'|unable to bind domain socket with base_id=|99999999999|PARSE ERROR:|\n|\n\n|\\[|\\]|ä|x){0,30}",
        raw in proptest::prelude::any::<i32>(),
    ) {
        let shown = Failure::classify(ExitStatus::from_raw(raw), &words, false).to_string();
        proptest::prop_assert!(!shown.contains('\n'), "{}", shown);
    }
}

#[test]
fn a_bus_error_is_one_of_shared_memory_only_where_that_is_full() {
    let said = "[critical][backtrace] [./source/server/backtrace.h:173] Caught Bus error, suspect faulting address 0x7f";
    let crashed = Failure::classify(signal(7), said, false);
    assert!(crashed.is_bus_error());
    assert_eq!(crashed.label(), "crashed");
    let full = crashed.with_full_shared_memory("/dev/shm/envoy_shared_memory_0".as_ref());
    assert_eq!(full.label(), "shared_memory");
    assert!(
        !full.is_permanent() && full.to_string().contains("--shm-size"),
        "{full}"
    );
    let other = Failure::classify(signal(11), "", false);
    let kept = other.clone().with_full_shared_memory("/dev/shm/x".as_ref());
    assert_eq!(kept, other);
}
