//! The drain, with and without work in flight.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use handover_envoy::drain::{DrainOptions, drain};
use handover_runtime::offload::offload;
use handover_test_support::backend::{Backend, GREETING};
use handover_test_support::require_envoy;

use crate::support::{Host, LIMIT, get};

#[tokio::test]
async fn an_idle_envoy_is_drained_before_the_limit() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let mut child = host.start_live(0).await;
    assert_eq!(host.get().unwrap(), "hello");
    let report = drain(&host.client(), &DrainOptions::default())
        .await
        .unwrap();
    assert!(report.is_drained() && report.listeners_closed, "{report:?}");
    assert!(
        report.took < DrainOptions::default().limit / 2,
        "{report:?}"
    );
    let refused = host.get().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(child.is_running());
}

#[tokio::test]
async fn a_request_in_flight_is_finished_and_ends_the_drain() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let slow = Duration::from_secs(2);
    let backend = Backend::start();
    host.write(0, &host.config(backend.addr()));
    let mut child = host.start(0);
    host.wait_live(0, &mut child).await;

    let started = Instant::now();
    let web = host.web;
    let request = offload(move || (get(web, "/slow?ms=2000"), Instant::now()));
    while host
        .client()
        .active_connections(&Default::default(), &[])
        .await
        .unwrap()
        .is_empty()
    {
        assert!(started.elapsed() < LIMIT, "the request does not arrive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report = drain(&host.client(), &DrainOptions::default())
        .await
        .unwrap();
    let drained = Instant::now();
    assert!(report.is_drained() && report.listeners_closed, "{report:?}");
    let (answer, answered) = request.await.unwrap();
    assert_eq!(answer.unwrap(), GREETING);
    assert!(drained.duration_since(started) >= slow, "{report:?}");
    let late = drained.saturating_duration_since(answered);
    assert!(
        late < DrainOptions::default().limit / 2,
        "{late:?} after the answer"
    );
}

/// Once health checks fail, Envoy leaves it to the client to close, for the `drain_timeout` of its
/// connection manager (5 s unless set) and one second more. A client that waits for Envoy to close
/// instead holds the drain for just that time.
#[tokio::test]
async fn a_client_that_waits_for_the_end_of_the_connection_holds_the_drain_for_envoys_drain_timeout()
 {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let slow = Duration::from_secs(1);
    let backend = Backend::start();
    let config = host.config(backend.addr());
    let timeout = "stat_prefix: web\n          drain_timeout: 0.4s";
    let config = config.replace("stat_prefix: web", timeout);
    assert!(config.contains(timeout));
    host.write(0, &config);
    let mut child = host.start(0);
    host.wait_live(0, &mut child).await;

    let mut client = std::net::TcpStream::connect(host.web).unwrap();
    client
        .write_all(b"GET /slow?ms=1000 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let asked = Instant::now();
    let client = offload(move || {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    let options = DrainOptions {
        limit: Duration::from_secs(20),
        ..DrainOptions::default()
    };
    // Any time in its second does for the drain to begin.
    tokio::time::sleep(slow / 4).await;
    let report = drain(&host.client(), &options).await.unwrap();
    let drained = asked.elapsed();
    let answer = client.await.unwrap();
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(report.is_drained(), "{report:?}");
    let held = drained.saturating_sub(slow);
    assert!(held >= Duration::from_millis(400), "{held:?}");
    // With the default it would be six seconds.
    assert!(held < Duration::from_secs(5), "{held:?}");
}

#[tokio::test]
async fn what_holds_the_drain_at_its_limit_is_told() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let _child = host.start_live(0).await;
    let idle: Vec<_> = (0..3)
        .map(|_| std::net::TcpStream::connect(host.web).unwrap())
        .collect();
    let started = Instant::now();
    loop {
        let active = host
            .client()
            .active_connections(&Default::default(), &[])
            .await
            .unwrap();
        if active.first().is_some_and(|active| active.active == 3) {
            break;
        }
        assert!(started.elapsed() < LIMIT, "{active:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut options = DrainOptions {
        limit: Duration::from_millis(400),
        ..DrainOptions::default()
    };
    let report = drain(&host.client(), &options).await.unwrap();
    let expected = format!("3 connections on listener 127.0.0.1_{}", host.web.port());
    assert_eq!(report.holding[0].to_string(), expected);
    assert_eq!(report.holding.len(), 1);

    options.exclude.ports.insert(host.web.port());
    assert!(drain(&host.client(), &options).await.unwrap().is_drained());
    drop(idle);
}
