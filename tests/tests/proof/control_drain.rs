//! A drain on request: begun, taken back, kept through a hand-over; and the sidecar that drains in
//! no other way.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::{Signal, Supervisor};

use crate::world::{LIMIT, Site, World};

/// What a health check of Envoy sees: the status of `/ready`.
fn ready(site: &Site) -> Option<u16> {
    let answer = http::get(site.admin.addr(), "/ready", Duration::from_secs(10));
    answer.ok().map(|answer| answer.status)
}

/// A connection that is kept, and the head of the last answer on it.
struct Kept(TcpStream);

impl Kept {
    fn open(site: &Site) -> Self {
        let stream = TcpStream::connect(site.listener.addr()).expect("Envoy listens");
        stream
            .set_read_timeout(Some(LIMIT))
            .expect("it is a socket");
        Self(stream)
    }

    fn ask(&mut self) -> String {
        self.0
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .expect("the connection is open");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            let read = self.0.read(&mut byte).expect("an answer");
            assert_eq!(read, 1, "cut in {:?}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("a head is text");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        self.0.read_exact(&mut vec![0; length]).expect("a body");
        head
    }
}

fn start(envoy: &std::path::Path, more: &[&str]) -> (Site, Supervisor) {
    let site = Site::new();
    site.write("v0");
    let supervisor = site.launch(envoy).args(more).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    (site, supervisor)
}

fn finish(site: &Site, mut supervisor: Supervisor) {
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_drain_fails_health_checks_and_asks_clients_to_close_until_it_is_taken_back() {
    let envoy = require_any_envoy!();
    let (site, supervisor) = start(&envoy, &[]);
    let mut kept = Kept::open(&site);
    assert!(!kept.ask().contains("connection: close"));
    assert_eq!(ready(&site), Some(200));

    site.ask(&["drain"])
        .is(0, "epoch 0 drains: its health checks fail");
    assert_eq!(ready(&site), Some(503));
    assert_eq!(site.status()["drained"], true);
    assert_eq!(site.status()["ready"], true);
    let head = kept.ask();
    assert!(head.contains("connection: close"), "{head}");
    // It would hold the stop below.
    drop(kept);
    // New connections are still served.
    assert!(Kept::open(&site).ask().starts_with("HTTP/1.1 200"));

    site.ask(&["undrain"]).is(0, "epoch 0 does not drain");
    assert_eq!(ready(&site), Some(200));
    assert_eq!(site.status()["drained"], false);
    assert!(!Kept::open(&site).ask().contains("connection: close"));
    // Once more does no harm.
    site.ask(&["undrain"]).is(0, "does not drain");
    finish(&site, supervisor);
}

#[tokio::test]
async fn the_calls_of_another_sidecar_drain_and_end_an_envoy() {
    let envoy = require_any_envoy!();
    let flags = ["--status-address", "127.0.0.1:0", "--compat-endpoints"];
    let (site, mut supervisor) = start(&envoy, &flags);
    let line = supervisor.wait_for_line("the status server listens on ", LIMIT);
    let address = line
        .text
        .rsplit(' ')
        .next()
        .and_then(|word| word.parse().ok());
    let address = address.expect("the line ends with an address");
    let call = |path| http::post(address, path, LIMIT).expect("an answer").status;
    // Live comes first, and the look that sees the listener a moment later.
    eventually(LIMIT, "the startup to be over", || {
        (call("/graceful_startup") == 200).then_some(())
    });
    assert_eq!(call("/drain"), 200);
    assert_eq!(ready(&site), Some(503));
    assert!(Kept::open(&site).ask().starts_with("HTTP/1.1 200"));
    assert_eq!(call("/quitquitquit"), 200);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_drain_waits_until_no_client_is_connected_and_tells_who_is() {
    let envoy = require_any_envoy!();
    let (site, supervisor) = start(&envoy, &[]);
    let kept = Kept::open(&site);
    let asked = site.ask(&["drain", "--wait", "--timeout", "1s"]);
    asked.is(75, "clients are still connected after 1s");
    let listener = format!(
        "1 connection on listener 127.0.0.1_{} of epoch 0",
        site.listener.number()
    );
    assert!(asked.stderr.contains(&listener), "{asked:?}");
    assert_eq!(ready(&site), Some(503), "the drain goes on");
    drop(kept);
    site.ask(&["drain", "--wait"])
        .is(0, "no client is connected");
    finish(&site, supervisor);
}

#[tokio::test]
async fn an_epoch_that_goes_live_while_drained_is_drained_and_nobody_loses_a_request() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy, &[]);
    world.site.ask(&["drain"]).is(0, "epoch 0 drains");
    world.site.write("v1");
    // It drains from the moment on in which it is seen live, so Envoy may not be seen as that.
    world.supervisor.wait_for_line("epoch 1 is live", LIMIT);
    world.served_by("v1");
    eventually(LIMIT, "epoch 1 to drain", || {
        (ready(&world.site) == Some(503)).then_some(())
    });
    world.site.ask(&["undrain"]).is(0, "epoch 1 does not drain");
    assert_eq!(ready(&world.site), Some(200));
    world.hand_over("v2", 2);
    assert_eq!(ready(&world.site), Some(200));
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn a_drained_instance_stops_cleanly_and_a_stop_is_not_taken_back() {
    let envoy = require_any_envoy!();
    let (site, mut supervisor) = start(&envoy, &["--termination-drain", "600s"]);
    let kept = Kept::open(&site);
    site.ask(&["drain"]).is(0, "epoch 0 drains");
    site.ask(&["stop"]).is(0, "draining");
    let asked = site.ask(&["undrain"]);
    asked.is(69, "a stop that has begun is not taken back");
    drop(kept);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_sidecar_drains_on_request_only_and_ends_at_once_on_term() {
    let envoy = require_any_envoy!();
    let more = ["--native-sidecar", "--termination-drain", "600s"];
    let (site, mut supervisor) = start(&envoy, &more);
    let addr = site.listener.addr();
    let slow =
        std::thread::spawn(move || http::get(addr, "/slow?ms=600000", Duration::from_secs(600)));
    eventually(LIMIT, "the slow request", || {
        (site.backend.requests_to("/slow") > 0).then_some(())
    });
    let asked = site.ask(&["drain", "--wait", "--timeout", "500ms"]);
    asked.is(75, "1 connection on listener");
    assert_eq!(ready(&site), Some(503));
    supervisor.signal(Signal::TERM);
    // The limit of the drain and of the request are ten minutes, that of this is one.
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    let cut = slow.join().expect("the client does not panic");
    assert!(cut.is_err(), "{cut:?}");
    site.assert_nothing_left();
}

#[tokio::test]
async fn usr2_drains_as_the_command_does_and_other_stray_signals_do_nothing() {
    let envoy = require_any_envoy!();
    let (site, supervisor) = start(&envoy, &[]);
    for stray in [
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::POWER,
        Signal::XCPU,
        Signal::XFSZ,
    ] {
        supervisor.signal(stray);
    }
    assert_eq!(ready(&site), Some(200));
    for _ in 0..2 {
        supervisor.signal(Signal::USR2);
        eventually(LIMIT, "failing health checks", || {
            (ready(&site) == Some(503)).then_some(())
        });
    }
    assert_eq!(site.status()["drained"], true);
    assert_eq!(site.status()["ready"], true);
    site.ask(&["undrain"]).is(0, "its health checks succeed");
    assert_eq!(ready(&site), Some(200));
    finish(&site, supervisor);
}
