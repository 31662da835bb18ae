//! The domain sockets of one process.
//!
//! Each process binds a socket as the child of its predecessor and one as the parent of its successor.
//! Their names hold ten times the base id plus the restart epoch modulo 3. A name that begins with `@`
//! is abstract, and padded with NUL bytes to the whole length of an address.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::log::{Level, Log};
use crate::wire::{DATAGRAM, Frames, HotRestartMessage, frame};

/// How often a message is sent again that nobody takes, once a second.
const TRIES: u32 = 10;

/// What the names of the sockets are made from.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// `--socket-path`.
    pub(crate) path: String,
    /// `--socket-mode`.
    pub(crate) mode: u32,
    pub(crate) base_id: u32,
}

/// Which socket of a process is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Child,
    Parent,
    UdpChild,
    UdpParent,
}

impl Names {
    /// Returns ten times the base id, as it stands in names and messages.
    pub(crate) fn tenfold(&self) -> u64 {
        u64::from(self.base_id) * 10
    }

    fn name(&self, role: Role, epoch: u32) -> String {
        let role = match role {
            Role::Child => "child",
            Role::Parent => "parent",
            Role::UdpChild => "udp_child",
            Role::UdpParent => "udp_parent",
        };
        let id = self.tenfold() + u64::from(epoch % 3);
        format!("{}_{role}_{id}", self.path)
    }

    fn address(&self, role: Role, epoch: u32) -> io::Result<SocketAddrUnix> {
        let name = self.name(role, epoch);
        let Some(name) = name.strip_prefix('@') else {
            return Ok(SocketAddrUnix::new(name)?);
        };
        // The kernel compares the whole address, so the padding belongs to the name.
        let mut padded = [0; 107];
        let Some(place) = padded.get_mut(..name.len()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        place.copy_from_slice(name.as_bytes());
        Ok(SocketAddrUnix::new_abstract_name(&padded)?)
    }
}

/// A bound datagram socket.
#[derive(Debug)]
pub(crate) struct DomainSocket {
    fd: OwnedFd,
    frames: Frames,
}

/// Why a message did not reach its receiver.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Nobody has bound the address.
    Refused(io::Error),
    /// Anything else.
    Failed(io::Error),
}

impl DomainSocket {
    /// Binds a socket of an epoch.
    pub(crate) fn bind(names: &Names, role: Role, epoch: u32) -> io::Result<Self> {
        let address = names.address(role, epoch)?;
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        let path = names.name(role, epoch);
        let has_path = !path.starts_with('@');
        if has_path {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        rustix::net::bind(&fd, &address)?;
        if has_path {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(names.mode))?;
        }
        Ok(Self {
            fd,
            frames: Frames::default(),
        })
    }

    /// Sends a message to a socket of another epoch, with a descriptor if there is one.
    pub(crate) fn send(
        &self,
        to: (&Names, Role, u32),
        message: &HotRestartMessage,
        passed: Option<BorrowedFd<'_>>,
    ) -> Result<(), SendError> {
        let (names, role, epoch) = to;
        let address = names.address(role, epoch).map_err(SendError::Failed)?;
        for chunk in frame(message).chunks(DATAGRAM) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let passed = passed.as_slice();
            if !passed.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(passed));
            }
            let chunk = [IoSlice::new(chunk)];
            let flags = SendFlags::NOSIGNAL;
            match rustix::net::sendmsg_addr(&self.fd, &address, &chunk, &mut control, flags) {
                Ok(_) => {}
                Err(error @ (rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT)) => {
                    return Err(SendError::Refused(error.into()));
                }
                Err(error) => return Err(SendError::Failed(error.into())),
            }
        }
        Ok(())
    }

    /// Sends a message, again once a second if nobody takes it. The thread stands still meanwhile, as
    /// Envoy's does.
    pub(crate) fn send_patiently(
        &self,
        to: (&Names, Role, u32),
        message: &HotRestartMessage,
        second: Duration,
        log: &Log,
    ) -> io::Result<()> {
        for _ in 0..TRIES {
            match self.send(to, message, None) {
                Ok(()) => return Ok(()),
                Err(SendError::Failed(error)) => return Err(error),
                Err(SendError::Refused(_)) => {
                    let text = "hot restart sendmsg() connection refused, retrying";
                    log.line(Level::Error, "main", "hot_restarting_base.cc:136", text);
                    std::thread::sleep(second);
                }
            }
        }
        match self.send(to, message, None) {
            Ok(()) => Ok(()),
            Err(SendError::Refused(error) | SendError::Failed(error)) => Err(error),
        }
    }

    /// Waits for the next datagram. Returns the message that it completes, and the descriptor that came
    /// along.
    pub(crate) fn receive(&mut self) -> io::Result<Received> {
        self.frames.receive(&self.fd)
    }

    /// Sets whether reading waits.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, true)?)
    }
}

/// What a datagram completes: a message, and the descriptor that came along.
pub(crate) type Received = Option<(HotRestartMessage, Option<OwnedFd>)>;

impl Frames {
    /// Reads a datagram from a socket.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<Received> {
        let mut datagram = [0; DATAGRAM];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut datagram)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let passed = control.drain().find_map(|message| {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                fds.next()
            } else {
                None
            }
        });
        let part = datagram.get(..received.bytes).unwrap_or_default();
        Ok(self.take(part).map(|message| (message, passed)))
    }
}

impl AsFd for DomainSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::os::fd::AsRawFd for DomainSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Nothing, PassedSocket, ReplyKind, RequestKind, reply, request};

    fn names() -> Names {
        let base_id = std::process::id() % 100_000 + 300_000_000;
        Names {
            path: "@envoy_domain_socket".to_owned(),
            mode: 0o600,
            base_id,
        }
    }

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let names = names();
        let parent = DomainSocket::bind(&names, Role::Parent, 4).unwrap();
        let mut child = DomainSocket::bind(&names, Role::Child, 5).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let answer = reply(ReplyKind::PassListenSocket(PassedSocket { fd: 3 }));
        let to = (&names, Role::Child, 5);
        parent.send(to, &answer, Some(listener.as_fd())).unwrap();
        let (message, passed) = child.receive().unwrap().unwrap();
        assert_eq!(message, answer);
        let passed = std::net::TcpListener::from(passed.unwrap());
        assert_eq!(passed.local_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[test]
    fn a_name_is_taken_once_and_a_missing_peer_refuses() {
        let mut names = names();
        names.base_id += 100_000;
        let child = DomainSocket::bind(&names, Role::Child, 1).unwrap();
        let again = DomainSocket::bind(&names, Role::Child, 4).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        let message = request(RequestKind::Stats(Nothing {}));
        let sent = child.send((&names, Role::Parent, 0), &message, None);
        assert!(matches!(sent, Err(SendError::Refused(_))), "{sent:?}");
    }
}
