//! The status without what the control socket shows to its user only.
//!
//! Left out are process ids, the paths of configurations, and every text that comes from a file, a proxy or a
//! probe, since an error may quote what it found. A field that is added to the status stays inside until it
//! is added here.

use serde::Serialize;

use crate::control::wire::{Counters, EpochHistory, EpochState, Probation, State, Status, Verdict};

/// What stands in the place of a text that is not shown.
pub(super) const NOT_SHOWN: &str = "not shown here: `handover status` shows it";
/// Why nothing is started while files are awaited, without their paths.
pub(super) const AWAITS_FILES: &str = "files are awaited: `handover status` shows which";
/// Why there is no status, whatever the supervisor has said.
pub(super) const NO_STATUS: &str =
    "the supervisor has no status at this moment: `handover status` shows the reason";

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
            held: match status.awaited {
                Some(_) => Some(AWAITS_FILES.to_owned()),
                None => status.held,
            },
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
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::control::wire;

    /// A status in which no field is empty.
    pub(crate) fn full() -> Status {
        let text = || "a text".to_owned();
        Status {
            api: 1,
            version: text(),
            name: text(),
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
            held: Some(text()),
            awaited: Some(vec![text()]),
            problem: Some(text()),
            retries_left: Some(3),
            base_id: Some(7),
            desired: wire::Configuration {
                source: text(),
                hash: Some(text()),
            },
            current: Some(wire::Configuration {
                source: text(),
                hash: Some(text()),
            }),
            epochs: vec![wire::Epoch {
                epoch: 2,
                state: EpochState::Live,
                pid: Some(4711),
                age_seconds: 3,
                config_hash: Some(text()),
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
                cause: text(),
                sentence: text(),
                at: text(),
                uptime_seconds: 8,
            }),
            last_failure: Some(wire::LastFailure {
                epoch: 1,
                message: text(),
            }),
            probation: Some(Probation {
                epoch: 2,
                seconds_left: 9,
            }),
            unfit: Some(wire::Unfit {
                epoch: 1,
                evidence: text(),
            }),
            counters: Counters::default(),
            watching: wire::Watching {
                problems: vec![text()],
                rescan_seconds: Some(10.0),
            },
        }
    }

    /// Visits everything in a value that has no parts, with its place.
    fn leaves(at: &str, value: &mut Value, visit: &mut impl FnMut(&str, &mut Value)) {
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    leaves(&format!("{at}.{key}"), field, visit);
                }
            }
            Value::Array(items) => {
                for item in items {
                    leaves(at, item, visit);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => visit(at, value),
        }
    }

    /// The places at which everyone reads a text or a process id of the control socket.
    fn shown(status: Status) -> String {
        let mut inside = serde_json::to_value(status).unwrap();
        leaves("", &mut inside, &mut |at, value| {
            // The state is one of a few words, so it can hold nothing else.
            if value.is_string() && !at.ends_with(".state") {
                *value = json!("SECRET");
            }
        });
        let secret: Status = serde_json::from_value(inside).unwrap();
        let mut outside = serde_json::to_value(PublicStatus::from(secret)).unwrap();
        let mut shown = Vec::new();
        leaves("", &mut outside, &mut |at, value| {
            if value.to_string().contains("SECRET") || value == 4711 {
                shown.push(at.to_owned());
            }
        });
        shown.join(" ")
    }

    #[test]
    fn what_a_status_shows_to_everyone_is_no_path_no_process_and_no_foreign_text() {
        let public = ".at .current.hash .desired.hash .epochs.config_hash";
        let rest = ".history.end.at .history.end.cause .history.stages.at .last_exit.at .last_exit.cause \
                    .name .verdict.health .verdict.why .version";
        assert_eq!(shown(full()), format!("{public} {rest}"));
        // A reason of the agent names no file.
        let without = Status {
            awaited: None,
            ..full()
        };
        assert_eq!(shown(without), format!("{public} .held {rest}"));
    }

    #[test]
    fn awaited_files_and_texts_are_told_of_in_words_that_lead_to_them() {
        let text = serde_json::to_string(&PublicStatus::from(full())).unwrap();
        assert_eq!(text.matches(NOT_SHOWN).count(), 3, "{text}");
        assert_eq!(text.matches(AWAITS_FILES).count(), 1, "{text}");
    }

    #[test]
    fn what_is_shown_has_the_names_and_values_of_the_control_socket() {
        let inside = serde_json::to_value(full()).unwrap();
        let outside = serde_json::to_value(PublicStatus::from(full())).unwrap();
        let same = |outside: &Value, inside: &Value| {
            for (key, value) in outside.as_object().unwrap() {
                let fits = value == &inside[key] || value.is_object() || value.is_array();
                assert!(fits || value == NOT_SHOWN || value == AWAITS_FILES, "{key}");
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
