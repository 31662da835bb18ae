//! Which of the addresses where an Envoy listens are for clients, and which listener each belongs to.
//!
//! The admin endpoint is left out by its address. Internal listeners have no socket. What else there is
//! counts, whatever it is called, unless it was excluded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ListenerPurpose;
use crate::admin::{AdminAddress, Exclude, ListenerConnections};
use crate::bootstrap::{Bootstrap, ListenAddress, Listener};
use crate::connections::{Listening, LocalAddress, Uncountable};
use crate::drain::ListenersSeen;

/// The addresses at which one Envoy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter::running) struct Clients {
    /// With the listener, where its connections count.
    addresses: BTreeMap<LocalAddress, Option<Counted>>,
    uncountable: Option<String>,
    /// Whether a drain closes inbound listeners only.
    inbound_only: bool,
}

/// A listener whose connections count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    name: String,
    /// Whether its traffic direction is known, because it is in the configuration.
    is_static: bool,
}

impl Clients {
    /// Those of an Envoy that was seen to listen there, and was started with this configuration.
    pub(in crate::adapter::running) fn of(
        listening: &Listening,
        bootstrap: &Bootstrap,
        exclude: &Exclude,
    ) -> Self {
        let admin = admin_address(&bootstrap.admin, listening);
        let listeners = &bootstrap.listeners;
        let each = listening.addresses.iter().map(|address| {
            let counts = Some(address) != admin.as_ref();
            let listener = counts
                .then(|| counted(address, listeners, exclude))
                .flatten();
            (address.clone(), listener)
        });
        let mut addresses = BTreeMap::new();
        addresses.extend(each);
        let uncountable = listening.uncountable.iter().find(|it| match it {
            Uncountable::Udp(address) => {
                let listener = listener_at(&LocalAddress::Tcp(*address), listeners, true);
                !is_excluded(&LocalAddress::Tcp(*address), listener, exclude)
            }
            Uncountable::Transparent(address) => addresses
                .get(&LocalAddress::Tcp(*address))
                .is_some_and(Option::is_some),
            Uncountable::OtherNamespace => true,
        });
        let udp = listeners.iter().find(|listener| {
            let mut addresses = listener.addresses.iter();
            let udp = addresses.any(|it| matches!(it, ListenAddress::Socket { udp: true, .. }));
            udp && !exclude.means(listener)
        });
        let uncountable = uncountable.map(ToString::to_string);
        let udp = udp.map(|listener| format!("the listener {} is UDP", listener.name));
        Self {
            addresses,
            uncountable: uncountable.or(udp),
            inbound_only: exclude.inbound_only,
        }
    }

    /// Why not all connections are seen from outside, if they are not.
    pub(in crate::adapter::running) fn uncountable(&self) -> Option<&str> {
        self.uncountable.as_deref()
    }

    /// Whether every address where connections count is a TCP address, and none was missed.
    fn are_all_tcp(&self) -> bool {
        let mut counted = self.addresses.iter().filter(|(_, it)| it.is_some());
        self.uncountable.is_none()
            && counted.all(|(address, _)| matches!(address, LocalAddress::Tcp(_)))
    }

    /// What the TCP addresses where the Envoy listens say of a drain that closes its listeners.
    pub(in crate::adapter::running) fn closing(
        &self,
        listening: &BTreeSet<SocketAddr>,
    ) -> ListenersSeen {
        if !self.are_all_tcp() {
            return ListenersSeen::Unseen;
        }
        let open = listening.iter().filter_map(|address| {
            let listener = self.addresses.get(&LocalAddress::Tcp(*address))?;
            Some(listener.as_ref()?.is_static)
        });
        // An open listener of the configuration decides: that one closes.
        match open.max() {
            Some(true) => ListenersSeen::Open,
            Some(false) => ListenersSeen::MayStay,
            None => ListenersSeen::Closed,
        }
    }

    /// Takes out the connections on listeners that are open after a drain has closed the inbound ones, unless a
    /// listener is inbound by the configuration: a slow worker may keep that open for a while, and its
    /// connections are cut all the same when the process ends.
    pub(in crate::adapter::running) fn leave_out_what_stays(
        &self,
        counts: &mut BTreeMap<LocalAddress, u64>,
        listening: &BTreeSet<SocketAddr>,
    ) {
        if !self.inbound_only {
            return;
        }
        for address in listening {
            let address = LocalAddress::Tcp(*address);
            if !matches!(self.addresses.get(&address), Some(Some(it)) if it.is_static) {
                counts.remove(&address);
            }
        }
    }

    /// Returns all addresses, so that each connection is found at the one that took it.
    pub(in crate::adapter::running) fn addresses(&self) -> BTreeSet<LocalAddress> {
        let mut addresses = BTreeSet::new();
        addresses.extend(self.addresses.keys().cloned());
        addresses
    }

    /// The listeners with connections, by name.
    pub(in crate::adapter::running) fn holding(
        &self,
        counts: &BTreeMap<LocalAddress, u64>,
    ) -> Vec<ListenerConnections> {
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for (address, count) in counts {
            if let Some(Some(listener)) = self.addresses.get(address) {
                let active = by_name.entry(&listener.name).or_default();
                *active = active.saturating_add(*count);
            }
        }
        let holding = by_name.into_iter().filter(|(_, active)| *active > 0);
        holding
            .map(|(listener, active)| ListenerConnections {
                listener: listener.to_owned(),
                active,
            })
            .collect()
    }
}

/// A listening socket of an Envoy: its name in the configuration, and what its connections are for.
pub(in crate::adapter::running) fn known_by(
    address: &LocalAddress,
    listening: &Listening,
    bootstrap: &Bootstrap,
    exclude: &Exclude,
) -> (Option<String>, ListenerPurpose) {
    if admin_address(&bootstrap.admin, listening).as_ref() == Some(address) {
        return (None, ListenerPurpose::Admin);
    }
    let listener = listener_at(address, &bootstrap.listeners, false);
    let name = listener.map(|listener| listener.name.clone());
    let purpose = match is_excluded(address, listener, exclude) {
        true => ListenerPurpose::Excluded,
        false => ListenerPurpose::Clients,
    };
    (name.filter(|name| !name.is_empty()), purpose)
}

/// The listener at this address, unless its connections do not count.
fn counted(address: &LocalAddress, listeners: &[Listener], exclude: &Exclude) -> Option<Counted> {
    let listener = listener_at(address, listeners, false);
    if is_excluded(address, listener, exclude) {
        return None;
    }
    // One that has come by LDS, without a `stat_prefix`, has the name of its address too.
    let name = listener.and_then(Listener::stat_name);
    Some(Counted {
        name: name.unwrap_or_else(|| in_statistics(address)),
        is_static: listener.is_some(),
    })
}

fn is_excluded(address: &LocalAddress, listener: Option<&Listener>, exclude: &Exclude) -> bool {
    let by_port = matches!(address, LocalAddress::Tcp(at) if exclude.ports.contains(&at.port()));
    by_port
        || listener.is_some_and(|listener| exclude.means(listener))
        || exclude.means_in_statistics(&in_statistics(address))
}

/// An address as Envoy's statistics name a listener there.
fn in_statistics(address: &LocalAddress) -> String {
    address.to_string().replace(':', "_")
}

/// The listener of the configuration with this address, or with a port that the kernel has chosen.
fn listener_at<'a>(
    at: &LocalAddress,
    listeners: &'a [Listener],
    is_udp: bool,
) -> Option<&'a Listener> {
    let has = |listener: &Listener, port_is_free: bool| {
        listener
            .addresses
            .iter()
            .any(|address| match (address, at) {
                (ListenAddress::Socket { address, port, udp }, LocalAddress::Tcp(at)) => {
                    let ip: Option<IpAddr> = address.parse().ok();
                    let port_fits = *port == at.port() || (port_is_free && *port == 0);
                    ip.map(|ip| ip.to_canonical()) == Some(at.ip()) && port_fits && *udp == is_udp
                }
                (ListenAddress::Pipe(path), LocalAddress::Unix(name)) => {
                    path.to_str() == Some(name)
                }
                _ => false,
            })
    };
    let fixed = listeners.iter().find(|listener| has(listener, false));
    fixed.or_else(|| listeners.iter().find(|listener| has(listener, true)))
}

/// Where the admin endpoint listens. Its address is the one under which it is reached: the loopback
/// address also stands for the unspecified one.
fn admin_address(admin: &AdminAddress, listening: &Listening) -> Option<LocalAddress> {
    let address = match admin {
        AdminAddress::Unix(path) => LocalAddress::Unix(path.to_str()?.to_owned()),
        AdminAddress::Tcp(address) => {
            let ip = address.ip().to_canonical();
            let exact = LocalAddress::Tcp(SocketAddr::new(ip, address.port()));
            let any = match ip {
                IpAddr::V4(Ipv4Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(Ipv6Addr::LOCALHOST) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                IpAddr::V4(_) | IpAddr::V6(_) => return Some(exact),
            };
            match listening.addresses.contains(&exact) {
                true => exact,
                false => LocalAddress::Tcp(SocketAddr::new(any, address.port())),
            }
        }
    };
    Some(address)
}

#[cfg(test)]
mod tests;
