//! What is known of an epoch, of a configuration and of the step under way.

use core::time::Duration;

use handover_core::{Abort, Epoch, EpochState, Exit, GaveUp, Purpose, Timestamp};

/// A running epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watched<C> {
    /// Nothing for the one that drains the others.
    pub(super) config: Option<C>,
    pub(super) purpose: Purpose,
    pub(super) started: Timestamp,
    pub(super) live: Option<Timestamp>,
    /// It was started as the fallback, and that has not become the desired configuration since.
    pub(super) fallback: bool,
    /// It was started before a renewal, or aborted or late before the last desire.
    pub(super) outdated: bool,
    /// A cold restart ends it, so nothing follows from its exit.
    pub(super) forgiven: bool,
    pub(super) released: bool,
    /// A newer one is live, or it serves no more.
    pub(super) drains: bool,
    pub(super) retired: bool,
    /// When its start was withdrawn.
    pub(super) withdrawn: Option<Timestamp>,
    /// A newer one was started to serve while it started or served.
    pub(super) contested: bool,
    /// It was live for the policy's `reset_after`, and that was seen.
    pub(super) trusted: bool,
    /// Whether it may be found unfit, and whether it was.
    pub(super) trial: Trial,
    /// It did not go live in time, and has not since.
    pub(super) late: bool,
    pub(super) aborted: Option<Abort>,
}

impl<C> Watched<C> {
    /// An epoch that was just started; what it is for is said by the event that follows.
    pub(super) fn new(config: Option<C>, started: Timestamp) -> Self {
        Self {
            purpose: if config.is_some() {
                Purpose::Desired
            } else {
                Purpose::Drain
            },
            config,
            started,
            live: None,
            fallback: false,
            outdated: false,
            forgiven: false,
            released: false,
            drains: false,
            retired: false,
            withdrawn: None,
            contested: false,
            trusted: false,
            trial: Trial::None,
            late: false,
            aborted: None,
        }
    }

    pub(super) fn is_drain(&self) -> bool {
        self.purpose == Purpose::Drain
    }

    pub(super) fn may_serve(&self) -> bool {
        !self.drains && self.aborted.is_none()
    }

    pub(super) fn is_starting(&self) -> bool {
        self.live.is_none() && self.may_serve()
    }

    /// Whether this exit says that it had taken nothing over when its start was withdrawn.
    pub(super) fn is_dropped_by(&self, exit: Exit) -> bool {
        self.withdrawn.is_some() && !self.late && self.is_starting() && exit == Exit::Aborted
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.is_some() && self.may_serve()
    }

    /// Whether its end may still matter to the configuration that it runs.
    pub(super) fn is_asked_for(&self) -> bool {
        !self.drains && !self.forgiven
    }

    pub(super) fn is_fallback(&self) -> bool {
        self.fallback && self.is_asked_for()
    }

    /// Whether it serves and may be found unfit.
    pub(super) fn is_on_probation(&self) -> bool {
        self.is_live() && self.trial == Trial::Begun
    }

    /// Whether it serves and was found unfit.
    pub(super) fn is_unfit(&self) -> bool {
        self.is_live() && self.trial == Trial::Lost
    }

    /// As the machine must show it.
    pub(super) fn state(&self) -> EpochState {
        if let Some(how) = self.aborted {
            EpochState::Aborting(how)
        } else if self.drains {
            EpochState::Draining
        } else if self.live.is_some() {
            EpochState::Live
        } else {
            EpochState::Starting
        }
    }
}

/// How the probation of an epoch has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Trial {
    /// There is none, or it was passed.
    None,
    /// It has begun with the epoch going live.
    Begun,
    /// The epoch was found unfit.
    Lost,
}

/// A configuration that is to run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pursuit<C> {
    pub(super) config: C,
    /// The retries since the last refill.
    pub(super) used: u32,
    /// The last refill was for health, so its first retry did not wait.
    pub(super) at_once: bool,
    pub(super) stage: Stage,
    /// Nothing was started for it yet, and no epoch that ran the same has failed since.
    pub(super) untried: bool,
}

impl<C> Pursuit<C> {
    /// Of what has not been tried yet.
    pub(super) fn new(config: C) -> Self {
        Self {
            config,
            used: 0,
            at_once: false,
            stage: Stage::Due,
            untried: true,
        }
    }

    pub(super) fn refill(&mut self, at_once: bool) {
        self.used = 0;
        self.at_once = at_once;
    }
}

/// Whether a configuration may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// It may be.
    Due,
    /// It was, and no failure has been counted since.
    Started,
    /// Not before this moment.
    Waiting(Timestamp),
    /// Not any more.
    GivenUp(GaveUp),
    /// It has ended cleanly and is left alone.
    NotRestarted,
}

/// The event that must come in a step, and once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owed {
    /// This retry was used before as often as `used` says.
    Retry {
        purpose: Purpose,
        used: u32,
        at_once: bool,
    },
    GiveUp(GaveUp),
    LoseFallback,
    /// The epoch is called unfit, and replaced or not; then the desired configuration may be given up.
    Unfit {
        epoch: Epoch,
        replaced: bool,
        gives_up: bool,
    },
    Stay(Purpose),
    End,
}

/// A start whose event has not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Started {
    pub(super) epoch: Epoch,
    /// Whether anything served well before it.
    pub(super) beside_good: bool,
    /// Whether the desired configuration was current before it.
    pub(super) beside_desired: bool,
}

/// Returns the moment after which a retry may start.
pub(super) fn waiting(now: Timestamp, delay: Duration) -> Stage {
    if delay.is_zero() {
        Stage::Due
    } else {
        Stage::Waiting(now.after(delay))
    }
}
