//! What is kept of an epoch: how it ended, for whoever asks, and in the state directory its configuration once it is live, and a
//! report where it ends otherwise than asked. The disk is waited for on threads of its own, and a full one
//! costs a warning, never an epoch.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use handover_core::Epoch;
use handover_tokio::error_chain;
use handover_tokio::process::{Child, ExitCause};

use super::{EndedEpoch, Envoy, EnvoyConfig};
use crate::admin::ServerInfo;
use crate::failure::Failure;
use crate::last_good::{Stored, WentLive};
use crate::report::CrashReport;
use crate::version::EnvoyVersion;

/// What has to be known until an epoch has ended.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// The version of each live epoch.
    versions: Mutex<BTreeMap<Epoch, String>>,
    /// The epoch that ended last.
    last_ended: Mutex<Option<EndedEpoch>>,
    /// How many epochs went live.
    live: AtomicU64,
    /// Which of them has its configuration kept: a slow disk must not let an older one win.
    stored: Arc<Mutex<u64>>,
}

/// How an epoch ended.
pub(super) struct Ended {
    pub(super) cause: ExitCause,
    pub(super) failure: Failure,
    pub(super) note: Option<String>,
    pub(super) uptime: Duration,
}

impl Keeping {
    pub(super) fn last_ended(&self) -> Option<EndedEpoch> {
        lock(&self.last_ended).clone()
    }
}

impl Envoy {
    /// Keeps the configuration of an epoch that has just gone live.
    pub(super) fn keep_last_good(&self, epoch: Epoch, config: &EnvoyConfig, info: &ServerInfo) {
        let version = EnvoyVersion::parse(&info.version)
            .map_or_else(|| info.version.clone(), |version| version.to_string());
        lock(&self.keeping.versions).insert(epoch, version.clone());
        let Some(last_good) = self.settings.last_good.clone() else {
            return;
        };
        let turn = self.keeping.live.fetch_add(1, Ordering::Relaxed) + 1;
        let stored = Arc::clone(&self.keeping.stored);
        let config = config.clone();
        let live = WentLive {
            at: SystemTime::now(),
            envoy: version,
        };
        tokio::task::spawn_blocking(move || {
            let mut stored = lock(&stored);
            if *stored > turn {
                return;
            }
            *stored = turn;
            match last_good.store(&config, &live) {
                Ok(Stored::Written) => tracing::debug!(
                    epoch = epoch.number(),
                    "kept {config} as the last-known-good configuration"
                ),
                Ok(Stored::Unchanged) => {}
                Err(error) => warn(epoch, &error),
            }
        });
    }

    /// Notes the end of an epoch, and reports it where something went wrong.
    pub(super) fn report(&self, epoch: Epoch, config: &EnvoyConfig, child: &Child, ended: Ended) {
        let version = lock(&self.keeping.versions).remove(&epoch);
        *lock(&self.keeping.last_ended) = Some(EndedEpoch {
            epoch,
            pid: child.pid(),
            failure: ended.failure.clone(),
            note: ended.note.clone(),
            at: SystemTime::now(),
            uptime: ended.uptime,
        });
        let Some(reports) = self.settings.reports.clone() else {
            return;
        };
        if ended.failure.is_expected() {
            return;
        }
        let tail = child.stderr_tail();
        let report = CrashReport {
            time: SystemTime::now(),
            epoch: epoch.number(),
            pid: child.pid(),
            cause: ended.cause,
            failure: ended.failure,
            note: ended.note,
            config: config.source().to_owned(),
            digest: config.digest(),
            binary: self.settings.binary.clone(),
            version,
            uptime: ended.uptime,
            stderr: tail.lines().map(<[u8]>::to_vec).collect(),
        };
        tokio::task::spawn_blocking(move || match reports.write(&report) {
            Ok(path) => tracing::info!(
                epoch = epoch.number(),
                "the last words of epoch {epoch} are in {}",
                path.display()
            ),
            Err(error) => warn(epoch, &error),
        });
    }
}

fn warn(epoch: Epoch, error: &dyn Error) {
    tracing::warn!(epoch = epoch.number(), "{}", error_chain(error));
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half-way by a panic.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
