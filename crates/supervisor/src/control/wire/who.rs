//! Who is connected: the request, its answer, and how peers are named.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::EpochState;

/// The body of `POST /v1/who`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WhoRequest {
    /// Look at this epoch alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Which connections come first.
    pub sort: Sort,
    /// How many connections of each epoch are listed at most, 100 without it. An answer lists 1,000 in
    /// all at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Close the connections of these peers, then list what is left. Without `epoch`, those to the
    /// serving epoch stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Peers>,
}

/// Which connections come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The oldest ones.
    #[default]
    Age,
    /// Those that have carried most.
    Bytes,
}

/// Which peers are meant. In JSON it is the text that a person would type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Peers {
    /// All of them.
    All,
    /// Every connection from this address.
    Address(IpAddr),
    /// The one connection from this address and port.
    Socket(SocketAddr),
    /// The connections to Unix sockets that this process has opened.
    Process(u32),
}

/// A text names no peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no peer: give an IP address, IP:PORT, [IPv6]:PORT, pid:PID for the client of a Unix \
     socket, or `all`"
)]
pub struct PeersError(String);

impl Peers {
    /// Returns whether a connection with this other end is meant.
    #[must_use]
    pub fn include(self, peer: Option<SocketAddr>, process: Option<u32>) -> bool {
        match self {
            Self::All => true,
            Self::Address(ip) => peer.is_some_and(|peer| peer.ip() == ip),
            Self::Socket(wanted) => {
                peer.is_some_and(|peer| (peer.ip(), peer.port()) == (wanted.ip(), wanted.port()))
            }
            Self::Process(pid) => peer.is_none() && process == Some(pid),
        }
    }
}

impl FromStr for Peers {
    type Err = PeersError;

    fn from_str(text: &str) -> Result<Self, PeersError> {
        let wrong = || PeersError(text.to_owned());
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some(pid) = text.strip_prefix("pid:") {
            let pid = pid.parse().ok().filter(|pid| *pid > 0);
            return pid.map(Self::Process).ok_or_else(wrong);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            // No connection has it, so it is a slip.
            if address.port() == 0 {
                return Err(wrong());
            }
            let ip = address.ip().to_canonical();
            return Ok(Self::Socket(SocketAddr::new(ip, address.port())));
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let ip = match bare {
            Some(bare) => bare.parse().map(IpAddr::V6),
            None => text.parse(),
        };
        let ip = ip.map_err(|_| wrong())?;
        Ok(Self::Address(ip.to_canonical()))
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Address(ip) => ip.fmt(f),
            Self::Socket(address) => address.fmt(f),
            Self::Process(pid) => write!(f, "pid:{pid}"),
        }
    }
}

impl TryFrom<String> for Peers {
    type Error = PeersError;

    fn try_from(text: String) -> Result<Self, PeersError> {
        text.parse()
    }
}

impl From<Peers> for String {
    fn from(peers: Peers) -> Self {
        peers.to_string()
    }
}

/// The answer to `POST /v1/who`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The version of this interface, [`API`](super::API).
    pub api: u32,
    /// With `end`: what became of it.
    pub ended: Option<EndedConnections>,
    /// The running epochs, oldest first, and who is connected to each at this moment.
    pub epochs: Vec<ConnectionsOfEpoch>,
}

/// The connections of clients to an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsOfEpoch {
    /// The number of the epoch.
    pub epoch: u32,
    /// What is true of it.
    pub state: EpochState,
    /// None before its process was started.
    pub pid: Option<u32>,
    /// How many connections clients have to it, as far as they are seen. None where nothing is seen.
    pub connections: Option<u64>,
    /// Why there may be more connections of clients, in words. It is empty where all are seen.
    pub not_seen: Vec<String>,
    /// The other connections of its processes: those that they have opened themselves, and those to a
    /// listener that was closed before it was seen. None where nothing is seen.
    pub other_connections: Option<u64>,
    /// The first of the connections, in the order that was asked for.
    pub listed: Vec<ClientConnection>,
}

/// One connection of a client. What is unknown is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientConnection {
    /// The address and port of the client, or `pid:PID` of the process that has connected to a Unix
    /// socket.
    pub peer: Option<String>,
    /// The address to which the client has connected, or the name of the Unix socket.
    pub local: String,
    /// The name of the listener.
    pub listener: Option<String>,
    /// The process that has the connection.
    pub pid: u32,
    /// The least age. The kernel keeps no time of the beginning.
    pub age_at_least_seconds: Option<u64>,
    /// How long no data has gone in either direction.
    pub idle_seconds: Option<u64>,
    /// The bytes from the client.
    pub bytes_in: Option<u64>,
    /// The bytes to the client that it has acknowledged.
    pub bytes_out: Option<u64>,
    /// What is open: `open`, `closed_by_peer`, `closed_here` or `closing`.
    pub state: String,
    /// Whether a drain waits for it. None does for a listener that was excluded.
    pub holds_drain: bool,
}

/// What became of connections that were to be closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedConnections {
    /// How many connections were meant.
    pub meant: u64,
    /// How many were closed.
    pub closed: u64,
    /// How many of those that were meant are of an epoch that serves.
    pub meant_on_serving: u64,
    /// How many had ended by themselves before.
    pub gone: u64,
    /// How many of the closed ones their process still holds: it has not reacted to the end.
    pub still_held: u64,
    /// How many could not be closed.
    pub refused: u64,
    /// How many there was no time for.
    pub late: u64,
    /// How many connections of these peers to epochs that serve were left, because no epoch was named.
    pub left_on_serving: u64,
    /// Why some could not be closed.
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_as_people_write_them() {
        for (text, shown) in [
            ("all", "all"),
            ("10.0.0.7", "10.0.0.7"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("fe80::1", "fe80::1"),
            ("[fe80::1]", "fe80::1"),
            ("[fe80::1]:80", "[fe80::1]:80"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("[::ffff:10.0.0.7]:80", "10.0.0.7:80"),
            ("pid:7", "pid:7"),
        ] {
            let peers: Peers = text.parse().unwrap();
            assert_eq!(peers.to_string(), shown);
            let json = serde_json::to_string(&peers).unwrap();
            assert_eq!(serde_json::from_str::<Peers>(&json).unwrap(), peers);
        }
        for bad in [
            "",
            "ALL",
            "example.org",
            "10.0.0",
            "10.0.0.7:0",
            "10.0.0.7:",
            "[10.0.0.7]",
            "[::1",
            "pid:",
            "pid:0",
            "10.0.0.0/8",
            "*",
        ] {
            let error = bad.parse::<Peers>().unwrap_err().to_string();
            let expected = format!("`{bad}` names no peer");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_peer_without_a_port_stands_for_each_of_its_connections() {
        let at = |text: &str| Some(text.parse().unwrap());
        let peers = |text: &str| text.parse::<Peers>().unwrap();
        assert!(peers("10.0.0.7").include(at("10.0.0.7:1"), None));
        assert!(!peers("10.0.0.7").include(at("10.0.0.70:1"), None));
        assert!(peers("10.0.0.7:1").include(at("10.0.0.7:1"), None));
        assert!(!peers("10.0.0.7:1").include(at("10.0.0.7:11"), None));
        assert!(peers("[fe80::1%3]:1").include(at("[fe80::1]:1"), None));
        assert!(peers("pid:7").include(None, Some(7)));
        // What is not known is not meant.
        assert!(!peers("pid:7").include(None, None));
        assert!(!peers("10.0.0.7").include(None, Some(7)));
        assert!(peers("all").include(None, None));
    }

    proptest::proptest! {
        #[test]
        fn any_text_names_a_peer_or_is_refused(text in "\\PC{0,40}") {
            if let Ok(peers) = text.parse::<Peers>() {
                proptest::prop_assert_eq!(peers.to_string().parse::<Peers>().unwrap(), peers);
            }
        }
    }
}
