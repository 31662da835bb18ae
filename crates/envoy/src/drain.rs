//! Letting an Envoy finish its work, as far as its admin endpoint can: no new connection, and a wait
//! until the last client's connection is closed. Ending the process afterwards is the caller's part.
//!
//! The order is what loses nothing: first health checks fail, which makes Envoy ask every client to
//! close after its next response, then the listeners close at once. A *graceful* drain of the
//! listeners would go on accepting for the whole drain time, and means different things in different
//! versions of Envoy.
//!
//! Envoy announces that it will close and then leaves it to the client to do so, for the
//! `drain_timeout` of its HTTP connection manager, 5 s unless the configuration says otherwise, and
//! for one second more. So a client that reads until Envoy closes holds a drain for that time after
//! its last answer; a shorter `drain_timeout` in the configuration is the remedy.

pub(crate) mod closing;
pub(crate) mod reports;
mod wait;

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use handover_core::LOOK_AROUND;
use handover_runtime::time_limit::timeout_at;
use tokio::time::{Instant, sleep};

pub(crate) use self::wait::list;
use self::wait::{DrainWait, ListenerCounters, Step};
use crate::admin::{
    AdminAddress, AdminClient, AdminError, DrainCall, Exclude, ListenerConnections,
};
use crate::bootstrap::{ListenAddress, Listener};
use crate::syn_filter::{keep_new_connections_away, refuse_new_unix_connections};

/// The longest pause between two looks at the connections that are left, as long as each look is short. People wait
/// for the end of a drain.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How to drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainOptions {
    /// How long Envoy goes on accepting after its health checks have begun to fail, for load
    /// balancers to notice. Default: none.
    pub pre_drain_delay: Duration,
    /// The shortest time of the whole drain, even with no connection open. Default: none.
    pub minimum: Duration,
    /// The longest time of the whole drain; it bounds the two above as well. Default: 5 s.
    pub limit: Duration,
    /// How often connections are counted at first. Later it is each sixteenth of the time waited so far, up to 200 ms.
    /// Default: 15 ms.
    pub poll: Duration,
    /// Listeners whose connections do not hold the drain. With [`Exclude::inbound_only`], the drain closes the
    /// inbound listeners only, and the others serve until the process ends.
    pub exclude: Exclude,
    /// The static listeners of the configuration, as far as they are known: a drain is not over while
    /// the statistics leave one of them out.
    pub listeners: Vec<Listener>,
    /// The process id of this Envoy, where it is a child of ours: then the connections that wait to
    /// be accepted when the listeners close are not reset, see `syn_filter`.
    pub child: Option<u32>,
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self {
            pre_drain_delay: Duration::ZERO,
            minimum: Duration::ZERO,
            limit: Duration::from_secs(5),
            poll: Duration::from_millis(15),
            exclude: Exclude::default(),
            listeners: Vec::new(),
            child: None,
        }
    }
}

/// How a drain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// What still holds the drain; empty if no connection is left. Each entry shows as
    /// "3 connections on listener X".
    pub holding: Vec<ListenerConnections>,
    /// Whether Envoy was seen to close all its listeners. Where it was not, connections may still
    /// come in.
    pub listeners_closed: bool,
    /// How long it took.
    pub took: Duration,
}

impl DrainReport {
    /// Returns whether every connection that counts is closed.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.holding.is_empty()
    }
}

/// Why a drain could not be done. Envoy may be half-way: its health checks fail, its listeners are
/// open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// Health checks could not be made to fail.
    #[error("cannot start the drain")]
    Start(#[source] AdminError),
    /// The listeners could not be closed.
    #[error("cannot close the listeners")]
    CloseListeners(#[source] AdminError),
    /// The connections could not be counted for the whole rest of the time.
    #[error("cannot count the connections that are left")]
    Count(#[source] Box<dyn Error + Send + Sync>),
    /// The time was over before connections could be counted once.
    #[error("the drain took {0:?} before the connections that are left could be counted")]
    NoTime(Duration),
}

/// Counts the connections that hold a drain.
#[async_trait]
pub(crate) trait CountClients: Send + Sync {
    /// The listeners with open connections, and how many.
    async fn count(&self) -> Result<Vec<ListenerConnections>, NotCounted>;

    /// Whether Envoy has closed the listeners of these connections. Where that is not seen, the
    /// statistics are asked.
    async fn closing(&self) -> ListenersSeen {
        ListenersSeen::Unseen
    }
}

/// What a look at the listeners shows that Envoy was told to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenersSeen {
    /// They are closed.
    Closed,
    /// One of the configuration is open. Envoy closes it when its slowest worker has come to it.
    Open,
    /// All that are open are in no configuration. Those of a control plane stay open if they are not
    /// inbound and only such are closed, and those of an extension do so as well.
    MayStay,
    /// It cannot be seen.
    Unseen,
}

impl ListenersSeen {
    /// What a look at the known listeners says where one is open, known or not.
    pub(crate) fn of_an_open_one(self) -> Self {
        match self {
            Self::Open => Self::Open,
            Self::Closed | Self::MayStay | Self::Unseen => Self::MayStay,
        }
    }
}

/// Why connections could not be counted at one moment.
#[derive(Debug)]
pub(crate) struct NotCounted {
    pub(crate) error: Box<dyn Error + Send + Sync>,
    /// There is nothing more to count: what was asked is gone.
    pub(crate) is_final: bool,
}

/// Counts by the statistics of an Envoy.
struct ByStatistics<'a> {
    admin: &'a AdminClient,
    options: &'a DrainOptions,
}

#[async_trait]
impl CountClients for ByStatistics<'_> {
    async fn count(&self) -> Result<Vec<ListenerConnections>, NotCounted> {
        let options = self.options;
        let counted = self
            .admin
            .active_connections(&options.exclude, &options.listeners)
            .await;
        counted.map_err(|error| NotCounted {
            // An endpoint that is gone does not come back.
            is_final: error.is_nobody_there(),
            error: error.into(),
        })
    }
}

/// Drains an Envoy through its admin endpoint, by the connections that its statistics tell. `Ok` with
/// connections left means that the limit came first.
///
/// # Errors
///
/// [`DrainError`].
///
/// # Cancel safety
///
/// It can be dropped at any point, and called again: each step may be repeated. Envoy stays as far
/// drained as it was.
///
/// ```no_run
/// use handover_envoy::admin::AdminClient;
/// use handover_envoy::drain::{DrainOptions, drain};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let admin = AdminClient::new("127.0.0.1:9901".parse()?);
/// let report = drain(&admin, &DrainOptions::default()).await?;
/// for connections in &report.holding {
///     println!("cut: {connections}");
/// }
/// # Ok(())
/// # }
/// ```
pub async fn drain(admin: &AdminClient, options: &DrainOptions) -> Result<DrainReport, DrainError> {
    drain_counting(admin, options, &ByStatistics { admin, options }).await
}

/// The same by another count. What cannot be counted is not drained: it is waited for until the limit.
pub(crate) async fn drain_counting(
    admin: &AdminClient,
    options: &DrainOptions,
    clients: &dyn CountClients,
) -> Result<DrainReport, DrainError> {
    let start = Instant::now();
    // A limit too far away for the clock is as good as none that a person would see the end of.
    let end = start
        .checked_add(options.limit)
        .unwrap_or_else(|| start + Duration::from_secs(86_400 * 365));
    let before = timeout_at(end, async {
        let failing = retry_once(|| admin.healthcheck_fail()).await;
        failing.map_err(DrainError::Start)?;
        sleep(options.pre_drain_delay).await;
        if let Some(child) = options.child {
            keep_away(child, admin.address(), options).await;
        }
        // Unknown counters leave the closing unverified; they do not stop a drain.
        let inbound_only = options.exclude.inbound_only;
        let before = match inbound_only {
            // How many of them are inbound is not counted.
            true => None,
            false => ListenerCounters::read(admin).await,
        };
        let how = DrainCall {
            inbound_only,
            ..DrainCall::default()
        };
        let closing = retry_once(|| admin.drain_listeners(how)).await;
        closing.map_err(DrainError::CloseListeners)?;
        Ok(before)
    });
    let before = before
        .await
        .map_err(|_elapsed| DrainError::NoTime(start.elapsed()))??;

    let told = Instant::now();
    let mut wait = DrainWait::new(start.into_std(), told.into_std(), options.minimum, before);
    // Cutting a count at the end keeps the result of the one before.
    let _ = timeout_at(end, async {
        loop {
            if wait.must_look_at_listeners() {
                let seen = clients.closing().await;
                let counters = match wait.needs_counters(seen) {
                    true => ListenerCounters::read(admin).await,
                    false => None,
                };
                wait.handle_listeners(seen, counters, Instant::now().into_std());
            }
            let looking = Instant::now();
            let counted = clients.count().await;
            match wait.handle_count(counted, Instant::now().into_std()) {
                Step::Wait => {}
                Step::Report(holding) => tracing::info!("the drain waits for {holding}"),
                Step::End => return,
            }
            let least = least_pause(told.elapsed(), options.poll);
            sleep(pause_after(looking.elapsed(), least)).await;
        }
    })
    .await;
    wait.into_report(Instant::now().into_std())
}

/// Keeps new connections away from the listeners that are to be closed.
///
/// Without it a drain is a little less kind; that is no reason not to drain.
async fn keep_away(child: u32, admin: &AdminAddress, options: &DrainOptions) {
    if options.exclude.inbound_only {
        // What goes on listening must not lose a packet, so only what is known to close is kept from new
        // ones.
        let inbound = inbound_ports(&options.listeners);
        if let Err(error) = keep_new_connections_away(child, |port| !inbound.contains(&port)).await
        {
            error.log();
        }
        return;
    }
    if let Err(error) = keep_new_connections_away(child, |port| admin.port() == Some(port)).await {
        error.log();
        // Where no socket can be had, no Unix socket can, and that is said already.
        if error.is_of_every_socket() {
            return;
        }
    }
    let admin_path = match admin {
        AdminAddress::Unix(path) => Some(path.as_path()),
        AdminAddress::Tcp(_) => None,
    };
    if let Err(error) = refuse_new_unix_connections(child, admin_path).await {
        error.log();
    }
}

/// Returns the TCP ports on which inbound listeners listen, and no other listener does.
pub(crate) fn inbound_ports(listeners: &[Listener]) -> BTreeSet<u16> {
    let ports = |inbound: bool| {
        let meant = listeners.iter().filter(move |it| it.inbound == inbound);
        let addresses = meant.flat_map(|listener| &listener.addresses);
        addresses.filter_map(|address| match address {
            ListenAddress::Socket {
                port, udp: false, ..
            } => Some(*port),
            ListenAddress::Socket { .. } | ListenAddress::Pipe(_) | ListenAddress::Other => None,
        })
    };
    let mut inbound = BTreeSet::new();
    inbound.extend(ports(true));
    for port in ports(false) {
        inbound.remove(&port);
    }
    inbound
}

/// The pause after a look that took so long: at least the given one, and long enough that looking
/// takes a third of the time at most, on a host whose tables are long.
///
/// This process may have been stopped in the middle of the look. Then what is seen next decides, and
/// there is only [`LOOK_AROUND`] for it, so the pause is short.
pub(crate) fn pause_after(look: Duration, least: Duration) -> Duration {
    if look > LOOK_AROUND {
        return least.max(LOOK_AROUND / 20);
    }
    look.saturating_mul(2).clamp(least, LOOK_AROUND.max(least))
}

/// The least pause between two looks of a wait that has gone on for so long: a sixteenth of it, so that the wait is
/// hardly longer than it must be, and one for minutes does not cost a look for each of its moments.
pub(crate) fn least_pause(waited: Duration, shortest: Duration) -> Duration {
    (waited / 16).clamp(shortest, shortest.max(LONGEST_PAUSE))
}

impl ListenerCounters {
    /// Reads the counters. Returns `None` if the statistics leave one out, as they may.
    async fn read(admin: &AdminClient) -> Option<Self> {
        let stats = admin
            .stats(r"^listener_manager\.(listener_stopped|total_listeners_active)$")
            .await
            .ok()?;
        let value = |wanted: &str| {
            let found = stats.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| *value)
        };
        Some(Self {
            active: value("listener_manager.total_listeners_active")?,
            stopped: value("listener_manager.listener_stopped")?,
        })
    }
}

/// Makes a call, and once more where the first has failed: one slow answer must not end a drain.
async fn retry_once<F, A>(call: F) -> Result<(), AdminError>
where
    F: Fn() -> A,
    A: Future<Output = Result<(), AdminError>>,
{
    match call().await {
        Err(error) if !error.is_nobody_there() => call().await,
        result => result,
    }
}

#[cfg(test)]
mod tests;
