//! A lock file that tells who holds it.
//!
//! The lock is the kernel's (`flock`), so it ends with its holder, however that ends; the text in the
//! file is for people. The file is removed by its holder, therefore whoever gets the lock checks
//! that it is still the file of that name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::text::one_line;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct LockFile {
    /// Keeps the lock. It is not inherited by children, which would keep it beyond our end.
    _file: File,
    path: PathBuf,
}

/// The result of a try.
#[derive(Debug)]
pub(super) enum Try {
    /// It is ours.
    Locked(LockFile),
    /// Somebody else has it; the text is what the holder wrote.
    HeldBy(String),
}

impl LockFile {
    /// Takes the lock if nobody has it, and writes who we are.
    pub(super) fn try_lock(path: &Path, owner: &str) -> io::Result<Try> {
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(NOFOLLOW)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    // Whatever stands there is only shown; a holder writes a line.
                    let reader = io::Read::by_ref(&mut file);
                    reader.take(4096).read_to_string(&mut text).ok();
                    return Ok(Try::HeldBy(one_line(&text)));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Removed by the holder before us, between our open and our lock: try again.
            let ours = file.metadata()?;
            match std::fs::symlink_metadata(path) {
                Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            file.set_len(0)?;
            writeln!(file, "{owner}")?;
            return Ok(Try::Locked(Self {
                _file: file,
                path: path.to_owned(),
            }));
        }
    }
}

/// Whether the file was written by an owner of this name, who may hold the lock or be dead. The text of
/// an owner is its name and its process id.
pub(super) fn is_of(path: &Path, name: &str) -> bool {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(NOFOLLOW | NONBLOCK)
        .open(path);
    let mut text = String::new();
    // One that cannot be read is not ours. The name can be a path of any length there is.
    let read = file.and_then(|file| file.take(16 << 10).read_to_string(&mut text));
    let pid = text.strip_prefix(name);
    read.is_ok() && pid.is_some_and(|pid| pid.starts_with(" (pid "))
}

/// Whether somebody holds the lock at this moment. Nothing is written, and the file stays as it is.
pub(super) fn is_held(path: &Path) -> bool {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(NOFOLLOW | NONBLOCK)
        .open(path);
    // It is given back with the descriptor, at once.
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The text of an owner of this name.
pub(super) fn owner(name: &str) -> String {
    format!("{name} (pid {})", std::process::id())
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Removed while the lock is held, so nobody else's file is hit. One that stays does no harm.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Linux's `O_NOFOLLOW`, the same bits as rustix has them.
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// The same for `O_NONBLOCK`: a pipe is not waited for.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_holder_who_is_named_and_leaves_nothing() {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "left by one that was killed, a long line\n").unwrap();
        let Try::Locked(lock) = LockFile::try_lock(&path, "first").unwrap() else {
            panic!("a file that nobody has locked is free");
        };
        let second = LockFile::try_lock(&path, "second").unwrap();
        assert!(matches!(second, Try::HeldBy(holder) if holder == "first"));
        drop(lock);
        assert!(!path.exists());
        assert!(matches!(
            LockFile::try_lock(&path, "third").unwrap(),
            Try::Locked(_)
        ));
    }

    #[test]
    fn a_file_is_of_the_one_who_wrote_it() {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let path = dir.path().join("lock");
        assert!(!is_of(&path, "front"));
        let lock = LockFile::try_lock(&path, &owner("front")).unwrap();
        assert!(is_of(&path, "front") && is_held(&path));
        for other in ["", "fro", "front (pid", "front proxy", "back"] {
            assert!(!is_of(&path, other), "{other}");
        }
        drop(lock);
        assert!(!is_of(&path, "front") && !is_held(&path));
        std::fs::write(&path, owner("front")).unwrap();
        assert!(is_of(&path, "front") && !is_held(&path));
    }

    #[test]
    fn many_threads_never_hold_it_together() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let path = dir.path().join("lock");
        let (holders, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut had = 0;
                    while had < 50 {
                        let Try::Locked(lock) = LockFile::try_lock(&path, "x").unwrap() else {
                            continue;
                        };
                        most.fetch_max(
                            holders.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                        had += 1;
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }
}
