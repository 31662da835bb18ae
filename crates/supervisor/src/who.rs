//! Whose connections each epoch has: from what was seen in the tables of the host to the answer, and to
//! the connections that are to be closed. Nothing here looks or closes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use handover_netutil::connections::{
    Connection, ConnectionState, ConnectionsError, LocalAddress, Looked, accepted_at,
};
use handover_tokio::error_chain;

use crate::control::wire::{
    API, ClientConnection, ConnectionsOfEpoch, EndedConnections, EpochState, Peers, Sort, Who,
    WhoRequest,
};
use crate::{EpochListeners, Listener, Purpose};

/// How many connections of an epoch are listed, where no limit is given.
const LIMIT: usize = 100;
/// How many are listed in all, whatever the limit is.
const MOST_LISTED: usize = 1_000;
/// How many characters of the name of a listener are shown.
const MOST_OF_A_NAME: usize = 64;

/// An epoch whose sockets were looked at.
pub(crate) struct LookedAt {
    pub(crate) epoch: u32,
    pub(crate) state: EpochState,
    /// Whether it is to go on: neither it nor everything is ending.
    pub(crate) serves: bool,
    pub(crate) age: Duration,
    /// None before it has a process.
    pub(crate) known: Option<EpochListeners>,
    /// What its sockets show.
    pub(crate) looked: Looked,
    /// Why it is not known which processes belong to it.
    pub(crate) unknown_family: Option<String>,
}

impl LookedAt {
    /// Whether its process has ended since the epoch was known to run.
    fn has_ended(&self) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| self.looked.ended.contains(&known.pid))
    }

    /// Whether anything of its sockets can have been seen.
    fn is_seen(&self) -> bool {
        self.known.is_some() && self.unknown_family.is_none()
    }
}

/// When each connection was seen first. Those of the last look are remembered, and no others.
#[derive(Debug, Default)]
pub(crate) struct FirstSeen(BTreeMap<(u64, u16), Instant>);

/// The connections of clients to an epoch.
pub(crate) struct Clients {
    epoch: u32,
    state: EpochState,
    serves: bool,
    pid: Option<u32>,
    /// Whether anything was seen.
    is_seen: bool,
    not_seen: BTreeSet<String>,
    others: u64,
    clients: Vec<Client>,
}

/// A connection of a client.
struct Client {
    connection: Connection,
    listener: Option<String>,
    holds_drain: bool,
    /// The least age.
    age: Option<Duration>,
    idle: Option<Duration>,
}

/// What is to be closed.
#[derive(Default)]
pub(crate) struct Selected {
    pub(crate) connections: Vec<Connection>,
    pub(crate) on_serving: u64,
    pub(crate) left_on_serving: u64,
}

/// Tells the connections of clients from the others, by where each epoch listens. An old one has closed its
/// listeners, so those of its neighbours count as well. What has ended meanwhile has no connections, and is left out.
pub(crate) fn sort_out(
    looked: Vec<LookedAt>,
    first_seen: &mut FirstSeen,
    now: Instant,
) -> Vec<Clients> {
    let mut everywhere = Places::default();
    // A newer epoch knows better by which name its listener goes.
    for epoch in looked.iter().rev() {
        everywhere.add(epoch);
    }
    let epochs = looked.into_iter().filter(|epoch| !epoch.has_ended());
    let mut epochs: Vec<Clients> = epochs
        .map(|epoch| Clients::of(epoch, &everywhere))
        .collect();
    first_seen.take_in(now, &mut epochs);
    epochs
}

/// Chooses what is to be closed. Without an epoch that is named, those that serve are left alone.
pub(crate) fn select(epochs: &[Clients], peers: Peers, named: Option<u32>) -> Selected {
    let mut selected = Selected::default();
    for epoch in epochs {
        if named.is_some_and(|named| named != epoch.epoch) {
            continue;
        }
        let connections = epoch.clients.iter().map(|client| &client.connection);
        let meant = connections.filter(|it| peers.include(it.peer, it.peer_pid));
        if epoch.serves && named.is_none() {
            selected.left_on_serving += count(meant);
            continue;
        }
        let before = selected.connections.len();
        selected.connections.extend(meant.cloned());
        if epoch.serves {
            selected.on_serving += count(selected.connections.iter().skip(before));
        }
    }
    selected
}

/// Writes the answer.
pub(crate) fn report(
    epochs: Vec<Clients>,
    request: WhoRequest,
    ended: Option<EndedConnections>,
) -> Who {
    let limit = request.limit.unwrap_or(LIMIT);
    let mut left = MOST_LISTED;
    let named = |epoch: &Clients| request.epoch.is_none_or(|named| named == epoch.epoch);
    let epochs = epochs.into_iter().filter(named).map(|epoch| {
        let epoch = epoch.report(request.sort, limit.min(left));
        left = left.saturating_sub(epoch.listed.len());
        epoch
    });
    Who {
        api: API,
        ended,
        epochs: epochs.collect(),
    }
}

/// Why sockets were not seen, with the remedy where a right is missing.
fn unreadable(error: &ConnectionsError) -> String {
    let remedy = if error.source.kind() == ErrorKind::PermissionDenied {
        "; run handover as the user of that process, or give it the capability CAP_SYS_PTRACE"
    } else {
        ""
    };
    format!("{}{remedy}", error_chain(error))
}

fn count(iterator: impl Iterator) -> u64 {
    iterator.fold(0, |count: u64, _| count.saturating_add(1))
}

impl FirstSeen {
    /// Notes what is seen now, forgets what is not, and raises each age to the time since it was first
    /// seen.
    fn take_in(&mut self, now: Instant, epochs: &mut [Clients]) {
        let before = std::mem::take(&mut self.0);
        for client in epochs.iter_mut().flat_map(|epoch| &mut epoch.clients) {
            // An inode may be used again, but hardly for the same port of a peer.
            let port = client.connection.peer.map_or(0, |peer| peer.port());
            let key = (client.connection.inode, port);
            let first = before.get(&key).copied();
            self.0.insert(key, first.unwrap_or(now));
            let seen = first.map(|first| now.saturating_duration_since(first));
            client.age = client.age.max(seen);
        }
    }
}

/// Where epochs listen.
#[derive(Default)]
struct Places {
    tcp: BTreeSet<SocketAddr>,
    listeners: BTreeMap<LocalAddress, Listener>,
}

impl Places {
    /// Adds where an epoch listens. What is known already stays.
    fn add(&mut self, epoch: &LookedAt) {
        for (address, listener) in epoch.known.iter().flat_map(|known| &known.listeners) {
            self.add_one(address, listener.clone());
        }
        for address in &epoch.looked.listening.addresses {
            self.add_one(address, Listener::default());
        }
    }

    fn add_one(&mut self, address: &LocalAddress, listener: Listener) {
        if let LocalAddress::Tcp(address) = address {
            self.tcp.insert(*address);
        }
        self.listeners.entry(address.clone()).or_insert(listener);
    }

    /// The listener that has taken a connection.
    fn of(&self, connection: &Connection) -> Option<&Listener> {
        match &connection.local {
            LocalAddress::Tcp(local) => {
                let address = accepted_at(*local, &self.tcp)?;
                self.listeners.get(&LocalAddress::Tcp(address))
            }
            name @ LocalAddress::Unix(_) => self.listeners.get(name),
        }
    }
}

impl Clients {
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    fn of(epoch: LookedAt, everywhere: &Places) -> Self {
        let mut own = Places::default();
        own.add(&epoch);
        let mut clients = Self {
            epoch: epoch.epoch,
            state: epoch.state,
            serves: epoch.serves,
            pid: epoch.known.as_ref().map(|known| known.pid),
            is_seen: epoch.is_seen(),
            not_seen: BTreeSet::new(),
            others: 0,
            clients: Vec::new(),
        };
        let Some(known) = epoch.known else {
            clients.not_seen.insert("it has no process yet".to_owned());
            return clients;
        };
        if let Some(why) = epoch.unknown_family {
            clients.not_seen.insert(why);
            return clients;
        }
        let looked = epoch.looked;
        clients.is_seen = looked.unread.is_empty() || !looked.connections.is_empty();
        clients
            .not_seen
            .extend(looked.unread.iter().map(unreadable));
        // What was looked at now says better why nothing is seen.
        let is_explained = looked.unread.iter().any(|error| error.pid == known.pid);
        if looked.listening.uncountable.is_empty() && !is_explained {
            clients.not_seen.extend(known.not_seen);
        }
        let uncountable = looked.listening.uncountable.iter();
        clients
            .not_seen
            .extend(uncountable.map(ToString::to_string));
        for connection in looked.connections {
            match own.of(&connection).or_else(|| everywhere.of(&connection)) {
                Some(listener) if listener.purpose == Purpose::Admin => {}
                Some(listener) => {
                    let client = Client::new(connection, listener, epoch.age);
                    clients.clients.push(client);
                }
                None => clients.others = clients.others.saturating_add(1),
            }
        }
        clients
    }

    fn report(mut self, sort: Sort, limit: usize) -> ConnectionsOfEpoch {
        let total = count(self.clients.iter());
        match sort {
            Sort::Age => self.clients.sort_by_key(|client| Reverse(client.age)),
            Sort::Bytes => self.clients.sort_by_key(|client| Reverse(client.bytes())),
        }
        let listed = self.clients.into_iter().take(limit);
        ConnectionsOfEpoch {
            epoch: self.epoch,
            state: self.state,
            pid: self.pid,
            connections: self.is_seen.then_some(total),
            not_seen: self.not_seen.into_iter().collect(),
            other_connections: self.is_seen.then_some(self.others),
            listed: listed.map(Client::report).collect(),
        }
    }
}

impl Client {
    fn new(connection: Connection, listener: &Listener, age_of_epoch: Duration) -> Self {
        // What the kernel says counts from its start where a connection has not said anything yet. None
        // is older than the epoch as far as it is known.
        let traffic = connection.traffic;
        let name = listener.name.as_deref();
        Self {
            listener: name.map(|name| name.chars().take(MOST_OF_A_NAME).collect()),
            holds_drain: listener.purpose == Purpose::Clients,
            age: traffic.map(|traffic| traffic.at_least.min(age_of_epoch)),
            idle: traffic.map(|traffic| traffic.idle.min(age_of_epoch)),
            connection,
        }
    }

    fn bytes(&self) -> Option<u64> {
        let traffic = self.connection.traffic?;
        Some(traffic.received.saturating_add(traffic.sent))
    }

    fn report(self) -> ClientConnection {
        let connection = self.connection;
        let tcp = connection.peer.map(|peer| peer.to_string());
        let state = match connection.state {
            ConnectionState::Open => "open",
            ConnectionState::ClosedByPeer => "closed_by_peer",
            ConnectionState::ClosedHere => "closed_here",
            ConnectionState::Closing => "closing",
        };
        ClientConnection {
            peer: tcp.or_else(|| {
                connection
                    .peer_pid
                    .map(|pid| Peers::Process(pid).to_string())
            }),
            local: connection.local.to_string(),
            listener: self.listener,
            pid: connection.pid,
            age_at_least_seconds: self.age.map(|age| age.as_secs()),
            idle_seconds: self.idle.map(|idle| idle.as_secs()),
            bytes_in: connection.traffic.map(|traffic| traffic.received),
            bytes_out: connection.traffic.map(|traffic| traffic.sent),
            state: state.to_owned(),
            holds_drain: self.holds_drain,
        }
    }
}

#[cfg(test)]
mod tests;
