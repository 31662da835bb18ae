//! Where the control socket of an instance is.

use std::path::{Path, PathBuf};

use handover_envoy::files::RunDir;

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
    /// When another instance has the name or the path, or when a socket that was asked for cannot be
    /// made. One that nobody has asked for is done without, with a warning.
    pub(crate) fn open(args: &ControlArgs, directory: &Path) -> Result<Self, Fatal> {
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
            Err(error) if is_taken(&error) => Err(Fatal::new(ExitCode::UNAVAILABLE, error)),
            Err(error) if args.name.is_none() && args.socket.is_none() => {
                tracing::warn!("there is no control socket: {error:#}");
                Ok(Self { name, socket: None })
            }
            Err(error) => Err(error).or_exit(ExitCode::OS),
        }
    }
}

fn in_directory(directory: &Path, name: &Name) -> anyhow::Result<Socket> {
    RunDir::create(directory)?;
    sweep(directory);
    Ok(Socket::bind(&directory.join(name.file()))?)
}

fn is_taken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(BindError::Taken { .. }))
}

/// Where the sockets of all instances of this user are, and the locks of their base ids. A
/// directory that others may write to would not do, so users do not share one; that the base ids of
/// other users are in use is seen by their sockets.
pub(crate) fn default_directory() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return "/run/handover".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("handover"),
        None => std::env::temp_dir().join(format!("envoy-base-ids-{}", user.as_raw())),
    }
}
