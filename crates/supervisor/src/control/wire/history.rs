//! What has become of each epoch.

use serde::{Deserialize, Serialize};

/// Whether clients should be sent to an instance, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// One of the words READY, DEGRADED, `NOT_READY` and TERMINATING.
    pub health: String,
    /// The reason, in a sentence. It holds no text from a file or a proxy.
    pub why: String,
}

/// An epoch, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochHistory {
    /// The number of the epoch. A retry has the number of the epoch that failed.
    pub epoch: u32,
    /// The stages of the epoch, oldest first. The first one begins with the start.
    pub stages: Vec<StageSince>,
    /// How the epoch has ended, if it has.
    pub end: Option<EpochEnd>,
}

/// A stage of an epoch. It lasts until the next stage, or until the end of the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSince {
    /// The name of the stage.
    pub stage: Stage,
    /// When the stage began, in UTC as by RFC 3339.
    pub at: String,
}

/// What an epoch is for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It was started and does not serve yet.
    Starting,
    /// It serves, and has yet to prove itself.
    Probation,
    /// It serves.
    Live,
    /// It was found unfit, and serves until another one does.
    Unfit,
    /// It finishes what it has begun.
    Draining,
    /// It is being ended.
    Aborting,
    /// A stage of a later version.
    #[serde(other)]
    Other,
}

/// The end of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochEnd {
    /// When, in UTC as by RFC 3339.
    pub at: String,
    /// What it means.
    pub result: EndResult,
    /// How its process ended, as one word that stays the same: the cause of `last_exit`. None if no process
    /// was seen to end.
    pub cause: Option<String>,
    /// The connections that clients had when it was looked at last, where they could be counted.
    pub connections: Option<u64>,
}

/// What the end of an epoch means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndResult {
    /// It was refused before a process of it was seen, and no retry can help. So it is with a configuration
    /// that the proxy finds invalid.
    Rejected,
    /// It failed.
    Failed,
    /// It was not live in time.
    Late,
    /// It was found unfit.
    Unfit,
    /// It was ended before it was live, for a newer configuration.
    GaveWay,
    /// A newer epoch serves in its place.
    HandedOver,
    /// It has ended otherwise, for example at the end of everything.
    Ended,
    /// A result of a later version.
    #[serde(other)]
    Other,
}
