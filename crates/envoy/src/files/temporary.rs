//! Run directories that nobody has named: made for one agent, removed at its end, and where it was
//! killed, by the next one.
//!
//! A lock in the directory tells whether its agent lives. The kernel ends the lock with the agent,
//! however that ends. A directory without the lock's file was not made here, or is only just being
//! made: it is left alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use handover_files::{DirectoryError, PrivateDir, is_at};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::RunDir;

/// The file that is locked while the agent lives.
const LOCK: &str = ".lock";

/// How often another directory is made because a sweep of somebody else was quicker.
const TRIES: usize = 100;

/// A run directory that goes with its value.
///
/// ```
/// use handover_envoy::files::TemporaryRunDir;
///
/// # let parent = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// let dir = TemporaryRunDir::create(parent.path())?;
/// let path = dir.run_dir().path().to_owned();
/// assert!(path.starts_with(parent.path()) && path.is_dir());
/// drop(dir);
/// assert!(!path.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TemporaryRunDir {
    run_dir: RunDir,
    /// Removes the directory. Fields are dropped in their order, so the lock ends after that.
    _dir: tempfile::TempDir,
    /// Keeps the lock. It is not inherited by children.
    _lock: File,
}

impl TemporaryRunDir {
    /// How the names of these directories begin.
    pub const PREFIX: &str = "handover-run-";

    /// Makes a directory of mode 0700 below this one, and removes those that dead agents of our user
    /// have left there. What cannot be removed stays.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::CreateDir`].
    pub fn create(parent: &Path) -> Result<Self, DirectoryError> {
        sweep(parent);
        let failed = |source| DirectoryError::CreateDir {
            path: parent.join(format!("{}XXXXXX", Self::PREFIX)),
            source,
        };
        for _ in 0..TRIES {
            let dir = tempfile::Builder::new()
                .prefix(Self::PREFIX)
                .permissions(fs::Permissions::from_mode(0o700))
                .tempdir_in(parent)
                .map_err(failed)?;
            let Some(lock) = lock(dir.path()).map_err(failed)? else {
                continue;
            };
            return Ok(Self {
                run_dir: RunDir(PrivateDir::check_own(dir.path())?),
                _lock: lock,
                _dir: dir,
            });
        }
        Err(failed(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "each directory that was made was removed by others at once",
        )))
    }

    /// Returns the directory.
    #[must_use]
    pub fn run_dir(&self) -> &RunDir {
        &self.run_dir
    }
}

/// Marks a new directory as that of a living agent, or nothing where a sweep has just taken it for
/// that of a dead one.
fn lock(dir: &Path) -> io::Result<Option<File>> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // Where the file system has no locks, no sweep gets one either.
        Err(TryLockError::Error(_)) => return Ok(Some(file)),
    }
    Ok(is_at(&file, &path)?.then_some(file))
}

/// Removes the directories of dead agents of our user.
fn sweep(parent: &Path) {
    // One that cannot be read is told when a directory is made in it.
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let is_named = name.to_str().is_some_and(|name| {
            name.strip_prefix(TemporaryRunDir::PREFIX)
                .is_some_and(|rest| !rest.is_empty())
        });
        if !is_named {
            continue;
        }
        match remove_dead(&entry.path()) {
            Ok(true) => tracing::debug!("removed {}, left by a dead agent", name.display()),
            Ok(false) => {}
            Err(error) => tracing::debug!("left {} alone: {error}", name.display()),
        }
    }
}

/// Removes a directory if its agent is dead; says whether it did.
fn remove_dead(path: &PathBuf) -> io::Result<bool> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if dir.metadata()?.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = match openat(&dir, LOCK, flags, Mode::empty()) {
        Ok(lock) => File::from(lock),
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        // Through the directory that was looked at, whatever has its path meanwhile.
        if name.to_str().is_some_and(is_of_an_epoch) {
            unlinkat(&dir, &*name, AtFlags::empty())?;
        }
    }
    unlinkat(&dir, LOCK, AtFlags::empty())?;
    // What somebody else has put there keeps it.
    fs::remove_dir(path)?;
    Ok(true)
}

/// Whether a file of this name is made by [`RunDir::write`], or is the socket of a gate.
fn is_of_an_epoch(name: &str) -> bool {
    let hidden = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".new"));
    let Some(rest) = hidden.unwrap_or(name).strip_prefix("envoy-rev") else {
        return false;
    };
    let (number, extension) = rest.split_once('.').unwrap_or((rest, ""));
    // An unfinished file without an extension is one of version 0.1.
    let known = ["yaml", "json", "pb", super::GATE].contains(&extension)
        || (extension.is_empty() && hidden.is_some() && !rest.contains('.'));
    known && number.parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::Format;

    fn temporary() -> tempfile::TempDir {
        let mut builder = tempfile::Builder::new();
        builder.prefix("handover-").tempdir().unwrap()
    }

    /// What an agent that is killed leaves.
    fn left_in(parent: &Path) -> PathBuf {
        let TemporaryRunDir {
            run_dir,
            _lock: lock,
            _dir: dir,
        } = TemporaryRunDir::create(parent).unwrap();
        run_dir.write(0, Format::Yaml, b"secret").unwrap();
        fs::write(run_dir.path().join(".envoy-rev1.yaml.new"), "half").unwrap();
        drop(std::os::unix::net::UnixListener::bind(run_dir.gate(1)).unwrap());
        drop(lock);
        dir.keep()
    }

    #[test]
    fn what_a_killed_agent_left_goes_and_what_a_living_one_has_stays() {
        let parent = temporary();
        let living = TemporaryRunDir::create(parent.path()).unwrap();
        let file = living.run_dir().write(0, Format::Json, b"{}").unwrap();
        let dead = left_in(parent.path());
        let older = left_in(parent.path());
        // The second one has removed the first.
        assert!(!dead.exists() && older.exists());
        let newest = TemporaryRunDir::create(parent.path()).unwrap();
        assert!(!older.exists());
        assert!(file.exists() && newest.run_dir().path().exists());
        drop((living, newest));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_known_to_be_a_dead_agents_is_left_alone() {
        let parent = temporary();
        let path = |name: &str| parent.path().join(name);
        // Without a lock: of another program, or only just being made.
        fs::create_dir(path("handover-run-unlocked")).unwrap();
        fs::write(path("handover-run-unlocked").join("envoy-rev0.yaml"), "x").unwrap();
        // A link to a directory that would be removed.
        let elsewhere = temporary();
        let dead = left_in(elsewhere.path());
        std::os::unix::fs::symlink(&dead, path("handover-run-link")).unwrap();
        // A file of somebody in a dead one.
        let used = left_in(parent.path());
        fs::write(used.join("notes"), "precious").unwrap();
        fs::write(path("handover-run-file"), "x").unwrap();
        let _dir = TemporaryRunDir::create(parent.path()).unwrap();
        assert!(
            path("handover-run-unlocked")
                .join("envoy-rev0.yaml")
                .exists()
        );
        assert!(dead.join("envoy-rev0.yaml").exists());
        assert_eq!(fs::read_to_string(used.join("notes")).unwrap(), "precious");
        assert!(!used.join("envoy-rev0.yaml").exists());
        assert!(path("handover-run-file").exists());
    }

    #[test]
    fn many_that_start_at_once_never_remove_a_living_one() {
        let parent = temporary();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let dir = TemporaryRunDir::create(parent.path()).unwrap();
                        let written = dir.run_dir().write(0, Format::Yaml, b"x");
                        assert!(written.unwrap().exists());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_files_of_epochs_are_known_by_name() {
        for name in [
            "envoy-rev0.yaml",
            "envoy-rev12.json",
            ".envoy-rev3.new",
            ".envoy-rev3.yaml.new",
        ] {
            assert!(is_of_an_epoch(name), "{name}");
        }
        for name in [
            "envoy-rev.yaml",
            "envoy-rev0",
            ".envoy-rev0.",
            ".envoy-rev0..new",
            "envoy-rev0.txt",
            ".lock",
            "envoy-rev0.yaml.bak",
            "x",
        ] {
            assert!(!is_of_an_epoch(name), "{name}");
        }
    }
}
