//! The file that a socket makes when it is bound, until it has its mode and its owner.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use socket2::Socket;

use crate::socket_file::FileId;

/// The request that opens the file to which a Unix socket is bound. It needs `CAP_NET_ADMIN`, and Linux 4.19.
const SIOCUNIXFILE: libc::Ioctl = 0x89e0;

/// The file that a socket has made, held open. Whatever happens to its path, the file stays this one.
#[derive(Debug)]
pub(crate) struct OwnFile {
    file: OwnedFd,
    stat: Stat,
    /// Whether the system says that it is the file of the socket.
    is_certain: bool,
}

impl OwnFile {
    /// The file of a socket that was just bound to this path.
    ///
    /// # Errors
    ///
    /// What the operating system says: `NOENT` if it is gone.
    pub(crate) fn of(socket: &Socket, path: &Path) -> Result<Self, Errno> {
        match file_of(socket) {
            Some(file) => {
                let stat = rustix::fs::fstat(&file)?;
                Ok(Self {
                    file,
                    stat,
                    is_certain: true,
                })
            }
            None => Self::at(path),
        }
    }

    /// The file at the path of a socket that was just bound. A symlink is not followed.
    fn at(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        Ok(Self {
            file,
            stat,
            is_certain: false,
        })
    }

    /// Whether it is the file of the socket, as far as can be seen. Whoever may write to the directory can put
    /// another one there. So it must be a socket of this user without a second link, as a bound one is: no
    /// link of a foreign socket passes for it.
    pub(crate) fn is_of_socket(&self) -> bool {
        let stat = &self.stat;
        self.is_certain
            || (FileType::from_raw_mode(stat.st_mode) == FileType::Socket
                && stat.st_uid == rustix::process::geteuid().as_raw()
                && stat.st_nlink == 1)
    }

    pub(crate) fn id(&self) -> FileId {
        FileId::of(&self.stat)
    }

    /// Gives it to another user or group.
    pub(crate) fn give_to(&self, user: Option<Uid>, group: Option<Gid>) -> Result<(), Errno> {
        rustix::fs::chownat(&self.file, c"", user, group, AtFlags::EMPTY_PATH)
    }

    /// Sets its mode, if that is another one.
    ///
    /// # Errors
    ///
    /// `NOENT` without `/proc`.
    pub(crate) fn set_mode(&self, mode: Mode) -> Result<(), Errno> {
        let now = rustix::fs::fstat(&self.file)?;
        if Mode::from_raw_mode(now.st_mode) == mode {
            return Ok(());
        }
        // A descriptor without access rights is taken by its name only.
        let name = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::chmod(name, mode)
    }
}

/// The very file to which a socket is bound, where the system says which one that is.
#[expect(unsafe_code, reason = "a call of the operating system")]
fn file_of(socket: &Socket) -> Option<OwnedFd> {
    // SAFETY: the descriptor is open as long as the socket is borrowed, and the request reads no argument.
    let number = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCUNIXFILE, 0) };
    if number < 0 {
        return None;
    }
    // SAFETY: the system has just opened this descriptor, and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_another_one_puts_in_the_place_of_a_socket_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let socket = UnixListener::bind(&path).unwrap();
        assert!(OwnFile::at(&path).unwrap().is_of_socket());
        // A link of a socket that somebody else has bound.
        let foreign = dir.path().join("foreign.sock");
        let _foreign = UnixListener::bind(&foreign).unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "").unwrap();
        type Swap<'a> = &'a dyn Fn() -> std::io::Result<()>;
        let swaps: [Swap<'_>; 4] = [
            &|| std::os::unix::fs::symlink(&precious, &path),
            &|| std::os::unix::fs::symlink(&foreign, &path),
            &|| std::fs::hard_link(&precious, &path),
            &|| std::fs::hard_link(&foreign, &path),
        ];
        for swap in swaps {
            std::fs::remove_file(&path).unwrap();
            swap().unwrap();
            // A symlink itself is opened, and is no socket.
            assert!(!OwnFile::at(&path).unwrap().is_of_socket());
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(OwnFile::at(&path).unwrap_err(), Errno::NOENT);
        drop(socket);
    }

    /// The mode and the owner were set by the path. Who could write to the directory could put a symlink there
    /// in between, and have any file of the system opened to everybody.
    #[test]
    fn a_file_that_is_moved_away_gets_the_mode_and_what_takes_its_place_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("web.sock"), dir.path().join("moved"));
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "").unwrap();
        std::fs::set_permissions(&precious, PermissionsExt::from_mode(0o600)).unwrap();
        let _socket = UnixListener::bind(&path).unwrap();
        let file = OwnFile::at(&path).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();

        file.set_mode(Mode::from_raw_mode(0o666)).unwrap();
        let own = std::fs::metadata(dir.path()).unwrap();
        let group = Gid::from_raw(own.gid());
        file.give_to(None, Some(group)).unwrap();
        let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&moved), mode(&precious)), (0o666, 0o600));
    }

    #[test]
    fn the_system_names_the_file_of_a_socket_where_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("web.sock"), dir.path().join("moved"));
        let socket = Socket::from(OwnedFd::from(UnixListener::bind(&path).unwrap()));
        std::fs::rename(&path, &moved).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        let ours = std::fs::symlink_metadata(&moved).unwrap().ino();
        // Without the right to ask, the file is looked for at the path.
        if let Some(file) = file_of(&socket) {
            assert_eq!(rustix::fs::fstat(&file).unwrap().st_ino, ours);
            let own = OwnFile::of(&socket, &path).unwrap();
            assert_eq!((own.stat.st_ino, own.is_of_socket()), (ours, true));
        }
    }
}
