//! The control socket: the flags of those who have one, and the commands that speak to it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::duration;
use crate::control::Name;

/// How this instance is spoken to.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Control socket")]
pub(crate) struct ControlArgs {
    /// The name by which `handover status` and others find this instance; without it that of the
    /// socket's file, or `pid-` and the process id.
    #[arg(long, value_name = "NAME", env = "HANDOVER_NAME")]
    pub(crate) name: Option<Name>,

    /// The control socket: a path, or `none`. Without it NAME.sock in /run/handover for root, in a
    /// directory of the user's own for others, and where there is a --lock-dir, in that.
    #[arg(long, value_name = "PATH", env = "HANDOVER_SOCKET")]
    pub(crate) socket: Option<SocketPath>,
}

/// Where a socket is, if there is to be one.
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

/// Which instance is meant.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which instance")]
pub(crate) struct TargetArgs {
    /// The instance of this name; `HANDOVER_NAME` without the flag.
    #[arg(long, value_name = "NAME", conflicts_with = "socket")]
    pub(crate) name: Option<Name>,

    /// The instance with this control socket; `HANDOVER_SOCKET` without the flag. A flag wins over
    /// both variables. With none of them, the only instance that runs is meant.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// The directory in which instances are looked for, where `run` was given one.
    #[arg(long, value_name = "DIR", env = "HANDOVER_LOCK_DIR")]
    pub(crate) lock_dir: Option<PathBuf>,
}

/// Show what a running instance does.
///
/// Ready means that an epoch serves traffic. That it serves what the files ask for is said beside
/// it, and if not, why. The exit code tells whether it is ready.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = STATUS_EXIT_CODES)]
pub(crate) struct StatusArgs {
    /// Print the whole answer as JSON; docs/control.md describes it.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Start the next epoch of a running instance, as HUP does.
///
/// The files are read again, and the next epoch is started even if nothing has changed.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct ReloadArgs {
    /// Wait until the configuration is live. If it is rejected or given up, end with 65, the reason
    /// and the last lines of the process.
    #[arg(long)]
    pub(crate) wait: bool,

    /// Do not wait until old epochs have finished, where --max-epochs would. Envoy ends the oldest
    /// one then; what that cuts is told.
    #[arg(long)]
    pub(crate) now: bool,

    /// End every epoch, and start again with epoch 0: connections are cut, and new ones refused
    /// meanwhile. For what no hot restart can do.
    #[arg(long, conflicts_with_all = ["now", "if_changed"])]
    pub(crate) cold: bool,

    /// Start no epoch if the files hold what was asked for already. With --wait it still waits until
    /// that is live.
    #[arg(long)]
    pub(crate) if_changed: bool,

    #[command(flatten)]
    pub(crate) timeout: TimeoutArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Make the health checks of Envoy fail, so that load balancers send nobody here.
///
/// Envoy asks each client to close with its next answer, and goes on accepting. A later epoch is
/// drained as well, until `handover undrain`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct DrainArgs {
    /// Wait until no client has a connection. When time is up, end with 75 and tell who has.
    #[arg(long)]
    pub(crate) wait: bool,

    #[command(flatten)]
    pub(crate) timeout: TimeoutArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Take a drain back: health checks succeed again.
///
/// It takes back no stop that has begun.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct UndrainArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Drain a running instance and end it, as TERM does.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct StopArgs {
    /// Skip the drain, as a second TERM does.
    #[arg(long)]
    pub(crate) now: bool,

    /// Wait until every epoch has ended.
    #[arg(long)]
    pub(crate) wait: bool,

    #[command(flatten)]
    pub(crate) timeout: TimeoutArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// How long to wait.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct TimeoutArgs {
    /// How long --wait waits at most; 60s unless given.
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
   0  it is ready
  64  the command line is wrong
  69  there is no such instance
  75  it is not ready, or did not answer in time";

const EXIT_CODES: &str = "\
Exit codes:
   0  it was done
  64  the command line is wrong
  65  the configuration was rejected, or given up
  69  there is no such instance, or it cannot or will not do that
  75  time was up";
