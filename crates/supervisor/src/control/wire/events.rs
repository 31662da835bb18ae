//! What has happened.

use serde::{Deserialize, Serialize};

/// The body of `POST /v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsRequest {
    /// The id of the last event that the client knows. Without it, the answer begins with the oldest event
    /// that is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Answer only once there is an event.
    pub wait: bool,
    /// With `wait`: for how long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The answer to `POST /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The version of this interface, [`API`](super::API).
    pub api: u32,
    /// What has happened, oldest first. More may be there than one answer has: ask again with the last id.
    pub events: Vec<Event>,
    /// How many events before the first one are not held any more. Nothing if the client's id is of another run.
    pub missed: Option<u64>,
    /// Whether nothing more comes, because the instance is ending.
    pub ended: bool,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The run and the number of the event, as `RUN-NUMBER`. The first number of a run is 1.
    pub id: String,
    /// When it happened, in UTC as by RFC 3339.
    pub at: String,
    /// What it is about, in one word. A later version may have others.
    pub event: String,
    /// The epoch that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// The new health, if it is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// A sentence for people.
    pub text: String,
    /// The reason, as far as one is known. It may quote a file or a process, and has 4 KiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
