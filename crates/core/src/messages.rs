//! What goes into the machine and what comes out of it: two closed enums and their parts.

use core::fmt;
use core::time::Duration;

use crate::{Epoch, EpochState, Timestamp, Urgency};

/// An input of the machine: a request, or a report about an epoch.
///
/// The enum is closed: callers create its values. So the compiler finds each generator and model
/// that lacks a new input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<C> {
    /// Run the proxy with this configuration.
    Desire(C),
    /// Run the proxy with this configuration in a new epoch, even if an epoch with an equal
    /// configuration runs. Use it if files that the proxy reads beside its configuration have
    /// changed, such as certificates.
    ///
    /// The configuration becomes desired as by [`Input::Desire`], with a full budget. From this
    /// moment no running epoch counts as the desired one, whatever is desired later. The live epoch
    /// serves until a newer one does, and remains the last good one.
    Renew(C),
    /// Run the proxy with this configuration, from epoch 0 on: a cold restart.
    ///
    /// The configuration becomes desired as by [`Input::Desire`], even if it already is. Every
    /// running epoch is aborted, as on the way to the end. After the last exit, the desired
    /// configuration is started as epoch 0. Nothing serves in between. The exits of the aborted
    /// epochs cost no retry.
    ///
    /// If the new epoch 0 fails, that is a failure like any other. Under
    /// [`OnExhausted::HoldLastGood`](crate::OnExhausted::HoldLastGood), the configuration that
    /// served before is then the last good one, if it differs. It is started again while the
    /// desired one waits for its retry, and held if that one is given up. In no other case does the
    /// restart start again what it has ended.
    Restart(C),
    /// The epoch serves.
    Live(Epoch),
    /// The live epoch has stopped serving although it runs: its listeners are closed. That happens
    /// to an epoch if a newer one takes the listeners and then fails.
    ///
    /// The epoch drains from this moment. Its configuration is started again if it is the desired
    /// one. Otherwise it becomes the fallback, if the policy holds the last good one.
    ///
    /// If a newer epoch was started to serve beside it, the new start is at once and costs no
    /// retry, however often it happens. The newer start has failed, and its exit costs the desired
    /// configuration a retry. An existing fallback keeps the rest of its budget, and a new one has
    /// a full budget.
    ///
    /// If no newer epoch was started, the epoch has lost its listeners by itself. Then everything
    /// else is as after its failed exit.
    StoppedServing(Epoch),
    /// The draining epoch no longer counts towards
    /// [`Policy::max_epochs`](crate::Policy::max_epochs). It has no clients left, or the next
    /// change must not wait for them.
    Released(Epoch),
    /// The epoch was withdrawn while it started; see [`Output::Withdraw`]. It will never go live.
    /// It finishes its requests and exits by itself, so it counts as draining. While the machine
    /// does not terminate, nothing else ends the epoch before a newer one is live.
    Withdrawn(Epoch),
    /// What was seen of the live epoch says that it serves worse than the one before. It counts only
    /// while the epoch is on [`Policy::probation`](crate::Policy::probation).
    ///
    /// If the configuration that served before is known, and the policy holds the last good one, that
    /// configuration is started at once as the next epoch. The unfit epoch serves until the new one
    /// does. No start waits for [`Policy::max_epochs`](crate::Policy::max_epochs) meanwhile. If the
    /// unfit configuration is the desired one, it is given up as [`GaveUp::Unfit`]. It is remembered:
    /// a later desire for it gives it up at once, while something else serves. Only a renewal or a
    /// cold restart tries it again.
    ///
    /// If there is nothing to go back to, the epoch serves on, and that it is unfit is only reported.
    Unfit(Epoch),
    /// The epoch has ended, and no part of it runs any more.
    Exited(Epoch, Exit),
    /// End everything with this urgency. The strongest urgency so far counts. A weaker or equal one
    /// changes nothing and is [ignored](Ignored::UnderWay).
    Terminate(Urgency),
}

/// How an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Exit {
    /// The epoch ended without an error.
    Clean,
    /// The epoch ended because it was aborted.
    Aborted,
    /// The epoch ended with an error.
    Failed(Severity),
}

/// Whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Severity {
    /// A retry can help: a port in use, a crash.
    Transient,
    /// A retry cannot help: the proxy rejects its configuration.
    Permanent,
}

/// What an epoch is started to do.
///
/// The enum is closed, because a driver cannot start what it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Target<C> {
    /// Serve with this configuration.
    Serve(C),
    /// Drain the connections of all other epochs, then end.
    #[doc(alias = "DrainConfig")]
    Drain,
}

/// How an epoch must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Abort {
    /// The epoch may finish its current requests.
    Graceful,
    /// The epoch ends at once.
    Immediate,
}

/// An output of the machine. Commands must be carried out in order. Events are for people and
/// metrics.
///
/// The enum is closed, so a driver that ignores a new command does not compile. [`Event`] may grow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<C> {
    /// Start this epoch. Report [`Input::Live`] once it serves, and [`Input::Exited`] once it has
    /// ended.
    Start {
        /// The number of the epoch.
        epoch: Epoch,
        /// What the epoch is started to do.
        target: Target<C>,
    },
    /// Stop this epoch.
    Abort {
        /// The number of the epoch.
        epoch: Epoch,
        /// The kind of abort.
        how: Abort,
    },
    /// Retire this epoch: a newer one serves in its place. The epoch finishes its requests and
    /// exits by itself. The command comes at most once for each start, and never for an aborted
    /// epoch.
    Retire {
        /// The number of the epoch.
        epoch: Epoch,
        /// The newer epoch, which is live.
        by: Epoch,
    },
    /// Give up the start of this epoch, unless it serves or has already taken something over from
    /// an older one. The command comes at most once for each start: when a terminate meets a
    /// starting epoch, when the start [gives way](Event::GivesWay) to a newer desire, or when it was
    /// [not live in time](Event::StartTimedOut). It has three answers, and the epoch could have given each
    /// one by itself:
    ///
    /// - [`Input::Exited`]: it had taken over nothing, and was dropped. With [`Exit::Aborted`] that
    ///   costs no retry, unless the start is late.
    /// - [`Input::Live`]: it had taken something over, so it goes live. A terminate drains it like
    ///   any live epoch, and a newer desire starts the next epoch beside it.
    /// - [`Input::Withdrawn`]: it will never go live. It finishes its requests and ends by itself; on
    ///   a terminate together with the others.
    ///
    /// A newer desire waits for one of these answers as for any start. An epoch that goes on starting
    /// is aborted once [`Policy::start_deadline`](crate::Policy::start_deadline) has passed, and
    /// [`Policy::abort_grace`](crate::Policy::abort_grace) since the command.
    ///
    /// The drain waits for one of these answers while an older epoch has connections that can be
    /// drained. If no other epoch serves, a start without an answer is aborted after
    /// [`Policy::abort_grace`](crate::Policy::abort_grace).
    Withdraw(Epoch),
    /// Remove what the exited epoch has left behind. The command comes once for each start, before
    /// the number is used again.
    Cleanup(Epoch),
    /// The desired configuration has been given up and the machine is about to finish.
    Panic {
        /// The configuration.
        config: C,
        /// The last epoch that failed with it.
        epoch: Epoch,
    },
    /// No epoch runs, and no further output follows.
    Finish(Outcome),
    /// A report for people and metrics.
    Event(Event),
}

/// How the machine's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Outcome {
    /// The end was asked for, and everything was drained, or there was nothing to drain.
    Drained,
    /// The end was asked for, and connections that were left at the drain deadline were cut.
    DrainTimedOut,
    /// The end was asked for, without a drain: [`Urgency::Stop`] has skipped it, or no epoch number
    /// was left for it.
    DrainSkipped,
    /// The end was asked for, and the drain has failed. An epoch that served failed before it was
    /// drained, or the draining epoch could not see that the others were drained.
    DrainFailed,
    /// Everything was aborted immediately, as asked for.
    Killed,
    /// The desired configuration was given up.
    GaveUp {
        /// The last epoch that failed with it.
        epoch: Epoch,
        /// Why it was given up.
        why: GaveUp,
    },
    /// The newest epoch exited cleanly, and that ends the agent.
    ProxyEnded {
        /// The number of the epoch.
        epoch: Epoch,
    },
}

/// Why the desired configuration was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum GaveUp {
    /// Its retries are spent.
    BudgetSpent,
    /// It failed, and no retry can help.
    Permanent,
    /// It went live, and was found [unfit](Input::Unfit).
    Unfit,
}

/// What an epoch was started for, without the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Purpose {
    /// To serve with the desired configuration.
    Desired,
    /// To serve with the last good configuration while the desired one cannot be started.
    Fallback,
    /// To drain the others.
    Drain,
}

/// A report for people and metrics. Nothing depends on it, and a later version may report more. So
/// a `match` on it needs an arm for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Event {
    /// The epoch was started.
    Started {
        /// The number of the epoch.
        epoch: Epoch,
        /// What the epoch was started for.
        purpose: Purpose,
    },
    /// The epoch serves.
    Live {
        /// The number of the epoch.
        epoch: Epoch,
        /// The time since its start.
        after: Duration,
    },
    /// The epoch drains, because a newer one serves.
    Superseded {
        /// The number of the epoch.
        epoch: Epoch,
        /// The newer epoch, which serves.
        by: Epoch,
    },
    /// The epoch runs but has stopped serving, and no newer epoch serves.
    StoppedServing {
        /// The number of the epoch.
        epoch: Epoch,
    },
    /// A deadline is handled so late that the driver cannot have been running. Every deadline that
    /// has passed is postponed by [`LOOK_AROUND`](crate::LOOK_AROUND).
    WokeLate {
        /// The time since the earliest of these deadlines was due.
        late: Duration,
    },
    /// The epoch was not live in time. Its start is [withdrawn](Output::Withdraw), which follows unless it was
    /// before, and the epoch is aborted if that is not answered within
    /// [`Policy::abort_grace`](crate::Policy::abort_grace).
    StartTimedOut {
        /// The number of the epoch.
        epoch: Epoch,
    },
    /// The epoch starts and gives way to a newer desire. Its start is withdrawn: see
    /// [`Output::Withdraw`], which follows.
    GivesWay {
        /// The number of the epoch.
        epoch: Epoch,
        /// The time since its start.
        after: Duration,
    },
    /// The epoch has ended.
    Exited {
        /// The number of the epoch.
        epoch: Epoch,
        /// How the epoch ended.
        exit: Exit,
        /// The state of the epoch before its end.
        was: EpochState,
    },
    /// The next start was postponed after a failure.
    RetryScheduled {
        /// What the start is for.
        purpose: Purpose,
        /// The time until the start.
        delay: Duration,
        /// The retries that are left after this one.
        retries_left: u32,
    },
    /// The epoch has been live for the whole of its [probation](crate::Policy::probation), and was not
    /// found unfit.
    ProbationPassed {
        /// The number of the epoch.
        epoch: Epoch,
    },
    /// The epoch was found [unfit](Input::Unfit) while it was on probation.
    Unfit {
        /// The number of the epoch.
        epoch: Epoch,
        /// Whether the configuration that served before takes its place.
        replaced: bool,
    },
    /// The epoch was started although [`Policy::max_epochs`](crate::Policy::max_epochs) epochs run,
    /// because an unfit one serves until then. A proxy that cannot run so many may end the oldest one, and cut
    /// its connections.
    BeyondCap {
        /// The number of the epoch.
        epoch: Epoch,
        /// How many others run and count towards the cap.
        running: u32,
    },
    /// The epoch stayed live so long that the budget of its configuration is full again.
    BudgetRefilled {
        /// The number of the epoch.
        epoch: Epoch,
        /// The retries that are left.
        retries_left: u32,
    },
    /// A cold restart has begun. Every running epoch is aborted, and then the desired configuration
    /// starts as epoch 0.
    Restarting,
    /// The desired configuration cannot be started yet.
    Held(Held),
    /// The desired configuration was given up.
    GaveUp {
        /// The last epoch that failed with it.
        epoch: Epoch,
        /// Why it was given up.
        why: GaveUp,
        /// Whether an older configuration still serves.
        holding: bool,
    },
    /// The fallback was given up as well.
    FallbackLost {
        /// The last epoch that failed with it.
        epoch: Epoch,
    },
    /// The epoch ended cleanly. Its configuration, the desired one or the fallback, is not started
    /// again.
    NotRestarted {
        /// The number of the epoch.
        epoch: Epoch,
    },
    /// No configuration is started any more, and the running epochs are drained.
    Draining {
        /// When the drain is cut, if it is.
        until: Option<Timestamp>,
    },
    /// The drain took too long, and the rest is aborted.
    DrainTimedOut,
}

/// The reason why the desired configuration cannot be started yet. Each reason ends by an input or
/// a deadline, and then the machine decides again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Held {
    /// This epoch is not live yet.
    Starting(Epoch),
    /// This epoch was aborted and still runs.
    Aborting(Epoch),
    /// [`Policy::max_epochs`](crate::Policy::max_epochs) epochs run already.
    Cap {
        /// So many.
        running: u32,
    },
    /// A retry is scheduled for this moment.
    Retry(Timestamp),
    /// A change was started less than [`Policy::min_interval`](crate::Policy::min_interval) ago, and an epoch
    /// serves. The time is over at this moment.
    Interval(Timestamp),
    /// The desired configuration was given up. The machine waits for another desire.
    GivenUp,
    /// The epoch with the desired configuration ended cleanly, and that counts as wanted.
    NotRestarted,
    /// The highest epoch number is running, and there is none above it.
    NumbersUsedUp,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting(epoch) => write!(f, "epoch {epoch} is starting"),
            Self::Aborting(epoch) => write!(f, "epoch {epoch} was aborted and still runs"),
            Self::Cap { running } => write!(f, "{running} epochs run already"),
            Self::Retry(at) => write!(f, "a retry is due at {at}"),
            Self::Interval(at) => write!(f, "the next change may start at {at}"),
            Self::GivenUp => f.write_str("the desired configuration was given up"),
            Self::NotRestarted => f.write_str("the proxy ended cleanly and is not restarted"),
            Self::NumbersUsedUp => f.write_str("the epoch numbers are used up"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("drained"),
            Self::DrainTimedOut => f.write_str("the drain was not done in time and was cut"),
            Self::DrainSkipped => f.write_str("the drain was skipped"),
            Self::DrainFailed => f.write_str("the drain has failed"),
            Self::Killed => f.write_str("killed as asked"),
            Self::GaveUp { epoch, why } => write!(f, "gave up after epoch {epoch}: {why}"),
            Self::ProxyEnded { epoch } => write!(f, "epoch {epoch} ended cleanly"),
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BudgetSpent => "its retries are spent",
            Self::Permanent => "a retry cannot help",
            Self::Unfit => "it was found unfit",
        })
    }
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[must_use = "an input may have been denied"]
pub enum Reception {
    /// The input was accepted, and outputs may follow.
    Accepted,
    /// The input changed nothing, and that is no error.
    Ignored(Ignored),
    /// The input asks for something that is impossible in this state.
    Denied(Denied),
}

/// Why an input changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Ignored {
    /// The configuration already is the desired one.
    Unchanged,
    /// No such epoch runs.
    UnknownEpoch,
    /// The epoch has left the state that this input is about.
    OutOfOrder,
    /// The request is already being carried out.
    UnderWay,
    /// The machine has finished.
    Finished,
}

/// Why a desire or a cold restart was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Denied {
    /// The machine drains or stops, and starts no configuration any more.
    Terminating,
    /// The machine has finished.
    Finished,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unchanged => "the configuration is the desired one already",
            Self::UnknownEpoch => "no such epoch runs",
            Self::OutOfOrder => "the epoch is past that state",
            Self::UnderWay => "that is under way already",
            Self::Finished => "the agent has finished",
        })
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminating => "the agent is terminating and starts no configuration any more",
            Self::Finished => "the agent has finished",
        })
    }
}

impl core::error::Error for Denied {}

/// The time at which the caller must call
/// [`Machine::handle_timeout`](crate::Machine::handle_timeout), and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Deadline {
    /// The time of the deadline.
    pub at: Timestamp,
    /// The reason of the deadline, for logs and tests.
    pub reason: DeadlineReason,
}

/// The reason of a deadline. Each variant says in which state the deadline exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum DeadlineReason {
    /// When to [withdraw](Output::Withdraw) this start as late: while the epoch starts.
    StartDeadline(Epoch),
    /// When to start the desired configuration again: after a failure.
    Retry,
    /// When to start the fallback again: after a failure.
    FallbackRetry,
    /// When to trust this live epoch and refill its budget: while it is live.
    Healthy(Epoch),
    /// When to cut the drain: while draining.
    DrainDeadline,
    /// When to abort this epoch immediately: after a graceful abort.
    Grace(Epoch),
    /// When to abort this epoch, whose start was withdrawn: while nothing else is to be drained.
    Withdrawal(Epoch),
    /// When to withdraw this start: while a newer desire waits for it.
    GiveWay(Epoch),
    /// When this epoch has passed its probation: while it is live and on probation.
    Probation(Epoch),
    /// When to abort this epoch, whose start is late: while it was withdrawn and has not answered.
    LateStart(Epoch),
    /// When the time since the last change is over: while a newer one waits for that.
    Interval,
}

impl fmt::Display for DeadlineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartDeadline(epoch) => write!(f, "epoch {epoch} must be live"),
            Self::LateStart(epoch) => write!(f, "epoch {epoch}, which is late, is aborted"),
            Self::Retry => f.write_str("retry"),
            Self::FallbackRetry => f.write_str("retry of the fallback"),
            Self::Healthy(epoch) => write!(f, "epoch {epoch} counts as healthy"),
            Self::DrainDeadline => f.write_str("the drain must be done"),
            Self::Grace(epoch) => write!(f, "epoch {epoch} must have exited"),
            Self::Withdrawal(epoch) => {
                write!(f, "epoch {epoch} must have exited or gone live")
            }
            Self::GiveWay(epoch) => write!(f, "epoch {epoch} gives way"),
            Self::Probation(epoch) => write!(f, "epoch {epoch} passes its probation"),
            Self::Interval => f.write_str("the next change may start"),
        }
    }
}
