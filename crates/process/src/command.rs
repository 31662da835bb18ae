//! Describing a child and starting it.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handover_runtime::offload::{OffloadError, offload};
use tokio::sync::oneshot;

use super::become_user::Become;
use super::child::Child;
use super::error::SpawnError;
use super::launch::{Descriptors, Failure, Prepared, Step};
use super::lookup;
use super::memory::Guard;
use super::output::{OutputSink, Source};
use super::pump::{Output, Pipe};
use super::run_as::RunAs;
use super::signal::Signal;
use super::spawner::{Answer, Order, Spawner};
use super::working_directory;

/// Describes a child: the program, its surroundings, and what it is handed.
///
/// One `Command` starts one child. What the child gets is exactly what is said here, whatever the
/// supervisor itself was started with:
///
/// - its own process group, signal mask empty, every signal at its default action;
/// - an empty standard input: `/dev/null`, or a pipe where there is no such device;
/// - descriptors 0 to 2 and those passed here, no other;
/// - the supervisor's environment, changed as told, and without the variables that speak to the
///   supervisor alone: `LISTEN_FDS`, `LISTEN_FDNAMES`, `LISTEN_PID`, `LISTEN_PIDFDID`,
///   `NOTIFY_SOCKET`, `READY_FD`, `WATCHDOG_PID`, `WATCHDOG_USEC`, `RESTART_EPOCH`;
/// - a parent-death signal, see [`Command::death_signal`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover_process::{Command, ExitCause, Line};
///
/// let child = Command::new("sh")
///     .args(["-c", "echo serving; exit 3"])
///     .epoch(0)
///     .output(|line: &Line<'_>| {
///         println!("[{}] {}", line.source.pid, String::from_utf8_lossy(line.bytes));
///     })
///     .spawn()
///     .await?;
/// assert_eq!(child.wait().await?, ExitCause::Code(3));
/// # Ok(())
/// # }
/// ```
#[must_use = "a command does nothing until it is spawned"]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    clear_environment: bool,
    variables: BTreeMap<OsString, Option<OsString>>,
    working_directory: Option<PathBuf>,
    sockets: Vec<(String, OwnedFd)>,
    descriptors: Vec<(RawFd, OwnedFd)>,
    epoch: Option<u32>,
    label: Option<Arc<str>>,
    death_signal: Option<Signal>,
    run_as: RunAs,
    open_files: Option<u64>,
    sweep_group: bool,
    sink: Option<Arc<dyn OutputSink>>,
    /// The process that runs on beside the child.
    beside: Option<(u32, Guard)>,
}

/// Variables by which the supervisor's own parent speaks to the supervisor. A child that found them
/// would answer in the supervisor's name.
const FOR_THE_SUPERVISOR: [&str; 9] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "READY_FD",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "RESTART_EPOCH",
];

/// The number of the first passed socket, fixed by the `LISTEN_FDS` convention.
const FIRST_SOCKET: RawFd = 3;

impl Command {
    /// Makes a command for `program`: a path if it has a slash, otherwise a name to search in `PATH`.
    ///
    /// The `PATH` is the child's, if one is set with [`Command::env`], as a shell would do it. A
    /// relative path counts from the supervisor's working directory, or from the one of
    /// [`follow_working_directory`](super::follow_working_directory).
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            clear_environment: false,
            variables: BTreeMap::new(),
            working_directory: None,
            sockets: Vec::new(),
            descriptors: Vec::new(),
            epoch: None,
            label: None,
            death_signal: Some(Signal::TERM),
            run_as: RunAs::new(),
            open_files: None,
            sweep_group: false,
            sink: None,
            beside: None,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    ///
    /// `LISTEN_FDS`, `LISTEN_FDNAMES`, `LISTEN_PID` and `RESTART_EPOCH` are overwritten where
    /// [`Command::socket`] or [`Command::epoch`] is used.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), Some(value.into()));
        self
    }

    /// Takes a variable away.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), None);
        self
    }

    /// Takes every variable away: the supervisor's and those set so far.
    pub fn env_clear(mut self) -> Self {
        self.clear_environment = true;
        self.variables.clear();
        self
    }

    /// Sets the working directory; without it, the child has the supervisor's, or the one of
    /// [`follow_working_directory`](super::follow_working_directory).
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.working_directory = Some(directory.into());
        self
    }

    /// Passes a socket by the `LISTEN_FDS` convention: the first one is descriptor 3 in the child.
    ///
    /// The child finds the number of sockets in `LISTEN_FDS`, their names, joined by colons, in
    /// `LISTEN_FDNAMES`, and its own process id in `LISTEN_PID`. The socket itself is shared, so
    /// whether it blocks is common to all who have it.
    pub fn socket(mut self, name: impl Into<String>, socket: impl Into<OwnedFd>) -> Self {
        self.sockets.push((name.into(), socket.into()));
        self
    }

    /// Passes a descriptor under this number, for instance the end of a
    /// [`ReadyPipe`](super::ready::ReadyPipe).
    ///
    /// The number must be above the standard streams and the passed sockets, and below the limit
    /// of open files.
    pub fn descriptor(mut self, number: RawFd, descriptor: impl Into<OwnedFd>) -> Self {
        self.descriptors.push((number, descriptor.into()));
        self
    }

    /// Sets `RESTART_EPOCH` and marks the output with the epoch.
    pub fn epoch(mut self, epoch: u32) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Sets the label of the output; without it, the program's file name is used.
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets the signal the kernel sends to the child when the supervisor dies, however it dies.
    /// SIGTERM unless set; `None` lets the child live on.
    ///
    /// The kernel forgets the signal if the program is set-user-ID, set-group-ID, or has file
    /// capabilities. It reaches the child only, not the processes that the child has started.
    pub fn death_signal(mut self, signal: impl Into<Option<Signal>>) -> Self {
        self.death_signal = signal.into();
        self
    }

    /// Sets the user, the groups and the capabilities of the child. Without it, it has the supervisor's.
    ///
    /// The user owns the pipes of [`Command::output`], so that the child can open `/dev/stdout`. The
    /// program is looked up with the rights of the supervisor, and executed with those of the user.
    pub fn run_as(mut self, run_as: RunAs) -> Self {
        self.run_as = run_as;
        self
    }

    /// Sets the soft limit of open files (`RLIMIT_NOFILE`) of the child. A number above the hard limit
    /// stands for the hard limit, which stays as it is.
    pub fn open_files(mut self, soft_limit: impl Into<Option<u64>>) -> Self {
        self.open_files = soft_limit.into();
        self
    }

    /// Sets whether SIGKILL ends what is left of the child's process group once the child itself has
    /// ended. Off unless set; [`Child::stop`] and dropping a [`Child`] turn it on.
    pub fn kill_group_at_end(mut self, kill: bool) -> Self {
        self.sweep_group = kill;
        self
    }

    /// Forwards the output line by line, and keeps the last lines for [`Child::stderr_tail`] and
    /// [`Child::stdout_tail`]. Without a sink, the child writes to the supervisor's own streams.
    pub fn output(mut self, sink: impl OutputSink + 'static) -> Self {
        self.sink = Some(Arc::new(sink));
        self
    }

    /// Forwards the output as [`Command::output`] does, to a sink that several children share.
    pub fn shared_output(mut self, sink: Arc<dyn OutputSink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Looks, right before the start, whether the child fits into memory beside a running process that is
    /// like it. Without it nobody looks.
    pub fn beside(mut self, running: u32, guard: Guard) -> Self {
        self.beside = Some((running, guard));
        self
    }

    /// Starts the child and returns once it executes the program.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] names what is wrong. No process is left behind then.
    ///
    /// # Panics
    ///
    /// In a tokio runtime without its I/O driver.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped early, no child is left: one that was being made is killed and
    /// collected, and one that was not begun is never made.
    pub async fn spawn(self) -> Result<Child, SpawnError> {
        let program = self.program.clone();
        let (answer, launched) = oneshot::channel();
        // All on one other thread, which orders the child as well: each change of threads costs some
        // hundredths of a millisecond of the time without a server.
        let Ordered {
            path,
            working_directory,
            user,
            output,
        } = match offload(move || self.order_child(answer)).await {
            Ok(ordered) => ordered?,
            Err(OffloadError::NoThread(source)) => return Err(SpawnError::Thread(source)),
            Err(source) => {
                return Err(SpawnError::NotLookedUp {
                    program: program.to_string_lossy().into_owned(),
                    source,
                });
            }
        };
        let running = match launched.await.map_err(|_| SpawnError::NoAnswer)? {
            Ok(running) => running,
            Err(failure) => {
                // It may look at the program once more.
                let explained = offload(move || explain(failure, path, working_directory, user));
                return Err(explained.await.unwrap_or(SpawnError::NoAnswer));
            }
        };
        let output = match output {
            Some(output) => Some(output.start(running.slot().pid())?),
            None => None,
        };
        Child::new(running, output).map_err(SpawnError::Runtime)
    }

    /// Looks the program up, prepares all that the child gets, and asks for it. It blocks: the program may
    /// lie on a file system that takes its time.
    fn order_child(mut self, answer: Answer) -> Result<Ordered, SpawnError> {
        if let Some((running, guard)) = self.beside {
            guard.look_here(running).map_err(SpawnError::NoMemory)?;
        }
        let environment = self.environment()?;
        let search = environment.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let followed = working_directory::followed();
        let path = lookup::find(&self.program, search, followed)?;
        if self.working_directory.is_none() {
            self.working_directory = followed.map(Path::to_owned);
        }
        let (writers, output) = match self.sink.take() {
            Some(sink) => {
                let (stdout, stderr) = (pipe()?, pipe()?);
                for pipe in [&stdout, &stderr] {
                    self.run_as.own(&pipe.writer).map_err(SpawnError::Output)?;
                }
                let output = Unread {
                    stdout: stdout.reader,
                    stderr: stderr.reader,
                    label: self.label.clone().unwrap_or_else(|| file_name(&path)),
                    epoch: self.epoch,
                    sink,
                };
                (vec![(stdout.writer, 1), (stderr.writer, 2)], Some(output))
            }
            None => (Vec::new(), None),
        };
        let ordered = Ordered {
            path: path.clone(),
            working_directory: self.working_directory.clone(),
            user: self.run_as.user_id(),
            output,
        };
        let order = self.order(&path, environment, writers)?;
        let spawner = Spawner::get().map_err(|error| SpawnError::Thread(error.into()))?;
        spawner.launch(order, answer);
        Ok(ordered)
    }

    /// The child's variables but for `LISTEN_PID`, sorted by name.
    fn environment(&self) -> Result<BTreeMap<OsString, OsString>, SpawnError> {
        let mut environment = BTreeMap::new();
        if !self.clear_environment {
            environment.extend(std::env::vars_os());
            for name in FOR_THE_SUPERVISOR {
                environment.remove(OsStr::new(name));
            }
        }
        for (name, value) in &self.variables {
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(SpawnError::VariableName {
                    name: name.to_string_lossy().into_owned(),
                });
            }
            match value {
                Some(value) => environment.insert(name.clone(), value.clone()),
                None => environment.remove(name),
            };
        }
        if !self.sockets.is_empty() {
            for (name, _) in &self.sockets {
                check_socket_name(name)?;
            }
            let names: Vec<&str> = self.sockets.iter().map(|(name, _)| &**name).collect();
            environment.insert("LISTEN_FDS".into(), names.len().to_string().into());
            environment.insert("LISTEN_FDNAMES".into(), names.join(":").into());
            environment.remove(OsStr::new("LISTEN_PID"));
        }
        if let Some(epoch) = self.epoch {
            environment.insert("RESTART_EPOCH".into(), epoch.to_string().into());
        }
        Ok(environment)
    }

    fn order(
        self,
        path: &Path,
        environment: BTreeMap<OsString, OsString>,
        writers: Vec<(OwnedFd, RawFd)>,
    ) -> Result<Order, SpawnError> {
        let mut arguments = vec![c_string(self.program, || "the program's name".into())?];
        for (index, argument) in self.arguments.into_iter().enumerate() {
            arguments.push(c_string(argument, || format!("argument {}", index + 1))?);
        }
        let mut variables = Vec::with_capacity(environment.len());
        for (name, value) in environment {
            let what = || format!("the variable `{}`", name.to_string_lossy());
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            variables.push(c_string(entry, what)?);
        }
        let tell_listen_pid = !self.sockets.is_empty();
        let wanted = descriptors(writers, self.sockets, self.descriptors)?;
        Ok(Order {
            prepared: Prepared {
                program: c_string(path.into(), || "the program's path".into())?,
                arguments,
                environment: variables,
                working_directory: self
                    .working_directory
                    .map(|path| c_string(path.into(), || "the working directory".into()))
                    .transpose()?,
                tell_listen_pid,
                descriptors: Descriptors::new(wanted)
                    .map_err(|(target, source)| SpawnError::PassFd { target, source })?,
                death_signal: self.death_signal.map_or(0, Signal::number),
                identity: Become {
                    open_files: self.open_files,
                    steps: self.run_as.steps(),
                },
            },
            sweep_group: self.sweep_group,
        })
    }
}

/// What is needed once the child was asked for.
struct Ordered {
    path: PathBuf,
    working_directory: Option<PathBuf>,
    /// The user that the child becomes.
    user: Option<u32>,
    /// What it will write, if that is forwarded.
    output: Option<Unread>,
}

/// The output of a child that is being made.
struct Unread {
    stdout: OwnedFd,
    stderr: OwnedFd,
    label: Arc<str>,
    epoch: Option<u32>,
    sink: Arc<dyn OutputSink>,
}

impl Unread {
    fn start(self, pid: u32) -> Result<Output, SpawnError> {
        let source = Source {
            pid,
            epoch: self.epoch,
            label: self.label,
        };
        let started = Output::start(self.stdout, self.stderr, source, &self.sink);
        started.map_err(SpawnError::Runtime)
    }
}

/// Opens an input that is at its end: the null device, or a pipe that nobody writes to. An image may be without devices, and
/// a file can be in the place of this one.
fn empty_input(null: &Path) -> io::Result<OwnedFd> {
    match File::open(null) {
        Ok(file) if is_device(&file) => Ok(file.into()),
        Ok(_) | Err(_) => {
            let (reader, _writer) = io::pipe()?;
            Ok(reader.into())
        }
    }
}

fn is_device(file: &File) -> bool {
    let metadata = file.metadata();
    metadata.is_ok_and(|metadata| metadata.file_type().is_char_device())
}

/// Everything the child gets, with its number in the child.
fn descriptors(
    writers: Vec<(OwnedFd, RawFd)>,
    sockets: Vec<(String, OwnedFd)>,
    others: Vec<(RawFd, OwnedFd)>,
) -> Result<Vec<(OwnedFd, RawFd)>, SpawnError> {
    let input = empty_input("/dev/null".as_ref())
        .map_err(|source| SpawnError::PassFd { target: 0, source })?;
    let mut wanted = writers;
    wanted.push((input, 0));
    let count = sockets.len();
    wanted.extend(
        sockets
            .into_iter()
            .zip(FIRST_SOCKET..)
            .map(|((_, socket), target)| (socket, target)),
    );
    for (target, descriptor) in others {
        let free = usize::try_from(target).is_ok_and(|number| number >= 3 + count);
        if !free || wanted.iter().any(|(_, taken)| *taken == target) {
            return Err(SpawnError::FdTaken {
                target,
                sockets: count,
            });
        }
        wanted.push((descriptor, target));
    }
    Ok(wanted)
}

/// Gives each failure the name by which a person can mend it.
///
/// `user` is the user that the child becomes.
fn explain(
    failure: Failure,
    path: PathBuf,
    directory: Option<PathBuf>,
    user: Option<u32>,
) -> SpawnError {
    let (step, source) = match failure {
        Failure::Fork(source) => return SpawnError::Fork(source.into()),
        Failure::Step(step, source) => (step, source),
    };
    let setup = |step, source| SpawnError::Setup { step, source };
    let run_as = |step, source| SpawnError::RunAs { step, source };
    match step {
        Step::DeathSignal => setup("setting its parent-death signal", source),
        Step::ProcessGroup => setup("putting it into its own process group", source),
        Step::Descriptors => setup("putting its descriptors in place", source),
        Step::SignalMask => setup("resetting its signals", source),
        Step::OpenFiles => setup("setting its limit of open files", source),
        Step::Groups => run_as("set its groups", source),
        Step::Group => run_as("change its group", source),
        Step::User => run_as("change its user", source),
        Step::Capabilities => run_as("choose its capabilities", source),
        Step::AmbientCapabilities => run_as("keep its capabilities", source),
        Step::WorkingDirectory => SpawnError::WorkingDirectory {
            path: directory.unwrap_or_default(),
            source,
        },
        Step::Exec => match source.raw_os_error() {
            Some(libc::ENOEXEC) => SpawnError::ExecFormat { path },
            // The lookup has just seen the file itself.
            Some(libc::ENOENT) if path.exists() => SpawnError::InterpreterMissing { path },
            Some(libc::ENOENT) => SpawnError::NotFound { path },
            Some(libc::EACCES) => match user {
                Some(user) => SpawnError::NotExecutableBy { path, user },
                None => SpawnError::NotExecutable { path },
            },
            Some(libc::ETXTBSY) => SpawnError::Busy { path },
            Some(libc::E2BIG) => SpawnError::ArgumentsTooLong { path },
            _ => SpawnError::Exec { path, source },
        },
    }
}

fn pipe() -> Result<Pipe, SpawnError> {
    Pipe::new().map_err(|errno| SpawnError::Pipe(io::Error::from(errno)))
}

fn file_name(path: &Path) -> Arc<str> {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into()
}

fn c_string(text: OsString, what: impl FnOnce() -> String) -> Result<CString, SpawnError> {
    CString::new(text.into_vec()).map_err(|_| SpawnError::NulByte { what: what() })
}

/// The rule of `sd_listen_fds_with_names`, whose readers split at colons.
fn check_socket_name(name: &str) -> Result<(), SpawnError> {
    let fits = (1..=255).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b':');
    if fits {
        Ok(())
    } else {
        Err(SpawnError::SocketName { name: name.into() })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_input_is_empty_also_without_a_null_device_and_with_a_file_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("null");
        std::fs::write(&file, "not empty").unwrap();
        for null in [Path::new("/dev/null"), &file, &dir.path().join("none")] {
            let mut read = String::new();
            let mut input = File::from(empty_input(null).unwrap());
            input.read_to_string(&mut read).unwrap();
            assert_eq!(read, "", "{}", null.display());
        }
    }

    #[test]
    fn a_program_that_is_gone_or_forbidden_when_it_is_executed_is_named() {
        let explained = |errno, path: &str| {
            let source = io::Error::from_raw_os_error(errno);
            explain(Failure::Step(Step::Exec, source), path.into(), None, None)
        };
        let gone = explained(libc::ENOENT, "/no/such/program");
        assert!(matches!(gone, SpawnError::NotFound { .. }), "{gone}");
        let there = explained(libc::ENOENT, "/");
        assert!(
            matches!(there, SpawnError::InterpreterMissing { .. }),
            "{there}"
        );
        let forbidden = explained(libc::EACCES, "/no/such/program");
        assert!(
            matches!(forbidden, SpawnError::NotExecutable { .. }),
            "{forbidden}"
        );
    }
}
