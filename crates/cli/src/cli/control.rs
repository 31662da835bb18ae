//! The control socket: the flags of `run` and `exec` that create one, and the commands that use it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use handover_supervisor::control::Name;
use handover_supervisor::control::wire::{Peers, Sort, Until};

use super::duration;

/// Where this instance takes requests.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Control socket")]
pub(crate) struct ControlArgs {
    /// The name of this instance, by which `handover status` and the like find it.
    ///
    /// Without it, the name is that of the socket's file, or `pid-PID`.
    #[arg(long, value_name = "NAME", env = "HANDOVER_NAME")]
    pub(crate) name: Option<Name>,

    /// The path of the control socket, or `none` for no socket.
    ///
    /// Without it, the socket is NAME.sock in --lock-dir. The default directory is /run/handover for
    /// root, and a private directory for other users.
    #[arg(long, value_name = "PATH", env = "HANDOVER_SOCKET")]
    pub(crate) socket: Option<SocketPath>,
}

/// The path of the socket, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SocketPath {
    None,
    Path(PathBuf),
}

impl SocketPath {
    /// The name by which an instance with this socket is found.
    pub(crate) fn name(&self) -> Option<Name> {
        match self {
            Self::None => None,
            Self::Path(path) => Name::of_file(path.file_name()?.to_str()?),
        }
    }
}

impl FromStr for SocketPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "" => Err("give a path, or `none`"),
            "none" => Ok(Self::None),
            path => Ok(Self::Path(path.into())),
        }
    }
}

/// The instance to ask.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Instance")]
pub(crate) struct TargetArgs {
    /// Ask the instance with this name. Without the flag, `HANDOVER_NAME` counts.
    #[arg(long, value_name = "NAME", conflicts_with = "socket")]
    pub(crate) name: Option<Name>,

    /// Ask the instance with this control socket. Without the flag, `HANDOVER_SOCKET` counts.
    ///
    /// A flag wins over both variables. Without --name, --socket and these variables, the command
    /// asks the only instance that runs.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Search this directory for instances. Give it if `run` was given a --lock-dir.
    #[arg(long, value_name = "DIR", env = "HANDOVER_LOCK_DIR")]
    pub(crate) lock_dir: Option<PathBuf>,
}

/// Show the state of a running instance.
///
/// Ready means that an epoch serves traffic. If it serves an older configuration than the files ask
/// for, the output says so and why. The exit code is 0 if the instance is ready, so the command can be
/// a health check.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = STATUS_EXIT_CODES)]
pub(crate) struct StatusArgs {
    /// Print the whole status as JSON. docs/control.md describes its fields.
    #[arg(long)]
    pub(crate) json: bool,

    /// Print one line that says whether the instance is ready or current. If it is not, end with 75.
    ///
    /// `current` asks for more than `ready`: what serves is what the files ask for.
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "json")]
    pub(crate) check: Option<CheckArg>,

    /// Show the status on the terminal as it changes, with a time line of the epochs, until `q` or Ctrl-C.
    ///
    /// The instance is asked once a second. If it does not answer, the screen says since when, and the
    /// command tries again. Without a terminal the command ends with 64.
    #[arg(long, conflicts_with_all = ["json", "check"])]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// What `status` can check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckArg {
    Ready,
    Current,
}

impl From<CheckArg> for Until {
    fn from(check: CheckArg) -> Self {
        match check {
            CheckArg::Ready => Self::Ready,
            CheckArg::Current => Self::Current,
        }
    }
}

/// Wait until a running instance, or one that has yet to start, is ready.
///
/// A script may start `handover run` in the background and wait in the next line. If the instance ends by
/// itself meanwhile, the command ends with its exit code and its reason. Files that were changed a moment
/// ago may not have been seen yet: then use `handover reload --if-changed --wait`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = WAIT_EXIT_CODES)]
pub(crate) struct WaitArgs {
    /// Wait until an epoch is seen to serve, as `handover status` says. This is the default.
    #[arg(long, conflicts_with_all = ["live", "current"])]
    pub(crate) ready: bool,

    /// Wait until an epoch is live, whether or not it is seen to listen.
    #[arg(long, conflicts_with = "current")]
    pub(crate) live: bool,

    /// Wait until the instance is ready, and what serves is what the files ask for.
    #[arg(long)]
    pub(crate) current: bool,

    /// The longest time to wait. Then the exit code is 75, and what is missing is printed.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

impl WaitArgs {
    /// What is waited for.
    pub(crate) fn until(&self) -> Until {
        match (self.live, self.current) {
            (true, _) => Until::Live,
            (false, true) => Until::Current,
            (false, false) => Until::Ready,
        }
    }
}

/// Read the files again and start the next epoch, as HUP does.
///
/// The next epoch starts even if nothing has changed, unless --if-changed is given.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = RELOAD_EXIT_CODES)]
pub(crate) struct ReloadArgs {
    /// Wait until the configuration is live.
    ///
    /// If it is rejected or given up, the exit code is 65. The reason and the last lines of the process
    /// are printed.
    #[arg(long)]
    pub(crate) wait: bool,

    /// Start the next epoch even if --max-epochs are running.
    ///
    /// Otherwise it waits until the oldest epoch has finished. Envoy ends its oldest epoch when a third
    /// one starts, and the command prints how many connections that cuts.
    #[arg(long)]
    pub(crate) now: bool,

    /// End every epoch, then start again with epoch 0. This cuts connections.
    ///
    /// New connections are refused until epoch 0 listens. Use it if no hot restart is possible, for
    /// example when `handover status` says so. `exec` does not have it.
    #[arg(long, conflicts_with_all = ["now", "if_changed"])]
    pub(crate) cold: bool,

    /// Start no epoch if the files have not changed since the last read.
    ///
    /// With --wait the command still waits until that configuration is live.
    #[arg(long)]
    pub(crate) if_changed: bool,

    /// With --wait: wait until the probation of the configuration is over as well.
    ///
    /// If the configuration is found unfit, the exit code is 65, and the evidence is printed.
    #[arg(long, requires = "wait")]
    pub(crate) through_probation: bool,

    #[command(flatten)]
    pub(crate) timeout: TimeoutArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Give a configuration to an instance, and wait until it is live.
///
/// The instance is one of `run --config-from socket`. Envoy validates the configuration first. If it is rejected
/// or given up, the exit code is 65, the reason is printed, and the older one serves on. Otherwise the instance
/// keeps it in its state directory, and runs it after a restart as well.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = APPLY_EXIT_CODES)]
pub(crate) struct ApplyArgs {
    /// The configuration as YAML or JSON, at most 64 MiB. `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Wait until the probation of the configuration is over as well.
    ///
    /// Without it, the command ends once the configuration is live. It is then kept when the probation is over.
    #[arg(long)]
    pub(crate) through_probation: bool,

    /// The longest time to wait. Then the exit code is 75, and the instance continues.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Make the health checks of Envoy fail, so that load balancers send no new clients.
///
/// Envoy still accepts connections, and asks each client to close with its next response. Later epochs
/// are drained as well, until `handover undrain`. An instance of `exec` does not support it.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = DRAIN_EXIT_CODES)]
pub(crate) struct DrainArgs {
    /// Wait until no client is connected. After --timeout, end with 75 and print the clients.
    #[arg(long)]
    pub(crate) wait: bool,

    #[command(flatten)]
    pub(crate) timeout: TimeoutArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Reverse a drain: the health checks of Envoy succeed again.
///
/// A stop that has begun cannot be reversed.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = UNDRAIN_EXIT_CODES)]
pub(crate) struct UndrainArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Drain a running instance, then end it, as TERM does.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = STOP_EXIT_CODES)]
pub(crate) struct StopArgs {
    /// Skip the drain, as a second TERM does. This cuts connections.
    #[arg(long)]
    pub(crate) now: bool,

    /// Wait until the instance has ended, and end with its exit code.
    #[arg(long)]
    pub(crate) wait: bool,

    #[command(flatten)]
    pub(crate) timeout: TimeoutArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// List the connections of clients by epoch, and close some of them.
///
/// One long connection can hold an old epoch, or a stop, for its whole drain time. The list shows the
/// peer, the listener, the least age, and the bytes from and to the client. Whatever cannot be seen is
/// reported as unknown.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = WHO_EXIT_CODES)]
pub(crate) struct WhoArgs {
    /// Close the connections of this peer, or of `all`, then list what is left.
    ///
    /// PEER is `IP`, `IP:PORT`, `[IPv6]:PORT`, or `pid:PID` for the client of a Unix socket. Without --epoch,
    /// only connections to epochs that are ending are closed.
    #[arg(long, value_name = "PEER|all")]
    pub(crate) end: Option<Peers>,

    /// List and close the connections of this epoch only. It may be the one that serves.
    #[arg(long, value_name = "EPOCH")]
    pub(crate) epoch: Option<u32>,

    /// Which connections come first: the oldest, or those with the most bytes.
    #[arg(long, value_enum, default_value_t = SortArg::Age)]
    pub(crate) sort: SortArg,

    /// The number of connections listed for each epoch, at most 1000 in all. The totals count every one.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub(crate) limit: usize,

    /// Print the answer as JSON. docs/who.md describes its fields.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// The order of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortArg {
    Age,
    Bytes,
}

impl From<SortArg> for Sort {
    fn from(sort: SortArg) -> Self {
        match sort {
            SortArg::Age => Self::Age,
            SortArg::Bytes => Self::Bytes,
        }
    }
}

/// The limit of --wait.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct TimeoutArgs {
    /// The longest time that --wait waits, 60s by default.
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

impl TimeoutArgs {
    pub(crate) fn limit(self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(60))
    }
}

const STATUS_EXIT_CODES: &str = "\
Exit codes:
   0  the instance is ready; with --check current, it is current as well
  64  the command line is wrong
  69  there is no such instance
  75  the instance is not ready, or did not answer in time";

const WAIT_EXIT_CODES: &str = "\
Exit codes:
   0  the condition holds
  64  the command line is wrong
  69  the instance is ending, is an older version, or has ended with 0
  75  time was up: what is missing is printed
  Otherwise the exit code of an instance that has ended meanwhile";

const RELOAD_EXIT_CODES: &str = "\
Exit codes:
   0  success; with --wait, the configuration is live
  64  the command line is wrong
  65  the configuration was rejected, given up, or found unfit on probation
  69  there is no such instance, it is ending, or it does not support this
  75  time was up; the reload continues";

const APPLY_EXIT_CODES: &str = "\
Exit codes:
   0  the configuration is live, and kept once its probation is over
  64  the command line is wrong
  65  the configuration was rejected, given up, or found unfit on probation;
      or it cannot be read
  69  there is no such instance, it is ending, takes no configuration,
      or cannot keep it
  75  time was up; the instance continues";

const DRAIN_EXIT_CODES: &str = "\
Exit codes:
   0  success
  64  the command line is wrong
  69  there is no such instance, it is ending, or it does not support this
  75  time was up; the drain continues";

const UNDRAIN_EXIT_CODES: &str = "\
Exit codes:
   0  success
  64  the command line is wrong
  69  there is no such instance, it is ending, or it does not support this
  75  the instance did not answer in time";

const WHO_EXIT_CODES: &str = "\
Exit codes:
   0  success; with --end, every connection that was meant is closed
  64  the command line is wrong
  69  there is no such instance or epoch; or a connection could not be closed,
      or the connections of an epoch that was meant are unknown
  75  a process still holds a closed connection, or time was up";

const STOP_EXIT_CODES: &str = "\
Exit codes:
   0  success; with --wait, the exit code of the instance
  64  the command line is wrong
  69  there is no such instance
  75  time was up; the stop continues";
