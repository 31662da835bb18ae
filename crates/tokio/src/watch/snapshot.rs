//! What the watched paths hold at one moment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::digest::{Digest, Hasher};
use super::read::{self, ReadError};

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
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        [&*self.contents, &*self.identities].concat()
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
        /// Its size in bytes.
        size: u64,
    },
    /// A regular file that is not read: see [`Watcher::with_identities`](super::Watcher::with_identities).
    Unread {
        /// A digest of what the system says of it; it is another one for another file, and when the
        /// file was written.
        identity: Digest,
        /// Its size in bytes.
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
    /// The digest of the list of paths and of all contents.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Every watched path and every file of a watched directory, sorted.
    pub fn files(&self) -> &BTreeMap<PathBuf, FileState> {
        &self.files
    }

    /// Looks at the paths. It blocks for as long as the file system takes.
    pub(super) fn take(targets: &Targets) -> Self {
        let mut files = BTreeMap::new();
        for path in &targets.contents {
            look(path, &mut files);
        }
        for path in &targets.identities {
            // One whose contents matter is read anyway.
            files.entry(path.clone()).or_insert_with(|| identify(path));
        }
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
    /// Whether every watched path is there and could be read.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unreadable.is_empty()
    }
}

/// Whether a name in a watched directory is left out: hidden files, which is where editors and
/// Kubernetes keep their own, and backup copies that end in `~`.
pub(super) fn is_left_out(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") || name.as_bytes().ends_with(b"~")
}

fn look(path: &Path, files: &mut BTreeMap<PathBuf, FileState>) {
    let state = match read::digest_of(path) {
        Ok((digest, size)) => FileState::Present { digest, size },
        Err(ReadError::Missing { .. }) => FileState::Missing,
        Err(ReadError::NotAFile { .. }) if path.is_dir() => match fs::read_dir(path) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    look_in_directory(&entry.file_name(), &entry.path(), files);
                }
                FileState::Directory
            }
            Err(source) => unreadable(&ReadError::Io {
                path: path.into(),
                source,
            }),
        },
        Err(error) => unreadable(&error),
    };
    files.insert(path.into(), state);
}

fn identify(path: &Path) -> FileState {
    match read::identity_of(path) {
        Ok((identity, size)) => FileState::Unread { identity, size },
        Err(ReadError::Missing { .. }) => FileState::Missing,
        Err(error) => unreadable(&error),
    }
}

fn look_in_directory(name: &OsStr, path: &Path, files: &mut BTreeMap<PathBuf, FileState>) {
    if is_left_out(name) {
        return;
    }
    let state = match read::digest_of(path) {
        Ok((digest, size)) => FileState::Present { digest, size },
        // Only files are looked at, one level deep. A file that is removed in this moment is no
        // part of the directory, but a symlink that leads nowhere is worth telling.
        Err(ReadError::NotAFile { .. }) => return,
        Err(ReadError::Missing { .. }) if fs::symlink_metadata(path).is_err() => return,
        Err(ReadError::Missing { .. }) => FileState::Missing,
        Err(error) => unreadable(&error),
    };
    // A path that is also watched by itself has its state already, or gets it later.
    files.entry(path.into()).or_insert(state);
}

fn unreadable(error: &ReadError) -> FileState {
    FileState::Unreadable {
        reason: error.to_string(),
    }
}
