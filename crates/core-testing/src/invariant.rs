//! The names of the invariants.

use alloc::string::String;
use core::fmt;

/// The name of an invariant. A later version may have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Invariant {
    /// A new epoch is 1 + the highest that runs, or 0 if none runs.
    EpochIsSuccessor,
    /// Where a policy waits for live, nothing is started while an epoch is starting.
    OneStartAtATime,
    /// No serve epoch is started while as many run as may.
    CapRespected,
    /// A cleanup comes once per started epoch, after its exit, before its number is used again.
    CleanupExactlyOnce,
    /// Nothing is started while an aborted epoch runs.
    NoStartWhileAborting,
    /// After a terminate, no epoch is started to serve.
    NoServeStartAfterTerminate,
    /// An epoch is started with the configuration that was asked for last and is not current yet, or
    /// as the fallback with the one that served last, while nothing serves and the desired one may
    /// not be started.
    StartsWhatIsAskedFor,
    /// Between two refills, no more retries are scheduled than the policy has, and each further
    /// start has had its retry. A start is free only after the listeners were lost to a newer start.
    RetriesWithinBudget,
    /// A retry waits as long as the policy says: each delay is twice the one before, up to the
    /// longest. No retry starts earlier.
    RetriesWait,
    /// What follows from an exit is what the fields of the policy say: nothing, one retry, the
    /// fallback, giving up or the end. Other epochs are aborted for it only where the policy says so.
    FailureCostsWhatThePolicySays,
    /// A configuration that was given up is held only where the policy says so, and while another one
    /// serves or can be started; and then it is held.
    HoldsLastGood,
    /// The panic comes at most once, after the desired configuration was given up for good, and after
    /// it nothing but the way to the end.
    PanicAtMostOnceThenFinish,
    /// Where a policy keeps serving, a live epoch is aborted only on the way to the end and by a cold
    /// restart.
    GoodEpochSurvivesBadOne,
    /// A cold restart aborts every epoch. Until the last of them has exited nothing is started and
    /// nothing counts as a failure. Then the desired configuration is started as epoch 0.
    RestartBeginsAnew,
    /// The desired configuration is current, or there is a true reason why not that will end.
    NoLostDesire,
    /// A renewed configuration is current only with an epoch that was started since.
    RenewalStartsAnEpoch,
    /// An epoch is retired at most once, while it runs unaborted and a newer one is live; and each such
    /// epoch is.
    RetiredAtMostOnce,
    /// The end that was asked for never becomes a gentler one. The phase is at least as far as the most
    /// urgent request asks.
    UrgencyNeverFalls,
    /// An input that is ignored or denied leads to nothing.
    RefusedInputsDoNothing,
    /// On the way to the end, the machine finishes once nothing runs, and says truly why it ended.
    AlwaysFinishes,
    /// An epoch is aborted only while it runs, and each time more urgently. The first time it is asked
    /// gracefully, unless there is no grace, a kill was asked for, or it did not go live in time.
    AbortsEscalate,
    /// An epoch's start is withdrawn at most once, while it starts and after a terminate.
    WithdrawnAtMostOnce,
    /// While the machine drains, each epoch that starts was withdrawn, and one beside which nothing
    /// can be drained has a deadline.
    NoStartOutlivesTerminate,
    /// A deadline that was missed for long does nothing until the world was looked at, and then it
    /// is handled and not put off again. No start is called late before its deadline.
    LooksBeforeLateDeadlines,
    /// An end is called drained only if, since the terminate, neither the drain nor an epoch that
    /// clients may be connected to has failed, and the live one did not end before the drain began;
    /// and a failed drain only otherwise.
    DrainedMeansDrained,
    /// What the machine shows of its epochs, its desired and current configuration and its retries is
    /// what its inputs and outputs have made of them.
    ShowsWhatRuns,
}

impl Invariant {
    /// Every invariant.
    pub const ALL: &[Self] = &[
        Self::EpochIsSuccessor,
        Self::OneStartAtATime,
        Self::CapRespected,
        Self::CleanupExactlyOnce,
        Self::NoStartWhileAborting,
        Self::NoServeStartAfterTerminate,
        Self::StartsWhatIsAskedFor,
        Self::RetriesWithinBudget,
        Self::RetriesWait,
        Self::FailureCostsWhatThePolicySays,
        Self::HoldsLastGood,
        Self::PanicAtMostOnceThenFinish,
        Self::GoodEpochSurvivesBadOne,
        Self::RestartBeginsAnew,
        Self::NoLostDesire,
        Self::RenewalStartsAnEpoch,
        Self::RetiredAtMostOnce,
        Self::UrgencyNeverFalls,
        Self::RefusedInputsDoNothing,
        Self::AlwaysFinishes,
        Self::AbortsEscalate,
        Self::WithdrawnAtMostOnce,
        Self::NoStartOutlivesTerminate,
        Self::LooksBeforeLateDeadlines,
        Self::DrainedMeansDrained,
        Self::ShowsWhatRuns,
    ];
}

/// An invariant that does not hold, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: Invariant,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} does not hold: {}", self.invariant, self.seen)
    }
}

impl core::error::Error for Violation {}

/// Returns a violation with what `seen` says, unless the invariant holds.
pub(crate) fn ensure(
    holds: bool,
    invariant: Invariant,
    seen: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            seen: seen(),
        })
    }
}
