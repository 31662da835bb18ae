//! Readiness by the notification protocol of systemd.

use std::ffi::OsString;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
use rustix::process::{Pid, getpgid, getuid};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::family::is_below;
use crate::read_burst::ReadBurst;

/// The socket on which a program tells its state, as under systemd: `sd_notify(3)`.
///
/// Its address goes into the program's environment: `.env("NOTIFY_SOCKET", socket.address())`. It is
/// an abstract address, which leaves no file behind; a program in another network namespace cannot
/// reach it.
///
/// Only messages from the child, its process group and its descendants count: the kernel tells who sent a message,
/// and nobody can forge that. A sender that has already ended belongs to nobody any more, as
/// `systemd-notify --no-block` may have. Its message counts if it ran as the supervisor's own user.
///
/// Descriptors that come along with a message are closed at once. That is the answer to `BARRIER=1`,
/// which a client sends to learn that everything before it was read.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    address: OsString,
    burst: ReadBurst,
}

/// A message, and whether it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// From the child, its process group or its descendants.
    Notice(Notice),
    /// From any other process: somebody who has the address, or a daemon that has left its parents.
    Outsider {
        /// Its process id; 0 if it is in a namespace that cannot be seen.
        pid: u32,
        /// What it told.
        notice: Notice,
    },
}

/// What a program told in one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`: it serves.
    pub ready: bool,
    /// `STOPPING=1`: it is about to end.
    pub stopping: bool,
    /// `STATUS=`: what it does, for people.
    pub status: Option<String>,
}

/// The longest message that is read in full, in bytes. A longer one loses its end, back to the last
/// line feed that was read.
const LONGEST_MESSAGE: usize = 4096;

impl NotifySocket {
    /// Binds a socket to a free address.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled.
    pub fn bind() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("handover-notify-{}-{number}", std::process::id());
            let socket = match StdDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?) {
                Ok(socket) => socket,
                // A process with the same number in another container that shares our network.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                Err(error) => return Err(error),
            };
            socket.set_nonblocking(true)?;
            set_socket_passcred(&socket, true)?;
            return Ok(Self {
                socket: UnixDatagram::from_std(socket)?,
                address: format!("@{name}").into(),
                burst: ReadBurst::of_messages(),
            });
        }
    }

    /// Returns the value for `NOTIFY_SOCKET`.
    pub fn address(&self) -> &OsString {
        &self.address
    }

    /// Returns the next message. It counts if it is from the child with this process id, its group or its descendants.
    ///
    /// Call it again and again for as long as the child lives. A program that goes on to report its
    /// status would otherwise find the socket full one day, and wait, or closed, and fail.
    ///
    /// Many messages in a row are read with pauses, so that a program that never stops to send holds
    /// up itself, and nobody else on this thread.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is either returned or still in the socket.
    pub async fn next(&self, child: u32) -> io::Result<Heard> {
        loop {
            self.burst.pause_if_long().await;
            self.socket.readable().await?;
            let receive = || receive(&self.socket);
            let received = self.socket.try_io(Interest::READABLE, receive);
            self.burst.note(received.is_ok());
            match received {
                Ok(Some(Message { sender, text })) => {
                    let notice = Notice::parse(&text);
                    return Ok(match sender.is_from(child) {
                        true => Heard::Notice(notice),
                        false => Heard::Outsider {
                            pid: sender.pid.unsigned_abs(),
                            notice,
                        },
                    });
                }
                Ok(None) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Notice {
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut notice = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            match line {
                b"READY=1" => notice.ready = true,
                b"STOPPING=1" => notice.stopping = true,
                other => {
                    if let Some(status) = other.strip_prefix(b"STATUS=") {
                        notice.status = Some(String::from_utf8_lossy(status).into_owned());
                    }
                }
            }
        }
        notice
    }
}

/// One message.
struct Message {
    sender: Sender,
    text: Vec<u8>,
}

/// Who sent a message, as the kernel tells it.
#[derive(Clone, Copy)]
struct Sender {
    /// 0 for a process in a namespace out of our sight.
    pid: i32,
    uid: u32,
}

impl Sender {
    /// Whether the child, its group or a descendant has sent it. The members of the group carry the child's number
    /// as their group. A program in between may have given its child another one, as `tini` and `dumb-init` do.
    fn is_from(self, child: u32) -> bool {
        if self.pid.unsigned_abs() == child {
            return true;
        }
        let Some(pid) = Pid::from_raw(self.pid) else {
            return false;
        };
        let is_of_own_user = || self.uid == getuid().as_raw();
        match getpgid(Some(pid)) {
            Ok(group) if group.as_raw_nonzero().get().unsigned_abs() == child => true,
            // It may end in this moment.
            Ok(_) => is_below(self.pid.unsigned_abs(), child).unwrap_or_else(is_of_own_user),
            Err(Errno::SRCH) => is_of_own_user(),
            Err(_) => false,
        }
    }
}

/// The size of what the kernel tells about a sender, in the type that the macros want.
#[expect(
    clippy::cast_possible_truncation,
    reason = "three numbers are a dozen bytes"
)]
const CREDENTIALS: u32 = size_of::<libc::ucred>() as u32;

/// Room for the credentials and nothing else, so that the kernel closes descriptors that a sender
/// attaches instead of handing them over.
#[repr(C, align(8))]
struct ControlBuffer([u8; 64]);

/// Receives one message; `None` for a message without credentials.
#[expect(unsafe_code, reason = "receiving credentials with a message")]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the macros for control messages are a family of unsafe functions"
)]
fn receive(socket: &UnixDatagram) -> io::Result<Option<Message>> {
    let mut text = vec![0; LONGEST_MESSAGE];
    let mut control = ControlBuffer([0; 64]);
    let mut part = libc::iovec {
        iov_base: text.as_mut_ptr().cast(),
        iov_len: text.len(),
    };
    // SAFETY: all-zero is a valid header: no address, no parts, no control messages.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: only computes a number.
    let room = unsafe { libc::CMSG_SPACE(CREDENTIALS) };
    message.msg_controllen = room as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: the header points to live buffers and tells their sizes.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let Ok(count) = usize::try_from(count) else {
        return Err(io::Error::last_os_error());
    };
    text.truncate(count);
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        let last_line = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        text.truncate(last_line);
    }
    // SAFETY: the kernel filled in the header and the control buffer; the macros stay within the
    // length it told, and credentials are read unaligned and in full size only.
    let sender = unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        if !first.is_null()
            && (*first).cmsg_level == libc::SOL_SOCKET
            && (*first).cmsg_type == libc::SCM_CREDENTIALS
            && (*first).cmsg_len as usize >= libc::CMSG_LEN(CREDENTIALS) as usize
        {
            let credentials: libc::ucred = libc::CMSG_DATA(first)
                .cast::<libc::ucred>()
                .read_unaligned();
            Some(Sender {
                pid: credentials.pid,
                uid: credentials.uid,
            })
        } else {
            None
        }
    };
    Ok(sender.map(|sender| Message { sender, text }))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use tokio::time::timeout;

    use super::*;

    fn send(socket: &NotifySocket, text: &[u8]) {
        let name = socket
            .address()
            .to_str()
            .unwrap()
            .strip_prefix('@')
            .unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let sender = StdDatagram::unbound().unwrap();
        sender.send_to_addr(text, &address).unwrap();
    }

    /// The next message of this process.
    async fn own(socket: &NotifySocket) -> Notice {
        let next = timeout(Duration::from_secs(5), socket.next(std::process::id()));
        match next.await.unwrap().unwrap() {
            Heard::Notice(notice) => notice,
            outsider @ Heard::Outsider { .. } => panic!("{outsider:?}"),
        }
    }

    #[test]
    fn the_known_lines_are_read_and_the_others_passed_over() {
        let notice = Notice::parse(b"WATCHDOG=1\nREADY=1\nSTATUS=12 \xff\nSTOPPING=1\n");
        assert!(notice.ready && notice.stopping);
        assert_eq!(notice.status.as_deref(), Some("12 \u{fffd}"));
        for text in [&b""[..], b"READY=0", b"READY=11", b"NOT_READY=1", b"READY"] {
            assert_eq!(Notice::parse(text), Notice::default());
        }
    }

    #[tokio::test]
    async fn a_message_of_the_child_is_told_and_one_of_a_stranger_is_not() {
        let socket = NotifySocket::bind().unwrap();
        send(&socket, b"READY=1");
        // This test is the sender; with another child expected it is a stranger.
        let mut elsewhere = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let heard = socket.next(elsewhere.id()).await.unwrap();
        let ready = Notice {
            ready: true,
            ..Notice::default()
        };
        let pid = std::process::id();
        assert_eq!(heard, Heard::Outsider { pid, notice: ready });
        elsewhere.kill().unwrap();
        elsewhere.wait().unwrap();
        send(&socket, b"READY=1\nSTATUS=up");
        let notice = own(&socket).await;
        assert!(notice.ready);
        assert_eq!(notice.status.as_deref(), Some("up"));
    }

    #[tokio::test]
    async fn a_descriptor_that_comes_along_is_closed_with_or_without_room_for_it() {
        use rustix::io::IoSlice;
        use rustix::net::{
            AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
            SocketType, sendmsg_addr, socket,
        };
        let receiver = NotifySocket::bind().unwrap();
        let name = receiver.address().to_str().unwrap().trim_start_matches('@');
        let to = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        let sender = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
        for count in [1, 2, 100] {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let fds = vec![writer.as_fd(); count];
            let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(100))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            let text = [IoSlice::new(b"BARRIER=1")];
            sendmsg_addr(&sender, &to, &text, &mut control, SendFlags::empty()).unwrap();
            drop(writer);
            assert_eq!(own(&receiver).await, Notice::default());
            // Every copy is closed: the pipe has ended.
            assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0), "{count}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_loses_its_last_line_and_no_other() {
        let socket = NotifySocket::bind().unwrap();
        let long = |start: &str| [start.as_bytes(), &[b'x'; 60_000]].concat();
        let heard = async |text: &[u8]| {
            send(&socket, text);
            own(&socket).await
        };
        assert!(heard(&long("READY=1\nSTATUS=")).await.ready);
        assert_eq!(heard(&long("STATUS=")).await, Notice::default());
        // The end of the buffer falls behind the first six bytes of a line that is another one.
        let mut split = vec![b'x'; LONGEST_MESSAGE - 8];
        split.extend_from_slice(b"\nREADY=11");
        assert_eq!(heard(&split).await, Notice::default());
    }

    #[tokio::test]
    async fn a_flood_leaves_time_for_others() {
        let socket = NotifySocket::bind().unwrap();
        let name = socket.address().to_str().unwrap().trim_start_matches('@');
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let started = Instant::now();
        let flood_end = Duration::from_secs(10);
        let flood = std::thread::spawn(move || {
            let sender = StdDatagram::unbound().unwrap();
            // The socket is gone when the test is over.
            while started.elapsed() < flood_end
                && sender.send_to_addr(b"STATUS=x", &address).is_ok()
            {}
        });
        // On one thread, the sleep ends only if the reader lets it.
        let read = async {
            loop {
                socket.next(std::process::id()).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            () = read => {}
            slept = tokio::spawn(tokio::time::sleep(Duration::from_millis(50))) => slept.unwrap(),
        }
        let waited = started.elapsed();
        drop(socket);
        flood.join().unwrap();
        assert!(waited < flood_end / 2, "{waited:?}");
    }

    #[test]
    fn a_sender_that_has_ended_counts_only_as_the_same_user() {
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let pid = ended.id().cast_signed();
        let own = getuid().as_raw();
        assert!(Sender { pid, uid: own }.is_from(1));
        let uid = own.wrapping_add(1);
        assert!(!Sender { pid, uid }.is_from(1));
        // One that is out of sight may be anybody.
        assert!(!Sender { pid: 0, uid: own }.is_from(1));
    }

    #[tokio::test]
    async fn two_sockets_have_two_addresses() {
        let (one, other) = (NotifySocket::bind().unwrap(), NotifySocket::bind().unwrap());
        assert_ne!(one.address(), other.address());
    }

    /// A process with the same number may run in another container that shares the network.
    #[tokio::test]
    async fn a_name_that_is_taken_is_passed_over() {
        let first = NotifySocket::bind().unwrap();
        let name = first.address.to_str().unwrap();
        let (start, number) = name.trim_start_matches('@').rsplit_once('-').unwrap();
        let number: u32 = number.parse().unwrap();
        let others: Vec<_> = (number + 1..number + 50)
            .filter_map(|number| {
                let address = SocketAddr::from_abstract_name(format!("{start}-{number}"));
                StdDatagram::bind_addr(&address.unwrap()).ok()
            })
            .collect();
        assert!(!others.is_empty());
        NotifySocket::bind().unwrap();
    }
}
