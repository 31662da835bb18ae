//! The lock of a directory of sockets.
//!
//! It is a file of our own in that directory, which only our user can open: a lock on the directory
//! itself could be taken, and kept, by whoever can read the directory.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// How long others of our user may take to make or remove their sockets in the same directory.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// A lock that is held until it is dropped. The kernel ends it with its holder.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
    path: PathBuf,
}

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum LockError {
    /// Something else has the place of our file.
    Squatted {
        path: PathBuf,
        what: String,
    },
    Os(io::Error),
}

impl DirectoryLock {
    /// Waits for the lock.
    pub(super) fn take(directory: &Path) -> Result<Self, LockError> {
        let user = rustix::process::geteuid().as_raw();
        // Each user has one of his own, so that nobody waits for another user.
        let path = directory.join(format!(".handover-{user}.lock"));
        let end = Instant::now() + LIMIT;
        loop {
            let file = open(&path, user)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < end => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Os(io::ErrorKind::TimedOut.into()));
                }
                Err(TryLockError::Error(error)) => return Err(LockError::Os(error)),
            }
            // Removed by the holder before us, between our open and our lock: try again.
            let ours = file.metadata().map_err(LockError::Os)?;
            match std::fs::symlink_metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(Self { _file: file, path });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(LockError::Os(error)),
            }
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Removed while the lock is held, so nobody else's file is hit. One that stays does no harm.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Opens our file, and nothing else that has its name.
fn open(path: &Path, user: u32) -> Result<File, LockError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let squatted = |what: String| LockError::Squatted {
        path: path.to_owned(),
        what,
    };
    let file = opened.map_err(|error| match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => squatted("is a symbolic link".to_owned()),
        Ok(found) if found.uid() != user => squatted(format!("belongs to user {}", found.uid())),
        Ok(found) if !found.is_file() => squatted("is no file".to_owned()),
        // What is there is ours, or nothing is.
        Ok(_) | Err(_) => LockError::Os(error),
    })?;
    let found = file.metadata().map_err(LockError::Os)?;
    if found.uid() != user {
        return Err(squatted(format!("belongs to user {}", found.uid())));
    }
    if !found.is_file() {
        return Err(squatted("is no file".to_owned()));
    }
    if found.mode() & 0o077 != 0 {
        let mode = std::fs::Permissions::from_mode(0o600);
        file.set_permissions(mode).map_err(LockError::Os)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_directory as directory;

    #[test]
    fn a_lock_has_one_holder_and_leaves_nothing() {
        let dir = directory();
        let (holders, most) = (std::sync::Mutex::new(0), std::sync::Mutex::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = DirectoryLock::take(dir.path()).unwrap();
                        *holders.lock().unwrap() += 1;
                        let now = *holders.lock().unwrap();
                        let mut most = most.lock().unwrap();
                        *most = now.max(*most);
                        *holders.lock().unwrap() -= 1;
                    }
                });
            }
        });
        assert_eq!(most.into_inner().unwrap(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_on_the_directory_itself_is_nobodys_business() {
        let dir = directory();
        let others = File::open(dir.path()).unwrap();
        others.lock().unwrap();
        let began = Instant::now();
        DirectoryLock::take(dir.path()).unwrap();
        assert!(began.elapsed() < LIMIT);
    }

    #[test]
    fn what_is_not_our_file_is_not_locked() {
        let dir = directory();
        let user = rustix::process::geteuid().as_raw();
        let path = dir.path().join(format!(".handover-{user}.lock"));
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let refused = DirectoryLock::take(dir.path()).unwrap_err();
        assert!(matches!(refused, LockError::Squatted { what, .. } if what.contains("link")));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(DirectoryLock::take(dir.path()).is_err());
        std::fs::remove_dir(&path).unwrap();
        // What was left by one that was killed, too open, is ours again.
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let lock = DirectoryLock::take(dir.path()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        drop(lock);
        assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious");
    }
}
