//! What a running instance with a real Envoy answers, and does, at its control socket.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use handover_envoy::Digest;
use handover_test_support::envoy_bin::report_skip;
use handover_test_support::envoy_config::Break;
use handover_test_support::limit::eventually;
use handover_test_support::log::Stream;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::{Launch, Signal};
use serde_json::Value;

use crate::world::{LIMIT, Site, World};

/// How a command that speaks to an instance has ended.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Asked {
    #[track_caller]
    pub(crate) fn is(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let said = if code == 0 {
            &self.stdout
        } else {
            &self.stderr
        };
        assert!(said.contains(words), "{words:?} is not in {self:?}");
    }
}

impl Site {
    /// Asks the instance of this site.
    #[track_caller]
    pub(crate) fn ask(&self, words: &[&str]) -> Asked {
        let client = Launch::handover().args(words).arg("--socket");
        let mut client = client.arg(self.socket()).start();
        let status = client.wait_exit(LIMIT);
        let text = |stream| {
            let lines = client.log().lines();
            let of_stream = lines.iter().filter(|line| line.stream == stream);
            of_stream.map(|line| format!("{}\n", line.text)).collect()
        };
        Asked {
            code: status.code(),
            stdout: text(Stream::Stdout),
            stderr: text(Stream::Stderr),
        }
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let asked = self.ask(&["status", "--json"]);
        let status: Value = serde_json::from_str(&asked.stdout).expect("it is JSON");
        let ready = status.get("ready").and_then(Value::as_bool);
        let code = if ready == Some(true) { 0 } else { 75 };
        assert_eq!(asked.code, Some(code), "{asked:?}");
        status
    }
}

#[tokio::test]
async fn the_status_tells_of_every_epoch_and_asking_costs_no_request() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy, &[]);
    let status = world.site.status();
    let content = std::fs::read(world.site.file()).expect("it is there");
    let hash = Digest::of(&content).to_string();
    let [epoch] = status["epochs"].as_array().expect("a list").as_slice() else {
        panic!("one epoch was expected: {status:#}");
    };
    assert_eq!(epoch["state"], "live", "{status:#}");
    assert_eq!(epoch["pid"], world.only_envoy());
    assert_eq!(epoch["config_hash"], *hash);
    assert!(epoch["active_connections"].as_u64() > Some(0), "{epoch:#}");
    assert!(epoch["rss_bytes"].as_u64() > Some(1_000_000), "{epoch:#}");
    assert_eq!(status["desired"]["hash"], *hash);
    assert_eq!(status["current"], status["desired"]);
    assert_eq!(status["ready"], true);
    assert_eq!(status["current_is_desired"], true);

    world.hand_over("v1", 1);
    let status = world.site.status();
    // The old one may have ended by now.
    let newest = status["epochs"].as_array().and_then(|epochs| epochs.last());
    let newest = newest.expect("one runs");
    assert_eq!(newest["epoch"], 1, "{status:#}");
    assert_eq!(newest["state"], "live");
    assert_eq!(status["counters"]["hand_overs"], 1);
    assert_ne!(status["desired"]["hash"], *hash);
    let ended = eventually(LIMIT, "the end of epoch 0", || {
        let status = world.site.status();
        status["last_exit"].is_object().then_some(status)
    });
    assert_eq!(ended["last_exit"]["epoch"], 0);
    assert_eq!(ended["last_exit"]["cause"], "handed_over", "{ended:#}");

    let table = world.site.ask(&["status"]);
    table.is(0, "ready, with the desired configuration");
    table.is(0, "EPOCH  STATE ");
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_reload_waits_until_the_configuration_is_live_or_tells_why_it_is_not() {
    let envoy = require_any_envoy!();
    let retries = ["--max-retries", "1", "--retry-interval", "50ms"];
    let world = World::start(&envoy, &retries);
    world.site.write("v1");
    let reload = |words: &[&str]| world.site.ask(&[&["reload", "--wait"], words].concat());
    // Whether the change was noticed before or not, one epoch comes of it.
    reload(&["--if-changed"]).is(0, "epoch 1 is live");
    world.served_by("v1");
    assert_eq!(world.supervisor.count_lines("starting epoch"), 2);

    world.site.write_broken(Break::UnknownField);
    reload(&[]).is(65, "no such field");
    let status = world.site.status();
    assert_eq!(status["ready"], true, "{status:#}");
    assert_eq!(status["current_is_desired"], false);
    assert_eq!(status["degraded"], true);

    // This one is valid and fails in the middle of its start: Envoy's own words are told.
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    world.site.write_broken(Break::PortConflict(taken));
    let asked = reload(&[]);
    asked.is(65, "Address already in use");
    assert!(asked.stderr.contains("\n  [20"), "no log line: {asked:?}");
    assert!(asked.stderr.contains("cannot bind"), "{asked:?}");

    world.site.write("v2");
    reload(&[]).is(0, "is live");
    world.served_by("v2");
    assert_eq!(world.site.status()["degraded"], false);
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_reload_that_takes_too_long_ends_with_75_and_goes_on() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy, &["--retry-interval", "1h"]);
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    world.site.write_broken(Break::PortConflict(taken));
    let asked = world.site.ask(&["reload", "--wait", "--timeout", "3s"]);
    asked.is(75, "not live within 3s: ");
    world.served_by("v0");
    world.hand_over("v1", 1);
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_reload_now_ends_the_oldest_epoch_and_tells_whom_it_cuts() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let mut supervisor = site.launch_with_times(&envoy, "600s", "900s").start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let addr = site.listener.addr();
    let slow = std::thread::spawn(move || {
        handover_test_support::http::get(addr, "/slow?ms=600000", Duration::from_secs(600))
    });
    eventually(LIMIT, "the slow request", || {
        (site.backend.requests_to("/slow") > 0).then_some(())
    });
    site.ask(&["reload", "--wait"]).is(0, "epoch 1 is live");
    let late = site.ask(&["reload", "--wait", "--timeout", "1s"]);
    late.is(75, "not live within 1s: 2 epochs run already");
    let asked = site.ask(&["reload", "--wait", "--now"]);
    asked.is(0, "cuts 1 connection of epoch 0");
    asked.is(0, "epoch 2 is live");
    let cut = slow.join().expect("the client does not panic");
    assert!(cut.is_err(), "{cut:?}");
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_cold_restart_goes_on_where_no_hot_one_can() {
    let envoy = require_any_envoy!();
    let retries = [
        "--no-repair",
        "--max-retries",
        "1",
        "--retry-interval",
        "50ms",
    ];
    let world = World::start(&envoy, &retries);
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    // It fails in the middle of its start, and the flag that it leaves is not cleared.
    world.site.write_broken(Break::PortConflict(taken));
    let stuck = "holding epoch 0: only a cold restart can go on";
    world.site.ask(&["reload", "--wait"]).is(65, stuck);
    world.site.write("v1");
    world.site.ask(&["reload", "--wait"]).is(65, stuck);
    world.served_by("v0");

    let before = world.only_envoy();
    world
        .site
        .ask(&["reload", "--cold", "--wait"])
        .is(0, "epoch 0 is live");
    assert_ne!(world.only_envoy(), before);
    world.served_by("v1");
    // And hot ones can again.
    world.hand_over("v2", 1);
    // What was asked between the two was lost, as it was said.
    world.finish().await;
}

#[tokio::test]
async fn a_stop_waits_for_requests_and_a_stop_now_does_not() {
    let envoy = require_any_envoy!();
    for (words, code, is_cut) in [
        (&["stop", "--wait"][..], 0, false),
        (&["stop", "--now", "--wait"][..], 0, true),
    ] {
        let site = Site::new();
        site.write("v0");
        let more = ["--termination-drain", "600s"];
        let mut supervisor = site.launch(&envoy).args(more).start();
        supervisor.wait_for_line("epoch 0 is live", LIMIT);
        let addr = site.listener.addr();
        let slow = std::thread::spawn(move || {
            handover_test_support::http::get(addr, "/slow?ms=1500", Duration::from_secs(600))
        });
        eventually(LIMIT, "the slow request", || {
            (site.backend.requests_to("/slow") > 0).then_some(())
        });
        site.ask(words).is(code, "ended: ");
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(code));
        let answer = slow.join().expect("the client does not panic");
        assert_eq!(answer.is_err(), is_cut, "{words:?}: {answer:?}");
        site.assert_nothing_left();
    }
}

#[tokio::test]
async fn two_instances_have_sockets_and_base_ids_of_their_own() {
    let envoy = require_any_envoy!();
    let sites = [Site::new(), Site::new()];
    let mut supervisors = sites.each_ref().map(|site| {
        site.write("v0");
        let supervisor = site.launch(&envoy).start();
        supervisor.wait_for_line("epoch 0 is live", LIMIT);
        supervisor
    });
    let [one, other] = sites.each_ref().map(Site::status);
    assert_ne!(one["pid"], other["pid"]);
    assert_ne!(one["base_id"], other["base_id"]);
    sites[0].ask(&["stop", "--wait"]).is(0, "ended: drained");
    assert_eq!(sites[1].status()["ready"], true);
    sites[1].ask(&["stop", "--wait"]).is(0, "ended: drained");
    for (site, supervisor) in sites.iter().zip(&mut supervisors) {
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
        site.assert_nothing_left();
    }
}

#[tokio::test]
async fn a_crash_loop_shows_in_the_counters_while_the_old_configuration_serves() {
    let envoy = require_any_envoy!();
    let retries = ["--max-retries", "100", "--retry-interval", "10ms"];
    let world = World::start(&envoy, &retries);
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").port();
    world.site.write_broken(Break::PortConflict(taken));
    let status = eventually(LIMIT, "three failures", || {
        let status = world.site.status();
        (status["counters"]["failed"].as_u64() >= Some(3)).then_some(status)
    });
    assert_eq!(status["ready"], true, "{status:#}");
    assert_eq!(status["current_is_desired"], false);
    assert!(status["counters"]["retries"].as_u64() >= Some(2));
    assert_eq!(status["last_exit"]["cause"], "bind_conflict");
    let message = status["last_failure"]["message"].as_str().expect("text");
    assert!(message.contains("Address already in use"), "{message}");
    world.finish().await.assert_no_loss();
}

/// Whatever else a command of the examples in `docs/control.md` needs, it is there or not.
#[tokio::test]
async fn curl_is_enough_to_speak_to_an_instance() {
    let envoy = require_any_envoy!();
    if Command::new("curl").arg("--version").output().is_err() {
        let test = "proof::control::curl_is_enough_to_speak_to_an_instance";
        report_skip(test, "there is no curl");
        return;
    }
    let world = World::start(&envoy, &[]);
    let curl = |words: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60"]);
        curl.arg("--unix-socket").arg(world.site.socket());
        let output = curl.args(words).output().expect("it is there");
        assert!(output.status.success(), "{output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        answer
    };
    assert_eq!(curl(&["http://handover/v1/status"])["state"], "live");
    let body = r#"{"wait": true, "timeout_ms": 60000}"#;
    let answer = curl(&["--data", body, "http://handover/v1/reload"]);
    assert_eq!(answer["result"], "live", "{answer:#}");
    assert_eq!(answer["epoch"], 1);
    let answer = curl(&["http://handover/v2/status"]);
    assert_eq!(answer["error"]["code"], "unknown_version");
    world.finish().await.assert_no_loss();
}
