//! Envoy configurations, sound ones and ones that fail at a chosen point.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

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
    secret_source: Option<SocketAddr>,
    fetch_limit_s: u32,
    reuse_port: Option<bool>,
    stat_prefix: Option<String>,
    delays_by_header: bool,
    allowed_paths: Vec<String>,
    appended: String,
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
            secret_source: None,
            fetch_limit_s: 0,
            reuse_port: None,
            stat_prefix: None,
            delays_by_header: false,
            allowed_paths: Vec::new(),
            appended: String::new(),
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

    /// Has its listeners speak TLS, with the certificate [`SECRET`] from a control plane there.
    #[must_use]
    pub fn secret_source(mut self, addr: SocketAddr) -> Self {
        self.secret_source = Some(addr);
        self
    }

    /// Gives a silent control plane up after this many seconds. 0, the default, is no limit.
    #[must_use]
    pub fn fetch_limit(mut self, seconds: u32) -> Self {
        self.fetch_limit_s = seconds;
        self
    }

    /// Delays each answer by the milliseconds of the request's header [`DELAY_HEADER`], if it has one.
    #[must_use]
    pub fn delays_by_header(mut self) -> Self {
        self.delays_by_header = true;
        self
    }

    /// Names the statistics of each listener by this plain word, not by its address.
    #[must_use]
    pub fn stat_prefix(mut self, prefix: &str) -> Self {
        self.stat_prefix = Some(prefix.to_owned());
        self
    }

    /// Lets the admin endpoint answer this path too, and none that was not named.
    #[must_use]
    pub fn allow_path(mut self, path: &str) -> Self {
        self.allowed_paths.push(path.to_owned());
        self
    }

    /// Adds YAML at the end, at the top level of the bootstrap.
    #[must_use]
    pub fn append(mut self, yaml: &str) -> Self {
        self.appended.push_str(yaml);
        self
    }

    /// Has no listener of its own, only those of its control plane.
    #[must_use]
    pub fn without_listeners(mut self) -> Self {
        self.listener_ports.clear();
        self
    }

    /// Has its listener on this port instead.
    #[must_use]
    pub fn listening_on(mut self, port: u16) -> Self {
        self.listener_ports = vec![port];
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
"
        );
        if !self.allowed_paths.is_empty() {
            yaml.push_str("  allow_paths:\n");
        }
        for path in &self.allowed_paths {
            let _infallible = writeln!(yaml, "  - exact: {path}");
        }
        let nothing = if self.listener_ports.is_empty() {
            " []"
        } else {
            ""
        };
        let _infallible = write!(yaml, "static_resources:\n  listeners:{nothing}\n");
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
        let control_plane = self.control_plane.or(self.secret_source);
        let control_plane = control_plane.map(|addr| ("control_plane", addr));
        let clusters: Vec<_> = backend.into_iter().chain(control_plane).collect();
        if !clusters.is_empty() {
            yaml.push_str("  clusters:\n");
        }
        for (name, addr) in clusters {
            yaml.push_str(&cluster(name, addr));
        }
        if self.control_plane.is_some() {
            yaml.push_str("dynamic_resources:\n  lds_config:");
            yaml.push_str(&self.source());
        }
        if self.control_plane.or(self.secret_source).is_some() {
            yaml.push_str("node: { id: test, cluster: test }\n");
        }
        yaml.push_str(&self.appended);
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

    /// The control plane as a source, in the block style's place of a value.
    fn source(&self) -> String {
        let limit = self.fetch_limit_s;
        format!(
            " {{ resource_api_version: V3, initial_fetch_timeout: {limit}s, api_config_source: \
             {{ api_type: REST, transport_api_version: V3, cluster_names: [control_plane], \
             refresh_delay: 60s, request_timeout: 600s }} }}\n"
        )
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
        if let Some(prefix) = &self.stat_prefix {
            let _infallible = writeln!(yaml, "    stat_prefix: {prefix}");
        }
        yaml.push_str("    filter_chains:\n    - ");
        if self.broken == Some(Break::MissingCertificate) {
            yaml.push_str(TLS_WITHOUT_CERTIFICATE);
        } else if self.secret_source.is_some() {
            yaml.push_str(TLS);
            let source = self.source();
            let _infallible = write!(
                yaml,
                "            tls_certificate_sds_secret_configs:
            - name: {SECRET}
              sds_config:{source}"
            );
            yaml.push_str("      ");
        }
        let action = match self.answer {
            Answer::Direct => {
                format!("direct_response: {{ status: 200, body: {{ inline_string: \"{name}\" }} }}")
            }
            // Longer than any test lets a request take; Envoy's default cuts it after 15 s.
            Answer::Backend(_) => "route: { cluster: backend, timeout: 120s }".to_owned(),
        };
        let delay = if self.delays_by_header { DELAY } else { "" };
        let _infallible = write!(
            yaml,
            "filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          http_filters:
{delay}          - name: envoy.filters.http.router
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

/// Puts `bytes` at `path` by renaming a complete file over it, as a careful editor does. The name it has until then
/// is a hidden one, so a directory that is watched has no further file on the way.
///
/// # Panics
///
/// When it cannot be written.
#[track_caller]
pub fn replace_file(path: &Path, bytes: &[u8]) {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let beside = path.with_file_name(name);
    if let Err(error) = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path)) {
        panic!("cannot write {}: {error}", path.display());
    }
}

/// The name of the certificate that [`EnvoyConfig::secret_source`] asks for.
pub const SECRET: &str = "certificate";

const TLS: &str = "\
transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
";

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

/// The request header that [`EnvoyConfig::delays_by_header`] heeds; its value is in milliseconds.
pub const DELAY_HEADER: &str = "x-envoy-fault-delay-request";

const DELAY: &str = "          - name: envoy.filters.http.fault
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
              delay: { header_delay: {}, percentage: { numerator: 100 } }
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
