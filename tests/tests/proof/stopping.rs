//! What a stop waits for, and what it does not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handover_test_support::http::{self, ResponseReader};
use handover_test_support::limit::eventually;
use handover_test_support::ports::Port;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::{Launch, Signal, Supervisor};

use crate::world::{LIMIT, Site};

/// Starts it and waits until epoch 0 serves.
pub(crate) fn start(site: &Site, launch: Launch) -> Supervisor {
    let supervisor = launch.start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    site.admin().wait_live(0, LIMIT);
    supervisor
}

/// A client that has had its answer and keeps its connection.
pub(crate) fn keep_a_connection(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("Envoy listens");
    stream
        .set_read_timeout(Some(LIMIT))
        .expect("the limit is not zero");
    write!(stream, "GET / HTTP/1.1\r\nhost: {addr}\r\n\r\n").expect("Envoy reads");
    let (mut reader, mut buffer) = (ResponseReader::default(), [0; 4096]);
    let response = loop {
        let count = stream.read(&mut buffer).expect("Envoy answers");
        let read = buffer.get(..count).unwrap_or_default();
        if let Some(response) = reader.push(read).expect("it is HTTP") {
            break response;
        }
    };
    assert_eq!((response.status, response.reusable), (200, true));
    stream
}

/// A client whose request is in flight when this returns.
fn slow_request(site: &Site, milliseconds: u64) -> JoinHandle<std::io::Result<http::Response>> {
    let addr = site.listener.addr();
    let path = format!("/slow?ms={milliseconds}");
    let client = std::thread::spawn(move || http::get(addr, &path, LIMIT));
    eventually(LIMIT, "the slow request", || {
        (site.backend.requests_to("/slow") > 0).then_some(())
    });
    client
}

/// Sends the signal to end; returns how long the end took, and its code.
pub(crate) fn end(supervisor: &mut Supervisor) -> (Duration, Option<i32>) {
    let asked = Instant::now();
    supervisor.signal(Signal::TERM);
    let code = supervisor.wait_exit(LIMIT).code();
    (asked.elapsed(), code)
}

#[tokio::test]
async fn before_the_drain_envoy_goes_on_accepting_while_its_health_checks_fail() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let delay = ["--pre-drain-delay", "3s", "--termination-drain", "30s"];
    let mut supervisor = start(&site, site.launch(&envoy).args(delay));
    let asked = Instant::now();
    supervisor.signal(Signal::TERM);
    eventually(LIMIT, "health checks that fail", || {
        let info = site.admin().server_info()?;
        (info.state == "DRAINING").then_some(())
    });
    let answer = http::get(site.listener.addr(), "/", LIMIT).expect("it goes on accepting");
    assert_eq!(answer.status, 200);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    assert!(asked.elapsed() >= Duration::from_secs(3));
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_drain_takes_its_shortest_time_even_without_a_connection() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let mut supervisor = start(&site, site.launch(&envoy).args(["--min-drain", "1s"]));
    let (took, code) = end(&mut supervisor);
    assert_eq!(code, Some(0));
    assert!(took >= Duration::from_secs(1), "it took {took:?}");
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_kept_connection_holds_the_stop_and_its_listener_is_told() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    // A port of another listener, and a name that is only the end of this one's.
    let port = site.listener.number();
    let others = format!("--drain-exclude-listener=istener_{port}");
    let flags = ["--termination-drain", "4s", "--drain-exclude-port", "1"];
    let mut supervisor = start(&site, site.launch(&envoy).args(flags).arg(others));
    let kept = keep_a_connection(site.listener.addr());
    let (took, code) = end(&mut supervisor);
    assert_eq!(code, Some(75));
    assert!(took >= Duration::from_secs(4), "it took {took:?}");
    let held = format!("1 connection on listener 127.0.0.1_{port}");
    for told in ["the drain waits for", "cutting"] {
        supervisor.wait_for_line(&format!("{told} {held}"), LIMIT);
    }
    drop(kept);
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_kept_connection_on_an_excluded_listener_does_not_hold_the_stop() {
    let envoy = require_any_envoy!();
    let port_of = |site: &Site| site.listener.number();
    let flags: [&dyn Fn(&Site) -> String; 4] = [
        &|site| format!("--drain-exclude-listener=listener_{}", port_of(site)),
        &|site| format!("--drain-exclude-listener=x,listener_{}*", port_of(site)),
        &|site| format!("--drain-exclude-listener=127.0.0.1_{}", port_of(site)),
        &|site| format!("--drain-exclude-port=1,{}", port_of(site)),
    ];
    for flag in flags {
        let site = Site::new();
        let other = Port::free();
        let config = site.config("v0").also_listen(other.number());
        config.write_to(&site.file());
        let launch = site.launch(&envoy).arg(flag(&site));
        let mut supervisor = start(&site, launch.args(["--termination-drain", "50s"]));
        let kept = keep_a_connection(site.listener.addr());
        // One that is held would be cut after its time, with 75.
        let (_, code) = end(&mut supervisor);
        assert_eq!(code, Some(0));
        assert_eq!(supervisor.count_lines("cutting"), 0);
        drop(kept);
        site.assert_nothing_left();
    }
}

#[tokio::test]
async fn a_kept_connection_of_an_old_epoch_on_an_excluded_listener_holds_nothing() {
    let envoy = require_any_envoy!();
    for ends in [true, false] {
        let site = Site::new();
        site.write("v0");
        let exclude = format!(
            "--drain-exclude-listener=listener_{}",
            site.listener.number()
        );
        // By itself the old epoch would end long after this test.
        let launch = site.launch_with_times(&envoy, "200s", "300s").arg(exclude);
        let mut supervisor = start(&site, launch.args(["--termination-drain", "50s"]));
        let kept = keep_a_connection(site.listener.addr());
        supervisor.signal(Signal::HUP);
        supervisor.wait_for_line("epoch 1 is live", LIMIT);
        if !ends {
            // At most two epochs run at once, so this one waits for the oldest.
            supervisor.signal(Signal::HUP);
            supervisor.wait_for_line("epoch 2 is live", LIMIT);
        }
        let (_, code) = end(&mut supervisor);
        assert_eq!(code, Some(0));
        assert_eq!(supervisor.count_lines("cutting"), 0);
        drop(kept);
        site.assert_nothing_left();
    }
}

#[tokio::test]
async fn the_variable_of_istio_gives_the_time_of_the_drain() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let variable = "TERMINATION_DRAIN_DURATION_SECONDS";

    // Longer than the default of five seconds.
    let mut supervisor = start(&site, site.launch(&envoy).env(variable, "55"));
    let client = slow_request(&site, 6_000);
    let (_, code) = end(&mut supervisor);
    assert_eq!(code, Some(0));
    let answer = client.join().expect("the client does not panic");
    assert_eq!(answer.expect("it was not cut").status, 200);

    // The flag wins.
    let flag = ["--termination-drain", "1s"];
    let launch = site.launch(&envoy).env(variable, "55").args(flag);
    let mut supervisor = start(&site, launch);
    let kept = keep_a_connection(site.listener.addr());
    let (_, code) = end(&mut supervisor);
    assert_eq!(code, Some(75));
    drop(kept);
    site.assert_nothing_left();
}

/// SIGTERM lets Envoy flush its access logs and statistics; SIGKILL would not.
#[tokio::test]
async fn an_envoy_whose_drain_is_cut_is_ended_in_order_and_not_killed() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let flags = ["--termination-drain", "1s", "--abort-grace", "30s"];
    let mut supervisor = start(&site, site.launch(&envoy).args(flags));
    let kept = keep_a_connection(site.listener.addr());
    assert_eq!(end(&mut supervisor).1, Some(75));
    supervisor.wait_for_line("caught ENVOY_SIGTERM", LIMIT);
    drop(kept);
    site.assert_nothing_left();
}
