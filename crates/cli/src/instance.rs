//! This instance, as clients find it: its name and its control socket, from the flags.

use handover_supervisor::control::{BindError, Directory, Name, Socket, sweep};

use crate::cli::control::{ControlArgs, SocketPath};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::supervised::Builder;

/// This instance, as clients know it.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: Name,
    /// Without one it takes no requests.
    pub(crate) socket: Option<Socket>,
}

impl Instance {
    /// Lets a supervisor be found so.
    pub(crate) fn control(self, supervisor: Builder) -> Builder {
        let supervisor = supervisor.name(self.name).exit_code(|ended| {
            let code = ExitCode::of_ended(ended);
            code.number()
        });
        match self.socket {
            Some(socket) => supervisor.control(socket),
            None => supervisor,
        }
    }

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn directory() -> tempfile::TempDir {
        let builder = tempfile::Builder::new().prefix("handover-").tempdir();
        builder.unwrap()
    }

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

        use handover_files::below;
        use handover_supervisor::control::{Selector, find};

        let dir = directory();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let place = given(dir.path());
        assert_eq!(place.expected(), dir.path());
        let web = Instance::open(&named("web"), &place).unwrap();
        let path = web.socket.as_ref().unwrap().path();
        assert_eq!(path, below(dir.path()).join("web.sock"));
        assert_eq!(place.expected(), below(dir.path()));
        let wanted = Selector::Name("web".parse().unwrap());
        assert_eq!(find(&wanted, &place).unwrap(), path);
    }
}
