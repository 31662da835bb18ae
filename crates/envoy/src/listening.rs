//! On which sockets a process listens, as the host's tables show it: the proof that an epoch serves,
//! where its admin endpoint proves nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::admin::AdminAddress;
use crate::connections::{self, ConnectionsError, Listening, Uncountable};

/// The sockets on which a process waits for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListeningSockets {
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

impl From<&Listening> for ListeningSockets {
    fn from(listening: &Listening) -> Self {
        let mut sockets = Self::default();
        for address in &listening.addresses {
            match address {
                connections::LocalAddress::Tcp(address) => {
                    sockets.tcp.insert(*address);
                }
                connections::LocalAddress::Unix(name) => {
                    sockets.unix.insert(name.clone());
                }
            }
        }
        for uncountable in &listening.uncountable {
            match uncountable {
                Uncountable::Udp(_) => sockets.udp = true,
                Uncountable::OtherNamespace => sockets.unseen = true,
                // It is among the addresses as well.
                Uncountable::Transparent(_) => {}
            }
        }
        sockets
    }
}

impl ListeningSockets {
    /// Reads what a process listens on. It blocks while it reads `/proc`.
    ///
    /// # Errors
    ///
    /// [`ConnectionsError`], also where the process has ended or belongs to another user.
    pub(crate) fn of(pid: u32) -> Result<Self, ConnectionsError> {
        Ok(Self::from(&Listening::of(pid)?))
    }

    /// Reads on which TCP addresses a process listens, and nothing else. It blocks as [`of`](Self::of), for a shorter
    /// time: the kernel has a table of what listens.
    ///
    /// # Errors
    ///
    /// As for [`of`](Self::of).
    pub(crate) fn on_tcp(pid: u32) -> Result<Self, ConnectionsError> {
        Ok(Self {
            tcp: connections::listening_at(pid)?,
            ..Self::default()
        })
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
        let mut sockets = BTreeSet::new();
        sockets.extend(self.tcp.iter().filter(any));
        sockets
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
}

/// For people: `127.0.0.1:80 and 2 more sockets`, or `no socket`.
impl std::fmt::Display for ListeningSockets {
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
pub(crate) enum AddressView {
    /// It does.
    Same,
    /// The process is in another network namespace.
    OtherNetwork,
    /// The process sees other file systems.
    OtherFiles,
    /// The path is relative, and the process is in this directory, in which we are not.
    OtherDirectory(PathBuf),
    /// It cannot be seen.
    Unknown,
}

impl AddressView {
    /// Compares where a process is with where we are, as far as it matters for this address.
    pub(crate) fn of(pid: u32, address: &AdminAddress) -> Self {
        let same = |what: &str| {
            let link = |process: &str| std::fs::read_link(format!("/proc/{process}/{what}"));
            Some(link("self").ok()? == link(&pid.to_string()).ok()?)
        };
        let of_namespace = |what: &str, other: Self| match same(what) {
            Some(true) => Self::Same,
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
                let files = files.into_iter().find(|view| *view != Self::Same);
                let files = files.unwrap_or(Self::Same);
                match (files, path.is_relative()) {
                    (Self::Same, true) => match std::fs::read_link(format!("/proc/{pid}/cwd")) {
                        Ok(_) if same("cwd") == Some(true) => Self::Same,
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
            Self::Same | Self::Unknown => None,
            Self::OtherNetwork => Some(
                "it is in another network namespace than handover, which cannot ask there: \
                 give admin.address a pipe, or start handover in that namespace"
                    .to_owned(),
            ),
            Self::OtherFiles => Some(format!(
                "it sees other files than handover, so {address} is another socket there: give \
                 admin.address a socket_address, or a path that both see"
            )),
            Self::OtherDirectory(directory) => Some(format!(
                "the path is relative, and it runs in {}: give admin.address an absolute path",
                directory.display()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    fn tcp(address: &str) -> AdminAddress {
        address.parse().unwrap()
    }

    fn listening(tcp: &[&str]) -> ListeningSockets {
        ListeningSockets {
            tcp: tcp.iter().map(|address| address.parse().unwrap()).collect(),
            ..ListeningSockets::default()
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
        // A port that the kernel has chosen is taken for that of a client.
        let udp = (2000..32_000).find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok());
        let client = std::net::TcpStream::connect(v4.local_addr().unwrap()).unwrap();
        let seen = ListeningSockets::of(std::process::id()).unwrap();
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
            !ListeningSockets::of(std::process::id())
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
        let elsewhere = ListeningSockets {
            unseen: true,
            ..ListeningSockets::default()
        };
        assert_eq!(elsewhere.serves(), Serves::Unknown);
        let quic = ListeningSockets {
            udp: true,
            ..ListeningSockets::default()
        };
        assert_eq!(quic.serves(), Serves::Unknown);
        assert!(ListeningSockets::of(u32::MAX).is_err());
    }

    #[test]
    fn it_is_told_in_few_words() {
        assert_eq!(listening(&[]).to_string(), "no socket");
        assert_eq!(listening(&["[::1]:80"]).to_string(), "[::1]:80");
        let several = listening(&["0.0.0.0:80", "0.0.0.0:81", "0.0.0.0:82"]);
        assert_eq!(several.to_string(), "0.0.0.0:80 and 2 more");
    }

    #[test]
    fn another_directory_matters_for_a_relative_path_alone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir("/")
            .spawn()
            .unwrap();
        let addresses = ["127.0.0.1:80", "unix:@a", "unix:/a", "unix:a"].map(tcp);
        let views = addresses.map(|address| (AddressView::of(child.id(), &address), address));
        child.kill().unwrap();
        child.wait().unwrap();
        for (view, address) in &views[..3] {
            assert_eq!(
                (view, view.hint(address)),
                (&AddressView::Same, None),
                "{address}"
            );
        }
        assert_eq!(views[3].0, AddressView::OtherDirectory("/".into()));
        let hint = views[3].0.hint(&views[3].1).unwrap();
        assert!(
            hint.ends_with("it runs in /: give admin.address an absolute path"),
            "{hint}"
        );
        assert_eq!(AddressView::of(u32::MAX, &views[0].1), AddressView::Unknown);
    }
}
