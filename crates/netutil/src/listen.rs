//! Sockets of a server that processes can share or pass on.

use std::{
    ffi::c_int,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    num::NonZeroUsize,
    os::fd::AsFd,
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use thiserror::Error;

/// Binds a listening TCP socket, or a UDP socket. Every option has a fixed default, whatever the system's defaults
/// are.
///
/// ```
/// use handover_netutil::Listen;
///
/// let listener = Listen::new("127.0.0.1:0".parse()?).reuse_port(true).tcp()?;
/// // Another socket, of this process or the next one, shares the port and its connections.
/// let beside = Listen::new(listener.local_addr()?).reuse_port(true).tcp()?;
/// assert_eq!(beside.local_addr()?, listener.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// With tokio, ask for a non-blocking socket:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover_netutil::Listen;
///
/// let listener = Listen::new("127.0.0.1:0".parse()?).nonblocking(true).tcp()?;
/// let listener = tokio::net::TcpListener::from_std(listener)?;
/// # drop(listener);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "nothing is bound until `tcp` or `udp` is called"]
pub struct Listen {
    addr: SocketAddr,
    reuse_port: bool,
    v6_only: bool,
    backlog: u32,
    inheritable: bool,
    nonblocking: bool,
    defer_accept: Option<Duration>,
}

impl Listen {
    /// The default [`backlog`](Self::backlog): 4096 connections, the most that Linux allows by
    /// default (`net.core.somaxconn` since version 5.4). This queue holds clients while one process
    /// hands over to the next.
    pub const BACKLOG: u32 = 4096;

    /// Returns the options of a socket for `addr`. By default the port is exclusive, `[::]` takes
    /// both families, child processes do not inherit the socket, and it blocks. With port 0 the
    /// system chooses a free port.
    pub const fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            reuse_port: false,
            v6_only: false,
            backlog: Self::BACKLOG,
            inheritable: false,
            nonblocking: false,
            defer_accept: None,
        }
    }

    /// Sets whether other sockets may listen on the same address and port (`SO_REUSEPORT`). All of
    /// them must set it, and on Linux belong to the same user. The system spreads new connections
    /// over them. The connections in the queue of a socket are lost when it is closed. So a
    /// hand-over without loss passes one socket on instead.
    ///
    /// A socket with it joins those that are there, also those of another instance of the program. To
    /// share the address within this process alone, call [`tcp_group`](Self::tcp_group).
    pub const fn reuse_port(mut self, share: bool) -> Self {
        self.reuse_port = share;
        self
    }

    /// Sets whether a socket on `[::]` leaves IPv4 alone (`IPV6_V6ONLY`). It only matters for that
    /// address. It is always set, because the default is a setting of the system.
    pub const fn v6_only(mut self, only: bool) -> Self {
        self.v6_only = only;
        self
    }

    /// Sets how many established connections may wait to be accepted. The system reduces the number
    /// to its own limit. It means nothing for UDP.
    pub const fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Sets whether the socket stays open, under the same number, in every program that this
    /// process executes. Otherwise it is close-on-exec from the start.
    pub const fn inheritable(mut self, inheritable: bool) -> Self {
        self.inheritable = inheritable;
        self
    }

    /// Sets whether `accept` returns at once if there is no connection. Tokio needs that. All
    /// processes that share the socket share this setting.
    pub const fn nonblocking(mut self, nonblocking: bool) -> Self {
        self.nonblocking = nonblocking;
        self
    }

    /// Sets how long a connection waits for its first byte before it is offered to `accept`
    /// (`TCP_DEFER_ACCEPT`), rounded up to whole seconds. `None`, the default, offers it at once. It suits
    /// protocols in which the client speaks first. It only matters for TCP on Linux; elsewhere it does
    /// nothing.
    pub const fn defer_accept(mut self, wait: Option<Duration>) -> Self {
        self.defer_accept = wait;
        self
    }

    /// Binds the socket and listens.
    ///
    /// A port with old connections in `TIME_WAIT` can be bound at once. To get the bare descriptor,
    /// convert the result into an [`OwnedFd`](std::os::fd::OwnedFd).
    ///
    /// # Errors
    ///
    /// Returns a [`ListenError`], which names the address.
    pub fn tcp(self) -> Result<TcpListener, ListenError> {
        let socket = self.socket(Type::STREAM, Protocol::TCP)?;
        socket
            .set_reuse_address(true)
            .map_err(self.refused("SO_REUSEADDR"))?;
        #[cfg(target_os = "linux")]
        if let Some(wait) = self.defer_accept {
            set_defer_accept(&socket, wait).map_err(self.refused("TCP_DEFER_ACCEPT"))?;
        }
        // Two sockets may both bind a port without a listener, so listening finds it taken too.
        let backlog = c_int::try_from(self.backlog).unwrap_or(c_int::MAX);
        self.bind(&socket)
            .and_then(|()| socket.listen(backlog))
            .map_err(|source| ListenError::from_bind(self.addr, source))?;
        self.let_inherit(&socket)?;
        Ok(socket.into())
    }

    /// Binds a UDP socket.
    ///
    /// The port is exclusive unless [`reuse_port`](Self::reuse_port) is set.
    ///
    /// # Errors
    ///
    /// Returns a [`ListenError`], which names the address.
    pub fn udp(self) -> Result<UdpSocket, ListenError> {
        // With `SO_REUSEADDR`, another socket could take a port of UDP over that is in use.
        let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
        self.bind(&socket)
            .map_err(|source| ListenError::from_bind(self.addr, source))?;
        self.let_inherit(&socket)?;
        Ok(socket.into())
    }

    /// Binds so many listening TCP sockets on one address, over which the system spreads connections
    /// (`SO_REUSEPORT`). With port 0 they share the port that the system chooses. A group of one is the
    /// socket of [`tcp`](Self::tcp). [`reuse_port`](Self::reuse_port) changes nothing here.
    ///
    /// The group never joins other sockets: an address that any of them has is in use. Once the group
    /// is there, another process of this user can still join it, if it sets the option as well.
    ///
    /// ```
    /// use std::num::NonZeroUsize;
    ///
    /// use handover_netutil::{Listen, ListenError};
    ///
    /// let two = NonZeroUsize::MIN.saturating_add(1);
    /// let group = Listen::new("127.0.0.1:0".parse()?).tcp_group(two)?;
    /// let address = group[0].local_addr()?;
    /// assert_eq!(group[1].local_addr()?, address);
    /// let second = Listen::new(address).tcp_group(two);
    /// assert!(matches!(second, Err(ListenError::InUse { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns a [`ListenError`], which names the address. Nothing is bound then.
    pub fn tcp_group(self, sockets: NonZeroUsize) -> Result<Vec<TcpListener>, ListenError> {
        self.group(sockets, Self::tcp, TcpListener::local_addr)
    }

    /// Binds so many UDP sockets on one address, as [`tcp_group`](Self::tcp_group) does.
    ///
    /// # Errors
    ///
    /// Returns a [`ListenError`], which names the address. Nothing is bound then.
    pub fn udp_group(self, sockets: NonZeroUsize) -> Result<Vec<UdpSocket>, ListenError> {
        self.group(sockets, Self::udp, UdpSocket::local_addr)
    }

    fn group<S: AsFd>(
        self,
        sockets: NonZeroUsize,
        bind: impl Fn(Self) -> Result<S, ListenError>,
        address: impl Fn(&S) -> io::Result<SocketAddr>,
    ) -> Result<Vec<S>, ListenError> {
        // Bound without the option, the first one is refused wherever any other socket is. A probe that is
        // closed again would let two instances that start together miss each other.
        let first = bind(self.reuse_port(false))?;
        let more = sockets.get().saturating_sub(1);
        if more == 0 {
            return Ok(vec![first]);
        }
        SockRef::from(&first)
            .set_reuse_port(true)
            .map_err(self.refused("SO_REUSEPORT"))?;
        let addr = address(&first).unwrap_or(self.addr);
        let beside = Self { addr, ..self }.reuse_port(true);
        let mut group = vec![first];
        for _ in 0..more {
            group.push(bind(beside)?);
        }
        Ok(group)
    }

    /// A socket with what TCP and UDP have in common.
    fn socket(self, kind: Type, protocol: Protocol) -> Result<Socket, ListenError> {
        let addr = self.addr;
        let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))
            .map_err(|source| ListenError::Create { addr, source })?;
        socket
            .set_reuse_port(self.reuse_port)
            .map_err(self.refused("SO_REUSEPORT"))?;
        if addr.is_ipv6() {
            socket
                .set_only_v6(self.v6_only)
                .map_err(self.refused("IPV6_V6ONLY"))?;
        }
        socket
            .set_nonblocking(self.nonblocking)
            .map_err(self.refused("O_NONBLOCK"))?;
        Ok(socket)
    }

    fn bind(self, socket: &Socket) -> io::Result<()> {
        socket.bind(&SockAddr::from(self.addr))
    }

    /// Call it last, so that no child inherits a socket that does not listen.
    fn let_inherit(self, socket: &Socket) -> Result<(), ListenError> {
        if self.inheritable {
            socket
                .set_cloexec(false)
                .map_err(self.refused("FD_CLOEXEC"))?;
        }
        Ok(())
    }

    fn refused(self, option: &'static str) -> impl Fn(io::Error) -> ListenError {
        let addr = self.addr;
        move |source| ListenError::Configure {
            addr,
            option,
            source,
        }
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a call of the operating system")]
fn set_defer_accept(socket: &Socket, wait: Duration) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    let whole = wait.as_secs();
    let seconds = whole.saturating_add(u64::from(wait.subsec_nanos() > 0));
    let seconds = c_int::try_from(seconds).unwrap_or(c_int::MAX);
    let size = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or_default();
    // SAFETY: the descriptor is open as long as the socket is borrowed, and the option is read from a number
    // of the size that is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            std::ptr::from_ref(&seconds).cast(),
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The reason why [`Listen::tcp`] or [`Listen::udp`] returned no socket.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// There is no socket to be had: too many open files, say, or no such address family.
    #[error(
        "cannot create a socket for {addr}; check the limit of open files and that the system \
         has this address family"
    )]
    Create {
        /// The address to listen on.
        addr: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },

    /// The system refused an option.
    #[error("the socket for {addr} could not be given {option}; check that this system has it")]
    Configure {
        /// The address to listen on.
        addr: SocketAddr,
        /// The option's name in the system's manual.
        option: &'static str,
        /// What the operating system says.
        source: io::Error,
    },

    /// Another socket listens there.
    #[error(
        "{addr} is in use; stop what listens there, which \"ss -ltunp\" shows, or choose another port"
    )]
    InUse {
        /// The address to listen on.
        addr: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },

    /// The address belongs to no interface of this node.
    #[error(
        "{addr} is not an address of this node; use one that \"ip address\" shows, or 0.0.0.0 or \
         [::] for all"
    )]
    NotLocal {
        /// The address to listen on.
        addr: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },

    /// This process may not listen there.
    #[error(
        "this process may not listen on {addr}; for a low port, use a higher one or grant \
         CAP_NET_BIND_SERVICE"
    )]
    NotPermitted {
        /// The address to listen on.
        addr: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },

    /// Binding or listening failed for another reason, usually a link-local IPv6 address without
    /// its zone.
    #[error("cannot listen on {addr}; check that the address, with its zone, is right")]
    Bind {
        /// The address to listen on.
        addr: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
}

impl ListenError {
    fn from_bind(addr: SocketAddr, source: io::Error) -> Self {
        let kind = source.kind();
        if kind == io::ErrorKind::AddrInUse {
            Self::InUse { addr, source }
        } else if kind == io::ErrorKind::AddrNotAvailable {
            Self::NotLocal { addr, source }
        } else if kind == io::ErrorKind::PermissionDenied {
            Self::NotPermitted { addr, source }
        } else {
            Self::Bind { addr, source }
        }
    }
}

#[cfg(test)]
mod tests;
