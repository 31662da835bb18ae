//! The running epochs, as all of them must know of each other.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::Epoch;
use handover_tokio::offload::offload;
use handover_tokio::process::Child;
use handover_tokio::{RunControl, error_chain};
use tokio::sync::watch;
use tokio::time::Instant;

use super::clients::Clients;
use super::lines::Line;
use super::{EnvoyConfig, EpochOverview};
use crate::admin::{AdminAddress, Exclude, ListenerConnections, ServerInfo};
use crate::connections::{self, ConnectionsError, Listening, Place};
use crate::heard::Heard;
use crate::listening::{ListeningSockets, Serves};

/// The table of running epochs.
#[derive(Default)]
pub(super) struct Epochs {
    running: Mutex<BTreeMap<Epoch, Running>>,
    /// How many starts have failed: each may have cost an older epoch its listeners.
    failed_starts: watch::Sender<u64>,
}

/// An Envoy that was started.
pub(super) struct Launched {
    pub(super) child: Arc<Child>,
    pub(super) config: Arc<EnvoyConfig>,
    /// What was asked for: the same, unless a template makes another text for each epoch.
    pub(super) asked: Arc<EnvoyConfig>,
    pub(super) binary: FileId,
    pub(super) line: Line,
    /// The copy of the configuration that it reads.
    pub(super) file: PathBuf,
    /// What it says against its configuration.
    pub(super) heard: Heard,
}

/// The epoch that an epoch follows on.
pub(super) struct Predecessor {
    pub(super) epoch: Epoch,
    pub(super) child: Arc<Child>,
    pub(super) config: Arc<EnvoyConfig>,
    pub(super) binary: FileId,
    pub(super) line: Line,
    /// The hot restart version it speaks, once it was live.
    pub(super) hot_restart_version: Option<String>,
}

/// One running Envoy.
struct Running {
    child: Arc<Child>,
    control: RunControl,
    config: Arc<EnvoyConfig>,
    asked: Arc<EnvoyConfig>,
    binary: FileId,
    started: Instant,
    line: Line,
    /// What it said of itself when it was live first.
    info: Option<ServerInfo>,
    /// When that was.
    live_since: Option<Instant>,
    /// Where it was seen to listen, before a newer epoch was started or it was drained.
    listening: Option<Listening>,
    /// Whether it has no client left that a stop, or a newer epoch, would wait for.
    drained: bool,
    /// Whether it was told how its connections are counted.
    told: bool,
    /// Whether it listened on anything for clients when it was looked at last, if it was.
    serves: Option<Serves>,
    /// Whether it was ever seen to.
    has_served: bool,
    /// Whether its start was given up before it was live.
    given_up: bool,
    /// Whether it listens on nothing any more, because a newer epoch has been live.
    replaced: bool,
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

/// Takes an epoch out of the table when its run is over, in whichever way.
pub(super) struct Registered<'a> {
    epochs: &'a Epochs,
    epoch: Epoch,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.epochs.lock().remove(&self.epoch);
    }
}

impl Epochs {
    pub(super) fn register(
        &self,
        epoch: Epoch,
        launched: &Launched,
        control: &RunControl,
    ) -> Registered<'_> {
        let running = Running {
            child: Arc::clone(&launched.child),
            control: control.clone(),
            config: Arc::clone(&launched.config),
            asked: Arc::clone(&launched.asked),
            binary: launched.binary,
            started: Instant::now(),
            line: launched.line.clone(),
            info: None,
            live_since: None,
            listening: None,
            drained: false,
            told: false,
            serves: None,
            has_served: false,
            given_up: false,
            replaced: false,
        };
        self.lock().insert(epoch, running);
        Registered {
            epochs: self,
            epoch,
        }
    }

    /// Gives the start of an epoch up: it will not be live any more. False where it is live already,
    /// or has ended.
    pub(super) fn give_up_start(&self, epoch: Epoch) -> bool {
        let mut running = self.lock();
        let starting = running.get_mut(&epoch).filter(|it| it.info.is_none());
        starting.map(|it| it.given_up = true).is_some()
    }

    /// Notes that the epoch is live, and returns whether it is: one whose start was given up is about
    /// to be ended.
    pub(super) fn set_live(&self, epoch: Epoch, info: ServerInfo) -> bool {
        let mut running = self.lock();
        let mut line = None;
        if running.get(&epoch).is_some_and(|it| it.given_up) {
            return false;
        }
        if let Some(running) = running.get_mut(&epoch) {
            running.info = Some(info);
            running.live_since = Some(Instant::now());
            line = Some(running.line.clone());
        }
        for (_, older) in running.range_mut(..epoch) {
            // One of another line closes its listeners when it is told to.
            if Some(&older.line) == line.as_ref() {
                older.replaced = true;
            }
        }
        true
    }

    /// The newest epoch that runs.
    pub(super) fn predecessor(&self) -> Option<Predecessor> {
        let running = self.lock();
        let (epoch, newest) = running.iter().next_back()?;
        let info = newest.info.as_ref();
        Some(Predecessor {
            epoch: *epoch,
            child: Arc::clone(&newest.child),
            config: Arc::clone(&newest.config),
            binary: newest.binary,
            line: newest.line.clone(),
            hot_restart_version: info.map(|info| info.hot_restart_version.clone()),
        })
    }

    /// Whether any epoch of the line runs, this one aside.
    pub(super) fn others_run(&self, line: &Line, epoch: Epoch) -> bool {
        let running = self.lock();
        let mut running = running.iter();
        running.any(|(other, running)| *other != epoch && running.line == *line)
    }

    /// Whether an epoch of the line runs that has not been live.
    pub(super) fn any_initializes(&self, line: &Line) -> bool {
        let running = self.lock();
        let mut running = running.values();
        running.any(|running| running.info.is_none() && running.line == *line)
    }

    /// Whether the epoch runs, and in this line.
    pub(super) fn runs_in(&self, line: &Line, epoch: Epoch) -> bool {
        let running = self.lock();
        running
            .get(&epoch)
            .is_some_and(|running| running.line == *line)
    }

    /// Whether epochs newer than this one run, and all of them in other lines: then none of them is
    /// its child and tells it to end.
    pub(super) fn is_left_behind(&self, epoch: Epoch) -> bool {
        let running = self.lock();
        let Some(line) = running.get(&epoch).map(|running| &running.line) else {
            return false;
        };
        let newer = running.iter().filter(|(other, _)| **other > epoch);
        let mut lines = newer.map(|(_, running)| &running.line).peekable();
        lines.peek().is_some() && lines.all(|newer| newer != line)
    }

    /// How long ago the epoch was seen live first.
    pub(super) fn live_for(&self, epoch: Epoch) -> Option<Duration> {
        Some(self.lock().get(&epoch)?.live_since?.elapsed())
    }

    /// How long any newer epoch has been live.
    pub(super) fn longest_live_after(&self, epoch: Epoch) -> Option<Duration> {
        let running = self.lock();
        let newer = running.iter().filter(|(other, _)| **other > epoch);
        newer
            .filter_map(|(_, running)| Some(running.live_since?.elapsed()))
            .max()
    }

    /// The newest epoch that runs, live or not.
    pub(super) fn newest(&self) -> Option<Epoch> {
        self.lock().keys().next_back().copied()
    }

    /// The epochs that no newer one has replaced, each with the address of its admin endpoint.
    fn listening(&self) -> Vec<(Epoch, u32, AdminAddress)> {
        let running = self.lock();
        let listening = running.iter().filter(|(_, running)| !running.replaced);
        listening
            .map(|(epoch, running)| {
                let admin = running.config.bootstrap().admin.clone();
                (*epoch, running.child.pid(), admin)
            })
            .collect()
    }

    /// The epochs of the line that are older than this one.
    pub(super) fn older_than(&self, line: &Line, epoch: Epoch) -> Vec<(Epoch, Arc<Child>)> {
        let running = self.lock();
        let older = running.range(..epoch);
        older
            .filter(|(_, running)| running.line == *line)
            .map(|(epoch, running)| (*epoch, Arc::clone(&running.child)))
            .collect()
    }

    /// Whether the epoch was seen live.
    pub(super) fn is_live(&self, epoch: Epoch) -> bool {
        self.lock()
            .get(&epoch)
            .is_some_and(|running| running.info.is_some())
    }

    pub(super) fn children(&self) -> Vec<Arc<Child>> {
        self.lock()
            .values()
            .map(|running| Arc::clone(&running.child))
            .collect()
    }

    /// The newest live epoch and what it runs with.
    pub(super) fn newest_live(&self) -> Option<(Epoch, Arc<EnvoyConfig>)> {
        let running = self.lock();
        let epoch = newest_live(&running)?;
        Some((epoch, Arc::clone(&running.get(&epoch)?.config)))
    }

    /// Notes where each epoch listens: it closes its listeners once a newer one is live, and its
    /// connections can be told by them alone. Those that are replaced are passed over: when the newest
    /// one has died nobody listens, and its successor must not wait for this.
    pub(super) async fn note_listening(&self) {
        for (epoch, pid, admin) in self.listening() {
            match off_the_runtime(move || Listening::of(pid)).await {
                Some(Ok(listening)) => {
                    let serves = ListeningSockets::from(&listening).without(&admin).serves();
                    if let Some(running) = self.lock().get_mut(&epoch) {
                        running.serves = Some(serves);
                        running.has_served |= serves == Serves::Yes;
                        let noted = running.listening.get_or_insert_default();
                        noted.extend(listening);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!("{}", error_chain(&error));
                    if let Some(running) = self.lock().get_mut(&epoch) {
                        running.serves = None;
                    }
                }
                None => {}
            }
        }
    }

    /// What the epoch runs with.
    pub(super) fn config(&self, epoch: Epoch) -> Option<Arc<EnvoyConfig>> {
        let running = self.lock();
        Some(Arc::clone(&running.get(&epoch)?.config))
    }

    /// Notes that a start has failed.
    pub(super) fn note_failed_start(&self) {
        self.failed_starts.send_modify(|failed| *failed += 1);
    }

    /// Hears of starts that fail from here on.
    pub(super) fn failed_starts(&self) -> watch::Receiver<u64> {
        self.failed_starts.subscribe()
    }

    /// Looks whether the newest live epoch has lost its listeners to a newer one that has failed. If
    /// so it counts as replaced, and its control is returned, once. One that was never seen to listen
    /// has lost nothing, and what cannot be seen is taken as it was.
    pub(super) async fn newest_live_has_stopped_listening(&self) -> Option<(Epoch, RunControl)> {
        let (epoch, pid, admin) = {
            let running = self.lock();
            let epoch = newest_live(&running)?;
            let running = running.get(&epoch)?;
            if running.replaced || !running.has_served {
                return None;
            }
            let admin = running.config.bootstrap().admin.clone();
            (epoch, running.child.pid(), admin)
        };
        if look(pid, admin).await?.serves() != Serves::No {
            return None;
        }
        let mut running = self.lock();
        // Meanwhile it may have ended, or a newer one may be live.
        if newest_live(&running) != Some(epoch) {
            return None;
        }
        let running = running.get_mut(&epoch)?;
        if running.child.pid() != pid || std::mem::replace(&mut running.replaced, true) {
            return None;
        }
        running.serves = Some(Serves::No);
        Some((epoch, running.control.clone()))
    }

    /// Whether an epoch was seen live that was asked for by this very reading of a configuration.
    pub(super) fn any_live_with(&self, asked: &Arc<EnvoyConfig>) -> bool {
        let running = self.lock();
        let mut running = running.values();
        running.any(|running| running.info.is_some() && Arc::ptr_eq(&running.asked, asked))
    }

    /// Whether an epoch serves beside which another one can start.
    pub(super) fn any_serves(&self) -> bool {
        let running = self.lock();
        let mut running = running.values();
        running.any(|running| running.info.is_some() && !running.replaced)
    }

    /// Whether the epoch was not replaced yet, as far as its listeners go.
    pub(super) fn listens(&self, epoch: Epoch) -> bool {
        let running = self.lock();
        running.get(&epoch).is_some_and(|running| !running.replaced)
    }

    /// Whether the epoch still listens, although a newer one is live: one of another line, which has
    /// no part in its sockets.
    pub(super) fn must_give_way(&self, epoch: Epoch) -> bool {
        let running = self.lock();
        let listens = running.get(&epoch).is_some_and(|running| !running.replaced);
        listens && newest_live(&running).is_some_and(|live| live > epoch)
    }

    /// Whether the epoch listens on nothing any more. One whose sockets cannot be seen is taken at its
    /// word, and so is one that has just ended.
    pub(super) async fn has_stopped_listening(&self, epoch: Epoch) -> bool {
        let Some((pid, admin)) = ({
            let running = self.lock();
            let running = running.get(&epoch).filter(|running| !running.replaced);
            running.map(|running| {
                let admin = running.config.bootstrap().admin.clone();
                (running.child.pid(), admin)
            })
        }) else {
            return true;
        };
        let looked = look(pid, admin).await;
        if looked.is_some_and(|looked| looked.serves() == Serves::Yes) {
            return false;
        }
        if let Some(running) = self.lock().get_mut(&epoch) {
            running.replaced = true;
        }
        true
    }

    /// How many connections clients have to this epoch, those that do not count left out, or nothing
    /// where that cannot be told from outside.
    pub(super) async fn connections(&self, epoch: Epoch, exclude: &Exclude) -> Option<usize> {
        let holding = self.count_from_outside(epoch, exclude).await.ok()?;
        let count = holding.iter().map(|listener| listener.active).sum::<u64>();
        Some(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The listeners of this epoch on which clients have connections, without those that do not
    /// count, as its sockets show them: its own, and none of another epoch.
    pub(super) async fn count_from_outside(
        &self,
        epoch: Epoch,
        exclude: &Exclude,
    ) -> Result<Vec<ListenerConnections>, NotSeen> {
        let (child, clients) = self.clients(epoch, exclude).await?;
        if let Some(why) = clients.uncountable() {
            return Err(NotSeen::Kind(why.to_owned()));
        }
        let (pid, places) = (child.pid(), clients.places());
        let looked = off_the_runtime(move || connections::accepted(pid, &places)).await;
        // One that ends meanwhile has not closed its connections, it has cut them.
        if has_ended(&child) {
            return Err(NotSeen::Ended);
        }
        let counts = looked.ok_or(NotSeen::NoThread)?.map_err(not_seen)?;
        Ok(clients.holding(&counts))
    }

    /// Whether the epoch listens nowhere any more where its connections count.
    pub(super) async fn has_closed_to_clients(
        &self,
        epoch: Epoch,
        exclude: &Exclude,
    ) -> Option<bool> {
        let (child, clients) = self.clients(epoch, exclude).await.ok()?;
        let pid = child.pid();
        let listening = off_the_runtime(move || connections::listening_at(pid)).await?;
        let mut listening = listening.ok()?.into_iter();
        clients
            .are_all_tcp()
            .then(|| !listening.any(|address| clients.counts_at(&Place::Tcp(address))))
    }

    async fn clients(
        &self,
        epoch: Epoch,
        exclude: &Exclude,
    ) -> Result<(Arc<Child>, Clients), NotSeen> {
        let known = |epochs: &Self| {
            let running = epochs.lock();
            let running = running.get(&epoch).ok_or(NotSeen::Ended)?;
            let clients = running
                .listening
                .as_ref()
                .map(|listening| Clients::of(listening, running.config.bootstrap(), exclude));
            Ok((Arc::clone(&running.child), clients))
        };
        let (child, clients) = known(self)?;
        if let Some(clients) = clients {
            return Ok((child, clients));
        }
        let pid = child.pid();
        let looked = off_the_runtime(move || Listening::of(pid)).await;
        if has_ended(&child) {
            return Err(NotSeen::Ended);
        }
        let listening = looked.ok_or(NotSeen::NoThread)?.map_err(not_seen)?;
        if !self.listens(epoch) {
            return Err(NotSeen::Late);
        }
        if let Some(running) = self.lock().get_mut(&epoch) {
            let noted = running.listening.get_or_insert_default();
            noted.extend(listening);
        }
        let (child, clients) = known(self)?;
        Ok((child, clients.ok_or(NotSeen::Late)?))
    }

    /// Notes that the epoch has no client left.
    pub(super) fn set_drained(&self, epoch: Epoch) {
        if let Some(running) = self.lock().get_mut(&epoch) {
            running.drained = true;
        }
    }

    /// Whether the end of a live epoch at this moment would cut clients that a stop is draining: it has
    /// not lost them all, and it is not an old one at its parent-shutdown `time`, or one that ends
    /// because two newer ones run.
    pub(super) fn is_undrained(&self, epoch: Epoch, time: Duration) -> bool {
        /// Envoy counts its time from a moment that is not seen.
        const INACCURACY: Duration = Duration::from_secs(1);
        let served = self.longest_live_after(epoch);
        let running = self.lock();
        let newer = running.keys().filter(|other| **other > epoch).count();
        let live = running
            .get(&epoch)
            .is_some_and(|it| it.info.is_some() && !it.drained);
        let is_its_time = served.is_some_and(|served| served.saturating_add(INACCURACY) >= time);
        live && !is_its_time && newer < 2
    }

    /// Whether this is asked for the first time.
    pub(super) fn tell_once(&self, epoch: Epoch) -> bool {
        let mut running = self.lock();
        let Some(running) = running.get_mut(&epoch) else {
            return false;
        };
        !std::mem::replace(&mut running.told, true)
    }

    pub(super) fn child(&self, epoch: Epoch) -> Option<Arc<Child>> {
        self.lock()
            .get(&epoch)
            .map(|running| Arc::clone(&running.child))
    }

    /// What is known of each running epoch, oldest first.
    pub(super) async fn overview(&self) -> Vec<EpochOverview> {
        // The newest one has not been looked at: that is done when the next one starts.
        self.note_listening().await;
        let mut epochs: Vec<_> = self
            .lock()
            .iter()
            .map(|(epoch, running)| EpochOverview {
                epoch: *epoch,
                pid: running.child.pid(),
                uptime: running.started.elapsed(),
                live: running.info.is_some(),
                config: running.config.source().to_owned(),
                digest: running.config.digest(),
                listens: running.listens(),
                connections: None,
                resident_bytes: running.child.resident_bytes(),
            })
            .collect();
        for epoch in &mut epochs {
            epoch.connections = self.connections(epoch.epoch, &Exclude::default()).await;
        }
        epochs
    }

    /// The running epochs, oldest first.
    pub(super) fn numbers(&self) -> Vec<Epoch> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Epoch, Running>> {
        // Nothing in here is left half-way by a panic.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the connections of an epoch are not seen from outside.
#[derive(Debug)]
pub(super) enum NotSeen {
    /// It has ended.
    Ended,
    /// Its sockets cannot be looked at.
    Look(ConnectionsError),
    /// It has a listener of a kind whose connections the kernel does not show.
    Kind(String),
    /// It was not seen where it listened before it closed its listeners.
    Late,
    /// There is no thread to look from.
    NoThread,
}

impl std::fmt::Display for NotSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended => f.write_str("it has ended"),
            Self::Look(error) => f.write_str(&error_chain(error)),
            Self::Kind(why) => f.write_str(why),
            Self::Late => f.write_str("it closed its listeners before they were seen"),
            Self::NoThread => f.write_str("there was no thread to look from"),
        }
    }
}

/// What has no sockets any more has ended, although its end may not have been seen yet.
fn not_seen(error: ConnectionsError) -> NotSeen {
    if error.source.kind() == std::io::ErrorKind::NotFound {
        NotSeen::Ended
    } else {
        NotSeen::Look(error)
    }
}

/// Whether a process has ended, reaped or not.
pub(super) fn has_ended(child: &Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

/// Does work that takes as long as the host has sockets: a tenth of a second on a busy one, during
/// which the runtime must see children end. Nothing comes of it where no thread can do it.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    offload(work)
        .await
        .inspect_err(|error| tracing::debug!("could not look at sockets: {}", error_chain(error)))
        .ok()
}

/// On what a process listens for clients, if that can be seen.
async fn look(pid: u32, admin: AdminAddress) -> Option<ListeningSockets> {
    let listening = move || Ok::<_, ConnectionsError>(ListeningSockets::of(pid)?.without(&admin));
    match off_the_runtime(listening).await? {
        Ok(listening) => Some(listening),
        Err(error) => {
            tracing::debug!("{}", error_chain(&error));
            None
        }
    }
}

impl Running {
    /// Whether clients can connect, if that can be seen. One that has no listener by its
    /// configuration is not expected to.
    fn listens(&self) -> Option<bool> {
        if self.replaced {
            return Some(false);
        }
        match self.serves? {
            Serves::Yes => Some(true),
            Serves::No if self.has_served || self.config.may_listen() => Some(false),
            Serves::No | Serves::Unknown => None,
        }
    }
}

fn newest_live(running: &BTreeMap<Epoch, Running>) -> Option<Epoch> {
    let mut newest_first = running.iter().rev();
    newest_first
        .find(|(_, running)| running.info.is_some())
        .map(|(epoch, _)| *epoch)
}
