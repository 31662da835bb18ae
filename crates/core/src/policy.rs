//! What the machine may be told to do differently, and the one function that decides by it.
//!
//! A new value of a policy is added to its enum here and given a meaning in [`consequence`]; no
//! other file matches on these enums.

use core::fmt;
use core::time::Duration;

use handover_retry::Retry;

use crate::Severity;

/// The behaviour of the machine, as plain data. [`Machine::new`](crate::Machine::new) checks it
/// once.
///
/// Start from a preset and change what differs:
///
/// ```
/// use core::time::Duration;
/// use handover_core::Policy;
///
/// let policy = Policy { start_deadline: Some(Duration::from_secs(30)), ..Policy::resilient() };
/// assert!(policy.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Policy {
    /// The number of retries of a failed configuration, and their delays.
    pub retry: Retry,
    /// When the next epoch may be started after the newest one was.
    pub advance: Advance,
    /// The longest time that an epoch may take to go live. Then its start is
    /// [withdrawn](crate::Output::Withdraw), and that it ends counts as a failure. It is aborted if it neither
    /// ends nor goes live within [`abort_grace`](Self::abort_grace). `None` is no limit.
    pub start_deadline: Option<Duration>,
    /// The time that a start is let be when a newer desire waits for it: another configuration, or a
    /// renewal. Then the start is [withdrawn](crate::Output::Withdraw), which costs no retry. `None`
    /// lets every start come to its own end.
    ///
    /// A start that is younger is let be, so that a burst of changes does not end each start that it
    /// meets. The time doubles with each start in a row that gave way, up to 32 times. It is counted
    /// from the beginning again once a start goes live, fails or is late. So a start that takes
    /// longer than the changes are apart goes live all the same. Once the time is as long as
    /// [`start_deadline`](Self::start_deadline), that deadline alone ends the start.
    ///
    /// It has no effect under [`Advance::AtOnce`], where no start holds a desire back.
    pub give_way_after: Option<Duration>,
    /// The shortest time between two starts that changes lead to, while an epoch serves. A change that comes
    /// sooner is [held](crate::Held::Interval), and the newest one is started when the time is over. `None` is
    /// no time.
    ///
    /// The first change is started at once. What is held is started at once too if nothing serves any more, or
    /// if what serves is [unfit](crate::Input::Unfit). A retry, a start after a crash and a return to the last good
    /// configuration neither wait nor count. A change that is held makes no start
    /// [give way](Self::give_way_after).
    pub min_interval: Option<Duration>,
    /// The number of epochs that may run at once when a new one is started, 2 or more. `None` is no
    /// limit.
    pub max_epochs: Option<u32>,
    /// What the failure of an epoch means for the others.
    pub on_failure: OnFailure,
    /// What happens when the desired configuration is given up.
    pub on_exhausted: OnExhausted,
    /// What a clean exit of the newest epoch means.
    pub on_clean_exit: OnCleanExit,
    /// The time that a gracefully aborted epoch has to exit. Then it is aborted immediately. With
    /// zero every abort is immediate.
    pub abort_grace: Duration,
    /// The time after live in which an epoch may be found [unfit](crate::Input::Unfit). `None` is no
    /// time at all.
    ///
    /// Until it is over, the configuration that served before is the last good one. Under
    /// [`OnExhausted::HoldLastGood`] it is gone back to when the new one is found unfit. It also serves
    /// while a new one that fails waits for its retry, and it is held if that one is given up.
    pub probation: Option<Duration>,
    /// The longest drain after a terminate. Then it is cut. `None` is no limit.
    pub drain_deadline: Option<Duration>,
}

/// When the next epoch may be started after the newest one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Advance {
    /// Start the next epoch only once the newest one is live or has exited.
    WhenLive,
    /// Start the next epoch at once, whether the newest one serves or not.
    AtOnce,
}

/// What the failure of an epoch means for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum OnFailure {
    /// The other epochs continue. Only a failure of the newest epoch costs a retry.
    KeepServing,
    /// A failure of any epoch aborts all others and costs a retry.
    AbortAll,
}

/// What happens when the desired configuration is given up, because its retries are spent or
/// because a retry cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum OnExhausted {
    /// Report it, abort every epoch and finish.
    Stop,
    /// Keep the older epoch that still serves, restart its configuration if it fails, and wait for
    /// another desire. If no epoch serves, behave as [`OnExhausted::Stop`]. After a cold restart,
    /// the configuration that the restart has ended is kept: see
    /// [`Input::Restart`](crate::Input::Restart).
    HoldLastGood,
}

/// What a clean exit of the newest epoch means while nobody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum OnCleanExit {
    /// The exit counts as wanted, and the configuration is not started again.
    Stay,
    /// The exit counts as a transient failure.
    Restart,
    /// The work is done: abort every epoch and finish.
    Stop,
}

impl Policy {
    /// Returns the behaviour of the reference implementation in Go, Istio 1.2, as its own tests fix
    /// it. It does not wait for live, aborts every epoch when one fails, leaves clean exits alone
    /// and aborts immediately.
    #[must_use]
    pub fn istio_1_2() -> Self {
        Self {
            advance: Advance::AtOnce,
            on_failure: OnFailure::AbortAll,
            abort_grace: Duration::ZERO,
            // Istio's TERMINATION_DRAIN_DURATION_SECONDS defaults to 5.
            drain_deadline: Some(Duration::from_secs(5)),
            ..Self::default()
        }
    }

    /// Returns the policy of the `handover` binary. A bad configuration never ends a good proxy,
    /// and a proxy that dies is started again.
    #[must_use]
    pub fn resilient() -> Self {
        Self {
            retry: Retry {
                max_interval: Some(Duration::from_secs(30)),
                reset_after: Some(Duration::from_secs(10)),
                ..Retry::default()
            },
            start_deadline: Some(Duration::from_secs(60)),
            give_way_after: Some(Duration::from_secs(2)),
            probation: Some(Duration::from_secs(10)),
            // With a third epoch, Envoy's hot restart protocol ends the oldest one at once and
            // cuts its long requests.
            max_epochs: Some(2),
            on_exhausted: OnExhausted::HoldLastGood,
            on_clean_exit: OnCleanExit::Restart,
            drain_deadline: Some(Duration::from_secs(5)),
            ..Self::default()
        }
    }

    /// Checks that the machine can honour this policy.
    ///
    /// # Errors
    ///
    /// - [`PolicyError::TooFewEpochs`]: with one epoch nothing could be handed over.
    /// - [`PolicyError::NoTimeToStart`]: with a start deadline of zero, no epoch could go live
    ///   in time.
    /// - [`PolicyError::NoTimeBeforeGivingWay`]: with a `give_way_after` of zero, a burst of changes
    ///   would end each start that it meets.
    /// - [`PolicyError::NoTimeForProbation`]: with a `probation` of zero, nothing could be seen in it.
    /// - [`PolicyError::NoTimeToProveHealth`]: with a `retry.reset_after` of zero, a proxy that
    ///   crashes as soon as it is live would be restarted without a pause and without end.
    pub const fn check(&self) -> Result<(), PolicyError> {
        if let Some(max @ (0 | 1)) = self.max_epochs {
            return Err(PolicyError::TooFewEpochs(max));
        }
        if let Some(Duration::ZERO) = self.start_deadline {
            return Err(PolicyError::NoTimeToStart);
        }
        if let Some(Duration::ZERO) = self.give_way_after {
            return Err(PolicyError::NoTimeBeforeGivingWay);
        }
        if let Some(Duration::ZERO) = self.probation {
            return Err(PolicyError::NoTimeForProbation);
        }
        if let Some(Duration::ZERO) = self.retry.reset_after {
            return Err(PolicyError::NoTimeToProveHealth);
        }
        Ok(())
    }
}

/// The documented contract of the reference implementation: ten retries from 200 ms, older epochs
/// are left alone, a clean exit is not restarted, and the agent ends when the budget is spent. A
/// start comes to its own end, because that contract never ends one for a newer desire.
impl Default for Policy {
    fn default() -> Self {
        Self {
            retry: Retry::default(),
            advance: Advance::WhenLive,
            start_deadline: None,
            give_way_after: None,
            min_interval: None,
            max_epochs: None,
            on_failure: OnFailure::KeepServing,
            on_exhausted: OnExhausted::Stop,
            on_clean_exit: OnCleanExit::Stay,
            abort_grace: Duration::from_secs(5),
            probation: None,
            drain_deadline: None,
        }
    }
}

/// The reason why a policy cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// `max_epochs` has this value, which is below 2.
    TooFewEpochs(u32),
    /// `start_deadline` is zero.
    NoTimeToStart,
    /// `give_way_after` is zero.
    NoTimeBeforeGivingWay,
    /// `probation` is zero.
    NoTimeForProbation,
    /// `retry.reset_after` is zero.
    NoTimeToProveHealth,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewEpochs(max) => write!(
                f,
                "max_epochs is {max}, but a hand-over needs the old and the new epoch: \
                 set it to 2 or more, or leave it out"
            ),
            Self::NoTimeToStart => f.write_str(
                "start_deadline is zero, so no epoch could ever go live in time: \
                 give the time a proxy may take, or leave it out",
            ),
            Self::NoTimeBeforeGivingWay => f.write_str(
                "give_way_after is zero, so a burst of changes would end every start: \
                 give the time a start is let be, or leave it out",
            ),
            Self::NoTimeForProbation => f.write_str(
                "probation is zero, so nothing could be seen in it: \
                 give the time a configuration may be found unfit in, or leave it out",
            ),
            Self::NoTimeToProveHealth => f.write_str(
                "retry.reset_after is zero, so a crash loop would never be slowed down: \
                 give the time a proxy must stay live, or leave it out",
            ),
        }
    }
}

impl core::error::Error for PolicyError {}

/// What an exited epoch was to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The newest, and it ran the desired configuration.
    Desired,
    /// It served, not superseded yet, with another configuration than the desired one.
    Serving,
    /// None of these: a newer one runs, or its configuration was replaced before it went live.
    Bystander,
}

/// How an epoch ended that nobody had aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Without an error.
    Clean,
    /// With one.
    Failed(Severity),
}

/// What follows from the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// Nothing more than saying so.
    Noted,
    /// The configuration is left as it is: ended, and not started again.
    Stays,
    /// One retry of the desired configuration.
    Retry {
        /// The others are aborted first.
        abort_others: bool,
    },
    /// The desired configuration is given up.
    GiveUp,
    /// The configuration of the exited epoch becomes the fallback.
    FallBack,
    /// The agent ends.
    Stop,
}

/// What follows from the end of an epoch under a policy. Here the policy's enums about exits get
/// their meaning.
pub(crate) fn consequence(policy: &Policy, role: Role, end: End) -> Consequence {
    match (end, role, policy.on_clean_exit) {
        (End::Clean, Role::Bystander, _)
        | (End::Clean, Role::Serving, OnCleanExit::Stay | OnCleanExit::Stop) => Consequence::Noted,
        (End::Clean, Role::Desired, OnCleanExit::Stay) => Consequence::Stays,
        (End::Clean, Role::Desired, OnCleanExit::Stop) => Consequence::Stop,
        (End::Clean, Role::Desired | Role::Serving, OnCleanExit::Restart) => {
            failure(policy, role, Severity::Transient)
        }
        (End::Failed(severity), _, _) => failure(policy, role, severity),
    }
}

fn failure(policy: &Policy, role: Role, severity: Severity) -> Consequence {
    match (policy.on_failure, role) {
        (_, Role::Desired) if severity == Severity::Permanent => Consequence::GiveUp,
        (OnFailure::KeepServing, Role::Desired) => Consequence::Retry {
            abort_others: false,
        },
        (OnFailure::KeepServing, Role::Serving) if may_hold(policy) => Consequence::FallBack,
        (OnFailure::KeepServing, Role::Serving | Role::Bystander) => Consequence::Noted,
        (OnFailure::AbortAll, _) => Consequence::Retry { abort_others: true },
    }
}

/// Whether an older epoch may be held when the desired configuration is given up. Where a failure
/// aborts every epoch, none is left to hold.
pub(crate) fn may_hold(policy: &Policy) -> bool {
    match (policy.on_exhausted, policy.on_failure) {
        (OnExhausted::HoldLastGood, OnFailure::KeepServing) => true,
        (OnExhausted::HoldLastGood, OnFailure::AbortAll) | (OnExhausted::Stop, _) => false,
    }
}

/// Whether an epoch that is not live yet holds the next one back.
pub(crate) fn waits_for_live(policy: &Policy) -> bool {
    match policy.advance {
        Advance::WhenLive => true,
        Advance::AtOnce => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_presets_can_be_honoured() {
        for policy in [Policy::default(), Policy::istio_1_2(), Policy::resilient()] {
            assert_eq!(policy.check(), Ok(()));
        }
    }

    #[test]
    fn a_hand_over_needs_room_for_two_epochs() {
        let with = |max_epochs| Policy {
            max_epochs,
            ..Policy::default()
        };
        assert_eq!(with(None).check(), Ok(()));
        assert_eq!(with(Some(2)).check(), Ok(()));
        for max in [0, 1] {
            let error = with(Some(max)).check();
            assert_eq!(error, Err(PolicyError::TooFewEpochs(max)));
        }
        let message = PolicyError::TooFewEpochs(1).to_string();
        assert!(message.starts_with("max_epochs is 1"), "{message}");
    }

    #[test]
    fn a_start_needs_time() {
        let policy = Policy {
            start_deadline: Some(Duration::ZERO),
            ..Policy::default()
        };
        assert_eq!(policy.check(), Err(PolicyError::NoTimeToStart));
        let message = PolicyError::NoTimeToStart.to_string();
        assert!(message.starts_with("start_deadline is zero"), "{message}");
    }

    #[test]
    fn a_start_is_let_be_for_some_time() {
        let policy = Policy {
            give_way_after: Some(Duration::ZERO),
            ..Policy::default()
        };
        assert_eq!(policy.check(), Err(PolicyError::NoTimeBeforeGivingWay));
        let message = PolicyError::NoTimeBeforeGivingWay.to_string();
        assert!(message.starts_with("give_way_after is zero"), "{message}");
    }

    #[test]
    fn a_probation_needs_time() {
        let policy = Policy {
            probation: Some(Duration::ZERO),
            ..Policy::default()
        };
        assert_eq!(policy.check(), Err(PolicyError::NoTimeForProbation));
        let message = PolicyError::NoTimeForProbation.to_string();
        assert!(message.starts_with("probation is zero"), "{message}");
    }

    #[test]
    fn health_needs_time() {
        let mut policy = Policy::default();
        policy.retry.reset_after = Some(Duration::ZERO);
        assert_eq!(policy.check(), Err(PolicyError::NoTimeToProveHealth));
        let message = PolicyError::NoTimeToProveHealth.to_string();
        assert!(
            message.starts_with("retry.reset_after is zero"),
            "{message}"
        );
    }

    #[test]
    fn a_draining_epoch_that_ends_cleanly_never_matters() {
        for on_clean_exit in [OnCleanExit::Stay, OnCleanExit::Restart, OnCleanExit::Stop] {
            for on_failure in [OnFailure::KeepServing, OnFailure::AbortAll] {
                let policy = Policy {
                    on_clean_exit,
                    on_failure,
                    ..Policy::default()
                };
                let follows = consequence(&policy, Role::Bystander, End::Clean);
                assert_eq!(follows, Consequence::Noted);
            }
        }
    }
}
