//! Sockets as `/proc` shows them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::sock_diag::{Protocol, States, inet_sockets};

/// Returns the inodes of the sockets that a process has open, each with one of its descriptors there.
///
/// # Errors
///
/// Where its descriptors may not be looked at, or their list cannot be read.
pub fn sockets_of(process: &Path) -> io::Result<BTreeMap<u64, RawFd>> {
    let mut sockets = BTreeMap::new();
    for entry in std::fs::read_dir(process.join("fd"))? {
        // A descriptor may be closed between the listing and the look at it.
        let Ok(entry) = entry else { continue };
        let target = match std::fs::read_link(entry.path()) {
            Ok(target) => target,
            // The capability CAP_DAC_OVERRIDE allows to list the descriptors of other users, and not to look at them.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(_) => continue,
        };
        let inode = target.to_str().and_then(|target| {
            target
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse::<u64>()
                .ok()
        });
        let descriptor = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RawFd>().ok());
        sockets.extend(inode.zip(descriptor));
    }
    Ok(sockets)
}

/// Calls `visit` for each TCP socket of a process, as the tables of its own network namespace show
/// it, with one of its descriptors there.
///
/// # Errors
///
/// The file that could not be read, and why.
pub fn each_tcp_socket(
    process: &Path,
    mut visit: impl FnMut(InetSocket, RawFd),
) -> Result<(), (PathBuf, io::Error)> {
    let own = sockets_of(process).map_err(|error| (process.to_owned(), error))?;
    each_inet_socket(process, Protocol::Tcp, States::All, |socket| {
        if let Some(descriptor) = own.get(&socket.inode) {
            visit(socket, *descriptor);
        }
    })
}

/// Calls `visit` for each TCP or UDP socket of both families in these states in the network namespace of a process.
/// Closed connections whose port is still reserved are left out.
pub(crate) fn each_inet_socket(
    process: &Path,
    protocol: Protocol,
    states: States,
    mut visit: impl FnMut(InetSocket),
) -> Result<(), (PathBuf, io::Error)> {
    // Where the kernel does not list them, or lists those of another namespace, it shows them.
    if is_in_our_network(process)
        && let Ok(sockets) = inet_sockets(protocol, states)
    {
        sockets.into_iter().for_each(visit);
        return Ok(());
    }
    let table = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    in_table(process, table, |socket| {
        if states.contains(&socket) {
            visit(socket);
        }
    })
}

/// One that cannot be looked at is not.
pub(crate) fn is_in_our_network(process: &Path) -> bool {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/net")).ok();
    let ours = namespace(Path::new("/proc/self"));
    ours.is_some() && ours == namespace(process)
}

/// Calls `visit` for each line of two tables below `/proc`.
pub(crate) fn in_table(
    process: &Path,
    table: &str,
    mut visit: impl FnMut(InetSocket),
) -> Result<(), (PathBuf, io::Error)> {
    for family in ["", "6"] {
        let path = process.join(format!("net/{table}{family}"));
        each_line(&path, |line| {
            // Most lines of a busy host are connections in TIME_WAIT, which belong to no process.
            if !line.contains(" 06 ")
                && let Some(socket) = InetSocket::parse(line)
            {
                visit(socket);
            }
        })
        .or_else(|error| {
            // A host without IPv6 has no second table.
            if family == "6" && error.kind() == io::ErrorKind::NotFound {
                return Ok(());
            }
            Err((path, error))
        })?;
    }
    Ok(())
}

/// Calls `visit` for each Unix stream socket with a name in the network namespace of a process.
///
/// # Errors
///
/// The file that could not be read, and why.
pub fn each_unix_stream(
    process: &Path,
    mut visit: impl FnMut(UnixStreamSocket<'_>),
) -> Result<(), (PathBuf, io::Error)> {
    each_unix_socket(process, |_, stream| {
        if let Some(socket) = stream {
            visit(socket);
        }
    })
}

/// Calls `visit` for each Unix socket in the network namespace of a process: with its inode, and with all else of a
/// stream socket that has a name. What listens and is no such socket is left out.
pub(crate) fn each_unix_socket(
    process: &Path,
    mut visit: impl FnMut(u64, Option<UnixStreamSocket<'_>>),
) -> Result<(), (PathBuf, io::Error)> {
    let path = process.join("net/unix");
    each_line(&path, |line| {
        let stream = UnixStreamSocket::parse(line);
        if let Some(inode) = stream.map_or_else(|| idle_unix_socket(line), |it| Some(it.inode)) {
            visit(inode, stream);
        }
    })
    .map_err(|error| (path, error))
}

/// The inode of a Unix socket that waits for no connections.
fn idle_unix_socket(line: &str) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace().skip(3);
    let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(2)?.parse().ok()?;
    (flags & ACCEPTS == 0).then_some(inode)
}

/// A busy host has tens of thousands of lines, so one buffer serves for all. A name may hold any
/// byte.
fn each_line(path: &Path, mut visit: impl FnMut(&str)) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        visit(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
    Ok(())
}

/// One line of `/proc/net/tcp`, `udp`, or one of their tables of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InetSocket {
    /// Its own end. An IPv4 address that IPv6 has mapped is the IPv4 address.
    pub local: SocketAddr,
    /// The other end; an unspecified address without a port where there is none.
    pub remote: SocketAddr,
    /// The kernel's number of the state.
    pub state: u8,
    /// The inode of the socket.
    pub inode: u64,
}

impl InetSocket {
    /// The kernel's number of the state of a listening socket.
    pub const LISTEN: u8 = 0x0a;

    /// Returns whether there is another end.
    #[must_use]
    pub fn has_peer(&self) -> bool {
        self.remote.port() != 0
    }

    /// Returns whether there is a connection of which at least one direction is open, or not yet known to be
    /// closed at both ends: established, `FIN_WAIT1`, `FIN_WAIT2`, `CLOSE_WAIT`, `LAST_ACK` or
    /// `CLOSING`. Which process has it is another question: the kernel finishes without one.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        matches!(self.state, 0x01 | 0x04 | 0x05 | 0x08 | 0x09 | 0x0b)
    }

    /// Reads a line; the heading and what has another form is `None`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let remote = fields.next()?;
        let state = fields.next()?;
        let inode = fields.nth(5)?;
        Some(Self {
            local: address(local)?,
            remote: address(remote)?,
            state: u8::from_str_radix(state, 16).ok()?,
            inode: inode.parse().ok()?,
        })
    }
}

/// Reads `0100007F:4DE2`, or the same with four words: each is in network order, shown as a number of
/// this machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| -> Option<[u8; 4]> {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// One named stream socket of `/proc/net/unix`. An accepted connection has the name of the listening
/// socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixStreamSocket<'a> {
    /// The inode of the socket.
    pub inode: u64,
    /// Whether it waits for connections.
    pub listens: bool,
    /// Whether it is one end of a connection.
    pub is_connected: bool,
    /// With `@` for each NUL.
    pub name: &'a str,
}

/// The flag of a Unix socket that waits for connections.
const ACCEPTS: u32 = 0x1_0000;

impl<'a> UnixStreamSocket<'a> {
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let (inode, name) = unix_socket(line)?;
        let mut fields = line.split_ascii_whitespace().skip(3);
        let (flags, kind, state) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "0001").then_some(Self {
            inode,
            listens: u32::from_str_radix(flags, 16).ok()? & ACCEPTS != 0,
            is_connected: state == "03",
            name,
        })
    }
}

/// Reads one bound name of `/proc/net/unix`: the socket's inode and its name, with `@` for each NUL.
#[must_use]
pub fn unix_socket(line: &str) -> Option<(u64, &str)> {
    let mut fields = line.splitn(8, ' ');
    let inode = fields.nth(6)?;
    // The inode is padded to five places.
    let rest = fields.next()?;
    if inode.is_empty() {
        let (inode, name) = rest.trim_start().split_once(' ')?;
        return Some((inode.parse().ok()?, name));
    }
    Some((inode.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What looks like a process to who reads `/proc`.
    fn process() -> tempfile::TempDir {
        let process = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(process.path().join("net")).unwrap();
        std::fs::create_dir_all(process.path().join("ns")).unwrap();
        process
    }

    #[test]
    fn a_network_namespace_is_ours_by_its_name() {
        assert!(is_in_our_network(Path::new("/proc/self")));
        let process = process();
        assert!(!is_in_our_network(process.path()));
        std::os::unix::fs::symlink("net:[1]", process.path().join("ns/net")).unwrap();
        assert!(!is_in_our_network(process.path()));
    }

    #[test]
    fn only_the_table_of_ipv6_may_be_absent() {
        let process = process();
        let read = || in_table(process.path(), "tcp", |_| ()).map_err(|(path, _)| path);
        let [v4, v6] = ["net/tcp", "net/tcp6"].map(|name| process.path().join(name));
        assert_eq!(read(), Err(v4.clone()));
        std::fs::write(&v4, "").unwrap();
        assert_eq!(read(), Ok(()));
        // What is no file cannot be read.
        std::fs::create_dir(&v6).unwrap();
        assert_eq!(read(), Err(v6));
    }

    #[test]
    fn lines_of_both_families_are_read() {
        let v4 = "   1: 0100007F:4DE2 0100007F:8C3A 01 00000000:00000000 00:00000000 00000000     0        0 24970 1 0000000000000000 20 4 30 10 -1";
        let v6 = "   0: 00000000000000000000000001000000:4DE3 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 24971 1 0000000000000000 100 0 0 10 0";
        let mapped = v4.replace("0100007F:4DE2", "0000000000000000FFFF00000100007F:4DE2");
        let established = InetSocket {
            local: "127.0.0.1:19938".parse().unwrap(),
            remote: "127.0.0.1:35898".parse().unwrap(),
            state: 1,
            inode: 24970,
        };
        assert_eq!(InetSocket::parse(v4), Some(established));
        assert_eq!(InetSocket::parse(&mapped), Some(established));
        assert!(established.is_connection());
        let listens = InetSocket {
            local: "[::1]:19939".parse().unwrap(),
            remote: "[::]:0".parse().unwrap(),
            state: InetSocket::LISTEN,
            inode: 24971,
        };
        assert_eq!(InetSocket::parse(v6), Some(listens));
        assert!(!listens.is_connection());
        for other in [
            "  sl  local_address rem_address   st tx_queue",
            "",
            "1: 0100007F: 0:0 01 0 0 0 0 0 1",
            "1: é100007F:4DE2 0:0 01 0 0 0 0 0 1",
        ] {
            assert_eq!(InetSocket::parse(other), None);
        }
    }

    #[test]
    fn connections_to_a_unix_socket_have_its_name() {
        let line = |flags, kind, state| {
            format!("00000000fdfa64f6: 00000002 00000000 {flags} {kind} {state} 24967 /run/a b")
        };
        let (listens, is_connected) = (true, false);
        let socket = |listens, is_connected| {
            Some(UnixStreamSocket {
                inode: 24967,
                listens,
                is_connected,
                name: "/run/a b",
            })
        };
        let text = line("00010000", "0001", "01");
        assert_eq!(
            UnixStreamSocket::parse(&text),
            socket(listens, is_connected)
        );
        let text = line("00000000", "0001", "03");
        assert_eq!(UnixStreamSocket::parse(&text), socket(false, true));
        assert_eq!(
            UnixStreamSocket::parse(&line("00000000", "0002", "01")),
            None
        );
    }

    #[test]
    fn unix_names_are_read_with_any_width_of_inode() {
        let line =
            |inode| format!("00000000fdfa64f6: 00000002 00000000 00000000 0002 01 {inode} @a b@@");
        assert_eq!(unix_socket(&line("24967")), Some((24967, "@a b@@")));
        assert_eq!(unix_socket(&line("  967")), Some((967, "@a b@@")));
        assert_eq!(unix_socket(&line("12345678")), Some((12_345_678, "@a b@@")));
        assert_eq!(
            unix_socket("00000000fdfa64f6: 00000002 00000000 00000000 0002 01 24967"),
            None
        );
        assert_eq!(
            unix_socket("Num       RefCount Protocol Flags    Type St Inode Path"),
            None
        );
        assert_eq!(unix_socket(""), None);
    }
}
