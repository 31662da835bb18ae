//! Replacing a file so that neither a crash of the machine nor another process leaves half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// How often the temporary file is opened anew because others were quicker: far more than the few
/// processes that share a state directory need.
const TRIES: usize = 1_000;

/// Writes a file of mode 0600 into a directory that belongs to us alone, replacing one that is
/// there. Whoever reads it sees the old content or the new, also after a power failure.
///
/// Processes that do it at once take turns: whoever holds the lock of the temporary file writes it.
/// A leftover of a killed process is used again, so nothing piles up.
pub(crate) fn replace(dir: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    let mut file = lock(&temporary)?;
    let written = (|| {
        file.set_len(0)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&temporary, dir.join(name))
    })();
    if written.is_err() {
        // The error that matters is the one above. The lock is still held, so it is our file.
        fs::remove_file(&temporary).ok();
    }
    written?;
    // The new name is on the disk once the directory is.
    File::open(dir)?.sync_all()
}

/// Removes the temporary files that killed processes have left of files with such names. What cannot
/// be looked at or removed stays.
pub(crate) fn sweep(dir: &Path, is_named: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let name = file.to_str().and_then(|name| {
            let name = name.strip_prefix('.')?.strip_suffix(".new")?;
            is_named(name).then_some(name)
        });
        if name.is_none() {
            continue;
        }
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(NOFOLLOW)
            .open(entry.path());
        // Whoever writes it holds its lock.
        if opened.is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// Opens the temporary file and waits until it is ours.
fn lock(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(NOFOLLOW)
            .open(path)?;
        file.lock()?;
        // The one before us has renamed it: what we hold is the finished file.
        let ours = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "other processes write the same file all the time",
    ))
}

/// Linux's `O_NOFOLLOW`, the same bits as rustix has them.
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn dir() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_leftover_is_overwritten_and_only_the_owner_can_read_the_file() {
        let dir = dir();
        fs::write(dir.path().join(".file.new"), "left by a killed process").unwrap();
        fs::set_permissions(
            dir.path().join(".file.new"),
            fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        replace(dir.path(), "file", &[b"a", b"b"]).unwrap();
        replace(dir.path(), "other", &[]).unwrap();
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"ab");
        for name in ["file", "other"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(names(dir.path()), ["file", "other"]);
    }

    #[test]
    fn many_writers_never_tear_a_file() {
        let dir = dir();
        let path = dir.path().join("file");
        let content = |writer: u8| vec![b'a' + writer; 20_000 + usize::from(writer)];
        replace(dir.path(), "file", &[&content(0)]).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let dir = dir.path();
                scope.spawn(move || {
                    for _ in 0..25 {
                        replace(dir, "file", &[&content(writer)]).unwrap();
                    }
                });
            }
            for _ in 0..200 {
                let read = fs::read(&path).unwrap();
                let writer = read.first().unwrap() - b'a';
                assert_eq!(read, content(writer));
            }
        });
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let dir = dir();
        fs::create_dir(dir.path().join("file")).unwrap();
        replace(dir.path(), "file", &[b"x"]).unwrap_err();
        assert_eq!(names(dir.path()), ["file"]);
    }
}
