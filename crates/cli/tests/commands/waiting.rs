//! `handover wait` and `handover status --check`.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::process::Signal;

use crate::control::Place;
use crate::support::{Running, eventually, exec_script, exec_server, handover_client, replace};

/// `wait` in the background, for an instance in this place.
fn waiting(place: &Place, words: &[&str]) -> Running {
    let mut command = handover_client([&["wait", "--timeout", "60s"], words].concat());
    let directory = place.path("");
    Running::start(command.env("HANDOVER_LOCK_DIR", directory))
}

/// A program that is not live before it ends.
fn starting(place: &Place, flags: &[&str], script: &str) -> Running {
    let socket = place.flag("web.sock");
    let always = ["--live-after", "1h", "--log-level", "debug", &socket];
    exec_script(&[&always, flags].concat(), script)
}

#[test]
fn a_wait_begins_before_the_instance_does_and_ends_once_it_is_ready() {
    let place = Place::new();
    // A killed instance has left one, and another one was never there.
    drop(UnixListener::bind(place.path("web.sock")).unwrap());
    let mut waits = [
        waiting(&place, &[]),
        waiting(&place, &["--ready", "--name", "web"]),
        waiting(&place, &["--live", &place.flag("web.sock")]),
        waiting(&place, &["--current"]),
    ];
    // None of them has ended for want of an instance, before there is one.
    place.ask(&["status"]).is(69, "no instance is running");
    let (_running, _) = place.server("web", &[]);
    for (wait, word) in waits.iter_mut().zip(["ready", "ready", "live", "current"]) {
        assert_eq!(wait.code(), 0, "{word}: {:?}", wait.stderr.all());
        assert_eq!(wait.stdout.all(), [format!("{word}: epoch 0")]);
    }
    place
        .ask(&["wait", "--timeout", "0s"])
        .is(0, "ready: epoch 0");
}

#[test]
fn what_is_missing_at_the_timeout_is_told() {
    let place = Place::new();
    let asked = place.ask(&["wait", "--timeout", "0s", "--name", "web"]);
    asked.is(
        75,
        "no instance to wait for within 0s: no instance web is running",
    );
    let mut running = starting(&place, &[], "exec sleep 100");
    running.says("starting epoch 0");
    let missing = "no epoch is live: epoch 0 is starting";
    for word in ["ready", "live", "current"] {
        let flag = format!("--{word}");
        let asked = place.ask(&["wait", &flag, "--timeout", "1s"]);
        asked.is(75, &format!("not {word} after 1s: {missing}"));
    }
    for word in ["ready", "current"] {
        let asked = place.ask(&["status", "--check", word]);
        assert_eq!(asked.code, 75, "{asked:?}");
        assert_eq!(asked.stdout, format!("not {word}: {missing}\n"));
    }
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
}

#[test]
fn ready_with_an_older_configuration_is_not_current() {
    let place = Place::new();
    let (running, config) = place.server("web", &["--max-retries", "0"]);
    for word in ["ready", "current"] {
        let asked = place.ask(&["status", "--check", word]);
        asked.is(0, &format!("{word}: epoch 0"));
    }
    replace(&config, "broken on purpose");
    running.says("epoch 1 failed");
    place.ask(&["wait", "--ready"]).is(0, "ready: epoch 0");
    let missing = "epoch 0 serves another configuration than the desired one: ";
    let asked = place.ask(&["wait", "--current", "--timeout", "1s"]);
    asked.is(75, &format!("not current after 1s: {missing}"));
    let asked = place.ask(&["status", "--check", "current"]);
    assert_eq!(asked.code, 75, "{asked:?}");
    assert!(asked.stdout.contains(missing), "{asked:?}");
    assert!(asked.stdout.contains("epoch 1 failed: "), "{asked:?}");
    let mut wait = waiting(&place, &["--current"]);
    replace(&config, "two");
    assert_eq!(wait.code(), 0, "{:?}", wait.stderr.all());
    assert_eq!(wait.stdout.all(), ["current: epoch 1"]);
}

#[test]
fn an_instance_that_ends_by_itself_passes_its_code_and_its_reason_on() {
    let place = Place::new();
    let go = place.path("go");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.1; done; exit 3",
        go.display()
    );
    let mut running = starting(&place, &["--on-exit", "stop"], &script);
    running.says("starting epoch 0");
    let mut wait = waiting(&place, &[]);
    running.says("asks at the control socket: wait --ready");
    replace(&go, "");
    assert_eq!(wait.code(), 3, "{:?}", wait.stderr.all());
    wait.says("the instance has ended: gave up on sh");
    assert_eq!(running.code(), 3);
}

#[test]
fn a_stop_ends_those_who_wait_at_once() {
    let place = Place::new();
    let mut running = starting(&place, &[], "exec sleep 100");
    running.says("starting epoch 0");
    let mut wait = waiting(&place, &["--live"]);
    running.says("asks at the control socket: wait --live");
    running.signal(Signal::TERM);
    assert_eq!(wait.code(), 69, "{:?}", wait.stderr.all());
    wait.says("everything is ending");
    assert_eq!(running.code(), 0);
}

#[test]
fn an_instance_that_is_killed_ends_those_who_wait() {
    let place = Place::new();
    let mut running = starting(&place, &[], "exec sleep 100");
    running.says("starting epoch 0");
    let mut wait = waiting(&place, &[]);
    running.says("asks at the control socket: wait --ready");
    running.signal(Signal::KILL);
    assert_eq!(wait.code(), 69, "{:?}", wait.stderr.all());
    wait.says("asking the instance at ");
    assert_eq!(running.code(), 128 + 9);
}

#[test]
fn an_older_instance_that_cannot_be_waited_for_is_named() {
    let place = Place::new();
    let older = UnixListener::bind(place.path("web.sock")).unwrap();
    let answering = std::thread::spawn(move || {
        // Whether somebody listens may be looked at first.
        for client in older.incoming() {
            let mut client = client.unwrap();
            let mut request = [0; 4096];
            if client.read(&mut request).unwrap() == 0 {
                continue;
            }
            let body = r#"{"api":1,"error":{"code":"not_found","message":"no such path"}}"#;
            let length = body.len();
            let head = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n");
            client.write_all((head + body).as_bytes()).unwrap();
            return;
        }
    });
    let asked = place.ask(&["wait", &place.flag("web.sock")]);
    asked.is(69, "is an older handover, which cannot be waited for");
    answering.join().unwrap();
}

/// A second limit, one second after the time that was asked for, cut off the answer of a busy instance. The
/// reason that it had to tell was lost.
#[test]
fn the_answer_of_a_slow_instance_counts_after_the_time() {
    let place = Place::new();
    let slow = UnixListener::bind(place.path("web.sock")).unwrap();
    let answering = std::thread::spawn(move || {
        for client in slow.incoming() {
            let mut client = client.unwrap();
            if client.read(&mut [0; 4096]).unwrap() == 0 {
                continue;
            }
            // Longer than the least time of a look and a second more.
            std::thread::sleep(Duration::from_millis(2_500));
            let body =
                r#"{"api":1,"error":{"code":"timed_out","message":"not ready after 1s: busy"}}"#;
            let length = body.len();
            let head = format!("HTTP/1.1 408 Timeout\r\ncontent-length: {length}\r\n\r\n");
            client.write_all((head + body).as_bytes()).unwrap();
            return;
        }
    });
    let asked = place.ask(&["wait", "--timeout", "0s", &place.flag("web.sock")]);
    asked.is(75, "not ready after 1s: busy");
    answering.join().unwrap();
}

#[test]
fn several_instances_are_not_chosen_from() {
    let place = Place::new();
    let flags = |name: &str| place.flag(name);
    let (one, two) = (flags("one.sock"), flags("two.sock"));
    let _one = exec_server(&[&one], &[]);
    let _two = exec_server(&[&two], &[]);
    let asked = eventually("both", || {
        let asked = place.ask(&["wait"]);
        (asked.code != 0).then_some(asked)
    });
    asked.is(69, "several instances are running");
}
