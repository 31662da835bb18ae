//! What the orders of the admin endpoint do. They are orders only by `POST`.

use handover_test_support::bare_envoy::{BareEnvoy, LIMIT};
use handover_test_support::kept_connection::KeptConnection;
use handover_test_support::limit::eventually;

use crate::subject::Subject;
use crate::world::{long_request, small_load, stays};

/// A graceful drain accepts for the drain time, and refuses then. The process stays, and says it is ready.
pub(crate) fn a_graceful_drain_accepts_for_the_drain_time(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    order(&host, "/drain_listeners?graceful");
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    eventually(LIMIT, "closed listeners", || {
        host.is_refused().then_some(())
    });
    stays("the process runs", || epoch_0.is_running());
    assert_eq!(ready(&host), (200, "LIVE\n".to_owned()));
}

/// With `skip_exit` the listeners are never closed; kept connections are.
pub(crate) fn a_graceful_drain_that_skips_the_exit_closes_kept_connections_only(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let mut kept = keep(&host);
    order(&host, "/drain_listeners?graceful&skip_exit");
    let what = "the announced end of a kept connection";
    eventually(LIMIT, what, || {
        (!kept.get("/").expect("it is open").reusable).then_some(())
    });
    // The drain time is over in a second.
    std::thread::sleep(subject.seconds(1.5));
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    assert!(epoch_0.is_running());
}

/// A drain that is not graceful refuses new connections at once; existing ones go on.
pub(crate) fn a_drain_refuses_at_once_and_keeps_connections(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let mut kept = keep(&host);
    let whole = long_request(&host, subject.seconds(1.0));
    order(&host, "/drain_listeners");
    eventually(LIMIT, "closed listeners", || {
        host.is_refused().then_some(())
    });
    assert_eq!(kept.get("/").map(|answer| answer.status).ok(), Some(200));
    assert_eq!(whole.answer().map(|answer| answer.status).ok(), Some(200));
    assert!(epoch_0.is_running());
    assert_eq!(ready(&host), (200, "LIVE\n".to_owned()));
}

/// Failed health: it says it drains, closes kept connections and goes on accepting.
pub(crate) fn a_failed_health_check_closes_kept_connections(subject: &Subject) {
    let host = subject.host();
    let _epoch_0 = host.live(0);
    let mut kept = keep(&host);
    order(&host, "/healthcheck/fail");
    assert_eq!(ready(&host), (503, "DRAINING\n".to_owned()));
    let what = "the announced end of a kept connection";
    eventually(LIMIT, what, || {
        (!kept.get("/").expect("it is open").reusable).then_some(())
    });
    stays("it accepts", || {
        host.served_by().is_ok_and(|name| name == "v0")
    });
    order(&host, "/healthcheck/ok");
    assert_eq!(ready(&host), (200, "LIVE\n".to_owned()));
    assert!(keep(&host).get("/").expect("it serves").reusable);
}

/// The order to end is as TERM: exit 0, at once, and what runs is cut.
pub(crate) fn quitquitquit_ends_at_once(subject: &Subject) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    let cut = long_request(&host, subject.seconds(20.0));
    let answer = host.order("/quitquitquit").expect("it answers first");
    assert_eq!((answer.status, answer.text().as_str()), (200, "OK\n"));
    epoch_0.wait().assert_exit(0, "");
    cut.assert_cut();
}

/// A `GET` of an order is refused, and nothing happens.
pub(crate) fn an_order_by_get_is_refused(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let load = small_load(host.web());
    for path in [
        "/drain_listeners?graceful",
        "/drain_listeners",
        "/healthcheck/fail",
        "/quitquitquit",
    ] {
        let status = host.ask(path).map(|answer| answer.status);
        assert_eq!(status.ok(), Some(405), "{path}");
    }
    assert_eq!(ready(&host), (200, "LIVE\n".to_owned()));
    stays("it runs", || epoch_0.is_running() && !host.is_refused());
    load.stop_blocking().assert_no_loss();
}

/// A path that there is not is answered with 404.
pub(crate) fn an_unknown_path_is_not_found(subject: &Subject) {
    let host = subject.host();
    let _epoch_0 = host.live(0);
    let status = host.ask("/no_such_path").map(|answer| answer.status);
    assert_eq!(status.ok(), Some(404));
}

fn order(host: &BareEnvoy, path: &str) {
    let answer = host.order(path).expect("the admin endpoint answers");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "OK\n"),
        "{path}"
    );
}

fn ready(host: &BareEnvoy) -> (u16, String) {
    let answer = host.ask("/ready").expect("the admin endpoint answers");
    (answer.status, answer.text())
}

/// A connection that was used once.
fn keep(host: &BareEnvoy) -> KeptConnection {
    let mut kept = KeptConnection::open(host.web(), LIMIT).expect("it listens");
    assert!(kept.get("/").expect("it serves").reusable);
    kept
}
