//! What holds of any datagrams that come to the hot-restart sockets.

use super::message::{Answer, Frames, MAX_MESSAGE, answer, frame, has_shut_down_admin};

/// Takes datagrams in, each of which is one byte for its length and so many bytes, and answers what
/// they ask.
///
/// # Panics
///
/// If more is kept than a message may have, or if an answer does not read as what it is.
pub fn hot_restart_messages(mut bytes: &[u8]) {
    let mut frames = Frames::default();
    while let Some((length, rest)) = bytes.split_first() {
        let length = usize::from(*length).min(rest.len());
        let (datagram, rest) = rest.split_at(length);
        bytes = rest;
        if let Some(message) = frames.take(datagram) {
            let _shut_down = has_shut_down_admin(&message);
            if let Answer::Reply(reply) = answer(&message) {
                assert_eq!(Frames::default().take(&frame(&reply)), Some(reply));
            }
        }
        assert!(frames.pending.len() <= MAX_MESSAGE + 2 * usize::from(u8::MAX));
    }
}
