//! Hearing from the kernel.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::WatchError;
use super::places::{Interest, Places, places};

/// The directories that are listened to.
#[derive(Debug)]
pub(super) struct Listener {
    fd: Arc<OwnedFd>,
    watched: HashMap<i32, (PathBuf, Interest)>,
    /// Entries that somebody seems to be at work on.
    unsettled: HashSet<(i32, OsString)>,
}

/// What the events since the last look call for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Nothing that matters happened.
    None,
    /// Somebody is at work: look once it has been quiet for a while.
    Settle,
    /// A change is complete: look now.
    Now,
}

/// What happens to the directory itself.
const ITSELF: WatchFlags = WatchFlags::MOVE_SELF
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What happens to its entries.
const ENTRIES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE);

/// Symlinks can be replaced while they are followed; after as many rounds somebody does it on
/// purpose, and the next event brings the next chance.
const MOST_ROUNDS: usize = 10;

impl Listener {
    pub(super) fn new() -> Result<Self, WatchError> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| WatchError::Start(errno.into()))?;
        Ok(Self {
            fd: Arc::new(fd),
            watched: HashMap::new(),
            unsettled: HashSet::new(),
        })
    }

    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Listens wherever the paths lead to at the moment.
    ///
    /// A symlink that is replaced between being followed and being listened to would go unheard, so
    /// this goes on until following leads to no new place.
    pub(super) fn follow(&mut self, paths: &[PathBuf]) -> Result<(), WatchError> {
        for _ in 0..MOST_ROUNDS {
            if !self.listen(places(paths))? {
                break;
            }
        }
        Ok(())
    }

    /// Returns whether a place is new.
    fn listen(&mut self, places: Places) -> Result<bool, WatchError> {
        let mut watched: HashMap<i32, (PathBuf, Interest)> = HashMap::new();
        let mut fresh = false;
        // The kernel knows a directory by identity: two paths to one directory share a watch, and
        // the same path gets a new one if the directory was replaced. What is asked for replaces
        // what was asked for before, so the wider question is asked last.
        let (wide, narrow): (Vec<_>, Vec<_>) = places
            .into_iter()
            .partition(|(_, interest)| interest.is_in_entries());
        for (directory, interest) in narrow.into_iter().chain(wide) {
            let flags = if interest.is_in_entries() {
                ITSELF | ENTRIES
            } else {
                ITSELF
            };
            match inotify::add_watch(&*self.fd, &directory, flags) {
                Ok(watch) => {
                    fresh |= !self.watched.contains_key(&watch);
                    watched
                        .entry(watch)
                        .and_modify(|(_, known)| known.merge(&interest))
                        .or_insert((directory, interest));
                }
                // Gone since it was followed.
                Err(Errno::NOENT | Errno::NOTDIR) => fresh = true,
                // A directory may be passed through without being readable. Then its own end goes
                // unheard, which costs little; its entries must not.
                Err(Errno::ACCESS) if !interest.is_in_entries() => {}
                Err(Errno::NOSPC) => return Err(WatchError::TooMany { directory }),
                Err(errno) => {
                    let source = errno.into();
                    return Err(WatchError::Listen { directory, source });
                }
            }
        }
        for old in self.watched.keys().filter(|old| !watched.contains_key(old)) {
            // It may be gone already, with its directory.
            let _ = inotify::remove_watch(&*self.fd, *old);
        }
        self.watched = watched;
        self.unsettled
            .retain(|(watch, _)| self.watched.contains_key(watch));
        Ok(fresh)
    }

    /// Takes in every event there is.
    pub(super) fn hear(&mut self) -> io::Result<Urgency> {
        let fd = Arc::clone(&self.fd);
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&*fd, &mut buffer);
        let mut urgency = Urgency::None;
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event
                        .file_name()
                        .map(|name| OsStr::from_bytes(name.to_bytes()));
                    urgency = urgency.max(self.judge(event.wd(), event.events(), name));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(urgency)
    }

    /// Whether somebody is still at work as far as is known.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// It has been quiet for long enough.
    pub(super) fn settle(&mut self) {
        self.unsettled.clear();
    }

    fn judge(&mut self, watch: i32, events: ReadFlags, name: Option<&OsStr>) -> Urgency {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Events were lost, so anything may have happened.
            return Urgency::Now;
        }
        let Some((directory, interest)) = self.watched.get(&watch) else {
            return Urgency::None;
        };
        let Some(name) = name else {
            let gone = ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT;
            // Other permissions can make its entries readable.
            let opened = interest.is_in_entries() && events.contains(ReadFlags::ATTRIB);
            return if events.intersects(gone) || opened {
                Urgency::Now
            } else {
                Urgency::None
            };
        };
        if !interest.covers(name) {
            return Urgency::None;
        }
        let complete = events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO)
            || events.contains(ReadFlags::ISDIR)
            || (events.contains(ReadFlags::CREATE) && is_complete_at_birth(&directory.join(name)));
        let key = (watch, name.to_os_string());
        if complete {
            self.unsettled.remove(&key);
            Urgency::Now
        } else {
            // Written to, created empty, touched, or gone: more is likely to follow.
            self.unsettled.insert(key);
            Urgency::Settle
        }
    }
}

/// Whether a new entry comes with its contents: a symlink, or another name of an existing file. A
/// plain new file is about to be written.
fn is_complete_at_birth(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file() || meta.nlink() > 1)
}
