//! What is kept of each epoch: in memory how it ended, and in the state directory its configuration
//! once it has passed its probation, and a report if it ends otherwise than asked.
//!
//! Threads of their own wait for the disk. A full disk costs a warning, never an epoch, and is tried
//! again.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use handover_core::Epoch;
use handover_process::{Child, ExitCause};
use handover_runtime::offload::{OffloadError, offload};
use handover_tokio::error_chain;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{EndedEpoch, EnvoyConfig};
use crate::admin::ServerInfo;
use crate::failure::Failure;
use crate::last_good::{LastKnownGood, Stored, WentLive};
use crate::report::{CrashReport, CrashReports};
use crate::version::EnvoyVersion;

/// The pause before something that was not written is tried again the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest of the growing pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How many reports wait for room on the disk at most: each has up to a few hundred lines.
const WAITING_REPORTS: usize = 8;

/// What has to be known until an epoch has ended.
#[derive(Debug)]
pub(super) struct Records {
    last_good: Option<LastKnownGood>,
    reports: Option<CrashReports>,
    /// The binary, as a report names it.
    binary: PathBuf,
    /// The version of each live epoch.
    versions: Mutex<BTreeMap<Epoch, String>>,
    /// The epoch that ended last.
    last_ended: Mutex<Option<EndedEpoch>>,
    /// How many epochs have passed their probation.
    proven: AtomicU64,
    /// Which of them has its configuration kept: a slow disk must not let an older one win.
    stored: Arc<Mutex<u64>>,
    /// Places for reports that are being written.
    places: Arc<Semaphore>,
}

/// The end of an epoch, as it is kept.
pub(super) struct EndRecord {
    pub(super) cause: ExitCause,
    pub(super) failure: Failure,
    pub(super) note: Option<String>,
    pub(super) uptime: Duration,
}

impl Records {
    /// Keeps what has a place to be kept.
    pub(super) fn new(
        last_good: Option<LastKnownGood>,
        reports: Option<CrashReports>,
        binary: PathBuf,
    ) -> Self {
        Self {
            last_good,
            reports,
            binary,
            versions: Mutex::default(),
            last_ended: Mutex::default(),
            proven: AtomicU64::default(),
            stored: Arc::default(),
            places: Arc::new(Semaphore::new(WAITING_REPORTS)),
        }
    }

    /// Returns the epoch that ended last.
    pub(super) fn last_ended(&self) -> Option<EndedEpoch> {
        lock(&self.last_ended).clone()
    }

    /// Notes which version of Envoy an epoch is that has just gone live. Returns what is kept with its
    /// configuration, should it pass its probation.
    pub(super) fn note_live(&self, epoch: Epoch, info: &ServerInfo) -> WentLive {
        let envoy = EnvoyVersion::parse(&info.version)
            .map_or_else(|| info.version.clone(), |version| version.to_string());
        lock(&self.versions).insert(epoch, envoy.clone());
        WentLive {
            at: SystemTime::now(),
            envoy,
        }
    }

    /// Keeps the configuration of an epoch that has passed its probation. One that was found unfit
    /// must not replace the last good one.
    pub(super) fn keep_last_good(&self, epoch: Epoch, config: &EnvoyConfig, live: WentLive) {
        let Some(last_good) = self.last_good.clone() else {
            return;
        };
        let turn = self.proven.fetch_add(1, Ordering::Relaxed) + 1;
        let stored = Arc::clone(&self.stored);
        let config = config.clone();
        let work = Arc::new(move || {
            let mut stored = lock(&stored);
            if *stored > turn {
                return Ok(());
            }
            *stored = turn;
            if last_good.store(&config, &live)? == Stored::Written {
                tracing::debug!(
                    epoch = epoch.number(),
                    "kept {config} as the last-known-good configuration"
                );
            }
            Ok(())
        });
        tokio::spawn(until_written(epoch, work));
    }

    /// Notes the end of an epoch, and reports it where something went wrong.
    pub(super) fn report(
        &self,
        epoch: Epoch,
        config: &EnvoyConfig,
        child: &Child,
        ended: EndRecord,
    ) {
        let version = lock(&self.versions).remove(&epoch);
        *lock(&self.last_ended) = Some(EndedEpoch {
            epoch,
            pid: child.pid(),
            failure: ended.failure.clone(),
            note: ended.note.clone(),
            at: SystemTime::now(),
            uptime: ended.uptime,
        });
        let Some(reports) = self.reports.clone() else {
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
            binary: self.binary.clone(),
            version,
            uptime: ended.uptime,
            stderr: tail.lines().map(<[u8]>::to_vec).collect(),
        };
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        let retried = place.is_some();
        let work: Arc<Write> = Arc::new(move || {
            let path = reports.write(&report)?;
            tracing::info!(
                epoch = epoch.number(),
                "the crash report of epoch {epoch} is {}",
                path.display()
            );
            Ok(())
        });
        tokio::spawn(async move {
            if retried {
                until_written(epoch, work).await;
            } else if let Err(error) = write_once(&work).await {
                tracing::warn!(epoch = epoch.number(), "{}", error_chain(&*error));
            }
            drop(place);
        });
    }
}

/// What writes something to the disk.
type Write = dyn Fn() -> Result<(), NotWritten> + Send + Sync;

type NotWritten = Box<dyn Error + Send + Sync>;

/// Writes, and tries again with growing pauses while that fails. The first failure is a warning.
async fn until_written(epoch: Epoch, work: Arc<Write>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Err(error) = write_once(&work).await else {
            return;
        };
        let error = error_chain(&*error);
        if pause == FIRST_PAUSE {
            tracing::warn!(epoch = epoch.number(), "{error}; it is retried");
        } else {
            tracing::debug!(epoch = epoch.number(), "{error}");
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

async fn write_once(work: &Arc<Write>) -> Result<(), NotWritten> {
    let work = Arc::clone(work);
    let written = offload(move || work()).await;
    written.unwrap_or_else(|error: OffloadError| Err(error.into()))
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half-way by a panic.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::atomic::AtomicUsize;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn what_a_full_disk_did_not_take_is_written_once_there_is_room() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&tries);
        let work: Arc<Write> = Arc::new(move || match counter.fetch_add(1, Ordering::SeqCst) {
            0..10 => Err(io::Error::from(io::ErrorKind::StorageFull).into()),
            _ => Ok(()),
        });
        let started = Instant::now();
        until_written(Epoch::ZERO, work).await;
        assert_eq!(tries.load(Ordering::SeqCst), 11);
        // 2 s and twice as much each time, but never more than five minutes.
        let pauses = [2, 4, 8, 16, 32, 64, 128, 256, 300, 300];
        let expected = Duration::from_secs(pauses.iter().sum());
        // A timer is due at a whole millisecond.
        let late = started.elapsed().checked_sub(expected);
        assert!(
            late.is_some_and(|late| late < Duration::from_millis(100)),
            "{late:?}"
        );
    }
}
