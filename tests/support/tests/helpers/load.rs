use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use handover_test_support::backend::Backend;
use handover_test_support::limit::{eventually, within};
use handover_test_support::load::{
    ClientKind, FailureKind, KEPT_FAILURES, Load, Mix, Progress, Report,
};
use handover_test_support::ports::Port;
use rustix::net::{AddressFamily, SocketType};

use crate::LONG;
use crate::fake_server::{Act, FakeServer};

#[tokio::test]
async fn each_way_to_lose_a_request_has_its_kind() {
    let ways = [
        (Act::Refuse, FailureKind::Status(503)),
        (Act::Close, FailureKind::ClosedBeforeResponse),
        (Act::Reset, FailureKind::Reset),
        (Act::PartialHead, FailureKind::PartialResponse),
        (Act::PartialBody, FailureKind::PartialResponse),
        (Act::PartialBodyAndReset, FailureKind::PartialResponse),
        (Act::EndlessBodyAndReset, FailureKind::PartialResponse),
        (Act::Garbage, FailureKind::Malformed),
        (Act::TooMuch, FailureKind::Malformed),
    ];
    for (act, kind) in ways {
        for mix in [one_new(), one_keep_alive()] {
            let server = FakeServer::start(move |_, _| act);
            let report = run(server.addr(), mix, |progress| progress.failed >= 3).await;
            assert_eq!(report.failed_with(kind), report.failed, "{act:?}\n{report}");
            assert_eq!(
                (report.ok(), report.idle_close_races),
                (0, 0),
                "{act:?}\n{report}"
            );
        }
    }
}

#[tokio::test]
async fn a_port_without_a_listener_refuses() {
    let port = Port::free();
    let report = run(port.addr(), Mix::default(), |progress| progress.failed >= 4).await;
    assert_eq!(
        report.failed_with(FailureKind::ConnectRefused),
        report.requests,
        "{report}"
    );
    report
        .failures
        .iter()
        .for_each(|failure| assert!(!failure.retried));
}

#[tokio::test]
async fn a_server_that_says_nothing_times_out() {
    let server = FakeServer::start(|_, _| Act::Silence);
    let mix = Mix {
        request_limit: Duration::from_millis(50),
        ..one_new()
    };
    let report = run(server.addr(), mix, |progress| progress.failed >= 1).await;
    assert_eq!(
        report.failed_with(FailureKind::Timeout),
        report.requests,
        "{report}"
    );
}

#[tokio::test]
async fn a_full_accept_queue_times_the_connect_out() {
    let (_listener, addr) = listener_without_queue();
    // Nobody accepts, so connections succeed until the queue is full, and then never again.
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_secs(1)) {
        queued.push(stream);
    }
    let mix = Mix {
        request_limit: Duration::from_millis(50),
        ..one_new()
    };
    let report = run(addr, mix, |progress| progress.failed >= 1).await;
    assert_eq!(
        report.failed_with(FailureKind::ConnectTimeout),
        report.requests,
        "{report}"
    );
}

#[tokio::test]
async fn an_announced_close_is_no_loss() {
    let server = FakeServer::start(|_, request| match request {
        0 => Act::Answer,
        _ => Act::AnswerAndAnnounceClose,
    });
    let report = run(server.addr(), one_keep_alive(), |progress| {
        progress.ok >= 20
    })
    .await;
    report.assert_no_loss();
    assert!(report.announced_closes >= 10, "{report}");
    assert_eq!(
        (report.idle_closes, report.idle_close_races),
        (0, 0),
        "{report}"
    );
}

#[tokio::test]
async fn a_close_between_requests_is_no_loss() {
    let server = FakeServer::start(|_, _| Act::AnswerAndClose);
    let report = run(server.addr(), one_keep_alive(), |progress| {
        progress.ok >= 20
    })
    .await;
    report.assert_no_loss();
    assert!(report.idle_closes >= 1, "{report}");
}

#[tokio::test]
async fn a_reused_connection_closed_unanswered_is_retried_once_and_counted() {
    for end in [Act::Close, Act::Reset] {
        let server = FakeServer::start(move |_, request| match request {
            0 => Act::Answer,
            _ => end,
        });
        let report = run(server.addr(), one_keep_alive(), |progress| {
            progress.ok >= 20
        })
        .await;
        report.assert_no_loss();
        assert!(report.idle_close_races >= 19, "{report}");
    }
}

#[tokio::test]
async fn a_retry_that_fails_is_a_loss() {
    let server = FakeServer::start_for(1, |_, request| match request {
        0 => Act::Answer,
        _ => Act::Close,
    });
    let report = run(server.addr(), one_keep_alive(), |progress| {
        progress.failed >= 1
    })
    .await;
    assert_eq!((report.ok(), report.idle_close_races), (1, 1), "{report}");
    let first = &report.failures[0];
    assert_eq!(
        (first.kind, first.retried),
        (FailureKind::ConnectRefused, true),
        "{report}"
    );
}

#[tokio::test]
async fn a_response_that_has_begun_is_never_retried() {
    let server = FakeServer::start(|_, request| match request {
        0 => Act::Answer,
        _ => Act::PartialBody,
    });
    let report = run(server.addr(), one_keep_alive(), |progress| {
        progress.failed >= 3
    })
    .await;
    assert_eq!(
        report.failed_with(FailureKind::PartialResponse),
        report.failed,
        "{report}"
    );
    assert_eq!(report.idle_close_races, 0, "{report}");
}

#[tokio::test]
async fn answers_are_counted_by_their_configuration() {
    let server = FakeServer::start(|connection, _| match connection % 2 {
        0 => Act::AnswerAsOne,
        _ => Act::Answer,
    });
    let report = run(server.addr(), one_new(), |progress| progress.ok >= 10).await;
    report.assert_no_loss();
    assert_eq!(report.by_config.len(), 1, "{report}");
    assert_eq!(report.ok_from("one"), report.ok().div_ceil(2), "{report}");
}

#[tokio::test]
async fn all_failures_are_counted_and_the_first_are_kept() {
    let server = FakeServer::start(|_, _| Act::Refuse);
    let more = KEPT_FAILURES as u64 + 10;
    let report = run(server.addr(), Mix::default(), move |progress| {
        progress.failed >= more
    })
    .await;
    assert!(report.failed >= more);
    assert_eq!(report.failures.len(), KEPT_FAILURES);
    assert_eq!(report.failures[0].detail, "no upstream");
}

#[tokio::test]
async fn failures_are_told_apart_by_marks() {
    let port = Port::free();
    let load = Load::start(port.addr(), one_new());
    wait(&load, |progress| progress.failed >= 1);
    load.mark("second third");
    let before = load.progress().failed;
    wait(&load, |progress| progress.failed >= before + 2);
    load.mark("last third");
    let before = load.progress().failed;
    wait(&load, |progress| progress.failed >= before + 2);
    let report = load.stop().await;
    assert_eq!(report.failures.first().unwrap().mark, None, "{report}");
    let last = report.failures.last().unwrap();
    assert_eq!(last.mark.as_deref(), Some("last third"), "{report}");
    assert!(last.at >= report.marks[1].0, "{report}");
}

#[tokio::test]
async fn a_stop_waits_for_the_requests_under_way() {
    let backend = Backend::start();
    let time = Duration::from_millis(300);
    let load = Load::start(
        backend.addr(),
        Mix {
            slow: Some((3, time)),
            ..Mix::default()
        },
    );
    eventually(LONG, "three slow requests", || {
        (backend.requests_to("/slow") == 3).then_some(())
    });
    let report = within(LONG, "the end of the slow requests", load.stop()).await;
    report.assert_no_loss();
    assert_eq!(report.ok_by_kind[&ClientKind::Slow], 3, "{report}");
    assert!(report.latency[&ClientKind::Slow].p50 >= time, "{report}");
    assert_eq!(report.requests, backend.requests());
}

#[tokio::test]
async fn the_longest_gap_is_the_time_without_a_success() {
    let backend = Backend::start();
    let time = Duration::from_millis(200);
    let mix = Mix {
        new_connections: 0,
        keep_alive: 0,
        slow: Some((1, time)),
        ..Mix::default()
    };
    let report = run(backend.addr(), mix, |progress| progress.ok >= 2).await;
    assert!(report.longest_gap >= time, "{report}");
    assert!(report.longest_gap <= report.ran_for, "{report}");
}

#[test]
fn a_dropped_load_does_not_wait_for_its_requests() {
    let backend = Backend::start();
    let mix = Mix {
        slow: Some((1, 2 * LONG)),
        ..Mix::default()
    };
    let load = Load::start(backend.addr(), mix);
    eventually(LONG, "a slow request", || {
        (backend.requests_to("/slow") == 1).then_some(())
    });
    let begun = Instant::now();
    drop(load);
    assert!(begun.elapsed() < LONG);
}

#[tokio::test]
async fn a_streamed_answer_is_read_to_its_end() {
    let backend = Backend::start();
    let mut mix = one_new();
    mix.paths.new_connections = "/stream?ms=250".to_owned();
    let report = run(backend.addr(), mix, |progress| progress.ok >= 1).await;
    report.assert_no_loss();
    // The first of its three bytes comes at once.
    let least = Duration::from_millis(200);
    assert!(
        report.latency[&ClientKind::NewConnection].p50 >= least,
        "{report}"
    );
}

#[tokio::test]
async fn connections_come_from_many_addresses_but_never_from_the_usual_one() {
    let server = FakeServer::start(|_, _| Act::Answer);
    let report = run(server.addr(), one_new(), |progress| progress.ok >= 40).await;
    report.assert_no_loss();
    let sources: BTreeSet<_> = server.peers().into_iter().map(|peer| peer.ip()).collect();
    assert_eq!(sources.len(), 15, "{sources:?}");
    assert!(!sources.contains(&Ipv4Addr::LOCALHOST.into()));
}

fn one_new() -> Mix {
    Mix {
        new_connections: 1,
        keep_alive: 0,
        ..Mix::default()
    }
}

fn one_keep_alive() -> Mix {
    Mix {
        new_connections: 0,
        keep_alive: 1,
        ..Mix::default()
    }
}

/// Runs a load until `enough`.
async fn run(target: SocketAddr, mix: Mix, enough: impl Fn(&Progress) -> bool) -> Report {
    let load = Load::start(target, mix);
    wait(&load, enough);
    within(LONG, "the load's end", load.stop()).await
}

fn wait(load: &Load, enough: impl Fn(&Progress) -> bool) {
    eventually(LONG, "the load", || enough(&load.progress()).then_some(()));
}

/// A listener whose queue takes as few connections as the kernel allows.
fn listener_without_queue() -> (OwnedFd, SocketAddr) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let addr = rustix::net::getsockname(&socket).unwrap();
    (socket, SocketAddr::try_from(addr).unwrap())
}
