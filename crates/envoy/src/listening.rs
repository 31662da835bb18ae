//! On which sockets a process listens, as the host's tables show it: the proof that an epoch serves,
//! where its admin endpoint proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::admin::AdminAddress;
use crate::connections::ConnectionsError;
use crate::proc_net::sockets_of;

/// The sockets on which a process waits for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listening {
    tcp: BTreeSet<SocketAddr>,
    /// Unix sockets: a path, or `@` and the name of an abstract socket.
    unix: BTreeSet<String>,
    /// Whether it has UDP sockets without a peer. Whether these are listeners cannot be seen.
    udp: bool,
    /// Whether it has sockets that are in none of its namespace's tables, such as those of another
    /// network namespace.
    unseen: bool,
}

/// What a process does with the clients of its listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// It has listening sockets.
    Yes,
    /// It has none.
    No,
    /// It cannot be seen.
    Unknown,
}

impl Listening {
    /// Reads what a process listens on. It blocks while it reads `/proc`.
    ///
    /// # Errors
    ///
    /// [`ConnectionsError`], also where the process has ended or belongs to another user.
    pub(crate) fn of(pid: u32) -> Result<Self, ConnectionsError> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        Self::read(&process).map_err(|(path, source)| ConnectionsError { pid, path, source })
    }

    fn read(process: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let mut own = sockets_of(process).map_err(|error| (process.to_owned(), error))?;
        let mut listening = Self::default();
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            each_own(process, table, &mut own, |line| {
                listening.note_ip(table, line);
            })?;
        }
        each_own(process, "unix", &mut own, |line| {
            listening.unix.extend(listening_unix_name(line));
        })?;
        listening.unseen = !own.is_empty();
        Ok(listening)
    }

    fn note_ip(&mut self, table: &str, line: &str) {
        let Some((local, remote, state)) = ip_socket(line) else {
            return;
        };
        match (table, state) {
            ("tcp" | "tcp6", LISTEN) => {
                self.tcp.insert(local);
            }
            ("udp" | "udp6", _) if remote.port() == 0 => self.udp = true,
            _ => {}
        }
    }

    /// The same without the admin endpoint, which serves no client.
    pub(crate) fn without(mut self, admin: &AdminAddress) -> Self {
        match admin {
            AdminAddress::Tcp(admin) => {
                let own = self.admin_sockets(admin);
                self.tcp.retain(|socket| !own.contains(socket));
            }
            AdminAddress::Unix(path) => {
                let path = path.display().to_string();
                self.unix.retain(|name| *name != path);
            }
        }
        self
    }

    /// Whether the admin endpoint is one of these sockets.
    pub(crate) fn has(&self, admin: &AdminAddress) -> bool {
        match admin {
            AdminAddress::Tcp(admin) => !self.admin_sockets(admin).is_empty(),
            AdminAddress::Unix(path) => self.unix.contains(&path.display().to_string()),
        }
    }

    /// The sockets behind an admin address: that very address, or else what listens on its port on
    /// every address.
    fn admin_sockets(&self, admin: &SocketAddr) -> BTreeSet<SocketAddr> {
        if self.tcp.contains(admin) {
            return [*admin].into();
        }
        let any =
            |socket: &&SocketAddr| socket.ip().is_unspecified() && socket.port() == admin.port();
        self.tcp.iter().filter(any).copied().collect()
    }

    /// Whether clients can connect, as far as can be seen. The admin endpoint must be left out
    /// before.
    pub(crate) fn serves(&self) -> Serves {
        if !self.tcp.is_empty() || !self.unix.is_empty() {
            Serves::Yes
        } else if self.udp || self.unseen {
            Serves::Unknown
        } else {
            Serves::No
        }
    }

    /// Whether it has sockets that are in no table of its namespace.
    pub(crate) fn hides_some(&self) -> bool {
        self.unseen
    }

    /// The TCP ports, whatever the addresses.
    pub(crate) fn tcp_ports(&self) -> BTreeSet<u16> {
        self.tcp.iter().map(SocketAddr::port).collect()
    }
}

/// For people: `127.0.0.1:80 and 2 more sockets`, or `no socket`.
impl std::fmt::Display for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tcp = self.tcp.iter().map(ToString::to_string);
        let unix = self.unix.iter().map(|name| format!("unix:{name}"));
        let mut names = tcp.chain(unix);
        match (names.next(), names.count()) {
            (None, _) if self.udp || self.unseen => f.write_str("no TCP or Unix socket"),
            (None, _) => f.write_str("no socket"),
            (Some(name), 0) => f.write_str(&name),
            (Some(name), more) => write!(f, "{name} and {more} more"),
        }
    }
}

/// Whether an address means the same to a process as to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It does.
    Ours,
    /// The process is in another network namespace.
    OtherNetwork,
    /// The process sees other file systems.
    OtherFiles,
    /// The path is relative, and the process is in this directory, in which we are not.
    OtherDirectory(PathBuf),
    /// It cannot be seen.
    Unknown,
}

impl Place {
    /// Compares where a process is with where we are, as far as it matters for this address.
    pub(crate) fn of(pid: u32, address: &AdminAddress) -> Self {
        let same = |what: &str| {
            let link = |process: &str| std::fs::read_link(format!("/proc/{process}/{what}"));
            Some(link("self").ok()? == link(&pid.to_string()).ok()?)
        };
        let of_namespace = |what: &str, other: Self| match same(what) {
            Some(true) => Self::Ours,
            Some(false) => other,
            None => Self::Unknown,
        };
        match address {
            AdminAddress::Tcp(_) => of_namespace("ns/net", Self::OtherNetwork),
            AdminAddress::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"@") => {
                of_namespace("ns/net", Self::OtherNetwork)
            }
            AdminAddress::Unix(path) => {
                // A start script may have changed its root alone.
                let files = ["ns/mnt", "root"].map(|what| of_namespace(what, Self::OtherFiles));
                let files = files.into_iter().find(|place| *place != Self::Ours);
                let files = files.unwrap_or(Self::Ours);
                match (files, path.is_relative()) {
                    (Self::Ours, true) => match std::fs::read_link(format!("/proc/{pid}/cwd")) {
                        Ok(_) if same("cwd") == Some(true) => Self::Ours,
                        Ok(directory) => Self::OtherDirectory(directory),
                        Err(_) => Self::Unknown,
                    },
                    (files, _) => files,
                }
            }
        }
    }

    /// Returns what is wrong with the address, and what helps.
    pub(crate) fn hint(&self, address: &AdminAddress) -> Option<String> {
        match self {
            Self::Ours | Self::Unknown => None,
            Self::OtherNetwork => Some(
                "it is in another network namespace than handover, which cannot ask there: give                  admin.address a pipe, or start handover in that namespace"
                    .to_owned(),
            ),
            Self::OtherFiles => Some(format!(
                "it sees other files than handover, so {address} is another socket there: give                  admin.address a socket_address, or a path that both see"
            )),
            Self::OtherDirectory(directory) => Some(format!(
                "the path is relative, and it runs in {}: give admin.address an absolute path",
                directory.display()
            )),
        }
    }
}

/// The kernel's number of the state of a listening TCP socket.
const LISTEN: u8 = 0x0a;

/// Calls `visit` with each line of a table that is about one of these sockets, and takes these
/// sockets out.
fn each_own(
    process: &Path,
    table: &str,
    own: &mut BTreeMap<u64, RawFd>,
    mut visit: impl FnMut(&str),
) -> Result<(), (PathBuf, io::Error)> {
    let path = process.join("net").join(table);
    let file = match File::open(&path) {
        Ok(file) => file,
        // A host without IPv6 has no such table.
        Err(error) if table.ends_with('6') && error.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        Err(error) => return Err((path, error)),
    };
    let column = if table == "unix" { 6 } else { 9 };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .map_err(|error| (path.clone(), error))?
        > 0
    {
        // A name may hold any byte.
        let text = String::from_utf8_lossy(&line);
        let inode = text.split_ascii_whitespace().nth(column);
        if let Some(inode) = inode.and_then(|inode| inode.parse().ok())
            && own.remove(&inode).is_some()
        {
            visit(text.trim_end_matches('\n'));
        }
        line.clear();
    }
    Ok(())
}

/// The local and the remote address and the state of a line of `/proc/net/tcp`, `udp` or their like.
fn ip_socket(line: &str) -> Option<(SocketAddr, SocketAddr, u8)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = address(fields.next()?)?;
    let remote = address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    Some((local, remote, state))
}

/// An address as the tables write it: words of 32 bits in the byte order of the machine, in
/// hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in 0..ip.len() / 8 {
        let word = u32::from_str_radix(ip.get(word * 8..word * 8 + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match *bytes {
        [a, b, c, d] if ip.len() == 8 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// The name of a listening Unix socket of a line of `/proc/net/unix`.
fn listening_unix_name(line: &str) -> Option<String> {
    const ACCEPTS_CONNECTIONS: u32 = 0x1_0000;
    let mut fields = line.split_ascii_whitespace();
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let inode = fields.nth(2)?;
    if flags & ACCEPTS_CONNECTIONS == 0 {
        return None;
    }
    // A name may hold blanks; one that is not bound has none.
    let (_, name) = line.split_once(&format!(" {inode} "))?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    fn tcp(address: &str) -> AdminAddress {
        address.parse().unwrap()
    }

    fn listening(tcp: &[&str]) -> Listening {
        Listening {
            tcp: tcp.iter().map(|address| address.parse().unwrap()).collect(),
            ..Listening::default()
        }
    }

    #[test]
    fn own_listeners_of_each_kind_are_seen_and_others_are_not() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let path = dir.path().join("a b.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(v4.local_addr().unwrap()).unwrap();
        let seen = Listening::of(std::process::id()).unwrap();
        assert!(seen.tcp.contains(&v4.local_addr().unwrap()), "{seen:?}");
        assert!(seen.tcp.contains(&v6.local_addr().unwrap()), "{seen:?}");
        assert!(
            !seen.tcp.contains(&client.local_addr().unwrap()),
            "{seen:?}"
        );
        assert!(seen.unix.contains(&path.display().to_string()), "{seen:?}");
        assert!(seen.udp);
        assert!(seen.has(&AdminAddress::Unix(path.clone())));
        drop((v4, v6, unix, udp));
        assert!(
            !Listening::of(std::process::id())
                .unwrap()
                .has(&AdminAddress::Unix(path))
        );
    }

    #[test]
    fn the_admin_endpoint_is_told_by_its_address() {
        // A listener of clients may have the same port on another address.
        let seen = listening(&["127.0.0.1:80", "10.0.0.1:80"]);
        assert!(seen.has(&tcp("127.0.0.1:80")) && !seen.has(&tcp("127.0.0.1:81")));
        assert_eq!(
            seen.without(&tcp("127.0.0.1:80")),
            listening(&["10.0.0.1:80"])
        );
        // The configuration may say 0.0.0.0, which is reached at the loopback address.
        let seen = listening(&["0.0.0.0:9901", "0.0.0.0:80"]);
        assert!(seen.has(&tcp("127.0.0.1:9901")));
        assert_eq!(
            seen.without(&tcp("127.0.0.1:9901")),
            listening(&["0.0.0.0:80"])
        );
    }

    #[test]
    fn what_cannot_be_seen_is_unknown() {
        assert_eq!(listening(&["127.0.0.1:80"]).serves(), Serves::Yes);
        assert_eq!(listening(&[]).serves(), Serves::No);
        let elsewhere = Listening {
            unseen: true,
            ..Listening::default()
        };
        assert_eq!(elsewhere.serves(), Serves::Unknown);
        let quic = Listening {
            udp: true,
            ..Listening::default()
        };
        assert_eq!(quic.serves(), Serves::Unknown);
        assert!(Listening::of(u32::MAX).is_err());
    }

    #[test]
    fn it_is_told_in_few_words() {
        assert_eq!(listening(&[]).to_string(), "no socket");
        assert_eq!(listening(&["[::1]:80"]).to_string(), "[::1]:80");
        let several = listening(&["0.0.0.0:80", "0.0.0.0:81", "0.0.0.0:82"]);
        assert_eq!(several.to_string(), "0.0.0.0:80 and 2 more");
    }

    #[test]
    fn foreign_lines_are_passed_over() {
        for line in [
            "",
            "  sl  local_address",
            "a b c d e f g h i j",
            "0: 0100007F:00 x y",
        ] {
            assert_eq!(ip_socket(line), None, "{line}");
            assert_eq!(listening_unix_name(line), None, "{line}");
        }
        for text in ["", ":", "0100007F", "0100007:0050", "é:0050", "01:0050"] {
            assert_eq!(address(text), None, "{text}");
        }
        let mapped = "0000000000000000FFFF00000100007F:0050";
        if cfg!(target_endian = "little") {
            assert_eq!(address(mapped), "127.0.0.1:80".parse().ok());
        }
        let bound = "0000: 00000002 00000000 00010000 0001 01 123 /a b";
        assert_eq!(listening_unix_name(bound), Some("/a b".to_owned()));
        let connected = "0000: 00000002 00000000 00000000 0001 03 123 /a b";
        assert_eq!(listening_unix_name(connected), None);
    }

    #[test]
    fn another_directory_matters_for_a_relative_path_alone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir("/")
            .spawn()
            .unwrap();
        let addresses = ["127.0.0.1:80", "unix:@a", "unix:/a", "unix:a"].map(tcp);
        let places = addresses.map(|address| (Place::of(child.id(), &address), address));
        child.kill().unwrap();
        child.wait().unwrap();
        for (place, address) in &places[..3] {
            assert_eq!(
                (place, place.hint(address)),
                (&Place::Ours, None),
                "{address}"
            );
        }
        assert_eq!(places[3].0, Place::OtherDirectory("/".into()));
        let hint = places[3].0.hint(&places[3].1).unwrap();
        assert!(
            hint.ends_with("it runs in /: give admin.address an absolute path"),
            "{hint}"
        );
        assert_eq!(Place::of(u32::MAX, &places[0].1), Place::Unknown);
    }
}
