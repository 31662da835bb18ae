//! The configurations of a run: one listener, and a marker by which an answer tells which one it is of.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::step::Change;

/// What all configurations of a run have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    pub(crate) admin: u16,
    pub(crate) listener: u16,
    /// Answers slow requests.
    pub(crate) backend: SocketAddr,
    /// Where somebody else listens.
    pub(crate) taken: u16,
}

impl Places {
    /// Returns the text of a configuration.
    pub(crate) fn config(&self, marker: &str, change: Change) -> String {
        let Self {
            admin,
            listener,
            backend,
            taken,
        } = *self;
        let admin = if change == Change::AdminPortTaken {
            taken
        } else {
            admin
        };
        let mut text = format!(
            "admin:
  address:
    socket_address: {{ address: 127.0.0.1, port_value: {admin} }}
static_resources:
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }}
  listeners:
{}",
            backend.ip(),
            backend.port(),
            listener_text("clients", listener, marker, change),
        );
        match change {
            Change::PortTaken => text.push_str(&listener_text("taken", taken, marker, change)),
            Change::BadYaml => text.push_str("this: [is, not: closed\n"),
            Change::UnknownField => text.push_str("no_such_field: true\n"),
            Change::Good | Change::Same | Change::MissingCertificate | Change::AdminPortTaken => {}
        }
        text
    }
}

fn listener_text(name: &str, port: u16, marker: &str, change: Change) -> String {
    let tls = if change == Change::MissingCertificate {
        "transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - certificate_chain: { filename: /nonexistent/certificate.pem }
              private_key: { filename: /nonexistent/key.pem }
      "
    } else {
        ""
    };
    format!(
        "  - name: {name}
    address:
      socket_address: {{ address: 127.0.0.1, port_value: {port} }}
    filter_chains:
    - {tls}filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            name: all
            response_headers_to_add:
            - header: {{ key: x-config, value: \"{marker}\" }}
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{ prefix: /slow }}
                route: {{ cluster: backend, timeout: 60s }}
              - match: {{ prefix: / }}
                direct_response: {{ status: 200, body: {{ inline_string: \"{marker}\" }} }}
"
    )
}

/// Puts a text at a path by a rename, so that a reader sees the old text or the new one.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}
