//! Unix sockets by path: paths that are too long for the kernel, and who is behind one.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};

/// The longest path that fits into a socket address, its final NUL aside.
const LONGEST: usize = 107;

/// A path as the kernel takes it. It is valid for as long as this lives.
#[derive(Debug)]
pub(super) struct Reachable {
    path: PathBuf,
    /// The directory of a path that is too long: `/proc` has a short name for it.
    _directory: Option<File>,
}

impl Reachable {
    /// # Errors
    ///
    /// When the path is too long and its directory cannot be opened, or when its last part alone is too long.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self {
                path: path.to_owned(),
                _directory: None,
            });
        }
        let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidFilename));
        };
        let directory = File::options()
            .read(true)
            .custom_flags(rustix::fs::OFlags::DIRECTORY.bits().cast_signed())
            .open(directory)?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let path = place.join(file);
        if path.as_os_str().len() > LONGEST {
            let (length, room) = (file.len(), LONGEST - place.as_os_str().len() - 1);
            let problem = format!(
                "the name {} has {length} bytes, and there is room for {room}: use a shorter one",
                file.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, problem));
        }
        Ok(Self {
            path,
            _directory: Some(directory),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// What is found at a path.
#[derive(Debug)]
pub(super) enum Found {
    /// A socket on which somebody listens, and that process, where the kernel tells.
    Live {
        /// The listening process.
        pid: Option<u32>,
    },
    /// A socket on which nobody listens any more.
    Stale,
    /// Nothing.
    Nothing,
    /// Something that is no socket.
    NoSocket,
    /// A socket that belongs to another user.
    Foreign {
        /// That user's id.
        owner: u32,
    },
}

/// Looks who is behind a path, by connecting; nothing is sent, and it does not wait.
///
/// # Errors
///
/// When that cannot be told, the reason.
pub(super) fn look(path: &Path) -> io::Result<Found> {
    look_for(path, rustix::process::geteuid().as_raw())
}

/// The same for a socket that should belong to this user.
///
/// # Errors
///
/// As [`look`].
pub(super) fn look_for(path: &Path, user: u32) -> io::Result<Found> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Ok(Found::NoSocket);
    }
    let owner = metadata.uid();
    if owner != user {
        return Ok(Found::Foreign { owner });
    }
    let socket = stream()?;
    let reachable = Reachable::new(path)?;
    let live = match connect(&socket, &SocketAddrUnix::new(reachable.path())?) {
        Ok(()) => true,
        // Its queue is full: somebody has it.
        Err(rustix::io::Errno::AGAIN) => false,
        Err(rustix::io::Errno::CONNREFUSED) => return Ok(Found::Stale),
        // It went away between the two looks.
        Err(rustix::io::Errno::NOENT) => return Ok(Found::Nothing),
        Err(error) => return Err(error.into()),
    };
    let peer = live.then(|| sockopt::socket_peercred(&socket).ok());
    let pid = peer
        .flatten()
        .and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
    Ok(Found::Live { pid })
}

/// A socket that does not block and is not inherited.
pub(super) fn stream() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_room_is_told_with_the_room_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = |length: usize| dir.path().join("d".repeat(100)).join("n".repeat(length));
        std::fs::create_dir(path(1).parent().unwrap()).unwrap();
        assert!(Reachable::new(&path(80)).is_ok());
        let error = Reachable::new(&path(120)).unwrap_err().to_string();
        assert!(error.starts_with("the name nnn"), "{error}");
        assert!(
            error.contains(" has 120 bytes, and there is room for "),
            "{error}"
        );
        assert!(error.ends_with(": use a shorter one"), "{error}");
    }
}
