//! The watcher itself.

use std::fmt;
use std::fs::File;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::event_flood::EventFlood;
use super::gap::{Gap, GapCause};
use super::kernel_events::{Heard, LookTime};
use super::look::{LookResult, PendingLook, WatchState};
use super::rescan::Rescan;
use super::snapshot::{Change, Snapshot, Targets};

/// How long it must be quiet after a write to a file that stays open, or after a removal.
const QUIET: Duration = Duration::from_millis(50);
/// How long a look is put off at most while somebody keeps writing.
const LONGEST_UNREST: Duration = Duration::from_secs(1);
/// When a look that did not take place is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Watches paths for other contents.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover_watch::Watcher;
///
/// let dir = tempfile::tempdir()?;
/// let file = dir.path().join("envoy.yaml");
/// std::fs::write(&file, "admin: {}")?;
///
/// let mut watcher = Watcher::new([&file])?;
/// std::fs::write(dir.path().join("new"), "admin: { profile_path: /p }")?;
/// std::fs::rename(dir.path().join("new"), &file)?;
///
/// let change = watcher.changed().await;
/// assert_eq!(change.paths, [file]);
/// # Ok(())
/// # }
/// ```
pub struct Watcher {
    targets: Arc<Targets>,
    /// Away while a look is taken.
    watch_state: Option<WatchState>,
    events: Option<AsyncFd<Arc<OwnedFd>>>,
    flood: EventFlood,
    /// Until when nobody listens to the queue, so that its events do not even wake this process.
    pause: Option<Instant>,
    /// Ready when something was mounted or unmounted.
    mounts: Option<AsyncFd<File>>,
    snapshot: Arc<Snapshot>,
    look: Option<PendingLook>,
    /// The look that was asked for.
    requested: Requested,
    /// What a look has found whose caller gave up before it was told.
    unreported: Option<Change>,
    unrest: Option<Activity>,
    /// When to look for another reason than an event.
    look_at: Option<Instant>,
    /// When the last look began.
    looked: Instant,
    rescan: Rescan,
    gaps: Vec<Gap>,
    /// What was logged of the gaps.
    told: Vec<Gap>,
}

/// How far a look is that a caller has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requested {
    /// There is none.
    No,
    /// It begins once the one that is under way has ended.
    Waiting,
    /// It has begun.
    UnderWay,
}

/// Why paths cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// A path is relative, and there is no working directory.
    #[error("could not find the full path of `{}`", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl Watcher {
    /// Begins to watch; what the paths hold at this moment is the first [`Snapshot`].
    ///
    /// A path need not exist. A relative one counts from the working directory of this moment.
    /// This reads the files, and blocks meanwhile.
    ///
    /// What the kernel does not report is no error: see [`Watcher::gaps`]. Neither is a file that
    /// cannot be read: see [`Snapshot::files`].
    ///
    /// # Errors
    ///
    /// If a path is relative and there is no working directory.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self, WatchError> {
        Self::with_identities(paths, [] as [&Path; 0])
    }

    /// Watches paths as [`Watcher::new`] does, and further files without reading them: large ones, such as
    /// programs.
    ///
    /// Such a file has changed when the path leads to another file, or when the file's size, the
    /// time of its last write or its permission to be executed is another. So touching it is a
    /// change, other than for files whose contents are compared.
    ///
    /// # Errors
    ///
    /// As [`Watcher::new`].
    ///
    /// # Panics
    ///
    /// As [`Watcher::new`].
    pub fn with_identities<P: Into<PathBuf>, I: Into<PathBuf>>(
        contents: impl IntoIterator<Item = P>,
        identities: impl IntoIterator<Item = I>,
    ) -> Result<Self, WatchError> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|source| WatchError::Path { path, source })
        };
        let contents = contents.into_iter().map(Into::into).map(absolute);
        let identities = identities.into_iter().map(Into::into).map(absolute);
        let targets = Arc::new(Targets {
            contents: contents.collect::<Result<_, _>>()?,
            identities: identities.collect::<Result<_, _>>()?,
        });
        // Before the look: what is mounted afterwards is reported.
        let mounts = report_of_mounts();
        let looked = LookResult::take(WatchState::default(), &targets, None);
        let mut watcher = Self {
            targets,
            watch_state: None,
            events: None,
            flood: EventFlood::default(),
            pause: None,
            mounts,
            snapshot: Arc::clone(&looked.snapshot),
            look: None,
            requested: Requested::No,
            unreported: None,
            unrest: None,
            look_at: None,
            looked: Instant::now(),
            rescan: Rescan::default(),
            gaps: Vec::new(),
            told: Vec::new(),
        };
        watcher.take_in(looked);
        Ok(watcher)
    }

    /// Looks at the files in an interval as well; see [`Rescan`]. It needs tokio's timer.
    #[must_use]
    pub fn rescan(mut self, rescan: Rescan) -> Self {
        self.rescan = rescan;
        self
    }

    /// Returns what the paths held when they were last looked at.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns the watched paths themselves, in full, without what is below them.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.targets.paths()
    }

    /// Returns what the kernel does not report of the watched paths, or what is not watched of them.
    /// It is empty when every change will be heard of.
    ///
    /// Each gap is logged as a warning by [`Watcher::changed`] and [`Watcher::look`], once, and its
    /// end as well.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Returns the interval in which the files are looked at without an event, as things stand.
    pub fn rescan_interval(&self) -> Option<Duration> {
        self.rescan.interval(&self.gaps)
    }

    /// Returns for how long a look has been under way. A file system whose server is away can keep
    /// it for ever, and nothing is noticed meanwhile.
    pub fn looking_for(&self) -> Option<Duration> {
        self.look.as_ref().map(|_| self.looked.elapsed())
    }

    /// Returns once the paths hold other contents than in [`Watcher::snapshot`], which then is the
    /// new one. Changes between two calls are not lost; several may be reported as one.
    ///
    /// Files are read on a thread of [`offload`](handover_runtime::offload). It needs tokio's timer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a look that is under way goes on, and the next call gets its result.
    pub async fn changed(&mut self) -> Change {
        self.tell_gaps();
        loop {
            self.finish_look().await;
            if let Some(change) = self.unreported.take() {
                return change;
            }
            let thoroughly = self.wait_for_reason().await;
            self.begin_look(thoroughly);
        }
    }

    /// Looks at the files at once, without waiting for the kernel to report anything. What has
    /// changed since [`Watcher::snapshot`] is returned, and is not returned by [`Watcher::changed`]
    /// again. Every file is read, even one that looks unchanged.
    ///
    /// # Cancel safety
    ///
    /// As [`Watcher::changed`].
    pub async fn look(&mut self) -> Option<Change> {
        self.request_look();
        self.requested_look().await
    }

    /// Asks for a look that begins after this moment. [`Watcher::requested_look`] takes it.
    ///
    /// Together they are [`Watcher::look`] for a caller that gives up waiting and comes back: it goes on with
    /// the same look, and a slow file system is not looked at again and again.
    pub fn request_look(&mut self) {
        self.requested = Requested::Waiting;
    }

    /// Takes the look that was asked for, and returns what has changed since [`Watcher::snapshot`]. Returns at
    /// once if none was asked for since the last one has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call waits for the same look.
    pub async fn requested_look(&mut self) -> Option<Change> {
        self.tell_gaps();
        loop {
            match self.requested {
                Requested::No => return self.unreported.take(),
                // One that is under way may have begun before the change that the caller knows of.
                Requested::Waiting => {
                    self.finish_look().await;
                    self.begin_look(true);
                    self.requested = Requested::UnderWay;
                }
                Requested::UnderWay => {
                    self.finish_look().await;
                    self.requested = Requested::No;
                }
            }
        }
    }

    fn begin_look(&mut self, thoroughly: bool) {
        // They are lost if a look was never ended. Then everything is watched again.
        let mut watch_state = self.watch_state.take().unwrap_or_default();
        if thoroughly {
            watch_state.doubt();
        }
        self.look_at = None;
        self.looked = Instant::now();
        let (targets, earlier) = (Arc::clone(&self.targets), Arc::clone(&self.snapshot));
        self.look = Some(PendingLook::begin(watch_state, targets, earlier));
    }

    /// Waits for the look that is under way, and keeps what it has found.
    async fn finish_look(&mut self) {
        let Some(look) = &mut self.look else {
            return;
        };
        let ended = look.end().await;
        self.look = None;
        match ended {
            Ok(looked) => {
                let found = looked.snapshot.since(&self.snapshot);
                self.unreported = Change::both(self.unreported.take(), found);
                self.take_in(looked);
            }
            Err((watch_state, error)) => {
                self.watch_state = watch_state;
                self.look_at = Some(Instant::now() + LOOK_AGAIN);
                let why = GapCause::NotLooked { error };
                self.gaps.retain(|gap| gap.why != why);
                self.gaps.push(Gap {
                    path: None,
                    others: 0,
                    why,
                });
            }
        }
        self.tell_gaps();
    }

    /// Goes on with what a look has brought back.
    fn take_in(&mut self, looked: LookResult) {
        let LookResult {
            mut watch_state,
            snapshot,
            mut gaps,
        } = looked;
        self.snapshot = snapshot;
        match watch_state.fd() {
            // The end of the pause takes it up again.
            Some(_) if self.pause.is_some() => {}
            Some(fd) if self.hears_at(fd) => {}
            Some(fd) => match hear_at(Arc::clone(fd)) {
                Ok(events) => self.events = Some(events),
                Err(error) => {
                    watch_state.close_queue();
                    let error = error.to_string();
                    gaps.add(None, GapCause::NoQueue { error });
                    self.events = None;
                }
            },
            None => self.events = None,
        }
        self.watch_state = Some(watch_state);
        self.gaps = gaps.into_vec();
    }

    fn hears_at(&self, fd: &Arc<OwnedFd>) -> bool {
        let events = self.events.as_ref();
        events.is_some_and(|events| Arc::ptr_eq(events.get_ref(), fd))
    }

    /// Returns when it is time to look, and whether every file is to be read.
    async fn wait_for_reason(&mut self) -> bool {
        loop {
            // Work that was finished in the meantime is not waited for.
            let watch_state = self.watch_state.get_or_insert_default();
            self.unrest = self.unrest.filter(|_| watch_state.is_unsettled());
            let rescan = self.rescan.next(self.looked, &self.gaps);
            tokio::select! {
                heard = hear(&self.events, watch_state) => match heard {
                    Ok(heard) => {
                        self.pause = self.flood.note(Instant::now(), &heard);
                        if self.pause.is_some() {
                            self.events = None;
                        }
                        match heard.look {
                            LookTime::Unneeded => {}
                            LookTime::OnceQuiet => self.unrest = Some(Activity::go_on(self.unrest)),
                            LookTime::Now => {
                                if watch_state.is_unsettled() {
                                    self.unrest = Some(Activity::go_on(self.unrest));
                                }
                                return false;
                            }
                        }
                    }
                    // Another queue is tried.
                    Err(error) => {
                        tracing::debug!("the queue of events broke: {error}");
                        watch_state.close_queue();
                        self.events = None;
                        return false;
                    }
                },
                () = until(self.pause) => {
                    self.pause = None;
                    match watch_state.fd().map(|fd| hear_at(Arc::clone(fd))).transpose() {
                        Ok(events) => self.events = events,
                        // Another queue is tried.
                        Err(_) => {
                            watch_state.close_queue();
                            return false;
                        }
                    }
                }
                () = until(self.unrest.map(|unrest| unrest.over)) => {
                    self.unrest = None;
                    watch_state.settle();
                    return false;
                }
                mounted = mounted(&self.mounts) => match mounted {
                    // Several mounts belong together.
                    Ok(()) => {
                        let soon = Instant::now() + QUIET;
                        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
                    }
                    Err(_) => self.mounts = None,
                },
                () = until(self.look_at) => return false,
                () = until(rescan) => return self.rescan.reads_everything(),
            }
        }
    }

    /// Logs what has come and gone among the gaps.
    fn tell_gaps(&mut self) {
        let is_in = |gaps: &[Gap], gap: &Gap| gaps.iter().any(|other| other.why == gap.why);
        let interval = self.rescan_interval();
        for gap in self.gaps.iter().filter(|gap| !is_in(&self.told, gap)) {
            match interval {
                _ if !gap.is_found_by_looking() => tracing::warn!("{gap}"),
                Some(interval) => {
                    tracing::warn!("{gap}; so the files are checked every {interval:?}");
                }
                None => tracing::warn!(
                    "{gap}; such changes are missed, because the files are not checked at an interval"
                ),
            }
        }
        for gap in self.told.iter().filter(|gap| !is_in(&self.gaps, gap)) {
            tracing::info!("this is over: {gap}");
        }
        self.told.clone_from(&self.gaps);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("targets", &self.targets)
            .field("digest", &self.snapshot.digest())
            .finish_non_exhaustive()
    }
}

/// Waits for events of the queue, and takes in those there are, or many of them.
async fn hear(
    events: &Option<AsyncFd<Arc<OwnedFd>>>,
    watch_state: &mut WatchState,
) -> io::Result<Heard> {
    let Some(events) = events else {
        return pending().await;
    };
    let mut ready = events.readable().await?;
    let heard = watch_state.hear()?;
    if heard.is_all {
        // An event that has come since then makes the queue ready again.
        ready.clear_ready();
    }
    Ok(heard)
}

fn hear_at(queue: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    #[expect(unsafe_code, reason = "tokio has no safe way to wait for inotify")]
    // SAFETY: the descriptor is owned, never replaced, and open for as long as the `Arc` lives.
    let events = unsafe { AsyncFd::register_with_interest(queue, Interest::READABLE) };
    Ok(events?)
}

/// A mount over a watched path is no event for any directory, but the table of mounts reports it.
async fn mounted(mounts: &Option<AsyncFd<File>>) -> io::Result<()> {
    let Some(mounts) = mounts else {
        return pending().await;
    };
    let mut ready = mounts.ready(Interest::PRIORITY).await?;
    ready.clear_ready();
    Ok(())
}

/// None where `/proc` is not mounted, for example.
fn report_of_mounts() -> Option<AsyncFd<File>> {
    let mounts = File::open("/proc/self/mountinfo").ok()?;
    #[expect(
        unsafe_code,
        reason = "tokio has no safe way to wait for the table of mounts"
    )]
    // SAFETY: the descriptor is owned and open for as long as the file lives.
    let mounts = unsafe { AsyncFd::register_with_interest(mounts, Interest::PRIORITY) };
    mounts.ok()
}

/// Somebody is at work on a file.
#[derive(Debug, Clone, Copy)]
struct Activity {
    since: Instant,
    over: Instant,
}

impl Activity {
    fn go_on(earlier: Option<Self>) -> Self {
        let now = Instant::now();
        let since = earlier.map_or(now, |unrest| unrest.since);
        Self {
            since,
            over: (now + QUIET).min(since + LONGEST_UNREST),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
