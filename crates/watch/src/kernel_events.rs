//! What the kernel reports of the watched paths.

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

use super::gap::{GapCause, Gaps};
use super::watch_points::{Interest, WatchPoints};

/// What is listened to.
#[derive(Debug)]
pub(super) struct KernelEvents {
    fd: Arc<OwnedFd>,
    watched: HashMap<i32, Watched>,
    /// Entries that somebody seems to be at work on.
    unsettled: HashSet<(i32, OsString)>,
}

/// What the events since the last look call for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LookTime {
    /// Nothing that matters happened.
    Unneeded,
    /// Somebody is at work: look once it has been quiet for a while.
    OnceQuiet,
    /// A change is complete: look now.
    Now,
}

/// The events that were taken in at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// What they call for.
    pub(super) look: LookTime,
    /// How many they are.
    pub(super) events: u32,
    /// Whether the queue was read until it was empty.
    pub(super) is_all: bool,
}

#[derive(Debug)]
enum Watched {
    Directory(PathBuf, Interest),
    /// A file, or a symlink whose directory may not be read.
    Itself,
}

/// After so many events the thread can do something else. They take about a millisecond, and it is a quarter of what a
/// queue holds by default.
const MOST_AT_ONCE: u32 = 4096;

/// What happens to the directory itself.
const DIRECTORY: WatchFlags = WatchFlags::MOVE_SELF
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What happens to its entries.
const ENTRIES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE);

/// What happens to a file, by whatever name. Replacing it takes a name from it, which is `ATTRIB`.
const ITSELF: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::DONT_FOLLOW);

impl KernelEvents {
    pub(super) fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            fd: Arc::new(fd),
            watched: HashMap::new(),
            unsettled: HashSet::new(),
        })
    }

    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Listens at these places, and at no others. Returns whether one is new: what is there may
    /// have been replaced between being followed and being listened to.
    pub(super) fn listen(&mut self, places: &WatchPoints, gaps: &mut Gaps) -> bool {
        let mut round = Round {
            fd: Arc::clone(&self.fd),
            before: &self.watched,
            watched: HashMap::new(),
            fresh: false,
            gaps,
        };
        // The kernel knows a directory by identity: two paths to one directory share a watch, and
        // the same path gets a new one if the directory was replaced. What is asked for replaces
        // what was asked for before, so the wider question is asked last.
        let (wide, narrow): (Vec<_>, Vec<_>) = places
            .directories
            .iter()
            .partition(|(_, interest)| interest.is_in_entries());
        for (directory, interest) in narrow.into_iter().chain(wide) {
            round.directory(directory, interest);
        }
        for (file, passes_by_directory) in &places.files {
            match round.itself(file) {
                // Gone since it was followed.
                Err(Errno::NOENT | Errno::NOTDIR) => round.fresh = true,
                Err(errno) if *passes_by_directory => round.refused(file, errno),
                // Otherwise its directory tells everything, or is a gap itself.
                Ok(()) | Err(_) => {}
            }
        }
        let Round { watched, fresh, .. } = round;
        for old in self.watched.keys().filter(|old| !watched.contains_key(old)) {
            // It may be gone already, with its directory.
            let _ = inotify::remove_watch(&*self.fd, *old);
        }
        self.watched = watched;
        self.unsettled
            .retain(|(watch, _)| self.watched.contains_key(watch));
        fresh
    }

    /// Takes in the events there are: all of them, or [`MOST_AT_ONCE`] and what was read together with these.
    pub(super) fn hear(&mut self) -> io::Result<Heard> {
        let fd = Arc::clone(&self.fd);
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&*fd, &mut buffer);
        let mut heard = Heard {
            look: LookTime::Unneeded,
            events: 0,
            is_all: false,
        };
        // What is in the buffer is not in the queue any more.
        while heard.events < MOST_AT_ONCE || !reader.is_buffer_empty() {
            match reader.next() {
                Ok(event) => {
                    let name = event
                        .file_name()
                        .map(|name| OsStr::from_bytes(name.to_bytes()));
                    let look = self.judge(event.wd(), event.events(), name);
                    heard.look = heard.look.max(look);
                    heard.events += 1;
                }
                Err(Errno::AGAIN) => {
                    heard.is_all = true;
                    break;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(heard)
    }

    /// Whether somebody is still at work as far as is known.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// It has been quiet for long enough.
    pub(super) fn settle(&mut self) {
        self.unsettled.clear();
    }

    /// A file tells of itself.
    fn judge_itself(&mut self, watch: i32, events: ReadFlags) -> LookTime {
        let key = (watch, OsString::new());
        if events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::UNMOUNT) {
            self.unsettled.remove(&key);
            return LookTime::Now;
        }
        // Written to, touched, or replaced: more is likely to follow.
        self.unsettled.insert(key);
        LookTime::OnceQuiet
    }

    fn judge(&mut self, watch: i32, events: ReadFlags, name: Option<&OsStr>) -> LookTime {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Events were lost, so anything may have happened.
            return LookTime::Now;
        }
        if events.contains(ReadFlags::IGNORED) {
            // The kernel has dropped the watch, with what was watched; that was told before.
            self.watched.remove(&watch);
            return LookTime::Unneeded;
        }
        let (directory, interest) = match self.watched.get(&watch) {
            Some(Watched::Directory(directory, interest)) => (directory, interest),
            Some(Watched::Itself) => return self.judge_itself(watch, events),
            None => return LookTime::Unneeded,
        };
        let Some(name) = name else {
            let gone = ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT;
            // Other permissions can make its entries readable.
            let opened = interest.is_in_entries() && events.contains(ReadFlags::ATTRIB);
            return if events.intersects(gone) || opened {
                LookTime::Now
            } else {
                LookTime::Unneeded
            };
        };
        if !interest.covers(name) {
            return LookTime::Unneeded;
        }
        let complete = events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO)
            || events.contains(ReadFlags::ISDIR)
            || (events.contains(ReadFlags::CREATE) && is_complete_at_birth(&directory.join(name)));
        let key = (watch, name.to_os_string());
        if complete {
            self.unsettled.remove(&key);
            LookTime::Now
        } else {
            // Written to, created empty, touched, or gone: more is likely to follow.
            self.unsettled.insert(key);
            LookTime::OnceQuiet
        }
    }
}

/// One time of listening at all places.
struct Round<'a> {
    fd: Arc<OwnedFd>,
    before: &'a HashMap<i32, Watched>,
    watched: HashMap<i32, Watched>,
    fresh: bool,
    gaps: &'a mut Gaps,
}

impl Round<'_> {
    fn directory(&mut self, directory: &Path, interest: &Interest) {
        let flags = if interest.is_in_entries() {
            DIRECTORY | ENTRIES
        } else {
            DIRECTORY
        };
        match inotify::add_watch(&*self.fd, directory, flags) {
            Ok(watch) => {
                self.fresh |= !self.before.contains_key(&watch);
                match self.watched.get_mut(&watch) {
                    Some(Watched::Directory(_, known)) => known.merge(interest),
                    _ => {
                        let new = Watched::Directory(directory.into(), interest.clone());
                        self.watched.insert(watch, new);
                    }
                }
            }
            // Gone since it was followed.
            Err(Errno::NOENT | Errno::NOTDIR) => self.fresh = true,
            // A directory may be passed through without being readable. What is in it can still be
            // listened to, as far as it is known by name.
            Err(Errno::ACCESS) => {
                for name in interest.names() {
                    let entry = directory.join(name);
                    if self.entry(&entry).is_err() {
                        self.refused(&entry, Errno::ACCESS);
                    }
                }
                // Whatever else is in it cannot be seen before its permissions change, which is heard
                // where it is an entry.
            }
            Err(errno) => self.refused(directory, errno),
        }
    }

    /// Listens to what is in a directory that may not be read.
    fn entry(&mut self, path: &Path) -> Result<(), Errno> {
        // It may be listened to already, and for more.
        let flags = DIRECTORY | WatchFlags::DONT_FOLLOW | WatchFlags::MASK_ADD;
        match inotify::add_watch(&*self.fd, path, flags) {
            Ok(watch) => {
                self.fresh |= !self.before.contains_key(&watch);
                let new = || Watched::Directory(path.into(), Interest::default());
                self.watched.entry(watch).or_insert_with(new);
                Ok(())
            }
            Err(Errno::NOTDIR) => self.itself(path),
            Err(errno) => Err(errno),
        }
    }

    fn itself(&mut self, path: &Path) -> Result<(), Errno> {
        let watch = inotify::add_watch(&*self.fd, path, ITSELF)?;
        self.fresh |= !self.before.contains_key(&watch);
        self.watched.entry(watch).or_insert(Watched::Itself);
        Ok(())
    }

    fn refused(&mut self, path: &Path, errno: Errno) {
        let why = match errno {
            Errno::NOSPC => GapCause::TooManyWatches,
            errno => GapCause::Refused {
                error: io::Error::from(errno).to_string(),
            },
        };
        self.gaps.add(Some(path), why);
    }
}

/// Whether a new entry comes with its contents: a symlink, or another name of an existing file. A
/// plain new file is about to be written.
fn is_complete_at_birth(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file() || meta.nlink() > 1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::filesystem::FileSystems;
    use super::super::snapshot::Targets;
    use super::super::watch_points::Survey;
    use super::*;

    const DIRECTORY: i32 = 1;
    const ABOVE: i32 = 2;
    const FILE: i32 = 3;
    const UNKNOWN: i32 = 4;

    fn survey(path: &Path) -> Survey {
        let targets = Targets {
            contents: vec![path.into()],
            identities: Vec::new(),
        };
        let (mut systems, mut gaps) = (FileSystems::default(), Gaps::default());
        Survey::take(&targets, &mut systems, &mut gaps)
    }

    fn interest(path: &Path, directory: &Path) -> Interest {
        survey(path).places.directories[directory].clone()
    }

    /// A watched directory, one above it, and a file that is listened to itself.
    fn events(directory: &Path) -> KernelEvents {
        let interest = interest(directory, directory);
        let above = Interest::default();
        let watched = [
            (DIRECTORY, Watched::Directory(directory.into(), interest)),
            (ABOVE, Watched::Directory("/above".into(), above)),
            (FILE, Watched::Itself),
        ];
        let mut events = KernelEvents::new().unwrap();
        events.watched.extend(watched);
        events
    }

    fn real_temp_dir() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_that_tells_of_itself_is_complete_once_it_is_closed() {
        let (_guard, dir) = real_temp_dir();
        let mut events = events(&dir);
        assert!(!events.is_unsettled());
        for at_work in [ReadFlags::MODIFY, ReadFlags::ATTRIB, ReadFlags::MOVE_SELF] {
            for end in [ReadFlags::CLOSE_WRITE, ReadFlags::UNMOUNT] {
                assert_eq!(events.judge(FILE, at_work, None), LookTime::OnceQuiet);
                assert!(events.is_unsettled());
                assert_eq!(events.judge(FILE, end, None), LookTime::Now);
                assert!(!events.is_unsettled());
            }
        }
        events.judge(FILE, ReadFlags::MODIFY, None);
        events.settle();
        assert!(!events.is_unsettled());
    }

    #[test]
    fn a_directory_tells_of_its_end_and_one_that_is_looked_through_of_its_permissions() {
        let (_guard, dir) = real_temp_dir();
        let mut events = events(&dir);
        let ends = [
            ReadFlags::MOVE_SELF,
            ReadFlags::DELETE_SELF,
            ReadFlags::UNMOUNT,
        ];
        for end in ends {
            for watch in [DIRECTORY, ABOVE] {
                assert_eq!(events.judge(watch, end, None), LookTime::Now);
            }
        }
        let judged = |events: &mut KernelEvents, flags| {
            [DIRECTORY, ABOVE].map(|watch| events.judge(watch, flags, None))
        };
        let permissions = judged(&mut events, ReadFlags::ATTRIB);
        assert_eq!(permissions, [LookTime::Now, LookTime::Unneeded]);
        let opened = judged(&mut events, ReadFlags::OPEN);
        assert_eq!(opened, [LookTime::Unneeded; 2]);
        assert!(!events.is_unsettled());
    }

    #[test]
    fn an_entry_that_is_complete_is_looked_at_now_and_another_one_once_it_is_quiet() {
        let (_guard, dir) = real_temp_dir();
        fs::write(dir.join("file"), "a").unwrap();
        symlink("file", dir.join("link")).unwrap();
        fs::write(dir.join("two-names"), "a").unwrap();
        fs::hard_link(dir.join("two-names"), dir.join("other")).unwrap();
        let mut events = events(&dir);
        let complete = [
            ("file", ReadFlags::CLOSE_WRITE),
            ("file", ReadFlags::MOVED_TO),
            ("directory", ReadFlags::CREATE | ReadFlags::ISDIR),
            ("directory", ReadFlags::DELETE | ReadFlags::ISDIR),
            ("link", ReadFlags::CREATE),
            ("two-names", ReadFlags::CREATE),
        ];
        let followed = [
            ("file", ReadFlags::CREATE),
            ("gone", ReadFlags::CREATE),
            ("file", ReadFlags::MODIFY),
            ("link", ReadFlags::ATTRIB),
            ("two-names", ReadFlags::ATTRIB),
            ("file", ReadFlags::MOVED_FROM),
            ("file", ReadFlags::DELETE),
        ];
        for (name, flags) in complete {
            let name = Some(OsStr::new(name));
            events.judge(DIRECTORY, ReadFlags::MODIFY, name);
            assert!(events.is_unsettled());
            let time = events.judge(DIRECTORY, flags, name);
            assert_eq!(time, LookTime::Now, "{name:?} {flags:?}");
            assert!(!events.is_unsettled());
        }
        for (name, flags) in followed {
            events.settle();
            let time = events.judge(DIRECTORY, flags, Some(OsStr::new(name)));
            assert_eq!(time, LookTime::OnceQuiet, "{name} {flags:?}");
            assert!(events.is_unsettled());
        }
    }

    #[test]
    fn what_is_not_watched_for_calls_for_no_look_and_lost_events_do() {
        let (_guard, dir) = real_temp_dir();
        let mut events = events(&dir);
        let written = ReadFlags::CLOSE_WRITE;
        for (watch, name) in [(DIRECTORY, ".hidden"), (ABOVE, "file"), (UNKNOWN, "file")] {
            let time = events.judge(watch, written, Some(OsStr::new(name)));
            assert_eq!(time, LookTime::Unneeded, "{watch} {name}");
        }
        let lost = events.judge(UNKNOWN, ReadFlags::QUEUE_OVERFLOW, None);
        assert_eq!(lost, LookTime::Now);
        // The kernel gives the number of a watch that is gone to no other one, but nothing is kept of it.
        let dropped = events.judge(FILE, ReadFlags::IGNORED, None);
        assert_eq!(dropped, LookTime::Unneeded);
        assert_eq!(events.judge(FILE, written, None), LookTime::Unneeded);
    }

    #[test]
    fn only_a_place_that_was_not_listened_to_before_is_new() {
        let (_guard, dir) = real_temp_dir();
        for name in ["a", "b"] {
            fs::write(dir.join(name), "a").unwrap();
        }
        let (a, b) = (survey(&dir.join("a")), survey(&dir.join("b")));
        let mut both = survey(&dir.join("a"));
        both.places.files.extend(b.places.files);
        let nowhere = survey(&dir.join("none"));
        let mut events = KernelEvents::new().unwrap();
        let mut listen = |survey: &Survey| {
            let mut gaps = Gaps::default();
            let fresh = events.listen(&survey.places, &mut gaps);
            assert_eq!(gaps.into_vec(), []);
            fresh
        };
        // The directory alone, the file beside it, another file, and what is forgotten meanwhile.
        let looks = [&nowhere, &nowhere, &a, &a, &both, &both, &a, &both, &a];
        let fresh = looks.map(&mut listen);
        let expected = [true, false, true, false, true, false, false, true, false];
        assert_eq!(fresh, expected);
    }

    #[test]
    fn two_paths_to_one_directory_listen_for_the_names_of_both() {
        let (_guard, dir) = real_temp_dir();
        fs::create_dir(dir.join("below")).unwrap();
        for (one, other) in [(dir.join("a"), dir.join("b")), (dir.join("a"), dir.clone())] {
            let mut places = WatchPoints::default();
            let by_way = dir.join("below/..");
            places.directories.insert(dir.clone(), interest(&one, &dir));
            places.directories.insert(by_way, interest(&other, &dir));
            let mut events = KernelEvents::new().unwrap();
            events.listen(&places, &mut Gaps::default());
            let watched: Vec<_> = events.watched.values().collect();
            let [Watched::Directory(_, interest)] = watched[..] else {
                panic!("{watched:?}");
            };
            assert!(
                ["a", "b"]
                    .iter()
                    .all(|name| interest.covers(OsStr::new(name)))
            );
        }
    }

    #[test]
    fn an_entry_of_a_directory_that_may_not_be_read_is_listened_to_itself() {
        let (_guard, dir) = real_temp_dir();
        let at = |name: &str| dir.join(name);
        fs::create_dir(at("below")).unwrap();
        fs::write(at("file"), "a").unwrap();
        symlink("below", at("link")).unwrap();
        let mut events = KernelEvents::new().unwrap();
        let mut gaps = Gaps::default();
        let mut before = HashMap::new();
        for is_first in [true, false] {
            let mut round = Round {
                fd: Arc::clone(&events.fd),
                before: &before,
                watched: HashMap::new(),
                fresh: false,
                gaps: &mut gaps,
            };
            for name in ["below", "file", "link"] {
                round.fresh = false;
                round.entry(&at(name)).unwrap();
                assert_eq!(round.fresh, is_first, "{name}");
            }
            round.fresh = true;
            round.entry(&at("below")).unwrap();
            assert!(round.fresh, "another place is new");
            assert_eq!(round.entry(&at("none")), Err(Errno::NOENT));
            before = round.watched;
        }
        // The symlink and what it leads to are two.
        let directories = before
            .values()
            .filter(|watched| matches!(watched, Watched::Directory(..)));
        assert_eq!((before.len(), directories.count()), (3, 1));

        // What is listened to for more stays so.
        events.listen(&survey(&at("below")).places, &mut gaps);
        let mut round = Round {
            fd: Arc::clone(&events.fd),
            before: &before,
            watched: HashMap::new(),
            fresh: false,
            gaps: &mut gaps,
        };
        round.entry(&at("below")).unwrap();
        fs::write(at("below/new"), "a").unwrap();
        assert_eq!(events.hear().unwrap().look, LookTime::Now);
        assert_eq!(gaps.into_vec(), []);
    }

    #[test]
    fn a_queue_is_read_in_pieces_and_no_event_is_lost_between_them() {
        let (_guard, dir) = real_temp_dir();
        let mut events = KernelEvents::new().unwrap();
        let watched = survey(&dir.join("file"));
        events.listen(&watched.places, &mut Gaps::default());
        fs::write(dir.join("a"), "").unwrap();
        fs::write(dir.join("b"), "").unwrap();
        assert!(events.hear().unwrap().is_all);
        // Equal events that follow each other are one.
        for _ in 0..MOST_AT_ONCE / 2 {
            for name in ["a", "b"] {
                fs::write(dir.join(name), "").unwrap();
            }
        }
        fs::rename(dir.join("a"), dir.join("file")).unwrap();
        let mut pieces = Vec::new();
        loop {
            let heard = events.hear().unwrap();
            pieces.push(heard);
            if heard.is_all {
                break;
            }
        }
        let (last, others) = pieces.split_last().unwrap();
        assert_eq!(last.look, LookTime::Now);
        // A buffer holds less than 256 events.
        let piece = MOST_AT_ONCE..MOST_AT_ONCE + 256;
        for heard in others {
            assert_eq!(heard.look, LookTime::Unneeded);
            assert!(piece.contains(&heard.events), "{heard:?}");
        }
        // Each writing is told as a close at least, and the renaming by two names.
        let all: u32 = pieces.iter().map(|heard| heard.events).sum();
        assert!(all >= MOST_AT_ONCE + 2, "{all}");
    }
}
