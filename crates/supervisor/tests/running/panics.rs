//! A bug of a proxy or of a source must not take what runs along.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use handover_supervisor::agent::core::Outcome;
use handover_supervisor::control::{Answered, Client, wire};
use handover_supervisor::operator::Notification;

use crate::support::{Place, Plain, Running, status_when};

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
