//! Unix sockets of a server, with their files.

use std::ffi::{OsString, c_int};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, RenameFlags, Uid};
use socket2::{Domain, SockAddr, Socket};
use thiserror::Error;

use crate::listen::Listen;
use crate::server_socket::{FileId, ServerAddress, ServerSocket, SocketFile, UnixKind};

/// The most bytes of a path or of an abstract name, by `unix(7)`: a path needs a NUL after it, and a name has
/// one before it.
const LONGEST: usize = 107;

/// Binds a Unix socket of a server: one that listens, or one for datagrams.
///
/// A path that begins with `@` is a name in the abstract namespace, which has no file, no mode and no owner.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("web.sock");
/// use std::os::unix::net::UnixStream;
///
/// use handover_netutil::ListenUnix;
///
/// let socket = ListenUnix::new(&path).mode(0o660).bind()?;
/// let client = UnixStream::connect(&path)?;
/// drop(socket);
/// assert!(!path.exists());
/// # drop(client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is bound until `bind` is called"]
pub struct ListenUnix {
    path: PathBuf,
    kind: UnixKind,
    mode: Option<u32>,
    user: Option<u32>,
    group: Option<u32>,
    backlog: u32,
    nonblocking: bool,
}

impl ListenUnix {
    /// Returns the options of a stream socket. By default its file has the mode that the umask leaves and the
    /// owner of this process, and it blocks. The backlog is [`Listen::BACKLOG`].
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            kind: UnixKind::Stream,
            mode: None,
            user: None,
            group: None,
            backlog: Listen::BACKLOG,
            nonblocking: false,
        }
    }

    /// Sets the kind of the socket.
    pub const fn kind(mut self, kind: UnixKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the mode of the file, such as `0o660`, whatever the umask is. Who may write may connect. The file
    /// never has a wider mode than this.
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets the number of the user that owns the file.
    pub const fn user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// Sets the number of the group of the file.
    pub const fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// Sets how many connections may wait to be accepted. The system reduces the number to its own limit. It
    /// means nothing for datagrams.
    pub const fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Sets whether `accept` and `recv` return at once if there is nothing to take. All processes that share
    /// the socket share this setting.
    pub const fn nonblocking(mut self, nonblocking: bool) -> Self {
        self.nonblocking = nonblocking;
        self
    }

    /// Binds the socket, and listens unless it is for datagrams.
    ///
    /// A socket file that nobody has bound any more, as a killed server leaves it, is replaced. Dropping the
    /// result removes the file, unless another one has taken its place.
    ///
    /// # Errors
    ///
    /// Returns a [`ListenUnixError`], which names the path. A file that was there is there afterwards, but for
    /// an unused socket.
    pub fn bind(&self) -> Result<ServerSocket, ListenUnixError> {
        let shown = self.path.to_string_lossy().into_owned();
        let (address, is_file) = self.address()?;
        let socket = Socket::new(Domain::UNIX, self.kind.socket_type(), None)
            .map_err(|source| self.failed("create", source))?;
        socket
            .set_nonblocking(self.nonblocking)
            .map_err(|source| self.failed("make", source))?;
        if let (Some(mode), true) = (self.mode, is_file) {
            // The file gets what this mode and the umask have in common, so nobody else can connect before the
            // mode is set.
            rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))
                .map_err(|source| self.failed("make", source.into()))?;
        }
        self.take_place(&socket, &address, is_file)?;
        let file = is_file.then(|| SocketFile::at(&self.path)).flatten();
        if is_file {
            self.give_away()?;
        }
        if self.kind != UnixKind::Datagram {
            let backlog = c_int::try_from(self.backlog).unwrap_or(c_int::MAX);
            socket
                .listen(backlog)
                .map_err(|source| self.failed("listen on", source))?;
        }
        let address = ServerAddress::Unix(self.kind, shown);
        Ok(ServerSocket::bound(socket.into(), address, file))
    }

    /// The address for the system, and whether it is a path.
    fn address(&self) -> Result<(SockAddr, bool), ListenUnixError> {
        let bytes = self.path.as_os_str().as_bytes();
        let name = bytes.strip_prefix(b"@");
        let length = name.unwrap_or(bytes).len();
        if length == 0 || bytes.contains(&0) {
            return Err(ListenUnixError::NoName {
                path: self.path.clone(),
            });
        }
        if length > LONGEST {
            return Err(ListenUnixError::TooLong {
                path: self.path.clone(),
                length,
            });
        }
        let path = match name {
            Some(name) => {
                let with_nul: Vec<u8> = std::iter::once(0).chain(name.iter().copied()).collect();
                PathBuf::from(OsString::from_vec(with_nul))
            }
            None => self.path.clone(),
        };
        let address = SockAddr::unix(path).map_err(|source| self.failed("create", source))?;
        Ok((address, name.is_none()))
    }

    /// Binds the socket, in place of one that nobody uses.
    fn take_place(
        &self,
        socket: &Socket,
        address: &SockAddr,
        is_file: bool,
    ) -> Result<(), ListenUnixError> {
        let Err(error) = socket.bind(address) else {
            return Ok(());
        };
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(self.failed("bind", error));
        }
        if !is_file {
            return Err(self.in_use());
        }
        self.remove_unused(address)?;
        socket.bind(address).map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                // Another one was quicker.
                self.in_use()
            } else {
                self.failed("bind", error)
            }
        })
    }

    /// Removes the file of a socket that nobody has bound.
    fn remove_unused(&self, address: &SockAddr) -> Result<(), ListenUnixError> {
        let path = &self.path;
        let failed = |error: rustix::io::Errno| self.failed("replace", error.into());
        let stat = match rustix::fs::lstat(path) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Err(ListenUnixError::NoSocket { path: path.clone() });
        }
        if !self.is_unused(address)? {
            return Err(self.in_use());
        }
        // Another process may have replaced the file meanwhile. So it is moved first, and looked at there.
        let aside = aside(path);
        rustix::fs::rename(path, &aside).map_err(failed)?;
        let is_same =
            rustix::fs::lstat(&aside).is_ok_and(|now| FileId::of(&now) == FileId::of(&stat));
        if is_same {
            return rustix::fs::unlink(&aside).map_err(failed);
        }
        rustix::fs::renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)
            .map_err(failed)?;
        Err(self.in_use())
    }

    /// Whether nobody has bound the socket whose file this is.
    fn is_unused(&self, address: &SockAddr) -> Result<bool, ListenUnixError> {
        let client = Socket::new(Domain::UNIX, self.kind.socket_type(), None)
            .and_then(|client| client.set_nonblocking(true).map(|()| client))
            .map_err(|source| self.failed("create", source))?;
        match client.connect(address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(self.failed("replace", error))
            }
            // It is of another kind, or its queue is full.
            Ok(()) | Err(_) => Ok(false),
        }
    }

    /// Gives the file the mode and the owner that were asked for.
    fn give_away(&self) -> Result<(), ListenUnixError> {
        let failed = |error: rustix::io::Errno| self.failed("give away", error.into());
        if self.user.is_some() || self.group.is_some() {
            let (user, group) = (self.user.map(Uid::from_raw), self.group.map(Gid::from_raw));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(CWD, &self.path, user, group, flags).map_err(failed)?;
        }
        if let Some(mode) = self.mode {
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::chmod(&self.path, mode).map_err(failed)?;
        }
        Ok(())
    }

    fn in_use(&self) -> ListenUnixError {
        ListenUnixError::InUse {
            path: self.path.clone(),
        }
    }

    fn failed(&self, what: &'static str, source: io::Error) -> ListenUnixError {
        ListenUnixError::Refused {
            path: self.path.clone(),
            what,
            source,
        }
    }
}

/// Where a socket file is moved before it is removed: beside it, under a name that no other process uses.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.unused", std::process::id()));
    path.with_file_name(name)
}

/// The reason why [`ListenUnix::bind`] returned no socket.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenUnixError {
    /// There is no path.
    #[error("{path:?} is no path of a Unix socket; give a path, or `@` and a name")]
    NoName {
        /// What was given.
        path: PathBuf,
    },

    /// The system has no room for the path.
    #[error(
        "the path {} has {length} bytes, and a Unix socket has room for {LONGEST}; use a shorter one, such as \
         one below /run", path.display()
    )]
    TooLong {
        /// What was given.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },

    /// Another process has bound it.
    #[error(
        "{} is in use; stop what has bound it, which \"ss -lxp\" shows, or choose another path",
        path.display()
    )]
    InUse {
        /// The path, or the abstract name.
        path: PathBuf,
    },

    /// The path is that of something else.
    #[error("{} exists and is no socket; remove it, or choose another path", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },

    /// The operating system refused something.
    #[error(
        "cannot {what} the Unix socket {}; check that its directory exists and that this process may write \
         there", path.display()
    )]
    Refused {
        /// The path, or the abstract name.
        path: PathBuf,
        /// What was refused.
        what: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
