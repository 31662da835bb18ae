//! Answers a child in the place of its dead parent, by the messages of the hot restart.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// The name of an abstract socket fills the whole address: Envoy binds all of it.
const NAME_LENGTH: usize = 107;

/// What a child asks of its parent. A message is a request, field 1, with one field by its kind.
const PASS_LISTEN_SOCKET: u8 = 0x0a;
const SHUTDOWN_ADMIN: u8 = 0x12;
const STATISTICS: u8 = 0x1a;
const DRAIN_LISTENERS: u8 = 0x22;
const TERMINATE: u8 = 0x2a;

/// A reply, field 2, that the parent has no such socket: the descriptor -1.
const NO_SOCKET: &[u8] = b"\x12\x0d\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
/// An empty reply about the admin endpoint.
const ADMIN_IS_SHUT_DOWN: &[u8] = &[0x12, 0x02, 0x12, 0x00];
/// An empty reply about statistics.
const NO_STATISTICS: &[u8] = &[0x12, 0x02, 0x1a, 0x00];

/// The socket of a parent that has died.
pub(crate) struct StandIn {
    socket: OwnedFd,
}

/// What the child has asked for, and how often.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) sockets: u32,
    pub(crate) admin: u32,
    pub(crate) statistics: u32,
    pub(crate) drains: u32,
}

impl StandIn {
    /// Takes the socket of the epoch with this number.
    pub(crate) fn for_parent(base_id: u32, epoch: u32) -> Self {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        );
        let socket = socket.expect("a socket");
        let id = base_id * 10 + epoch % 3;
        let mut name = format!("envoy_domain_socket_parent_{id}").into_bytes();
        name.resize(NAME_LENGTH, 0);
        let address = SocketAddrUnix::new_abstract_name(&name).expect("the name fits");
        rustix::net::bind(&socket, &address).expect("the parent is dead");
        Self { socket }
    }

    /// Answers until the child orders its parent to end.
    pub(crate) fn answer_until_terminate(&self, limit: Duration) -> Asked {
        let end = Instant::now() + limit;
        let mut asked = Asked::default();
        let mut buffer = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no order to end in {limit:?}, but {asked:?}"
            );
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            if poll(&mut fds, Some(&timeout)).expect("the socket is open") == 0 {
                continue;
            }
            let received = rustix::net::recvfrom(&self.socket, &mut buffer, RecvFlags::empty());
            let (read, _, sender) = received.expect("a message is there");
            // Each message follows its length, in eight bytes. It is a request with a length of one byte.
            let Some([0x0a, _, kind, ..]) = buffer.get(8..read) else {
                panic!("no request: {:?}", buffer.get(..read));
            };
            let (count, reply) = match *kind {
                PASS_LISTEN_SOCKET => (&mut asked.sockets, Some(NO_SOCKET)),
                SHUTDOWN_ADMIN => (&mut asked.admin, Some(ADMIN_IS_SHUT_DOWN)),
                STATISTICS => (&mut asked.statistics, Some(NO_STATISTICS)),
                DRAIN_LISTENERS => (&mut asked.drains, None),
                TERMINATE => return asked,
                other => panic!("an unknown request: {other:#x}"),
            };
            *count += 1;
            let Some(reply) = reply else {
                continue;
            };
            let mut frame = (reply.len() as u64).to_be_bytes().to_vec();
            frame.extend_from_slice(reply);
            let sender = sender.expect("the child's socket has a name");
            let flags = SendFlags::empty();
            rustix::net::sendto(&self.socket, &frame, flags, &sender).expect("it reads");
        }
    }
}
