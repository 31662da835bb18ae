//! What a running Envoy says about itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::{http, limit};

/// For one answer; a healthy admin endpoint needs a millisecond.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// The admin endpoint of an Envoy on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub struct EnvoyAdmin {
    addr: SocketAddr,
}

/// The part of `/server_info` that tells who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// `LIVE`, `DRAINING`, `PRE_INITIALIZING` or `INITIALIZING`.
    pub state: String,
    /// The restart epoch it was started with.
    pub restart_epoch: u64,
}

impl EnvoyAdmin {
    /// The endpoint on this port.
    #[must_use]
    pub fn on(port: u16) -> Self {
        Self {
            addr: (Ipv4Addr::LOCALHOST, port).into(),
        }
    }

    /// Who answers; `None` when nobody does, or not in a sound way.
    #[must_use]
    pub fn server_info(&self) -> Option<ServerInfo> {
        self.ask_server_info().ok()
    }

    /// Who answers.
    ///
    /// # Errors
    ///
    /// What became of the question, or an answer that tells nothing.
    pub fn ask_server_info(&self) -> io::Result<ServerInfo> {
        let response = http::get(self.addr, "/server_info", ANSWER_LIMIT)?;
        let read = || {
            let info: serde_json::Value = serde_json::from_slice(&response.body).ok()?;
            let options = info.get("command_line_options")?;
            Some(ServerInfo {
                state: info.get("state")?.as_str()?.to_owned(),
                restart_epoch: options.get("restart_epoch")?.as_u64()?,
            })
        };
        read().ok_or_else(|| io::Error::other(format!("no server info: {response:?}")))
    }

    /// The version of Envoy that answers, such as `1.40.0`; `None` as for
    /// [`server_info`](Self::server_info).
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let response = http::get(self.addr, "/server_info", ANSWER_LIMIT).ok()?;
        let info: serde_json::Value = serde_json::from_slice(&response.body).ok()?;
        // The source revision, the version, and how it was built.
        let version = info.get("version")?.as_str()?.split('/').nth(1)?;
        Some(version.to_owned())
    }

    /// Waits until `epoch` says that it is live.
    ///
    /// # Panics
    ///
    /// When `limit` passes first; the message has the last answer.
    #[track_caller]
    pub fn wait_live(&self, epoch: u64, limit: Duration) {
        let wanted = ServerInfo {
            state: "LIVE".to_owned(),
            restart_epoch: epoch,
        };
        let mut last = None;
        let live = limit::poll(limit, || {
            last = self.server_info();
            (last.as_ref() == Some(&wanted)).then_some(())
        });
        let addr = self.addr;
        assert!(
            live.is_some(),
            "waited {limit:?} in vain for {wanted:?} on {addr}, got {last:?}"
        );
    }

    /// The value of one counter or gauge by its full name; `None` when nobody answers or there is
    /// no such statistic.
    #[must_use]
    pub fn stat(&self, name: &str) -> Option<u64> {
        let response = http::get(self.addr, "/stats", ANSWER_LIMIT).ok()?;
        let text = response.text();
        let mut values = text.lines().filter_map(|line| line.split_once(": "));
        values
            .find(|(stat, _)| *stat == name)
            .and_then(|(_, value)| value.parse().ok())
    }
}
