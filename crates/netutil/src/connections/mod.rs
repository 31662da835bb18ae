//! The connections of clients to a process, seen from outside.
//!
//! The tables of the host are exact, and belong to this process alone, whatever it reports of itself.
//! They can be counted ([`accepted`]), looked at one by one ([`look`]) and closed ([`close`]).

mod closing;
mod looking;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open, test_kill_process,
};
use socket2::SockRef;

use crate::proc_net::{
    InetSocket, each_inet_socket, each_tcp_socket, each_unix_socket, each_unix_stream, sockets_of,
};
use crate::sock_diag::{Protocol, States};

pub use closing::{CloseError, Closing, close, still_held};
pub use looking::{Connection, ConnectionState, Looked, Traffic, look};

/// Why connections could not be counted.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the sockets of process {pid} in {}", path.display())]
#[non_exhaustive]
pub struct ConnectionsError {
    /// The process.
    pub pid: u32,
    /// The file or directory that could not be read.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl ConnectionsError {
    /// Returns what tells that this path of a process could not be read.
    #[must_use]
    pub fn new(pid: u32, path: PathBuf, source: io::Error) -> Self {
        Self { pid, path, source }
    }

    /// Returns whether nothing could be read because the process has ended, reaped or not, or had closed all its sockets,
    /// as one that is about to end. Where `/proc` hides a process that runs, it has not.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let source = self.source.get_ref();
        source.is_some_and(|source| source.is::<NoSocket>()) || has_ended(self.pid)
    }
}

/// What is left of a process that has not been reaped shows an empty list.
#[derive(Debug, thiserror::Error)]
#[error("it has no socket any more")]
struct NoSocket;

/// Where a process listens for connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LocalAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket: its path, or its abstract name with `@` for each NUL.
    Unix(String),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(name) => f.write_str(name),
        }
    }
}

/// A socket that takes traffic which cannot be counted from outside. It is closed on purpose: code that
/// counts must know what each kind means for its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uncountable {
    /// UDP has no connections that the kernel knows of.
    Udp(SocketAddr),
    /// With `transparent: true`, a connection has the address and port that its client meant, which
    /// may be any.
    Transparent(SocketAddr),
    /// The socket is in another network namespace than the process.
    OtherNamespace,
}

impl fmt::Display for Uncountable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "the listener at {address} is UDP"),
            Self::Transparent(address) => write!(f, "the listener at {address} is transparent"),
            Self::OtherNamespace => f.write_str("a listener is in another network namespace"),
        }
    }
}

/// Where a process listens, such as the admin endpoint of an Envoy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Where connections can be counted.
    pub addresses: BTreeSet<LocalAddress>,
    /// Where they cannot.
    pub uncountable: BTreeSet<Uncountable>,
}

impl Listening {
    /// Looks where a process listens.
    ///
    /// It blocks while it reads `/proc`. Ask while the process still has its listeners: an old epoch
    /// closes them as soon as the new one serves. Which sockets are transparent or in another network
    /// namespace is seen only where descriptors of the process may be copied.
    ///
    /// # Errors
    ///
    /// [`ConnectionsError`], also where the process has ended or belongs to another user.
    pub fn of(pid: u32) -> Result<Self, ConnectionsError> {
        let process = directory(pid);
        let failed = |(path, source)| ConnectionsError { pid, path, source };
        let mut listening = Self::default();
        let mut unseen = own_sockets(pid)?;
        let copies = Copies::of(pid);
        each_tcp_socket(&process, |socket, descriptor| {
            unseen.remove(&socket.inode);
            if socket.state == InetSocket::LISTEN {
                listening.addresses.insert(LocalAddress::Tcp(socket.local));
                if copies.is_transparent(descriptor) {
                    let transparent = Uncountable::Transparent(socket.local);
                    listening.uncountable.insert(transparent);
                }
            }
        })
        .map_err(failed)?;
        each_unix_socket(&process, |inode, stream| {
            let is_own = unseen.remove(&inode).is_some();
            if let Some(socket) = stream.filter(|socket| is_own && socket.listens) {
                let name = socket.name.to_owned();
                listening.addresses.insert(LocalAddress::Unix(name));
            }
        })
        .map_err(failed)?;
        let chosen_by_kernel = ephemeral_ports();
        each_inet_socket(&process, Protocol::Udp, States::All, |socket| {
            // What has a peer, or a port that the kernel has chosen, belongs to a client: of DNS, or
            // of a collector of statistics.
            if unseen.remove(&socket.inode).is_some()
                && !socket.has_peer()
                && !chosen_by_kernel.contains(&socket.local.port())
            {
                let udp = Uncountable::Udp(socket.local);
                listening.uncountable.insert(udp);
            }
        })
        .map_err(failed)?;
        // Every listening socket of the namespace is in the tables. What is copied stays open until the copy is closed,
        // so nothing is copied that the tables show.
        if unseen
            .values()
            .any(|descriptor| copies.listens(*descriptor))
        {
            listening.uncountable.insert(Uncountable::OtherNamespace);
        }
        Ok(listening)
    }

    /// Adds what another look has seen.
    pub fn extend(&mut self, other: Self) {
        self.addresses.extend(other.addresses);
        self.uncountable.extend(other.uncountable);
    }
}

/// Returns the TCP ports on which a process listens.
///
/// It blocks while it reads `/proc`.
///
/// # Errors
///
/// [`ConnectionsError`], also where the process has ended or belongs to another user.
pub fn listening_ports(pid: u32) -> Result<BTreeSet<u16>, ConnectionsError> {
    let addresses = listening_at(pid)?.into_iter();
    Ok(addresses.map(|address| address.port()).collect())
}

/// Returns the TCP addresses on which a process listens.
///
/// It blocks while it reads `/proc`.
///
/// # Errors
///
/// [`ConnectionsError`], also where the process has ended or belongs to another user.
pub fn listening_at(pid: u32) -> Result<BTreeSet<SocketAddr>, ConnectionsError> {
    let mut addresses = BTreeSet::new();
    let own = own_sockets(pid)?;
    let visit = |socket: InetSocket| {
        if own.contains_key(&socket.inode) {
            addresses.insert(socket.local);
        }
    };
    let listening = States::Listening;
    each_inet_socket(&directory(pid), Protocol::Tcp, listening, visit)
        .map_err(|(path, source)| ConnectionsError { pid, path, source })?;
    Ok(addresses)
}

/// Returns how many connections a process has accepted at each of these addresses. Addresses
/// without one are absent.
///
/// A connection counts as long as the process keeps it, because either side may still be sending.
/// Connections that the process has opened itself have other local addresses. It blocks while it reads
/// `/proc`, for some milliseconds per ten thousand sockets of the host.
///
/// # Errors
///
/// [`ConnectionsError`], also where the process has ended or belongs to another user.
///
/// ```
/// use handover_netutil::connections::{Listening, LocalAddress, accepted};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let address = LocalAddress::Tcp(listener.local_addr()?);
/// let me = std::process::id();
/// assert!(Listening::of(me)?.addresses.contains(&address));
///
/// let client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let (server, _) = listener.accept()?;
/// assert_eq!(accepted(me, &[address.clone()].into())?[&address], 1);
/// # drop((client, server));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn accepted(
    pid: u32,
    addresses: &BTreeSet<LocalAddress>,
) -> Result<BTreeMap<LocalAddress, u64>, ConnectionsError> {
    let process = directory(pid);
    let failed = |(path, source)| ConnectionsError { pid, path, source };
    let mut counts: BTreeMap<LocalAddress, u64> = BTreeMap::new();
    let mut count = |address: &LocalAddress| *counts.entry(address.clone()).or_default() += 1;
    let tcp: BTreeSet<SocketAddr> = addresses
        .iter()
        .filter_map(|address| match address {
            LocalAddress::Tcp(address) => Some(*address),
            LocalAddress::Unix(_) => None,
        })
        .collect();
    let own = own_sockets(pid)?;
    each_inet_socket(&process, Protocol::Tcp, States::All, |socket| {
        if socket.is_connection()
            && own.contains_key(&socket.inode)
            && let Some(address) = accepted_at(socket.local, &tcp)
        {
            count(&LocalAddress::Tcp(address));
        }
    })
    .map_err(failed)?;
    if tcp.len() < addresses.len() {
        each_unix_stream(&process, |socket| {
            let address = LocalAddress::Unix(socket.name.to_owned());
            if socket.is_connected
                && own.contains_key(&socket.inode)
                && addresses.contains(&address)
            {
                count(&address);
            }
        })
        .map_err(failed)?;
    }
    Ok(counts)
}

/// Returns which of the addresses on which a process listens takes connections to this one: the same, or
/// else one that stands for all, of the same family first.
#[must_use]
pub fn accepted_at(local: SocketAddr, addresses: &BTreeSet<SocketAddr>) -> Option<SocketAddr> {
    if addresses.contains(&local) {
        return Some(local);
    }
    let is_any =
        |address: &&SocketAddr| address.port() == local.port() && address.ip().is_unspecified();
    let same_family = addresses
        .iter()
        .filter(is_any)
        .find(|address| address.is_ipv4() == local.is_ipv4());
    same_family
        .or_else(|| addresses.iter().find(is_any))
        .copied()
}

fn directory(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// The sockets of a process. One that has none has ended, or is about to: every process that is looked
/// at here listens or has listened.
fn own_sockets(pid: u32) -> Result<BTreeMap<u64, RawFd>, ConnectionsError> {
    let path = directory(pid);
    let own = sockets_of(&path).and_then(|own| match own.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, NoSocket)),
        false => Ok(own),
    });
    own.map_err(|source| ConnectionsError { pid, path, source })
}

/// Whether a process has ended, reaped or not. What cannot be told has not. Its directory does not tell: it is also
/// missing where `/proc` hides the processes of other users (`hidepid`), and what is left of one may not be read.
fn has_ended(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return true;
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => ended(&process) == Some(true),
        Err(Errno::SRCH) => true,
        // Containers of an older Docker or libseccomp refuse the call.
        Err(_) => test_kill_process(pid) == Err(Errno::SRCH),
    }
}

/// Whether a process has ended; nothing where that cannot be told.
fn ended(process: &OwnedFd) -> Option<bool> {
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    let readable = poll(&mut polled, Some(&Timespec::default())).ok()?;
    Some(readable > 0)
}

/// The ports from which the kernel chooses for who does not ask for one.
fn ephemeral_ports() -> RangeInclusive<u16> {
    let range = std::fs::read_to_string(Path::new("/proc/sys/net/ipv4/ip_local_port_range"));
    range_of_ports(&range.unwrap_or_default())
}

fn range_of_ports(text: &str) -> RangeInclusive<u16> {
    let mut ends = text
        .split_ascii_whitespace()
        .filter_map(|end| end.parse().ok());
    match (ends.next(), ends.next()) {
        (Some(first), Some(last)) => first..=last,
        // The kernel's default.
        _ => 32_768..=60_999,
    }
}

/// Copies of a process's descriptors, where they may be made. Where not, nothing is found.
struct Copies(Option<OwnedFd>);

impl Copies {
    fn of(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    fn get(&self, descriptor: RawFd) -> Option<OwnedFd> {
        pidfd_getfd(self.0.as_ref()?, descriptor, PidfdGetfdFlags::empty()).ok()
    }

    fn is_transparent(&self, descriptor: RawFd) -> bool {
        self.get(descriptor)
            .is_some_and(|socket| SockRef::from(&socket).ip_transparent_v4().unwrap_or(false))
    }

    fn listens(&self, descriptor: RawFd) -> bool {
        self.get(descriptor)
            .is_some_and(|socket| SockRef::from(&socket).is_listener().unwrap_or(false))
    }
}

#[cfg(test)]
mod tests;
