//! Counting the connections that clients have to an epoch: from outside where that can be done, and by
//! its statistics otherwise. What cannot be counted in either way is unknown, not zero.
//!
//! From outside comes first, because it is exact: the statistics may leave connections out, and those
//! of the newest epoch contain its parent's, up to five seconds after they have ended.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use handover_core::Epoch;
use handover_tokio::error_chain;
use tokio::time::sleep;

use super::epochs::NotSeen;
use super::{Envoy, EnvoyConfig};
use crate::admin::{AdminClient, AdminError, ListenerConnections};
use crate::drain::{CountClients, NotCounted};

/// How long an Envoy that ends may take from closing its connections to its end. Measured: 14 ms.
pub(super) const END: Duration = Duration::from_millis(250);

/// Why the connections of an epoch are unknown. It shows as one sentence without a full stop.
#[derive(Debug)]
pub(super) struct Unknown {
    outside: NotSeen,
    /// Why the statistics do not tell either, where there are any: an old epoch has none.
    statistics: Option<AdminError>,
}

impl Unknown {
    /// Whether the epoch has ended, so that there is nothing more to count.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.outside, NotSeen::Ended)
    }
}

impl std::error::Error for Unknown {}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not from outside: {}", self.outside)?;
        match &self.statistics {
            Some(error) => write!(f, "; not by the statistics: {}", error_chain(error)),
            None => Ok(()),
        }
    }
}

impl Envoy {
    /// The listeners of the live epoch on which clients have connections.
    pub(super) async fn count_live(
        &self,
        epoch: Epoch,
        config: &EnvoyConfig,
    ) -> Result<Vec<ListenerConnections>, Unknown> {
        let admin = AdminClient::new(config.bootstrap().admin.clone());
        let exclude = &self.settings.stop.exclude;
        let outside = match self.epochs.count_from_outside(epoch, exclude).await {
            Ok(holding) if holding.is_empty() => {
                return self.believe_none(epoch, &admin).await;
            }
            Ok(holding) => return Ok(holding),
            Err(outside @ NotSeen::Ended) => {
                let statistics = None;
                return Err(Unknown {
                    outside,
                    statistics,
                });
            }
            Err(outside) => outside,
        };
        let listeners = &config.bootstrap().listeners;
        match admin.active_connections(exclude, listeners).await {
            Ok(holding) => {
                if self.epochs.tell_once(epoch) {
                    tracing::info!(
                        epoch = epoch.number(),
                        "the connections of epoch {epoch} are counted by its statistics, because \
                         they cannot be seen from outside: {outside}"
                    );
                }
                Ok(holding)
            }
            Err(error) => Err(Unknown {
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
        epoch: Epoch,
        admin: &AdminClient,
    ) -> Result<Vec<ListenerConnections>, Unknown> {
        if !matches!(admin.ready().await, Ok(_) | Err(AdminError::Status { .. })) {
            sleep(END).await;
        }
        let exclude = &self.settings.stop.exclude;
        let again = self.epochs.count_from_outside(epoch, exclude).await;
        again.map_err(|outside| Unknown {
            outside,
            statistics: None,
        })
    }

    /// The same for an old epoch, or one whose admin endpoint is gone.
    pub(super) async fn count_old(
        &self,
        epoch: Epoch,
    ) -> Result<Vec<ListenerConnections>, Unknown> {
        let exclude = &self.settings.stop.exclude;
        let counted = self.epochs.count_from_outside(epoch, exclude).await;
        counted.map_err(|outside| Unknown {
            outside,
            statistics: None,
        })
    }

    /// Says once for each epoch that its connections are unknown, and what follows from it.
    pub(super) fn tell_unknown(&self, epoch: Epoch, why: &Unknown) {
        if !why.has_ended() && self.epochs.tell_once(epoch) {
            tracing::warn!(
                epoch = epoch.number(),
                "the connections of epoch {epoch} cannot be counted, so the drain takes all the time \
                 it has: {why}"
            );
        }
    }
}

/// Counts for the drain of the live epoch.
pub(super) struct LiveClients<'a> {
    pub(super) envoy: &'a Envoy,
    pub(super) epoch: Epoch,
    pub(super) config: &'a EnvoyConfig,
}

#[async_trait]
impl CountClients for LiveClients<'_> {
    async fn count(&self) -> Result<Vec<ListenerConnections>, NotCounted> {
        let counted = self.envoy.count_live(self.epoch, self.config).await;
        self.envoy.note_held(self.epoch, &counted);
        counted.map_err(|error| {
            self.envoy.tell_unknown(self.epoch, &error);
            NotCounted {
                is_final: error.has_ended(),
                error: error.into(),
            }
        })
    }

    async fn has_closed_its_listeners(&self) -> Option<bool> {
        let exclude = &self.envoy.settings.stop.exclude;
        let epochs = &self.envoy.epochs;
        epochs.has_closed_to_clients(self.epoch, exclude).await
    }
}
