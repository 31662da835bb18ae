//! The configuration file of each epoch, in a directory of its own.
//!
//! An epoch reads a copy that nobody edits, so that what was validated is what runs, and what runs
//! can be looked at.

mod private;
mod temporary;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::bootstrap::Format;

pub use private::below;
pub use temporary::TemporaryRunDir;

/// The directory of the files. Only its owner can enter it, because configurations hold secrets.
///
/// ```
/// use handover_envoy::bootstrap::Format;
/// use handover_envoy::files::RunDir;
///
/// # let parent = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// # let path = parent.path().join("run");
/// let dir = RunDir::create(&path)?;
/// let file = dir.write(3, Format::Yaml, b"admin: {}")?;
/// assert_eq!(file, path.join("envoy-rev3.yaml"));
/// dir.remove(3)?;
/// assert!(!file.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
    /// Device and inode: another directory at the same path is not ours.
    identity: (u64, u64),
    /// The group that may read, where there is one.
    group: Option<u32>,
}

/// Why a file or directory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The directory cannot be made.
    #[error("cannot create the directory {}{}", path.display(), remedy(source))]
    CreateDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may change the directory, so they could change what Envoy runs.
    #[error(
        "the directory {path} can be changed by others (owner {owner}, mode {mode:03o}): use \
         another one, or run chown and chmod 700 on it", path = path.display()
    )]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Its permission bits.
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
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}{}", path.display(), remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The name of the file of an epoch. Its extension tells Envoy the format.
#[must_use]
pub fn file_name(epoch: u32, format: Format) -> String {
    let extension = match format {
        Format::Yaml => "yaml",
        Format::Json => "json",
        Format::Protobuf => "pb",
    };
    format!("envoy-rev{epoch}.{extension}")
}

/// What helps where the file system itself is in the way.
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

impl RunDir {
    /// Makes the directory, and those above it, with mode 0700, and uses it where nobody else can
    /// write to it. Otherwise, as on a volume of Kubernetes, it uses a directory of our own user
    /// below: [`below`] gives its path.
    ///
    /// # Errors
    ///
    /// [`FilesError::CreateDir`]; [`FilesError::Untrusted`] where the directory belongs to someone
    /// else and we may not write to it; [`FilesError::Squatted`] where something else has the place
    /// of our own directory.
    pub fn create(path: &Path) -> Result<Self, FilesError> {
        let failed = |source| FilesError::CreateDir {
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
            return Ok(Self::of(path, &metadata));
        }
        match private::make_below(path) {
            Err(FilesError::CreateDir { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Err(FilesError::Untrusted {
                    path: path.to_owned(),
                    owner,
                    mode,
                })
            }
            made => made,
        }
    }

    /// Makes a directory whose path was not given by anybody but follows from our user, so that
    /// others could have taken it before. It is used only where it is ours, is no link, and nobody
    /// else can write to it.
    ///
    /// # Errors
    ///
    /// [`FilesError::CreateDir`] or [`FilesError::Squatted`].
    pub fn create_private(path: &Path) -> Result<Self, FilesError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            // A link that leads nowhere, or a file: told below.
            .or_else(|error| match error.kind() == io::ErrorKind::AlreadyExists {
                true => Ok(()),
                false => Err(error),
            })
            .map_err(|source| FilesError::CreateDir {
                path: path.to_owned(),
                source,
            })?;
        Self::check_private(path)
    }

    /// The same for a directory that must be there already.
    ///
    /// # Errors
    ///
    /// As [`create_private`](Self::create_private).
    pub fn check_private(path: &Path) -> Result<Self, FilesError> {
        let metadata = private::ours(path)?;
        let mode = metadata.mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(FilesError::Squatted {
                path: path.to_owned(),
                why: format!("others can write to it (mode {mode:03o})"),
            });
        }
        Ok(Self::of(path, &metadata))
    }

    fn of(path: &Path, metadata: &fs::Metadata) -> Self {
        Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            group: None,
        }
    }

    /// Lets this group read the directory and what is written from then on, for an Envoy that runs
    /// as another user.
    ///
    /// # Errors
    ///
    /// [`FilesError::Group`], for example where we are neither root nor in the group.
    pub fn readable_by(mut self, group: u32) -> Result<Self, FilesError> {
        let share = || -> io::Result<()> {
            let directory = private::open(&self.path)?;
            fchown(&directory, None, Some(group))?;
            directory.set_permissions(private::mode(0o750))
        };
        share().map_err(|source| FilesError::Group {
            path: self.path.clone(),
            group,
            source,
        })?;
        self.group = Some(group);
        Ok(self)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file of an epoch is.
    #[must_use]
    pub fn file(&self, epoch: u32, format: Format) -> PathBuf {
        self.path.join(file_name(epoch, format))
    }

    /// Writes the file of an epoch with mode 0600, or 0640 where a group may read it, replacing one
    /// that is there. Whoever reads it sees the old content or the new, never a part. It is not
    /// forced to the disk: after a crash of the machine no Envoy runs that would need it.
    ///
    /// # Errors
    ///
    /// [`FilesError::Write`], or [`FilesError::Replaced`] where somebody has put another directory
    /// in the place of ours; nothing is left behind then.
    pub fn write(&self, epoch: u32, format: Format, content: &[u8]) -> Result<PathBuf, FilesError> {
        let path = self.file(epoch, format);
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) != self.identity => {
                let path = self.path.clone();
                return Err(FilesError::Replaced { path });
            }
            // One that is gone is told by the write.
            Ok(_) | Err(_) => {}
        }
        let temporary = self.path.join(format!(".envoy-rev{epoch}.new"));
        let written =
            write_new(&temporary, content, self.group).and_then(|()| fs::rename(&temporary, &path));
        if let Err(source) = written {
            // The error that matters is the one above; the leftover is replaced next time.
            fs::remove_file(&temporary).ok();
            return Err(FilesError::Write { path, source });
        }
        Ok(path)
    }

    /// Removes the file of an epoch, in whichever format it is. It is no error if there is none.
    ///
    /// # Errors
    ///
    /// [`FilesError::Remove`].
    pub fn remove(&self, epoch: u32) -> Result<(), FilesError> {
        for format in [Format::Yaml, Format::Json, Format::Protobuf] {
            let path = self.file(epoch, format);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(FilesError::Remove { path, source }),
            }
        }
        Ok(())
    }
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
        file.set_permissions(private::mode(0o640))?;
    }
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn temporary() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(dir: &RunDir) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_the_owner_can_read_directory_and_files() {
        let parent = temporary();
        let dir = RunDir::create(&parent.path().join("a/b")).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
        let file = dir.write(0, Format::Json, b"{}").unwrap();
        assert_eq!(mode(&file), 0o600);
        assert_eq!(fs::read(&file).unwrap(), b"{}");
        // A second agent run finds the directory and uses it.
        RunDir::create(dir.path()).unwrap();
    }

    #[test]
    fn in_a_directory_that_others_can_change_one_of_our_own_is_used_and_found_again() {
        let parent = temporary();
        fs::set_permissions(parent.path(), private::mode(0o777)).unwrap();
        let own = RunDir::create(parent.path()).unwrap();
        assert_eq!(own.path(), below(parent.path()));
        assert_eq!(mode(own.path()), 0o700);
        let file = own.write(0, Format::Yaml, b"x").unwrap();
        // A volume's driver lets the group in on each start.
        fs::set_permissions(own.path(), private::mode(0o770)).unwrap();
        assert_eq!(RunDir::create(parent.path()).unwrap(), own);
        assert_eq!(mode(own.path()), 0o700);
        assert!(file.exists());
        // What is at its place and is not a directory of ours is not used.
        let elsewhere = temporary();
        fs::remove_dir_all(own.path()).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), own.path()).unwrap();
        let error = RunDir::create(parent.path()).unwrap_err();
        assert!(matches!(error, FilesError::Squatted { .. }), "{error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_directory_of_our_own_name_must_be_ours_alone_and_no_link() {
        let parent = temporary();
        let path = parent.path().join("own");
        let own = RunDir::create_private(&path).unwrap();
        assert_eq!(mode(own.path()), 0o700);
        fs::set_permissions(&path, private::mode(0o755)).unwrap();
        RunDir::create_private(&path).unwrap();
        let refused = |why: &str| {
            let error = RunDir::create_private(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            let error = RunDir::check_private(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        fs::set_permissions(&path, private::mode(0o777)).unwrap();
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
        let dir = RunDir::create(&parent.path().join("run")).unwrap();
        let dir = dir.readable_by(group).unwrap();
        let file = dir.write(0, Format::Yaml, b"x").unwrap();
        assert_eq!((mode(dir.path()), mode(&file)), (0o750, 0o640));
        assert_eq!(fs::metadata(&file).unwrap().gid(), group);
    }

    #[test]
    fn nothing_is_written_to_a_directory_that_has_taken_the_place_of_ours() {
        let parent = temporary();
        let path = parent.path().join("run");
        let dir = RunDir::create(&path).unwrap();
        fs::rename(&path, parent.path().join("aside")).unwrap();
        fs::create_dir(&path).unwrap();
        let error = dir.write(0, Format::Yaml, b"secret").unwrap_err();
        assert!(matches!(error, FilesError::Replaced { .. }), "{error}");
        assert_eq!(names(&dir), [""; 0]);
    }

    #[test]
    fn a_file_is_no_directory() {
        let parent = temporary();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(
            RunDir::create(&file),
            Err(FilesError::CreateDir { .. })
        ));
    }

    #[test]
    fn a_file_is_replaced_and_removed_with_nothing_left() {
        let parent = temporary();
        let dir = RunDir::create(&parent.path().join("run")).unwrap();
        fs::write(
            dir.path().join(".envoy-rev1.new"),
            "left by a killed process",
        )
        .unwrap();
        dir.write(1, Format::Yaml, b"old").unwrap();
        let file = dir.write(1, Format::Yaml, b"new").unwrap();
        assert_eq!(fs::read(file).unwrap(), b"new");
        assert_eq!(names(&dir), ["envoy-rev1.yaml"]);
        dir.remove(1).unwrap();
        dir.remove(1).unwrap();
        assert_eq!(names(&dir), [""; 0]);
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_names_the_file() {
        let parent = temporary();
        let dir = RunDir::create(&parent.path().join("run")).unwrap();
        fs::create_dir(dir.path().join("envoy-rev2.yaml")).unwrap();
        let error = dir.write(2, Format::Yaml, b"x").unwrap_err();
        assert!(
            error.to_string().ends_with("run/envoy-rev2.yaml"),
            "{error}"
        );
        assert_eq!(names(&dir), ["envoy-rev2.yaml"]);
        assert!(matches!(dir.remove(2), Err(FilesError::Remove { .. })));
    }
}
