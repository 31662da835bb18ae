//! What goes over the control socket: JSON over HTTP/1.1, version 1.
//!
//! A later handover may add fields and error codes; what is here keeps its name and its meaning.

mod apply;
mod events;
mod history;
mod wait;
mod who;

use serde::{Deserialize, Serialize};

pub use apply::{Applied, ApplyRequest, ApplyResult};
pub use events::{Event, Events, EventsRequest};
pub use history::{EndResult, EpochEnd, EpochHistory, Stage, StageSince, Verdict};
pub use wait::{Until, WaitRequest, WaitResult, Waited};
pub use who::{
    ClientConnection, ConnectionsOfEpoch, EndedConnections, Peers, PeersError, Sort, Who,
    WhoRequest,
};

/// The version of everything in this file, and the first part of each path.
pub const API: u32 = 1;

/// Asks for the [`Status`], by `GET`.
pub const STATUS: &str = "/v1/status";
/// Asks for the [metrics](crate::metrics), by `GET`. The answer is no JSON.
pub const METRICS: &str = "/v1/metrics";
/// Takes a [`ReloadRequest`], by `POST`.
pub const RELOAD: &str = "/v1/reload";
/// Takes a [`DrainRequest`], by `POST`.
pub const DRAIN: &str = "/v1/drain";
/// Takes an [`UndrainRequest`], by `POST`.
pub const UNDRAIN: &str = "/v1/undrain";
/// Takes a [`StopRequest`], by `POST`.
pub const STOP: &str = "/v1/stop";

/// Takes a [`WhoRequest`], by `POST`.
pub const WHO: &str = "/v1/who";

/// Takes a [`WaitRequest`], by `POST`.
pub const WAIT: &str = "/v1/wait";

/// Takes an [`EventsRequest`], by `POST`.
pub const EVENTS: &str = "/v1/events";

/// Takes a configuration, by `PUT`. An [`ApplyRequest`] is its query.
pub const CONFIG: &str = "/v1/config";

/// The largest configuration that is taken, in bytes.
pub const MAX_CONFIGURATION: usize = 64 << 20;
/// The largest body of any other request, in bytes.
pub const MAX_REQUEST: usize = 4 << 10;
/// The largest answer that a client reads, in bytes.
pub const MAX_ANSWER: usize = 2 << 20;

/// The body of `POST /v1/reload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadRequest {
    /// Answer only once the configuration is live, or known not to go live.
    pub wait: bool,
    /// Do not wait for old epochs that hold the start.
    pub now: bool,
    /// End every epoch first, and start anew with epoch 0.
    pub cold: bool,
    /// Start no epoch where nothing has changed.
    pub if_changed: bool,
    /// With `wait`: answer only once the probation of the configuration is over.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub through_probation: bool,
    /// With `wait`: for how long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The body of `POST /v1/drain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainRequest {
    /// Answer only once no client has a connection.
    pub wait: bool,
    /// With `wait`: for how long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The body of `POST /v1/undrain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UndrainRequest {}

/// The body of `POST /v1/stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// Skip the drain.
    pub now: bool,
    /// Answer only once every epoch has ended.
    pub wait: bool,
    /// With `wait`: for how long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of this interface, [`API`].
    pub api: u32,
    /// The version of handover.
    pub version: String,
    /// The name of the instance.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// When this answer was made, in UTC as by RFC 3339.
    #[serde(default)]
    pub at: String,
    /// For how long it has run, in whole seconds.
    pub uptime_seconds: u64,
    /// What is true of it.
    pub state: State,
    /// Whether clients should be sent to it.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// Whether an epoch serves traffic, be it with the desired configuration or with another.
    pub ready: bool,
    /// Whether what serves is what the files ask for.
    pub current_is_desired: bool,
    /// Whether an older configuration serves because the desired one was given up.
    pub degraded: bool,
    /// Whether health checks fail on request.
    pub drained: bool,
    /// Why the desired configuration is not being started. While files are awaited, it names them.
    pub held: Option<String>,
    /// What is missing of the awaited files, one sentence each; nothing while none is awaited.
    #[serde(default)]
    pub awaited: Option<Vec<String>>,
    /// Why the files, as they are, ask for nothing that can be run.
    pub problem: Option<String>,
    /// How many retries the desired configuration has left.
    pub retries_left: Option<u32>,
    /// The base id of Envoy's shared memory.
    pub base_id: Option<u32>,
    /// What was asked for last.
    pub desired: Configuration,
    /// What the newest live epoch runs with.
    pub current: Option<Configuration>,
    /// The running epochs, oldest first.
    pub epochs: Vec<Epoch>,
    /// The last epochs that were started, at most 32, oldest first.
    #[serde(default)]
    pub history: Vec<EpochHistory>,
    /// The epoch that ended last.
    pub last_exit: Option<LastExit>,
    /// The epoch that failed last; one that was never started can fail too.
    pub last_failure: Option<LastFailure>,
    /// The epoch that is on probation.
    #[serde(default)]
    pub probation: Option<Probation>,
    /// The epoch that was found unfit last, until what is desired has passed its probation.
    #[serde(default)]
    pub unfit: Option<Unfit>,
    /// What has happened so far.
    pub counters: Counters,
    /// How the files are watched.
    #[serde(default)]
    pub watching: Watching,
}

/// An epoch that is live and has yet to prove itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// The number of the epoch.
    pub epoch: u32,
    /// For how long it is still on probation, in whole seconds.
    pub seconds_left: u64,
}

/// An epoch that was live, and served worse than the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// The number of the epoch.
    pub epoch: u32,
    /// Why, in a sentence.
    pub evidence: String,
}

/// How the files are watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watching {
    /// Sentences for people: what is not reported by the system, what is not watched, and which
    /// entries of watched directories cannot be read.
    pub problems: Vec<String>,
    /// The interval in which the files are looked at without an event.
    pub rescan_seconds: Option<f64>,
}

/// Where the supervisor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing serves, and an epoch is being started or will be.
    Starting,
    /// An epoch serves.
    Live,
    /// Everything is to end, and connections are waited for.
    Draining,
    /// Everything is being ended.
    Stopping,
    /// Nothing runs any more.
    Ended,
}

/// A configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The file it was read from; the program, for `exec`.
    pub source: String,
    /// The SHA-256 of its content; for `exec` of the watched files, where files are watched.
    pub hash: Option<String>,
}

/// A running epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// The number of the epoch.
    pub epoch: u32,
    /// What is true of it.
    pub state: EpochState,
    /// None before its process was started.
    pub pid: Option<u32>,
    /// For how long it has run, in whole seconds.
    pub age_seconds: u64,
    /// The hash of its configuration.
    pub config_hash: Option<String>,
    /// The connections that clients have to it, where they can be counted.
    pub active_connections: Option<u64>,
    /// The memory it has in RAM, shared pages included.
    pub rss_bytes: Option<u64>,
    /// Whether it has stopped holding further starts.
    pub released: bool,
}

/// What is true of a running epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochState {
    /// It was started and does not serve yet.
    Starting,
    /// It serves.
    Live,
    /// It finishes what it has begun.
    Draining,
    /// It is being ended.
    Aborting,
}

/// How an epoch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// The number of the epoch.
    pub epoch: u32,
    /// Its process id.
    pub pid: u32,
    /// One word, which stays the same.
    pub cause: String,
    /// A sentence for people.
    pub sentence: String,
    /// When, in UTC as by RFC 3339.
    pub at: String,
    /// For how long it has run, in whole seconds.
    pub uptime_seconds: u64,
}

/// How an epoch failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// The number of the epoch.
    pub epoch: u32,
    /// A sentence for people.
    pub message: String,
}

/// What has happened since the start, as numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Epochs that were started.
    pub started: u64,
    /// Epochs that failed.
    pub failed: u64,
    /// Starts that were put off after a failure.
    pub retries: u64,
    /// Epochs that a newer one has replaced.
    pub hand_overs: u64,
}

/// The answer to `POST /v1/reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The version of this interface, [`API`].
    pub api: u32,
    /// What became of it.
    pub result: ReloadResult,
    /// Whether the files held something else than what was desired before.
    pub changed: bool,
    /// With `wait`: the epoch that is live.
    pub epoch: Option<u32>,
    /// With `now`: the epochs that do not hold the start any more, oldest first.
    pub released: Vec<Released>,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadResult {
    /// The next epoch is on its way.
    Asked,
    /// With `if_changed`: nothing has changed, and nothing was asked for.
    Unchanged,
    /// With `wait`: the configuration is live.
    Live,
}

/// An epoch that holds no start any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The number of the epoch.
    pub epoch: u32,
    /// The connections that clients had to it, where they can be counted.
    pub active_connections: Option<u64>,
    /// Whether the next start ends it, and with it these connections.
    pub cut: bool,
}

/// The answer to `POST /v1/drain` and `POST /v1/undrain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// The version of this interface, [`API`].
    pub api: u32,
    /// What became of it.
    pub result: DrainResult,
    /// The live epoch, which was told, if one is live.
    pub epoch: Option<u32>,
}

/// What became of a drain on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainResult {
    /// Health checks fail.
    Draining,
    /// With `wait`: and no client has a connection.
    Drained,
    /// Health checks do not fail any more.
    Undrained,
}

/// The answer to `POST /v1/stop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The version of this interface, [`API`].
    pub api: u32,
    /// What is true of it.
    pub state: State,
    /// With `wait`: how it ended, in words.
    pub outcome: Option<String>,
    /// With `wait`: the exit code of the supervisor.
    pub exit_code: Option<u8>,
}

/// Any answer that does what was asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To `status`.
    Status(Box<Status>),
    /// To `reload`.
    Reloaded(Reloaded),
    /// To `apply`.
    Applied(Applied),
    /// To `drain` and `undrain`.
    Drained(Drained),
    /// To `stop`.
    Stopped(Stopped),
    /// To `who`.
    Who(Box<Who>),
    /// To `wait`.
    Waited(Waited),
}

/// The answer to what was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The version of this interface, [`API`].
    pub api: u32,
    /// Why.
    pub error: Refusal,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One word for the reason.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
    /// The last lines of the process that failed, or what holds a drain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Refusal {
    /// Returns a refusal without further lines.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            lines: Vec::new(),
        }
    }
}

/// One word for each reason, which stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request cannot be understood.
    BadRequest,
    /// The client is another user than the supervisor's, and not root.
    Forbidden,
    /// There is no such path.
    NotFound,
    /// There is no such version of this interface.
    UnknownVersion,
    /// The path is asked by another method.
    MethodNotAllowed,
    /// The request is larger than any that is needed.
    TooLarge,
    /// What is supervised cannot do that.
    NotSupported,
    /// Everything is ending.
    Ending,
    /// The configuration was rejected, or given up.
    Rejected,
    /// Something else was asked for before it was done.
    Replaced,
    /// The proxy did not do it.
    Failed,
    /// It was not done in time.
    TimedOut,
    /// Too many others are waiting.
    Busy,
    /// A code of a later version.
    #[serde(other)]
    Other,
}

impl Code {
    /// Returns the HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound | Self::UnknownVersion => 404,
            Self::MethodNotAllowed => 405,
            Self::NotSupported | Self::Ending | Self::Replaced => 409,
            Self::TooLarge => 413,
            Self::Rejected => 422,
            Self::Other => 500,
            Self::Failed => 502,
            Self::Busy => 503,
            Self::TimedOut => 504,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_fields_asks_for_the_least() {
        let request: ReloadRequest = serde_json::from_str("{}").unwrap();
        assert_eq!(request, ReloadRequest::default());
        assert_eq!(
            serde_json::to_string(&DrainRequest::default()).unwrap(),
            r#"{"wait":false}"#
        );
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = serde_json::from_str::<StopRequest>(r#"{"nwo": true}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `nwo`"), "{error}");
    }

    #[test]
    fn the_code_of_a_later_version_is_understood_as_some_failure() {
        let failed: Failed = serde_json::from_str(
            r#"{"api":1,"error":{"code":"on_fire","message":"it burns","new":1},"new":2}"#,
        )
        .unwrap();
        assert_eq!(failed.error.code, Code::Other);
    }

    #[test]
    fn what_failed_has_its_lines_only_where_there_are_some() {
        let refusal = Refusal::new(Code::TimedOut, "late");
        assert_eq!(
            serde_json::to_string(&refusal).unwrap(),
            r#"{"code":"timed_out","message":"late"}"#
        );
        assert_eq!(refusal.code.status(), 504);
    }
}
