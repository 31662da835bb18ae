//! A control plane from which Envoy fetches resources, and which can fail in every way that real ones do.
//!
//! [`ControlPlane`] serves all five kinds on one port: over REST, and as one aggregated stream over gRPC. Each
//! kind has a [`Manner`], which may change at any time. A stream gets what it is owed as soon as the manner
//! allows it. Away is the whole server: its port refuses, and its connections are closed.
//!
//! | module | does |
//! |---|---|
//! | `state` | has the resources, decides what a request is answered, remembers what was asked and refused |
//! | `serve` | listens, and takes the two transports apart |
//! | `rest` | answers one request over REST |
//! | `stream` | answers a stream over gRPC |
//! | `wire` | writes a resource as protobuf |
//! | [`fetching`] | configurations that fetch from it |

mod discovery;
pub mod fetching;
mod kind;
mod rest;
mod serve;
mod state;
mod stream;
mod wire;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

pub use self::kind::Kind;
use self::state::Shared;
pub use self::state::{Manner, Seen};
use crate::ports::Port;

/// What the type URL of every message begins with.
pub const TYPES: &str = "type.googleapis.com/";

/// How Envoy talks to the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// It asks every half second.
    Rest,
    /// It has one stream for all kinds.
    Grpc,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rest => "REST",
            Self::Grpc => "gRPC",
        })
    }
}

/// A control plane on a loopback port of its own, run by a thread of its own; it ends with the value.
#[derive(Debug)]
pub struct ControlPlane {
    port: Port,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Starts it without any resource; every kind is answered.
    ///
    /// # Panics
    ///
    /// When no loopback port can be bound or no thread started.
    #[must_use]
    pub fn start() -> Self {
        let port = Port::free();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let of_thread = Arc::clone(&shared);
        let addr = port.addr();
        let thread = thread::Builder::new()
            .name("control-plane".to_owned())
            .spawn(move || serve::run(addr, &of_thread, stopped))
            .expect("a thread for the control plane");
        let plane = Self {
            port,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        };
        plane.wait_for_port();
        plane
    }

    /// Starts one that takes questions of every kind and leaves them without an answer.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn silent() -> Self {
        let plane = Self::start();
        for kind in Kind::ALL {
            plane.behave(kind, Manner::Silent);
        }
        plane
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Sets the resources of a kind for every Envoy; each has its `@type`.
    pub fn set(&self, kind: Kind, resources: Vec<Value>) {
        self.set_for("", kind, resources);
    }

    /// Sets them for the Envoys whose node has this id.
    pub fn set_for(&self, node: &str, kind: Kind, resources: Vec<Value>) {
        self.shared.change(|state| state.set(node, kind, resources));
    }

    /// Changes how requests for a kind are answered.
    pub fn behave(&self, kind: Kind, manner: Manner) {
        self.shared.change(|state| state.behave(kind, manner));
    }

    /// Closes every connection and refuses new ones, until [`come_back`](Self::come_back). The port is
    /// closed when this returns.
    pub fn go_away(&self) {
        self.shared.change(|state| state.away = true);
        self.wait_for_port();
    }

    /// Listens again; it accepts connections when this returns.
    pub fn come_back(&self) {
        self.shared.change(|state| state.away = false);
        self.wait_for_port();
    }

    /// What has happened to the requests of a kind so far.
    #[must_use]
    pub fn seen(&self, kind: Kind) -> Seen {
        self.shared.look(|state| state.seen(kind))
    }

    /// Whether any Envoy has asked for this kind.
    #[must_use]
    pub fn was_asked(&self, kind: Kind) -> bool {
        self.seen(kind).asked > 0
    }

    /// The cluster `xds` of a bootstrap, through which it is asked.
    #[must_use]
    pub fn cluster(&self, transport: Transport) -> Value {
        let mut cluster = json!({
            "name": "xds", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.port.number()}}
            }}]}]}
        });
        if let (Transport::Grpc, Some(fields)) = (transport, cluster.as_object_mut()) {
            let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
            let http2 = json!({options: {
                "@type": format!("{TYPES}{options}"),
                "explicit_http_config": {"http2_protocol_options": {}}
            }});
            fields.insert("typed_extension_protocol_options".to_owned(), http2);
        }
        cluster
    }

    /// A source of a configuration, which Envoy gives up after `timeout`.
    #[must_use]
    pub fn source(transport: Transport, timeout: Duration) -> Value {
        let timeout = format!("{}s", timeout.as_secs_f64());
        match transport {
            Transport::Rest => json!({
                "resource_api_version": "V3",
                "initial_fetch_timeout": timeout,
                "api_config_source": {
                    "api_type": "REST", "transport_api_version": "V3", "cluster_names": ["xds"],
                    "refresh_delay": "0.5s", "request_timeout": "600s"
                }
            }),
            Transport::Grpc => json!({
                "resource_api_version": "V3", "initial_fetch_timeout": timeout, "ads": {}
            }),
        }
    }

    /// The aggregated stream of a configuration, in its `dynamic_resources`. A broken stream is opened again
    /// within a second.
    #[must_use]
    pub fn aggregated() -> Value {
        json!({"ads_config": {
            "api_type": "GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {
                "cluster_name": "xds",
                "retry_policy": {"retry_back_off": {"base_interval": "0.25s", "max_interval": "1s"}}
            }}]
        }})
    }

    /// Waits until the thread has done with its port what the state says.
    fn wait_for_port(&self) {
        self.shared.wait_for_port();
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has shown itself to its clients, or to who waited for the port.
            let _result = thread.join();
        }
    }
}
