//! Reading regular files, and nothing else, whatever a path turns out to be.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use handover_files::{Digest, Hasher};

/// The largest file that is read, in bytes: far above any configuration, far below what hurts.
pub const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// How often [`read_stable`] starts again when the file changes while it is read.
const ATTEMPTS: usize = 5;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nothing is at the path, or a symlink on the way leads nowhere.
    #[error("`{}` does not exist", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// Something other than a regular file is at the path.
    #[error("`{}` is {kind}, not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file is larger than [`LARGEST_FILE`].
    #[error("`{}` is larger than {} MiB", path.display(), LARGEST_FILE / (1024 * 1024))]
    TooLarge {
        /// The path.
        path: PathBuf,
    },
    /// The file changed during each of several readings.
    #[error("`{}` is being written: it changed each time it was read", path.display())]
    Changing {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("could not read `{}`: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the operating system said. It is part of the message as well, because the message
        /// alone is what a [`FileState`](super::FileState) keeps.
        source: io::Error,
    },
}

/// Whether what kept a file from being read says nothing of the file, and may pass without an event.
pub(super) fn may_pass(error: &io::Error) -> bool {
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::IO,
        Errno::AGAIN,
        Errno::BUSY,
        Errno::STALE,
        Errno::TIMEDOUT,
        // A FUSE server that has died, and a network file system's that is away.
        Errno::NOTCONN,
        Errno::CONNABORTED,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
    ];
    let said = error.raw_os_error();
    passing
        .iter()
        .any(|errno| said == Some(errno.raw_os_error()))
}

/// The contents of a file, and the digest of exactly these contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContents {
    /// The contents.
    pub bytes: Vec<u8>,
    /// Their digest, equal to the one in a [`Snapshot`](super::Snapshot) of the same contents.
    pub digest: Digest,
}

/// Reads a file through one descriptor, so that what is hashed is what is used.
///
/// A file that is replaced by a rename meanwhile does not matter: the one that was opened is read
/// to its end. One that is written in place is read again until nothing changed during the reading.
/// This blocks; for a file system that may hang, call it on a thread for blocking work.
///
/// # Errors
///
/// [`ReadError`] names the path and the reason.
pub fn read_stable(path: impl AsRef<Path>) -> Result<FileContents, ReadError> {
    let path = path.as_ref();
    for _ in 0..ATTEMPTS {
        let (file, before) = open(path)?;
        let mut bytes = Vec::new();
        let hash = |part: &[u8]| bytes.extend_from_slice(part);
        let (digest, _) = read_all(&file, path, hash)?;
        let after = metadata(&file, path)?;
        if fingerprint(&before) == fingerprint(&after) {
            return Ok(FileContents { bytes, digest });
        }
    }
    Err(ReadError::Changing { path: path.into() })
}

/// A regular file that is open.
pub(super) struct Opened<'a> {
    path: &'a Path,
    file: File,
    pub(super) meta: Metadata,
}

impl<'a> Opened<'a> {
    /// Opens a file. A network file system is asked for the state of this moment by that.
    pub(super) fn at(path: &'a Path) -> Result<Self, ReadError> {
        let (file, meta) = open(path)?;
        Ok(Self { path, file, meta })
    }

    /// The digest and size of its contents, without keeping them.
    pub(super) fn digest(&self) -> Result<(Digest, u64), ReadError> {
        read_all(&self.file, self.path, |_| {})
    }
}

/// What tells one file from another and one state of it from the next, and its size, without a look
/// at its contents: device, inode, size, time of the last write, and who may execute it.
pub(super) fn identity_of(path: &Path) -> Result<(Digest, u64), ReadError> {
    let meta = std::fs::metadata(path).map_err(|source| failed(path, source))?;
    check_kind(path, &meta)?;
    let mut hasher = Hasher::default();
    for number in [meta.dev(), meta.ino(), meta.size()] {
        hasher.update(&number.to_le_bytes());
    }
    for number in [meta.mtime(), meta.mtime_nsec()] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&(meta.mode() & 0o111).to_le_bytes());
    Ok((hasher.finish(), meta.size()))
}

/// What changes when a file is written.
fn fingerprint(meta: &Metadata) -> (u64, i64, i64, i64, i64) {
    (
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    )
}

fn open(path: &Path) -> Result<(File, Metadata), ReadError> {
    // Opening a FIFO lets go a writer that waits for a reader, and opening a device can do anything.
    let meta = std::fs::metadata(path).map_err(|source| failed(path, source))?;
    check_kind(path, &meta)?;
    // It may have been replaced meanwhile. Without O_NONBLOCK, a FIFO in place of a file would be waited for without end.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|source| failed(path, source))?;
    let meta = metadata(&file, path)?;
    check_kind(path, &meta)?;
    if meta.len() > LARGEST_FILE {
        return Err(ReadError::TooLarge { path: path.into() });
    }
    Ok((file, meta))
}

/// Refuses what is not a regular file.
fn check_kind(path: &Path, meta: &Metadata) -> Result<(), ReadError> {
    let kind = meta.file_type();
    let kind = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(ReadError::NotAFile {
        path: path.into(),
        kind,
    })
}

fn read_all(
    file: &File,
    path: &Path,
    mut each: impl FnMut(&[u8]),
) -> Result<(Digest, u64), ReadError> {
    let mut hasher = Hasher::default();
    let mut size = 0;
    let mut buffer = vec![0; 16 * 1024];
    let mut file = file;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(failed(path, source)),
        };
        size += count as u64;
        // It may have grown since it was opened.
        if size > LARGEST_FILE {
            return Err(ReadError::TooLarge { path: path.into() });
        }
        let part = buffer.get(..count).unwrap_or_default();
        hasher.update(part);
        each(part);
    }
}

fn metadata(file: &File, path: &Path) -> Result<Metadata, ReadError> {
    file.metadata().map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> ReadError {
    let path = path.into();
    let is = |errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
    if is(Errno::NOENT) || is(Errno::NOTDIR) {
        ReadError::Missing { path }
    } else if is(Errno::NXIO) {
        // What `open` says of a socket.
        let kind = "a socket";
        ReadError::NotAFile { path, kind }
    } else {
        ReadError::Io { path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_belongs_to_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 100_000]).unwrap();
        let stable = read_stable(&path).unwrap();
        assert_eq!(stable.bytes, [7; 100_000]);
        assert_eq!(stable.digest, Digest::of(&stable.bytes));
        let opened = Opened::at(&path).unwrap();
        assert_eq!(opened.digest().unwrap(), (stable.digest, 100_000));
    }

    #[test]
    fn what_is_no_file_is_named_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        let message = |name: &str| read_stable(at(name)).unwrap_err().to_string();
        assert!(message("fifo").ends_with("is a FIFO, not a file"));
        assert!(message("socket").ends_with("is a socket, not a file"));
        assert!(message("").ends_with("is a directory, not a file"));
        assert!(message("dangling").ends_with("does not exist"));
        assert!(message("loop").contains("could not read"));
        assert!(message("/dev/null").ends_with("is a device, not a file"));
    }

    #[test]
    fn an_identity_is_that_of_the_file_and_of_its_state() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        let file = File::create(&path).unwrap();
        // Too large to be read, which is what it is for.
        file.set_len(LARGEST_FILE + 1).unwrap();
        let (first, size) = identity_of(&path).unwrap();
        assert_eq!(size, LARGEST_FILE + 1);
        assert_eq!(identity_of(&path).unwrap().0, first);
        let permit = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).unwrap();
        };
        permit(0o600);
        assert_eq!(
            identity_of(&path).unwrap().0,
            first,
            "nobody may execute it"
        );
        permit(0o755);
        let executable = identity_of(&path).unwrap().0;
        assert_ne!(executable, first);
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let written = identity_of(&path).unwrap().0;
        assert_ne!(written, executable);
        let other = dir.path().join("other");
        std::fs::copy(&path, &other).unwrap();
        File::open(&other)
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(identity_of(&path).unwrap().0, written);
        for (name, what) in [
            ("", "is a directory, not a file"),
            ("none", "does not exist"),
        ] {
            let error = identity_of(&dir.path().join(name)).unwrap_err().to_string();
            assert!(error.ends_with(what), "{error}");
        }
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        let file = File::create(&path).unwrap();
        file.set_len(LARGEST_FILE + 1).unwrap();
        let Err(error) = Opened::at(&path) else {
            panic!("it is too large");
        };
        assert!(matches!(error, ReadError::TooLarge { .. }), "{error}");
        assert!(error.to_string().ends_with("is larger than 64 MiB"));
        file.set_len(LARGEST_FILE).unwrap();
        assert!(Opened::at(&path).is_ok());
    }

    #[test]
    fn a_write_leaves_another_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        let now = || fingerprint(&file.metadata().unwrap());
        let empty = now();
        assert_eq!(now(), empty);
        file.set_len(1).unwrap();
        let longer = now();
        assert_ne!(longer, empty);
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_ne!(now(), longer);
    }

    #[test]
    fn a_shortage_may_pass_and_a_refusal_does_not() {
        let passes = |errno: Errno| may_pass(&io::Error::from(errno));
        for errno in [Errno::MFILE, Errno::NOMEM, Errno::IO, Errno::NETUNREACH] {
            assert!(passes(errno), "{errno}");
        }
        for errno in [Errno::ACCESS, Errno::NOENT, Errno::LOOP, Errno::ISDIR] {
            assert!(!passes(errno), "{errno}");
        }
        assert!(!may_pass(&io::Error::other("it has no number")));
    }
}
