//! The flag that an epoch leaves in shared memory when it ends while it initialises.

use handover_core::Epoch;

use super::lines::Line;
use super::{Envoy, EnvoyFailed};
use crate::hot_restart::{Repair, RepairError, State};

impl Envoy {
    /// Clears the flag that an epoch leaves in shared memory when it ends while it initialises, once
    /// it is reaped and while no other one initialises.
    pub(super) fn repair(&self, epoch: Epoch, line: &Line) -> Result<(), RepairError> {
        if !self.settings.repair
            || self.epochs.any_initializes(line)
            || !self.epochs.others_run(line, epoch)
        {
            return Ok(());
        }
        match line.shared_memory().clear_initializing() {
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

    /// Refuses to start an epoch that would find the flag of a dead one. Where the layout of the
    /// memory is unknown the flag cannot be seen; then Envoy itself says that it is set.
    pub(super) fn check_flag(&self, line: &Line) -> Result<(), EnvoyFailed> {
        if self.settings.repair || self.epochs.any_initializes(line) {
            return Ok(());
        }
        match line.shared_memory().inspect() {
            Ok(State::Known { initializing: true }) => self.stuck(line, None).map_or(Ok(()), Err),
            Ok(State::Known { .. } | State::Absent | State::Unknown { .. }) => Ok(()),
            Err(error) => {
                tracing::debug!("{error}");
                Ok(())
            }
        }
    }

    /// That the flag stays set, where an epoch serves that can be held.
    pub(super) fn stuck(&self, line: &Line, source: Option<RepairError>) -> Option<EnvoyFailed> {
        let (holding, _) = self.epochs.newest_live()?;
        Some(EnvoyFailed::Stuck {
            holding,
            path: line.shared_memory().path().to_owned(),
            source,
        })
    }
}
