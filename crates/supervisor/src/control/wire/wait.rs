//! Waiting until something is so.

use serde::{Deserialize, Serialize};

use super::{EpochState, State, Status};

/// What can be waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The instance is ready, as its status says.
    #[default]
    Ready,
    /// An epoch is live.
    Live,
    /// The instance is ready, and what serves is what the files ask for.
    Current,
}

/// The body of `POST /v1/wait`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WaitRequest {
    /// What is waited for.
    pub until: Until,
    /// For how long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The answer to `POST /v1/wait`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// The version of this interface, [`API`](super::API).
    pub api: u32,
    /// How the wait has ended.
    pub result: WaitResult,
    /// The live epoch, if what was waited for is so.
    pub epoch: Option<u32>,
    /// How the instance has ended, in words, if it has.
    pub outcome: Option<String>,
    /// The exit code of the instance, if it has ended.
    pub exit_code: Option<u8>,
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitResult {
    /// What was waited for is so.
    Reached,
    /// The instance has ended by itself before.
    Ended,
}

impl Status {
    /// Returns what is missing until this is so, in words; `None` if nothing is.
    #[must_use]
    pub fn missing(&self, until: Until) -> Option<String> {
        let mut epochs = self.epochs.iter().rev();
        let live = epochs.find(|epoch| epoch.state == EpochState::Live);
        let Some(live) = live.filter(|_| !self.is_ending()) else {
            return Some(self.because("no epoch is live"));
        };
        let live = live.epoch;
        match until {
            Until::Ready | Until::Current if !self.ready => {
                Some(self.because(&format!("epoch {live} is live, but not seen to serve")))
            }
            Until::Current if !self.current_is_desired => Some(self.because(&format!(
                "epoch {live} serves another configuration than the desired one"
            ))),
            Until::Live | Until::Ready | Until::Current => None,
        }
    }

    fn is_ending(&self) -> bool {
        match self.state {
            State::Starting | State::Live => false,
            State::Draining | State::Stopping | State::Ended => true,
        }
    }

    /// Adds what the status knows of the reason.
    fn because(&self, what: &str) -> String {
        let ends = self
            .is_ending()
            .then(|| "the instance is ending".to_owned());
        let starting = self.epochs.iter().rev();
        let mut starting = starting.filter(|epoch| epoch.state == EpochState::Starting);
        let starts = starting
            .next()
            .map(|epoch| format!("epoch {} is starting", epoch.epoch));
        let failed = self.last_failure.as_ref();
        let failed =
            failed.map(|failure| format!("epoch {} failed: {}", failure.epoch, failure.message));
        let reasons = ends
            .into_iter()
            .chain(self.held.clone().or(starts))
            .chain(self.problem.clone())
            .chain(failed);
        let reasons: Vec<String> = reasons.collect();
        match reasons.as_slice() {
            [] => what.to_owned(),
            reasons => format!("{what}: {}", reasons.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status of a live instance, with these other fields.
    fn status(change: &serde_json::Value) -> Status {
        let mut status = serde_json::json!({
            "api": 1, "version": "0", "name": "web", "pid": 1, "uptime_seconds": 1, "state": "live",
            "ready": true, "current_is_desired": true, "degraded": false, "drained": false,
            "held": null, "problem": null, "retries_left": null, "base_id": null,
            "desired": { "source": "a", "hash": null }, "current": null,
            "epochs": [{
                "epoch": 3, "state": "live", "pid": 7, "age_seconds": 1, "config_hash": null,
                "active_connections": null, "rss_bytes": null, "released": false,
            }],
            "last_exit": null, "last_failure": null,
            "counters": { "started": 1, "failed": 0, "retries": 0, "hand_overs": 0 },
        });
        for (name, value) in change.as_object().unwrap() {
            status[name] = value.clone();
        }
        serde_json::from_value(status).unwrap()
    }

    fn missing(change: &serde_json::Value) -> [Option<String>; 3] {
        let status = status(change);
        [Until::Live, Until::Ready, Until::Current].map(|until| status.missing(until))
    }

    #[test]
    fn each_further_condition_asks_for_more() {
        assert_eq!(missing(&serde_json::json!({})), [None, None, None]);
        let failure = serde_json::json!({ "epoch": 4, "message": "no such cluster" });
        let older = serde_json::json!({ "current_is_desired": false, "last_failure": failure });
        let another = "epoch 3 serves another configuration than the desired one: epoch 4 failed: no such \
                       cluster";
        assert_eq!(missing(&older), [None, None, Some(another.to_owned())]);
        let deaf = serde_json::json!({ "ready": false, "problem": "nothing listens" });
        let unseen = Some("epoch 3 is live, but not seen to serve: nothing listens".to_owned());
        assert_eq!(missing(&deaf), [None, unseen.clone(), unseen]);
    }

    #[test]
    fn why_nothing_is_live_is_said() {
        let all = |why: &str| [(); 3].map(|()| Some(why.to_owned()));
        let none = serde_json::json!([]);
        assert_eq!(
            missing(&serde_json::json!({ "epochs": none, "held": "a retry is due in 1s" })),
            all("no epoch is live: a retry is due in 1s")
        );
        assert_eq!(
            missing(&serde_json::json!({ "epochs": none })),
            all("no epoch is live")
        );
        assert_eq!(
            missing(&serde_json::json!({ "state": "draining" })),
            all("no epoch is live: the instance is ending")
        );
    }
}
