//! The configuration file of each epoch, in a directory of its own.
//!
//! An epoch reads a copy that nobody edits, so that what was validated is what runs, and what runs
//! can be looked at.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::bootstrap::Format;

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
pub struct RunDir(PathBuf);

/// Why a file or directory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The directory cannot be made.
    #[error("cannot create the directory {}", path.display())]
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
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
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

impl RunDir {
    /// Makes the directory, and those above it, with mode 0700. One that exists is used as it is.
    ///
    /// # Errors
    ///
    /// [`FilesError::CreateDir`], or [`FilesError::Untrusted`] where the directory belongs to
    /// someone else or others may write to it.
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
        if owner != rustix::process::geteuid().as_raw() || mode & 0o022 != 0 {
            return Err(FilesError::Untrusted {
                path: path.to_owned(),
                owner,
                mode,
            });
        }
        Ok(Self(path.to_owned()))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the file of an epoch is.
    #[must_use]
    pub fn file(&self, epoch: u32, format: Format) -> PathBuf {
        self.0.join(file_name(epoch, format))
    }

    /// Writes the file of an epoch with mode 0600, replacing one that is there. Whoever reads it
    /// sees the old content or the new, never a part. It is not forced to the disk: after a crash of
    /// the machine no Envoy runs that would need it.
    ///
    /// # Errors
    ///
    /// [`FilesError::Write`]; nothing is left behind then.
    pub fn write(&self, epoch: u32, format: Format, content: &[u8]) -> Result<PathBuf, FilesError> {
        let path = self.file(epoch, format);
        let temporary = self.0.join(format!(".envoy-rev{epoch}.new"));
        let written = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, &path));
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

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
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
    fn a_directory_that_others_can_change_is_refused() {
        let parent = temporary();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = RunDir::create(parent.path()).unwrap_err();
        assert!(
            matches!(error, FilesError::Untrusted { mode: 0o777, .. }),
            "{error}"
        );
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
