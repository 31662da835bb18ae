//! Unix sockets of a server, with their files.

use std::ffi::{OsString, c_int};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Gid, Mode, RenameFlags, Uid};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket};
use thiserror::Error;

use crate::listen::Listen;
use crate::own_file::OwnFile;
use crate::server_socket::{ServerAddress, ServerSocket, UnixKind};
use crate::socket_file::{FileId, SocketFile};

/// The most bytes of a path or of an abstract name, by `unix(7)`: a path needs a NUL after it, and a name has
/// one before it.
const LONGEST: usize = 107;

/// How long a server may take from binding a socket to listening on it. The two calls follow each other.
const TIME_TO_LISTEN: Duration = Duration::from_millis(100);

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
    keep_file: bool,
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
            keep_file: false,
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

    /// Sets whether the file has a second link, from which
    /// [`ServerSocket::look_at_file`] puts it back if a program removes it. The link is beside the file:
    /// `.web.sock.handover` for `web.sock`. Without it, a file that is removed is lost, because the system makes
    /// none for a socket that is bound already.
    pub const fn keep_file(mut self, keep: bool) -> Self {
        self.keep_file = keep;
        self
    }

    /// Binds the socket, and listens unless it is for datagrams.
    ///
    /// A socket file that nobody has bound any more, as a killed server leaves it, is replaced. Dropping the
    /// result removes the file, unless another one has taken its place.
    ///
    /// The function blocks for 100 ms before it replaces a file. A socket that another process has bound but
    /// not put into listening yet refuses connections like one that nobody has. So it is tried twice.
    /// A process that takes longer from the one step to the other loses its file. It then listens where no
    /// client finds it.
    ///
    /// The mode and the owner are set on the file of this very socket, also if the path leads elsewhere by then.
    /// Without `CAP_NET_ADMIN` the system does not say which file that is. Then the file at the path
    /// must be a socket of this user with a single link.
    ///
    /// # Errors
    ///
    /// Returns a [`ListenUnixError`], which names the path. A file that was there is there afterwards, but for
    /// an unused socket.
    pub fn bind(&self) -> Result<ServerSocket, ListenUnixError> {
        self.bind_with(|| std::thread::sleep(TIME_TO_LISTEN))
    }

    /// The same, with what happens between the two looks at a file that is there.
    fn bind_with(&self, pause: impl FnOnce()) -> Result<ServerSocket, ListenUnixError> {
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
        self.take_place(&socket, &address, is_file, pause)?;
        let file = match is_file {
            true => Some(self.settle(&socket)?),
            false => None,
        };
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
        pause: impl FnOnce(),
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
        self.remove_unused(address, pause)?;
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
    fn remove_unused(
        &self,
        address: &SockAddr,
        pause: impl FnOnce(),
    ) -> Result<(), ListenUnixError> {
        let path = &self.path;
        let failed = |error: Errno| self.failed("replace", error.into());
        let stat = match rustix::fs::lstat(path) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Err(ListenUnixError::NoSocket { path: path.clone() });
        }
        if !self.refuses(address)? {
            return Err(self.in_use());
        }
        pause();
        if !self.refuses(address)? {
            return Err(self.in_use());
        }
        // Another process may have replaced the file meanwhile. So it is moved first, and looked at there.
        let aside = aside(path);
        match rustix::fs::rename(path, &aside) {
            Err(Errno::NOENT) => return Ok(()),
            moved => moved.map_err(failed)?,
        }
        let is_same =
            rustix::fs::lstat(&aside).is_ok_and(|now| FileId::of(&now) == FileId::of(&stat));
        if is_same {
            return rustix::fs::unlink(&aside).map_err(failed);
        }
        rustix::fs::renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)
            .map_err(failed)?;
        Err(self.in_use())
    }

    /// Whether the socket whose file this is takes no connections: nobody has bound it, or its owner does not
    /// listen yet.
    fn refuses(&self, address: &SockAddr) -> Result<bool, ListenUnixError> {
        let client = Socket::new(Domain::UNIX, self.kind.socket_type(), None)
            .and_then(|client| client.set_nonblocking(true).map(|()| client))
            .map_err(|source| self.failed("create", source))?;
        match client.connect(address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
            // Its owner has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(self.failed("replace", error))
            }
            // It is of another kind, or its queue is full.
            Ok(()) | Err(_) => Ok(false),
        }
    }

    /// Gives the file of the socket the mode and the owner that were asked for.
    fn settle(&self, socket: &Socket) -> Result<SocketFile, ListenUnixError> {
        let replaced = || ListenUnixError::Replaced {
            path: self.path.clone(),
        };
        let own = OwnFile::of(socket, &self.path).map_err(|error| match error {
            Errno::NOENT => replaced(),
            error => self.failed("find", error.into()),
        })?;
        let is_given_away = self.user.or(self.group).or(self.mode).is_some();
        if is_given_away && !own.is_of_socket() {
            return Err(replaced());
        }
        let mut file = SocketFile::new(&self.path, own.id());
        if self.keep_file {
            // The system may let only the owner of a file link it, so this comes before it is given away.
            file.keep_spare();
        }
        let failed = |error: Errno| self.failed("give away", error.into());
        if self.user.is_some() || self.group.is_some() {
            let (user, group) = (self.user.map(Uid::from_raw), self.group.map(Gid::from_raw));
            own.give_to(user, group).map_err(failed)?;
        }
        if let Some(mode) = self.mode {
            let set = own.set_mode(Mode::from_raw_mode(mode));
            set.map_err(|error| match error {
                Errno::NOENT => ListenUnixError::NoProc {
                    path: self.path.clone(),
                    mode,
                },
                error => failed(error),
            })?;
        }
        Ok(file)
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

    /// Another file is at the path since the socket was bound there, or none.
    #[error(
        "the file of the Unix socket {} was replaced or removed as soon as it was made; use a directory to which \
         no other user may write", path.display()
    )]
    Replaced {
        /// The path.
        path: PathBuf,
    },

    /// The mode cannot be set without `/proc`.
    #[error(
        "the Unix socket {} cannot be given the mode {mode:04o} without /proc; mount it, or set a umask that \
         leaves this mode", path.display()
    )]
    NoProc {
        /// The path.
        path: PathBuf,
        /// The mode that was asked for.
        mode: u32,
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
