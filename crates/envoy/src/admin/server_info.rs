//! What `/server_info` says.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use crate::text::one_line;

/// Who answers on an admin endpoint, and in which state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The state.
    pub state: ServerState,
    /// The restart epoch of the process that answers.
    pub restart_epoch: u32,
    /// The number of its worker threads, where the answer has it.
    pub concurrency: Option<NonZeroU32>,
    /// Envoy's version string: revision, version, and how it was built.
    pub version: String,
    /// What `--hot-restart-version` prints; `disabled` where hot restart is off.
    pub hot_restart_version: String,
    /// How long this epoch has been running, in whole seconds.
    pub uptime: Duration,
    /// How long it is since the first epoch started, in whole seconds.
    pub uptime_all_epochs: Duration,
}

/// The state of an Envoy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerState {
    /// It serves.
    Live,
    /// Its health checks fail on request.
    Draining,
    /// It waits for clusters.
    PreInitializing,
    /// It waits for listeners and what they need.
    Initializing,
    /// A state that this crate does not know.
    Other(String),
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
            Self::Other(state) => state,
        })
    }
}

impl ServerInfo {
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Raw {
            state: String,
            #[serde(default)]
            version: String,
            #[serde(default)]
            hot_restart_version: String,
            #[serde(default)]
            uptime_current_epoch: String,
            #[serde(default)]
            uptime_all_epochs: String,
            command_line_options: Options,
        }
        #[derive(Deserialize)]
        struct Options {
            restart_epoch: u32,
            #[serde(default)]
            concurrency: u32,
        }
        let raw: Raw =
            serde_json::from_slice(body).map_err(|error| one_line(&error.to_string()))?;
        Ok(Self {
            state: match &*raw.state {
                "LIVE" => ServerState::Live,
                "DRAINING" => ServerState::Draining,
                "PRE_INITIALIZING" => ServerState::PreInitializing,
                "INITIALIZING" => ServerState::Initializing,
                other => ServerState::Other(one_line(other)),
            },
            restart_epoch: raw.command_line_options.restart_epoch,
            concurrency: NonZeroU32::new(raw.command_line_options.concurrency),
            version: one_line(&raw.version),
            hot_restart_version: one_line(&raw.hot_restart_version),
            uptime: seconds(&raw.uptime_current_epoch)?,
            uptime_all_epochs: seconds(&raw.uptime_all_epochs)?,
        })
    }
}

/// A Protobuf duration in its JSON form, `12s` or `1.5s`; empty is zero.
fn seconds(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    text.strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("{:?} is no duration", one_line(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_is_kept_and_shown() {
        let info = ServerInfo::parse(
            br#"{"state": "DREAMING", "command_line_options": {"restart_epoch": 3, "x": 1}}"#,
        )
        .unwrap();
        assert_eq!(info.state, ServerState::Other("DREAMING".to_owned()));
        assert_eq!(info.state.to_string(), "DREAMING");
        assert_eq!(info.restart_epoch, 3);
    }

    #[test]
    fn strange_answers_are_refused() {
        for body in [
            "",
            "{}",
            "null",
            "[]",
            r#"{"state": "LIVE", "command_line_options": {"restart_epoch": -1}}"#,
            r#"{"state": "LIVE", "command_line_options": {}}"#,
            r#"{"state": "LIVE", "command_line_options": {"restart_epoch": 1}, "uptime_current_epoch": "1"}"#,
            r#"{"state": "LIVE", "command_line_options": {"restart_epoch": 1}, "uptime_current_epoch": "-1s"}"#,
            r#"{"state": "LIVE", "command_line_options": {"restart_epoch": 1}, "uptime_all_epochs": "1e999s"}"#,
        ] {
            assert!(ServerInfo::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(
            text in r#"\{("(version|state|restart_epoch|command_line_options|hot_restart_version|uptime_current_epoch)":("[a-zA-Z0-9./]{0,30}"|-?[0-9]{1,25}|null|\{|\[|\}),?){0,9}\}{0,2}"#,
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            let _read = ServerInfo::parse(text.as_bytes()).is_ok();
            let _refused = ServerInfo::parse(&bytes).is_err();
        }
    }
}
