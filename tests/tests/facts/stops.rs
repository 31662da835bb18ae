//! Ways to stop, and what each of them loses.

use std::thread;

use handover_test_support::bare_envoy::{Epoch, LIMIT};
use handover_test_support::kept_connection::KeptConnection;
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::Signal;

use crate::subject::Subject;
use crate::world::{LongRequest, listener_stat, long_request};

/// TERM cuts what is in flight.
pub(crate) fn a_stop_by_term_alone_cuts_requests(subject: &Subject) {
    let host = subject.host();
    let mut epoch = host.live(0);
    let request = long_request(&host, subject.seconds(2.0));
    term(&mut epoch);
    request.assert_cut();
}

/// So does a graceful drain of a fixed time that is shorter than a request.
pub(crate) fn a_stop_after_a_fixed_drain_cuts_longer_requests(subject: &Subject) {
    let host = subject.host();
    let mut epoch = host.live(0);
    let request = long_request(&host, subject.seconds(20.0));
    assert!(host.order("/drain_listeners?graceful").is_ok());
    thread::sleep(subject.seconds(1.2));
    term(&mut epoch);
    request.assert_cut();
}

/// A graceful drain that is waited for until no connection is active loses nothing.
pub(crate) fn a_stop_after_a_graceful_drain_to_the_last_connection_cuts_nothing(subject: &Subject) {
    drain_to_the_last(subject, &["/drain_listeners?graceful"]);
}

/// Failed health and an immediate drain, waited for in the same way, lose nothing, and are quicker.
pub(crate) fn a_stop_after_failed_health_and_a_drain_to_the_last_connection_cuts_nothing(
    subject: &Subject,
) {
    drain_to_the_last(subject, &["/healthcheck/fail", "/drain_listeners"]);
}

fn drain_to_the_last(subject: &Subject, orders: &[&str]) {
    let host = subject.host();
    let mut epoch = host.live(0);
    let requests: Vec<LongRequest> = [0.3, 0.6, 1.0, 1.5]
        .map(|seconds| long_request(&host, subject.seconds(seconds)))
        .into();
    let mut kept = KeptConnection::open(host.web(), LIMIT).expect("it listens");
    assert!(kept.get("/").expect("it serves").reusable);
    for order in orders {
        assert!(host.order(order).is_ok());
    }
    // The kept connection is used until its end is announced, by requests that are all answered.
    let what = "the announced end of a kept connection";
    eventually(LIMIT, what, || {
        let answer = kept.get("/").expect("nothing is cut");
        (!answer.reusable).then_some(())
    });
    drop(kept);
    let what = "closed listeners";
    eventually(LIMIT, what, || host.is_refused().then_some(()));
    let answers = thread::spawn(|| {
        let answers = requests.into_iter().map(LongRequest::answer);
        answers.collect::<Vec<_>>()
    });
    let active = || listener_stat(&host, "downstream_cx_active");
    let what = "no active connection";
    eventually(LIMIT, what, || (active() == Some(0)).then_some(()));
    term(&mut epoch);
    for answer in answers.join().expect("it does not panic") {
        assert_eq!(answer.map(|answer| answer.status).ok(), Some(200));
    }
}

fn term(epoch: &mut Epoch) {
    epoch.signal(Signal::TERM);
    epoch.wait().assert_exit(0, "");
}
