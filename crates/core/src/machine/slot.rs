//! One running epoch.

use super::pursuit::NO_DESIRE;
use crate::{Abort, Epoch, Output, Purpose, Timestamp};

/// An epoch from its start until its exit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Slot<C> {
    pub(super) epoch: Epoch,
    pub(super) purpose: Purpose,
    /// Which desire it was started for, or [`NO_DESIRE`].
    pub(super) generation: u64,
    /// Its configuration; `None` for the epoch that drains the others.
    pub(super) config: Option<C>,
    /// It does not count as what is desired, even if its configuration is equal: a renewal was asked
    /// for after its start, or it was aborted or late before the desire.
    pub(super) outdated: bool,
    pub(super) started: Timestamp,
    /// A newer epoch was started to serve while this one served or started: it may take the listeners
    /// over, and fail before it is live.
    pub(super) contested: bool,
    pub(super) state: State,
}

/// Where an epoch is in its life; the picture is in the [module](super) that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum State {
    Starting {
        /// When the machine asked for the start to be given up, if it has.
        withdrawn: Option<Timestamp>,
        /// It was not live by its start deadline, which is a failure unless it goes live after all.
        late: bool,
    },
    Live {
        since: Timestamp,
        /// It has been live for the policy's `reset_after`.
        healthy: bool,
        trial: Trial,
    },
    Draining {
        /// It has nothing left to lose and does not count towards the cap.
        released: bool,
        /// It was told that a newer one serves in its place.
        retired: bool,
    },
    Aborting {
        how: Abort,
        since: Timestamp,
        /// It was aborted because it did not go live in time, which is a failure.
        timed_out: bool,
    },
}

/// What is known of whether a live epoch serves as well as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Trial {
    /// It may yet be found unfit.
    OnProbation,
    /// Nothing was found while it was on probation, or the policy has none, or it had served before.
    Passed,
    /// It serves worse than the one before.
    Unfit,
}

/// The state of a running epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum EpochState {
    /// The epoch was started, and has not reported that it serves.
    Starting,
    /// The epoch serves, and no newer epoch does.
    Live,
    /// A newer epoch serves. This one finishes its connections and exits by itself.
    Draining,
    /// The epoch was told to stop in this way, and has not exited.
    Aborting(Abort),
}

/// A running epoch, as [`Machine::epochs`](super::Machine::epochs) shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EpochInfo {
    /// The number of the epoch.
    pub epoch: Epoch,
    /// The state of the epoch.
    pub state: EpochState,
    /// What the epoch was started for.
    pub purpose: Purpose,
    /// The time of its start.
    pub started: Timestamp,
    /// Whether the epoch runs the desired configuration.
    pub desired: bool,
    /// Whether the epoch was released, so that it does not count towards
    /// [`Policy::max_epochs`](crate::Policy::max_epochs).
    pub released: bool,
    /// Whether its start was withdrawn, and no answer has come yet.
    pub withdrawn: bool,
    /// Whether the epoch is live and on [`Policy::probation`](crate::Policy::probation).
    pub on_probation: bool,
    /// Whether the epoch is live and was found [unfit](crate::Input::Unfit).
    pub unfit: bool,
}

impl<C> Slot<C> {
    /// Makes it aborting; the output tells the caller.
    pub(super) fn abort(&mut self, how: Abort, since: Timestamp, timed_out: bool) -> Output<C> {
        self.state = State::Aborting {
            how,
            since,
            timed_out,
        };
        let epoch = self.epoch;
        Output::Abort { epoch, how }
    }

    /// Lets nothing follow from it any more. It is neither what is desired nor what served last, even
    /// if its configuration is asked for or started again; and that it is late is no failure. So it
    /// is with what drains, and with what a cold restart ends.
    pub(super) fn disown(&mut self) {
        self.generation = NO_DESIRE;
        if let State::Aborting { timed_out, .. } = &mut self.state {
            *timed_out = false;
        }
    }

    /// Whether it may be what is desired, if its configuration is equal.
    pub(super) fn counts(&self) -> bool {
        self.generation != NO_DESIRE && !self.outdated
    }

    pub(super) fn view(&self) -> EpochState {
        match self.state {
            State::Starting { .. } => EpochState::Starting,
            State::Live { .. } => EpochState::Live,
            State::Draining { .. } => EpochState::Draining,
            State::Aborting { how, .. } => EpochState::Aborting(how),
        }
    }

    pub(super) fn is_aborting(&self) -> bool {
        matches!(self.state, State::Aborting { .. })
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.state, State::Starting { .. })
    }

    /// When its start was withdrawn, while no answer has come.
    pub(super) fn withdrawn(&self) -> Option<Timestamp> {
        match self.state {
            State::Starting { withdrawn, .. } => withdrawn,
            State::Live { .. } | State::Draining { .. } | State::Aborting { .. } => None,
        }
    }

    /// Whether it starts, and was not live in time.
    pub(super) fn is_late(&self) -> bool {
        matches!(self.state, State::Starting { late: true, .. })
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    fn trial(&self) -> Option<Trial> {
        match self.state {
            State::Live { trial, .. } => Some(trial),
            State::Starting { .. } | State::Draining { .. } | State::Aborting { .. } => None,
        }
    }

    pub(super) fn is_on_probation(&self) -> bool {
        self.trial() == Some(Trial::OnProbation)
    }

    pub(super) fn is_unfit(&self) -> bool {
        self.trial() == Some(Trial::Unfit)
    }

    /// Whether it is live and worth going back to.
    pub(super) fn is_proven(&self) -> bool {
        self.trial() == Some(Trial::Passed)
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    pub(super) fn is_released(&self) -> bool {
        matches!(self.state, State::Draining { released: true, .. })
    }

    pub(super) fn is_drain(&self) -> bool {
        self.purpose == Purpose::Drain
    }
}
