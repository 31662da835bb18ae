//! The status without what the control socket shows to its user only.
//!
//! Left out are process ids, the paths of configurations, and every text that comes from a file, a proxy or a
//! probe, since an error may quote what it found. A field that is added to the status stays inside until it
//! is added here.

use serde::Serialize;

use crate::control::wire::{Counters, EpochHistory, EpochState, Probation, State, Status, Verdict};

/// What stands in the place of a text that is not shown.
pub(super) const NOT_SHOWN: &str = "not shown here: `handover status` shows it";

/// The answer to `GET /status`. Each field has the name and the meaning that it has on the control socket.
#[derive(Debug, Serialize)]
pub(super) struct PublicStatus {
    api: u32,
    version: String,
    name: String,
    at: String,
    uptime_seconds: u64,
    state: State,
    verdict: Option<Verdict>,
    ready: bool,
    current_is_desired: bool,
    degraded: bool,
    drained: bool,
    held: Option<String>,
    problem: Option<&'static str>,
    retries_left: Option<u32>,
    base_id: Option<u32>,
    desired: Configuration,
    current: Option<Configuration>,
    epochs: Vec<Epoch>,
    history: Vec<EpochHistory>,
    last_exit: Option<LastExit>,
    last_failure: Option<LastFailure>,
    probation: Option<Probation>,
    unfit: Option<Unfit>,
    counters: Counters,
    watching: Watching,
}

#[derive(Debug, Serialize)]
struct Configuration {
    hash: Option<String>,
}

#[derive(Debug, Serialize)]
struct Epoch {
    epoch: u32,
    state: EpochState,
    age_seconds: u64,
    config_hash: Option<String>,
    active_connections: Option<u64>,
    rss_bytes: Option<u64>,
    released: bool,
}

#[derive(Debug, Serialize)]
struct LastExit {
    epoch: u32,
    cause: String,
    at: String,
    uptime_seconds: u64,
}

#[derive(Debug, Serialize)]
struct LastFailure {
    epoch: u32,
    message: &'static str,
}

#[derive(Debug, Serialize)]
struct Unfit {
    epoch: u32,
    evidence: &'static str,
}

#[derive(Debug, Serialize)]
struct Watching {
    rescan_seconds: Option<f64>,
}

impl From<Status> for PublicStatus {
    fn from(status: Status) -> Self {
        Self {
            api: status.api,
            version: status.version,
            name: status.name,
            at: status.at,
            uptime_seconds: status.uptime_seconds,
            state: status.state,
            verdict: status.verdict,
            ready: status.ready,
            current_is_desired: status.current_is_desired,
            degraded: status.degraded,
            drained: status.drained,
            held: status.held,
            problem: status.problem.map(|_| NOT_SHOWN),
            retries_left: status.retries_left,
            base_id: status.base_id,
            desired: Configuration {
                hash: status.desired.hash,
            },
            current: status
                .current
                .map(|current| Configuration { hash: current.hash }),
            epochs: status.epochs.into_iter().map(Epoch::from).collect(),
            history: status.history,
            last_exit: status.last_exit.map(|exit| LastExit {
                epoch: exit.epoch,
                cause: exit.cause,
                at: exit.at,
                uptime_seconds: exit.uptime_seconds,
            }),
            last_failure: status.last_failure.map(|failure| LastFailure {
                epoch: failure.epoch,
                message: NOT_SHOWN,
            }),
            probation: status.probation,
            unfit: status.unfit.map(|unfit| Unfit {
                epoch: unfit.epoch,
                evidence: NOT_SHOWN,
            }),
            counters: status.counters,
            watching: Watching {
                rescan_seconds: status.watching.rescan_seconds,
            },
        }
    }
}

impl From<crate::control::wire::Epoch> for Epoch {
    fn from(epoch: crate::control::wire::Epoch) -> Self {
        Self {
            epoch: epoch.epoch,
            state: epoch.state,
            age_seconds: epoch.age_seconds,
            config_hash: epoch.config_hash,
            active_connections: epoch.active_connections,
            rss_bytes: epoch.rss_bytes,
            released: epoch.released,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire;

    /// Every text of it that may hold a secret says so.
    fn full() -> Status {
        let secret = || "SECRET".to_owned();
        Status {
            api: 1,
            version: "0.1.0".to_owned(),
            name: "web".to_owned(),
            pid: 4711,
            at: "2026-01-01T00:00:02.000Z".to_owned(),
            uptime_seconds: 1,
            state: State::Live,
            verdict: Some(Verdict {
                health: "DEGRADED".to_owned(),
                why: "epoch 2 serves, but not what is desired".to_owned(),
            }),
            ready: true,
            current_is_desired: false,
            degraded: true,
            drained: false,
            held: Some("2 epochs run already".to_owned()),
            problem: Some(secret()),
            retries_left: Some(3),
            base_id: Some(7),
            desired: wire::Configuration {
                source: secret(),
                hash: Some("d1".to_owned()),
            },
            current: Some(wire::Configuration {
                source: secret(),
                hash: Some("c1".to_owned()),
            }),
            epochs: vec![wire::Epoch {
                epoch: 2,
                state: EpochState::Live,
                pid: Some(4711),
                age_seconds: 3,
                config_hash: Some("c1".to_owned()),
                active_connections: Some(5),
                rss_bytes: Some(6),
                released: false,
            }],
            history: vec![EpochHistory {
                epoch: 1,
                stages: vec![wire::StageSince {
                    stage: wire::Stage::Starting,
                    at: "2026-01-01T00:00:00.000Z".to_owned(),
                }],
                end: Some(wire::EpochEnd {
                    at: "2026-01-01T00:00:01.000Z".to_owned(),
                    result: wire::EndResult::Failed,
                    cause: Some("exited".to_owned()),
                    connections: None,
                }),
            }],
            last_exit: Some(wire::LastExit {
                epoch: 1,
                pid: 4711,
                cause: "exited".to_owned(),
                sentence: secret(),
                at: "2026-01-01T00:00:00Z".to_owned(),
                uptime_seconds: 8,
            }),
            last_failure: Some(wire::LastFailure {
                epoch: 1,
                message: secret(),
            }),
            probation: None,
            unfit: Some(wire::Unfit {
                epoch: 1,
                evidence: secret(),
            }),
            counters: Counters::default(),
            watching: wire::Watching {
                problems: vec![secret()],
                rescan_seconds: Some(10.0),
            },
        }
    }

    #[test]
    fn what_a_status_shows_to_everyone_is_no_path_no_process_and_no_foreign_text() {
        let text = serde_json::to_string_pretty(&PublicStatus::from(full())).unwrap();
        assert!(!text.contains("SECRET"), "{text}");
        assert!(!text.contains("4711"), "{text}");
        assert!(text.contains("\"config_hash\": \"c1\""), "{text}");
        assert_eq!(text.matches(NOT_SHOWN).count(), 3, "{text}");
    }

    #[test]
    fn what_is_shown_has_the_names_and_values_of_the_control_socket() {
        let inside = serde_json::to_value(full()).unwrap();
        let outside = serde_json::to_value(PublicStatus::from(full())).unwrap();
        let same = |outside: &serde_json::Value, inside: &serde_json::Value| {
            for (key, value) in outside.as_object().unwrap() {
                let fits = value == &inside[key] || value.is_object() || value.is_array();
                assert!(fits || value == NOT_SHOWN, "{key}");
            }
        };
        same(&outside, &inside);
        same(&outside["epochs"][0], &inside["epochs"][0]);
        for part in [
            "desired",
            "current",
            "last_exit",
            "last_failure",
            "unfit",
            "watching",
        ] {
            same(&outside[part], &inside[part]);
        }
    }
}
