//! Lock files that tell who holds them.
//!
//! The lock is the kernel's (`flock`), so it ends with its holder, however that ends. The text in the
//! file is for people. The holder removes the file at its end. A lock therefore counts only if its
//! file still has the name: see [`is_at`].

use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// How long [`LockFile::wait_for_own`] pauses between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// How much of a holder's text is read.
const LONGEST_OWNER: u64 = 4096;

/// A lock that is held until it is dropped. Its file is removed then.
///
/// ```
/// use handover_files::{LockFile, TryLock};
///
/// # let dir = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// let path = dir.path().join("job.lock");
/// let TryLock::Locked(lock) = LockFile::try_lock(&path, "nightly job")? else {
///     return Err("another one runs".into());
/// };
/// let second = LockFile::try_lock(&path, "another one")?;
/// assert!(matches!(second, TryLock::HeldBy(owner) if owner == "nightly job\n"));
/// drop(lock);
/// assert!(!path.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LockFile {
    /// Keeps the lock. It is not inherited by children, which would keep it beyond our end.
    file: File,
    path: PathBuf,
}

/// The result of a try that does not wait.
#[derive(Debug)]
pub enum TryLock {
    /// The lock is held by the caller.
    Locked(LockFile),
    /// Another process holds the lock. This is the text in its file, at most 4 KiB and as it stands
    /// there: it may be empty, and hold control characters.
    HeldBy(String),
}

/// Why a lock file of our own user could not be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Something else has the place of the file.
    #[error("{} {what}", path.display())]
    Squatted {
        /// The path of the file.
        path: PathBuf,
        /// What is there, for example `is a symbolic link`.
        what: String,
    },
    /// Others held the lock all the time.
    #[error("could not lock {} within {limit:?}: other processes hold it", path.display())]
    Held {
        /// The path of the file.
        path: PathBuf,
        /// How long the lock was waited for.
        limit: Duration,
    },
    /// The operating system refused something.
    #[error("cannot lock {}", path.display())]
    Os {
        /// The path of the file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl LockFile {
    /// Takes the lock if nobody has it, and writes `owner` and a line feed into the file.
    ///
    /// The file may belong to any user who lets us write to it. A file that is missing is made with
    /// mode 0600. A symbolic link is not followed.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened, locked or written.
    pub fn try_lock(path: &Path, owner: &str) -> io::Result<TryLock> {
        loop {
            let lock = match attempt(open(path)?, path)? {
                Attempt::Locked(lock) => lock,
                Attempt::Held(file) => {
                    let mut text = Vec::new();
                    // Whatever stands there is only shown; a holder writes a line.
                    file.take(LONGEST_OWNER).read_to_end(&mut text).ok();
                    let text = String::from_utf8(text).unwrap_or_default();
                    return Ok(TryLock::HeldBy(text));
                }
                Attempt::Moved => continue,
            };
            lock.file.set_len(0)?;
            writeln!(&lock.file, "{owner}")?;
            return Ok(TryLock::Locked(lock));
        }
    }

    /// Waits for the lock of a file that must belong to our user, at most for `limit`.
    ///
    /// It blocks the thread. The file gets mode 0600 if others could open it, so that no other user
    /// can hold the lock. Nothing is written into the file.
    ///
    /// # Errors
    ///
    /// - [`LockError::Squatted`] if a link, a directory or another user's file has the place;
    /// - [`LockError::Held`] if others hold the lock until the limit;
    /// - [`LockError::Os`] for all else.
    pub fn wait_for_own(path: &Path, limit: Duration) -> Result<Self, LockError> {
        let failed = |source| LockError::Os {
            path: path.to_owned(),
            source,
        };
        let started = Instant::now();
        loop {
            match attempt(open_own(path)?, path).map_err(failed)? {
                Attempt::Locked(lock) => return Ok(lock),
                Attempt::Held(_) if started.elapsed() < limit => std::thread::sleep(PAUSE),
                Attempt::Held(_) => {
                    return Err(LockError::Held {
                        path: path.to_owned(),
                        limit,
                    });
                }
                Attempt::Moved => {}
            }
        }
    }
}

/// What became of an attempt to lock an open file.
#[derive(Debug)]
enum Attempt {
    Locked(LockFile),
    /// Somebody else holds the lock of this file.
    Held(File),
    /// The holder before us has removed the file, between our open and our lock.
    Moved,
}

fn attempt(file: File, path: &Path) -> io::Result<Attempt> {
    match file.try_lock() {
        Ok(()) if is_at(&file, path)? => Ok(Attempt::Locked(LockFile {
            file,
            path: path.to_owned(),
        })),
        Ok(()) => Ok(Attempt::Moved),
        Err(TryLockError::WouldBlock) => Ok(Attempt::Held(file)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Removed while the lock is held, so nobody else's file is hit. One that stays does no harm.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Returns whether a path still leads to this open file, and through no link.
///
/// A lock on a file that was removed or replaced meanwhile excludes nobody. So lock a file that
/// others may remove, then call this, and open the path again if it returns `false`.
///
/// # Errors
///
/// If one of the two cannot be looked at. A path that is missing is no error.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(identity(&named) == identity(&ours)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Device and inode: what a file is, whatever its name.
pub(crate) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Opens or makes a file of mode 0600. Neither a link is followed nor a pipe waited for.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(NOFOLLOW | NONBLOCK)
        .open(path)
}

/// Opens our file, and nothing else that has its name.
fn open_own(path: &Path) -> Result<File, LockError> {
    let user = rustix::process::geteuid().as_raw();
    let failed = |source| LockError::Os {
        path: path.to_owned(),
        source,
    };
    let squatted = |what: String| LockError::Squatted {
        path: path.to_owned(),
        what,
    };
    let file = open(path).map_err(|error| {
        let found = std::fs::symlink_metadata(path).ok();
        match found.and_then(|found| squatter(&found, user)) {
            Some(what) => squatted(what),
            None => failed(error),
        }
    })?;
    let found = file.metadata().map_err(failed)?;
    if let Some(what) = squatter(&found, user) {
        return Err(squatted(what));
    }
    if found.mode() & 0o077 != 0 {
        let mode = Permissions::from_mode(0o600);
        file.set_permissions(mode).map_err(failed)?;
    }
    Ok(file)
}

/// Returns what else than a file of this user has its place, if anything else has.
fn squatter(found: &Metadata, user: u32) -> Option<String> {
    if found.is_symlink() {
        Some("is a symbolic link".to_owned())
    } else if found.uid() != user {
        Some(format!("belongs to user {}", found.uid()))
    } else {
        (!found.is_file()).then(|| "is no file".to_owned())
    }
}

/// Returns the text in a lock file, whether or not anybody holds the lock; `None` if it cannot be read.
///
/// At most the first 16 KiB are read.
#[must_use]
pub fn read_owner(path: &Path) -> Option<String> {
    let file = open_to_read(path).ok()?;
    let mut text = String::new();
    // The name can be a path of any length there is.
    file.take(16 << 10).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Removes the lock file that a killed holder has left at this path. Returns false if there is none, if somebody
/// holds the lock, or if the file is no regular file of our user.
///
/// The lock is held for the moment of the removal. Whoever tries it in that moment finds it held, and should try
/// once more.
///
/// # Errors
///
/// If the file cannot be looked at or locked.
pub fn remove_unheld(path: &Path) -> io::Result<bool> {
    let user = rustix::process::geteuid().as_raw();
    let file = match open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if squatter(&file.metadata()?, user).is_some() {
        return Ok(false);
    }
    // With the value goes the file, while the lock is held: so no file of a next holder is hit.
    Ok(matches!(attempt(file, path)?, Attempt::Locked(_)))
}

/// Returns whether somebody holds the lock at this moment. Nothing is written, and no file is made.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    // It is given back with the descriptor, at once.
    open_to_read(path)
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(NOFOLLOW | NONBLOCK)
        .open(path)
}

/// Linux's `O_NOFOLLOW`, the same bits as rustix has them.
pub(crate) const NOFOLLOW: i32 = OFlags::NOFOLLOW.bits().cast_signed();

/// The same for `O_NONBLOCK`: a pipe is not waited for.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than any test waits.
    const LIMIT: Duration = Duration::from_secs(5);

    fn directory() -> tempfile::TempDir {
        let mut builder = tempfile::Builder::new();
        builder.prefix("handover-").tempdir().unwrap()
    }

    #[test]
    fn a_file_that_a_killed_holder_has_left_is_removed_and_one_that_is_held_is_not() {
        let dir = directory();
        let (left, held) = (dir.path().join("left"), dir.path().join("held"));
        std::fs::write(&left, "pid 1\n").unwrap();
        let Ok(TryLock::Locked(lock)) = LockFile::try_lock(&held, "me") else {
            panic!("it is free");
        };
        assert!(remove_unheld(&left).unwrap() && !left.exists());
        assert!(!remove_unheld(&left).unwrap(), "it is gone");
        assert!(!remove_unheld(&held).unwrap() && held.exists());
        assert!(!remove_unheld(dir.path()).unwrap(), "a directory");
        std::os::unix::fs::symlink(&held, &left).unwrap();
        remove_unheld(&left).unwrap_err();
        drop(lock);
    }

    #[test]
    fn of_many_that_sweep_and_lock_at_once_no_two_hold_the_lock() {
        let dir = directory();
        let path = dir.path().join("lock");
        let holders = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        remove_unheld(&path).unwrap();
                    }
                });
                scope.spawn(|| {
                    use std::sync::atomic::Ordering::SeqCst;
                    for _ in 0..500 {
                        if let Ok(TryLock::Locked(lock)) = LockFile::try_lock(&path, "me") {
                            assert_eq!(holders.fetch_add(1, SeqCst), 0);
                            // Whoever sweeps would take this one away now.
                            std::thread::yield_now();
                            assert!(is_at(&lock.file, &path).unwrap());
                            assert_eq!(holders.fetch_sub(1, SeqCst), 1);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_lock_has_one_holder_who_is_named_and_leaves_nothing() {
        let dir = directory();
        let path = dir.path().join("lock");
        std::fs::write(&path, "left by one that was killed, a long line\n").unwrap();
        let TryLock::Locked(lock) = LockFile::try_lock(&path, "first").unwrap() else {
            panic!("a file that nobody has locked is free");
        };
        let second = LockFile::try_lock(&path, "second").unwrap();
        assert!(matches!(second, TryLock::HeldBy(holder) if holder == "first\n"));
        drop(lock);
        assert!(!path.exists());
        assert!(matches!(
            LockFile::try_lock(&path, "third").unwrap(),
            TryLock::Locked(_)
        ));
    }

    /// Two processes would hold the lock together: one by a file that has no name any more.
    #[test]
    fn a_file_that_was_removed_before_it_was_locked_is_not_taken_for_the_lock() {
        let dir = directory();
        let path = dir.path().join("lock");
        let opened = open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(attempt(opened, &path).unwrap(), Attempt::Moved));
        let opened = open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = LockFile::wait_for_own(&path, LIMIT).unwrap();
        assert!(matches!(attempt(opened, &path).unwrap(), Attempt::Moved));
        assert!(path.exists());
    }

    #[test]
    fn a_file_tells_its_owner_also_after_the_owners_end() {
        let dir = directory();
        let path = dir.path().join("lock");
        assert_eq!(read_owner(&path), None);
        let lock = LockFile::try_lock(&path, "front").unwrap();
        assert_eq!(read_owner(&path).as_deref(), Some("front\n"));
        assert!(is_held(&path));
        drop(lock);
        assert!(read_owner(&path).is_none() && !is_held(&path));
        std::fs::write(&path, "front").unwrap();
        assert_eq!(read_owner(&path).as_deref(), Some("front"));
        assert!(!is_held(&path));
    }

    #[test]
    fn many_threads_never_hold_it_together() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let dir = directory();
        let path = dir.path().join("lock");
        let (holders, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut had = 0;
                    while had < 50 {
                        let TryLock::Locked(lock) = LockFile::try_lock(&path, "x").unwrap() else {
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

    #[test]
    fn an_awaited_lock_has_one_holder_and_leaves_nothing() {
        let dir = directory();
        let path = dir.path().join("lock");
        let (holders, most) = (std::sync::Mutex::new(0), std::sync::Mutex::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = LockFile::wait_for_own(&path, LIMIT).unwrap();
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
    fn what_is_not_our_file_is_not_locked() {
        let dir = directory();
        let path = dir.path().join("lock");
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let refused = LockFile::wait_for_own(&path, LIMIT).unwrap_err();
        assert!(matches!(refused, LockError::Squatted { what, .. } if what.contains("link")));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let refused = LockFile::wait_for_own(&path, LIMIT).unwrap_err();
        assert!(matches!(refused, LockError::Squatted { what, .. } if what == "is no file"));
        std::fs::remove_dir(&path).unwrap();
        let missing = dir.path().join("missing/lock");
        let refused = LockFile::wait_for_own(&missing, LIMIT).unwrap_err();
        assert!(matches!(refused, LockError::Os { .. }), "{refused}");
        // What was left by one that was killed, too open, is ours again.
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let lock = LockFile::wait_for_own(&path, LIMIT).unwrap();
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        drop(lock);
        // What others cannot open keeps its mode.
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o1600)).unwrap();
        let _lock = LockFile::wait_for_own(&path, LIMIT).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o1600);
        assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious");
    }

    #[test]
    fn the_place_of_a_lock_is_for_a_file_of_the_user_alone() {
        let dir = directory();
        let (path, link) = (dir.path().join("lock"), dir.path().join("link"));
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let user = std::fs::metadata(&path).unwrap().uid();
        let told = |path: &Path, user| {
            let found = std::fs::symlink_metadata(path).unwrap();
            squatter(&found, user).unwrap_or_default()
        };
        assert_eq!(told(&path, user), "");
        assert_eq!(told(&link, user), "is a symbolic link");
        assert_eq!(told(dir.path(), user), "is no file");
        assert_eq!(told(&path, user + 1), format!("belongs to user {user}"));
    }

    #[test]
    fn a_path_that_cannot_be_looked_at_is_an_error_and_one_that_is_missing_is_none() {
        let dir = directory();
        let path = dir.path().join("lock");
        let file = open(&path).unwrap();
        assert!(is_at(&file, &path).unwrap());
        assert!(!is_at(&file, &dir.path().join("missing")).unwrap());
        assert!(is_at(&file, &path.join("below a file")).is_err());
    }

    #[test]
    fn an_owner_is_not_read_through_a_link() {
        let dir = directory();
        let (path, link) = (dir.path().join("lock"), dir.path().join("link"));
        let _lock = LockFile::try_lock(&path, "front").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_owner(&path).is_some() && is_held(&path));
        assert!(read_owner(&link).is_none() && !is_held(&link));
    }

    #[test]
    fn a_lock_that_others_keep_is_waited_for_until_the_limit() {
        let dir = directory();
        let path = dir.path().join("lock");
        let _others = LockFile::wait_for_own(&path, LIMIT).unwrap();
        let limit = PAUSE * 2;
        let began = Instant::now();
        let refused = LockFile::wait_for_own(&path, limit).unwrap_err();
        assert!(matches!(refused, LockError::Held { limit: told, .. } if told == limit));
        assert!((limit..LIMIT).contains(&began.elapsed()));
    }
}
