//! What `/listeners` and `/config_dump` tell of listeners.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::bootstrap::ListenAddress;
use crate::gate;
use crate::text::one_line;

/// The query for the fetched listeners that Envoy has refused, without anything else.
pub(super) const REFUSED: &str = "?resource=dynamic_listeners&mask=name,error_state.details";

/// A listener that is active, so that clients can connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActiveListener {
    /// Its name. Envoy makes one up for a listener without a name, another one in each epoch.
    pub name: String,
    /// Where it listens: the main address, then the additional ones.
    pub addresses: Vec<ListenAddress>,
}

/// Returns whether two addresses are the same place for a client. IP addresses are compared by value.
/// An address inside of Envoy is no place for a client, so it equals none.
pub(crate) fn is_same_place(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (
            ListenAddress::Socket { address, port, udp },
            ListenAddress::Socket {
                address: other_address,
                port: other_port,
                udp: other_udp,
            },
        ) => {
            let ip = |text: &str| text.parse::<IpAddr>().ok();
            let is_same_ip = match (ip(address), ip(other_address)) {
                (Some(one), Some(other)) => one == other,
                (None, _) | (_, None) => address == other_address,
            };
            is_same_ip && port == other_port && udp == other_udp
        }
        (ListenAddress::Pipe(one), ListenAddress::Pipe(other)) => one == other,
        (
            ListenAddress::Socket { .. } | ListenAddress::Pipe(_) | ListenAddress::Other,
            ListenAddress::Socket { .. } | ListenAddress::Pipe(_) | ListenAddress::Other,
        ) => false,
    }
}

/// An address for people: `0.0.0.0:80`, `[::]:443/udp`, `unix:/run/web.sock`.
pub(crate) struct Place<'a>(pub(crate) &'a ListenAddress);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ListenAddress::Socket { address, port, udp } => {
                match address.parse() {
                    Ok(ip) => write!(f, "{}", SocketAddr::new(ip, *port))?,
                    Err(_) => write!(f, "{}:{port}", one_line(address))?,
                }
                f.write_str(if *udp { "/udp" } else { "" })
            }
            ListenAddress::Pipe(path) => {
                write!(f, "unix:{}", one_line(&path.display().to_string()))
            }
            ListenAddress::Other => f.write_str("an address inside of Envoy"),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Statuses {
    listener_statuses: Vec<Status>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    name: String,
    local_address: Address,
    additional_local_addresses: Vec<Address>,
}

/// Reads the answer to `/listeners?format=json`. Envoy lists only active listeners there. The gate is
/// none of the user's.
pub(super) fn active(body: &[u8]) -> Result<Vec<ActiveListener>, String> {
    let answer: Statuses =
        serde_json::from_slice(body).map_err(|error| one_line(&error.to_string()))?;
    let listeners = answer.listener_statuses.into_iter();
    Ok(listeners
        .filter(|status| status.name != gate::NAME)
        .map(|status| ActiveListener {
            name: status.name,
            addresses: std::iter::once(status.local_address)
                .chain(status.additional_local_addresses)
                .map(ListenAddress::from)
                .collect(),
        })
        .collect())
}

/// Returns whether the gate is in the answer.
pub(super) fn has_gate(body: &[u8]) -> bool {
    let answer: Statuses = serde_json::from_slice(body).unwrap_or_default();
    let mut listeners = answer.listener_statuses.iter();
    listeners.any(|status| status.name == gate::NAME)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Address {
    socket_address: Option<SocketAddress>,
    pipe: Option<Pipe>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SocketAddress {
    protocol: String,
    address: String,
    port_value: u16,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pipe {
    path: String,
}

impl From<Address> for ListenAddress {
    fn from(address: Address) -> Self {
        match (address.socket_address, address.pipe) {
            (Some(socket), _) => Self::Socket {
                udp: socket.protocol == "UDP",
                address: socket.address,
                port: socket.port_value,
            },
            (None, Some(pipe)) => Self::Pipe(PathBuf::from(pipe.path)),
            (None, None) => Self::Other,
        }
    }
}

/// Reads the answer to `/config_dump?resource=dynamic_listeners`: each listener that Envoy has refused,
/// with the reason.
pub(super) fn refused(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        configs: Vec<DynamicListener>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct DynamicListener {
        name: String,
        error_state: Option<ErrorState>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct ErrorState {
        details: String,
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| one_line(&error.to_string()))?;
    let listeners = answer.configs.into_iter();
    let refused = listeners.filter_map(|listener| {
        let details = listener.error_state?.details;
        Some((listener.name, one_line(&details)))
    });
    // Envoy repeats a refusal without the name.
    Ok(refused.filter(|(name, _)| !name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_is_read() {
        let body = br#"{"listener_statuses": [
            {"name": "web",
             "local_address": {"socket_address": {"address": "0.0.0.0", "port_value": 80}},
             "additional_local_addresses": [
                {"socket_address": {"address": "::", "port_value": 443, "protocol": "UDP"}}]},
            {"name": "pipe", "local_address": {"pipe": {"path": "/run/web.sock"}}},
            {"name": "inside", "local_address": {"envoy_internal_address": {"server_listener_name": "x"}}},
            {"name": "bare"}]}"#;
        let shown: Vec<_> = active(body)
            .unwrap()
            .iter()
            .map(|listener| {
                let places = listener.addresses.iter().map(|at| Place(at).to_string());
                format!("{} {}", listener.name, places.collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "web 0.0.0.0:80 [::]:443/udp",
                "pipe unix:/run/web.sock",
                "inside an address inside of Envoy",
                "bare an address inside of Envoy",
            ]
        );
        assert_eq!(active(b"{}").unwrap(), []);
        for body in [
            &b"web::127.0.0.1:80"[..],
            b"null",
            b"{\"listener_statuses\": 1}",
            b"",
        ] {
            active(body).unwrap_err();
        }
    }

    #[test]
    fn the_gate_is_no_listener_of_the_user() {
        let body = br#"{"listener_statuses": [{"name": "handover_gate"}, {"name": "web"}]}"#;
        assert_eq!(active(body).unwrap().len(), 1);
        assert!(has_gate(body));
        for body in [&br#"{"listener_statuses": [{"name": "web"}]}"#[..], b"["] {
            assert!(!has_gate(body));
        }
    }

    #[test]
    fn addresses_are_compared_as_a_client_sees_them() {
        let at = |address: &str, udp| ListenAddress::Socket {
            address: address.to_owned(),
            port: 80,
            udp,
        };
        assert!(is_same_place(&at("::1", false), &at("0:0::1", false)));
        assert!(!is_same_place(&at("::1", false), &at("::1", true)));
        assert!(!is_same_place(
            &at("127.0.0.1", false),
            &at("0.0.0.0", false)
        ));
        let pipe = |path: &str| ListenAddress::Pipe(path.into());
        assert!(is_same_place(&pipe("/a"), &pipe("/a")));
        assert!(!is_same_place(&pipe("/a"), &pipe("/b")));
        assert!(!is_same_place(&ListenAddress::Other, &ListenAddress::Other));
    }

    #[test]
    fn a_refused_listener_is_named_once_with_the_reason() {
        let body = br#"{"configs": [
            {"name": "web"},
            {"name": "dup", "error_state": {"details": "error adding\n listener: 'dup'"}},
            {"error_state": {"details": "error adding listener: 'dup'"}}]}"#;
        assert_eq!(
            refused(body).unwrap(),
            [("dup".to_owned(), "error adding listener: 'dup'".to_owned())]
        );
        assert_eq!(refused(b"{}").unwrap(), []);
        refused(b"[").unwrap_err();
    }

    #[test]
    fn a_place_is_the_same_by_the_value_of_its_address_or_else_by_its_text() {
        let socket = |address: &str, port| ListenAddress::Socket {
            address: address.into(),
            port,
            udp: false,
        };
        let udp = ListenAddress::Socket {
            address: "::1".into(),
            port: 80,
            udp: true,
        };
        let pipe = |path: &str| ListenAddress::Pipe(path.into());
        for (one, other, same) in [
            (socket("::1", 80), socket("0:0::1", 80), true),
            (socket("::1", 80), socket("::2", 80), false),
            (socket("::1", 80), socket("::1", 81), false),
            (socket("::1", 80), udp, false),
            (socket("a.example", 80), socket("a.example", 80), true),
            (socket("a.example", 80), socket("b.example", 80), false),
            (socket("a.example", 80), socket("::1", 80), false),
            (pipe("/a"), pipe("/a"), true),
            (pipe("/a"), pipe("/b"), false),
            (ListenAddress::Other, ListenAddress::Other, false),
        ] {
            assert_eq!(is_same_place(&one, &other), same, "{one:?} {other:?}");
        }
    }
}
