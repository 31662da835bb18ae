//! The messages by which two epochs speak to each other.
//!
//! A frame is an 8-byte big-endian length and a Protobuf message. It travels in datagrams of at most
//! 4096 bytes.

use std::collections::BTreeMap;

use prost::Message;

/// The largest message that is accepted: more than the statistics of 10,000 listeners.
const MAX_MESSAGE: usize = 8 << 20;
/// The largest datagram that Envoy sends.
pub(crate) const DATAGRAM: usize = 4096;
const LENGTH: usize = 8;

/// `HotRestartMessage`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct HotRestartMessage {
    #[prost(message, optional, tag = "1")]
    pub(crate) request: Option<Request>,
    #[prost(message, optional, tag = "2")]
    pub(crate) reply: Option<Reply>,
    /// The sender did not understand the last message.
    #[prost(bool, tag = "3")]
    pub(crate) not_recognized: bool,
}

/// What a child asks its parent.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Request {
    #[prost(oneof = "RequestKind", tags = "1, 2, 3, 4, 5")]
    pub(crate) kind: Option<RequestKind>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(crate) enum RequestKind {
    #[prost(message, tag = "1")]
    PassListenSocket(PassListenSocket),
    #[prost(message, tag = "2")]
    ShutdownAdmin(Nothing),
    #[prost(message, tag = "3")]
    Stats(Nothing),
    #[prost(message, tag = "4")]
    DrainListeners(Nothing),
    #[prost(message, tag = "5")]
    Terminate(Nothing),
}

/// Which listening socket is asked for.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PassListenSocket {
    /// For example `tcp://127.0.0.1:80`.
    #[prost(string, tag = "1")]
    pub(crate) address: String,
    #[prost(uint32, tag = "2")]
    pub(crate) worker_index: u32,
}

/// What a parent answers.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Reply {
    #[prost(oneof = "ReplyKind", tags = "1, 2, 3")]
    pub(crate) kind: Option<ReplyKind>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(crate) enum ReplyKind {
    #[prost(message, tag = "1")]
    PassListenSocket(PassedSocket),
    #[prost(message, tag = "2")]
    ShutdownAdmin(AdminShutDown),
    #[prost(message, tag = "3")]
    Stats(Stats),
}

/// The listening socket, which goes along with the message.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PassedSocket {
    /// The number of the descriptor in the parent; -1 for none.
    #[prost(int32, tag = "1")]
    pub(crate) fd: i32,
}

/// What a child must know of its ancestors.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AdminShutDown {
    /// When the first epoch started, in seconds of Unix time.
    #[prost(uint64, tag = "1")]
    pub(crate) original_start_time: u64,
    #[prost(bool, tag = "2")]
    pub(crate) enable_reuse_port_default: bool,
}

/// The statistics of the parent.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Stats {
    /// In bytes.
    #[prost(uint64, tag = "1")]
    pub(crate) memory_allocated: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) connections: u64,
    /// How much each counter has grown since the last question.
    #[prost(btree_map = "string, uint64", tag = "3")]
    pub(crate) counter_deltas: BTreeMap<String, u64>,
    /// What each gauge is.
    #[prost(btree_map = "string, uint64", tag = "4")]
    pub(crate) gauges: BTreeMap<String, u64>,
}

/// A message without fields.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Nothing {}

/// A child's request.
pub(crate) fn request(kind: RequestKind) -> HotRestartMessage {
    HotRestartMessage {
        request: Some(Request { kind: Some(kind) }),
        ..HotRestartMessage::default()
    }
}

/// A parent's answer.
pub(crate) fn reply(kind: ReplyKind) -> HotRestartMessage {
    HotRestartMessage {
        reply: Some(Reply { kind: Some(kind) }),
        ..HotRestartMessage::default()
    }
}

/// Returns a message as a frame.
pub(crate) fn frame(message: &HotRestartMessage) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

/// Puts frames together from datagrams.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pending: Vec<u8>,
}

impl Frames {
    /// Takes a datagram, and returns the message that it completes. A message that cannot be read is a
    /// request of an unknown kind.
    pub(crate) fn take(&mut self, datagram: &[u8]) -> Option<HotRestartMessage> {
        self.pending.extend_from_slice(datagram);
        let length = self.pending.first_chunk::<LENGTH>().copied();
        let length = length.and_then(|bytes| usize::try_from(u64::from_be_bytes(bytes)).ok());
        let Some(length) = length.filter(|length| *length <= MAX_MESSAGE) else {
            self.pending.clear();
            return None;
        };
        let body = self.pending.get(LENGTH..LENGTH.saturating_add(length))?;
        let message = HotRestartMessage::decode(body).unwrap_or_else(|_| HotRestartMessage {
            request: Some(Request { kind: None }),
            ..HotRestartMessage::default()
        });
        self.pending.clear();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As the real Envoy sends them.
    #[test]
    fn messages_have_the_bytes_of_the_real_ones() {
        let body = |message| hex(frame(&message).get(LENGTH..).unwrap());
        assert_eq!(body(request(RequestKind::Stats(Nothing {}))), "0a021a00");
        assert_eq!(
            body(request(RequestKind::Terminate(Nothing {}))),
            "0a022a00"
        );
        let pass = RequestKind::PassListenSocket(PassListenSocket {
            address: "tcp://127.0.0.1:19922".to_owned(),
            worker_index: 0,
        });
        assert_eq!(
            body(request(pass)),
            "0a190a170a157463703a2f2f3132372e302e302e313a3139393232"
        );
        let none = ReplyKind::PassListenSocket(PassedSocket { fd: -1 });
        assert_eq!(body(reply(none)), "120d0a0b08ffffffffffffffffff01");
        let shut_down = ReplyKind::ShutdownAdmin(AdminShutDown {
            original_start_time: 1_795_765_989,
            enable_reuse_port_default: true,
        });
        assert_eq!(body(reply(shut_down)), "120a120808e5eda4d8061001");
    }

    #[test]
    fn a_frame_in_pieces_is_put_together_and_garbage_is_dropped() {
        let message = request(RequestKind::DrainListeners(Nothing {}));
        let frame = frame(&message);
        let (one, two) = frame.split_at(9);
        let mut frames = Frames::default();
        assert_eq!(frames.take(&[0xff; 12]), None);
        assert_eq!(frames.take(one), None);
        assert_eq!(frames.take(two), Some(message));
    }

    proptest::proptest! {
        #[test]
        fn no_datagram_panics_or_grows_without_end(
            datagrams in proptest::collection::vec(
                proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), 0..64),
        ) {
            let mut frames = Frames::default();
            for datagram in &datagrams {
                let _message = frames.take(datagram);
                proptest::prop_assert!(frames.pending.len() <= MAX_MESSAGE + 128);
            }
        }
    }
}
