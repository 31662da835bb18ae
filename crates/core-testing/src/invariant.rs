//! The names of the invariants.

use alloc::string::String;
use core::fmt;

/// The name of an invariant. A later version may have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Invariant {
    /// A new epoch is 1 + the highest that runs, or 0 if none runs.
    EpochIsSuccessor,
    /// Under a policy that waits for live, no epoch is started while another one is starting.
    OneStartAtATime,
    /// No epoch is started to serve while [`Policy::max_epochs`](handover_core::Policy::max_epochs) of them
    /// run.
    CapRespected,
    /// Each started epoch has exactly one cleanup, after its exit and before its number is used
    /// again.
    CleanupExactlyOnce,
    /// Nothing is started while an aborted epoch runs.
    NoStartWhileAborting,
    /// After a terminate, no epoch is started to serve.
    NoServeStartAfterTerminate,
    /// An epoch is started with the configuration that was asked for last and is not current yet, or
    /// as the fallback with the one that served last, while nothing serves and the desired one may
    /// not be started.
    StartsWhatIsAskedFor,
    /// Between two refills, no more retries are scheduled than the policy allows. Each further
    /// start has cost a retry. The exceptions are an epoch that lost its listeners to a newer start,
    /// and a start that gave way: they cost nothing.
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
    /// The panic comes at most once, and after it nothing but the way to the end.
    PanicAtMostOnceThenFinish,
    /// Under a policy that keeps serving, a live epoch is aborted only on the way to the end or by
    /// a cold restart.
    GoodEpochSurvivesBadOne,
    /// A cold restart aborts every epoch. Until the last one has exited, nothing is started and
    /// nothing counts as a failure. Then the desired configuration is started as epoch 0.
    RestartBeginsAnew,
    /// The desired configuration is current, or there is a reason why not, and that reason will
    /// end.
    NoLostDesire,
    /// A renewed configuration is current only with an epoch that was started since.
    RenewalStartsAnEpoch,
    /// An epoch is retired at most once, while it runs, is not aborted, and a newer one is live.
    /// Each such epoch is retired.
    RetiredAtMostOnce,
    /// The urgency of the end never falls. A request that is not more urgent than an earlier one is
    /// ignored and changes nothing. The phase is at least as far as the most urgent request asks.
    UrgencyNeverFalls,
    /// An input that is ignored or denied leads to nothing.
    RefusedInputsDoNothing,
    /// On the way to the end, the machine finishes once nothing runs, and no deadline is missing.
    AlwaysFinishes,
    /// An epoch is aborted only while it runs, and each time more urgently.
    AbortsEscalate,
    /// An epoch's start is withdrawn at most once, while it starts: after a terminate, to give way, or
    /// because it is late.
    WithdrawnAtMostOnce,
    /// A start that is late is withdrawn, unless it was before. It is aborted for that once it has had the
    /// policy's grace to answer in, and not earlier or later.
    LateStartsMayAnswer,
    /// A start gives way once it was let be for as long as the policy says, and only to a
    /// configuration that was asked for since and has not failed. Until then there is a deadline.
    GivesWayToANewerDesire,
    /// While an epoch serves well, two changes are not started sooner one after the other than the policy says.
    /// A change that waits for that has a deadline.
    ChangesAreApart,
    /// A live epoch passes its probation once it is over, and not before. Then there is nothing to go
    /// back to.
    ProbationEndsOnTime,
    /// What is found unfit on its probation is said so once. If an older good configuration is known, that
    /// one replaces it at once, and what was found unfit is given up if it is the desired one.
    /// Neither it nor one that fails on its probation takes the place of the good one.
    UnfitMakesRoom,
    /// While the machine drains, the start of each starting epoch was withdrawn. If nothing can be
    /// drained beside it, it has a deadline.
    NoStartOutlivesTerminate,
    /// A deadline that was missed by more than [`LATE`](handover_core::LATE) is postponed, so that the
    /// driver can report what happened. Then it is handled, and not postponed again.
    LooksBeforeLateDeadlines,
    /// An end is called drained only if three things hold since the terminate. The drain did not
    /// fail. No epoch failed to which clients may be connected. The live epoch did not end before
    /// the drain began. Otherwise, and only then, the drain is called failed.
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
        Self::LateStartsMayAnswer,
        Self::GivesWayToANewerDesire,
        Self::ChangesAreApart,
        Self::ProbationEndsOnTime,
        Self::UnfitMakesRoom,
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
