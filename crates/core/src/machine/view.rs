//! What a machine tells of itself. Nothing here changes it.

use super::pursuit::Stage;
use super::{Machine, Phase};
use crate::{Epoch, EpochInfo, Held, LOOK_AROUND, Outcome, Policy, Timestamp};

/// The state of the desired configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No configuration was desired yet.
    Nothing,
    /// The desired configuration serves, with this epoch.
    Live(Epoch),
    /// The desired configuration is not live yet, for this reason.
    Pending(Held),
    /// The desired configuration was given up. This epoch failed last.
    GivenUp(Epoch),
    /// The desired configuration ended cleanly, and is not started again.
    NotRestarted,
    /// The desired configuration will not be started, because the machine drains, stops or has
    /// finished.
    Ending,
}

impl<C: Clone + Eq> Machine<C> {
    /// Returns the policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the stage of the machine's life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns the outcome, or `None` until the machine has finished.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Finished(outcome) => Some(outcome),
            Phase::Running | Phase::Draining { .. } | Phase::Stopping(_) => None,
        }
    }

    /// Returns the running epochs, oldest first.
    pub fn epochs(&self) -> impl DoubleEndedIterator<Item = EpochInfo> {
        self.slots.iter().map(|slot| EpochInfo {
            epoch: slot.epoch,
            state: slot.view(),
            purpose: slot.purpose,
            started: slot.started,
            desired: !slot.is_drain() && self.runs_desired(slot),
            released: slot.is_released(),
            withdrawn: slot.withdrawn().is_some(),
            on_probation: slot.is_on_probation() && self.phase == Phase::Running,
            unfit: slot.is_unfit(),
        })
    }

    /// Returns the configuration that was desired last. It is gone once
    /// [`Output::Panic`](crate::Output::Panic) has handed it out.
    #[must_use]
    pub fn desired(&self) -> Option<&C> {
        self.desired.as_ref().map(|desired| &desired.config)
    }

    /// Returns the configuration of the newest epoch that is starting or live.
    #[must_use]
    pub fn current(&self) -> Option<&C> {
        self.current_slot()?.config.as_ref()
    }

    /// Returns the retries that the desired configuration has left, or `None` if there is none.
    #[must_use]
    pub fn retries_left(&self) -> Option<u32> {
        self.desired.as_ref().map(|desired| desired.budget.left())
    }

    /// Returns why the desired configuration is not being started. `None` means that it is current,
    /// or about to be.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.why_held()
    }

    /// Returns the time until which missed deadlines are postponed, see [`LOOK_AROUND`]. `None`
    /// means that none is.
    #[must_use]
    pub fn looks_around_until(&self) -> Option<Timestamp> {
        let woke = self.woke?;
        self.moments()
            .any(|deadline| self.is_put_off(deadline.at))
            .then(|| woke.after(LOOK_AROUND))
    }

    /// Returns whether an older configuration serves because the desired one was given up.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        matches!(self.phase, Phase::Running) && matches!(self.standing(), Standing::GivenUp(_))
    }

    /// Returns the state of the desired configuration.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.phase {
            Phase::Running => {}
            Phase::Stopping(Outcome::GaveUp { epoch, .. })
            | Phase::Finished(Outcome::GaveUp { epoch, .. }) => return Standing::GivenUp(epoch),
            Phase::Draining { .. } | Phase::Stopping(_) | Phase::Finished(_) => {
                return Standing::Ending;
            }
        }
        let Some(desired) = &self.desired else {
            return Standing::Nothing;
        };
        if let Some(slot) = self.current_slot().filter(|slot| self.runs_desired(slot)) {
            return if slot.is_live() {
                Standing::Live(slot.epoch)
            } else {
                Standing::Pending(Held::Starting(slot.epoch))
            };
        }
        match desired.stage {
            Stage::GivenUp { epoch, .. } => Standing::GivenUp(epoch),
            Stage::NotRestarted => Standing::NotRestarted,
            Stage::Ready | Stage::Waiting(_) => {
                self.held().map_or(Standing::Nothing, Standing::Pending)
            }
        }
    }
}
