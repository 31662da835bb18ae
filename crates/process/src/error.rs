//! What can go wrong with a child, one enum per operation.

use std::io;
use std::path::PathBuf;

use handover_runtime::StartError;
use handover_runtime::offload::OffloadError;

use super::memory::MemoryShort;

/// Why a child was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No directory of `PATH` holds a program of this name.
    #[error(
        "`{program}` was not found in PATH ({path}): install it, or name it with its full path"
    )]
    NotInPath {
        /// The name that was searched.
        program: String,
        /// The value of `PATH` that was searched.
        path: String,
    },
    /// It does not fit into memory beside the process of [`Command::beside`](super::Command::beside).
    #[error("there is no room in memory for another process")]
    NoMemory(#[source] MemoryShort),
    /// The program was named with a path, and nothing is there.
    #[error("there is no program at `{}`", path.display())]
    NotFound {
        /// The path as it was resolved.
        path: PathBuf,
    },
    /// The path leads to a directory.
    #[error("`{}` is a directory, not a program", path.display())]
    IsDirectory {
        /// The path as it was resolved.
        path: PathBuf,
    },
    /// The file is there but may not be executed.
    #[error("`{}` may not be executed: set its execute permission (chmod +x)", path.display())]
    NotExecutable {
        /// The path as it was resolved.
        path: PathBuf,
    },
    /// The user of the child may not execute the file.
    #[error(
        "user {user} may not execute `{}`: let it pass the directories above, and read and execute the file",
        path.display()
    )]
    NotExecutableBy {
        /// The path as it was resolved.
        path: PathBuf,
        /// The number of the user.
        user: u32,
    },
    /// The path cannot be looked at, for instance because of a symlink loop.
    #[error("could not examine `{}`", path.display())]
    Lookup {
        /// The path as it was resolved.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The program was named with a relative path, and the working directory has no path: it was removed.
    #[error(
        "`{program}` counts from the working directory, which was removed: start from a directory that stays, or name \
         the program with its full path"
    )]
    NoDirectory {
        /// The relative path.
        program: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// No thread could look the program up.
    #[error("could not look the program `{program}` up")]
    NotLookedUp {
        /// The name or the path of the program.
        program: String,
        /// The error behind this one.
        #[source]
        source: OffloadError,
    },
    /// The file is neither a program for this machine nor a script with a `#!` line.
    #[error(
        "`{}` is not a program this machine can run: it is built for another one, or it is a script without a `#!` line",
        path.display()
    )]
    ExecFormat {
        /// The path as it was resolved.
        path: PathBuf,
    },
    /// The file is there, but not the interpreter or dynamic loader it asks for.
    #[error("`{}` needs an interpreter or dynamic loader that does not exist: install it", path.display())]
    InterpreterMissing {
        /// The path as it was resolved.
        path: PathBuf,
    },
    /// Some process has the program file open for writing.
    #[error("`{}` is being written: try again once the copy is complete", path.display())]
    Busy {
        /// The path as it was resolved.
        path: PathBuf,
    },
    /// Arguments and environment exceed the kernel's limit.
    #[error("the arguments and the environment of `{}` are longer than the kernel allows", path.display())]
    ArgumentsTooLong {
        /// The path as it was resolved.
        path: PathBuf,
    },
    /// The kernel refused to execute the program for some other reason.
    #[error("could not execute `{}`", path.display())]
    Exec {
        /// The path as it was resolved.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The working directory cannot be entered.
    #[error("could not enter the working directory `{}`", path.display())]
    WorkingDirectory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// An argument, a variable or a path holds a NUL byte, which no program can be given.
    #[error("{what} holds a NUL byte")]
    NulByte {
        /// What holds it.
        what: String,
    },
    /// A variable name is empty or holds `=`.
    #[error(
        "`{name}` cannot be the name of an environment variable: use a name without `=` and NUL"
    )]
    VariableName {
        /// The name.
        name: String,
    },
    /// A socket's name cannot be written into `LISTEN_FDNAMES`.
    #[error(
        "`{name}` cannot be a socket's name: use 1 to 255 printable ASCII characters without `:`"
    )]
    SocketName {
        /// The name.
        name: String,
    },
    /// A descriptor was to appear in the child at a number that is taken or reserved.
    #[error(
        "descriptor {target} cannot be passed: 0 to 2 are the standard streams and the next {sockets} are the listening sockets; each number is used once"
    )]
    FdTaken {
        /// The number wanted in the child.
        target: i32,
        /// How many listening sockets are passed, from 3 on.
        sockets: usize,
    },
    /// A descriptor could not be prepared for the child.
    #[error(
        "could not prepare descriptor {target} for the child (is the limit of open files reached?)"
    )]
    PassFd {
        /// The number wanted in the child.
        target: i32,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The pipes for the child's output could not be made.
    #[error("could not create the pipes for the output (is the limit of open files reached?)")]
    Pipe(#[source] io::Error),
    /// The pipes for the child's output could not be given to the user of the child.
    #[error("could not give the pipes for the output to the user of the new process")]
    Output(#[source] io::Error),
    /// The child cannot get its user, its groups or its capabilities.
    #[error(
        "could not {step} in the new process: run the supervisor as root, or with the capabilities that this needs"
    )]
    RunAs {
        /// The step that failed.
        step: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The thread that starts children could not be started.
    #[error(
        "could not start the thread that starts children (is the limit of processes, of open files or of memory reached?)"
    )]
    Thread(#[source] StartError),
    /// The kernel made no new process.
    #[error(
        "could not create a process (is a limit reached: of processes, RLIMIT_NPROC or pids.max of the control group, of open files, RLIMIT_NOFILE, or of memory?)"
    )]
    Fork(#[source] StartError),
    /// A step between the making of the process and its program failed.
    #[error("could not prepare the new process: {step}")]
    Setup {
        /// The step that failed.
        step: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The thread that starts children gave no answer.
    #[error("the thread that starts children gave no answer")]
    NoAnswer,
    /// The tokio runtime cannot watch the child.
    #[error("the tokio runtime cannot watch the child")]
    Runtime(#[source] io::Error),
}

impl SpawnError {
    /// Returns whether trying again cannot help unless somebody changes the command or the file system.
    ///
    /// A full process table or a program that is just being copied are worth a retry, a missing
    /// program is not.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NotInPath { .. }
            | Self::NotFound { .. }
            | Self::NoDirectory { .. }
            | Self::IsDirectory { .. }
            | Self::NotExecutable { .. }
            | Self::NotExecutableBy { .. }
            | Self::Output(_)
            | Self::RunAs { .. }
            | Self::ExecFormat { .. }
            | Self::InterpreterMissing { .. }
            | Self::ArgumentsTooLong { .. }
            | Self::WorkingDirectory { .. }
            | Self::NulByte { .. }
            | Self::VariableName { .. }
            | Self::SocketName { .. }
            | Self::FdTaken { .. } => true,
            Self::Lookup { .. }
            | Self::Busy { .. }
            | Self::Exec { .. }
            | Self::PassFd { .. }
            | Self::Pipe(_)
            | Self::NoMemory(_)
            | Self::NotLookedUp { .. }
            | Self::Thread(_)
            | Self::Fork(_)
            | Self::Setup { .. }
            | Self::NoAnswer
            | Self::Runtime(_) => false,
        }
    }
}

/// Why a child's end is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Something else in this process collected the child's status first.
    #[error("the exit status of process {pid} is unknown: other code in this program collected it")]
    Lost {
        /// The child's process id.
        pid: u32,
    },
    /// The tokio runtime is shutting down.
    #[error("the tokio runtime that watches process {pid} is shutting down")]
    Runtime {
        /// The child's process id.
        pid: u32,
        /// What tokio said.
        #[source]
        source: io::Error,
    },
}

/// Why a signal did not reach a child.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The child has ended, and its number may belong to somebody else.
    #[error("process {pid} has ended")]
    Ended {
        /// The child's process id.
        pid: u32,
    },
    /// The kernel refused, for instance because the child runs as another user.
    #[error("could not signal process {pid}")]
    Refused {
        /// The child's process id.
        pid: u32,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}
