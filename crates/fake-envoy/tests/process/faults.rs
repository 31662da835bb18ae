//! Faults happen where they are asked for.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use handover_test_support::limit::eventually;
use handover_test_support::supervisor::{Signal, Supervisor};

use crate::world::{LIMIT, World};

const FAST: &str = "--fake-time-scale 0.1";

fn end(epoch: &mut Supervisor) {
    epoch.signal(Signal::TERM);
    assert_eq!(epoch.wait_exit(LIMIT).code(), Some(0));
}

/// What is left of a parent whose child crashes at each step, as it was measured for the real one.
#[test]
fn a_child_that_crashes_leaves_what_its_step_has_taken() {
    for (step, flag, admin, serves) in [
        ("start", false, true, true),
        ("bound", false, true, true),
        ("flag_set", true, true, true),
        ("config", true, true, true),
        ("admin", true, false, true),
        ("listeners", true, false, true),
        ("live", true, false, true),
        ("hand_over", false, false, false),
    ] {
        let world = World::new();
        let mut first = world.live(0, FAST);
        let mut second = world.start(1, &format!("{FAST} --fake-fault crash@{step}"));
        assert_eq!(second.wait_exit(LIMIT).signal(), Some(6), "{step}");
        assert_eq!(world.flag(), flag, "the flag after {step}");
        assert_eq!(
            world.page("/ready").is_some(),
            admin,
            "the endpoint after {step}"
        );
        if serves {
            assert_eq!(world.served().as_deref(), Some("v0"), "{step}");
        } else {
            eventually(LIMIT, "the listener to be closed", || {
                world.served().is_none().then_some(())
            });
        }
        // The same epoch again is the way out.
        world.clear_flag();
        let mut again = world.live(1, FAST);
        eventually(LIMIT, "the new configuration to serve", || {
            (world.served()? == "v1").then_some(())
        });
        assert_eq!(first.wait_exit(LIMIT).code(), Some(0), "{step}");
        end(&mut again);
        world.finish();
    }
}

#[test]
fn a_crash_comes_once_and_in_its_epoch() {
    let world = World::new();
    let state = world.dir.path().join("state");
    let faults = format!(
        "{FAST} --fake-state {} --fake-fault crash@live:epoch=1,once --fake-fault exit=7@config:start=4",
        state.display()
    );
    let mut first = world.live(0, &faults);
    let mut crashed = world.start(1, &faults);
    assert_eq!(crashed.wait_exit(LIMIT).signal(), Some(6));
    world.clear_flag();
    let mut second = world.live(1, &faults);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    let mut fourth = world.start(2, &faults);
    assert_eq!(fourth.wait_exit(LIMIT).code(), Some(7));
    world.clear_flag();
    end(&mut second);
    world.finish();
}

#[test]
fn a_kept_flag_refuses_the_next_epoch_of_a_healthy_one() {
    let world = World::new();
    let mut first = world.live(0, &format!("{FAST} --fake-fault keep-flag"));
    assert!(world.flag());
    assert_eq!(world.served().as_deref(), Some("v0"));
    let mut second = world.start(1, FAST);
    assert_eq!(second.wait_exit(LIMIT).code(), Some(1));
    end(&mut first);
    world.finish();
}

#[test]
fn an_admin_endpoint_is_closed_silent_slow_forbidden_or_speaks_no_http() {
    let world = World::new();
    let served = || {
        eventually(LIMIT, "the listener to serve", || world.served());
    };
    let mut closed = world.start(0, &format!("{FAST} --fake-fault admin-closed"));
    served();
    assert_eq!(world.page("/ready"), None);
    end(&mut closed);
    for fault in ["admin-silent", "admin-garbage"] {
        let mut epoch = world.start(0, &format!("{FAST} --fake-fault {fault}"));
        served();
        std::net::TcpStream::connect(world.admin()).unwrap();
        assert_eq!(world.page("/ready"), None, "{fault}");
        end(&mut epoch);
    }
    let mut forbidden = world.start(0, &format!("{FAST} --fake-fault admin-forbidden"));
    served();
    assert_eq!(world.page("/ready").map(|(status, _)| status), Some(403));
    end(&mut forbidden);
    let mut slow = world.start(0, &format!("{FAST} --fake-fault admin-slow=700ms"));
    served();
    let begin = Instant::now();
    assert_eq!(world.page("/ready").map(|(status, _)| status), Some(200));
    assert!(begin.elapsed() >= Duration::from_millis(700));
    end(&mut slow);
    world.finish();
}

#[test]
fn a_process_lies_about_its_state_or_is_live_without_a_listener() {
    let world = World::new();
    let lies = "--fake-fault stuck@listeners --fake-fault lie-live --fake-fault lie-epoch=9";
    let mut liar = world.start(0, lies);
    world.endpoint().wait_live(9, LIMIT);
    assert_eq!(world.served(), None);
    // Before that it does not hear signals.
    liar.wait_for_line("all clusters initialized", LIMIT);
    end(&mut liar);
    let mut empty = world.live(0, "--fake-fault no-listeners");
    assert_eq!(world.served(), None);
    let active = world
        .endpoint()
        .stat("listener_manager.total_listeners_active");
    assert_eq!(active, Some(0));
    end(&mut empty);
    world.finish();
}

#[test]
fn a_process_ignores_what_should_end_it() {
    let world = World::new();
    let deaf = "--fake-fault ignore-term --fake-fault ignore-terminate";
    let mut first = world.live(0, &format!("{FAST} {deaf}"));
    first.signal(Signal::TERM);
    first.wait_for_line("caught ENVOY_SIGTERM", LIMIT);
    let mut second = world.live(1, FAST);
    second.wait_for_line("shutting down parent after drain", LIMIT);
    end(&mut second);
    assert!(first.is_running());
    first.signal(Signal::KILL);
    first.wait_exit(LIMIT);
    world.finish();
}

#[test]
fn a_deaf_parent_holds_its_child_and_one_without_sockets_lets_it_bind_its_own() {
    let world = World::new();
    let deaf = world.live(0, &format!("{FAST} --fake-fault deaf-parent"));
    let held = world.start(1, FAST);
    held.wait_for_line("initializing epoch 1", LIMIT);
    assert_eq!(world.page("/ready").map(|(status, _)| status), Some(200));
    for mut epoch in [held, deaf] {
        epoch.signal(Signal::KILL);
        epoch.wait_exit(LIMIT);
    }
    let mut first = world.live(0, &format!("{FAST} --fake-fault refuse-sockets"));
    let mut second = world.live(1, FAST);
    assert_eq!(first.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(world.served().as_deref(), Some("v1"));
    end(&mut second);
    world.finish();
}

#[test]
fn a_frozen_main_thread_serves_and_answers_nothing_else() {
    let world = World::new();
    let mut frozen = world.start(0, &format!("{FAST} --fake-fault freeze=3s@live"));
    eventually(LIMIT, "the listener to serve", || world.served());
    let begin = Instant::now();
    assert_eq!(world.page("/ready"), None);
    assert!(begin.elapsed() > Duration::from_millis(500));
    world.endpoint().wait_live(0, LIMIT);
    end(&mut frozen);
    world.finish();
}

#[test]
fn a_process_leaks_and_floods_its_output() {
    let world = World::new();
    let mut epoch = world.live(0, "--fake-fault leak=100M --fake-fault flood=64K@start");
    let flood = "flooding the output of the process";
    epoch.wait_for_lines(flood, 800, LIMIT);
    let memory = || {
        let path = format!("/proc/{}/statm", epoch.pid());
        let text = std::fs::read_to_string(path).unwrap();
        let pages: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    eventually(LIMIT, "100 MB to leak", || {
        (memory() > 100 << 20).then_some(())
    });
    end(&mut epoch);
    world.finish();
}

#[test]
fn a_crash_ends_by_the_signal_that_was_asked_for() {
    for (fault, signal) in [("crash", 6), ("segv", 11), ("kill", 9)] {
        let world = World::new();
        let mut epoch = world.start(0, &format!("{FAST} --fake-fault {fault}@live"));
        assert_eq!(epoch.wait_exit(LIMIT).signal(), Some(signal), "{fault}");
        world.finish();
    }
}
