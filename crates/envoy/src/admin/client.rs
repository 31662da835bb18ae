//! The calls.

mod questions;

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::{Method, StatusCode};

use super::exchange::{ExchangeError, exchange};
use super::init_dump::{self, Targets};
use super::listeners::{self, ActiveListener};
use super::stats::{self, ListenerConnections};
use super::{AdminAddress, Exclude, ServerInfo};
use crate::bootstrap::{Listener, MAX_BYTES};
use crate::text::one_line;

/// The largest statistics page that is read.
const MAX_STATS: usize = 4 << 20;
/// The largest `/server_info` that is read. It lists every extension of the binary, 120 KiB in Envoy
/// 1.40, and repeats the node with its metadata, which may be nearly the whole configuration.
const MAX_SERVER_INFO: usize = MAX_BYTES;
/// The largest page with something of each cluster that is read: the states of 160,000 clusters with long
/// names, or the certificates of 20,000.
const MAX_LARGE: usize = 16 << 20;
/// The largest other answer that is read.
const MAX_OTHER: usize = 64 << 10;

/// Where the statistics are.
const STATS: &str = "/stats";

/// Asks one Envoy's admin endpoint.
///
/// Each call uses a connection of its own, is over within the client's time limit, and reads a
/// bounded amount, so no peer can make it hang or grow, whatever it sends.
///
/// # Cancel safety
///
/// Every call can be dropped at any point: its connection is closed with it. Whether Envoy has taken
/// a `POST` in by then is unknown, as with any network call.
///
/// ```no_run
/// use handover_envoy::admin::{AdminClient, DrainCall};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let admin = AdminClient::new("127.0.0.1:9901".parse()?);
/// let info = admin.server_info().await?;
/// println!("epoch {} is {}", info.restart_epoch, info.state);
/// admin.healthcheck_fail().await?;
/// admin.drain_listeners(DrainCall::default()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminClient {
    address: AdminAddress,
    limit: Duration,
}

/// What is wrong with an exchange in HTTP.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct HttpError(hyper::Error);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Nobody takes the connection.
    #[error("cannot connect to the admin endpoint {address}")]
    Connect {
        /// The endpoint.
        address: AdminAddress,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// What came back is not HTTP, or the connection broke.
    #[error("the admin endpoint {address} does not answer {path} in HTTP")]
    Http {
        /// The endpoint.
        address: AdminAddress,
        /// What was asked.
        path: &'static str,
        /// The cause.
        #[source]
        source: HttpError,
    },
    /// No complete answer in time.
    #[error("the admin endpoint {address} did not answer {path} within {limit:?}")]
    TimedOut {
        /// The endpoint.
        address: AdminAddress,
        /// What was asked.
        path: &'static str,
        /// The time limit of the client.
        limit: Duration,
    },
    /// The answer is larger than any that Envoy gives.
    #[error("the answer of the admin endpoint {address} to {path} is larger than {limit} bytes")]
    TooLarge {
        /// The endpoint.
        address: AdminAddress,
        /// What was asked.
        path: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The answer is an HTTP error.
    #[error("the admin endpoint {address} answers {path} with {status}: {body}")]
    Status {
        /// The endpoint.
        address: AdminAddress,
        /// What was asked.
        path: &'static str,
        /// The HTTP status code.
        status: u16,
        /// The beginning of the answer, on one line.
        body: String,
    },
    /// The answer is not of the shape that Envoy's has.
    #[error("the admin endpoint {address} answers {path} unlike an Envoy: {why}")]
    Unexpected {
        /// The endpoint.
        address: AdminAddress,
        /// What was asked.
        path: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The statistics leave out how many connections there are.
    #[error(
        "the statistics at {address} lack the connections of {listener}: a stats_matcher in \
         stats_config must keep listener.*.downstream_cx_active"
    )]
    NoGauge {
        /// The endpoint.
        address: AdminAddress,
        /// Whose gauge is missing.
        listener: String,
    },
}

impl AdminError {
    /// Returns whether nobody listens: the endpoint refused the connection, or there is no such
    /// socket.
    #[must_use]
    pub fn is_nobody_there(&self) -> bool {
        use std::io::ErrorKind;
        matches!(self, Self::Connect { source, .. } if matches!(
            source.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::NotFound
        ))
    }

    /// Returns whether somebody has answered, and with something else than what was asked for: a
    /// refusal (a 4xx status), or an answer that Envoy does not give. The same question will be
    /// answered in the same way.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Status { status, .. } => (400..500).contains(status),
            Self::TooLarge { .. } | Self::Unexpected { .. } => true,
            Self::Connect { .. }
            | Self::Http { .. }
            | Self::TimedOut { .. }
            | Self::NoGauge { .. } => false,
        }
    }
}

/// What `/ready` says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ready {
    /// Whether Envoy wants requests (HTTP status 200).
    pub serving: bool,
    /// The state it names, for example `LIVE` or `DRAINING`.
    pub state: String,
}

/// How `/drain_listeners` is called. The default refuses new connections at once and leaves the
/// others alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DrainCall {
    /// Go on accepting for the drain time while asking connections to close. What that means differs
    /// between Envoy's versions.
    pub graceful: bool,
    /// With `graceful`: never close the listeners.
    pub skip_exit: bool,
    /// Only listeners with the traffic direction `INBOUND`.
    pub inbound_only: bool,
}

impl AdminClient {
    /// Makes a client whose calls take at most two seconds each. Nothing is connected yet. Envoy
    /// answers within milliseconds unless its main thread stands still.
    #[must_use]
    pub fn new(address: AdminAddress) -> Self {
        Self {
            address,
            limit: Duration::from_secs(2),
        }
    }

    /// Sets another time limit for each call.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the address of the endpoint.
    #[must_use]
    pub fn address(&self) -> &AdminAddress {
        &self.address
    }

    /// Asks `/server_info`, and returns which epoch answers and in which state it is.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn server_info(&self) -> Result<ServerInfo, AdminError> {
        let path = "/server_info";
        let body = self.call(Method::GET, path, "", MAX_SERVER_INFO).await?;
        ServerInfo::parse(&body).map_err(|why| self.unexpected(path, why))
    }

    /// Asks `/ready`, and returns whether Envoy wants requests. An Envoy that wants none is an
    /// answer, not an error.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn ready(&self) -> Result<Ready, AdminError> {
        let path = "/ready";
        let (status, body) = self.ask(Method::GET, path, "", MAX_OTHER).await?;
        let state = one_line(&String::from_utf8_lossy(&body));
        match status {
            StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE => Ok(Ready {
                serving: status == StatusCode::OK,
                state,
            }),
            _ => Err(self.status_error(path, status, &body)),
        }
    }

    /// Asks `/init_dump`, and returns the names of what an epoch waits for before it is live.
    /// Listeners and clusters that are fetched as a whole (LDS, CDS) and endpoints (EDS) are not
    /// among them.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn init_dump(&self) -> Result<Vec<String>, AdminError> {
        Ok(self.init_targets().await?.others)
    }

    /// Asks `/init_dump`, and returns for whom an epoch waits, and whether for its gate.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub(crate) async fn init_targets(&self) -> Result<Targets, AdminError> {
        let path = "/init_dump";
        let body = self.call(Method::GET, path, "", MAX_STATS).await?;
        init_dump::parse(&body).map_err(|why| self.unexpected(path, why))
    }

    /// Asks `/init_dump`, and returns the listeners that are warming, each with what it waits for, in
    /// words.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub(crate) async fn warming_listeners(&self) -> Result<Vec<String>, AdminError> {
        let path = "/init_dump";
        let body = self.call(Method::GET, path, "", MAX_STATS).await?;
        init_dump::warming(&body).map_err(|why| self.unexpected(path, why))
    }

    /// Asks `/listeners`, and returns the listeners that are active. Those that are warming or draining,
    /// and that of the admin endpoint, are not among them.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn active_listeners(&self) -> Result<Vec<ActiveListener>, AdminError> {
        let path = "/listeners";
        let body = self
            .call(Method::GET, path, "?format=json", MAX_STATS)
            .await?;
        listeners::active(&body).map_err(|why| self.unexpected(path, why))
    }

    /// Asks `/stats`, and returns the counters and gauges whose name matches the regular expression
    /// (RE2 syntax, not anchored). Histograms and text values are left out.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn stats(&self, filter: &str) -> Result<Vec<(String, u64)>, AdminError> {
        let query = format!("?filter={}", percent_encoded(filter));
        let path = "/stats";
        let body = self.call(Method::GET, path, &query, MAX_STATS).await?;
        stats::parse(&body).map_err(|why| self.unexpected(path, why))
    }

    /// Returns the listeners that have open connections from clients, and how many. The admin
    /// listener and internal listeners never count. `listeners` are the static ones of the
    /// configuration; pass none if it is unknown.
    ///
    /// While an older epoch runs, its connections are among them, up to 5 s after they have ended.
    /// [`connections`](crate::connections) counts those of one process.
    ///
    /// # Errors
    ///
    /// [`AdminError`]; [`AdminError::NoGauge`] where the statistics leave a listener out.
    pub async fn active_connections(
        &self,
        exclude: &Exclude,
        listeners: &[Listener],
    ) -> Result<Vec<ListenerConnections>, AdminError> {
        let stats = self.stats(stats::ACTIVE).await?;
        let exclude = exclude.with_listeners(listeners);
        // Only where a name hints at one, it is asked which listeners are internal.
        let hinted = stats.iter().any(|(name, count)| {
            *count > 0
                && name
                    .strip_prefix("listener.")
                    .is_some_and(|name| name.starts_with(stats::INTERNAL))
        });
        let internal = match hinted {
            // Where that is not told, they are taken for what holds a drain.
            true => self.internal_listeners().await.unwrap_or_default(),
            false => BTreeSet::new(),
        };
        let active = |has_gate| stats::active(&stats, &exclude, listeners, &internal, has_gate);
        let active = match active(false) {
            // It may be the gate alone that the statistics leave out.
            Err(_) if self.has_gate().await => active(true),
            result => result,
        };
        active.map_err(|listener| AdminError::NoGauge {
            address: self.address.clone(),
            listener,
        })
    }

    /// Whether there is a gate. What is not told counts as no.
    async fn has_gate(&self) -> bool {
        let path = "/listeners";
        let page = self.call(Method::GET, path, "?format=json", MAX_STATS);
        page.await.is_ok_and(|page| listeners::has_gate(&page))
    }

    /// The names in the statistics of internal listeners without a `stat_prefix`.
    async fn internal_listeners(&self) -> Result<BTreeSet<String>, AdminError> {
        let path = "/listeners";
        let body = self
            .call(Method::GET, path, "?format=json", MAX_STATS)
            .await?;
        stats::internal(&body).map_err(|why| self.unexpected(path, why))
    }

    /// Calls `/drain_listeners` in the given way. The answer says only that Envoy heard it, so verify
    /// the effect.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn drain_listeners(&self, how: DrainCall) -> Result<(), AdminError> {
        let mut query = String::new();
        for (set, name) in [
            (how.graceful, "graceful"),
            (how.skip_exit, "skip_exit"),
            (how.inbound_only, "inboundonly"),
        ] {
            if set {
                query.push(if query.is_empty() { '?' } else { '&' });
                query.push_str(name);
            }
        }
        let path = "/drain_listeners";
        self.call(Method::POST, path, &query, MAX_OTHER).await?;
        Ok(())
    }

    /// Calls `/healthcheck/fail`. Health checks fail, and connections are asked to close. Listeners
    /// go on accepting.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn healthcheck_fail(&self) -> Result<(), AdminError> {
        self.post("/healthcheck/fail").await
    }

    /// Calls `/healthcheck/ok`, which takes [`healthcheck_fail`](Self::healthcheck_fail) back.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn healthcheck_ok(&self) -> Result<(), AdminError> {
        self.post("/healthcheck/ok").await
    }

    /// Calls `/quitquitquit`. Envoy exits 0 within milliseconds, and cuts what is in flight. Like
    /// SIGTERM it also ends an older epoch that still drains.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn quit(&self) -> Result<(), AdminError> {
        self.post("/quitquitquit").await
    }

    /// Calls `/reopen_logs`. Envoy opens its access logs again, as log rotation needs.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn reopen_logs(&self) -> Result<(), AdminError> {
        self.post("/reopen_logs").await
    }

    async fn post(&self, path: &'static str) -> Result<(), AdminError> {
        self.call(Method::POST, path, "", MAX_OTHER).await?;
        Ok(())
    }

    /// One exchange that must be answered with 200.
    async fn call(
        &self,
        method: Method,
        path: &'static str,
        query: &str,
        max_body: usize,
    ) -> Result<Vec<u8>, AdminError> {
        match self.ask(method, path, query, max_body).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, body) => Err(self.status_error(path, status, &body)),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &'static str,
        query: &str,
        max_body: usize,
    ) -> Result<(StatusCode, Vec<u8>), AdminError> {
        let address = || self.address.clone();
        let path_and_query = format!("{path}{query}");
        // Each question of an epoch's run holds one of these. Inline, they would make the future of the run
        // too large for the stack of a worker thread.
        let exchange = Box::pin(exchange(&self.address, method, &path_and_query, max_body));
        match handover_runtime::time_limit::timeout(self.limit, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(ExchangeError::Connect(source))) => Err(AdminError::Connect {
                address: address(),
                source,
            }),
            Ok(Err(ExchangeError::Http(source))) => Err(AdminError::Http {
                address: address(),
                path,
                source: HttpError(source),
            }),
            Ok(Err(ExchangeError::TooLarge)) => Err(AdminError::TooLarge {
                address: address(),
                path,
                limit: max_body,
            }),
            Err(_elapsed) => Err(AdminError::TimedOut {
                address: address(),
                path,
                limit: self.limit,
            }),
        }
    }

    fn status_error(&self, path: &'static str, status: StatusCode, body: &[u8]) -> AdminError {
        AdminError::Status {
            address: self.address.clone(),
            path,
            status: status.as_u16(),
            body: one_line(&String::from_utf8_lossy(body)),
        }
    }

    fn unexpected(&self, path: &'static str, why: String) -> AdminError {
        AdminError::Unexpected {
            address: self.address.clone(),
            path,
            why,
        }
    }
}

/// The query for statistics of one kind, or for those only of them that were ever set.
pub(super) fn stats_query(kind: &str, in_use: bool, filter: &str) -> String {
    let in_use = if in_use { "&usedonly" } else { "" };
    format!("?type={kind}{in_use}&filter={}", percent_encoded(filter))
}

/// Percent-encodes a query value: all but RFC 3986's unreserved characters.
pub(super) fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
