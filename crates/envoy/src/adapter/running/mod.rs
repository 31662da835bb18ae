//! The processes of the running epochs, beside the table that decides about them.

mod client_count;
mod clients;
mod listeners;
mod sockets;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use handover_core::Epoch;
use handover_process::{Child, ExitCause};
use handover_tokio::RunControl;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::EnvoyConfig;
use super::epochs::{Epochs, Started};
use super::lineage::Lineage;
use crate::admin::{AdminClient, Exclude, ServerInfo};
use crate::capture::exit_status;
use crate::connections::Listening;
use crate::failure::Failure;
use crate::rejection_reason::RejectionReason;
use crate::statistics::Flush;

pub(super) use self::listeners::of_each as listeners_of_each;
pub use self::listeners::{EpochListeners, ListenerPurpose, ListenerSeen};

pub(super) use self::client_count::{LiveClients, TIME_TO_END, UnknownCount};
pub(super) use self::sockets::off_the_runtime;

/// The running epochs: the table and the process of each.
pub(super) struct RunningEpochs {
    inner: Mutex<Inner>,
    /// The last epoch whose start has failed: it may have cost an older one its listeners.
    failed_starts: watch::Sender<Epoch>,
    /// Listeners whose connections hold nothing up.
    exclude: Exclude,
}

#[derive(Default)]
struct Inner {
    table: Epochs,
    processes: BTreeMap<Epoch, Arc<EnvoyProcess>>,
}

/// An Envoy that was started for an epoch.
pub(super) struct EnvoyProcess {
    pub(super) epoch: Epoch,
    pub(super) child: Child,
    /// How its epoch and the agent speak to each other.
    pub(super) control: RunControl,
    pub(super) config: Arc<EnvoyConfig>,
    /// What was asked for: the same, unless a template makes another text for each epoch.
    asked: Arc<EnvoyConfig>,
    pub(super) binary: FileId,
    pub(super) lineage: Lineage,
    /// Told once a start has found that this epoch answers no child and must be killed.
    pub(super) is_deaf: Notify,
    /// The copy of the configuration that it reads.
    pub(super) file: PathBuf,
    /// Whether it was started with a gate.
    pub(super) is_gated: bool,
    /// When it closes an interval of its statistics.
    pub(super) flush: Flush,
    /// What it says against its configuration.
    pub(super) heard: RejectionReason,
    pub(super) started: Instant,
    /// What it said of itself when it was first live.
    info: OnceLock<ServerInfo>,
    /// Where it was seen to listen, before a newer epoch was started or it was drained.
    listening: Mutex<Option<Listening>>,
    /// Whether a stop has told it to close its listeners, or the inbound ones.
    told_to_close: AtomicBool,
    /// The connections of its clients, as they were counted last since a newer epoch serves.
    counted: Mutex<Option<u64>>,
}

/// Which file a path leads to, and in which state: a replaced binary is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileId {
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// What a process is started from, beside its child.
pub(super) struct Launch {
    pub(super) epoch: Epoch,
    pub(super) control: RunControl,
    pub(super) config: Arc<EnvoyConfig>,
    pub(super) asked: Arc<EnvoyConfig>,
    pub(super) binary: FileId,
    pub(super) lineage: Lineage,
    pub(super) file: PathBuf,
    pub(super) is_gated: bool,
    pub(super) flush: Flush,
    pub(super) heard: RejectionReason,
}

impl EnvoyProcess {
    pub(super) fn new(launch: Launch, child: Child) -> Self {
        Self {
            epoch: launch.epoch,
            child,
            control: launch.control,
            config: launch.config,
            asked: launch.asked,
            binary: launch.binary,
            lineage: launch.lineage,
            is_deaf: Notify::new(),
            file: launch.file,
            is_gated: launch.is_gated,
            flush: launch.flush,
            heard: launch.heard,
            started: Instant::now(),
            info: OnceLock::new(),
            listening: Mutex::new(None),
            told_to_close: AtomicBool::new(false),
            counted: Mutex::new(None),
        }
    }

    /// Notes that a stop has told it to close its listeners, or the inbound ones.
    pub(super) fn note_told_to_close(&self) {
        self.told_to_close.store(true, Ordering::Relaxed);
    }

    fn is_told_to_close(&self) -> bool {
        self.told_to_close.load(Ordering::Relaxed)
    }

    /// Keeps what a count has shown, if it could be made.
    pub(super) fn note_count(&self, connections: Option<usize>) {
        let count = connections.and_then(|count| u64::try_from(count).ok());
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = count;
    }

    /// Returns what the last count has shown.
    pub(super) fn last_count(&self) -> Option<u64> {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Returns a client of its admin endpoint.
    pub(super) fn admin(&self) -> AdminClient {
        AdminClient::new(self.config.bootstrap().admin.clone())
    }

    /// Returns Envoy's own number for the epoch.
    pub(super) fn restart_epoch(&self) -> u32 {
        self.lineage.restart_epoch(self.epoch)
    }

    /// Returns the hot restart version that it speaks, once it was live.
    pub(super) fn hot_restart_version(&self) -> Option<&str> {
        let info = self.info.get()?;
        Some(&info.hot_restart_version)
    }

    /// Returns whether the process has ended, reaped or not.
    pub(super) fn has_ended(&self) -> bool {
        self.child.has_ended()
    }

    /// Returns why the process ended, from its exit and from what it wrote to standard error. Where a
    /// reason was heard, only that counts: what follows it is the configuration, which may say
    /// anything.
    pub(super) fn failure(&self, cause: ExitCause) -> Failure {
        match self.heard.reason() {
            Some(reason) => classify(cause, reason.as_bytes()),
            None => self.failure_while_live(cause),
        }
    }

    /// Returns why the process ended that was live, and so has not rejected its configuration.
    pub(super) fn failure_while_live(&self, cause: ExitCause) -> Failure {
        let mut said = Vec::new();
        for line in self.child.stderr_tail().lines() {
            said.extend_from_slice(line);
            said.push(b'\n');
        }
        classify(cause, &said)
    }

    fn listening(&self) -> MutexGuard<'_, Option<Listening>> {
        // Nothing in here is left half-way by a panic.
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn classify(cause: ExitCause, said: &[u8]) -> Failure {
    let out_of_memory = cause == ExitCause::OutOfMemory;
    let said = String::from_utf8_lossy(said);
    Failure::classify(exit_status(cause), &said, out_of_memory)
}

/// Takes an epoch out of the table when its run is over, in whichever way.
pub(super) struct Registered<'a> {
    running: &'a RunningEpochs,
    epoch: Epoch,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut inner = self.running.lock();
        inner.table.remove(self.epoch);
        let _process = inner.processes.remove(&self.epoch);
    }
}

/// The table, locked: not to be held over a wait.
pub(super) struct Table<'a>(MutexGuard<'a, Inner>);

impl Deref for Table<'_> {
    type Target = Epochs;

    fn deref(&self) -> &Epochs {
        &self.0.table
    }
}

impl DerefMut for Table<'_> {
    fn deref_mut(&mut self) -> &mut Epochs {
        &mut self.0.table
    }
}

impl RunningEpochs {
    /// Makes an empty table. The connections to the excluded listeners hold nothing up.
    pub(super) fn new(exclude: Exclude) -> Self {
        Self {
            inner: Mutex::default(),
            failed_starts: watch::Sender::new(Epoch::ZERO),
            exclude,
        }
    }

    /// Adds an epoch, until what is returned is dropped.
    pub(super) fn register(&self, process: &Arc<EnvoyProcess>) -> Registered<'_> {
        let epoch = process.epoch;
        let started = Started {
            pid: process.pid(),
            lineage: process.lineage.id(),
            may_listen: process.config.may_listen(),
        };
        let mut inner = self.lock();
        inner.table.register(epoch, started);
        inner.processes.insert(epoch, Arc::clone(process));
        Registered {
            running: self,
            epoch,
        }
    }

    /// Locks the table.
    pub(super) fn table(&self) -> Table<'_> {
        Table(self.lock())
    }

    /// Notes that an epoch was seen live, and returns whether it is: one whose start was given up is
    /// about to be ended.
    pub(super) fn go_live(&self, process: &EnvoyProcess, info: ServerInfo) -> bool {
        let mut inner = self.lock();
        if !inner.table.go_live(process.epoch, now()) {
            return false;
        }
        // It is first live only once.
        let _known = process.info.set(info);
        true
    }

    /// Returns whether an epoch was seen live that was asked for by this very reading of a
    /// configuration.
    pub(super) fn any_live_with(&self, asked: &Arc<EnvoyConfig>) -> bool {
        let inner = self.lock();
        let mut processes = inner.processes.values();
        processes.any(|process| process.info.get().is_some() && Arc::ptr_eq(&process.asked, asked))
    }

    /// Notes that the start of an epoch has failed.
    pub(super) fn note_failed_start(&self, epoch: Epoch) {
        // Receivers are also told of the same number again.
        self.failed_starts.send_replace(epoch);
    }

    /// Returns a receiver that is told of starts that fail from here on.
    pub(super) fn failed_starts(&self) -> watch::Receiver<Epoch> {
        self.failed_starts.subscribe()
    }

    /// Returns the process of an epoch.
    pub(super) fn process(&self, epoch: Epoch) -> Option<Arc<EnvoyProcess>> {
        self.lock().processes.get(&epoch).map(Arc::clone)
    }

    /// Returns the process of the newest epoch, live or not.
    pub(super) fn newest(&self) -> Option<Arc<EnvoyProcess>> {
        let inner = self.lock();
        inner.processes.get(&inner.table.newest()?).map(Arc::clone)
    }

    /// Returns the process of the newest epoch that was seen live.
    pub(super) fn newest_live(&self) -> Option<Arc<EnvoyProcess>> {
        let inner = self.lock();
        let epoch = inner.table.newest_live()?;
        inner.processes.get(&epoch).map(Arc::clone)
    }

    /// Returns the processes of all running epochs, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<EnvoyProcess>> {
        self.lock().processes.values().map(Arc::clone).collect()
    }

    /// Returns the processes of the older epochs in the lineage of this one, oldest first.
    pub(super) fn older_in_lineage(&self, epoch: Epoch) -> Vec<Arc<EnvoyProcess>> {
        let inner = self.lock();
        let older = inner.table.older_in_lineage(epoch);
        older
            .filter_map(|older| inner.processes.get(&older).map(Arc::clone))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here is left half-way by a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the time as the table takes it.
pub(super) fn now() -> std::time::Instant {
    Instant::now().into_std()
}
