//! Signals, groups and the end.

use std::time::Duration;

use handover_process::{ExitCause, Reach, Signal, SignalError, Stop, Stopped};

use super::support::{frozen, gone, helper, in_time, recorded, runs};

fn killed_by(signal: Signal) -> ExitCause {
    ExitCause::Signal {
        number: signal.number(),
        core_dumped: false,
    }
}

#[tokio::test]
async fn a_signal_reaches_the_child_and_none_is_sent_after_its_end() {
    let child = helper(&["sleep"]).spawn().await.unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(Signal::USR1).unwrap();
    assert_eq!(
        in_time(child.wait()).await.unwrap(),
        killed_by(Signal::USR1)
    );
    for result in [child.signal(Signal::TERM), child.signal_group(Signal::TERM)] {
        let error = result.unwrap_err();
        assert!(matches!(error, SignalError::Ended { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_wait_that_is_dropped_loses_nothing() {
    let child = helper(&["sleep"]).spawn().await.unwrap();
    for _ in 0..3 {
        let early = tokio::time::timeout(Duration::from_millis(1), child.wait()).await;
        assert!(early.is_err());
    }
    child.signal(Signal::KILL).unwrap();
    assert_eq!(
        in_time(child.wait()).await.unwrap(),
        killed_by(Signal::KILL)
    );
}

#[tokio::test]
async fn stop_asks_first_and_says_whether_that_was_enough() {
    let (willing, _) = recorded(helper(&["sleep"])).await;
    let stopped = in_time(willing.stop(Stop::within(Duration::from_secs(60)))).await;
    let cause = killed_by(Signal::TERM);
    let forced = false;
    assert_eq!(stopped.unwrap(), Stopped { cause, forced });

    let (deaf, recorder) = recorded(helper(&["ignore-term"])).await;
    assert_eq!(recorder.first_line().await, "ready");
    let stopped = in_time(deaf.stop(Stop::within(Duration::from_millis(50)))).await;
    let cause = killed_by(Signal::KILL);
    let forced = true;
    assert_eq!(stopped.unwrap(), Stopped { cause, forced });
}

#[tokio::test]
async fn a_child_that_has_ended_is_stopped_already() {
    let child = helper(&["exit", "4"]).spawn().await.unwrap();
    in_time(child.wait()).await.unwrap();
    let stopped = in_time(child.stop(Stop::within(Duration::from_secs(60)))).await;
    let cause = ExitCause::Code(4);
    let forced = false;
    assert_eq!(stopped.unwrap(), Stopped { cause, forced });
    assert_eq!(
        in_time(child.kill()).await.unwrap(),
        Stopped { cause, forced }
    );
}

#[tokio::test]
async fn a_stopped_process_can_be_asked_and_can_be_killed() {
    let child = helper(&["sleep"]).spawn().await.unwrap();
    child.signal(Signal::STOP).unwrap();
    frozen(child.pid()).await;
    let stopped = in_time(child.stop(Stop::within(Duration::from_secs(60)))).await;
    assert_eq!(stopped.unwrap().cause, killed_by(Signal::TERM));

    let child = helper(&["sleep"]).spawn().await.unwrap();
    child.signal(Signal::STOP).unwrap();
    frozen(child.pid()).await;
    let stopped = in_time(child.kill()).await.unwrap();
    assert_eq!(stopped.cause, killed_by(Signal::KILL));
}

/// A child with a grandchild; the grandchild's id.
async fn tree() -> (handover_process::Child, u32) {
    let (child, recorder) = recorded(helper(&["tree"])).await;
    let grandchild = recorder.first_line().await.parse().unwrap();
    assert!(runs(grandchild));
    (child, grandchild)
}

#[tokio::test]
async fn every_forced_end_reaches_the_grandchildren() {
    let (child, grandchild) = tree().await;
    in_time(child.kill()).await.unwrap();
    gone(grandchild).await;

    let (child, grandchild) = tree().await;
    child.signal_group(Signal::TERM).unwrap();
    in_time(child.wait()).await.unwrap();
    gone(grandchild).await;

    let (child, grandchild) = tree().await;
    let pid = child.pid();
    drop(child);
    gone(grandchild).await;
    gone(pid).await;
}

#[tokio::test]
async fn a_child_that_ends_in_time_takes_its_group_along() {
    for reach in [Reach::Child, Reach::Group] {
        let (child, grandchild) = tree().await;
        let stop = Stop {
            reach,
            ..Stop::within(Duration::from_secs(60))
        };
        let stopped = in_time(child.stop(stop)).await.unwrap();
        assert!(!stopped.forced);
        gone(grandchild).await;
    }
}

#[tokio::test]
async fn what_a_child_leaves_behind_lives_on_unless_told_otherwise() {
    let (child, recorder) = recorded(helper(&["leave"])).await;
    in_time(child.wait()).await.unwrap();
    let left: u32 = recorder.first_line().await.parse().unwrap();
    assert!(runs(left));
    let left_pid = rustix::process::Pid::from_raw(left.cast_signed()).unwrap();
    rustix::process::kill_process(left_pid, rustix::process::Signal::KILL).unwrap();
    gone(left).await;

    let (child, recorder) = recorded(helper(&["leave"]).kill_group_at_end(true)).await;
    in_time(child.wait()).await.unwrap();
    let left: u32 = recorder.first_line().await.parse().unwrap();
    gone(left).await;
}
