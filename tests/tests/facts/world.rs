//! What several facts need: a small load, and an epoch that stays in its initialisation.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use handover_test_support::bare_envoy::{BareEnvoy, Epoch, LIMIT};
use handover_test_support::envoy_config::{Break, DELAY_HEADER, EnvoyConfig};
use handover_test_support::http::Response;
use handover_test_support::kept_connection::{KeptConnection, PeerState};
use handover_test_support::limit::{eventually, poll};
use handover_test_support::load::{Load, Mix};

/// What an initialising epoch has set in the shared memory.
pub(crate) const INITIALIZING: u64 = 1;

/// How long nothing must happen, where a fact says that nothing happens.
pub(crate) const WHILE: Duration = Duration::from_millis(300);

/// An answer that does not come in this time does not come.
pub(crate) const NO_ANSWER: Duration = Duration::from_millis(700);

/// Two clients, one of each quick kind.
pub(crate) fn small_load(target: SocketAddr) -> Load {
    let mix = Mix {
        new_connections: 1,
        keep_alive: 1,
        pause: Some(Duration::from_millis(3)),
        ..Mix::default()
    };
    let load = Load::start(target, mix);
    let what = "the first answers of a load";
    eventually(LIMIT, what, || (load.progress().ok >= 10).then_some(()));
    load
}

/// A source of configuration that takes connections and never answers.
pub(crate) struct SilentSource(TcpListener);

impl SilentSource {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }
}

/// A port that another process listens on.
pub(crate) fn taken_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

/// Starts an epoch that waits for a silent source without end, and waits until it has the admin endpoint.
pub(crate) fn initializing(host: &BareEnvoy, epoch: u32, source: &SilentSource) -> Epoch {
    let config = host
        .config(&format!("v{epoch}"))
        .control_plane(source.addr());
    let started = host.start(epoch, &config);
    let mut last = None;
    let waiting = poll(LIMIT, || {
        last = host.admin().server_info();
        assert!(
            started.is_running(),
            "epoch {epoch} has ended, and {last:?}"
        );
        let last = last.as_ref()?;
        let is_waiting = last.restart_epoch == u64::from(epoch) && last.state != "LIVE";
        is_waiting.then_some(())
    });
    assert!(waiting.is_some(), "epoch {epoch} does not wait: {last:?}");
    started
}

/// A configuration that is broken in this way.
pub(crate) fn broken(host: &BareEnvoy, broken: Break) -> EnvoyConfig {
    host.config("broken").broken(broken)
}

/// A request that takes this long, on a connection that the serving epoch has taken and answered on before. So
/// no other epoch can answer it.
pub(crate) fn long_request(host: &BareEnvoy, takes: Duration) -> LongRequest {
    let mut connection = KeptConnection::open(host.web(), takes + LIMIT).expect("it listens");
    let first = connection.get("/").expect("it serves");
    assert_eq!(first.status, 200, "{first:?}");
    let milliseconds = takes.as_millis().to_string();
    let sent = connection.send("/", &[(DELAY_HEADER, &milliseconds)]);
    sent.expect("the connection is open");
    LongRequest(connection)
}

/// A request that was sent.
pub(crate) struct LongRequest(KeptConnection);

impl LongRequest {
    /// Waits for its answer.
    pub(crate) fn answer(mut self) -> io::Result<Response> {
        self.0.receive()
    }

    /// Whether neither an answer nor the end of the connection has come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.peer() == PeerState::Open
    }

    /// Asserts that the connection ends without an answer.
    #[track_caller]
    pub(crate) fn assert_cut(self) {
        let answer = self.answer();
        assert!(answer.is_err(), "it was answered: {answer:?}");
    }
}

/// The statistic of the usual listener with this name at its end.
pub(crate) fn listener_stat(host: &BareEnvoy, name: &str) -> Option<u64> {
    let port = host.web().port();
    host.admin()
        .stat(&format!("listener.127.0.0.1_{port}.{name}"))
}

/// Asserts that a condition holds for a while.
#[track_caller]
pub(crate) fn stays(what: &str, holds: impl Fn() -> bool) {
    let ended = poll(WHILE, || (!holds()).then_some(()));
    assert!(ended.is_none(), "{what} no longer, within {WHILE:?}");
}
