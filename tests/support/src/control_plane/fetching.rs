//! Configurations that fetch some of their parts from a control plane.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::state::spoil;
use super::{ControlPlane, Kind, TYPES, Transport};

/// A certificate for `secured` that its clients trust, and its key.
const TRUSTED: (&str, &str) = (
    include_str!("certificates/trusted.pem"),
    include_str!("certificates/trusted.key"),
);

/// One that they do not trust.
const OTHER: (&str, &str) = (
    include_str!("certificates/other.pem"),
    include_str!("certificates/other.key"),
);

/// The addresses of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Where clients connect.
    pub web: SocketAddr,
    /// The admin endpoint.
    pub admin: SocketAddr,
    /// The upstream.
    pub backend: SocketAddr,
    /// A second listener, with TLS, which is used if a certificate is fetched.
    pub secured: SocketAddr,
}

/// What is wrong with the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The upstream refuses connections.
    Upstream,
    /// No route matches.
    Route,
    /// The certificate is one that clients do not trust.
    Certificate,
    /// The key is that of another certificate, so Envoy refuses both.
    Key,
    /// Envoy refuses what is fetched.
    Refused,
    /// What is fetched by its name is missing, so the question has no answer.
    Missing,
    /// What is fetched as a whole is an empty list.
    Empty,
}

/// A configuration in which some kinds of resource are fetched and the others stand as they are.
///
/// The listener `web` answers with its name in the header `x-config`. If certificates are fetched, it passes
/// requests on over TLS to the listener `secured` of the same Envoy, each on a connection of its own. So a
/// plain client notices a handshake that fails.
#[derive(Debug)]
pub struct Fetching<'a> {
    plane: &'a ControlPlane,
    transport: Transport,
    fetched: BTreeSet<Kind>,
    addresses: Addresses,
    given_up: Duration,
    mistake: Option<Mistake>,
    in_place: Option<PathBuf>,
    clusters: Clusters,
}

/// What the control plane has of the clusters, if they are fetched. The text of a configuration is the same with
/// each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clusters {
    /// The one that requests go to.
    #[default]
    Needed,
    /// The same, and another one that nothing uses.
    WithSpare,
    /// None.
    None,
}

impl<'a> Fetching<'a> {
    /// A configuration that fetches these kinds over this transport, and gives each source up after a second.
    #[must_use]
    pub fn new(
        plane: &'a ControlPlane,
        transport: Transport,
        fetched: &[Kind],
        addresses: Addresses,
    ) -> Self {
        Self {
            plane,
            transport,
            fetched: fetched.iter().copied().collect(),
            addresses,
            given_up: Duration::from_secs(1),
            mistake: None,
            in_place: None,
            clusters: Clusters::default(),
        }
    }

    /// Sets the time after which Envoy gives a source up.
    #[must_use]
    pub fn given_up(self, given_up: Duration) -> Self {
        Self { given_up, ..self }
    }

    /// Names the routes or the certificate of a fetched listener also in the configuration itself, by a listener
    /// on this Unix socket.
    #[must_use]
    pub fn also_in_place(self, socket: impl Into<PathBuf>) -> Self {
        Self {
            in_place: Some(socket.into()),
            ..self
        }
    }

    /// Sets what the control plane has of the clusters.
    #[must_use]
    pub fn clusters(self, clusters: Clusters) -> Self {
        Self { clusters, ..self }
    }

    /// Makes this mistake.
    #[must_use]
    pub fn mistake(self, mistake: Mistake) -> Self {
        Self {
            mistake: Some(mistake),
            ..self
        }
    }

    /// Gives the control plane the resources of the configuration with this name, and returns its text.
    #[must_use]
    pub fn publish(&self, name: &str) -> String {
        let listeners = self.listeners(name);
        let mut clusters = vec![self.plane.cluster(self.transport)];
        if self.fetches(Kind::Secret) {
            clusters.push(self.hop());
        }
        let mut dynamic = match self.transport {
            Transport::Rest => json!({}),
            Transport::Grpc => ControlPlane::aggregated(),
        };
        let mut set = |kind: Kind, config: Option<&str>, resource: Vec<Value>| {
            let resources = resource.into_iter().map(|one| typed(kind.message(), one));
            let mut resources: Vec<Value> = resources.collect();
            match self.mistake {
                Some(Mistake::Refused) => resources.iter_mut().for_each(|one| spoil(kind, one)),
                Some(Mistake::Missing) if config.is_none() => resources.clear(),
                Some(Mistake::Empty) if config.is_some() => resources.clear(),
                Some(_) | None => {}
            }
            self.plane.set_for(name, kind, resources);
            if let (Some(config), Some(fields)) = (config, dynamic.as_object_mut()) {
                fields.insert(config.to_owned(), self.source());
            }
        };
        let mut in_place = Vec::new();
        if let (Some(socket), Some(last)) = (&self.in_place, listeners.last()) {
            let mut same = last.clone();
            if let Some(fields) = same.as_object_mut() {
                fields.insert("name".to_owned(), json!("in-place"));
                fields.insert("address".to_owned(), json!({"pipe": {"path": socket}}));
            }
            in_place.push(same);
        }
        if self.fetches(Kind::Listener) {
            set(Kind::Listener, Some("lds_config"), listeners);
        } else {
            in_place.extend(listeners);
        }
        if self.fetches(Kind::Cluster) {
            let clusters = match self.clusters {
                Clusters::Needed => vec![self.backend()],
                Clusters::WithSpare => vec![self.backend(), self.spare()],
                Clusters::None => Vec::new(),
            };
            set(Kind::Cluster, Some("cds_config"), clusters);
        } else {
            clusters.push(self.backend());
        }
        if self.fetches(Kind::Routes) {
            set(Kind::Routes, None, vec![self.routes(name)]);
        }
        if self.fetches(Kind::Endpoints) {
            set(Kind::Endpoints, None, vec![self.endpoints()]);
        }
        if self.fetches(Kind::Secret) {
            set(Kind::Secret, None, vec![self.certificate()]);
        }
        let text = json!({
            "node": {"id": name, "cluster": "test"},
            "admin": {"address": address(self.addresses.admin)},
            "static_resources": {"listeners": in_place, "clusters": clusters},
            "dynamic_resources": dynamic
        });
        format!("{text:#}")
    }

    fn fetches(&self, kind: Kind) -> bool {
        self.fetched.contains(&kind)
    }

    fn source(&self) -> Value {
        ControlPlane::source(self.transport, self.given_up)
    }

    fn listeners(&self, name: &str) -> Vec<Value> {
        let routes = if self.fetches(Kind::Routes) {
            let source = self.source();
            (
                "rds",
                json!({"route_config_name": "routes", "config_source": source}),
            )
        } else {
            ("route_config", self.routes(name))
        };
        let web = listener("web", self.addresses.web, routes, None);
        if !self.fetches(Kind::Secret) {
            return vec![web];
        }
        let certificates = json!([{"name": "certificate", "sds_config": self.source()}]);
        let tls = transport_socket(
            "DownstreamTlsContext",
            &json!({"tls_certificate_sds_secret_configs": certificates}),
        );
        let routes = ("route_config", to_cluster("backend"));
        let secured = listener("secured", self.addresses.secured, routes, Some(tls));
        vec![web, secured]
    }

    fn routes(&self, name: &str) -> Value {
        let cluster = if self.fetches(Kind::Secret) {
            "hop"
        } else {
            "backend"
        };
        let mut routes = to_cluster(cluster);
        if self.mistake == Some(Mistake::Route)
            && let Some(prefix) = routes.pointer_mut("/virtual_hosts/0/routes/0/match/prefix")
        {
            *prefix = json!("/nothing-asks-for-this");
        }
        if let Some(fields) = routes.as_object_mut() {
            let header = json!({"key": "x-config", "value": name});
            fields.insert("name".to_owned(), json!("routes"));
            fields.insert(
                "response_headers_to_add".to_owned(),
                json!([{"header": header}]),
            );
            if self.fetches(Kind::Cluster) {
                // Otherwise a cluster that comes later would be refused in advance.
                fields.insert("validate_clusters".to_owned(), json!(false));
            }
        }
        routes
    }

    fn backend(&self) -> Value {
        let mut cluster = json!({"name": "backend", "connect_timeout": "5s"});
        let source = json!({"eds_config": self.source()});
        let (kind, field, value) = if self.fetches(Kind::Endpoints) {
            ("EDS", "eds_cluster_config", source)
        } else {
            ("STATIC", "load_assignment", self.endpoints())
        };
        if let Some(fields) = cluster.as_object_mut() {
            fields.insert("type".to_owned(), json!(kind));
            fields.insert(field.to_owned(), value);
        }
        cluster
    }

    fn spare(&self) -> Value {
        json!({
            "name": "spare", "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": load_assignment("spare", self.addresses.backend)
        })
    }

    fn endpoints(&self) -> Value {
        let upstream = if self.mistake == Some(Mistake::Upstream) {
            // Nothing may listen on it without being root.
            SocketAddr::from(([127, 0, 0, 1], 1))
        } else {
            self.addresses.backend
        };
        load_assignment("backend", upstream)
    }

    fn certificate(&self) -> Value {
        let (chain, key) = match self.mistake {
            Some(Mistake::Certificate) => OTHER,
            Some(Mistake::Key) => (OTHER.0, TRUSTED.1),
            Some(_) | None => TRUSTED,
        };
        json!({"name": "certificate", "tls_certificate": {
            "certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}
        }})
    }

    /// The way to `secured`. A kept connection could be closed while a request is on its way.
    fn hop(&self) -> Value {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let authority = json!({"trusted_ca": {"inline_string": TRUSTED.0}});
        let once = json!({
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "explicit_http_config": {"http_protocol_options": {}}
        });
        json!({
            "name": "hop", "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": load_assignment("hop", self.addresses.secured),
            "typed_extension_protocol_options": {options: typed(options, once)},
            "transport_socket": transport_socket(
                "UpstreamTlsContext",
                &json!({"validation_context": authority})
            )
        })
    }
}

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

fn typed(message: &str, value: Value) -> Value {
    let mut fields = Map::new();
    fields.insert("@type".to_owned(), json!(format!("{TYPES}{message}")));
    if let Value::Object(own) = value {
        fields.extend(own);
    }
    Value::Object(fields)
}

fn load_assignment(cluster: &str, upstream: SocketAddr) -> Value {
    json!({"cluster_name": cluster, "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": address(upstream)}}
    ]}]})
}

fn to_cluster(cluster: &str) -> Value {
    json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "120s"}}
    ]}]})
}

fn transport_socket(message: &str, common: &Value) -> Value {
    let message = format!("envoy.extensions.transport_sockets.tls.v3.{message}");
    json!({"name": "tls", "typed_config": typed(&message, json!({"common_tls_context": common}))})
}

fn listener(
    name: &str,
    at: SocketAddr,
    (field, routes): (&str, Value),
    tls: Option<Value>,
) -> Value {
    let router = typed("envoy.extensions.filters.http.router.v3.Router", json!({}));
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": name,
            field: routes,
            "http_filters": [{"name": "router", "typed_config": router}]
        }),
    );
    let mut chain = json!({"filters": [{"name": "manager", "typed_config": manager}]});
    if let (Some(tls), Some(fields)) = (tls, chain.as_object_mut()) {
        fields.insert("transport_socket".to_owned(), tls);
    }
    json!({"name": name, "address": address(at), "filter_chains": [chain]})
}
