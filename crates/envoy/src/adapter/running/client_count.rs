//! Counting the connections that clients have to an epoch: from outside where that can be done, and by
//! its statistics otherwise. What cannot be counted in either way is unknown, not zero.
//!
//! From outside comes first, because it is exact: the statistics may leave connections out, and those
//! of the newest epoch contain its parent's, up to five seconds after they have ended.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use handover_tokio::error_chain;
use tokio::time::sleep;

use super::sockets::NotSeen;
use super::{EnvoyProcess, RunningEpochs};
use crate::adapter::drain::CutConnections;
use crate::adapter::epochs::draining::Count;
use crate::admin::{AdminClient, AdminError, ListenerConnections};
use crate::drain::{CountClients, ListenersSeen, NotCounted};

/// How long an Envoy that ends may take from closing its connections to its end. Measured: 14 ms.
pub(in crate::adapter) const TIME_TO_END: Duration = Duration::from_millis(250);

/// Why the connections of an epoch are unknown. It shows as one sentence without a full stop.
#[derive(Debug)]
pub(in crate::adapter) struct UnknownCount {
    outside: NotSeen,
    /// Why the statistics do not tell either, where there are any: an old epoch has none.
    statistics: Option<AdminError>,
}

impl UnknownCount {
    /// Whether the epoch has ended, so that there is nothing more to count.
    pub(in crate::adapter) fn has_ended(&self) -> bool {
        matches!(self.outside, NotSeen::Ended)
    }
}

#[cfg(test)]
impl UnknownCount {
    /// That of an epoch that has ended.
    pub(in crate::adapter) fn of_ended() -> Self {
        Self {
            outside: NotSeen::Ended,
            statistics: None,
        }
    }

    /// That of an epoch that runs.
    pub(in crate::adapter) fn of_running() -> Self {
        Self {
            outside: NotSeen::Late,
            statistics: Some(AdminError::TimedOut {
                address: "127.0.0.1:9901".parse().unwrap(),
                path: "/stats",
                limit: Duration::from_secs(1),
            }),
        }
    }
}

impl std::error::Error for UnknownCount {}

impl fmt::Display for UnknownCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not from outside: {}", self.outside)?;
        match &self.statistics {
            Some(error) => write!(f, "; not by the statistics: {}", error_chain(error)),
            None => Ok(()),
        }
    }
}

impl RunningEpochs {
    /// Returns the listeners of the live epoch on which clients have connections.
    pub(in crate::adapter) async fn count_live(
        &self,
        process: &EnvoyProcess,
    ) -> Result<Vec<ListenerConnections>, UnknownCount> {
        let admin = process.admin();
        let exclude = &self.exclude;
        let outside = match self.count_from_outside(process, exclude).await {
            Ok(holding) if holding.is_empty() => {
                return self.believe_none(process, &admin).await;
            }
            Ok(holding) => return Ok(holding),
            Err(outside @ NotSeen::Ended) => {
                let statistics = None;
                return Err(UnknownCount {
                    outside,
                    statistics,
                });
            }
            Err(outside) => outside,
        };
        let listeners = &process.config.bootstrap().listeners;
        match admin.active_connections(exclude, listeners).await {
            Ok(holding) => {
                let epoch = process.epoch;
                if self.table().log_count_once(epoch) {
                    tracing::info!(
                        epoch = epoch.number(),
                        "the connections of epoch {epoch} are counted by its statistics, because \
                         they cannot be seen from outside: {outside}"
                    );
                }
                Ok(holding)
            }
            Err(error) => Err(UnknownCount {
                outside,
                statistics: Some(error),
            }),
        }
    }

    /// An Envoy that was told to end by somebody else closes its connections first. So none is believed
    /// once Envoy has answered afterwards, or, where it cannot be asked, has not ended in the time that
    /// an end takes.
    async fn believe_none(
        &self,
        process: &EnvoyProcess,
        admin: &AdminClient,
    ) -> Result<Vec<ListenerConnections>, UnknownCount> {
        if !matches!(admin.ready().await, Ok(_) | Err(AdminError::Status { .. })) {
            sleep(TIME_TO_END).await;
        }
        self.count_old(process).await
    }

    /// Returns the same for an old epoch, or one whose admin endpoint is gone.
    pub(in crate::adapter) async fn count_old(
        &self,
        process: &EnvoyProcess,
    ) -> Result<Vec<ListenerConnections>, UnknownCount> {
        let counted = self.count_from_outside(process, &self.exclude).await;
        counted.map_err(|outside| UnknownCount {
            outside,
            statistics: None,
        })
    }

    /// Logs once for each epoch that its connections are unknown, and what follows from it.
    pub(in crate::adapter) fn log_unknown_count(&self, process: &EnvoyProcess, why: &UnknownCount) {
        let epoch = process.epoch;
        if !why.has_ended() && self.table().log_count_once(epoch) {
            tracing::warn!(
                epoch = epoch.number(),
                "the connections of epoch {epoch} cannot be counted, so the drain lasts until its \
                 limit: {why}"
            );
        }
    }
}

impl From<&Result<Vec<ListenerConnections>, UnknownCount>> for Count {
    fn from(counted: &Result<Vec<ListenerConnections>, UnknownCount>) -> Self {
        match counted {
            Ok(holding) => Self::Open(holding.iter().map(|listener| listener.active).sum()),
            Err(why) if why.has_ended() => Self::Ended,
            Err(_) => Self::Unknown,
        }
    }
}

/// Counts for the drain of the live epoch.
pub(in crate::adapter) struct LiveClients<'a> {
    pub(in crate::adapter) running: &'a RunningEpochs,
    pub(in crate::adapter) process: &'a EnvoyProcess,
    pub(in crate::adapter) cut: &'a CutConnections,
}

#[async_trait]
impl CountClients for LiveClients<'_> {
    async fn count(&self) -> Result<Vec<ListenerConnections>, NotCounted> {
        self.process.note_told_to_close();
        let counted = self.running.count_live(self.process).await;
        self.cut.note_held(self.process.epoch, &counted);
        counted.map_err(|error| {
            self.running.log_unknown_count(self.process, &error);
            NotCounted {
                is_final: error.has_ended(),
                error: error.into(),
            }
        })
    }

    async fn closing(&self) -> ListenersSeen {
        let exclude = &self.running.exclude;
        self.running.closing(self.process, exclude).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_counted_is_unknown_unless_it_has_ended() {
        let on = |active| ListenerConnections {
            listener: "web".to_owned(),
            active,
        };
        assert_eq!(Count::from(&Ok(vec![])), Count::Open(0));
        assert_eq!(Count::from(&Ok(vec![on(2), on(3)])), Count::Open(5));
        assert_eq!(Count::from(&Err(UnknownCount::of_ended())), Count::Ended);
        let unknown = Err(UnknownCount::of_running());
        assert_eq!(Count::from(&unknown), Count::Unknown);
    }

    #[test]
    fn it_is_told_why_neither_way_of_counting_works() {
        insta::assert_snapshot!(UnknownCount::of_running(), @"not from outside: it closed its listeners before they were seen; not by the statistics: the admin endpoint 127.0.0.1:9901 did not answer /stats within 1s");
        insta::assert_snapshot!(UnknownCount::of_ended(), @"not from outside: it has ended");
    }
}
