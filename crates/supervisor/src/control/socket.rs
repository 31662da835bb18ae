//! The socket of this instance: made, and removed again.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_files::{LockError, LockFile};
use rustix::fs::{Mode, fchmod};
use rustix::net::{SocketAddrUnix, bind, listen};

use super::address::{Found, Reachable, look, stream};
use super::name::Name;

/// How many clients may wait to be accepted. More than are ever there at once.
const BACKLOG: i32 = 1024;

/// How long others of our user may take to make or remove their sockets in the same directory.
const LIMIT: Duration = Duration::from_secs(5);

/// A listening socket. Its file is removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

/// Why there is no socket.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// Another instance has it.
    Taken {
        /// Its socket.
        path: PathBuf,
        /// Its process, where the kernel tells.
        pid: Option<u32>,
    },
    /// Something else is there, which is not ours to remove.
    InTheWay {
        /// Where.
        path: PathBuf,
        /// What it is, as the predicate of a sentence.
        what: String,
    },
    /// The operating system refused something.
    Os {
        /// What was being done, as a participle.
        doing: &'static str,
        /// The path of the socket.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl Socket {
    /// Listens at this path. A socket on which nobody listens any more is replaced.
    ///
    /// It blocks for up to five seconds while others of our user make sockets in the same directory.
    ///
    /// Only its owner can connect, from the first moment on: Linux takes the mode of a socket's file
    /// from the socket itself, so it is set before there is a file.
    ///
    /// # Errors
    ///
    /// When another instance or another file is there, or the operating system refuses something.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |doing| {
            move |source: io::Error| BindError::Os {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        // Two that find the same stale socket must not both replace it.
        let _lock = lock_directory(path).map_err(|error| match error {
            LockError::Squatted { path, what } => BindError::InTheWay { path, what },
            LockError::Os { source, .. } => failed("locking the directory of")(source),
            held @ (LockError::Held { .. } | _) => {
                failed("locking the directory of")(io::Error::new(io::ErrorKind::TimedOut, held))
            }
        })?;
        let in_the_way = |what: String| {
            let path = path.to_owned();
            Err(BindError::InTheWay { path, what })
        };
        match look(path).map_err(failed("looking at"))? {
            Found::Nothing | Found::Stale => {}
            Found::Live { pid } => {
                let path = path.to_owned();
                return Err(BindError::Taken { path, pid });
            }
            Found::NoSocket => return in_the_way("is no socket".to_owned()),
            Found::Foreign { owner } => return in_the_way(format!("belongs to user {owner}")),
        }
        let temporary = temporary(path).ok_or_else(|| BindError::InTheWay {
            path: path.to_owned(),
            what: "names no file".to_owned(),
        })?;
        let made = make(&temporary).and_then(|(listener, file)| {
            // Over a stale one in a single step.
            std::fs::rename(&temporary, path)?;
            Ok((listener, file))
        });
        match made {
            Ok((listener, file)) => Ok(Self {
                listener,
                path: path.to_owned(),
                file,
            }),
            Err(error) => {
                // The error that matters is the one above.
                std::fs::remove_file(&temporary).ok();
                Err(failed("listening on")(error))
            }
        }
    }

    /// Returns the path of its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listening socket, once more.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Without the lock it is looked at all the same: it is most likely still ours.
        let _lock = lock_directory(&self.path);
        let named = std::fs::symlink_metadata(&self.path);
        if named.is_ok_and(|named| (named.dev(), named.ino()) == self.file) {
            // What stays does no harm: nobody listens on it.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Removes what instances without a name have left in this directory when they were killed. What
/// cannot be looked at or removed stays.
pub fn sweep(directory: &Path) {
    // Nearly always there is nothing, and a look costs less than the lock.
    let left = left_in(directory);
    if left.is_empty() {
        return;
    }
    let Ok(_lock) = lock(directory) else {
        return;
    };
    // One that was being made at the look is done by now.
    for path in left.iter().filter(|path| is_stale(path)) {
        std::fs::remove_file(path).ok();
    }
}

/// The sockets of instances without a name on which nobody listens.
fn left_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let unnamed = entries.filter(|entry| is_unnamed(&entry.file_name()));
    unnamed
        .map(|entry| entry.path())
        .filter(|path| is_stale(path))
        .collect()
}

fn is_stale(path: &Path) -> bool {
    matches!(look(path), Ok(Found::Stale))
}

/// Whether a file is the socket of an instance without a name, or one that was not finished.
fn is_unnamed(file: &OsStr) -> bool {
    let Some(file) = file.to_str() else {
        return false;
    };
    let hidden = file
        .strip_prefix('.')
        .and_then(|file| file.strip_suffix(".new"));
    let file = hidden.unwrap_or(file);
    let pid = file.strip_prefix("pid-").and_then(|file| {
        let pid = file.strip_suffix(".sock")?;
        pid.parse().ok()
    });
    pid.is_some_and(|pid| Name::of_process(pid).file() == file)
}

/// The hidden name beside the path under which the socket is made.
fn temporary(path: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name()?);
    name.push(".new");
    Some(path.with_file_name(name))
}

fn make(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    match std::fs::remove_file(path) {
        // Left by one that was killed here; the directory is locked.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = stream()?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let reachable = Reachable::new(path)?;
    bind(&socket, &SocketAddrUnix::new(reachable.path())?)?;
    // A narrow umask would have taken our own rights as well.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG)?;
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((socket.into(), (metadata.dev(), metadata.ino())))
}

/// Locks the directory of a socket.
fn lock_directory(path: &Path) -> Result<LockFile, LockError> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    lock(directory.unwrap_or(Path::new(".")))
}

/// Locks a directory of sockets by a file in it that only our user can open: a lock on the directory
/// itself could be taken, and kept, by anyone who can read it.
fn lock(directory: &Path) -> Result<LockFile, LockError> {
    // Each user has a file of his own, so that nobody waits for another user.
    let user = rustix::process::geteuid().as_raw();
    LockFile::wait_for_own(&directory.join(format!(".handover-{user}.lock")), LIMIT)
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { path, pid } => {
                let file = path.file_name().and_then(OsStr::to_str);
                match file.and_then(Name::of_file) {
                    Some(name) => write!(f, "instance {name} runs already (")?,
                    None => f.write_str("another instance runs already (")?,
                }
                if let Some(pid) = pid {
                    write!(f, "pid {pid}, ")?;
                }
                write!(
                    f,
                    "socket {}): give this one another --name",
                    path.display()
                )
            }
            Self::InTheWay { path, what } => write!(
                f,
                "{} {what}: remove it, or choose another path with --socket",
                path.display()
            ),
            Self::Os { doing, path, .. } => {
                write!(f, "{doing} the control socket {}", path.display())
            }
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            Self::Taken { .. } | Self::InTheWay { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_directory as directory;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A socket file that nobody listens on.
    fn stale(path: &Path) {
        drop(UnixListener::bind(path).unwrap());
    }

    #[test]
    fn only_its_owner_can_connect_and_nothing_is_left() {
        let dir = directory();
        let path = dir.path().join("a.sock");
        let socket = Socket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["a.sock"]);
        drop(socket);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_live_one_is_left_alone_and_its_process_named() {
        let dir = directory();
        let path = dir.path().join("web.sock");
        let _first = Socket::bind(&path).unwrap();
        let error = Socket::bind(&path).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(
            error.starts_with(&format!("instance web runs already (pid {pid}, ")),
            "{error}"
        );
        assert!(matches!(look(&path), Ok(Found::Live { .. })));
    }

    #[test]
    fn a_stale_one_is_replaced() {
        let dir = directory();
        let path = dir.path().join("a.sock");
        stale(&path);
        assert!(matches!(look(&path), Ok(Found::Stale)));
        let _socket = Socket::bind(&path).unwrap();
        assert!(matches!(look(&path), Ok(Found::Live { .. })));
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let dir = directory();
        let path = dir.path().join("a.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = Socket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("is no socket"), "{error}");
        // Nor what a link leads to.
        let link = dir.path().join("b.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Socket::bind(&link).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn another_ones_socket_is_not_removed_at_the_end() {
        let dir = directory();
        let path = dir.path().join("a.sock");
        let first = Socket::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = Socket::bind(&path).unwrap();
        drop(first);
        assert_eq!(names(dir.path()), ["a.sock"]);
    }

    #[test]
    fn a_path_that_is_too_long_for_the_kernel_does() {
        let dir = directory();
        let deep = dir.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("a.sock");
        let _socket = Socket::bind(&path).unwrap();
        assert!(matches!(look(&path), Ok(Found::Live { pid: Some(_) })));
    }

    #[test]
    fn of_many_that_want_one_name_one_gets_it() {
        let dir = directory();
        let path = dir.path().join("a.sock");
        stale(&path);
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| Socket::bind(&path)))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.collect()
        });
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "{results:?}");
        assert!(matches!(look(&path), Ok(Found::Live { .. })));
    }

    #[test]
    fn only_stale_sockets_without_a_name_are_swept() {
        let dir = directory();
        let path = |name: &str| dir.path().join(name);
        for name in [
            "pid-1.sock",
            "pid-01.sock",
            "pid-x.sock",
            "web.sock",
            ".pid-4.sock.new",
        ] {
            stale(&path(name));
        }
        let _live = Socket::bind(&path("pid-2.sock")).unwrap();
        std::fs::write(path("pid-3.sock"), "no socket").unwrap();
        sweep(dir.path());
        assert_eq!(
            names(dir.path()),
            [
                "pid-01.sock",
                "pid-2.sock",
                "pid-3.sock",
                "pid-x.sock",
                "web.sock"
            ]
        );
    }

    #[test]
    fn a_lock_of_somebody_on_the_directory_itself_is_not_waited_for() {
        let dir = directory();
        let others = std::fs::File::open(dir.path()).unwrap();
        others.lock().unwrap();
        let began = std::time::Instant::now();
        Socket::bind(&dir.path().join("web.sock")).unwrap();
        assert!(began.elapsed() < LIMIT);
    }
}
