//! Which of the places where an Envoy listens are for clients, and which listener each belongs to.
//!
//! The admin endpoint is left out by its address. Internal listeners have no socket. What else there is
//! counts, whatever it is called, unless it was excluded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::admin::{AdminAddress, Exclude, ListenerConnections};
use crate::bootstrap::{Bootstrap, ListenAddress, Listener};
use crate::connections::{Listening, Place, Uncountable};

/// The places of one Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter::running) struct Clients {
    /// With the name of the listener, where its connections count.
    places: BTreeMap<Place, Option<String>>,
    uncountable: Option<String>,
}

impl Clients {
    /// Those of an Envoy that was seen to listen there, and was started with this configuration.
    pub(in crate::adapter::running) fn of(
        listening: &Listening,
        bootstrap: &Bootstrap,
        exclude: &Exclude,
    ) -> Self {
        let admin = admin_place(&bootstrap.admin, listening);
        let listeners = &bootstrap.listeners;
        let places = listening.places.iter().map(|place| {
            let counts = Some(place) != admin.as_ref();
            let name = counts.then(|| name_of(place, listeners, exclude)).flatten();
            (place.clone(), name)
        });
        let places: BTreeMap<_, _> = places.collect();
        let uncountable = listening.uncountable.iter().find(|it| match it {
            Uncountable::Udp(address) => {
                let listener = listener_at(&Place::Tcp(*address), listeners, true);
                !is_excluded(&Place::Tcp(*address), listener, exclude)
            }
            Uncountable::Transparent(address) => places
                .get(&Place::Tcp(*address))
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
            places,
            uncountable: uncountable.or(udp),
        }
    }

    /// Why not all connections are seen from outside, if they are not.
    pub(in crate::adapter::running) fn uncountable(&self) -> Option<&str> {
        self.uncountable.as_deref()
    }

    /// Whether every place where connections count is a TCP address, and none was missed.
    pub(in crate::adapter::running) fn are_all_tcp(&self) -> bool {
        let is_unix = |place: &Place| matches!(place, Place::Unix(_)) && self.counts_at(place);
        self.uncountable.is_none() && !self.places.keys().any(is_unix)
    }

    /// All places, that each connection is found at the one that took it.
    pub(in crate::adapter::running) fn places(&self) -> BTreeSet<Place> {
        self.places.keys().cloned().collect()
    }

    /// Whether connections count that are accepted there.
    pub(in crate::adapter::running) fn counts_at(&self, place: &Place) -> bool {
        self.places.get(place).is_some_and(Option::is_some)
    }

    /// The listeners with connections, by name.
    pub(in crate::adapter::running) fn holding(
        &self,
        counts: &BTreeMap<Place, u64>,
    ) -> Vec<ListenerConnections> {
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for (place, count) in counts {
            if let Some(Some(name)) = self.places.get(place) {
                let active = by_name.entry(name).or_default();
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

/// The name of the listener at this place, unless its connections do not count.
fn name_of(place: &Place, listeners: &[Listener], exclude: &Exclude) -> Option<String> {
    let listener = listener_at(place, listeners, false);
    if is_excluded(place, listener, exclude) {
        return None;
    }
    // One that has come by LDS, without a `stat_prefix`, has the name of its address too.
    let name = listener.and_then(Listener::stat_name);
    Some(name.unwrap_or_else(|| place.to_string()))
}

fn is_excluded(place: &Place, listener: Option<&Listener>, exclude: &Exclude) -> bool {
    let by_port = matches!(place, Place::Tcp(at) if exclude.ports.contains(&at.port()));
    by_port
        || listener.is_some_and(|listener| exclude.means(listener))
        || exclude.means_in_statistics(&place.to_string())
}

/// The listener of the configuration with this address, or with a port that the kernel has chosen.
fn listener_at<'a>(place: &Place, listeners: &'a [Listener], is_udp: bool) -> Option<&'a Listener> {
    let has = |listener: &Listener, port_is_free: bool| {
        listener
            .addresses
            .iter()
            .any(|address| match (address, place) {
                (ListenAddress::Socket { address, port, udp }, Place::Tcp(at)) => {
                    let ip: Option<IpAddr> = address.parse().ok();
                    let port_fits = *port == at.port() || (port_is_free && *port == 0);
                    ip.map(|ip| ip.to_canonical()) == Some(at.ip()) && port_fits && *udp == is_udp
                }
                (ListenAddress::Pipe(path), Place::Unix(name)) => path.to_str() == Some(name),
                _ => false,
            })
    };
    let fixed = listeners.iter().find(|listener| has(listener, false));
    fixed.or_else(|| listeners.iter().find(|listener| has(listener, true)))
}

/// Where the admin endpoint listens. Its address is the one under which it is reached: the loopback
/// address also stands for the unspecified one.
fn admin_place(admin: &AdminAddress, listening: &Listening) -> Option<Place> {
    let place = match admin {
        AdminAddress::Unix(path) => Place::Unix(path.to_str()?.to_owned()),
        AdminAddress::Tcp(address) => {
            let ip = address.ip().to_canonical();
            let exact = Place::Tcp(SocketAddr::new(ip, address.port()));
            let any = match ip {
                IpAddr::V4(Ipv4Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(Ipv6Addr::LOCALHOST) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                IpAddr::V4(_) | IpAddr::V6(_) => return Some(exact),
            };
            match listening.places.contains(&exact) {
                true => exact,
                false => Place::Tcp(SocketAddr::new(any, address.port())),
            }
        }
    };
    Some(place)
}

#[cfg(test)]
mod tests;
