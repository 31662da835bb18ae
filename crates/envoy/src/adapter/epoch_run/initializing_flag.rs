//! The flag that an epoch leaves in shared memory when it ends while it initialises.

use super::super::lineage::Lineage;
use super::super::{Envoy, EnvoyFailed};
use super::EpochRun;
use crate::hot_restart::{Repair, RepairError, SharedMemoryState};

impl EpochRun<'_> {
    /// Clears the flag that the epoch may have left in shared memory. It must have been reaped, and
    /// be gone from the table.
    pub(super) fn clear_initializing_flag(&self) -> Result<(), RepairError> {
        let (epoch, lineage) = (self.process.epoch, &self.process.lineage);
        let may_clear = self
            .envoy
            .running
            .table()
            .may_clear_flag(lineage.id(), epoch);
        if !self.envoy.settings.repair || !may_clear {
            return Ok(());
        }
        match lineage.shared_memory().clear_initializing() {
            Ok(Repair::Cleared) => tracing::info!(
                epoch = epoch.number(),
                "epoch {epoch} ended while it initialised; cleared the flag it left"
            ),
            Ok(Repair::Absent | Repair::NotNeeded) => {}
            Err(error) => {
                tracing::error!(epoch = epoch.number(), "{error}");
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Refuses to start an epoch that would find the flag of a dead one. Where the layout of the memory is
/// unknown the flag cannot be seen; then Envoy itself says that it is set.
pub(super) fn check(envoy: &Envoy, lineage: &Lineage) -> Result<(), EnvoyFailed> {
    if envoy.settings.repair || envoy.running.table().any_initializes(lineage.id()) {
        return Ok(());
    }
    match lineage.shared_memory().inspect() {
        Ok(SharedMemoryState::Known { initializing: true }) => stuck(envoy, lineage),
        Ok(
            SharedMemoryState::Known { .. }
            | SharedMemoryState::Absent
            | SharedMemoryState::Unknown { .. },
        ) => Ok(()),
        Err(error) => {
            tracing::debug!("{error}");
            Ok(())
        }
    }
}

/// Returns [`EnvoyFailed::Stuck`] if an epoch serves that can be held.
fn stuck(envoy: &Envoy, lineage: &Lineage) -> Result<(), EnvoyFailed> {
    let newest_live = envoy.running.table().newest_live();
    newest_live.map_or(Ok(()), |holding| {
        Err(EnvoyFailed::Stuck {
            holding,
            path: lineage.shared_memory().path().to_owned(),
            source: None,
        })
    })
}
