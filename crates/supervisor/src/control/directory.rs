//! Where the control socket of an instance is.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use handover_files::{DirectoryError, PrivateDir, below};

use super::name::Name;
use super::socket::{BindError, Socket, sweep};
use crate::cli::control::{ControlArgs, SocketPath};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

/// This instance, as clients know it.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: Name,
    /// Without one it takes no requests.
    pub(crate) socket: Option<Socket>,
}

impl Instance {
    /// Makes the socket that the flags ask for; by default one of its own in the directory.
    ///
    /// # Errors
    ///
    /// When a socket that was asked for, by name or by path, cannot be made or is another
    /// instance's. One that nobody has asked for is done without, with a warning.
    pub(crate) fn open(args: &ControlArgs, directory: &Directory) -> Result<Self, Fatal> {
        let name = args
            .name
            .clone()
            .or_else(|| args.socket.as_ref()?.name())
            .unwrap_or_else(|| Name::of_process(std::process::id()));
        let bound = match &args.socket {
            Some(SocketPath::None) => return Ok(Self { name, socket: None }),
            Some(SocketPath::Path(path)) => Socket::bind(path).map_err(anyhow::Error::new),
            None => in_directory(directory, &name),
        };
        match bound {
            Ok(socket) => {
                tracing::debug!("the control socket is {}", socket.path().display());
                let socket = Some(socket);
                Ok(Self { name, socket })
            }
            // Taken ones too: where containers share the directory, each has a process 1.
            Err(error) if args.name.is_none() && args.socket.is_none() => {
                tracing::warn!(
                    "there is no control socket (--socket and --lock-dir choose its place): {error:#}"
                );
                Ok(Self { name, socket: None })
            }
            Err(error) if is_taken(&error) => Err(Fatal::new(ExitCode::UNAVAILABLE, error)),
            Err(error) => Err(error).or_exit(ExitCode::OS),
        }
    }
}

fn in_directory(directory: &Directory, name: &Name) -> anyhow::Result<Socket> {
    let made = directory.make()?;
    sweep(made.path());
    Ok(Socket::bind(&made.path().join(name.file()))?)
}

fn is_taken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(BindError::Taken { .. }))
}

/// Where the control sockets and the locks of base ids are. A directory that others may write to
/// would not do, so users do not share one; that the base ids of other users are in use is seen by
/// their sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Directory {
    /// The one that follows from the user. Others know its name as well, so it is looked at closely.
    Own(PathBuf),
    /// One that was named.
    Given(PathBuf),
}

impl Directory {
    /// The one that was named, if one was.
    pub(crate) fn new(given: Option<PathBuf>) -> Self {
        match given {
            Some(path) => Self::Given(path),
            None => Self::Own(default_directory()),
        }
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or belongs to others.
    pub(crate) fn make(&self) -> Result<PrivateDir, DirectoryError> {
        match self {
            Self::Own(path) => PrivateDir::create_own(path),
            Self::Given(path) => PrivateDir::create(path),
        }
    }

    /// Where it will be, as far as that can be told without making it.
    pub(crate) fn expected(&self) -> PathBuf {
        match self {
            Self::Own(path) => path.clone(),
            Self::Given(path) => {
                let below = below(path);
                if below.is_dir() { below } else { path.clone() }
            }
        }
    }

    /// Where a client looks for instances: the directory itself, and those that instances have made
    /// below one to which others may write. Root finds those of every user.
    ///
    /// # Errors
    ///
    /// When it was not named, and is somebody else's.
    pub(super) fn searched(&self) -> Result<Vec<PathBuf>, DirectoryError> {
        match self {
            Self::Own(path) => {
                // One that is not there has no instances.
                if path.symlink_metadata().is_ok() {
                    PrivateDir::check_own(path)?;
                }
                Ok(vec![path.clone()])
            }
            Self::Given(path) if rustix::process::geteuid().is_root() => {
                let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
                let mut below: Vec<_> = entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .filter(|entry| is_of_a_user(&entry.path()))
                    .map(|entry| entry.path())
                    .collect();
                below.sort();
                Ok([vec![path.clone()], below].concat())
            }
            Self::Given(path) => Ok(vec![path.clone(), below(path)]),
        }
    }
}

/// Whether a directory is the one that an instance of its owner makes.
fn is_of_a_user(path: &Path) -> bool {
    let named = path.file_name().and_then(std::ffi::OsStr::to_str);
    let user = named.and_then(|name| name.strip_prefix("handover-")?.parse::<u32>().ok());
    let owner = path.symlink_metadata().ok().map(|found| found.uid());
    user.is_some() && user == owner
}

fn default_directory() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return "/run/handover".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("handover"),
        None => tempfile::env::temp_dir().join(format!("envoy-base-ids-{}", user.as_raw())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_directory as directory;

    fn given(path: &Path) -> Directory {
        Directory::Given(path.to_owned())
    }

    fn named(name: &str) -> ControlArgs {
        ControlArgs {
            name: Some(name.parse().unwrap()),
            socket: None,
        }
    }

    #[test]
    fn without_flags_there_is_a_socket_if_there_can_be_one() {
        let dir = directory();
        let any = ControlArgs::default();
        let first = Instance::open(&any, &given(dir.path())).unwrap();
        assert_eq!(first.name, Name::of_process(std::process::id()));
        assert!(first.socket.is_some());
        // As one in another container would find it.
        let second = Instance::open(&any, &given(dir.path())).unwrap();
        assert!(second.socket.is_none());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let without = Instance::open(&any, &given(&file.join("below"))).unwrap();
        assert!(without.socket.is_none());
    }

    #[test]
    fn a_name_that_was_asked_for_is_had_or_the_reason_told() {
        let dir = directory();
        let path = dir.path().join("made").join("web.sock");
        let first = Instance::open(&named("web"), &given(path.parent().unwrap())).unwrap();
        assert_eq!(first.socket.as_ref().unwrap().path(), path);
        let taken = Instance::open(&named("web"), &given(path.parent().unwrap())).unwrap_err();
        assert_eq!(taken.code, ExitCode::UNAVAILABLE, "{taken}");
        let impossible = Instance::open(&named("web"), &given(&path)).unwrap_err();
        assert_eq!(impossible.code, ExitCode::OS, "{impossible}");
    }

    #[test]
    fn an_instance_is_called_as_it_was_told_or_as_its_socket() {
        let dir = directory();
        let at = |name: &str, socket: SocketPath| {
            let mut args = named(name);
            args.socket = Some(socket);
            args
        };
        let path = SocketPath::Path(dir.path().join("file.sock"));
        let mut unnamed = at("x", path.clone());
        unnamed.name = None;
        let instance = Instance::open(&unnamed, &given(dir.path())).unwrap();
        assert_eq!(instance.name.to_string(), "file");
        drop(instance);
        let instance = Instance::open(&at("web", path), &given(dir.path())).unwrap();
        assert_eq!(instance.name.to_string(), "web");
        let without = Instance::open(&at("web", SocketPath::None), &given(dir.path())).unwrap();
        assert!(without.socket.is_none());
    }

    #[test]
    fn where_others_can_write_there_is_a_directory_below_that_clients_find() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = directory();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let place = given(dir.path());
        assert_eq!(place.expected(), dir.path());
        let web = Instance::open(&named("web"), &place).unwrap();
        let path = web.socket.as_ref().unwrap().path();
        assert_eq!(path, below(dir.path()).join("web.sock"));
        assert_eq!(place.expected(), below(dir.path()));
        assert!(place.searched().unwrap().contains(&below(dir.path())));
    }

    #[test]
    fn a_directory_of_our_name_that_is_somebody_elses_has_no_instances() {
        let dir = directory();
        let path = dir.path().join("own");
        let own = Directory::Own(path.clone());
        assert_eq!(own.searched().unwrap(), std::slice::from_ref(&path));
        std::os::unix::fs::symlink(dir.path(), &path).unwrap();
        let refused = own.searched().unwrap_err().to_string();
        assert!(refused.contains("it is a symbolic link"), "{refused}");
        assert!(own.make().is_err());
        let instance = Instance::open(&ControlArgs::default(), &own).unwrap();
        assert!(instance.socket.is_none());
    }
}
