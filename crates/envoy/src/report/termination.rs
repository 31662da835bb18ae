//! The message where Kubernetes looks for the reason of a container's end.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::text::one_paragraph;

/// The longest termination message in bytes. Kubernetes reads no more of one container.
pub const MAX_MESSAGE: usize = 4096;

/// How many links are followed at most.
const MAX_LINKS: usize = 16;

/// Why a termination message cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the termination message {}", path.display())]
#[non_exhaustive]
pub struct TerminationError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

/// Writes a message where Kubernetes looks for the reason of a container's end
/// (`terminationMessagePath`, usually `/dev/termination-log`): one paragraph of at most
/// [`MAX_MESSAGE`] bytes, in place of what is there.
///
/// The file is written in place, because that path is a mount of its own, over which nothing can be
/// renamed. It is made with mode 0600 where it is not there. A link that another user but root has
/// made is not followed, and a file that another user may have put there is not written.
///
/// ```
/// # let dir = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// # let path = dir.path().join("termination-log");
/// handover_envoy::report::termination_message(&path, "gave up:\n epoch 3 crashed")?;
/// assert_eq!(std::fs::read_to_string(&path)?, "gave up: epoch 3 crashed\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TerminationError`] names the file.
pub fn termination_message(path: &Path, text: &str) -> Result<(), TerminationError> {
    // One byte is left for the end of the line.
    let message = one_paragraph(text, MAX_MESSAGE - 1) + "\n";
    let write = || -> io::Result<()> {
        let mut file = open(path)?;
        let found = file.metadata()?;
        refuse(path, &found)?;
        if found.is_file() {
            file.set_len(0)?;
        }
        file.write_all(message.as_bytes())
    };
    write().map_err(|source| TerminationError {
        path: path.to_owned(),
        source,
    })
}

/// Opens what the path names, through links of our own and of root only.
fn open(path: &Path) -> io::Result<File> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..MAX_LINKS {
        for directory in path.ancestors().skip(1) {
            followed(directory)?;
        }
        // A pipe that nobody reads must not hold the end of the supervisor up, and a terminal must
        // not become its own.
        let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let target = followed(&path)?;
        // The links of a process to its descriptors lead to no path.
        if !path.starts_with("/proc") {
            flags |= OFlags::NOFOLLOW;
            if let (Some(target), Some(directory)) = (target, path.parent()) {
                path = directory.join(target);
                continue;
            }
        }
        return OpenOptions::new()
            .write(true)
            .create(true)
            // Emptied below, once it is known to be a file.
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(&path);
    }
    Err(refused("too many links lead to it".to_owned()))
}

/// Where a link leads that may be followed; nothing where there is no link.
fn followed(path: &Path) -> io::Result<Option<PathBuf>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => found,
        // What is missing is made, or is told by the open.
        Ok(_) | Err(_) => return Ok(None),
    };
    if is_ours(&found) {
        return fs::read_link(path).map(Some);
    }
    let (path, owner) = (path.display(), found.uid());
    Err(refused(format!(
        "{path} is a link that user {owner} has made, and is not followed"
    )))
}

/// Refuses what a message would harm, or what another user has put there.
fn refuse(path: &Path, found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    if kind.is_fifo() {
        return Err(refused("it is a pipe: give the path of a file".to_owned()));
    }
    if kind.is_block_device() {
        return Err(refused("it is a disk: give the path of a file".to_owned()));
    }
    if !kind.is_file() {
        return Ok(());
    }
    if found.nlink() > 1 {
        return Err(refused(
            "the file has other names, one of which another user may have given it".to_owned(),
        ));
    }
    // Where everybody can make files, one of another user is a trap. Elsewhere it is as the owner of
    // the directory wants it.
    let directory = path
        .parent()
        .and_then(|directory| directory.metadata().ok());
    let is_shared = directory.is_some_and(|found_in| {
        found_in.mode() & 0o1002 == 0o1002 && found_in.uid() != found.uid()
    });
    if is_shared && !is_ours(found) {
        let owner = found.uid();
        return Err(refused(format!("it belongs to user {owner}")));
    }
    Ok(())
}

/// Whether something belongs to our user or to root.
fn is_ours(found: &Metadata) -> bool {
    [0, rustix::process::geteuid().as_raw()].contains(&found.uid())
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    fn temporary() -> tempfile::TempDir {
        let mut builder = tempfile::Builder::new();
        builder.prefix("handover-").tempdir().unwrap()
    }

    #[test]
    fn a_message_replaces_the_content_of_the_same_file() {
        let dir = temporary();
        let path = dir.path().join("termination-log");
        fs::write(&path, "a longer text from the run before").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        // What is a mount cannot be renamed over; a directory in which nothing can be made is alike.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
        termination_message(&path, "epoch 3 crashed:\n\tit said \u{1b}[31mno").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "epoch 3 crashed: it said [31mno\n"
        );
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        termination_message(&path, &"ä".repeat(MAX_MESSAGE)).unwrap();
        let length = fs::metadata(&path).unwrap().len();
        assert!((4090..=4096).contains(&length), "{length}");
    }

    #[test]
    fn what_is_no_file_does_not_hold_up_the_end() {
        let dir = temporary();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let error = termination_message(&pipe, "x").unwrap_err();
        assert_eq!(error.path, pipe);
        termination_message(dir.path(), "x").unwrap_err();
        termination_message(Path::new("/dev/null"), "x").unwrap();
    }

    #[test]
    fn our_own_links_are_followed_and_no_chain_of_them_is_endless() {
        let dir = temporary();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("log"), "before").unwrap();
        symlink("log", path("link")).unwrap();
        symlink(path("link"), path("second")).unwrap();
        termination_message(&path("second"), "x").unwrap();
        assert_eq!(fs::read_to_string(path("log")).unwrap(), "x\n");
        symlink("b", path("a")).unwrap();
        symlink("a", path("b")).unwrap();
        termination_message(&path("a"), "x").unwrap_err();
    }

    #[test]
    fn a_file_with_other_names_is_not_emptied() {
        let dir = temporary();
        let (precious, other) = (dir.path().join("precious"), dir.path().join("other"));
        fs::write(&precious, "precious").unwrap();
        fs::hard_link(&precious, &other).unwrap();
        termination_message(&other, "x").unwrap_err();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    }

    #[test]
    fn what_another_user_has_put_there_is_left_alone() {
        if !rustix::process::geteuid().is_root() {
            eprintln!(
                "SKIPPED report::what_another_user_has_put_there_is_left_alone: only root can give files away"
            );
            return;
        }
        let dir = temporary();
        let path = |name: &str| dir.path().join(name);
        let precious = path("precious");
        fs::write(&precious, "precious").unwrap();
        fs::create_dir(path("shared")).unwrap();
        fs::set_permissions(path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
        let link = path("shared/log");
        symlink(&precious, &link).unwrap();
        let through = path("shared/dir");
        symlink(dir.path(), &through).unwrap();
        for link in [&link, &through] {
            std::os::unix::fs::lchown(link, Some(65534), Some(65534)).unwrap();
        }
        for trap in [link, through.join("precious")] {
            let error = termination_message(&trap, "x").unwrap_err();
            assert!(error.source.to_string().contains("user 65534"), "{error:?}");
        }
        let theirs = path("shared/theirs");
        fs::write(&theirs, "theirs").unwrap();
        chown(&theirs, Some(65534), None).unwrap();
        termination_message(&theirs, "x").unwrap_err();
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        // Where only the owner of the directory can make files, they are as the owner wants them.
        fs::set_permissions(path("shared"), fs::Permissions::from_mode(0o755)).unwrap();
        termination_message(&theirs, "x").unwrap();
    }
}
