//! The configuration: the part of Envoy's bootstrap that the fake understands.
//!
//! Fields are known by the names of the protocol. A field that Envoy does not know is refused as Envoy
//! refuses it. A field that Envoy knows and the fake does not serve is refused in the fake's own words,
//! because a test must not pass by a feature that was silently left out.

mod fields;
mod http;
mod load;
mod pattern;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

pub(crate) use self::http::{Delays, HttpManager, RouteAction, RouteConfig};
pub(crate) use self::load::load;
pub(crate) use self::pattern::{Pattern, StatsMatcher};
use crate::settings::Settings;

/// Why a configuration is refused, in Envoy's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError(pub(crate) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configuration.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap {
    pub(crate) admin: Option<Admin>,
    /// The listeners as they stand in the document, which nobody has looked into.
    listeners: Vec<Value>,
    pub(crate) clusters: Vec<Cluster>,
    /// Why the clusters are refused, once they are looked into.
    clusters_refused: Option<ConfigError>,
    pub(crate) matcher: StatsMatcher,
    /// Where further listeners come from.
    pub(crate) lds: Option<Source>,
    /// The whole document, for `/config_dump` and `/server_info`.
    pub(crate) document: Value,
}

/// The admin endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) address: Address,
    /// Which paths are allowed; all if it is empty.
    pub(crate) allow: Vec<Pattern>,
}

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Pipe(String),
    /// Inside of the process.
    Internal(String),
}

/// A listener.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    /// The name in the statistics.
    pub(crate) stat_name: String,
    pub(crate) address: Address,
    /// Whether the address is a further one of the listener before.
    pub(crate) is_additional: bool,
    pub(crate) bind_to_port: bool,
    pub(crate) reuse_port: bool,
    pub(crate) is_inbound: bool,
    /// What speaks on it; nothing if no filter of its first chain is known.
    pub(crate) http: Option<HttpManager>,
}

/// An upstream.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    /// Its first endpoint.
    pub(crate) endpoint: Option<Address>,
}

/// A management server that is polled over REST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) cluster: String,
    /// How long the first answer is waited for; zero is without end.
    pub(crate) initial_fetch_timeout: Duration,
    pub(crate) refresh_delay: Duration,
}

impl Address {
    /// Returns the address as a child asks its parent for it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("tcp://{address}"),
            Self::Udp(address) => format!("udp://{address}"),
            Self::Pipe(path) => format!("unix://{path}"),
            Self::Internal(name) => format!("internal://{name}"),
        }
    }

    /// Returns the address as `/listeners` shows it.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Tcp(at) => serde_json::json!({"socket_address": {
                "address": at.ip().to_string(), "port_value": at.port()}}),
            Self::Udp(at) => serde_json::json!({"socket_address": {
                "protocol": "UDP", "address": at.ip().to_string(), "port_value": at.port()}}),
            Self::Pipe(path) => serde_json::json!({"pipe": {"path": path}}),
            Self::Internal(name) => {
                serde_json::json!({"envoy_internal_address": {"server_listener_name": name}})
            }
        }
    }

    fn read(value: &Value) -> Result<Self, ConfigError> {
        if let Some(pipe) = value.get("pipe") {
            return Ok(Self::Pipe(text(pipe, "path")));
        }
        if let Some(internal) = value.get("envoy_internal_address") {
            return Ok(Self::Internal(text(internal, "server_listener_name")));
        }
        let Some(socket) = value.get("socket_address") else {
            return Err(ConfigError("address must be set".to_owned()));
        };
        let host = text(socket, "address");
        let ip: IpAddr = host
            .parse()
            .map_err(|_| ConfigError(format!("malformed IP address: {host}")))?;
        let address = SocketAddr::new(ip, fields::port(socket)?);
        Ok(match &*text(socket, "protocol") {
            "UDP" => Self::Udp(address),
            _ => Self::Tcp(address),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Udp(address) => write!(f, "{address}"),
            Self::Pipe(path) => f.write_str(path),
            Self::Internal(name) => write!(f, "envoy://{name}"),
        }
    }
}

impl Bootstrap {
    /// Reads a document. Envoy looks into clusters and listeners later, when it has the admin endpoint:
    /// see [`static_listeners`](Self::static_listeners).
    pub(crate) fn read(document: Value, settings: &Settings) -> Result<Self, ConfigError> {
        fields::check(&document, settings)?;
        let resources = document.get("static_resources").unwrap_or(&Value::Null);
        let listeners = each(resources, "listeners").cloned().collect();
        let clusters = each(resources, "clusters").map(Cluster::read);
        let (clusters, clusters_refused) = match clusters.collect() {
            Ok(clusters) => (clusters, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let admin = document
            .get("admin")
            .map(Admin::read)
            .transpose()?
            .flatten();
        let stats = document.get("stats_config");
        let matcher = stats.and_then(|stats| stats.get("stats_matcher"));
        let matcher = matcher.map(StatsMatcher::read).transpose()?;
        let dynamic = document.get("dynamic_resources").unwrap_or(&Value::Null);
        for (field, _) in dynamic.as_object().into_iter().flatten() {
            if field != "lds_config" {
                return Err(unsupported(&format!("dynamic_resources.{field}")));
            }
        }
        let lds = dynamic.get("lds_config").map(Source::read).transpose()?;
        Ok(Self {
            admin,
            listeners,
            clusters,
            clusters_refused,
            matcher: matcher.unwrap_or_default(),
            lds,
            document,
        })
    }

    /// Looks into clusters and listeners, and at the files that they name. Returns the listeners, one
    /// for each address.
    ///
    /// # Errors
    ///
    /// The clusters or a listener cannot be served.
    pub(crate) fn static_listeners(&self) -> Result<Vec<Listener>, ConfigError> {
        if let Some(error) = &self.clusters_refused {
            return Err(error.clone());
        }
        let mut all = Vec::new();
        for listener in &self.listeners {
            all.extend(Listener::read(listener)?);
        }
        Ok(all)
    }

    /// Returns the endpoint of a cluster.
    pub(crate) fn endpoint(&self, cluster: &str) -> Option<&Address> {
        let named = self.clusters.iter().find(|it| it.name == cluster);
        named?.endpoint.as_ref()
    }
}

impl Admin {
    fn read(value: &Value) -> Result<Option<Self>, ConfigError> {
        let Some(address) = value.get("address") else {
            return Ok(None);
        };
        let address = Address::read(address)?;
        let allow = each(value, "allow_paths").map(Pattern::read);
        let allow = allow.collect::<Result<_, _>>()?;
        Ok(Some(Self { address, allow }))
    }
}

impl Listener {
    /// Reads a listener of the configuration or of a management server: one for each of its addresses.
    pub(crate) fn read(value: &Value) -> Result<Vec<Self>, ConfigError> {
        let first = Self::read_first(value)?;
        let mut all = vec![first.clone()];
        for further in each(value, "additional_addresses") {
            let address = further.get("address").unwrap_or(&Value::Null);
            let address = Address::read(address)?;
            all.push(Self {
                reuse_port: first.reuse_port && !matches!(address, Address::Pipe(_)),
                address,
                is_additional: true,
                ..first.clone()
            });
        }
        Ok(all)
    }

    fn read_first(value: &Value) -> Result<Self, ConfigError> {
        let internal = value.get("internal_listener").is_some();
        let address = match value.get("address") {
            None if internal => Address::Internal(text(value, "name")),
            None => {
                return Err(ConfigError(
                    "error adding listener: address is necessary".to_owned(),
                ));
            }
            Some(address) => Address::read(address)?,
        };
        let mut chains = each(value, "filter_chains");
        let first = chains.next().or_else(|| value.get("default_filter_chain"));
        let is_udp = matches!(address, Address::Udp(_));
        let Some(chain) = first.or(is_udp.then_some(&Value::Null)) else {
            return Err(ConfigError(format!(
                "error adding listener '{address}': no filter chains specified"
            )));
        };
        if let Some(socket) = chain.get("transport_socket") {
            http::check_transport_socket(socket)?;
        }
        let prefix = text(value, "stat_prefix");
        let shown = match (&address, prefix.is_empty()) {
            (_, false) => prefix,
            (Address::Internal(name), true) => format!("envoy_internal_{name}"),
            (Address::Tcp(_) | Address::Udp(_) | Address::Pipe(_), true) => address.to_string(),
        };
        let http = each(chain, "filters").find_map(|filter| {
            let config = filter.get("typed_config").unwrap_or(&Value::Null);
            HttpManager::is(filter).then(|| HttpManager::read(config))
        });
        let name = text(value, "name");
        Ok(Self {
            name: if name.is_empty() {
                format!("unnamed-{address}")
            } else {
                name
            },
            stat_name: shown.replace(':', "_"),
            bind_to_port: flag(value, "bind_to_port", true),
            reuse_port: flag(value, "enable_reuse_port", true)
                && !matches!(address, Address::Pipe(_)),
            is_inbound: text(value, "traffic_direction") == "INBOUND",
            address,
            is_additional: false,
            http: http.transpose()?,
        })
    }
}

impl Cluster {
    fn read(value: &Value) -> Result<Self, ConfigError> {
        let assignment = value.get("load_assignment").unwrap_or(&Value::Null);
        let mut endpoints = each(assignment, "endpoints").flat_map(|it| each(it, "lb_endpoints"));
        let address = endpoints
            .next()
            .and_then(|endpoint| endpoint.get("endpoint")?.get("address"));
        Ok(Self {
            name: text(value, "name"),
            endpoint: address.map(Address::read).transpose()?,
        })
    }
}

impl Source {
    fn read(value: &Value) -> Result<Self, ConfigError> {
        let Some(api) = value.get("api_config_source") else {
            return Err(unsupported("a config source other than api_config_source"));
        };
        if text(api, "api_type") != "REST" {
            return Err(unsupported("an api_type other than REST"));
        }
        let cluster = each(api, "cluster_names").next().and_then(Value::as_str);
        let Some(cluster) = cluster else {
            return Err(ConfigError(
                "REST config source must have a single cluster name specified".to_owned(),
            ));
        };
        let time = |value: &Value, field: &str, default| match value.get(field) {
            None => Ok(default),
            Some(given) => duration(given)
                .ok_or_else(|| ConfigError(format!("invalid duration {field}: {given}"))),
        };
        Ok(Self {
            cluster: cluster.to_owned(),
            initial_fetch_timeout: time(value, "initial_fetch_timeout", Duration::from_secs(15))?,
            refresh_delay: time(api, "refresh_delay", Duration::from_secs(30))?,
        })
    }
}

/// What Envoy has and the fake has not.
pub(crate) fn unsupported(what: &str) -> ConfigError {
    ConfigError(format!(
        "handover-fake-envoy does not serve {what}: leave it out, or test with a real Envoy"
    ))
}

/// Returns the elements of a list; none if there is none.
fn each<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter().flatten()
}

/// Returns a text; an empty one if there is none.
fn text(value: &Value, field: &str) -> String {
    let text = value.get(field).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// Returns a truth value, which may be wrapped.
fn flag(value: &Value, field: &str, default: bool) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or(default)
}

/// Returns a number, which may be a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Reads a duration as Protobuf writes it in JSON: `1.5s`.
fn duration(value: &Value) -> Option<Duration> {
    let seconds = value.as_str()?.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests;
