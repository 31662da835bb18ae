//! The child's output, to the last line.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use handover_process::{Command, ExitCause, Line, Signal, Stream, Tail, queue};

use super::support::{Recorder, helper, in_time, recorded};

#[tokio::test]
async fn not_a_line_is_lost_at_the_end() {
    let (child, recorder) = recorded(helper(&["lines", "10000"])).await;
    in_time(child.wait()).await.unwrap();
    for (stream, name) in [(Stream::Stdout, "out"), (Stream::Stderr, "err")] {
        let lines = recorder.lines(stream);
        assert_eq!(lines.len(), 10_000);
        for (line, number) in lines.iter().zip(1..) {
            assert_eq!(*line, format!("{name} {number}"));
        }
    }
    let tail = child.stderr_tail();
    assert_eq!(tail.lines().len(), Tail::LINES);
    assert_eq!(tail.lines().next_back(), Some(&b"err 10000"[..]));
}

#[tokio::test]
async fn a_line_tells_who_wrote_it() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let command = helper(&["lines", "1"]).epoch(3).label("proxy");
    let child = command.output(move |line: &Line<'_>| {
        assert_eq!(line.source.epoch, Some(3));
        assert_eq!(&*line.source.label, "proxy");
        assert!(line.source.pid > 1);
        count.fetch_add(1, Ordering::Relaxed);
    });
    let child = child.spawn().await.unwrap();
    in_time(child.wait()).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output_does_not_delay_the_end() {
    let recorder = Recorder::default();
    let command = helper(&["leave"]).output(recorder.clone());
    let child = command.spawn().await.unwrap();
    // The grandchild would hold it for a minute.
    assert_eq!(in_time(child.wait()).await.unwrap(), ExitCause::Code(0));
    let lines = recorder.lines(Stream::Stdout);
    assert_eq!(lines.last().unwrap(), "the last line");
    let grandchild = lines[0].parse().unwrap();
    let grandchild = rustix::process::Pid::from_raw(grandchild).unwrap();
    rustix::process::kill_process(grandchild, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_consumer_that_stalls_does_not_hold_the_child() {
    let (sink, mut lines) = queue(10);
    let child = helper(&["flood", "4096"])
        .output(sink)
        .spawn()
        .await
        .unwrap();
    assert_eq!(in_time(child.wait()).await.unwrap(), ExitCause::Code(0));
    assert_eq!(lines.dropped(), 4096 - 10);
    drop(child);
    let mut kept = 0;
    while in_time(lines.recv()).await.is_some() {
        kept += 1;
    }
    assert_eq!(kept, 10);
}

/// The shortest lines cost the most for each byte.
#[tokio::test]
async fn a_child_that_writes_without_pause_lets_others_have_their_turn() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let flood = Command::new("yes").output(move |_: &Line<'_>| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let child = flood.spawn().await.unwrap();
    let (mut before, mut most) = (0, 0);
    let turns = async {
        while before < 500_000 {
            tokio::task::yield_now().await;
            let now = seen.load(Ordering::Relaxed);
            most = most.max(now - before);
            before = now;
        }
    };
    in_time(turns).await;
    child.signal(Signal::KILL).unwrap();
    in_time(child.wait()).await.unwrap();
    // Two bytes a line, and 64 KiB between two pauses.
    assert!(most <= 2 * 32 * 1024, "{most} lines between two turns");
}

#[tokio::test]
async fn a_sink_that_panics_loses_its_line_and_not_the_child() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let child = helper(&["lines", "3"]).output(move |line: &Line<'_>| {
        count.fetch_add(1, Ordering::Relaxed);
        assert!(line.bytes != b"out 2", "a bug in the sink");
    });
    let child = child.spawn().await.unwrap();
    assert_eq!(in_time(child.wait()).await.unwrap(), ExitCause::Code(0));
    assert_eq!(seen.load(Ordering::Relaxed), 6);
}
