//! The directory in which the control sockets of instances are.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use handover_files::{DirectoryError, PrivateDir, below};

/// The directory in which instances have their control sockets and their locks.
///
/// Users do not share one, because a directory that others may write to cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directory {
    /// The one that follows from the user. Others know its name as well, so it is looked at closely.
    Own(PathBuf),
    /// One that was named.
    Given(PathBuf),
}

impl Directory {
    /// Returns the one that was named, or else the one that follows from the user.
    #[must_use]
    pub fn new(given: Option<PathBuf>) -> Self {
        match given {
            Some(path) => Self::Given(path),
            None => Self::Own(default_directory()),
        }
    }

    /// Makes it, where it is not there yet.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or belongs to others.
    pub fn make(&self) -> Result<PrivateDir, DirectoryError> {
        match self {
            Self::Own(path) => PrivateDir::create_own(path),
            Self::Given(path) => PrivateDir::create(path),
        }
    }

    /// Returns where it will be, as far as that can be told without making it.
    #[must_use]
    pub fn expected(&self) -> PathBuf {
        match self {
            Self::Own(path) => path.clone(),
            Self::Given(path) => {
                let below = below(path);
                if below.is_dir() { below } else { path.clone() }
            }
        }
    }

    /// Where a client looks for instances: the directory itself, and those that instances have made
    /// below one to which others may write. Root finds those of every user.
    ///
    /// # Errors
    ///
    /// When it was not named, and is somebody else's.
    pub(super) fn searched(&self) -> Result<Vec<PathBuf>, DirectoryError> {
        match self {
            Self::Own(path) => {
                // One that is not there has no instances.
                if path.symlink_metadata().is_ok() {
                    PrivateDir::check_own(path)?;
                }
                Ok(vec![path.clone()])
            }
            Self::Given(path) if rustix::process::geteuid().is_root() => {
                let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
                let mut below: Vec<_> = entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .filter(|entry| is_of_a_user(&entry.path()))
                    .map(|entry| entry.path())
                    .collect();
                below.sort_unstable();
                Ok([vec![path.clone()], below].concat())
            }
            Self::Given(path) => Ok(vec![path.clone(), below(path)]),
        }
    }
}

/// Whether a directory is the one that an instance of its owner makes.
fn is_of_a_user(path: &Path) -> bool {
    let named = path.file_name().and_then(std::ffi::OsStr::to_str);
    let user = named.and_then(|name| name.strip_prefix("handover-")?.parse::<u32>().ok());
    let owner = path.symlink_metadata().ok().map(|found| found.uid());
    user.is_some() && user == owner
}

fn default_directory() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return "/run/handover".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("handover"),
        None => temporary_directory().join(format!("envoy-base-ids-{}", user.as_raw())),
    }
}

/// An empty variable is an unset one, so it does not mean the working directory.
fn temporary_directory() -> PathBuf {
    let named = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    named.map_or_else(|| "/tmp".into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_directory as directory;

    #[test]
    fn a_directory_of_our_name_that_is_somebody_elses_has_no_instances() {
        let dir = directory();
        let path = dir.path().join("own");
        let own = Directory::Own(path.clone());
        assert_eq!(own.searched().unwrap(), std::slice::from_ref(&path));
        std::os::unix::fs::symlink(dir.path(), &path).unwrap();
        let refused = own.searched().unwrap_err().to_string();
        assert!(refused.contains("it is a symbolic link"), "{refused}");
        assert!(own.make().is_err());
    }

    #[test]
    fn where_others_can_write_instances_are_looked_for_in_a_directory_below() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = directory();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let given = Directory::Given(dir.path().to_owned());
        assert_eq!(given.expected(), dir.path());
        let made = given.make().unwrap().path().to_owned();
        assert_eq!(made, below(dir.path()));
        assert_eq!(given.expected(), made);
        assert!(given.searched().unwrap().contains(&made));
    }
}
