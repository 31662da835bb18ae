//! A real child tells that it serves.

use handover_process::Descendants;
use handover_process::ready::{Heard, Notice, NotifySocket, ReadyPipe, ReadyPipeError};

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

/// The next message that counts, and the senders of those before it.
async fn next(socket: &NotifySocket, child: u32) -> (Notice, Vec<u32>) {
    let mut outsiders = Vec::new();
    loop {
        match in_time(socket.next(child)).await.unwrap() {
            Heard::Notice(notice) => return (notice, outsiders),
            Heard::Outsider { pid, .. } => outsiders.push(pid),
        }
    }
}

#[tokio::test]
async fn a_child_tells_by_the_notify_socket() {
    let socket = NotifySocket::bind().unwrap();
    let command = helper(&["notify", "STATUS=up\nREADY=1"]);
    let command = command.env("NOTIFY_SOCKET", socket.address());
    let child = command.spawn().await.unwrap();
    let (notice, _) = next(&socket, child.pid()).await;
    assert!(notice.ready);
    assert_eq!(notice.status.as_deref(), Some("up"));
}

#[tokio::test]
async fn another_child_cannot_speak_for_it() {
    let socket = NotifySocket::bind().unwrap();
    let env = |text| helper(&["notify", text]).env("NOTIFY_SOCKET", socket.address());
    let stranger = env("READY=1\nSTATUS=stranger").spawn().await.unwrap();
    let (heard, _) = next(&socket, stranger.pid()).await;
    assert!(heard.ready);

    let (other_stranger, recorder) = recorded(env("READY=1\nSTATUS=stranger")).await;
    assert_eq!(recorder.first_line().await, "sent");
    let child = env("READY=1\nSTATUS=child").spawn().await.unwrap();
    let (heard, outsiders) = next(&socket, child.pid()).await;
    assert_eq!(heard.status.as_deref(), Some("child"));
    assert_eq!(outsiders, [other_stranger.pid()]);
}

/// What `tini` and `dumb-init` do with the program that they start.
#[tokio::test]
async fn a_program_that_was_given_a_group_of_its_own_speaks_for_the_child() {
    let socket = NotifySocket::bind().unwrap();
    let command = helper(&["in-own-group", "notify", "READY=1\nSTATUS=inner"]);
    let child = command.env("NOTIFY_SOCKET", socket.address());
    let child = child.spawn().await.unwrap();
    let (heard, outsiders) = next(&socket, child.pid()).await;
    assert_eq!(heard.status.as_deref(), Some("inner"));
    assert!(outsiders.is_empty(), "{outsiders:?}");
    // It is out of reach for the signal to the group.
    let mut descendants = Descendants::of(child.pid());
    descendants.note().unwrap();
    child.kill().await.unwrap();
    let left = descendants.outside_group().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    for inner in left {
        assert!(inner.kill().unwrap());
    }
}
