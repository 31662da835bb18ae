//! What a service manager hears of a supervisor that did not run for a while.

use std::time::Duration;

use handover_core::Timestamp;
use handover_supervisor::operator::{
    DeadlineReason, Input, Notification, Operator, Output, ServiceManager, Settings, Signal,
};

fn at(seconds: u64) -> Timestamp {
    Timestamp::new(Duration::from_secs(seconds))
}

fn notified(operator: &mut Operator<String>) -> Vec<Notification> {
    let outputs = std::iter::from_fn(|| operator.poll_output());
    let mut notified = Vec::new();
    for output in outputs {
        if let Output::Notify(notification) = output {
            notified.push(notification);
        }
    }
    notified
}

fn with_manager(alive_every: Duration) -> Operator<String> {
    Operator::new(Settings {
        service_manager: Some(ServiceManager {
            alive_every: Some(alive_every),
        }),
        ..Settings::default()
    })
}

#[test]
fn after_a_gap_there_is_one_report_and_no_burst() {
    let mut operator = with_manager(Duration::from_secs(10));
    let more_time = Notification::MoreTime(Duration::from_secs(30));
    assert!(notified(&mut operator).ends_with(&[more_time, Notification::Alive]));
    // The process was stopped for an hour, and continues.
    operator.handle_timeout(at(3600));
    let mut heard = notified(&mut operator);
    heard.sort_by_key(|notification| *notification == Notification::Alive);
    assert_eq!(heard, [more_time, Notification::Alive]);
    let next = operator.poll_timeout().unwrap();
    assert_eq!(next.at, at(3610));
    // A clock that jumps back, which a monotonic one never does, changes nothing.
    operator.handle_timeout(at(5));
    assert_eq!(notified(&mut operator), []);
}

#[test]
fn an_interval_of_nothing_leaves_time_for_the_rest() {
    let mut operator = with_manager(Duration::ZERO);
    notified(&mut operator);
    operator.handle_timeout(at(1));
    assert_eq!(notified(&mut operator), [Notification::Alive]);
    let next = operator.poll_timeout().unwrap();
    assert_eq!(next.reason, DeadlineReason::Alive);
    assert!(next.at > at(1));
}

/// The time of a start is not that of a stop: `TimeoutStopSec` may be shorter than what was left.
#[test]
fn more_time_is_asked_for_as_soon_as_the_end_begins() {
    let mut operator = with_manager(Duration::from_secs(10));
    notified(&mut operator);
    let signal = Input::Signal(Signal::Terminate);
    let _accepted = operator.handle_input(at(1), signal);
    let more_time = Notification::MoreTime(Duration::from_secs(30));
    let heard = notified(&mut operator);
    assert_eq!(heard.first(), Some(&Notification::Stopping));
    assert!(heard.contains(&more_time), "{heard:?}");
}
