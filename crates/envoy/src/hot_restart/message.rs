//! The messages by which the epochs of one Envoy speak to each other: those parts that a stand-in for
//! a dead parent must understand, and what a child says to a parent that must give way.
//!
//! A frame is an 8-byte big-endian length and a Protobuf message. Numbers of fields and messages are
//! those of Envoy 1.36 to 1.40. What is not known decodes as a request without a kind.

use prost::Message;

/// The largest message that is accepted. What a child asks for is below 100 bytes; forwarded UDP
/// packets, which nobody can use any more, are below 64 KiB.
pub(super) const MAX_MESSAGE: usize = 1 << 20;

const LENGTH: usize = 8;

/// `HotRestartMessage`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct HotRestartMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) request: Option<Request>,
    #[prost(message, optional, tag = "2")]
    pub(super) reply: Option<Reply>,
    /// The sender did not understand the last message.
    #[prost(bool, tag = "3")]
    pub(super) not_recognized: bool,
}

/// What a child asks its parent.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Request {
    #[prost(oneof = "RequestKind", tags = "1, 2, 3, 4, 5")]
    pub(super) kind: Option<RequestKind>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(super) enum RequestKind {
    /// For the listening socket of an address.
    #[prost(message, tag = "1")]
    PassListenSocket(Anything),
    /// To close the admin endpoint.
    #[prost(message, tag = "2")]
    ShutdownAdmin(Anything),
    /// For statistics, every five seconds.
    #[prost(message, tag = "3")]
    Stats(Anything),
    /// To drain; no reply is expected.
    #[prost(message, tag = "4")]
    DrainListeners(Anything),
    /// To end; no reply is expected.
    #[prost(message, tag = "5")]
    Terminate(Anything),
}

/// What a parent answers.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Reply {
    #[prost(oneof = "ReplyKind", tags = "1, 2, 3")]
    pub(super) kind: Option<ReplyKind>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(super) enum ReplyKind {
    #[prost(message, tag = "1")]
    PassListenSocket(PassListenSocketReply),
    #[prost(message, tag = "2")]
    ShutdownAdmin(Anything),
    #[prost(message, tag = "3")]
    Stats(Anything),
}

/// The listening socket, which goes along with the message; -1 for none.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PassListenSocketReply {
    #[prost(int32, tag = "1")]
    pub(super) fd: i32,
}

/// A message whose fields do not matter: they are skipped when read and absent when written.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Anything {}

/// What the other side is to do about a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Send this.
    Reply(HotRestartMessage),
    /// Send nothing.
    Nothing,
    /// Send nothing; the child does not need its parent any more.
    Released,
}

/// How a parent that has nothing answers.
pub(super) fn answer(message: &HotRestartMessage) -> Answer {
    let Some(request) = &message.request else {
        // Replies and complaints are not for a parent.
        return Answer::Nothing;
    };
    let kind = match &request.kind {
        Some(RequestKind::PassListenSocket(_)) => {
            ReplyKind::PassListenSocket(PassListenSocketReply { fd: -1 })
        }
        Some(RequestKind::ShutdownAdmin(_)) => ReplyKind::ShutdownAdmin(Anything {}),
        Some(RequestKind::Stats(_)) => ReplyKind::Stats(Anything {}),
        Some(RequestKind::DrainListeners(_)) => return Answer::Nothing,
        Some(RequestKind::Terminate(_)) => return Answer::Released,
        None => {
            return Answer::Reply(HotRestartMessage {
                not_recognized: true,
                ..HotRestartMessage::default()
            });
        }
    };
    let reply = Some(Reply { kind: Some(kind) });
    Answer::Reply(HotRestartMessage {
        reply,
        ..HotRestartMessage::default()
    })
}

/// The answer of a parent that has no statistics.
pub(super) fn stats_reply() -> HotRestartMessage {
    HotRestartMessage {
        reply: Some(Reply {
            kind: Some(ReplyKind::Stats(Anything {})),
        }),
        ..HotRestartMessage::default()
    }
}

/// A child's request.
pub(super) fn request(kind: RequestKind) -> HotRestartMessage {
    HotRestartMessage {
        request: Some(Request { kind: Some(kind) }),
        ..HotRestartMessage::default()
    }
}

/// Whether it is the answer of a parent that has closed its admin endpoint.
pub(super) fn has_shut_down_admin(message: &HotRestartMessage) -> bool {
    let kind = message.reply.as_ref().and_then(|reply| reply.kind.as_ref());
    matches!(kind, Some(ReplyKind::ShutdownAdmin(_)))
}

/// A message as a frame.
pub(super) fn frame(message: &HotRestartMessage) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

/// Puts frames together from datagrams; a long one comes in several.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) pending: Vec<u8>,
}

impl Frames {
    /// Takes a datagram in, and returns the message that it completes. What makes no sense is
    /// dropped, and the next datagram begins from its start.
    pub(super) fn take(&mut self, datagram: &[u8]) -> Option<HotRestartMessage> {
        self.pending.extend_from_slice(datagram);
        let length = self
            .pending
            .first_chunk::<LENGTH>()
            .copied()
            .map(u64::from_be_bytes);
        let length = length.and_then(|length| usize::try_from(length).ok());
        let Some(length) = length.filter(|length| *length <= MAX_MESSAGE) else {
            self.pending.clear();
            return None;
        };
        let end = LENGTH.saturating_add(length);
        if self.pending.len() < end {
            return None;
        }
        let message = self.pending.get(LENGTH..end).map(HotRestartMessage::decode);
        self.pending.clear();
        // A message that is not readable is a request of a kind that is not known.
        Some(message?.unwrap_or_else(|_| HotRestartMessage {
            request: Some(Request { kind: None }),
            ..HotRestartMessage::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// What a real child sends, and the reply that was seen to satisfy it.
    fn replies_with(request: &str, expected: &str) {
        let mut datagram = (u64::try_from(request.len() / 2).unwrap())
            .to_be_bytes()
            .to_vec();
        datagram.extend(hex(request));
        let message = Frames::default().take(&datagram).unwrap();
        let Answer::Reply(reply) = answer(&message) else {
            panic!("{message:?} has no reply")
        };
        assert_eq!(frame(&reply)[LENGTH..], hex(expected), "{message:?}");
    }

    #[test]
    fn requests_have_the_replies_that_rescue_a_real_child() {
        replies_with("0a021a00", "12021a00");
        replies_with("0a021200", "12021200");
        let pass = "0a190a170a157463703a2f2f3132372e302e302e313a3139393232";
        replies_with(pass, "120d0a0b08ffffffffffffffffff01");
    }

    #[test]
    fn a_terminate_releases_the_stand_in_and_a_drain_needs_no_reply() {
        let message = |body: &str| HotRestartMessage::decode(&*hex(body)).unwrap();
        assert_eq!(answer(&message("0a022a00")), Answer::Released);
        assert_eq!(answer(&message("0a022200")), Answer::Nothing);
    }

    /// As Envoy 1.36 to 1.40 take and answer them.
    #[test]
    fn what_a_child_says_reads_as_a_real_one_says_it() {
        let said = |kind| frame(&request(kind))[LENGTH..].to_vec();
        assert_eq!(
            said(RequestKind::ShutdownAdmin(Anything {})),
            hex("0a021200")
        );
        assert_eq!(
            said(RequestKind::DrainListeners(Anything {})),
            hex("0a022200")
        );
        let message = |body: &str| HotRestartMessage::decode(&*hex(body)).unwrap();
        assert!(has_shut_down_admin(&message("120a120808e7f18cd8061001")));
        for other in ["", "12021a00", "1801", "0a021200"] {
            assert!(!has_shut_down_admin(&message(other)), "{other}");
        }
    }

    #[test]
    fn an_unknown_request_is_answered_as_not_recognized() {
        replies_with("0a023a00", "1801");
    }

    #[test]
    fn a_frame_in_pieces_is_put_together() {
        let message = HotRestartMessage {
            request: Some(Request {
                kind: Some(RequestKind::Stats(Anything {})),
            }),
            ..HotRestartMessage::default()
        };
        let frame = frame(&message);
        let (one, two) = frame.split_at(10);
        let mut frames = Frames::default();
        assert_eq!(frames.take(one), None);
        assert_eq!(frames.take(two), Some(message));
    }

    proptest! {
        #[test]
        fn no_datagram_panics_or_grows_without_end(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..64),
        ) {
            let mut frames = Frames::default();
            for datagram in &datagrams {
                if let Some(message) = frames.take(datagram) {
                    let _answered = answer(&message);
                }
                prop_assert!(frames.pending.len() <= MAX_MESSAGE + LENGTH + 64);
            }
        }
    }
}
