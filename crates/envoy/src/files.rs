//! The configuration file of each epoch, in a directory of its own.
//!
//! An epoch reads a copy that nobody edits, so that what was validated is what runs, and what runs
//! can be looked at.

mod temporary;

use std::path::{Path, PathBuf};

use handover_files::{DirectoryError, PrivateDir};

use crate::bootstrap::Format;

pub use temporary::TemporaryRunDir;

/// The extension of the socket of an epoch's gate, beside its file.
const GATE: &str = "gate";

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
pub struct RunDir(PrivateDir);

/// Returns the name of the file of an epoch. Its extension tells Envoy the format.
#[must_use]
pub fn file_name(epoch: u32, format: Format) -> String {
    let extension = match format {
        Format::Yaml => "yaml",
        Format::Json => "json",
        Format::Protobuf => "pb",
    };
    format!("envoy-rev{epoch}.{extension}")
}

fn gate_name(epoch: u32) -> String {
    format!("envoy-rev{epoch}.{GATE}")
}

impl RunDir {
    /// Makes the directory, or one of our own below it, as [`PrivateDir::create`] does.
    ///
    /// # Errors
    ///
    /// As [`PrivateDir::create`].
    pub fn create(path: &Path) -> Result<Self, DirectoryError> {
        PrivateDir::create(path).map(Self)
    }

    /// Lets this group read the directory and what is written from then on, for an Envoy that runs
    /// as another user.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Group`], for example if we are neither root nor in the group.
    pub fn readable_by(self, group: u32) -> Result<Self, DirectoryError> {
        self.0.readable_by(group).map(Self)
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of the file of an epoch.
    #[must_use]
    pub fn file(&self, epoch: u32, format: Format) -> PathBuf {
        self.path().join(file_name(epoch, format))
    }

    /// Returns the path of the socket at which an epoch asks for leave to take over.
    pub(crate) fn gate(&self, epoch: u32) -> PathBuf {
        self.path().join(gate_name(epoch))
    }

    /// Writes the file of an epoch with mode 0600, or 0640 if a group may read it, replacing one
    /// that is there. It is not forced to the disk: after a crash of the machine no Envoy runs that
    /// would need it.
    ///
    /// # Errors
    ///
    /// As [`PrivateDir::write`].
    pub fn write(
        &self,
        epoch: u32,
        format: Format,
        content: &[u8],
    ) -> Result<PathBuf, DirectoryError> {
        self.0.write(&file_name(epoch, format), content)
    }

    /// Removes the file of an epoch, in whichever format it is, and the socket of its gate. It is no error if
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Remove`].
    pub fn remove(&self, epoch: u32) -> Result<(), DirectoryError> {
        for format in [Format::Yaml, Format::Json, Format::Protobuf] {
            self.0.remove(&file_name(epoch, format))?;
        }
        self.0.remove(&gate_name(epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn temporary() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap()
    }

    fn names(dir: &RunDir) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_file_is_replaced_and_removed_with_nothing_left() {
        let parent = temporary();
        let dir = RunDir::create(&parent.path().join("run")).unwrap();
        fs::write(
            dir.path().join(".envoy-rev1.yaml.new"),
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
        assert!(matches!(dir.remove(2), Err(DirectoryError::Remove { .. })));
    }
}
