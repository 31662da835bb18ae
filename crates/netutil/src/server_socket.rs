//! A socket on which a server takes connections or datagrams.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::connections::LocalAddress;
use crate::socket_file::{FileLook, SocketFile};

/// The kind of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnixKind {
    /// Connections that carry a stream of bytes.
    Stream,
    /// Connections that keep the boundaries of messages.
    SequentialPacket,
    /// Datagrams, without a connection.
    Datagram,
}

impl UnixKind {
    pub(crate) fn socket_type(self) -> Type {
        match self {
            Self::Stream => Type::STREAM,
            Self::SequentialPacket => Type::SEQPACKET,
            Self::Datagram => Type::DGRAM,
        }
    }

    fn of(kind: Type) -> Option<Self> {
        let kinds = [Self::Stream, Self::SequentialPacket, Self::Datagram];
        kinds.into_iter().find(|known| known.socket_type() == kind)
    }
}

/// Where a server takes connections or datagrams.
///
/// It is displayed in the form in which the command line of Handover takes it: `127.0.0.1:80`,
/// `udp:127.0.0.1:53`, `unix:/run/web.sock`, `unixpacket:/run/web.sock` or `unixgram:@name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A UDP address.
    Udp(SocketAddr),
    /// A Unix socket: its path, or its abstract name with `@` for each NUL.
    Unix(UnixKind, String),
}

impl ServerAddress {
    /// Returns the address whose connections [`connections`](crate::connections) sees. A socket for
    /// datagrams has none, and those of sequential packets are not looked at.
    #[must_use]
    pub fn of_connections(&self) -> Option<LocalAddress> {
        match self {
            Self::Tcp(address) => Some(LocalAddress::Tcp(*address)),
            Self::Unix(UnixKind::Stream, name) => Some(LocalAddress::Unix(name.clone())),
            Self::Udp(_) | Self::Unix(UnixKind::SequentialPacket | UnixKind::Datagram, _) => None,
        }
    }

    /// Returns the address if it is one of TCP.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Udp(_) | Self::Unix(..) => None,
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(UnixKind::Stream, name) => write!(f, "unix:{name}"),
            Self::Unix(UnixKind::SequentialPacket, name) => write!(f, "unixpacket:{name}"),
            Self::Unix(UnixKind::Datagram, name) => write!(f, "unixgram:{name}"),
        }
    }
}

/// A socket on which a server takes connections or datagrams: TCP, UDP, or Unix.
///
/// [`ListenUnix`](crate::ListenUnix) and [`Listen`](crate::Listen) bind one, and
/// [`PassedFd`](crate::PassedFd) is one that the parent of this process has bound.
#[derive(Debug)]
pub struct ServerSocket {
    socket: OwnedFd,
    address: ServerAddress,
    /// The file of a Unix socket that was bound here.
    file: Option<SocketFile>,
}

impl ServerSocket {
    /// Returns where it takes connections or datagrams.
    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Returns another descriptor of the same socket.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Sets whether `accept` and `recv` return at once if there is nothing to take, for all who have this
    /// socket.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, nonblocking)?)
    }

    /// Returns how many connections wait to be accepted. `None` if it is no TCP socket, or the system does not tell.
    #[must_use]
    pub fn waiting(&self) -> Option<u32> {
        self.address.tcp()?;
        waiting(self.socket.as_fd())
    }

    /// Returns the path of its file, if it is a Unix socket that was bound here.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::path)
    }

    /// Looks at that file, and puts it back if it was removed and [kept](crate::ListenUnix::keep_file). Returns
    /// `None` if there is no such file.
    pub fn look_at_file(&self) -> Option<FileLook> {
        self.file.as_ref().map(SocketFile::look)
    }

    /// Removes that file, unless another one has its place, as the end of this value does. A further
    /// [look](Self::look_at_file) does not put it back.
    pub fn remove_file(&self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }

    /// Returns the socket that the descriptor is, or what it is instead, in the terms of a socket unit of
    /// systemd.
    pub(crate) fn check(descriptor: OwnedFd) -> Result<Self, &'static str> {
        let socket = Socket::from(descriptor);
        let Ok(domain) = socket.domain() else {
            return Err(
                "is no socket; pass sockets (`ListenStream=`, `ListenDatagram=`, \
                        `ListenSequentialPacket=`) only",
            );
        };
        if ![Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&domain) {
            return Err("is neither a TCP, a UDP nor a Unix socket; pass such sockets only");
        }
        let kind = socket.r#type().ok().and_then(UnixKind::of);
        let kind = kind.ok_or("is a raw socket; pass TCP, UDP and Unix sockets only")?;
        if kind != UnixKind::Datagram && !socket.is_listener().unwrap_or(false) {
            return Err("does not listen: it is a connection, so set `Accept=no`");
        }
        let address = socket.local_addr().ok();
        let address = address.and_then(|address| server_address(kind, &address));
        let address = address.ok_or("is not bound to an address that is known here")?;
        Ok(Self {
            socket: socket.into(),
            address,
            file: None,
        })
    }

    /// A Unix socket that was bound here, and its file, which goes with it.
    pub(crate) fn bound(socket: OwnedFd, address: ServerAddress, file: Option<SocketFile>) -> Self {
        Self {
            socket,
            address,
            file,
        }
    }
}

impl AsFd for ServerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a socket without an address that the system can tell has.
const UNSPECIFIED: ([u8; 4], u16) = ([0, 0, 0, 0], 0);

impl From<std::net::TcpListener> for ServerSocket {
    /// Its address is that of the socket; one that the system cannot tell is the unspecified one.
    fn from(listener: std::net::TcpListener) -> Self {
        let address = listener.local_addr();
        let address = address.unwrap_or_else(|_| UNSPECIFIED.into());
        Self::bound(listener.into(), ServerAddress::Tcp(address), None)
    }
}

impl From<std::net::UdpSocket> for ServerSocket {
    /// Its address is that of the socket; one that the system cannot tell is the unspecified one.
    fn from(socket: std::net::UdpSocket) -> Self {
        let address = socket.local_addr();
        let address = address.unwrap_or_else(|_| UNSPECIFIED.into());
        Self::bound(socket.into(), ServerAddress::Udp(address), None)
    }
}

/// Where `struct tcp_info` has the unacknowledged segments. Of a socket that listens, it has there the connections that were
/// not accepted yet: `tcp_get_info` of Linux.
const UNACKED: usize = 24;

fn waiting(socket: BorrowedFd<'_>) -> Option<u32> {
    let mut info = [0_u8; UNACKED + size_of::<u32>()];
    let mut length = libc::socklen_t::try_from(info.len()).ok()?;
    #[expect(unsafe_code, reason = "there is no safe way to this option")]
    // SAFETY: the kernel writes no more than `length` bytes to a buffer that has as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let told = usize::try_from(length).ok()? == info.len();
    let number = info.get(UNACKED..)?.try_into().ok()?;
    (result == 0 && told).then(|| u32::from_ne_bytes(number))
}

fn server_address(kind: UnixKind, address: &SockAddr) -> Option<ServerAddress> {
    if let Some(address) = address.as_socket() {
        return match kind {
            UnixKind::Stream => Some(ServerAddress::Tcp(address)),
            UnixKind::Datagram => Some(ServerAddress::Udp(address)),
            // SCTP, for which there is no other name here.
            UnixKind::SequentialPacket => None,
        };
    }
    if let Some(path) = address.as_pathname() {
        let path = path.to_string_lossy().into_owned();
        return Some(ServerAddress::Unix(kind, path));
    }
    let name = address.as_abstract_namespace()?;
    let name = String::from_utf8_lossy(name).replace('\0', "@");
    Some(ServerAddress::Unix(kind, format!("@{name}")))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn connections_wait_until_they_are_accepted_and_other_sockets_have_none() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let socket = ServerSocket::from(listener.try_clone().unwrap());
        assert_eq!(socket.waiting(), Some(0));
        let _clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
        assert_eq!(socket.waiting(), Some(3));
        let _accepted = listener.accept().unwrap();
        assert_eq!(socket.waiting(), Some(2));
        let datagrams = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        assert_eq!(ServerSocket::from(datagrams).waiting(), None);
    }
}
