//! Replacing an Envoy by one that cannot take over from it by hot restart, because the two speak
//! different versions of that protocol: side by side, under two base ids.
//!
//! Both listen on the same ports, which the kernel allows because Envoy sets `SO_REUSEPORT`. What a
//! hot-restart child would say to its parent the agent says: first to close the admin endpoint,
//! which only one can have, and once the new one is live, to close the listeners. The end at the
//! parent-shutdown time comes from the agent as well.

use std::time::Duration;

use handover_core::Epoch;
use tokio::time::{Instant, sleep};

use super::super::lineage::Tenancy;
use super::super::running::EnvoyProcess;
use super::super::{Envoy, EnvoyFailed};
use super::EpochRun;
use super::launch::begin;
use super::retirement::wake_if_stopped;
use crate::syn_filter::keep_new_connections_away;

/// How long the old epoch gets to close its listeners: 2 s. It takes a few milliseconds. Meanwhile
/// the kernel drops what opens a connection to it, and clients try again.
const CLOSE: Duration = Duration::from_secs(2);

/// How often its listeners are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// The old epoch goes on listening although it was told not to.
pub(super) struct KeptListening;

/// Begins a lineage for an epoch that cannot take over from an older one, which closes its admin
/// endpoint. The older one serves on, whatever becomes of the new one.
pub(super) async fn begin_beside(
    envoy: &Envoy,
    epoch: Epoch,
    older: &EnvoyProcess,
) -> Result<Tenancy, EnvoyFailed> {
    let lineage = begin(envoy, epoch).await?;
    wake_if_stopped(older).await;
    older.lineage.parent(older.epoch).shut_down_admin().await?;
    Ok(lineage)
}

impl EpochRun<'_> {
    /// Lets the epoch close its listeners, so that all new connections go to the one in another
    /// lineage that is live, and waits until it has.
    pub(super) async fn give_way(&self) -> Result<(), KeptListening> {
        let process = &*self.process;
        let epoch = process.epoch;
        wake_if_stopped(process).await;
        // Its admin endpoint is closed, so every listener is one of clients.
        if let Err(error) = keep_new_connections_away(process.pid(), |_| false).await {
            error.log();
        }
        let parent = process.lineage.parent(epoch);
        for _ in 0..2 {
            if let Err(error) = parent.drain_listeners() {
                tracing::warn!(epoch = epoch.number(), "{error}");
            }
            if self.stops_listening().await {
                return Ok(());
            }
            wake_if_stopped(process).await;
        }
        tracing::warn!(
            epoch = epoch.number(),
            "epoch {epoch} does not close its listeners for the newer one and is killed"
        );
        Err(KeptListening)
    }

    /// Returns whether the epoch has closed its listeners in time.
    async fn stops_listening(&self) -> bool {
        let end = Instant::now() + CLOSE;
        while !self.envoy.running.has_given_way(&self.process).await {
            if Instant::now() >= end {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }
}
