//! What goes over the control socket: JSON, version 1. `docs/control.md` describes it for others.
//!
//! A later handover may add fields and error codes; what is here keeps its name and its meaning.

use serde::{Deserialize, Serialize};

/// The version of everything in this file, and the first part of each path.
pub(crate) const API: u32 = 1;

/// The paths.
pub(crate) const STATUS: &str = "/v1/status";
pub(crate) const RELOAD: &str = "/v1/reload";
pub(crate) const DRAIN: &str = "/v1/drain";
pub(crate) const UNDRAIN: &str = "/v1/undrain";
pub(crate) const STOP: &str = "/v1/stop";

/// The largest body of a request, in bytes.
pub(crate) const MAX_REQUEST: usize = 4 << 10;
/// The largest answer that a client reads, in bytes.
pub(crate) const MAX_ANSWER: usize = 1 << 20;

/// The body of `POST /v1/reload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReloadRequest {
    /// Answer only once the configuration is live, or known not to go live.
    pub(crate) wait: bool,
    /// Do not wait for old epochs that hold the start.
    pub(crate) now: bool,
    /// End every epoch first, and start anew with epoch 0.
    pub(crate) cold: bool,
    /// Start no epoch where nothing has changed.
    pub(crate) if_changed: bool,
    /// With `wait`: for how long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// The body of `POST /v1/drain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DrainRequest {
    /// Answer only once no client has a connection.
    pub(crate) wait: bool,
    /// With `wait`: for how long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// The body of `POST /v1/undrain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UndrainRequest {}

/// The body of `POST /v1/stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StopRequest {
    /// Skip the drain.
    pub(crate) now: bool,
    /// Answer only once every epoch has ended.
    pub(crate) wait: bool,
    /// With `wait`: for how long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) api: u32,
    /// The version of handover.
    pub(crate) version: String,
    /// The name of the instance.
    pub(crate) name: String,
    /// Its process id.
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: u64,
    pub(crate) state: State,
    /// Whether an epoch serves traffic, be it with the desired configuration or with another.
    pub(crate) ready: bool,
    /// Whether what serves is what the files ask for.
    pub(crate) current_is_desired: bool,
    /// Whether an older configuration serves because the desired one was given up.
    pub(crate) degraded: bool,
    /// Whether health checks fail on request.
    pub(crate) drained: bool,
    /// Why the desired configuration is not being started.
    pub(crate) held: Option<String>,
    /// Why the files, as they are, ask for nothing that can be run.
    pub(crate) problem: Option<String>,
    /// How many retries the desired configuration has left.
    pub(crate) retries_left: Option<u32>,
    /// The base id of Envoy's shared memory.
    pub(crate) base_id: Option<u32>,
    /// What was asked for last.
    pub(crate) desired: Configuration,
    /// What the newest live epoch runs with.
    pub(crate) current: Option<Configuration>,
    /// The running epochs, oldest first.
    pub(crate) epochs: Vec<Epoch>,
    /// The epoch that ended last.
    pub(crate) last_exit: Option<LastExit>,
    /// The epoch that failed last; one that was never started can fail too.
    pub(crate) last_failure: Option<LastFailure>,
    pub(crate) counters: Counters,
    /// How the files are watched.
    #[serde(default)]
    pub(crate) watching: Watching,
}

/// How the files are watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watching {
    /// Sentences for people: what is not reported by the system, what is not watched, and which
    /// entries of watched directories cannot be read.
    pub(crate) problems: Vec<String>,
    /// The interval in which the files are looked at without an event.
    pub(crate) rescan_seconds: Option<f64>,
}

/// Where the supervisor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
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
pub(crate) struct Configuration {
    /// The file it was read from; the program, for `exec`.
    pub(crate) source: String,
    /// The SHA-256 of its content; for `exec` of the watched files, where files are watched.
    pub(crate) hash: Option<String>,
}

/// A running epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Epoch {
    pub(crate) epoch: u32,
    pub(crate) state: EpochState,
    /// None before its process was started.
    pub(crate) pid: Option<u32>,
    pub(crate) age_seconds: u64,
    pub(crate) config_hash: Option<String>,
    /// The connections that clients have to it, where they can be counted.
    pub(crate) active_connections: Option<u64>,
    /// The memory it has in RAM, shared pages included.
    pub(crate) rss_bytes: Option<u64>,
    /// Whether it has stopped holding further starts.
    pub(crate) released: bool,
}

/// What is true of a running epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EpochState {
    Starting,
    Live,
    Draining,
    Aborting,
}

/// How an epoch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastExit {
    pub(crate) epoch: u32,
    pub(crate) pid: u32,
    /// One word, which stays the same.
    pub(crate) cause: String,
    /// A sentence for people.
    pub(crate) sentence: String,
    /// When, in UTC as by RFC 3339.
    pub(crate) at: String,
    pub(crate) uptime_seconds: u64,
}

/// How an epoch failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastFailure {
    pub(crate) epoch: u32,
    pub(crate) message: String,
}

/// What has happened since the start, as numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Epochs that were started.
    pub(crate) started: u64,
    /// Epochs that failed.
    pub(crate) failed: u64,
    /// Starts that were put off after a failure.
    pub(crate) retries: u64,
    /// Epochs that a newer one has replaced.
    pub(crate) hand_overs: u64,
}

/// The answer to `POST /v1/reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    pub(crate) api: u32,
    pub(crate) result: ReloadResult,
    /// Whether the files held something else than what was desired before.
    pub(crate) changed: bool,
    /// With `wait`: the epoch that is live.
    pub(crate) epoch: Option<u32>,
    /// With `now`: the epochs that do not hold the start any more, oldest first.
    pub(crate) released: Vec<Released>,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReloadResult {
    /// The next epoch is on its way.
    Asked,
    /// With `if_changed`: nothing has changed, and nothing was asked for.
    Unchanged,
    /// With `wait`: the configuration is live.
    Live,
}

/// An epoch that holds no start any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Released {
    pub(crate) epoch: u32,
    /// The connections that clients had to it, where they can be counted.
    pub(crate) active_connections: Option<u64>,
    /// Whether the next start ends it, and with it these connections.
    pub(crate) cut: bool,
}

/// The answer to `POST /v1/drain` and `POST /v1/undrain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drained {
    pub(crate) api: u32,
    pub(crate) result: DrainResult,
    /// The live epoch, which was told, if one is live.
    pub(crate) epoch: Option<u32>,
}

/// What became of a drain on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DrainResult {
    /// Health checks fail.
    Draining,
    /// With `wait`: and no client has a connection.
    Drained,
    /// Health checks do not fail any more.
    Undrained,
}

/// The answer to `POST /v1/stop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stopped {
    pub(crate) api: u32,
    pub(crate) state: State,
    /// With `wait`: how it ended, in words.
    pub(crate) outcome: Option<String>,
    /// With `wait`: the exit code of the supervisor.
    pub(crate) exit_code: Option<u8>,
}

/// Any answer that does what was asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Reply {
    Status(Box<Status>),
    Reloaded(Reloaded),
    Drained(Drained),
    Stopped(Stopped),
}

/// The answer to what was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) api: u32,
    pub(crate) error: Refusal,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// A sentence for people.
    pub(crate) message: String,
    /// The last lines of the process that failed, or what holds a drain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lines: Vec<String>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
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
pub(crate) enum Code {
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
    /// The HTTP status.
    pub(crate) fn status(self) -> u16 {
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
