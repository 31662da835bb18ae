//! What clients ask of the operator, and what they are answered.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use handover_core::{Epoch, Urgency};

use super::{Ending, Probation, Unfit};

/// The number of an ask, chosen by the driver. Each new ask has a higher number than all before.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct AskId(pub u64);

impl fmt::Display for AskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Request {
    /// The present state. It is answered immediately.
    Status,
    /// Who is connected, or the end of some connections. It is answered immediately.
    Who,
    /// Read the files as they are at this moment, and run what they ask for.
    Reload {
        /// Whether the next epoch starts although nothing has changed.
        next: Next,
        /// Whether draining epochs that hold the start are released from the cap.
        hurry: bool,
        /// Whether the answer waits until the configuration is live.
        wait: Wait,
        /// Whether such a wait goes on until the probation of the configuration is over.
        through_probation: bool,
    },
    /// Run the configuration that the client has given, and keep it. The driver has its text.
    Apply {
        /// Whether the answer waits until the configuration is live and kept.
        wait: Wait,
        /// Whether such a wait goes on until the probation of the configuration is over.
        through_probation: bool,
    },
    /// Make the health checks of the proxy fail, so that clients go elsewhere.
    Drain {
        /// Whether the answer waits until no client is connected.
        wait: Wait,
    },
    /// Let the health checks succeed again.
    Undrain,
    /// Wait until this is so. The answer always waits, and its limit may be none.
    Await {
        /// What is waited for.
        condition: Condition,
        /// For how long.
        wait: Wait,
    },
    /// End everything.
    Stop {
        /// Whether the drain is skipped.
        now: bool,
        /// Whether the answer waits for the end.
        wait: Wait,
    },
}

/// What a client can wait for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Condition {
    /// An epoch is live, and a look that began after the request has found nothing that keeps clients
    /// out.
    Ready,
    /// An epoch is live.
    Live,
    /// It is ready, and the live epoch runs with what the files ask for, as far as they were read.
    Current,
}

/// What a successful read leads to; the strongest wish since the last one counts.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum Next {
    /// The next epoch, if what was read differs from what was asked for last.
    #[default]
    IfDifferent,
    /// The next epoch in any case.
    Renew,
    /// A cold restart: everything ends, then epoch 0 starts.
    Cold,
}

/// Whether an answer waits until what was asked for has happened.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Wait {
    /// It tells only that the request was taken in.
    #[default]
    No,
    /// It waits, for as long as the client does.
    Unlimited,
    /// It waits for at most so long, counted from the ask.
    AtMost(Duration),
}

impl Wait {
    pub(super) fn waits(self) -> bool {
        self != Self::No
    }

    pub(super) fn limit(self) -> Option<Duration> {
        match self {
            Self::No | Self::Unlimited => None,
            Self::AtMost(limit) => Some(limit),
        }
    }
}

/// The answer to an ask that was granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Reply<C> {
    /// The state of the operator. The driver adds what the agent, the proxy and the files show.
    Status(Box<Overview<C>>),
    /// Leave to look. The driver looks who is connected, ends what was asked for, and answers.
    Who,
    /// What became of a reload.
    Reloaded {
        /// How far it is.
        progress: Progress,
        /// Whether the files held something else than what was asked for before.
        changed: bool,
        /// The epochs that no longer hold a start, oldest first.
        released: Vec<Released>,
    },
    /// The configuration that the client has given is live.
    Applied {
        /// The epoch that runs with it.
        epoch: Epoch,
        /// Whether an epoch was started for it. Otherwise it was desired already.
        started: bool,
        /// Whether it is kept. One that is on probation is kept when that is over.
        kept: bool,
    },
    /// Health checks fail; the live epoch at that moment, if one was live.
    Draining(Option<Epoch>),
    /// Health checks fail, and no client is connected.
    Drained(Option<Epoch>),
    /// Health checks succeed again.
    Undrained(Option<Epoch>),
    /// What was waited for is so, with this epoch.
    Reached(Epoch),
    /// Everything is going to end, this urgently.
    Ending(Urgency),
    /// Everything has ended.
    Ended(Ending),
}

/// How far a reload is when its client is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Progress {
    /// The agent has taken the change in.
    Asked,
    /// The agent wants this configuration already, and no epoch is started for the reload.
    Unchanged,
    /// The configuration is live, with this epoch.
    Live(Epoch),
}

/// An epoch that holds no start any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Released {
    /// Its number.
    pub epoch: Epoch,
    /// The connections that clients had to it, where they can be counted.
    pub connections: Option<u64>,
}

/// The state of the operator, for a status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Overview<C> {
    /// The configuration that was asked for last.
    pub desired: Option<C>,
    /// What is missing of the files without which nothing is started, while they are awaited. It is
    /// empty before they were looked at.
    #[serde(default)]
    pub awaited: Option<Vec<String>>,
    /// Whether nothing is started because no client has given a configuration.
    #[serde(default)]
    pub awaits_configuration: bool,
    /// Whether that one stands in for what the files ask for, which could not be used at the start.
    pub stands_in: bool,
    /// Why the last read failed, until a read succeeds.
    pub problem: Option<String>,
    /// Whether an epoch is live, and a look has found nothing that keeps clients out.
    pub ready: bool,
    /// Whether what serves is what the files ask for.
    #[serde(default)]
    pub current: bool,
    /// Whether clients can connect, if an epoch is live and its sockets can be seen.
    pub listening: Option<bool>,
    /// How urgently everything has to end, if it has.
    pub urgency: Option<Urgency>,
    /// The epoch that is on probation, if one is.
    pub probation: Option<Probation>,
    /// The epoch that was found unfit last, until what is desired has passed its probation.
    pub unfit: Option<Unfit>,
}

/// Why an ask was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Refusal {
    /// The proxy cannot do that.
    NotSupported(Report),
    /// Everything is ending.
    Ending,
    /// The files ask for nothing that can be run.
    NotRead(Report),
    /// The configuration was given up.
    GivenUp {
        /// The last epoch that failed with it.
        epoch: Epoch,
        /// How it failed, if known.
        report: Option<Report>,
    },
    /// Another configuration was asked for before this one was live.
    Replaced,
    /// The epoch with the configuration ended cleanly and is not started again.
    NotRestarted,
    /// The configuration is in files, and none is taken from clients.
    NotTaken,
    /// The configuration is live, but cannot be kept.
    NotKept(Report),
    /// The proxy did not do it.
    Failed(Report),
    /// Whether clients are connected cannot be seen, and no limit was given; what cannot be seen.
    ClientsUnknown(Vec<String>),
    /// The limit has passed. What was asked for goes on.
    TimedOut {
        /// The limit.
        limit: Duration,
        /// What was waited for.
        waited_for: WaitedFor,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSupported(report) | Self::NotRead(report) | Self::Failed(report) => {
                report.fmt(f)
            }
            Self::Ending => f.write_str("everything is ending"),
            Self::GivenUp { epoch, report } => {
                write!(f, "the configuration was given up after epoch {epoch}")?;
                match report {
                    Some(report) => write!(f, ": {report}"),
                    None => Ok(()),
                }
            }
            Self::Replaced => {
                f.write_str("another configuration was asked for before this one was live")
            }
            Self::NotRestarted => f.write_str("the proxy ended cleanly and is not restarted"),
            Self::NotTaken => f.write_str("no configuration is taken from clients"),
            Self::NotKept(report) => {
                write!(
                    f,
                    "the configuration is live, but could not be kept: {report}"
                )
            }
            Self::ClientsUnknown(_) => {
                f.write_str("it cannot be seen whether clients are connected")
            }
            Self::TimedOut { limit, waited_for } => {
                write!(f, "{waited_for} after {limit:?}")
            }
        }
    }
}

/// What an ask was waiting for when its limit passed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum WaitedFor {
    /// The files were being read.
    Read,
    /// The configuration was not live yet.
    Live,
    /// The configuration was on probation.
    Probation,
    /// The configuration was live, and not kept yet.
    Keep,
    /// The proxy had not answered.
    Proxy,
    /// Clients were connected.
    Clients,
    /// The processes were being looked at.
    Look,
    /// This was not so.
    Condition(Condition),
    /// Something was running.
    End,
}

impl fmt::Display for WaitedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "the files were still being read",
            Self::Live => "the configuration was not live",
            Self::Probation => "the configuration was still on probation",
            Self::Keep => "the configuration was live and not kept",
            Self::Proxy => "the proxy had not answered",
            Self::Look => "the processes were still being looked at",
            Self::Clients => "clients were still connected",
            Self::Condition(Condition::Ready) => "no epoch was ready",
            Self::Condition(Condition::Live) => "no epoch was live",
            Self::Condition(Condition::Current) => "the desired configuration did not serve",
            Self::End => "something was still running",
        })
    }
}

/// An error in words. The operator passes it on and looks at no part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// The error and its causes on one line.
    pub message: String,
    /// The last lines of the process that failed, or what else explains the error.
    pub lines: Vec<String>,
}

impl Report {
    /// Returns a report with this message and no further lines.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            lines: Vec::new(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
