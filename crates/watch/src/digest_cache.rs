//! Contents that need not be read again.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use handover_files::Digest;

use super::filesystem::FileSystem;
use super::read::{Opened, ReadError};

/// For how long a file can be written without its times showing it: the coarsest clock of a file
/// system has steps of two seconds.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// The digests of the files, and by what to tell that they still hold.
///
/// A file is read again until its device, inode, size and times have been the same for longer than
/// a write could leave no trace in them. This watches the local clock only: that of a file server
/// may be wrong. A write through a memory map leaves no trace on some file systems, so a caller can
/// have every file read at this moment: see [`DigestCache::doubt`].
#[derive(Debug, Default)]
pub(super) struct DigestCache {
    known: HashMap<PathBuf, CachedDigest>,
    /// What was met during this look.
    met: HashMap<PathBuf, CachedDigest>,
    doubts: bool,
}

#[derive(Debug, Clone)]
struct CachedDigest {
    stamp: Stamp,
    /// When the file was first seen with this stamp.
    since: Instant,
    /// When it was read last.
    read: Instant,
    digest: Digest,
    size: u64,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            file: (meta.dev(), meta.ino()),
            size: meta.size(),
            written: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl DigestCache {
    /// Lets the next look read every file.
    pub(super) fn doubt(&mut self) {
        self.doubts = true;
    }

    /// The digest and size of a file, which is read if it may be another.
    pub(super) fn digest(
        &mut self,
        path: &Path,
        file: &Opened<'_>,
        system: FileSystem,
    ) -> Result<(Digest, u64), ReadError> {
        self.digest_at(Instant::now(), path, file, system)
    }

    fn digest_at(
        &mut self,
        now: Instant,
        path: &Path,
        file: &Opened<'_>,
        system: FileSystem,
    ) -> Result<(Digest, u64), ReadError> {
        let stamp = Stamp::of(&file.meta);
        // Watched by itself, and as part of a directory.
        if let Some(known) = self.met.get(path).filter(|known| known.stamp == stamp) {
            return Ok((known.digest, known.size));
        }
        let known = self.known.get(path).filter(|known| known.stamp == stamp);
        let since = known.map_or(now, |known| known.since);
        let holds = |known: &CachedDigest| {
            let long_enough = known.read.duration_since(known.since) >= COARSEST_CLOCK;
            long_enough && !self.doubts && !matches!(system, FileSystem::Kernel(_))
        };
        let known = match known.filter(|known| holds(known)) {
            Some(known) => known.clone(),
            None => {
                let (digest, size) = file.digest()?;
                CachedDigest {
                    stamp,
                    since,
                    read: now,
                    digest,
                    size,
                }
            }
        };
        let result = (known.digest, known.size);
        self.met.insert(path.into(), known);
        Ok(result)
    }

    /// The look is over: what was not met is gone.
    pub(super) fn forget_the_rest(&mut self) {
        self.known = std::mem::take(&mut self.met);
        self.doubts = false;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A file whose content is swapped behind its stamp, as a write through a memory map can do.
    struct World {
        _dir: tempfile::TempDir,
        path: PathBuf,
        memory: DigestCache,
        start: Instant,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs::write(&path, "a").unwrap();
            Self {
                _dir: dir,
                path,
                memory: DigestCache::default(),
                start: Instant::now(),
            }
        }

        /// Looks at the file so many seconds after the start. `behind` is what it holds, whatever
        /// its stamp says.
        fn look(&mut self, seconds: u64, behind: &str, system: FileSystem) -> bool {
            let is_read = self.meet(seconds, behind, system);
            self.memory.forget_the_rest();
            is_read
        }

        /// Meets the file in the middle of a look.
        fn meet(&mut self, seconds: u64, behind: &str, system: FileSystem) -> bool {
            let stamped = Opened::at(&self.path).unwrap().meta;
            let other = self.path.with_extension("behind");
            fs::write(&other, behind).unwrap();
            let mut opened = Opened::at(&other).unwrap();
            opened.meta = stamped;
            let now = self.start + Duration::from_secs(seconds);
            let path = self.path.clone();
            let digest = self.memory.digest_at(now, &path, &opened, system);
            digest.unwrap().0 == Digest::of(behind.as_bytes())
        }
    }

    #[test]
    fn a_file_is_read_until_its_times_would_show_a_write() {
        let mut world = World::new();
        assert!(world.look(0, "a", FileSystem::Local));
        assert!(world.look(1, "b", FileSystem::Local), "its clock is coarse");
        assert!(world.look(10, "c", FileSystem::Remote("NFS")));
        // Read ten seconds after it was first seen as it is: no write since then is without trace.
        assert!(!world.look(11, "d", FileSystem::Local));
        fs::write(&world.path, "longer").unwrap();
        assert!(world.look(12, "longer", FileSystem::Local));
    }

    #[test]
    fn a_file_that_is_met_twice_in_a_look_is_read_once_unless_it_was_written_meanwhile() {
        let mut world = World::new();
        assert!(world.meet(0, "a", FileSystem::Local));
        assert!(!world.meet(0, "b", FileSystem::Local));
        fs::write(&world.path, "longer").unwrap();
        assert!(world.meet(0, "longer", FileSystem::Local));
    }

    #[test]
    fn doubt_and_files_of_the_kernel_are_always_read() {
        let mut world = World::new();
        assert!(world.look(0, "a", FileSystem::Local));
        assert!(world.look(10, "b", FileSystem::Local));
        assert!(world.look(20, "c", FileSystem::Kernel("proc")));
        world.memory.doubt();
        assert!(world.look(30, "d", FileSystem::Local));
        assert!(!world.look(40, "e", FileSystem::Local));
    }
}
