//! Bootstraps of Envoy with a listener for each transport.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

const TYPES: &str = "type.googleapis.com/envoy";

/// A bootstrap that grows.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    admin: u16,
    listeners: String,
    clusters: String,
    runtime: String,
}

impl Bootstrap {
    pub(crate) fn new(admin: u16) -> Self {
        Self {
            admin,
            listeners: String::new(),
            clusters: String::new(),
            runtime: String::new(),
        }
    }

    pub(crate) fn render(&self) -> String {
        let Self {
            admin,
            listeners,
            clusters,
            runtime,
        } = self;
        format!(
            "\
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
{runtime}static_resources:
  listeners:
{listeners}  clusters:
{clusters}"
        )
    }

    /// Sets a flag of Envoy's runtime.
    pub(crate) fn runtime(mut self, flag: &str, value: bool) -> Self {
        self.runtime = format!(
            "layered_runtime: {{ layers: [{{ name: static, static_layer: {{ {flag}: {value} }} }}] }}\n"
        );
        self
    }

    /// A listener that passes bytes on.
    pub(crate) fn bytes(mut self, name: &str, address: &str, cluster: &str) -> Self {
        let _infallible = write!(
            self.listeners,
            "  - name: {name}
    address: {{ {address} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": {TYPES}.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: {name}
          cluster: {cluster}
"
        );
        self
    }

    /// A listener for HTTP.
    pub(crate) fn http(mut self, name: &str, address: &str, routes: &[&str]) -> Self {
        let manager = manager(name, "AUTO", routes);
        let _infallible = write!(
            self.listeners,
            "  - name: {name}
    address: {{ {address} }}
    filter_chains:
    - filters:
{manager}"
        );
        self
    }

    /// A listener for HTTP/3.
    pub(crate) fn http3(mut self, name: &str, port: u16, tls: &Path, routes: &[&str]) -> Self {
        let manager = manager(name, "HTTP3", routes);
        let tls = tls.display();
        let _infallible = write!(
            self.listeners,
            "  - name: {name}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port}, protocol: UDP }} }}
    udp_listener_config: {{ quic_options: {{}} }}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.quic
        typed_config:
          \"@type\": {TYPES}.extensions.transport_sockets.quic.v3.QuicDownstreamTransport
          downstream_tls_context:
            common_tls_context:
              tls_certificates:
              - certificate_chain: {{ filename: \"{tls}/certificate.pem\" }}
                private_key: {{ filename: \"{tls}/key.pem\" }}
      filters:
{manager}"
        );
        self
    }

    /// A listener for datagrams.
    pub(crate) fn datagrams(mut self, name: &str, port: u16, cluster: &str) -> Self {
        let _infallible = write!(
            self.listeners,
            "  - name: {name}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port}, protocol: UDP }} }}
    listener_filters:
    - name: envoy.filters.udp_listener.udp_proxy
      typed_config:
        \"@type\": {TYPES}.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig
        stat_prefix: {name}
        matcher:
          on_no_match:
            action:
              name: route
              typed_config:
                \"@type\": {TYPES}.extensions.filters.udp.udp_proxy.v3.Route
                cluster: {cluster}
"
        );
        self
    }

    pub(crate) fn cluster(mut self, name: &str, addr: SocketAddr) -> Self {
        let endpoint = endpoint(name, addr, "TCP");
        let _infallible = writeln!(self.clusters, "{endpoint}");
        self
    }

    /// A cluster of a UDP backend.
    pub(crate) fn datagram_cluster(mut self, name: &str, addr: SocketAddr) -> Self {
        let endpoint = endpoint(name, addr, "UDP");
        let _infallible = writeln!(self.clusters, "{endpoint}");
        self
    }

    /// A cluster that is asked by HTTP/3. Each connection of a client has connections of its own there.
    pub(crate) fn http3_cluster(mut self, name: &str, addr: SocketAddr) -> Self {
        let endpoint = endpoint(name, addr, "UDP");
        let _infallible = write!(
            self.clusters,
            "{endpoint}
    connection_pool_per_downstream_connection: true
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": {TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http3_protocol_options: {{}} }}
    transport_socket:
      name: envoy.transport_sockets.quic
      typed_config:
        \"@type\": {TYPES}.extensions.transport_sockets.quic.v3.QuicUpstreamTransport
        upstream_tls_context: {{ sni: test, common_tls_context: {{}} }}
"
        );
        self
    }
}

fn endpoint(name: &str, addr: SocketAddr, protocol: &str) -> String {
    let (ip, port) = (addr.ip(), addr.port());
    format!(
        "  - name: {name}
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port}, protocol: {protocol} }} }} }}"
    )
}

/// A connection manager. A route is a prefix and its action, in YAML.
fn manager(name: &str, codec: &str, routes: &[&str]) -> String {
    let mut text = format!(
        "      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": {TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          codec_type: {codec}
          upgrade_configs: [{{ upgrade_type: websocket }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ \"@type\": {TYPES}.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
"
    );
    for route in routes {
        let _infallible = writeln!(text, "              - {{ {route} }}");
    }
    text
}

/// A TCP address as the configuration has it.
pub(crate) fn socket(port: u16) -> String {
    format!("socket_address: {{ address: 127.0.0.1, port_value: {port} }}")
}

/// A Unix socket as the configuration has it.
pub(crate) fn pipe(path: &str) -> String {
    format!("pipe: {{ path: \"{path}\" }}")
}

/// A route of one prefix to a cluster, without a limit in time.
pub(crate) fn route(prefix: &str, cluster: &str) -> String {
    format!("match: {{ prefix: {prefix} }}, route: {{ cluster: {cluster}, timeout: 0s }}")
}
