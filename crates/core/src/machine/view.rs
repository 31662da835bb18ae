//! What a machine tells of itself. Nothing here changes it.

use super::pursuit::Stage;
use super::{Machine, Phase};
use crate::{Epoch, EpochInfo, Held, LOOK_AROUND, Outcome, Policy, Timestamp};

/// How the desired configuration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// None has been asked for.
    Nothing,
    /// It serves, with this epoch.
    Live(Epoch),
    /// It is on its way; the reason tells what it waits for.
    Pending(Held),
    /// It was given up, last after this epoch.
    GivenUp(Epoch),
    /// It ended cleanly and is not started again.
    Stayed,
    /// It will not be started any more: the machine drains, stops or has finished.
    Ending,
}

impl<C: Clone + Eq> Machine<C> {
    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where the machine is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How the machine's work ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Finished(outcome) => Some(outcome),
            Phase::Running | Phase::Draining { .. } | Phase::Stopping(_) => None,
        }
    }

    /// The running epochs, oldest first.
    pub fn epochs(&self) -> impl DoubleEndedIterator<Item = EpochInfo> {
        self.slots.iter().map(|slot| EpochInfo {
            epoch: slot.epoch,
            state: slot.view(),
            purpose: slot.purpose,
            started: slot.started,
            desired: !slot.is_drain() && self.runs_desired(slot),
            released: slot.is_released(),
            withdrawn: slot.withdrawn().is_some(),
        })
    }

    /// The configuration that was asked for last. It is gone once it was handed out by
    /// [`Output::Panic`](crate::Output::Panic).
    #[must_use]
    pub fn desired(&self) -> Option<&C> {
        self.desired.as_ref().map(|desired| &desired.config)
    }

    /// The configuration of the newest epoch that is starting or live.
    #[must_use]
    pub fn current(&self) -> Option<&C> {
        self.current_slot()?.config.as_ref()
    }

    /// How many retries the desired configuration has left.
    #[must_use]
    pub fn retries_left(&self) -> Option<u32> {
        self.desired.as_ref().map(|desired| desired.budget.left())
    }

    /// Why what is desired is not being started, if it is neither current nor about to be.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.why_held()
    }

    /// Until when deadlines that had passed unhandled are put off, see
    /// [`LOOK_AROUND`]; `None` when none is.
    #[must_use]
    pub fn looks_around_until(&self) -> Option<Timestamp> {
        let woke = self.woke?;
        self.moments()
            .any(|deadline| self.is_put_off(deadline.at))
            .then(|| woke.after(LOOK_AROUND))
    }

    /// Whether an older configuration serves because the desired one was given up.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        matches!(self.phase, Phase::Running) && matches!(self.standing(), Standing::GivenUp(_))
    }

    /// How the desired configuration stands.
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
            Stage::Stayed => Standing::Stayed,
            Stage::Ready | Stage::Waiting(_) => {
                self.held().map_or(Standing::Nothing, Standing::Pending)
            }
        }
    }
}
