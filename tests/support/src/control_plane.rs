//! A control plane from which Envoy fetches resources, and which can be away for a while.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// xDS over REST on a loopback port of its own. It listens until the test process ends; each
/// connection has a thread of its own, which ends with it.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    addr: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    away: AtomicBool,
    /// The resources of each kind, by the last part of the path: `listeners`, `secrets`.
    resources: Mutex<BTreeMap<String, Vec<Value>>>,
}

impl ControlPlane {
    /// Starts it, without any resource.
    ///
    /// # Panics
    ///
    /// When no loopback port can be bound.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the control plane");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let state = Arc::<State>::default();
        let of_thread = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&of_thread);
                // A client that breaks off is its own affair.
                thread::spawn(move || state.serve(stream));
            }
        });
        Self { addr, state }
    }

    /// Sets the resources of a kind, `listeners` for example; each has its `@type`.
    pub fn set(&self, kind: &str, resources: Vec<Value>) {
        let mut all = self.state.lock();
        all.insert(kind.to_owned(), resources);
    }

    /// Lets it close every connection without an answer, until [`come_back`](Self::come_back).
    pub fn go_away(&self) {
        self.state.away.store(true, Ordering::SeqCst);
    }

    /// Lets it answer again.
    pub fn come_back(&self) {
        self.state.away.store(false, Ordering::SeqCst);
    }

    /// The cluster `xds` of a bootstrap, through which it is asked.
    #[must_use]
    pub fn cluster(&self) -> Value {
        json!({
            "name": "xds", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.addr.port()}}
            }}]}]}
        })
    }

    /// A configuration source: it is asked every half second, and given up after `timeout`.
    #[must_use]
    pub fn source(timeout: Duration) -> Value {
        json!({
            "resource_api_version": "V3",
            "initial_fetch_timeout": format!("{}s", timeout.as_secs()),
            "api_config_source": {
                "api_type": "REST", "transport_api_version": "V3", "cluster_names": ["xds"],
                "refresh_delay": "0.5s", "request_timeout": "1s"
            }
        })
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Value>>> {
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        loop {
            let (mut line, mut length, mut path) = (String::new(), 0, String::new());
            while reader.read_line(&mut line)? > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                } else if path.is_empty() {
                    path = lower.split(' ').nth(1).unwrap_or_default().to_owned();
                }
                line.clear();
            }
            if path.is_empty() || self.away.load(Ordering::SeqCst) {
                return Ok(());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let kind = path.rsplit(':').next().unwrap_or_default();
            let resources = self.lock().get(kind).cloned().unwrap_or_default();
            let answer = json!({"version_info": "1", "resources": resources}).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            writer.write_all((head + &answer).as_bytes())?;
        }
    }
}
