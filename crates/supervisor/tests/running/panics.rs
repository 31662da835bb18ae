//! A bug of a proxy or of a source must not take what runs along.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use handover_supervisor::ServiceManager;
use handover_supervisor::agent::core::Outcome;
use handover_supervisor::control::{Answered, Client, wire};
use handover_supervisor::operator::Notification;

use crate::support::{LIMIT, Place, Plain, Running, status_when};

async fn is_drained_after(text: &str, message: &str) {
    let place = Place::with("one");
    let running = Running::start(place.supervisor(Plain::default()));
    status_when(&place, "epoch 0", |status| status.ready).await;
    place.write(text);
    let ended = running.ended().await;
    assert_eq!(ended.ending.agent, Ok(Outcome::Drained));
    assert_eq!(ended.exit_code(), 70);
    let problem = ended.problem().unwrap();
    assert!(problem.contains(message), "{problem}");
}

#[tokio::test]
async fn a_panic_of_the_source_drains_what_runs() {
    is_drained_after("a panic", "of the source").await;
}

#[tokio::test]
async fn a_panic_of_a_read_drains_what_runs() {
    is_drained_after("a late panic", "of the read").await;
}

#[tokio::test]
async fn a_second_panic_drains_what_runs_without_the_operator() {
    let place = Place::with("one");
    let supervisor = place.supervisor(Plain::default());
    let running = Running::start(supervisor.notify(|notification| {
        assert_ne!(notification, Notification::Stopping, "of the listener");
    }));
    status_when(&place, "epoch 0", |status| status.ready).await;
    place.write("a panic");
    let ended = running.ended().await;
    assert_eq!(ended.ending.agent, Ok(Outcome::Drained));
    let problem = ended.problem().unwrap();
    assert!(problem.contains("of the listener"), "{problem}");
    assert!(!place.socket().exists());
}

/// The operator is what reports to a service manager, and this end comes without it. The watchdog ended the
/// process in the middle of the drain.
#[tokio::test]
async fn a_service_manager_hears_in_time_of_a_drain_without_the_operator() {
    let place = Place::with("one");
    let path = place.path().join("notify");
    let heard = UnixDatagram::bind(&path).unwrap();
    heard.set_read_timeout(Some(LIMIT)).unwrap();
    let manager = ServiceManager::from_variables(|name| match name {
        "NOTIFY_SOCKET" => Some(path.clone().into()),
        // Each report comes in half of it.
        "WATCHDOG_USEC" => Some("100000".into()),
        _ => None,
    });
    let proxy = Plain {
        drain_takes: Duration::from_millis(500),
        ..Plain::default()
    };
    let supervisor = place.supervisor(proxy).service_manager(manager);
    let running = Running::start(supervisor.notify(|notification| {
        assert_ne!(notification, Notification::Stopping, "of the listener");
    }));
    let listening = std::thread::spawn(move || {
        let mut messages = Vec::new();
        let mut buffer = [0; 4096];
        while messages.last().is_none_or(|last| last != "the end") {
            let length = heard.recv(&mut buffer).unwrap();
            messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        messages
    });
    status_when(&place, "epoch 0", |status| status.ready).await;
    place.write("a panic");
    let ended = running.ended().await;
    assert!(ended.problem().unwrap().contains("of the listener"));
    let teller = UnixDatagram::unbound().unwrap();
    teller
        .send_to(b"the end", place.path().join("notify"))
        .unwrap();
    let messages = listening.join().unwrap();
    let of_the_end = messages.iter().rposition(|message| message == "STOPPING=1");
    let of_the_end = &messages[of_the_end.unwrap()..];
    let count = |what: &str| of_the_end.iter().filter(|message| *message == what).count();
    assert_eq!(count("EXTEND_TIMEOUT_USEC=30000000"), 1, "{messages:?}");
    // Half a second has ten of them.
    assert!(count("WATCHDOG=1") >= 3, "{messages:?}");
}

#[tokio::test]
async fn a_panic_of_the_proxy_drains_what_runs_and_whoever_asked_is_answered() {
    let place = Place::with("one");
    let proxy = Plain::default();
    let is_shy = Arc::clone(&proxy.is_shy);
    let running = Running::start(place.supervisor(proxy));
    status_when(&place, "epoch 0", |status| status.ready).await;
    is_shy.store(true, Ordering::SeqCst);
    let socket = place.socket();
    let answer = Client::new(&socket).get(wire::STATUS).await.unwrap();
    let Answered::Refused(refusal) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(refusal.code, wire::Code::Ending);
    let ended = running.ended().await;
    assert_eq!(ended.ending.agent, Ok(Outcome::Drained));
    let problem = ended.problem().unwrap();
    assert!(problem.contains("of the proxy"), "{problem}");
}
