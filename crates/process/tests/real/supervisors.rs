//! Whole supervisors, as processes of their own.

use handover_process::{Signal, Stream};

use super::support::{gone, helper, in_time, recorded, run, runs};

#[tokio::test]
async fn a_child_outlives_the_thread_that_asked_for_it_and_dies_with_the_supervisor() {
    let (supervisor, recorder) = recorded(helper(&["supervise"])).await;
    // The thread that asked for the child ended before the child's id was told.
    let child: u32 = recorder.first_line().await.parse().unwrap();
    assert!(runs(child));
    supervisor.signal(Signal::KILL).unwrap();
    in_time(supervisor.wait()).await.unwrap();
    gone(child).await;
}

#[tokio::test]
async fn exit_codes_are_known_even_where_the_child_signal_was_ignored() {
    let told = run(helper(&["no-child-signal"])).await;
    assert_eq!(
        told.lines(Stream::Stdout),
        ["exited with code 5", "true"],
        "the second child was collected by other code, which is told"
    );
}

#[tokio::test]
async fn orphans_are_collected_and_children_keep_their_exit_codes() {
    let told = run(helper(&["reap-orphans"])).await;
    assert_eq!(
        told.lines(Stream::Stdout),
        ["40 exited with code 7", "children left: 0"]
    );
}

#[tokio::test]
async fn two_hundred_children_leave_neither_zombies_nor_descriptors() {
    let told = run(helper(&["many", "200"])).await;
    let told = told.lines(Stream::Stdout);
    assert_eq!(told.last().unwrap(), "in time: true", "{told:?}");
}
