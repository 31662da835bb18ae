//! The watcher itself.

use std::fmt;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::listener::{Listener, Urgency};
use super::snapshot::{Change, Snapshot, Targets};
use crate::offload::{OffloadError, Offloaded, offload};

/// How long it must be quiet after a write to a file that stays open, or after a removal.
const QUIET: Duration = Duration::from_millis(50);
/// When a look that did not take place is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a look is put off at most while somebody keeps writing.
const LONGEST_UNREST: Duration = Duration::from_secs(1);

/// Watches paths for other contents.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover_tokio::watch::Watcher;
///
/// let dir = tempfile::tempdir()?;
/// let file = dir.path().join("envoy.yaml");
/// std::fs::write(&file, "admin: {}")?;
///
/// let mut watcher = Watcher::new([&file])?;
/// std::fs::write(dir.path().join("new"), "admin: { profile_path: /p }")?;
/// std::fs::rename(dir.path().join("new"), &file)?;
///
/// let change = watcher.changed().await?;
/// assert_eq!(change.paths, [file]);
/// # Ok(())
/// # }
/// ```
pub struct Watcher {
    targets: Arc<Targets>,
    events: AsyncFd<Arc<OwnedFd>>,
    /// Away while a look is taken, and for good if that never came back.
    listener: Option<Listener>,
    snapshot: Snapshot,
    look: Option<Look>,
    /// When to look again, after a look that did not take place.
    look_again: Option<Instant>,
    unrest: Option<Unrest>,
    rescan: Option<Rescan>,
}

/// Why paths cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The kernel opened no event queue.
    #[error(
        "could not start to watch files (are the limits of open files or of inotify instances, fs.inotify.max_user_instances, reached?)"
    )]
    Start(#[source] io::Error),
    /// A path is relative, and there is no working directory.
    #[error("could not tell the full path of `{}`", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The limit of watches is reached.
    #[error(
        "could not watch `{}`: raise the limit fs.inotify.max_user_watches",
        directory.display()
    )]
    TooMany {
        /// The directory.
        directory: PathBuf,
    },
    /// A directory cannot be watched.
    #[error("could not watch the directory `{}`", directory.display())]
    Listen {
        /// The directory.
        directory: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The files were not looked at. They are looked at again a second later.
    #[error("could not look at the watched files")]
    Look(#[source] OffloadError),
    /// The event queue could not be read.
    #[error("could not hear about changes of files")]
    Hear(#[source] io::Error),
    /// The tokio runtime is shutting down.
    #[error("the tokio runtime that watches files is shutting down")]
    Runtime,
}

impl Watcher {
    /// Begins to watch; what the paths hold at this moment is the first [`Snapshot`].
    ///
    /// A path need not exist. A relative one counts from the working directory of this moment.
    /// This reads the files, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// If the kernel has no watches left, or a directory may not be read. A file that cannot be
    /// read is no error; see [`Snapshot::files`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self, WatchError> {
        Self::with_identities(paths, [] as [&Path; 0])
    }

    /// As [`Watcher::new`], and watches further files without reading them: large ones, such as
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
        let looked = look(Listener::new()?, &targets);
        let (listener, snapshot) = (looked.listener, looked.snapshot?);
        let fd = Arc::clone(listener.fd());
        #[expect(unsafe_code, reason = "tokio has no safe way to wait for inotify")]
        // SAFETY: the descriptor is owned, never replaced, and open for as long as the `Arc` lives.
        let events = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
            .map_err(|error| WatchError::Start(error.into()))?;
        Ok(Self {
            targets,
            events,
            listener: Some(listener),
            snapshot,
            look: None,
            look_again: None,
            unrest: None,
            rescan: None,
        })
    }

    /// Looks at the files in this interval as well, whatever the kernel tells.
    ///
    /// For file systems that tell nothing. It costs a wake-up and a reading of all files each time,
    /// so it is off unless asked for. It needs tokio's timer.
    #[must_use]
    pub fn rescan_every(mut self, interval: Duration) -> Self {
        self.rescan = Some(Rescan {
            interval,
            next: Instant::now() + interval,
        });
        self
    }

    /// What the paths held when they were last looked at.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns once the paths hold other contents than in [`Watcher::snapshot`], which then is the
    /// new one. Changes between two calls are not lost; several may be reported as one.
    ///
    /// Files are read on a thread of [`offload`]. It needs tokio's timer.
    ///
    /// # Errors
    ///
    /// As [`Watcher::new`]. After [`WatchError::TooMany`], [`WatchError::Listen`] and
    /// [`WatchError::Look`] it can be called again, and what is still watched is still heard.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a look that is under way goes on, and the next call gets its result.
    pub async fn changed(&mut self) -> Result<Change, WatchError> {
        loop {
            if let Some(change) = self.finish_look().await? {
                return Ok(change);
            }
            self.wait_for_reason().await?;
            self.begin_look()?;
        }
    }

    /// Looks at the files at once, without waiting for the kernel to tell of anything. What has
    /// changed since [`Watcher::snapshot`] is returned, and is not told by [`Watcher::changed`] again.
    ///
    /// # Errors
    ///
    /// As [`Watcher::changed`].
    ///
    /// # Cancel safety
    ///
    /// As [`Watcher::changed`].
    pub async fn look(&mut self) -> Result<Option<Change>, WatchError> {
        // One that is under way may have begun before the change that the caller knows of.
        let earlier = self.finish_look().await?;
        self.begin_look()?;
        let later = self.finish_look().await?;
        Ok(match (earlier, later) {
            (Some(earlier), Some(mut later)) => {
                later.paths.extend(earlier.paths);
                later.paths.sort();
                later.paths.dedup();
                Some(later)
            }
            (change, None) | (None, change) => change,
        })
    }

    fn begin_look(&mut self) -> Result<(), WatchError> {
        let listener = self.listener.take().ok_or(WatchError::Runtime)?;
        self.look_again = None;
        if let Some(rescan) = &mut self.rescan {
            rescan.next = Instant::now() + rescan.interval;
        }
        let targets = Arc::clone(&self.targets);
        // It comes back by this way if the look does not take place.
        let waiting = Arc::new(Mutex::new(Some(listener)));
        let place = Arc::clone(&waiting);
        let looking = offload(move || Some(look(take(&place)?, &targets)));
        self.look = Some(Look { looking, waiting });
        Ok(())
    }

    async fn finish_look(&mut self) -> Result<Option<Change>, WatchError> {
        let Some(look) = &mut self.look else {
            return Ok(None);
        };
        let looked = (&mut look.looking).await;
        let waiting = self.look.take().and_then(|look| take(&look.waiting));
        let looked = match looked {
            Ok(looked) => looked.ok_or(WatchError::Runtime)?,
            Err(error) => {
                self.listener = waiting;
                self.look_again = Some(Instant::now() + LOOK_AGAIN);
                return Err(WatchError::Look(error));
            }
        };
        self.listener = Some(looked.listener);
        let snapshot = looked.snapshot?;
        let change = snapshot.since(&self.snapshot);
        self.snapshot = snapshot;
        Ok(change)
    }

    /// Returns when it is time to look.
    async fn wait_for_reason(&mut self) -> Result<(), WatchError> {
        loop {
            let listener = self.listener.as_mut().ok_or(WatchError::Runtime)?;
            // Work that was finished in the meantime is not waited for.
            self.unrest = self.unrest.filter(|_| listener.is_unsettled());
            tokio::select! {
                ready = self.events.readable() => {
                    let mut ready = ready.map_err(|_| WatchError::Runtime)?;
                    let urgency = listener.hear().map_err(WatchError::Hear)?;
                    // The queue was read until it was empty; an event that has come since then
                    // makes it ready again.
                    ready.clear_ready();
                    match urgency {
                        Urgency::None => {}
                        Urgency::Settle => self.unrest = Some(Unrest::go_on(self.unrest)),
                        Urgency::Now => {
                            if listener.is_unsettled() {
                                self.unrest = Some(Unrest::go_on(self.unrest));
                            }
                            return Ok(());
                        }
                    }
                }
                () = until(self.unrest.map(|unrest| unrest.over)) => {
                    self.unrest = None;
                    listener.settle();
                    return Ok(());
                }
                () = until(self.look_again) => return Ok(()),
                () = until(self.rescan.as_ref().map(|rescan| rescan.next)) => return Ok(()),
            }
        }
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

/// A look that is under way.
struct Look {
    looking: Offloaded<Option<Looked>>,
    waiting: Arc<Mutex<Option<Listener>>>,
}

fn take(place: &Mutex<Option<Listener>>) -> Option<Listener> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What a look brings back.
struct Looked {
    listener: Listener,
    snapshot: Result<Snapshot, WatchError>,
}

/// Listens first and reads then: what changes after the reading is heard.
fn look(mut listener: Listener, targets: &Targets) -> Looked {
    let followed = listener.follow(&targets.paths());
    let snapshot = followed.map(|()| Snapshot::take(targets));
    Looked { listener, snapshot }
}

/// Somebody is at work on a file.
#[derive(Debug, Clone, Copy)]
struct Unrest {
    since: Instant,
    over: Instant,
}

impl Unrest {
    fn go_on(earlier: Option<Self>) -> Self {
        let now = Instant::now();
        let since = earlier.map_or(now, |unrest| unrest.since);
        Self {
            since,
            over: (now + QUIET).min(since + LONGEST_UNREST),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Rescan {
    interval: Duration,
    next: Instant,
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
