//! Directories that belong to our user alone, in places where others can write.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{FilesError, RunDir};

/// Returns the directory of our user below one that others can write to. It is the same at each
/// start, so that what was kept is found again.
#[must_use]
pub fn below(directory: &Path) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    directory.join(format!("handover-{user}"))
}

/// Makes that directory, with mode 0700, or takes back the one that is there.
pub(super) fn make_below(directory: &Path) -> Result<RunDir, FilesError> {
    let path = below(directory);
    let failed = |source| FilesError::CreateDir {
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
        return Ok(RunDir::of(&path, &tightened.map_err(failed)?));
    }
    Ok(RunDir::of(&path, &found))
}

/// The state of a directory that is ours and no link.
pub(super) fn ours(path: &Path) -> Result<Metadata, FilesError> {
    let squatted = |why: String| FilesError::Squatted {
        path: path.to_owned(),
        why,
    };
    let found = std::fs::symlink_metadata(path).map_err(|source| FilesError::CreateDir {
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
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

pub(super) fn mode(bits: u32) -> Permissions {
    Permissions::from_mode(bits)
}
