//! Looking at each connection of some processes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    ConnectionsError, Copies, Listening, LocalAddress, Uncountable, directory, ephemeral_ports,
    has_ended,
};
use crate::proc_net::{
    InetSocket, each_inet_socket, each_unix_socket, is_in_our_network, sockets_of,
};
use crate::sock_diag::{Kernel, Protocol, SocketId, States, TcpSocket};

/// The most descriptors that are copied to find out whether they listen.
const MOST_COPIES: usize = 4_096;

/// What was seen of some processes that belong together.
#[derive(Debug, Default)]
pub struct Looked {
    /// Where they listen.
    pub listening: Listening,
    /// The TCP connections, and the connections to named Unix sockets, in the order of their inodes. A
    /// connection that several of the processes share is in the list once.
    pub connections: Vec<Connection>,
    /// What could not be read of processes that run.
    pub unread: Vec<ConnectionsError>,
    /// The processes that had ended, reaped or not, before their sockets were seen.
    pub ended: BTreeSet<u32>,
}

/// One connection of a process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connection {
    /// The inode of the socket. No other open socket of this host has the same.
    pub inode: u64,
    /// A process that has it open.
    pub pid: u32,
    /// One of the descriptors there.
    pub descriptor: RawFd,
    /// The own end. For a Unix socket it is the name of the listening socket.
    pub local: LocalAddress,
    /// The other end of a TCP connection.
    pub peer: Option<SocketAddr>,
    /// The process at the other end of a Unix connection, when it connected. Unknown where the
    /// descriptor may not be copied, or where that process is in another process namespace.
    pub peer_pid: Option<u32>,
    /// What is open of the connection.
    pub state: ConnectionState,
    /// What it has carried, where the kernel tells.
    pub traffic: Option<Traffic>,
    /// What the kernel knows it by, where it was asked.
    pub(super) id: Option<SocketId>,
}

/// What is open of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Both directions.
    Open,
    /// The peer has closed its side.
    ClosedByPeer,
    /// The process has closed its side.
    ClosedHere,
    /// Both have, and the last acknowledgement is missing.
    Closing,
}

/// What a connection has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The bytes from the peer.
    pub received: u64,
    /// The bytes to the peer, as far as the peer has acknowledged them.
    pub sent: u64,
    /// How long no data has gone in either direction.
    pub idle: Duration,
    /// The least age of the connection: the longest time since anything has happened on it. The kernel
    /// keeps no time of its beginning.
    pub at_least: Duration,
}

impl Connection {
    /// Returns an open connection of a process, of which nothing more is known.
    #[must_use]
    pub fn new(inode: u64, pid: u32, descriptor: RawFd, local: LocalAddress) -> Self {
        Self {
            inode,
            pid,
            descriptor,
            local,
            peer: None,
            peer_pid: None,
            state: ConnectionState::Open,
            traffic: None,
            id: None,
        }
    }
}

/// Looks at the connections of several groups of processes, and returns one result for each group.
///
/// It reads each table of the host once for each network namespace, and needs some hundred
/// milliseconds per hundred thousand connections. It blocks meanwhile. Bytes and times are those of TCP
/// in our own network namespace; elsewhere they are unknown.
#[must_use]
pub fn look(groups: &[BTreeSet<u32>]) -> Vec<Looked> {
    let mut looked: Vec<Looked> = groups.iter().map(|_| Looked::default()).collect();
    let ours = std::fs::read_link("/proc/self/ns/net").ok();
    // The sockets of each network namespace: in which group, process and descriptor each is open.
    let mut namespaces: BTreeMap<PathBuf, Namespace> = BTreeMap::new();
    for (group, pids) in groups.iter().enumerate() {
        for pid in pids {
            let path = directory(*pid);
            let read = sockets_of(&path).and_then(|sockets| {
                let namespace = std::fs::read_link(path.join("ns/net"))?;
                Ok((namespace, sockets))
            });
            match read {
                Ok((namespace, sockets)) => {
                    let is_ours = ours.as_ref() == Some(&namespace);
                    let known = namespaces.entry(namespace).or_insert_with(|| Namespace {
                        is_ours,
                        processes: Vec::new(),
                        open: BTreeMap::new(),
                    });
                    known.processes.push((group, *pid));
                    for (inode, descriptor) in sockets {
                        let open = Open {
                            group,
                            pid: *pid,
                            descriptor,
                        };
                        known.open.entry(inode).or_insert(open);
                    }
                }
                Err(source) => {
                    if let Some(looked) = looked.get_mut(group) {
                        looked.note_unread(*pid, path, source);
                    }
                }
            }
        }
    }
    for namespace in namespaces.into_values() {
        namespace.look(&mut looked);
    }
    for looked in &mut looked {
        looked
            .connections
            .sort_by_key(|connection| connection.inode);
    }
    looked
}

impl Looked {
    /// Notes that this of a process could not be read, or that it has ended.
    fn note_unread(&mut self, pid: u32, path: PathBuf, source: std::io::Error) {
        if has_ended(pid) {
            self.ended.insert(pid);
        } else {
            self.unread.push(ConnectionsError { pid, path, source });
        }
    }
}

/// Where a socket is open.
#[derive(Clone, Copy)]
struct Open {
    group: usize,
    pid: u32,
    descriptor: RawFd,
}

impl Open {
    fn connection(self, inode: u64, local: LocalAddress) -> Connection {
        Connection::new(inode, self.pid, self.descriptor, local)
    }
}

/// A TCP socket that is open in a group.
struct Found {
    socket: InetSocket,
    id: Option<SocketId>,
    traffic: Option<Traffic>,
}

/// What could not be read, and why.
type Unreadable = (PathBuf, std::io::Error);

struct Namespace {
    /// Whether this process is in it.
    is_ours: bool,
    /// Those that are in it, each with its group.
    processes: Vec<(usize, u32)>,
    open: BTreeMap<u64, Open>,
}

impl Namespace {
    fn look(mut self, looked: &mut [Looked]) {
        let within = self.within();
        let mut copies = AllCopies::default();
        let tcp = through_any(&within, |process| self.tcp_sockets(process));
        let tcp = tcp.unwrap_or_else(|error| {
            self.note_unread(looked, &error);
            Vec::new()
        });
        for Found {
            socket,
            id,
            traffic,
        } in tcp
        {
            let Some(open) = self.open.remove(&socket.inode) else {
                continue;
            };
            let Some(looked) = looked.get_mut(open.group) else {
                continue;
            };
            let local = LocalAddress::Tcp(socket.local);
            if socket.state == InetSocket::LISTEN {
                looked.listening.addresses.insert(local);
                if copies.of(open.pid).is_transparent(open.descriptor) {
                    let transparent = Uncountable::Transparent(socket.local);
                    looked.listening.uncountable.insert(transparent);
                }
            } else if socket.is_connection() {
                looked.connections.push(Connection {
                    peer: Some(socket.remote),
                    state: ConnectionState::of_tcp(socket.state),
                    traffic,
                    id,
                    ..open.connection(socket.inode, local)
                });
            }
        }
        let unix = through_any(&within, |process| {
            each_unix_socket(process, |inode, stream| {
                let Some(open) = self.open.remove(&inode) else {
                    return;
                };
                let (Some(looked), Some(socket)) = (looked.get_mut(open.group), stream) else {
                    return;
                };
                let local = LocalAddress::Unix(socket.name.to_owned());
                if socket.listens {
                    looked.listening.addresses.insert(local);
                } else if socket.is_connected {
                    looked.connections.push(Connection {
                        peer_pid: copies.of(open.pid).peer_process(open.descriptor),
                        ..open.connection(socket.inode, local)
                    });
                }
            })
        });
        let ports = ephemeral_ports();
        let udp = through_any(&within, |process| {
            each_inet_socket(process, Protocol::Udp, States::All, |socket| {
                if let Some(open) = self.open.remove(&socket.inode)
                    && let Some(looked) = looked.get_mut(open.group)
                    && !socket.has_peer()
                    && !ports.contains(&socket.local.port())
                {
                    let udp = Uncountable::Udp(socket.local);
                    looked.listening.uncountable.insert(udp);
                }
            })
        });
        for error in unix.err().into_iter().chain(udp.err()) {
            self.note_unread(looked, &error);
        }
        // Every listening socket of the namespace is in the tables.
        for open in self.open.values().take(MOST_COPIES) {
            if let Some(looked) = looked.get_mut(open.group)
                && copies.of(open.pid).listens(open.descriptor)
            {
                let elsewhere = Uncountable::OtherNamespace;
                looked.listening.uncountable.insert(elsewhere);
            }
        }
    }

    /// The TCP sockets of the namespace that are open in a group, with more about each where the
    /// kernel answers.
    fn tcp_sockets(&self, process: &Path) -> Result<Vec<Found>, Unreadable> {
        let is_open = |inode| self.open.contains_key(&inode);
        if is_in_our_network(process)
            && let Ok(sockets) = Kernel::open().and_then(|kernel| kernel.tcp_sockets(is_open))
        {
            let sockets = sockets.into_iter();
            let known = sockets.map(|TcpSocket { socket, id, info }| {
                let traffic = info.map(|info| {
                    let [sent, received, _] = info.since;
                    Traffic {
                        received: info.received,
                        sent: info.acknowledged,
                        idle: sent.min(received),
                        at_least: info.since.into_iter().max().unwrap_or_default(),
                    }
                });
                Found {
                    socket,
                    id: Some(id),
                    traffic,
                }
            });
            return Ok(known.collect());
        }
        let mut sockets = Vec::new();
        each_inet_socket(process, Protocol::Tcp, States::All, |socket| {
            if is_open(socket.inode) {
                sockets.push(Found {
                    socket,
                    id: None,
                    traffic: None,
                });
            }
        })?;
        Ok(sockets)
    }

    /// Where the tables of this namespace are shown: this process does not end meanwhile, the others may.
    fn within(&self) -> Vec<PathBuf> {
        let own = self.is_ours.then(|| PathBuf::from("/proc/self"));
        let processes = self.processes.iter().map(|(_, pid)| directory(*pid));
        own.into_iter().chain(processes).collect()
    }

    /// Notes that a table could not be read, once for every group with sockets that may be in it.
    fn note_unread(&self, looked: &mut [Looked], (path, error): &Unreadable) {
        let groups: BTreeSet<usize> = self.open.values().map(|open| open.group).collect();
        for (group, pid) in &self.processes {
            let Some(looked) = looked.get_mut(*group).filter(|_| groups.contains(group)) else {
                continue;
            };
            if looked.unread.iter().all(|known| known.path != *path) {
                let error = std::io::Error::new(error.kind(), error.to_string());
                looked.note_unread(*pid, path.clone(), error);
            }
        }
    }
}

/// Reads a table by way of the first of these processes that shows it.
fn through_any<T>(
    processes: &[PathBuf],
    mut read: impl FnMut(&Path) -> Result<T, Unreadable>,
) -> Result<T, Unreadable> {
    let mut unreadable = None;
    for process in processes {
        match read(process) {
            Ok(table) => return Ok(table),
            Err(error) => unreadable = Some(error),
        }
    }
    Err(unreadable.unwrap_or_else(|| (PathBuf::from("/proc"), std::io::ErrorKind::NotFound.into())))
}

/// Copies of descriptors of several processes.
#[derive(Default)]
struct AllCopies(BTreeMap<u32, Copies>);

impl AllCopies {
    fn of(&mut self, pid: u32) -> &Copies {
        self.0.entry(pid).or_insert_with(|| Copies::of(pid))
    }
}

impl Copies {
    /// The process that has connected to a Unix socket.
    fn peer_process(&self, descriptor: RawFd) -> Option<u32> {
        let copy: OwnedFd = self.get(descriptor)?;
        peer_process(&copy)
    }
}

/// The process that has connected to a Unix socket. The wrapper of another crate takes no process id
/// of zero, which is what the kernel says of a process in another process namespace.
#[expect(unsafe_code, reason = "a call of the operating system")]
fn peer_process(socket: &OwnedFd) -> Option<u32> {
    let mut peer = MaybeUninit::<libc::ucred>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `peer`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            peer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // SAFETY: three numbers, for which all zeros are as good as what the kernel has written.
    let peer = unsafe { peer.assume_init() };
    let pid = u32::try_from(peer.pid).ok();
    pid.filter(|pid| result == 0 && *pid != 0)
}

impl ConnectionState {
    fn of_tcp(state: u8) -> Self {
        match state {
            0x04 | 0x05 => Self::ClosedHere,
            0x08 => Self::ClosedByPeer,
            0x09 | 0x0b => Self::Closing,
            _ => Self::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn each_state_of_tcp_says_which_sides_are_closed() {
        use ConnectionState::{ClosedByPeer, ClosedHere, Closing, Open};
        for (states, expected) in [
            // ESTABLISHED and SYN_RECV; FIN_WAIT1 and FIN_WAIT2; CLOSE_WAIT; LAST_ACK and CLOSING.
            ([0x01, 0x03], Open),
            ([0x04, 0x05], ClosedHere),
            ([0x08, 0x08], ClosedByPeer),
            ([0x09, 0x0b], Closing),
        ] {
            assert_eq!(states.map(ConnectionState::of_tcp), [expected; 2]);
        }
    }

    #[test]
    fn a_table_that_cannot_be_read_is_noted_for_each_group_of_its_namespace() {
        let me = std::process::id();
        let open = |group, pid| Open {
            group,
            pid,
            descriptor: 3,
        };
        let gone = u32::MAX;
        let namespace = Namespace {
            is_ours: false,
            processes: vec![(0, me), (1, me), (2, gone), (2, me), (2, me)],
            open: [(1, open(0, me)), (2, open(2, gone)), (3, open(2, me))].into(),
        };
        let mut looked: Vec<Looked> = (0..3).map(|_| Looked::default()).collect();
        let error = (
            PathBuf::from("/proc/7/net/tcp"),
            std::io::ErrorKind::NotFound.into(),
        );
        namespace.note_unread(&mut looked, &error);
        let unread = looked.iter().map(|looked| looked.unread.len());
        assert_eq!(unread.collect::<Vec<_>>(), [1, 0, 1]);
        let noted = looked[2].unread[0].to_string();
        assert_eq!(
            noted,
            format!("cannot read the sockets of process {me} in /proc/7/net/tcp")
        );
        // What has ended has no sockets.
        let ended = looked.iter().map(|looked| looked.ended.len());
        assert_eq!(ended.collect::<Vec<_>>(), [0, 0, 1]);
    }

    /// A program's parent may end between two looks, and its workers still have their connections.
    #[test]
    fn a_table_is_read_by_way_of_a_process_that_has_not_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let me = std::process::id();
        let inode = rustix::fs::fstat(&server).unwrap().st_ino;
        let open = Open {
            group: 0,
            pid: me,
            descriptor: server.as_raw_fd(),
        };
        let namespace = Namespace {
            is_ours: false,
            processes: vec![(0, u32::MAX), (0, me)],
            open: [(inode, open)].into(),
        };
        let mut looked = vec![Looked::default()];
        namespace.look(&mut looked);
        assert!(looked[0].unread.is_empty(), "{:?}", looked[0].unread);
        let seen: Vec<_> = looked[0].connections.iter().map(|it| it.inode).collect();
        assert_eq!(seen, [inode]);
    }

    #[test]
    fn a_socket_that_no_process_has_connected_to_has_no_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(peer_process(&listener.into()), None);
    }
}
