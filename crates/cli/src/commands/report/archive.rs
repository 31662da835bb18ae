//! The archive that is written: a compressed tar file that only its owner can read.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::OFlags;
use tempfile::NamedTempFile;

/// The largest file that is packed, in bytes.
const LARGEST: u64 = 16 << 20;

/// An archive that takes its name when it is whole.
pub(super) struct Archive {
    tar: tar::Builder<GzEncoder<NamedTempFile>>,
    path: PathBuf,
    replace: bool,
    time: u64,
}

impl Archive {
    /// Begins an archive beside its place.
    ///
    /// # Errors
    ///
    /// If it exists and must not be replaced, or if the directory cannot be written to.
    pub(super) fn create(path: &Path, replace: bool) -> anyhow::Result<Self> {
        if !replace && path.symlink_metadata().is_ok() {
            anyhow::bail!(
                "{} exists: choose another --output, or give --force",
                path.display()
            );
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".handover-report-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(dir)
            .with_context(|| format!("writing {}", path.display()))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self {
            tar: tar::Builder::new(GzEncoder::new(file, Compression::default())),
            path: path.to_owned(),
            replace,
            time: now.unwrap_or_default().as_secs(),
        })
    }

    /// Adds a file.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_mtime(self.time);
        header.set_size(u64::try_from(content.len())?);
        let added = self.tar.append_data(
            &mut header,
            Path::new("handover-report").join(name),
            content,
        );
        added.with_context(|| format!("writing {}", self.path.display()))
    }

    /// Gives the archive its name.
    ///
    /// # Errors
    ///
    /// What the operating system says, or that somebody else has made a file of this name.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let path = self.path;
        let finish = || -> anyhow::Result<()> {
            let mut file = self.tar.into_inner()?.finish()?;
            file.flush()?;
            file.as_file().sync_all()?;
            match self.replace {
                true => drop(file.persist(&path)?),
                false => drop(file.persist_noclobber(&path)?),
            }
            Ok(())
        };
        finish().with_context(|| format!("writing {}", path.display()))
    }
}

/// Reads a file that is not too large. A link is not followed, and a pipe not waited for.
///
/// # Errors
///
/// Why it cannot be read.
pub(in crate::commands) fn small_file(path: &Path) -> Result<Vec<u8>, String> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let open = || -> io::Result<Vec<u8>> {
        let file: File = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let mut content = Vec::new();
        file.take(LARGEST.saturating_add(1))
            .read_to_end(&mut content)?;
        Ok(content)
    };
    let content = open().map_err(|error| error.to_string())?;
    match u64::try_from(content.len()) {
        Ok(..=LARGEST) => Ok(content),
        Ok(_) | Err(_) => Err(format!("it is larger than {LARGEST} bytes")),
    }
}
