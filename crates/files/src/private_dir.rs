//! Directories that belong to our user alone, also in places where others can write.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::lock::identity;

/// A directory that only its owner can change. Others cannot enter it, so it may hold secrets.
///
/// ```
/// use handover_files::PrivateDir;
///
/// # let parent = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// # let path = parent.path().join("state");
/// let dir = PrivateDir::create(&path)?;
/// let file = dir.write("token", b"secret")?;
/// assert_eq!(file, path.join("token"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateDir {
    path: PathBuf,
    /// Device and inode: another directory at the same path is not ours.
    identity: (u64, u64),
    /// The group that may read, where there is one.
    group: Option<u32>,
}

/// Why a private directory, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The directory cannot be made.
    #[error("cannot create the directory {}{}", path.display(), remedy(source))]
    CreateDir {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Others may change the directory, so they could change what is in it.
    #[error(
        "the directory {path} can be changed by others (owner {owner}, mode {mode:03o}): use \
         another one, or run chown and chmod 700 on it", path = path.display()
    )]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The permission bits of the directory.
        mode: u32,
    },
    /// A directory that should be ours alone is a link, a file, or somebody else's.
    #[error("the directory {} is not used: {why}; remove it, or choose another place", path.display())]
    Squatted {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The directory was exchanged for another one since it was made.
    #[error("the directory {} was replaced by another one while it was in use", path.display())]
    Replaced {
        /// The directory.
        path: PathBuf,
    },
    /// The group cannot be given access.
    #[error("cannot give group {group} access to {}", path.display())]
    Group {
        /// The directory.
        path: PathBuf,
        /// The group's id.
        group: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}{}", path.display(), remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file cannot be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Returns what helps where the file system itself is in the way.
fn remedy(source: &io::Error) -> &'static str {
    let kind = source.kind();
    if kind == io::ErrorKind::ReadOnlyFilesystem {
        " (the file system is read-only: choose a directory that can be written to)"
    } else if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&kind) {
        " (there is no room left: make some, or choose another directory)"
    } else {
        ""
    }
}

/// Returns the directory that [`PrivateDir::create`] uses below one that others can write to.
///
/// It is `handover-UID`, with our user's number. It is the same at each start, so that what was kept
/// is found again.
#[must_use]
pub fn below(directory: &Path) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    directory.join(format!("handover-{user}"))
}

impl PrivateDir {
    /// Makes the directory, and those above it, with mode 0700, and uses it if nobody else can
    /// write to it. Otherwise, as on a volume of Kubernetes, uses a directory of our own user below:
    /// [`below`] returns its path.
    ///
    /// # Errors
    ///
    /// - [`DirectoryError::CreateDir`] if it cannot be made;
    /// - [`DirectoryError::Untrusted`] if it belongs to another user and we may not write to it;
    /// - [`DirectoryError::Squatted`] if something else has the place of our own directory.
    pub fn create(path: &Path) -> Result<Self, DirectoryError> {
        let failed = |source| DirectoryError::CreateDir {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let metadata = fs::metadata(path).map_err(failed)?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
        if owner == rustix::process::geteuid().as_raw() && mode & 0o022 == 0 {
            return Ok(Self::known(path, &metadata));
        }
        make_below(path).map_err(|error| {
            let untrusted = DirectoryError::Untrusted {
                path: path.to_owned(),
                owner,
                mode,
            };
            if is_refused(&error) { untrusted } else { error }
        })
    }

    /// Makes a directory with mode 0700 whose path follows from our user, so that others could have
    /// made it before. It is used only if it is ours, is no link, and nobody else can write to it.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::CreateDir`] or [`DirectoryError::Squatted`].
    pub fn create_own(path: &Path) -> Result<Self, DirectoryError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            // A link that leads nowhere, or a file: told below.
            .or_else(|error| match error.kind() == io::ErrorKind::AlreadyExists {
                true => Ok(()),
                false => Err(error),
            })
            .map_err(|source| DirectoryError::CreateDir {
                path: path.to_owned(),
                source,
            })?;
        Self::check_own(path)
    }

    /// Uses a directory as [`create_own`](Self::create_own) does, without making it.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::CreateDir`] if it is missing, or [`DirectoryError::Squatted`].
    pub fn check_own(path: &Path) -> Result<Self, DirectoryError> {
        let metadata = ours(path)?;
        let mode = metadata.mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(DirectoryError::Squatted {
                path: path.to_owned(),
                why: format!("others can write to it (mode {mode:03o})"),
            });
        }
        Ok(Self::known(path, &metadata))
    }

    fn known(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(metadata),
            group: None,
        }
    }

    /// Lets this group read the directory and what is written from then on, for a program that runs
    /// as another user.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Group`], for example where we are neither root nor in the group.
    pub fn readable_by(mut self, group: u32) -> Result<Self, DirectoryError> {
        let share = || -> io::Result<()> {
            let directory = open(&self.path)?;
            fchown(&directory, None, Some(group))?;
            directory.set_permissions(mode(0o750))
        };
        share().map_err(|source| DirectoryError::Group {
            path: self.path.clone(),
            group,
            source,
        })?;
        self.group = Some(group);
        Ok(self)
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file with mode 0600, or 0640 if a group may read it, and returns its path.
    ///
    /// A file that is there is replaced: a reader sees the old content or the new, never a part. The
    /// content is not forced to the disk; [`replace_durably`](crate::replace_durably) does that. Only
    /// one process may write to the directory by this. It blocks the thread.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Write`], or [`DirectoryError::Replaced`] if another directory has taken the
    /// place of ours. Nothing is left behind then.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, DirectoryError> {
        let path = self.path.join(name);
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) != self.identity => {
                let path = self.path.clone();
                return Err(DirectoryError::Replaced { path });
            }
            // One that is gone is told by the write.
            Ok(_) | Err(_) => {}
        }
        let temporary = self.path.join(format!(".{name}.new"));
        let written =
            write_new(&temporary, content, self.group).and_then(|()| fs::rename(&temporary, &path));
        if let Err(source) = written {
            // The error that matters is the one above; the leftover is replaced next time.
            fs::remove_file(&temporary).ok();
            return Err(DirectoryError::Write { path, source });
        }
        Ok(path)
    }

    /// Removes a file. It is no error if there is none.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Remove`].
    pub fn remove(&self, name: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(DirectoryError::Remove { path, source }),
        }
    }
}

/// Returns whether we may not make a directory.
fn is_refused(error: &DirectoryError) -> bool {
    let DirectoryError::CreateDir { source, .. } = error else {
        return false;
    };
    source.kind() == io::ErrorKind::PermissionDenied
}

/// Makes the directory of our user below, with mode 0700, or takes back the one that is there.
fn make_below(directory: &Path) -> Result<PrivateDir, DirectoryError> {
    let path = below(directory);
    let failed = |source| DirectoryError::CreateDir {
        path: path.clone(),
        source,
    };
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => {}
        // Whose it is, is looked at next.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let found = ours(&path)?;
    if found.mode() & 0o077 != 0 {
        // Drivers of volumes let a group into all that is in them, at each start of a pod.
        let tightened = open(&path).and_then(|open| {
            open.set_permissions(mode(0o700))?;
            open.metadata()
        });
        return Ok(PrivateDir::known(&path, &tightened.map_err(failed)?));
    }
    Ok(PrivateDir::known(&path, &found))
}

/// Returns the state of a directory that is ours and no link.
fn ours(path: &Path) -> Result<Metadata, DirectoryError> {
    let squatted = |why: String| DirectoryError::Squatted {
        path: path.to_owned(),
        why,
    };
    let found = fs::symlink_metadata(path).map_err(|source| DirectoryError::CreateDir {
        path: path.to_owned(),
        source,
    })?;
    if found.is_symlink() {
        return Err(squatted("it is a symbolic link".to_owned()));
    }
    if !found.is_dir() {
        return Err(squatted("it is no directory".to_owned()));
    }
    let owner = found.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err(squatted(format!("it belongs to user {owner}")));
    }
    Ok(found)
}

/// Opens a directory itself, never what a link leads to.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn mode(bits: u32) -> Permissions {
    Permissions::from_mode(bits)
}

fn write_new(path: &Path, content: &[u8], group: Option<u32>) -> io::Result<()> {
    let create = || -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    };
    let mut file = match create() {
        // Left by a process that was killed while it wrote; only our user can have made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        result => result,
    }?;
    if let Some(group) = group {
        fchown(&file, None, Some(group))?;
        file.set_permissions(mode(0o640))?;
    }
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap()
    }

    use super::mode as permissions;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(dir: &PrivateDir) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn in_a_directory_that_others_can_change_one_of_our_own_is_used_and_found_again() {
        let parent = temporary();
        fs::set_permissions(parent.path(), permissions(0o777)).unwrap();
        let own = PrivateDir::create(parent.path()).unwrap();
        assert_eq!(own.path(), below(parent.path()));
        assert_eq!(mode(own.path()), 0o700);
        let file = own.write("part0.yaml", b"x").unwrap();
        // A volume's driver lets the group in on each start.
        fs::set_permissions(own.path(), permissions(0o770)).unwrap();
        assert_eq!(PrivateDir::create(parent.path()).unwrap(), own);
        assert_eq!(mode(own.path()), 0o700);
        assert!(file.exists());
        // What only its owner may not do is left to its owner.
        fs::set_permissions(own.path(), permissions(0o500)).unwrap();
        assert_eq!(PrivateDir::create(parent.path()).unwrap(), own);
        assert_eq!(mode(own.path()), 0o500);
        // What is at its place and is not a directory of ours is not used.
        let elsewhere = temporary();
        fs::remove_dir_all(own.path()).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), own.path()).unwrap();
        let error = PrivateDir::create(parent.path()).unwrap_err();
        assert!(matches!(error, DirectoryError::Squatted { .. }), "{error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_directory_of_our_own_name_must_be_ours_alone_and_no_link() {
        let parent = temporary();
        let path = parent.path().join("own");
        let own = PrivateDir::create_own(&path).unwrap();
        assert_eq!(mode(own.path()), 0o700);
        fs::set_permissions(&path, permissions(0o755)).unwrap();
        PrivateDir::create_own(&path).unwrap();
        let refused = |why: &str| {
            let error = PrivateDir::create_own(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            let error = PrivateDir::check_own(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        fs::set_permissions(&path, permissions(0o777)).unwrap();
        refused("others can write to it (mode 777)");
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        refused("symbolic link");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(parent.path(), &path).unwrap();
        refused("symbolic link");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        refused("no directory");
    }

    #[test]
    fn a_group_can_read_and_nobody_else() {
        let parent = temporary();
        let group = rustix::process::getegid().as_raw();
        let dir = PrivateDir::create(&parent.path().join("run")).unwrap();
        let dir = dir.readable_by(group).unwrap();
        let file = dir.write("part0.yaml", b"x").unwrap();
        assert_eq!((mode(dir.path()), mode(&file)), (0o750, 0o640));
        assert_eq!(fs::metadata(&file).unwrap().gid(), group);
    }

    #[test]
    fn nothing_is_written_to_a_directory_that_has_taken_the_place_of_ours() {
        let parent = temporary();
        let path = parent.path().join("run");
        let dir = PrivateDir::create(&path).unwrap();
        fs::rename(&path, parent.path().join("aside")).unwrap();
        fs::create_dir(&path).unwrap();
        let error = dir.write("part0.yaml", b"secret").unwrap_err();
        assert!(matches!(error, DirectoryError::Replaced { .. }), "{error}");
        assert_eq!(names(&dir), [""; 0]);
    }

    #[test]
    fn a_file_is_no_directory() {
        let parent = temporary();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(
            PrivateDir::create(&file),
            Err(DirectoryError::CreateDir { .. })
        ));
    }

    #[test]
    fn only_the_owner_can_read_directory_and_files() {
        let parent = temporary();
        let dir = PrivateDir::create(&parent.path().join("a/b")).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
        let file = dir.write("part0.json", b"{}").unwrap();
        assert_eq!(mode(&file), 0o600);
        assert_eq!(fs::read(&file).unwrap(), b"{}");
        // A second agent run finds the directory and uses it.
        PrivateDir::create(dir.path()).unwrap();
    }

    #[test]
    fn a_file_is_replaced_and_removed_with_nothing_left() {
        let parent = temporary();
        let dir = PrivateDir::create(&parent.path().join("run")).unwrap();
        fs::write(
            dir.path().join(".part1.yaml.new"),
            "left by a killed process",
        )
        .unwrap();
        dir.write("part1.yaml", b"old").unwrap();
        let file = dir.write("part1.yaml", b"new").unwrap();
        assert_eq!(fs::read(file).unwrap(), b"new");
        assert_eq!(names(&dir), ["part1.yaml"]);
        dir.remove("part1.yaml").unwrap();
        dir.remove("part1.yaml").unwrap();
        assert_eq!(names(&dir), [""; 0]);
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_names_the_file() {
        let parent = temporary();
        let dir = PrivateDir::create(&parent.path().join("run")).unwrap();
        fs::create_dir(dir.path().join("part2.yaml")).unwrap();
        let error = dir.write("part2.yaml", b"x").unwrap_err();
        assert!(error.to_string().ends_with("run/part2.yaml"), "{error}");
        assert_eq!(names(&dir), ["part2.yaml"]);
        assert!(matches!(
            dir.remove("part2.yaml"),
            Err(DirectoryError::Remove { .. })
        ));
    }

    #[test]
    fn a_file_system_that_is_in_the_way_is_told_with_a_remedy() {
        let told = |kind: io::ErrorKind| {
            let (path, source) = (PathBuf::from("run"), io::Error::from(kind));
            DirectoryError::CreateDir { path, source }.to_string()
        };
        assert!(told(io::ErrorKind::ReadOnlyFilesystem).contains("read-only: choose"));
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(told(kind).contains("no room left: make some"));
        }
        let other = told(io::ErrorKind::PermissionDenied);
        assert_eq!(other, "cannot create the directory run");
    }

    #[test]
    fn only_a_directory_that_we_may_not_make_is_one_that_others_can_change() {
        let failed = |kind: io::ErrorKind| DirectoryError::CreateDir {
            path: PathBuf::from("run"),
            source: io::Error::from(kind),
        };
        assert!(is_refused(&failed(io::ErrorKind::PermissionDenied)));
        assert!(!is_refused(&failed(io::ErrorKind::StorageFull)));
        let path = PathBuf::from("run");
        assert!(!is_refused(&DirectoryError::Replaced { path }));
    }

    /// The kernel lets nobody make anything there.
    #[test]
    fn what_cannot_be_made_is_told_with_the_cause_and_not_as_missing() {
        let sysfs = Path::new("/sys");
        let DirectoryError::CreateDir { source, .. } = make_below(sysfs).unwrap_err() else {
            panic!("something has the place of our directory");
        };
        assert_ne!(source.kind(), io::ErrorKind::NotFound);
        let error = write_new(&sysfs.join("handover"), b"", None).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn neither_a_link_nor_a_file_is_opened_as_a_directory() {
        let parent = temporary();
        let (link, file) = (parent.path().join("link"), parent.path().join("file"));
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        fs::write(&file, "").unwrap();
        assert!(open(parent.path()).is_ok());
        assert!(open(&link).is_err() && open(&file).is_err());
    }
}
