//! The statistics of the epochs, for those who want them of all of them.
//!
//! Only the newest epoch can be asked: a child takes its parent's admin endpoint as it starts. So the parent is
//! looked at once more just before. What it counts after that, while it drains, its child takes over, by
//! Envoy's own protocol: counters and gauges, but no histograms. See [`Flush`](crate::statistics::Flush) for what makes that exact.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use handover_core::Epoch;
use handover_runtime::time_limit::timeout;
use tokio::time::sleep;

use super::Envoy;
use super::observed::Observed;
use super::running::EnvoyProcess;
use crate::admin::{AdminClient, AdminError};

/// How long the epochs may take to answer. Prometheus waits ten seconds, unless it is told otherwise.
const ANSWER: Duration = Duration::from_secs(5);

/// How long the last look may take, by which a start or an end is later. With 10,000 clusters, Envoy 1.40 needs
/// 0.3 s of a processor for it, and longer where the machine is busy.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How often the newest epoch takes over what older ones count while they drain. What comes after the last time
/// before the end of such an epoch is lost.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// How often an epoch is asked whose endpoint changes hands meanwhile.
const TRIES: usize = 3;

/// The statistics of a running epoch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EpochStatistics {
    /// The number of the epoch.
    pub epoch: Epoch,
    /// All that it counts, in the text format of Prometheus, or why that is not known.
    pub text: Result<Bytes, NotScraped>,
}

/// Why the statistics of an epoch are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotScraped {
    /// Nobody took the connection, or it broke.
    Unreachable,
    /// There was no complete answer in time.
    TimedOut,
    /// The answer was a refusal, as with `admin.allow_paths`.
    Refused,
    /// The answer was too large.
    TooLarge,
    /// The answer was that of something else.
    Invalid,
}

impl From<&AdminError> for NotScraped {
    fn from(error: &AdminError) -> Self {
        match error {
            AdminError::TimedOut { .. } => Self::TimedOut,
            AdminError::Status { .. } => Self::Refused,
            AdminError::TooLarge { .. } => Self::TooLarge,
            AdminError::Connect { .. } | AdminError::Http { .. } => Self::Unreachable,
            AdminError::Unexpected { .. } | AdminError::NoGauge { .. } => Self::Invalid,
        }
    }
}

/// Asks who answers at the endpoint of the newest epoch, and for its statistics.
pub(super) async fn of_each(envoy: &Envoy, only_used: bool) -> Vec<EpochStatistics> {
    let Some(newest) = envoy.running.newest() else {
        return Vec::new();
    };
    let admin = newest.admin().with_time_limit(ANSWER);
    let asked = ask(envoy, &newest, &admin, only_used);
    let asked = timeout(ANSWER, asked).await;
    let (epoch, text) = match asked {
        Ok(Ok((epoch, text))) => (epoch, Ok(text)),
        Ok(Err(error)) => (newest.epoch, Err(error)),
        Err(_) => (newest.epoch, Err(NotScraped::TimedOut)),
    };
    vec![EpochStatistics { epoch, text }]
}

async fn ask(
    envoy: &Envoy,
    newest: &EnvoyProcess,
    admin: &AdminClient,
    only_used: bool,
) -> Result<(Epoch, Bytes), NotScraped> {
    let failed = |error: AdminError| {
        tracing::debug!(epoch = newest.epoch.number(), "{error}");
        NotScraped::from(&error)
    };
    for _ in 0..TRIES {
        let before = admin.server_info().await.map_err(failed)?.restart_epoch;
        if newest.flush.is_when_asked() {
            // Histograms are merged after the answer to this, so that those of the next one are new.
            admin.flush_statistics().await.map_err(failed)?;
        }
        let text = admin.prometheus(only_used).await.map_err(failed)?;
        let after = admin.server_info().await.map_err(failed)?.restart_epoch;
        let mut running = envoy.running.all();
        running.retain(|process| process.restart_epoch() == before);
        // Epochs of two lineages may call themselves the same. The newer one has the endpoint once it is live.
        let is_known = match running.as_slice() {
            [] => false,
            [_] => true,
            [.., newer] => envoy.running.table().is_live(newer.epoch),
        };
        if let Some(process) = running.last()
            && is_known
            && before == after
        {
            return Ok((process.epoch, text.into()));
        }
    }
    Err(NotScraped::Invalid)
}

/// Looks at the statistics of an epoch for the last time, if they are wanted and it still has its endpoint, and
/// passes them on.
pub(super) async fn last_look(envoy: &Envoy, process: &EnvoyProcess) {
    let epoch = process.epoch;
    let has_endpoint = || {
        let table = envoy.running.table();
        // The endpoint goes with the listeners.
        table.is_live(epoch) && table.has_listeners(epoch)
    };
    if !envoy.settings.statistics || !has_endpoint() {
        return;
    }
    let admin = process.admin().with_time_limit(LAST_LOOK);
    let is_answering = async || {
        let answering = admin.server_info().await?.restart_epoch;
        Ok::<_, AdminError>(answering == process.restart_epoch())
    };
    let asked = async {
        if !is_answering().await? {
            return Ok(None);
        }
        if process.flush.is_when_asked() {
            admin.flush_statistics().await?;
        }
        let text = admin.prometheus(true).await?;
        Ok(is_answering().await?.then_some(text))
    };
    let text = match timeout(LAST_LOOK, asked).await {
        Ok(Ok(Some(text))) => Ok(text.into()),
        // Another epoch has the endpoint, so this one was looked at before.
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::debug!(epoch = epoch.number(), "{error}");
            Err(NotScraped::from(&error))
        }
        Err(_) => Err(NotScraped::TimedOut),
    };
    if let Err(error) = &text {
        tracing::warn!(
            epoch = epoch.number(),
            "what epoch {epoch} has counted is not known at its end ({error:?}), and may be missing in its statistics"
        );
    }
    envoy.observer.tell(Observed::Statistics { epoch, text });
}

/// Lets the newest epoch take over what this older one counts. Envoy does that by itself where it closes its
/// intervals itself.
pub(super) async fn be_taken_over(envoy: &Envoy, process: &EnvoyProcess) -> Infallible {
    if !envoy.settings.statistics {
        return std::future::pending().await;
    }
    loop {
        sleep(TAKE_OVER).await;
        let (newest, live) = (envoy.running.newest(), envoy.running.newest_live());
        let (Some(newest), Some(live)) = (newest, live) else {
            continue;
        };
        // After its last look it must not be asked again.
        if newest.epoch == live.epoch
            && live.epoch > process.epoch
            && live.lineage.id() == process.lineage.id()
            && live.flush.is_when_asked()
        {
            let admin = live.admin().with_time_limit(LAST_LOOK);
            // It may be about to end. The next time sees to the rest.
            let _taken = admin.flush_statistics().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_reason() {
        let address: crate::admin::AdminAddress = "127.0.0.1:9901".parse().unwrap();
        let path = "/stats/prometheus";
        for (error, reason) in [
            (
                AdminError::Status {
                    address: address.clone(),
                    path,
                    status: 403,
                    body: String::new(),
                },
                NotScraped::Refused,
            ),
            (
                AdminError::TooLarge {
                    address: address.clone(),
                    path,
                    limit: 1,
                },
                NotScraped::TooLarge,
            ),
            (
                AdminError::TimedOut {
                    address: address.clone(),
                    path,
                    limit: ANSWER,
                },
                NotScraped::TimedOut,
            ),
            (
                AdminError::Connect {
                    address: address.clone(),
                    source: std::io::ErrorKind::ConnectionRefused.into(),
                },
                NotScraped::Unreachable,
            ),
            (
                AdminError::Unexpected {
                    address,
                    path,
                    why: String::new(),
                },
                NotScraped::Invalid,
            ),
        ] {
            assert_eq!(NotScraped::from(&error), reason, "{error}");
        }
    }
}
