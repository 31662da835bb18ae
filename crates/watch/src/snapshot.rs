//! What the watched paths hold at one moment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use handover_files::{Digest, Hasher};

use super::digest_cache::DigestCache;
use super::filesystem::FileSystems;
use super::gap::{GapCause, Gaps};
use super::read::{self, Opened, ReadError};
use super::watch_points::Survey;

/// What is watched.
#[derive(Debug)]
pub(super) struct Targets {
    /// Paths whose contents matter.
    pub(super) contents: Vec<PathBuf>,
    /// Paths of files that are not read.
    pub(super) identities: Vec<PathBuf>,
}

impl Targets {
    /// All paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let all = self.contents.iter().chain(&self.identities);
        all.map(PathBuf::as_path)
    }
}

/// The contents of the watched paths, by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    digest: Digest,
    files: BTreeMap<PathBuf, FileState>,
}

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// A regular file.
    Present {
        /// The digest of its contents.
        digest: Digest,
        /// The size of the file in bytes.
        size: u64,
    },
    /// A regular file that is not read: see [`Watcher::with_identities`](super::Watcher::with_identities).
    /// So are files above [`LARGEST_FILE`](super::LARGEST_FILE), and those of watched directories beyond 512 MiB in
    /// all.
    Unread {
        /// A digest of what the system says of it; it is another one for another file, and when the
        /// file was written.
        identity: Digest,
        /// The size of the file in bytes.
        size: u64,
    },
    /// A directory; its files are listed by themselves.
    Directory,
    /// Nothing.
    Missing,
    /// Something that could not be read.
    Unreadable {
        /// Why, with the path.
        reason: String,
    },
}

impl Snapshot {
    /// Returns the digest of the list of paths and of all contents.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns every watched path and every file below a watched directory, sorted.
    pub fn files(&self) -> &BTreeMap<PathBuf, FileState> {
        &self.files
    }

    /// Looks at the paths. It blocks for as long as the file system takes.
    pub(super) fn take(targets: &Targets, survey: &Survey, mut look: Look<'_>) -> Self {
        let mut files = BTreeMap::new();
        let mut bytes = survey.left.bytes;
        for (root, tree) in &survey.trees {
            for path in &tree.files {
                if let Some(state) = look.at_entry(path, &mut bytes) {
                    files.insert(path.clone(), state);
                }
            }
            for (directory, error) in &tree.failed {
                look.unlisted(directory, error, &mut files);
            }
            files.insert(root.clone(), FileState::Directory);
        }
        // A path that is watched by itself as well is not judged as an entry.
        for path in &targets.contents {
            if !survey.trees.contains_key(path) {
                look.at(path, &mut files);
            }
        }
        for path in &targets.identities {
            // One whose contents matter is read anyway.
            if !targets.contents.contains(path) {
                files.insert(path.clone(), identify(path));
            }
        }
        look.memory.forget_the_rest();
        let mut hasher = Hasher::default();
        for (path, state) in &files {
            hasher.field(path.as_os_str().as_bytes());
            match state {
                FileState::Present { digest, .. } => {
                    hasher.update(b"f");
                    hasher.update(digest.as_bytes());
                }
                FileState::Unread { identity, .. } => {
                    hasher.update(b"i");
                    hasher.update(identity.as_bytes());
                }
                FileState::Directory => hasher.update(b"d"),
                FileState::Missing => hasher.update(b"m"),
                FileState::Unreadable { reason } => {
                    hasher.update(b"u");
                    hasher.field(reason.as_bytes());
                }
            }
        }
        Self {
            digest: hasher.finish(),
            files,
        }
    }

    /// What is different from an earlier snapshot; `None` if nothing is.
    pub(super) fn since(&self, earlier: &Self) -> Option<Change> {
        if self.digest == earlier.digest {
            return None;
        }
        let mut paths: Vec<PathBuf> = self
            .files
            .iter()
            .filter(|(path, state)| earlier.files.get(*path) != Some(state))
            .map(|(path, _)| path.clone())
            .collect();
        let gone = |path: &&PathBuf| !self.files.contains_key(*path);
        paths.extend(earlier.files.keys().filter(gone).cloned());
        paths.sort_unstable();
        let mut change = Change {
            digest: self.digest,
            paths,
            missing: Vec::new(),
            unreadable: Vec::new(),
        };
        for (path, state) in &self.files {
            match state {
                FileState::Missing => change.missing.push(path.clone()),
                FileState::Unreadable { reason } => change.unreadable.push(reason.clone()),
                FileState::Present { .. } | FileState::Unread { .. } | FileState::Directory => {}
            }
        }
        Some(change)
    }
}

/// Other contents than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The digest of the new [`Snapshot`].
    pub digest: Digest,
    /// What changed, appeared or disappeared, sorted.
    pub paths: Vec<PathBuf>,
    /// Every path that is missing, whether or not it was missing before.
    pub missing: Vec<PathBuf>,
    /// Why each unreadable path cannot be read, whether or not it could be read before.
    pub unreadable: Vec<String>,
}

impl Change {
    /// Returns whether every watched path is there and could be read.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unreadable.is_empty()
    }

    /// Makes one change of two that follow each other: with the paths of both, and otherwise as the
    /// later one has found it.
    pub(super) fn both(earlier: Option<Self>, later: Option<Self>) -> Option<Self> {
        match (earlier, later) {
            (Some(earlier), Some(mut later)) => {
                later.paths.extend(earlier.paths);
                later.paths.sort_unstable();
                later.paths.dedup();
                Some(later)
            }
            (change, None) | (None, change) => change,
        }
    }
}

/// Whether a name in a watched directory is left out: hidden files, which is where editors and
/// Kubernetes keep their own, and backup copies that end in `~`.
pub(super) fn is_left_out(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") || name.as_bytes().ends_with(b"~")
}

/// What a look needs.
pub(super) struct Look<'a> {
    pub(super) memory: &'a mut DigestCache,
    pub(super) systems: &'a mut FileSystems,
    pub(super) gaps: &'a mut Gaps,
    /// What was seen before.
    pub(super) earlier: Option<&'a Snapshot>,
}

impl Look<'_> {
    /// A path that is watched by itself.
    fn at(&mut self, path: &Path, files: &mut BTreeMap<PathBuf, FileState>) {
        let state = match Opened::at(path).and_then(|file| self.digest(path, &file)) {
            Ok(state) => state,
            Err(ReadError::Missing { .. }) => FileState::Missing,
            Err(ReadError::NotAFile { .. }) if path.is_dir() => match fs::read_dir(path) {
                // It could not be listed a moment ago, so something happens to it that is heard.
                Ok(_) => FileState::Directory,
                Err(error) => return self.unlisted(path, &error, files),
            },
            Err(error) => self.unread(path, &error),
        };
        files.insert(path.into(), state);
    }

    /// A file of a watched directory; none if it is no part of it.
    fn at_entry(&mut self, path: &Path, bytes: &mut u64) -> Option<FileState> {
        let file = match Opened::at(path) {
            Ok(file) => file,
            // A file that is removed in this moment is no part of the directory, but a symlink that
            // leads nowhere is worth telling.
            Err(ReadError::NotAFile { .. }) => return None,
            Err(ReadError::Missing { .. }) if fs::symlink_metadata(path).is_err() => return None,
            Err(ReadError::Missing { .. }) => return Some(FileState::Missing),
            Err(error) => return Some(self.unread(path, &error)),
        };
        let Some(left) = bytes.checked_sub(file.meta.len()) else {
            self.gaps.add(Some(path), GapCause::TooManyBytes);
            return Some(identify(path));
        };
        *bytes = left;
        let state = self.digest(path, &file);
        Some(state.unwrap_or_else(|error| self.unread(path, &error)))
    }

    /// A file that is not read. A large one, such as a program, is told by its identity. If the reason may pass, what
    /// the file held before counts: a shortage of descriptors, for example, is no change of it.
    fn unread(&mut self, path: &Path, error: &ReadError) -> FileState {
        if let ReadError::TooLarge { .. } = error {
            self.gaps.add(Some(path), GapCause::TooLarge);
            return identify(path);
        }
        if let ReadError::Io { source, .. } = error
            && read::may_pass(source)
        {
            self.not_read(path, source);
            let earlier = self.earlier.and_then(|earlier| earlier.files.get(path));
            if let Some(state) = earlier {
                return state.clone();
            }
        }
        unreadable(error)
    }

    /// A directory that cannot be listed. If that may pass, what it held before counts.
    fn unlisted(
        &mut self,
        directory: &Path,
        error: &io::Error,
        files: &mut BTreeMap<PathBuf, FileState>,
    ) {
        if read::may_pass(error) {
            self.not_read(directory, error);
            let earlier = self.earlier.iter().flat_map(|earlier| &earlier.files);
            let mut below = earlier
                .filter(|(path, _)| path.starts_with(directory))
                .peekable();
            if below.peek().is_some() {
                files.extend(below.map(|(path, state)| (path.clone(), state.clone())));
                return;
            }
        }
        let reason = format!("could not list `{}`: {error}", directory.display());
        files.insert(directory.into(), FileState::Unreadable { reason });
    }

    fn not_read(&mut self, path: &Path, error: &io::Error) {
        let error = error.to_string();
        self.gaps.add(Some(path), GapCause::NotRead { error });
    }

    fn digest(&mut self, path: &Path, file: &Opened<'_>) -> Result<FileState, ReadError> {
        let system = self.systems.of(file.meta.dev(), path);
        let (digest, size) = self.memory.digest(path, file, system)?;
        Ok(FileState::Present { digest, size })
    }
}

fn identify(path: &Path) -> FileState {
    match read::identity_of(path) {
        Ok((identity, size)) => FileState::Unread { identity, size },
        Err(ReadError::Missing { .. }) => FileState::Missing,
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &ReadError) -> FileState {
    FileState::Unreadable {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::super::gap::Gap;
    use super::*;

    #[test]
    fn two_changes_in_a_row_are_one_with_the_paths_of_both() {
        let change = |digest: &[u8], paths: &[&str], missing: &[&str]| Change {
            digest: Digest::of(digest),
            paths: paths.iter().map(PathBuf::from).collect(),
            missing: missing.iter().map(PathBuf::from).collect(),
            unreadable: Vec::new(),
        };
        let earlier = || Some(change(b"1", &["b", "c"], &["b"]));
        let later = || Some(change(b"2", &["a", "c"], &["a"]));
        let both = Some(change(b"2", &["a", "b", "c"], &["a"]));
        assert_eq!(Change::both(earlier(), later()), both);
        assert_eq!(Change::both(earlier(), None), earlier());
        assert_eq!(Change::both(None, later()), later());
        assert_eq!(Change::both(None, None), None);
    }

    #[test]
    fn beyond_the_limit_of_bytes_files_are_compared_without_being_read() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(dir.path().join(name), "1234").unwrap();
        }
        let targets = Targets {
            contents: vec![dir.path().into()],
            identities: Vec::new(),
        };
        let (mut memory, mut systems) = (DigestCache::default(), FileSystems::default());
        let mut take = || {
            let mut gaps = Gaps::default();
            let mut survey = Survey::take(&targets, &mut systems, &mut gaps);
            survey.left.bytes = 9;
            let look = Look {
                memory: &mut memory,
                systems: &mut systems,
                gaps: &mut gaps,
                earlier: None,
            };
            let snapshot = Snapshot::take(&targets, &survey, look);
            (snapshot, gaps.into_vec())
        };
        let (first, gaps) = take();
        let is_read = |name: &str| {
            let state = &first.files()[&dir.path().join(name)];
            matches!(state, FileState::Present { .. })
        };
        assert_eq!(["a", "b", "c"].map(is_read), [true, true, false]);
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].why, GapCause::TooManyBytes);
        fs::write(dir.path().join("c"), "12345").unwrap();
        let change = take().0.since(&first).unwrap();
        assert_eq!(change.paths, [dir.path().join("c")]);
    }

    /// What a look makes of paths, after an earlier one.
    fn looked<T>(earlier: Option<&Snapshot>, at: impl FnOnce(&mut Look<'_>) -> T) -> (T, Vec<Gap>) {
        let (mut memory, mut systems) = (DigestCache::default(), FileSystems::default());
        let mut gaps = Gaps::default();
        let mut look = Look {
            memory: &mut memory,
            systems: &mut systems,
            gaps: &mut gaps,
            earlier,
        };
        let found = at(&mut look);
        (found, gaps.into_vec())
    }

    #[test]
    fn what_has_gone_is_no_part_of_a_directory_and_a_symlink_that_leads_nowhere_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        let found = |path: &Path| looked(None, |look| look.at_entry(path, &mut 9)).0;
        assert_eq!(found(&at("gone")), None);
        assert_eq!(found(&at("link")), Some(FileState::Missing));
        // One that could not be listed a moment ago.
        let mut files = BTreeMap::new();
        looked(None, |look| look.at(dir.path(), &mut files));
        let expected = BTreeMap::from([(dir.path().to_owned(), FileState::Directory)]);
        assert_eq!(files, expected);
    }

    #[test]
    fn a_shortage_while_a_directory_is_listed_keeps_what_it_held() {
        let earlier = Snapshot {
            digest: Digest::of(b""),
            files: ["/d", "/d/a", "/other"]
                .map(|path| (path.into(), FileState::Missing))
                .into(),
        };
        let unlisted = |earlier, errno: Errno| {
            let mut files = BTreeMap::new();
            let error = io::Error::from(errno);
            let ((), gaps) = looked(earlier, |look| {
                look.unlisted(Path::new("/d"), &error, &mut files);
            });
            let paths: Vec<_> = files
                .keys()
                .map(|path| path.display().to_string())
                .collect();
            let unreadable = files.values().filter_map(|state| {
                let FileState::Unreadable { reason } = state else {
                    return None;
                };
                Some(reason.clone())
            });
            (paths, unreadable.collect::<Vec<_>>(), gaps.len())
        };
        let (paths, unreadable, gaps) = unlisted(Some(&earlier), Errno::MFILE);
        assert_eq!((paths, gaps), (vec!["/d".into(), "/d/a".into()], 1));
        assert!(unreadable.is_empty());
        // Nothing is known, or nobody may list it.
        for (earlier, errno, expected) in
            [(None, Errno::MFILE, 1), (Some(&earlier), Errno::ACCESS, 0)]
        {
            let (paths, unreadable, gaps) = unlisted(earlier, errno);
            assert_eq!((paths, gaps), (vec!["/d".to_owned()], expected));
            assert!(
                unreadable[0].starts_with("could not list `/d`: "),
                "{unreadable:?}"
            );
        }
    }
}
