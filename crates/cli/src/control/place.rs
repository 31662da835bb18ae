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
    /// When a socket that was asked for, by name or by path, cannot be made or is another
    /// instance's. One that nobody has asked for is done without, with a warning.
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
            // Taken ones too: where containers share the directory, each has a process 1.
            Err(error) if args.name.is_none() && args.socket.is_none() => {
                tracing::warn!("there is no control socket: {error:#}");
                Ok(Self { name, socket: None })
            }
            Err(error) if is_taken(&error) => Err(Fatal::new(ExitCode::UNAVAILABLE, error)),
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
        None => tempfile::env::temp_dir().join(format!("envoy-base-ids-{}", user.as_raw())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_directory as directory;

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
        let first = Instance::open(&any, dir.path()).unwrap();
        assert_eq!(first.name, Name::of_process(std::process::id()));
        assert!(first.socket.is_some());
        // As one in another container would find it.
        let second = Instance::open(&any, dir.path()).unwrap();
        assert!(second.socket.is_none());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let without = Instance::open(&any, &file.join("below")).unwrap();
        assert!(without.socket.is_none());
    }

    #[test]
    fn a_name_that_was_asked_for_is_had_or_the_reason_told() {
        let dir = directory();
        let path = dir.path().join("made").join("web.sock");
        let first = Instance::open(&named("web"), path.parent().unwrap()).unwrap();
        assert_eq!(first.socket.as_ref().unwrap().path(), path);
        let taken = Instance::open(&named("web"), path.parent().unwrap()).unwrap_err();
        assert_eq!(taken.code, ExitCode::UNAVAILABLE, "{taken}");
        let impossible = Instance::open(&named("web"), &path).unwrap_err();
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
        let instance = Instance::open(&unnamed, dir.path()).unwrap();
        assert_eq!(instance.name.to_string(), "file");
        drop(instance);
        let instance = Instance::open(&at("web", path), dir.path()).unwrap();
        assert_eq!(instance.name.to_string(), "web");
        let without = Instance::open(&at("web", SocketPath::None), dir.path()).unwrap();
        assert!(without.socket.is_none());
    }
}
