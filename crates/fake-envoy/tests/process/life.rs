//! What the real Envoy was measured to do, done by the fake.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::{Launch, Signal};

use crate::world::{FAKE, LIMIT, World};

const ABORT: Option<i32> = Some(6);

#[test]
fn a_killed_epoch_leaves_the_flag_and_a_cleared_one_lets_the_same_epoch_start() {
    let world = World::new();
    let mut first = world.live(0, "");
    let mut killed = world.start(1, "--fake-fault kill@flag_set");
    assert_eq!(killed.wait_exit(LIMIT).signal(), Some(9));
    assert!(world.flag());
    let mut refused = world.start(1, "");
    assert_eq!(refused.wait_exit(LIMIT).code(), Some(1));
    refused.wait_for_line("previous envoy process is still initializing", LIMIT);
    assert_eq!(world.served().as_deref(), Some("v0"));
    world.clear_flag();
    let mut second = world.live(1, "");
    assert!(!world.flag());
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    second.signal(Signal::TERM);
    assert_eq!(second.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn a_term_to_an_initialising_epoch_ends_its_parent_and_a_kill_does_not() {
    let world = World::new();
    let mut ends = Vec::new();
    let mut first = world.live(0, "");
    // Its handlers are not there before its listeners are, so an early signal ends it like a kill.
    for (step, signal) in [("listeners", Signal::KILL), ("config", Signal::TERM)] {
        let mut killed = world.start(1, &format!("--fake-fault stuck@{step}"));
        killed.wait_for_line("initializing epoch 1", LIMIT);
        if step == "listeners" {
            killed.wait_for_line("loading 1 listener(s)", LIMIT);
        }
        killed.signal(signal);
        assert_eq!(killed.wait_exit(LIMIT).signal(), Some(signal.as_raw()));
        assert!(first.is_running() && world.flag());
        world.clear_flag();
        ends.push(killed);
    }
    let mut ended = world.start(1, "--fake-fault stuck@listeners");
    eventually(LIMIT, "the endpoint of epoch 1", || {
        (world.endpoint().server_info()?.restart_epoch == 1).then_some(())
    });
    ended.wait_for_line("loading 1 listener(s)", LIMIT);
    ended.wait_for_line("all clusters initialized. initializing init manager", LIMIT);
    ended.signal(Signal::TERM);
    assert_eq!(ended.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn an_epoch_that_waits_for_its_source_holds_the_sockets_and_hears_signals() {
    let world = World::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut parent = world.live(0, "");
    let child = world.launch(FAKE, 1, "");
    // Its file is written by the launch, so it is replaced behind it.
    world
        .config("v1")
        .control_plane(silent.local_addr().unwrap())
        .write_to(&world.dir.path().join("v1.yaml"));
    let mut child = child.start();
    let info = eventually(LIMIT, "the endpoint of epoch 1", || {
        let info = world.endpoint().server_info()?;
        (info.restart_epoch == 1).then_some(info)
    });
    assert_eq!(info.state, "INITIALIZING");
    parent.signal(Signal::KILL);
    parent.wait_exit(LIMIT);
    TcpStream::connect(world.clients()).unwrap();
    // A TERM would let it try for ten seconds to end its parent.
    child.signal(Signal::USR1);
    child.wait_for_line("caught SIGUSR1", LIMIT);
    child.signal(Signal::KILL);
    child.wait_exit(LIMIT);
    world.finish();
}

#[test]
fn a_rotated_log_is_opened_again_by_a_signal_and_by_a_call() {
    let world = World::new();
    let log = world.dir.path().join("envoy.log");
    let epoch = world.launch(FAKE, 0, "").arg("--log-path").arg(&log);
    let mut epoch = epoch.start();
    world.endpoint().wait_live(0, LIMIT);
    let signal = || epoch.signal(Signal::USR1);
    let call = || {
        let page = http::post(world.admin(), "/reopen_logs", LIMIT).unwrap();
        assert_eq!(page.status, 200);
    };
    for reopen in [&signal as &dyn Fn(), &call] {
        std::fs::rename(&log, world.dir.path().join("rotated.log")).unwrap();
        reopen();
        eventually(LIMIT, "a new log file", || log.exists().then_some(()));
    }
    epoch.signal(Signal::TERM);
    assert_eq!(epoch.wait_exit(LIMIT).code(), Some(0));
    assert!(std::fs::read_to_string(&log).unwrap().contains("exiting"));
    world.finish();
}

#[test]
fn a_child_whose_parent_dies_early_aborts_and_serves_until_then() {
    let world = World::new();
    let first = world.live(0, "");
    let fast = "--fake-time-scale 0.2";
    // Its parent-shutdown time is 0.4 s, and it tries ten times, every 0.2 s.
    let mut second = world.live(1, fast);
    first.signal(Signal::KILL);
    second.wait_for_line("hot restart sendmsg() connection refused, retrying", LIMIT);
    assert_eq!(world.served().as_deref(), Some("v1"));
    assert_eq!(world.page("/ready"), None, "its main thread stands still");
    assert_eq!(second.wait_exit(LIMIT).signal(), ABORT);
    second.wait_for_line(
        "hot restart sendmsg() failed: returned -1, errno 111",
        LIMIT,
    );
    world.finish();
}

#[test]
fn without_a_parent_an_epoch_aborts_or_starts_alone() {
    let world = World::new();
    let mut missing = world.start(1, "");
    assert_eq!(missing.wait_exit(LIMIT).signal(), ABORT);
    missing.wait_for_line("cannot open shared memory region", LIMIT);
    let mut first = world.live(0, "");
    first.signal(Signal::KILL);
    first.wait_exit(LIMIT);
    let mut lonely = world.start(1, "--fake-time-scale 0.1");
    assert_eq!(lonely.wait_exit(LIMIT).signal(), ABORT);
    world.clear_flag();
    let alone = world
        .launch(FAKE, 1, "")
        .arg("--skip-hot-restart-on-no-parent");
    let mut alone = alone.start();
    world.endpoint().wait_live(1, LIMIT);
    alone.wait_for_line("falling back to regular restart", LIMIT);
    alone.signal(Signal::INT);
    assert_eq!(alone.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn a_second_epoch_of_the_same_place_is_refused_and_harms_nobody() {
    let world = World::new();
    let mut first = world.live(0, "");
    // Dropping one would end all processes of this world.
    let mut refused = [0, 3].map(|epoch| world.start(epoch, ""));
    for second in &mut refused {
        assert_eq!(second.wait_exit(LIMIT).code(), Some(1));
        second.wait_for_line("errno=98 (see --base-id option)", LIMIT);
    }
    assert_eq!(world.served().as_deref(), Some("v0"));
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn another_version_of_the_protocol_is_refused() {
    let world = World::new();
    let mut first = world.live(0, "--fake-hot-restart-version 11.112");
    let mut second = world.start(1, "");
    assert_eq!(second.wait_exit(LIMIT).signal(), ABORT);
    second.wait_for_line("SharedMemory size mismatch!", LIMIT);
    assert_eq!(world.served().as_deref(), Some("v0"));
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    let mut first = world.live(0, "--fake-hot-restart-version 12.104");
    let mut second = world.start(1, "");
    assert_eq!(second.wait_exit(LIMIT).signal(), ABORT);
    second.wait_for_line("Hot restart version mismatch!", LIMIT);
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn a_listener_that_cannot_be_bound_costs_the_parent_its_admin_endpoint_alone() {
    let world = World::new();
    let mut first = world.live(0, "");
    let other = handover_test_support::ports::Port::free();
    let _taken = TcpListener::bind(other.addr()).unwrap();
    let broken = world.write("broken");
    world
        .config("broken")
        .also_listen(other.number())
        .write_to(&broken);
    let second = world.launch(FAKE, 1, "");
    // Its file is written by the launch, so it is replaced behind it.
    world
        .config("broken")
        .also_listen(other.number())
        .write_to(&world.dir.path().join("v1.yaml"));
    let mut second = second.start();
    assert_eq!(second.wait_exit(LIMIT).code(), Some(1));
    let words = format!("cannot bind '{}': Address already in use", other.addr());
    second.wait_for_line(&words, LIMIT);
    assert_eq!(world.served().as_deref(), Some("v0"));
    assert_eq!(world.page("/ready"), None);
    world.clear_flag();
    let mut third = world.live(1, "");
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    third.signal(Signal::TERM);
    assert_eq!(third.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn listeners_close_by_a_drain_and_connections_by_failed_health_checks() {
    let world = World::new();
    let mut first = world.live(0, "");
    let mut kept = TcpStream::connect(world.clients()).unwrap();
    kept.set_read_timeout(Some(LIMIT)).unwrap();
    let mut ask = || {
        kept.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .unwrap();
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\nv0") && kept.read(&mut byte).unwrap() == 1 {
            text.push(byte[0]);
        }
        String::from_utf8(text)
            .unwrap()
            .contains("connection: close")
    };
    assert!(!ask());
    let post = |path| http::post(world.admin(), path, LIMIT).unwrap().status;
    assert_eq!(
        http::get(world.admin(), "/drain_listeners", LIMIT)
            .unwrap()
            .status,
        405
    );
    assert_eq!(post("/drain_listeners"), 200);
    eventually(LIMIT, "new connections to be refused", || {
        TcpStream::connect(world.clients()).is_err().then_some(())
    });
    assert!(!ask(), "open connections go on");
    assert_eq!(post("/healthcheck/fail"), 200);
    assert_eq!(world.page("/ready"), Some((503, "DRAINING\n".to_owned())));
    assert!(ask(), "the next answer closes");
    assert_eq!(kept.read(&mut [0]).unwrap(), 0, "the end of the stream");
    assert_eq!(post("/quitquitquit"), 200);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn a_graceful_drain_accepts_for_the_drain_time_or_for_ever() {
    let world = World::new();
    let mut first = world.live(0, "");
    let post = |path| http::post(world.admin(), path, LIMIT).unwrap().status;
    assert_eq!(post("/drain_listeners?graceful&skip_exit"), 200);
    assert!(world.served().is_some());
    let begin = Instant::now();
    assert_eq!(post("/drain_listeners?graceful"), 200);
    assert!(world.served().is_some());
    eventually(LIMIT, "new connections to be refused", || {
        TcpStream::connect(world.clients()).is_err().then_some(())
    });
    assert!(
        begin.elapsed() >= Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(world.page("/ready"), Some((200, "LIVE\n".to_owned())));
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn a_validation_touches_nothing() {
    let world = World::new();
    let mut first = world.live(0, "");
    for (name, code) in [("v0", 0), ("missing", 1)] {
        let file = world.dir.path().join(format!("{name}.yaml"));
        let mut validation = Launch::program(FAKE)
            .args(["--mode", "validate", "-c"])
            .arg(file)
            .start();
        assert_eq!(validation.wait_exit(LIMIT).code(), Some(code), "{name}");
    }
    assert!(!world.flag());
    assert_eq!(world.page("/ready"), Some((200, "LIVE\n".to_owned())));
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    world.finish();
}

#[test]
fn it_tells_its_versions_as_envoy_does() {
    let ask = |flag: &str, fake: &str| {
        let output = std::process::Command::new(FAKE)
            .arg(flag)
            .env(handover_fake_envoy::VARIABLE, fake)
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    let hot = ask("--hot-restart-version", "");
    assert_eq!(hot, (String::new(), "11.104".to_owned()));
    let hot = ask("--hot-restart-version", "--fake-hot-restart-version 11.103");
    assert_eq!(hot.1, "11.103");
    let (version, _) = ask("--version", "--fake-version 1.36.4");
    assert!(version.contains("  version: handover-fake-envoy/1.36.4/Clean/RELEASE/BoringSSL"));
}

#[test]
fn a_base_id_of_its_own_choice_is_written_down() {
    let world = World::new();
    let path = world.dir.path().join("base-id");
    let mut chosen = Launch::program(FAKE)
        .args([
            "--config-yaml",
            "{}",
            "--use-dynamic-base-id",
            "--base-id-path",
        ])
        .arg(&path)
        .start();
    let base_id = eventually(LIMIT, "the base id", || {
        let text = std::fs::read_to_string(&path).ok()?;
        text.parse::<u64>().ok()
    });
    chosen.wait_for_line("starting main dispatch loop", LIMIT);
    chosen.signal(Signal::HUP);
    chosen.signal(Signal::USR1);
    chosen.wait_for_line("caught SIGUSR1", LIMIT);
    chosen.signal(Signal::TERM);
    assert_eq!(chosen.wait_exit(LIMIT).code(), Some(0));
    std::fs::remove_file(format!("/dev/shm/envoy_shared_memory_{}", base_id * 10)).unwrap();
    world.finish();
}

/// Agents hand a low limit on when they are short of descriptors themselves.
#[test]
fn a_shortage_of_descriptors_ends_a_start_with_a_reason_and_no_panic() {
    let mut reasons = 0;
    for descriptors in 4..32 {
        let world = World::new();
        let limit = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let settings = "--fake-time-scale 0 --fake-fault exit=3@hand_over";
        let launch = world.launch(FAKE, 0, settings);
        let mut limited = launch.by("/bin/sh", &["-c", &limit]).start();
        let status = limited.wait_exit(LIMIT);
        let is_in_order = matches!(status.code(), Some(1 | 3)) || status.signal() == ABORT;
        assert!(is_in_order, "{descriptors} descriptors: {status}");
        reasons += limited.count_lines("Too many open files");
        world.finish();
    }
    assert!(reasons > 0, "each of them was enough");
}
