//! What goes into the machine and what comes out of it: two closed enums and their parts.

use core::fmt;
use core::time::Duration;

use crate::{Epoch, EpochState, Timestamp};

/// What the caller tells the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<C> {
    /// The proxy shall run with this configuration.
    Desire(C),
    /// The proxy shall run with this configuration, and begin again at epoch 0: a cold restart.
    ///
    /// The configuration becomes desired as by [`Input::Desire`], also where it is desired already.
    /// Everything that runs is aborted, as it is on the way to the end, and once the last epoch has
    /// exited, what is desired then is started as epoch 0. Nothing serves in between. How the
    /// aborted epochs exit means nothing, and costs no retry.
    ///
    /// When the new epoch 0 fails, that is a failure as any other. Under
    /// [`OnExhausted::HoldLastGood`](crate::OnExhausted::HoldLastGood) the configuration that
    /// served before is the last good one then, if it is another: it is started again while the
    /// desired one waits for its retry, and held should that be given up. There is no other case in
    /// which the restart brings back what it has ended.
    Restart(C),
    /// The epoch says that it serves.
    Live(Epoch),
    /// The live epoch has stopped serving although it runs on: its listeners are closed, as those
    /// of an epoch are that a newer one took over from and then failed.
    ///
    /// The epoch drains from here on. Its configuration is started again: as the desired one, if it
    /// is, and otherwise as the fallback, where the policy holds the last good one.
    ///
    /// If a newer epoch was started to serve beside it, that is at once and costs no retry, however
    /// often it happens: what has failed is the newer start, which costs the desired configuration a
    /// retry where it exits. A fallback that there is keeps what is left of its budget, and a new one
    /// has a full one. If no newer epoch was started, the epoch has lost its listeners by itself, and
    /// everything else is as after its failed exit.
    StoppedServing(Epoch),
    /// The draining epoch has nothing left to lose: it no longer counts towards
    /// [`Policy::max_epochs`](crate::Policy::max_epochs).
    Released(Epoch),
    /// The epoch was withdrawn while it started, see [`Output::Withdraw`]. It will never go live,
    /// finishes what it has and exits by itself: it drains from here on.
    Withdrawn(Epoch),
    /// The epoch has ended, and nothing of it runs any more.
    Exited(Epoch, Exit),
    /// Drain and finish. A second one skips the drain, a third is a [`Input::Kill`].
    Terminate,
    /// Abort everything immediately and finish.
    Kill,
}

/// How an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Without an error.
    Clean,
    /// Because it was aborted.
    Aborted,
    /// With an error.
    Failed(Severity),
}

/// Whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It may: a port in use, a crash.
    Transient,
    /// It cannot: the proxy rejects its configuration.
    Permanent,
}

/// What an epoch is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target<C> {
    /// To serve with this configuration.
    Serve(C),
    /// To let the connections of all others drain; it ends when that is done.
    #[doc(alias = "DrainConfig")]
    Drain,
}

/// How an epoch is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abort {
    /// It may finish what it is doing.
    Graceful,
    /// It ends as it is.
    Immediate,
}

/// What the machine tells the caller: commands, which must be carried out in order, and events,
/// for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output<C> {
    /// Launch this epoch; answer with [`Input::Live`] once it serves and with [`Input::Exited`]
    /// once it has ended.
    Start {
        /// Its number.
        epoch: Epoch,
        /// What for.
        target: Target<C>,
    },
    /// Tell this epoch to stop.
    Abort {
        /// Its number.
        epoch: Epoch,
        /// How.
        how: Abort,
    },
    /// Give the start of this epoch up, unless it has already taken something over from an older
    /// one or serves. It comes at most once for each start, when a terminate meets an epoch that
    /// starts. There are three answers, each of which the epoch could have given by itself:
    ///
    /// - [`Input::Exited`]: it had taken nothing over, and was dropped;
    /// - [`Input::Live`]: it had, so it goes live and is drained as any live epoch is;
    /// - [`Input::Withdrawn`]: it will never go live, and ends by itself together with the others.
    ///
    /// The drain waits for one of them, as long as an older epoch has connections that can be
    /// drained. A start beside which nothing serves is aborted when no answer has come within
    /// [`Policy::abort_grace`](crate::Policy::abort_grace).
    Withdraw(Epoch),
    /// Remove what this epoch, which has exited, left behind. It comes once for each start and
    /// before the number is used again.
    Cleanup(Epoch),
    /// The desired configuration has been given up and the machine is about to finish.
    Panic {
        /// The configuration.
        config: C,
        /// The last epoch that failed with it.
        epoch: Epoch,
    },
    /// Nothing runs and nothing more will come.
    Finish(Outcome),
    /// Something that people and metrics want to know.
    Event(Event),
}

/// How the machine's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// As asked: everything was drained, or there was nothing to drain.
    Drained,
    /// As asked, but connections that were left at the drain deadline were cut.
    DrainTimedOut,
    /// As asked, but without a drain: a second terminate has skipped it, or there was no epoch
    /// number left for it.
    DrainSkipped,
    /// As asked, but the drain has failed: an epoch that served failed before it was drained, or the
    /// epoch that drains could not tell that the others were.
    DrainFailed,
    /// Everything was aborted immediately, as asked.
    Killed,
    /// The desired configuration was given up.
    GaveUp {
        /// The last epoch that failed with it.
        epoch: Epoch,
        /// Why.
        why: GaveUp,
    },
    /// The newest epoch exited cleanly, and that ends the agent.
    ProxyEnded {
        /// That epoch.
        epoch: Epoch,
    },
}

/// Why the desired configuration was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GaveUp {
    /// It failed more often than it may.
    BudgetSpent,
    /// It failed in a way that a retry cannot mend.
    Permanent,
}

/// What an epoch was started for, without the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To serve with the desired configuration.
    Desired,
    /// To serve with the last good configuration while the desired one cannot be started.
    Fallback,
    /// To drain the others.
    Drain,
}

/// Something that people and metrics want to know. Nothing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The epoch was started.
    Started {
        /// Its number.
        epoch: Epoch,
        /// What for.
        purpose: Purpose,
    },
    /// The epoch serves.
    Live {
        /// Its number.
        epoch: Epoch,
        /// The time since its start.
        after: Duration,
    },
    /// The epoch drains, because a newer one serves.
    Superseded {
        /// Its number.
        epoch: Epoch,
        /// The newer one.
        by: Epoch,
    },
    /// The epoch has stopped serving although it runs on and no newer epoch serves.
    StoppedServing {
        /// Its number.
        epoch: Epoch,
    },
    /// A deadline is handled so much later than it was due that the driver cannot have been
    /// running. Every deadline that has passed is put off by
    /// [`LOOK_AROUND`](crate::LOOK_AROUND).
    WokeLate {
        /// How long ago the earliest of these deadlines was due.
        late: Duration,
    },
    /// The epoch did not go live in time and is aborted.
    StartTimedOut {
        /// Its number.
        epoch: Epoch,
    },
    /// The epoch has ended.
    Exited {
        /// Its number.
        epoch: Epoch,
        /// How.
        exit: Exit,
        /// What it was until then.
        was: EpochState,
    },
    /// The next start was put off after a failure.
    RetryScheduled {
        /// What the start is for.
        purpose: Purpose,
        /// The wait.
        delay: Duration,
        /// How many retries are left after this one.
        retries_left: u32,
    },
    /// The epoch stayed live so long that its configuration has its whole budget again.
    BudgetRefilled {
        /// The epoch.
        epoch: Epoch,
        /// How many retries there are now.
        retries_left: u32,
    },
    /// A cold restart: what runs is aborted, and then what is desired starts as epoch 0.
    Restarting,
    /// What is desired cannot be started at present.
    Held(Held),
    /// The desired configuration was given up.
    GaveUp {
        /// The last epoch that failed with it.
        epoch: Epoch,
        /// Why.
        why: GaveUp,
        /// Whether an older configuration goes on being served.
        holding: bool,
    },
    /// The fallback was given up as well.
    FallbackLost {
        /// The last epoch that failed with it.
        epoch: Epoch,
    },
    /// The epoch ended cleanly and its configuration, the desired one or the fallback, is not
    /// started again.
    Stayed {
        /// That epoch.
        epoch: Epoch,
    },
    /// No configuration is started any more; what runs is drained.
    Draining {
        /// When the drain is cut, if it is.
        until: Option<Timestamp>,
    },
    /// The drain was not done in time; what is left is aborted.
    DrainTimedOut,
}

/// Why what is desired cannot be started at present. Each reason ends by an input or a deadline,
/// and then the machine looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    /// This epoch is not live yet.
    Starting(Epoch),
    /// This epoch was aborted and still runs.
    Aborting(Epoch),
    /// As many epochs run as may.
    Cap {
        /// So many.
        running: u32,
    },
    /// A retry is scheduled for this moment.
    Retry(Timestamp),
    /// The desired configuration was given up; another desire is awaited.
    GivenUp,
    /// The epoch with the desired configuration ended cleanly, and that was taken as wanted.
    Stayed,
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
            Self::GivenUp => f.write_str("the desired configuration was given up"),
            Self::Stayed => f.write_str("the proxy ended cleanly and is not restarted"),
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
        })
    }
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "an input may have been denied"]
pub enum Reception {
    /// It was taken in; outputs may follow.
    Accepted,
    /// It changed nothing, and that is all right.
    Ignored(Ignored),
    /// It asks for what can no longer be.
    Denied(Denied),
}

/// Why an input changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// The configuration is the desired one already.
    Unchanged,
    /// No such epoch runs.
    UnknownEpoch,
    /// The epoch is past the state this input speaks of.
    OutOfOrder,
    /// What it asks for is under way already.
    UnderWay,
    /// The machine has finished.
    Finished,
}

/// Why a desire or a cold restart was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denied {
    /// The machine drains or stops and starts no configuration any more.
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

/// When the caller shall call [`Machine::handle_timeout`](crate::Machine::handle_timeout), and
/// what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline {
    /// The moment.
    pub at: Timestamp,
    /// The reason, for logs and tests.
    pub reason: DeadlineReason,
}

/// What a deadline is for. Each says when it is set; where it is not, there is no such deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadlineReason {
    /// When to give up waiting for this epoch to go live: while it starts.
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
}

impl fmt::Display for DeadlineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartDeadline(epoch) => write!(f, "epoch {epoch} must be live"),
            Self::Retry => f.write_str("retry"),
            Self::FallbackRetry => f.write_str("retry of the fallback"),
            Self::Healthy(epoch) => write!(f, "epoch {epoch} counts as healthy"),
            Self::DrainDeadline => f.write_str("the drain must be done"),
            Self::Grace(epoch) => write!(f, "epoch {epoch} must have exited"),
            Self::Withdrawal(epoch) => {
                write!(f, "epoch {epoch} must have exited or gone live")
            }
        }
    }
}
