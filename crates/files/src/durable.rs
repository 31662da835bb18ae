//! Replacing a file so that neither a crash of the machine nor another process leaves half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::lock::{self, NOFOLLOW, is_at};

/// How often the temporary file is opened again because others were quicker: far more than the few
/// processes that share a state directory need.
const TRIES: usize = 1_000;

/// Replaces a file in a directory that belongs to our user alone; the file gets mode 0600.
///
/// The content is the parts, one after the other. A reader sees the old content or the new, also
/// after a power failure: content and name are forced to the disk before this returns.
///
/// Processes that replace the same file at once take turns. The holder of the lock of the temporary
/// file `.NAME.new` writes it. A leftover of a killed process is used again, so nothing piles up.
/// It blocks the thread.
///
/// ```
/// # let dir = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// handover_files::replace_durably(dir.path(), "state", &[b"version 2\n", b"body"])?;
/// assert_eq!(std::fs::read(dir.path().join("state"))?, b"version 2\nbody");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// If the operating system refuses a step. The old content stays then, unless only the directory
/// could not be forced to the disk.
pub fn replace_durably(dir: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    let mut file = lock_temporary(&temporary)?;
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

/// Removes the temporary files that killed processes have left of [`replace_durably`].
///
/// Only those are removed whose final name passes `is_named`, and that nobody writes. A file that
/// cannot be looked at or removed stays.
pub fn sweep_unfinished(dir: &Path, is_named: impl Fn(&str) -> bool) {
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
        // Its writer holds its lock.
        if opened.is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// Opens the temporary file and waits until it is ours.
fn lock_temporary(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        let file = lock::open(path)?;
        file.lock()?;
        // The one before us has renamed it: what we hold is the finished file.
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "other processes write the same file all the time",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

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
        replace_durably(dir.path(), "file", &[b"a", b"b"]).unwrap();
        replace_durably(dir.path(), "other", &[]).unwrap();
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
        replace_durably(dir.path(), "file", &[&content(0)]).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let dir = dir.path();
                scope.spawn(move || {
                    for _ in 0..25 {
                        replace_durably(dir, "file", &[&content(writer)]).unwrap();
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
        replace_durably(dir.path(), "file", &[b"x"]).unwrap_err();
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn what_killed_processes_have_left_is_removed_and_nothing_else() {
        let dir = dir();
        let of_others = [".a.new.x", ".other.new", "a.new", ".a.old"];
        for name in of_others.iter().chain(&[".a.new", ".busy.new"]) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let writer = File::open(dir.path().join(".busy.new")).unwrap();
        writer.lock().unwrap();
        sweep_unfinished(dir.path(), |name| ["a", "busy"].contains(&name));
        let mut left = of_others.to_vec();
        left.push(".busy.new");
        left.sort_unstable();
        assert_eq!(names(dir.path()), left);
        sweep_unfinished(&dir.path().join("missing"), |_| true);
    }
}
