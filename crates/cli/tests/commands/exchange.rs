//! HTTP by hand: what clients send that no client library would, and the bytes that come back.

use std::io::{Read, Write};

/// Sends these bytes, and returns all that comes back until the connection is closed.
pub(crate) fn send(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    // A server that has read enough may close while the rest is being sent.
    let _cut = stream.write_all(bytes);
    rest(&mut stream)
}

/// Returns all that comes until the connection is closed.
pub(crate) fn rest(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has been closed as well.
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Splits a whole answer into its status code, its head and its body.
pub(crate) fn split(answer: &str) -> (u16, &str, &str) {
    let parts = answer.split_once("\r\n\r\n");
    assert!(parts.is_some(), "no whole answer: {answer:?}");
    let (head, body) = parts.unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head, body)
}
