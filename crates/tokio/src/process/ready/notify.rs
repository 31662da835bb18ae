//! Readiness by the notification protocol of systemd.

use std::ffi::OsString;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::sockopt::set_socket_passcred;
use rustix::process::{Pid, getpgid};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// The socket on which a program tells its state, as under systemd: `sd_notify(3)`.
///
/// Its address goes into the program's environment: `.env("NOTIFY_SOCKET", socket.address())`. It is
/// an abstract address, which leaves no file behind; a program in another network namespace cannot
/// reach it.
///
/// Only messages from the child and the living members of its process group count: the kernel
/// tells who sent a message, and nobody can forge that.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    address: OsString,
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

/// The longest message that is read in full, in bytes; the rest of a longer one is cut off.
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
            });
        }
    }

    /// The value for `NOTIFY_SOCKET`.
    pub fn address(&self) -> &OsString {
        &self.address
    }

    /// The next message from the child with this process id, or from its group.
    ///
    /// Poll it for as long as the child lives, or drop the socket: a program that reports its
    /// status again and again would otherwise find the socket full one day, and wait.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is either returned or still in the socket.
    pub async fn next(&self, child: u32) -> io::Result<Notice> {
        loop {
            self.socket.readable().await?;
            let receive = || receive(&self.socket);
            match self.socket.try_io(Interest::READABLE, receive) {
                Ok(Some((sender, text))) if is_from(sender, child) => {
                    return Ok(Notice::parse(&text));
                }
                Ok(Some((sender, _))) => {
                    tracing::debug!(sender, child, "a notification from outside of the group");
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
    fn parse(text: &[u8]) -> Self {
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

/// The members of the child's group carry its number as their group.
fn is_from(sender: i32, child: u32) -> bool {
    if sender.unsigned_abs() == child {
        return true;
    }
    Pid::from_raw(sender)
        .and_then(|sender| getpgid(Some(sender)).ok())
        .is_some_and(|group| group.as_raw_nonzero().get().unsigned_abs() == child)
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

/// One message with the process id of its sender, 0 if that one lives in a namespace out of our
/// sight; `None` for a message without credentials.
#[expect(unsafe_code, reason = "receiving credentials with a message")]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the macros for control messages are a family of unsafe functions"
)]
fn receive(socket: &UnixDatagram) -> io::Result<Option<(i32, Vec<u8>)>> {
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
            Some(credentials.pid)
        } else {
            None
        }
    };
    Ok(sender.map(|sender| (sender, text)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let stranger = timeout(Duration::from_millis(50), socket.next(1)).await;
        assert!(stranger.is_err(), "{stranger:?}");
        send(&socket, b"READY=1\nSTATUS=up");
        let notice = timeout(Duration::from_secs(5), socket.next(std::process::id()));
        let notice = notice.await.unwrap().unwrap();
        assert!(notice.ready);
        assert_eq!(notice.status.as_deref(), Some("up"));
    }

    #[tokio::test]
    async fn two_sockets_have_two_addresses() {
        let (one, other) = (NotifySocket::bind().unwrap(), NotifySocket::bind().unwrap());
        assert_ne!(one.address(), other.address());
    }
}
