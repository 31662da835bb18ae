//! A supervisor of a program that shows its state over TCP.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use handover_supervisor::AwaitedFiles;
use handover_supervisor::agent::core::Urgency;
use handover_supervisor::control::wire::Status;
use handover_supervisor::status_server::StatusListener;
use handover_supervisor::watch::Rescan;
use handover_test_support::http;
use handover_test_support::limit::within;
use tokio::time::{Duration, sleep};

use crate::support::{LIMIT, Place, Plain, Running, status_when};

fn listener() -> (StatusListener, SocketAddr) {
    let listener = StatusListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address();
    (listener, address)
}

/// The status code, and the text; nothing where nobody answers.
async fn text(address: SocketAddr, path: &'static str) -> Option<(u16, String)> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || tell.send(http::get(address, path, LIMIT)));
    let answer = told.await.unwrap().ok()?;
    Some((answer.status, answer.text()))
}

/// The status code, and the first line; nothing where nobody answers.
async fn get(address: SocketAddr, path: &'static str) -> Option<(u16, String)> {
    let (code, text) = text(address, path).await?;
    Some((code, text.lines().next()?.to_owned()))
}

async fn until(address: SocketAddr, path: &'static str, code: u16, word: &str) {
    let wanted = Some((code, word.to_owned()));
    within(LIMIT, word, async {
        while get(address, path).await != wanted {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_program_of_ones_own_is_shown_as_it_is_desired_and_no_longer_once_it_has_ended() {
    let place = Place::with("one");
    let (listener, address) = listener();
    let supervisor = place.supervisor(Plain::default());
    let running = Running::start(supervisor.status_server(Some(listener)));
    until(address, "/healthz/ready", 200, "READY").await;
    place.write("rejected");
    until(address, "/healthz/current", 503, "DEGRADED").await;
    until(address, "/healthz/ready", 200, "DEGRADED").await;
    place.write("wrong");
    until(address, "/healthz/ready", 200, "DEGRADED").await;
    place.write("one");
    until(address, "/healthz/current", 200, "READY").await;
    running.handle.terminate(Urgency::Drain);
    running.ended().await;
    assert_eq!(get(address, "/healthz/live").await, None);
}

/// The value of a metric without labels.
async fn metric(address: SocketAddr, name: &str) -> Option<String> {
    let (_, text) = text(address, "/metrics").await?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(str::to_owned)
}

/// That a file can be read again was taken for a success: for a moment, the older configuration served and nothing
/// was wrong, because the agent had yet to hear of the new one.
#[tokio::test]
async fn a_reload_is_no_success_before_the_agent_was_asked_for_it() {
    const SUCCESS: &str = "handover_last_reload_success_timestamp_seconds";
    const FAILED: &str = "handover_epochs_failed_total";
    let place = Place::with("one");
    let (listener, address) = listener();
    let supervisor = place.supervisor(Plain::default());
    let running = Running::start(supervisor.status_server(Some(listener)));
    until(address, "/healthz/current", 200, "READY").await;
    let success = metric(address, SUCCESS).await;
    assert!(success.is_some());
    place.write("wrong");
    until(address, "/healthz/current", 503, "DEGRADED").await;
    assert_eq!(metric(address, FAILED).await.as_deref(), Some("0"));
    place.write("rejected");
    within(LIMIT, "the failure", async {
        while metric(address, FAILED).await.as_deref() != Some("1") {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let reload = metric(address, "handover_last_reload_successful").await;
    assert_eq!(
        (reload.as_deref(), metric(address, SUCCESS).await),
        (Some("0"), success.clone())
    );
    place.write("one");
    until(address, "/healthz/current", 200, "READY").await;
    let reload = metric(address, "handover_last_reload_successful").await;
    assert_eq!(reload.as_deref(), Some("1"));
    assert_ne!(metric(address, SUCCESS).await, success);
    running.handle.terminate(Urgency::Drain);
    running.ended().await;
}

#[tokio::test]
async fn awaited_files_are_named_at_the_control_socket_alone() {
    let place = Place::with("one");
    let (listener, address) = listener();
    let key = place.path().join("private.key");
    let awaited = AwaitedFiles::watch(&[key], None, Rescan::Never).unwrap();
    let supervisor = place.supervisor(Plain::default()).await_files(awaited);
    let running = Running::start(supervisor.status_server(Some(listener)));
    let names_it = |status: &Status| {
        let held = status.held.as_deref().unwrap_or_default();
        held.contains("private.key")
    };
    status_when(&place, "the missing file", names_it).await;
    let (code, status) = text(address, "/status").await.unwrap();
    assert_eq!(code, 200);
    assert!(status.contains("files are awaited"), "{status}");
    for path in ["/", "/status", "/healthz/ready", "/metrics"] {
        let (_, text) = text(address, path).await.unwrap();
        assert!(!text.contains("private.key"), "{path}: {text}");
    }
    running.handle.terminate(Urgency::Drain);
    running.ended().await;
}

#[tokio::test]
async fn what_panics_while_the_status_is_made_ends_everything_and_answers_nobody_wrongly() {
    let place = Place::with("one");
    let (listener, address) = listener();
    let proxy = Plain::default();
    let is_shy = std::sync::Arc::clone(&proxy.is_shy);
    let running = Running::start(place.supervisor(proxy).status_server(Some(listener)));
    until(address, "/healthz/ready", 200, "READY").await;
    is_shy.store(true, Ordering::SeqCst);
    let answer = get(address, "/status").await;
    assert!(answer.is_none_or(|(code, _)| code == 503));
    assert_eq!(running.ended().await.exit_code(), 70);
}
