//! What a proxy can be asked and told beside what the state machine knows of it.

mod envoy;

use std::collections::BTreeMap;
use std::error::Error;

use async_trait::async_trait;
use handover_core::Epoch;
use handover_process::Signal;
use handover_tokio::Proxy;

use crate::control::wire::{Configuration, LastExit, Refusal};

/// A proxy whose processes can be looked at and spoken to while they run.
#[async_trait]
pub(crate) trait Operate: Proxy {
    /// Whether the start of another epoch ends one that was released from the cap.
    const RELEASED_IS_CUT: bool;

    /// Why a cold restart is nothing for it, if it is not.
    const NO_COLD_RESTART: Option<&str>;

    /// The flag that says how long the drain after TERM may take.
    const DRAIN_TIME_FLAG: &str;

    /// Sends the signal to the process of every epoch.
    fn forward(&self, signal: Signal);

    /// What a configuration is, without its content.
    fn describe(&self, config: &Self::Config) -> Configuration;

    /// What runs. It may take some milliseconds.
    async fn facts(&self) -> Facts;

    /// Makes health checks fail until further notice; returns the live epoch, if there is one.
    async fn drain_on_request(&self) -> Result<Option<Epoch>, Refusal>;

    /// Takes that back.
    async fn undrain(&self) -> Result<Option<Epoch>, Refusal>;

    /// The connections that clients have, in words.
    async fn held_by(&self) -> Vec<String>;

    /// In words, why it cannot be seen whether clients have connections, if it cannot.
    async fn unknown_clients(&self) -> Vec<String>;

    /// Waits until no client has a connection.
    async fn without_clients(&self);

    /// What a drain that was not done in time has cut, and what gives it more time, in words.
    fn cut(&self) -> Option<String>;

    /// The last lines of the process whose failure this is.
    fn last_words(error: &(dyn Error + 'static)) -> Vec<String>;
}

/// What runs, and what has run.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) epochs: BTreeMap<Epoch, EpochFacts>,
    pub(crate) last_exit: Option<LastExit>,
    pub(crate) drained: bool,
    pub(crate) base_id: Option<u32>,
}

/// The process of an epoch.
#[derive(Debug)]
pub(crate) struct EpochFacts {
    pub(crate) pid: u32,
    pub(crate) config: Configuration,
    /// Whether clients can connect to it, where that can be seen.
    pub(crate) listens: Option<bool>,
    pub(crate) active_connections: Option<u64>,
    pub(crate) rss_bytes: Option<u64>,
}

/// An error and its causes on one line.
fn sentence(error: impl Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}
