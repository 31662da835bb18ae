//! A configuration that the machine tries to get running.

use core::time::Duration;

use handover_retry::Budget;

use crate::{Epoch, GaveUp, Timestamp};

/// The generation of an epoch that no desire asks for any more: one that drains, one that was started
/// to drain the others, and one that a cold restart ends.
pub(super) const NO_DESIRE: u64 = 0;

/// A configuration, its retry budget and how far its pursuit has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Pursuit<C> {
    pub(super) config: C,
    /// Which desire this is, from 1; the epochs started for it carry the same number.
    pub(super) generation: u64,
    /// Whether a start of it is a further one: it was started, or an epoch with an equal configuration has
    /// ended since it was asked for.
    #[cfg_attr(feature = "serde", serde(default))]
    pub(super) tried: bool,
    pub(super) budget: Budget,
    pub(super) stage: Stage,
}

/// Whether a configuration may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Stage {
    /// It may be started, or it runs.
    Ready,
    /// It failed; it may be started from this moment on.
    Waiting(Timestamp),
    /// It failed too often, or for good, last with this epoch.
    GivenUp { epoch: Epoch, why: GaveUp },
    /// It ended cleanly, and that is taken as wanted.
    NotRestarted,
}

impl Stage {
    /// The stage of what is put off by `delay`.
    pub(super) fn after(now: Timestamp, delay: Duration) -> Self {
        if delay.is_zero() {
            Self::Ready
        } else {
            Self::Waiting(now.after(delay))
        }
    }

    pub(super) fn waits_until(self) -> Option<Timestamp> {
        match self {
            Self::Waiting(at) => Some(at),
            Self::Ready | Self::GivenUp { .. } | Self::NotRestarted => None,
        }
    }
}
