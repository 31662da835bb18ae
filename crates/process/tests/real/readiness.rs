//! A real child tells that it serves.

use handover_process::ready::{NotifySocket, ReadyPipe, ReadyPipeError};

use super::support::{helper, in_time, recorded};

#[tokio::test]
async fn a_child_tells_by_a_descriptor() {
    let (mut pipe, writer) = ReadyPipe::new().unwrap();
    let command = helper(&["ready-fd", "8"]).descriptor(8, writer);
    let _child = command.spawn().await.unwrap();
    in_time(pipe.wait()).await.unwrap();
}

#[tokio::test]
async fn a_child_that_ends_without_a_word_is_noticed() {
    let (mut pipe, writer) = ReadyPipe::new().unwrap();
    let command = helper(&["exit", "0"]).descriptor(8, writer);
    let _child = command.spawn().await.unwrap();
    let error = in_time(pipe.wait()).await.unwrap_err();
    assert!(matches!(error, ReadyPipeError::Closed), "{error}");
}

#[tokio::test]
async fn a_child_tells_by_the_notify_socket() {
    let socket = NotifySocket::bind().unwrap();
    let command = helper(&["notify", "STATUS=up\nREADY=1"]);
    let command = command.env("NOTIFY_SOCKET", socket.address());
    let child = command.spawn().await.unwrap();
    let notice = in_time(socket.next(child.pid())).await.unwrap();
    assert!(notice.ready);
    assert_eq!(notice.status.as_deref(), Some("up"));
}

#[tokio::test]
async fn another_child_cannot_speak_for_it() {
    let socket = NotifySocket::bind().unwrap();
    let env = |text| helper(&["notify", text]).env("NOTIFY_SOCKET", socket.address());
    let stranger = env("READY=1\nSTATUS=stranger").spawn().await.unwrap();
    let heard = in_time(socket.next(stranger.pid())).await.unwrap();
    assert!(heard.ready);

    let (_other_stranger, recorder) = recorded(env("READY=1\nSTATUS=stranger")).await;
    assert_eq!(recorder.first_line().await, "sent");
    let child = env("READY=1\nSTATUS=child").spawn().await.unwrap();
    let heard = in_time(socket.next(child.pid())).await.unwrap();
    assert_eq!(heard.status.as_deref(), Some("child"));
}
