//! Envoy configurations, sound ones and ones that fail at a chosen point.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What is wrong with a configuration, ordered by how far Envoy comes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// It is not YAML.
    YamlError,
    /// It has a field that Envoy does not know.
    UnknownField,
    /// Its listeners speak TLS with a certificate and a key from files that are not there. Envoy
    /// reads the key first, so its message names `/nonexistent/key.pem`.
    MissingCertificate,
    /// A further listener is on this port; let another process listen there. `--mode validate`
    /// does not see it.
    PortConflict(u16),
    /// The admin endpoint is on this port; let another process listen there. `--mode validate`
    /// does not see it.
    AdminPortTaken(u16),
}

/// A configuration of Envoy: listeners and an admin endpoint on 127.0.0.1, one route, and a
/// response header `x-config` that tells which configuration has served.
#[derive(Debug, Clone)]
pub struct EnvoyConfig {
    name: String,
    admin_port: u16,
    listener_ports: Vec<u16>,
    answer: Answer,
    control_plane: Option<SocketAddr>,
    reuse_port: Option<bool>,
    broken: Option<Break>,
}

#[derive(Debug, Clone)]
enum Answer {
    /// Envoy answers itself.
    Direct,
    Backend(SocketAddr),
}

impl EnvoyConfig {
    /// One listener that answers `GET /` itself: 200, with the name as its body. The name is plain:
    /// letters, digits, `-`, `_` and blanks.
    ///
    /// # Panics
    ///
    /// When the name has other characters, which would need quoting.
    #[must_use]
    pub fn new(name: &str, admin_port: u16, listener_port: u16) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_ ".contains(c);
        assert!(
            !name.is_empty() && name.chars().all(plain),
            "not a plain name: {name:?}"
        );
        Self {
            name: name.to_owned(),
            admin_port,
            listener_ports: vec![listener_port],
            answer: Answer::Direct,
            control_plane: None,
            reuse_port: None,
            broken: None,
        }
    }

    /// Sends all requests to an upstream instead.
    #[must_use]
    pub fn backend(mut self, backend: SocketAddr) -> Self {
        self.answer = Answer::Backend(backend);
        self
    }

    /// Fetches further listeners from a control plane there, and waits for them without end.
    #[must_use]
    pub fn control_plane(mut self, addr: SocketAddr) -> Self {
        self.control_plane = Some(addr);
        self
    }

    /// A further listener with the same route.
    #[must_use]
    pub fn also_listen(mut self, port: u16) -> Self {
        self.listener_ports.push(port);
        self
    }

    /// Sets `enable_reuse_port` on each listener; Envoy's default is true.
    #[must_use]
    pub fn reuse_port(mut self, enabled: bool) -> Self {
        self.reuse_port = Some(enabled);
        self
    }

    /// Breaks it.
    #[must_use]
    pub fn broken(mut self, broken: Break) -> Self {
        self.broken = Some(broken);
        self
    }

    /// The YAML text, or what should be.
    #[must_use]
    pub fn render(&self) -> String {
        let admin_port = match self.broken {
            Some(Break::AdminPortTaken(port)) => port,
            _ => self.admin_port,
        };
        let mut yaml = format!(
            "\
admin:
  address:
    socket_address: {{ address: 127.0.0.1, port_value: {admin_port} }}
static_resources:
  listeners:
"
        );
        let taken = match self.broken {
            Some(Break::PortConflict(port)) => Some(port),
            _ => None,
        };
        for port in self.listener_ports.iter().copied().chain(taken) {
            yaml.push_str(&self.listener(port));
        }
        let backend = match self.answer {
            Answer::Backend(backend) => Some(("backend", backend)),
            Answer::Direct => None,
        };
        let control_plane = self.control_plane.map(|addr| ("control_plane", addr));
        let clusters: Vec<_> = backend.into_iter().chain(control_plane).collect();
        if !clusters.is_empty() {
            yaml.push_str("  clusters:\n");
        }
        for (name, addr) in clusters {
            yaml.push_str(&cluster(name, addr));
        }
        if self.control_plane.is_some() {
            yaml.push_str(LISTENERS_FROM_THE_CONTROL_PLANE);
        }
        match self.broken {
            Some(Break::YamlError) => yaml.push_str("this: [is, not: closed\n"),
            Some(Break::UnknownField) => yaml.push_str("no_such_field: true\n"),
            Some(Break::MissingCertificate | Break::PortConflict(_) | Break::AdminPortTaken(_))
            | None => {}
        }
        yaml
    }

    /// Replaces the file at `path` in one step, so that a reader sees the old text or the new.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[track_caller]
    pub fn write_to(&self, path: &Path) {
        replace_file(path, self.render().as_bytes());
    }

    fn listener(&self, port: u16) -> String {
        let name = &self.name;
        let mut yaml = format!(
            "  - name: listener_{port}
    address:
      socket_address: {{ address: 127.0.0.1, port_value: {port} }}
"
        );
        if let Some(enabled) = self.reuse_port {
            let _infallible = writeln!(yaml, "    enable_reuse_port: {enabled}");
        }
        yaml.push_str("    filter_chains:\n    - ");
        if self.broken == Some(Break::MissingCertificate) {
            yaml.push_str(TLS_WITHOUT_CERTIFICATE);
        }
        let action = match self.answer {
            Answer::Direct => {
                format!("direct_response: {{ status: 200, body: {{ inline_string: \"{name}\" }} }}")
            }
            // Longer than any test lets a request take; Envoy's default cuts it after 15 s.
            Answer::Backend(_) => "route: { cluster: backend, timeout: 120s }".to_owned(),
        };
        let _infallible = write!(
            yaml,
            "filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            name: all
            response_headers_to_add:
            - header: {{ key: x-config, value: \"{name}\" }}
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{ prefix: / }}
                {action}
"
        );
        yaml
    }
}

/// Puts `bytes` at `path` by renaming a complete file over it, as a careful editor does.
///
/// # Panics
///
/// When it cannot be written.
#[track_caller]
pub fn replace_file(path: &Path, bytes: &[u8]) {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if let Err(error) = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path)) {
        panic!("cannot write {}: {error}", path.display());
    }
}

const TLS_WITHOUT_CERTIFICATE: &str = "\
transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - certificate_chain: { filename: /nonexistent/certificate.pem }
              private_key: { filename: /nonexistent/key.pem }
      ";

const LISTENERS_FROM_THE_CONTROL_PLANE: &str = "\
node: { id: test, cluster: test }
dynamic_resources:
  lds_config:
    resource_api_version: V3
    initial_fetch_timeout: 0s
    api_config_source:
      api_type: REST
      transport_api_version: V3
      cluster_names: [control_plane]
      refresh_delay: 60s
      request_timeout: 600s
";

fn cluster(name: &str, addr: SocketAddr) -> String {
    let (ip, port) = (addr.ip(), addr.port());
    format!(
        "  - name: {name}
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address: {{ address: \"{ip}\", port_value: {port} }}
"
    )
}
