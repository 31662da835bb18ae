//! The control plane over REST, as a client sees it. Real Envoys see both transports.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use handover_test_support::control_plane::{ControlPlane, Kind, Manner, TYPES};
use handover_test_support::http;
use handover_test_support::limit::eventually;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

fn ask(plane: &ControlPlane) -> Value {
    let answer = http::post(plane.addr(), "/v3/discovery:clusters", LIMIT).unwrap();
    assert_eq!(answer.status, 200);
    serde_json::from_slice(&answer.body).unwrap()
}

fn with_a_cluster() -> ControlPlane {
    let plane = ControlPlane::start();
    let kind = format!("{TYPES}{}", Kind::Cluster.message());
    let cluster = json!({"@type": kind, "name": "a", "connect_timeout": "1s"});
    plane.set(Kind::Cluster, vec![cluster]);
    plane
}

#[test]
fn resources_are_answered_and_the_question_is_counted() {
    let plane = with_a_cluster();
    assert!(!plane.was_asked(Kind::Cluster));
    let answer = ask(&plane);
    assert_eq!(answer["resources"][0]["name"], "a");
    let seen = plane.seen(Kind::Cluster);
    assert_eq!((seen.asked, seen.answered), (1, 1));
    assert!(!plane.was_asked(Kind::Listener));
}

#[test]
fn one_that_is_away_refuses_and_comes_back_to_its_port() {
    let plane = with_a_cluster();
    plane.go_away();
    let refused = http::post(plane.addr(), "/v3/discovery:clusters", LIMIT).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    plane.come_back();
    ask(&plane);
}

#[test]
fn a_slow_answer_comes_late_and_a_silent_one_once_it_is_allowed() {
    let plane = with_a_cluster();
    let slow = Duration::from_millis(300);
    plane.behave(Kind::Cluster, Manner::Slow(slow));
    let asked = Instant::now();
    ask(&plane);
    assert!(asked.elapsed() >= slow);
    plane.behave(Kind::Cluster, Manner::Silent);
    thread::scope(|scope| {
        let waits = scope.spawn(|| ask(&plane));
        eventually(LIMIT, "the question", || {
            (plane.seen(Kind::Cluster).asked == 2).then_some(())
        });
        assert_eq!(plane.seen(Kind::Cluster).answered, 1);
        plane.behave(Kind::Cluster, Manner::Answers);
        assert_eq!(waits.join().unwrap()["resources"][0]["name"], "a");
    });
}

#[test]
fn a_wrong_answer_is_spoilt_and_garbage_is_no_answer_at_all() {
    let plane = with_a_cluster();
    let good = ask(&plane);
    plane.behave(Kind::Cluster, Manner::Refused);
    let wrong = ask(&plane);
    assert_ne!(wrong["version_info"], good["version_info"]);
    assert_eq!(wrong["resources"][0]["connect_timeout"], "0s");
    plane.behave(Kind::Cluster, Manner::Garbage);
    let garbage = http::post(plane.addr(), "/v3/discovery:clusters", LIMIT).unwrap();
    assert!(serde_json::from_slice::<Value>(&garbage.body).is_err());
}
