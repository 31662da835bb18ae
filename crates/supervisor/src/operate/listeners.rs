//! Where clients connect to the processes of a proxy.

use std::collections::BTreeMap;

use handover_core::Epoch;
use handover_netutil::connections::LocalAddress;

/// A running process, and where clients connect to it.
#[derive(Clone, Debug)]
pub struct EpochListeners {
    /// The number of the epoch.
    pub epoch: Epoch,
    /// The child of this process that runs it.
    pub pid: u32,
    /// Where it has listened as far as was seen, including what it has closed since. Sockets on which its
    /// processes listen at the moment need not be among them.
    pub listeners: BTreeMap<LocalAddress, Listener>,
    /// Why connections of clients may be missing, in words.
    pub not_seen: Vec<String>,
}

/// A listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What its connections are for.
    pub purpose: Purpose,
}

/// What the connections to a listener are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Clients. A drain waits for them.
    #[default]
    Clients,
    /// Clients for whom no drain waits.
    Excluded,
    /// Looking at the proxy and telling it something. They are no clients.
    Admin,
}
