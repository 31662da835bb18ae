//! Names claimed across the test processes of one user.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// A name nobody else claims while this value lives.
///
/// It is a locked file: the kernel releases the lock of a process that is killed, so a claim never
/// outlives its owner.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Claim {
    /// `None` when another test, in this process or another, has it.
    pub(crate) fn take(name: &str) -> io::Result<Option<Self>> {
        let user = rustix::process::getuid().as_raw();
        let directory = std::env::temp_dir().join(format!("handover-tests-claims-{user}"));
        let path = directory.join(name);
        loop {
            fs::create_dir_all(&directory)?;
            let file = match File::create(&path) {
                Ok(file) => file,
                // The owner of the last claim has just removed the directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // The owner before may have removed the file between the opening and the locking, and
            // then this is a lock on a file that nobody else will find.
            if is_at(&file, &path)? {
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // An empty file that stays is harmless, so is a directory that others still use.
        let _file_removed = fs::remove_file(&self.path);
        if let Some(directory) = self.path.parent() {
            let _directory_removed = fs::remove_dir(directory);
        }
    }
}

/// A number that differs between calls and between processes started at the same moment.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_claimed_by_one_at_a_time() {
        let name = format!("self-test-{:016x}", random());
        let first = Claim::take(&name).unwrap();
        assert!(first.is_some());
        assert!(Claim::take(&name).unwrap().is_none());
        drop(first);
        let again = Claim::take(&name).unwrap().unwrap();
        let path = again.path.clone();
        drop(again);
        assert!(!path.exists(), "{} stays behind", path.display());
    }
}
