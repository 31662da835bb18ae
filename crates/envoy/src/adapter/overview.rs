//! What an agent can tell of its Envoys while they run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use handover_core::Epoch;
use handover_files::Digest;

use super::running::{EnvoyProcess, RunningEpochs, off_the_runtime};
use crate::admin::Exclude;
use crate::failure::Failure;

/// The Envoys of one agent at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overview {
    /// The running epochs, oldest first.
    pub epochs: Vec<EpochOverview>,
    /// The epoch that ended last, if one has.
    pub last_ended: Option<EndedEpoch>,
    /// Whether the live epoch's health checks fail on request; see
    /// [`Envoy::drain_on_request`](super::Envoy::drain_on_request).
    pub drained: bool,
}

/// One running Envoy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EpochOverview {
    /// The number of the epoch.
    pub epoch: Epoch,
    /// The process id of the epoch.
    pub pid: u32,
    /// How long the process has been running.
    pub uptime: Duration,
    /// Whether the epoch was seen live.
    pub live: bool,
    /// The file that the configuration of the epoch was read from.
    pub config: PathBuf,
    /// The SHA-256 of the configuration of the epoch.
    pub digest: Digest,
    /// Whether clients can connect to the epoch: whether it has a listening socket beside that of its
    /// admin endpoint. `None` if that cannot be seen, or if its configuration has no listener.
    pub listens: Option<bool>,
    /// How many connections clients have to the epoch. `None` if they cannot be counted from outside,
    /// as with listeners that are not TCP.
    pub connections: Option<usize>,
    /// How much memory the process has in RAM, in bytes, shared pages included. `None` if that
    /// cannot be read.
    pub resident_bytes: Option<u64>,
}

/// An Envoy that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedEpoch {
    /// The number of the epoch, which may be another epoch's by now.
    pub epoch: Epoch,
    /// The process id that the epoch had.
    pub pid: u32,
    /// Why the epoch ended.
    pub failure: Failure,
    /// What the agent knows beside that: that it killed an epoch which did not answer, for example.
    pub note: Option<String>,
    /// When the epoch ended.
    pub at: SystemTime,
    /// How long the process ran.
    pub uptime: Duration,
}

/// Returns the memory of a process in RAM, as its table shows it. The kernel may keep a reader waiting.
async fn resident_bytes(process: &Arc<EnvoyProcess>) -> Option<u64> {
    let process = Arc::clone(process);
    off_the_runtime(move || process.child.resident_bytes())
        .await
        .flatten()
}

/// Returns what is known of each running epoch, oldest first.
pub(super) async fn of_each(running: &RunningEpochs) -> Vec<EpochOverview> {
    // The newest one has not been looked at: that is done when the next one starts.
    running.note_listening().await;
    let mut epochs = Vec::new();
    for process in running.all() {
        let (live, listens) = {
            let table = running.table();
            (table.is_live(process.epoch), table.listens(process.epoch))
        };
        epochs.push(EpochOverview {
            epoch: process.epoch,
            pid: process.pid(),
            uptime: process.started.elapsed(),
            live,
            config: process.config.source().to_owned(),
            digest: process.config.digest(),
            listens,
            connections: running.connections(&process, &Exclude::default()).await,
            resident_bytes: resident_bytes(&process).await,
        });
    }
    epochs
}
