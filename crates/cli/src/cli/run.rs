//! `handover run` and `handover validate`.

mod envoy_flags;
mod group;
mod termination;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::control::ControlArgs;
use super::duration::{self, Limit};
use super::global::{LoggingArgs, WatchArgs};
use super::policy::PolicyArgs;

pub(crate) use envoy_flags::{EnvoyLogArgs, LocalAddress, NodeArgs};
pub(crate) use group::Group;
pub(crate) use termination::{ISTIO_VARIABLE, TerminationArgs};

/// Supervise Envoy: hot restart on every change of its configuration.
///
/// A changed configuration is validated, started as the next restart epoch, and takes over once the
/// admin endpoint says that it is live. A configuration that Envoy rejects never takes down the one
/// that serves. The configuration needs an `admin` block with an address; handover reads it there.
#[derive(Args, Clone, Debug)]
#[command(
    after_long_help = super::AFTER_HELP,
    override_usage = "handover run [OPTIONS] --config-path FILE [-- ENVOY ARGS...]"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) envoy: EnvoyArgs,

    /// The base id of Envoy's shared memory; without it a free one is taken, or the one that the same
    /// configuration had when its handover was killed.
    #[arg(long, value_name = "N", env = "HANDOVER_BASE_ID")]
    pub(crate) base_id: Option<u32>,

    /// How long an old epoch takes to close its connections, in whole seconds; below
    /// --parent-shutdown-time.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_DRAIN_TIME",
        default_value = "45s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) drain_time: Duration,

    /// How long after the next epoch's start an old epoch ends, in whole seconds.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_PARENT_SHUTDOWN_TIME",
        default_value = "60s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) parent_shutdown_time: Duration,

    #[command(flatten)]
    pub(crate) watched: WatchArgs,

    /// Start the next epoch too when the Envoy binary is replaced: by rename, or by a symbolic link
    /// that leads to another one.
    #[arg(long, env = "HANDOVER_WATCH_BINARY")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) watch_binary: bool,

    /// The number of Envoy's worker threads; without it the number of processors at the start. Every
    /// epoch gets the same, because a hand-over to another number resets some new connections.
    #[arg(long, value_name = "N", env = "HANDOVER_CONCURRENCY")]
    pub(crate) concurrency: Option<NonZeroU32>,

    /// Where the configuration of each running epoch is kept; without it a directory of its own
    /// below the temporary directory, which is removed at the end, or by the next start. In a
    /// directory that others can write to, as a volume of Kubernetes, handover-UID is made.
    #[arg(long, value_name = "DIR", env = "HANDOVER_RUN_DIR")]
    pub(crate) run_dir: Option<PathBuf>,

    /// Let this group read the configuration of each epoch: for an Envoy that its start script runs
    /// as another user. A name of /etc/group, or a number. The directories above the run directory
    /// must let that user pass.
    #[arg(long, value_name = "GROUP", env = "HANDOVER_RUN_DIR_GROUP")]
    pub(crate) run_dir_group: Option<Group>,

    /// Where the locks of the base ids and the control sockets are, the same for all agents of a
    /// user; without it
    /// /run/handover for root, and a directory of the user's own for others.
    #[arg(long, value_name = "DIR", env = "HANDOVER_LOCK_DIR")]
    pub(crate) lock_dir: Option<PathBuf>,

    /// Keep here the configuration that went live last, and a report of each epoch that ended
    /// though nobody asked for it.
    #[arg(long, value_name = "DIR", env = "HANDOVER_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// What is started when the configuration cannot be used at the start of handover.
    #[arg(long, value_enum, value_name = "WHAT", env = "HANDOVER_FALLBACK")]
    #[arg(default_value = "nothing")]
    pub(crate) fallback: Fallback,

    /// Write here, in one line, why handover ended, for every exit code but 0: for Kubernetes,
    /// /dev/termination-log.
    #[arg(long, value_name = "FILE", env = "HANDOVER_TERMINATION_LOG")]
    pub(crate) termination_log: Option<PathBuf>,

    /// How long a live Envoy may leave its admin endpoint unanswered before it counts as hung;
    /// with `none` it is not asked.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_HUNG_AFTER",
        default_value = "none"
    )]
    pub(crate) hung_after: Limit,

    /// What becomes of an Envoy that hangs.
    #[arg(long, value_enum, value_name = "WHAT", env = "HANDOVER_ON_HUNG")]
    #[arg(default_value = "restart")]
    pub(crate) on_hung: OnHung,

    /// Never write to Envoy's shared memory: after an epoch that failed while it started, the one
    /// that serves is held, and only `handover reload --cold` can go on.
    #[arg(long, env = "HANDOVER_NO_REPAIR")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_repair: bool,

    /// End at once on TERM, with 0, as a Kubernetes sidecar that drains on `handover drain` only.
    #[arg(long, env = "HANDOVER_NATIVE_SIDECAR")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) native_sidecar: bool,

    /// Print the command line with which Envoy would be started first, as a shell takes it, and end.
    /// Without --run-dir, XXXXXX stands for what is chosen at the start.
    #[arg(long, env = "HANDOVER_PRINT_COMMAND")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) print_command: bool,

    #[command(flatten)]
    pub(crate) control: ControlArgs,

    #[command(flatten)]
    pub(crate) node: NodeArgs,

    #[command(flatten)]
    pub(crate) stop: TerminationArgs,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) logging: LoggingArgs,

    #[command(flatten)]
    pub(crate) envoy_log: EnvoyLogArgs,

    /// Further arguments for Envoy.
    #[arg(last = true, value_name = "ENVOY ARGS", help_heading = "Arguments")]
    pub(crate) extra: Vec<String>,
}

/// What is started when the configuration cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fallback {
    /// Nothing: handover ends, with the reason.
    Nothing,
    /// The configuration that went live last, which --state-dir has kept. The one that cannot be
    /// used is awaited in a better state.
    LastKnownGood,
}

/// What becomes of an Envoy that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnHung {
    /// It is killed, and started again as after any failure.
    Restart,
    /// A warning is logged.
    Report,
}

/// Which Envoy, and with what.
#[derive(Args, Clone, Debug)]
pub(crate) struct EnvoyArgs {
    /// Envoy's configuration: YAML or JSON, told by the file's extension.
    #[arg(long, value_name = "FILE", env = "HANDOVER_CONFIG_PATH")]
    pub(crate) config_path: PathBuf,

    /// Render the configuration as a Jinja template first. It can use `env.NAME`, `epoch`, `node_id`
    /// (--service-node), `private_ips` and `resolve("HOST:PORT")`; a name that is not known is an
    /// error. An extension such as .yaml.j2 counts as .yaml.
    #[arg(long, env = "HANDOVER_TEMPLATE")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) template: bool,

    /// The Envoy binary: a path, or a name to search in PATH.
    #[arg(
        long,
        value_name = "FILE",
        env = "HANDOVER_ENVOY_PATH",
        default_value = "envoy"
    )]
    pub(crate) envoy_path: PathBuf,
}

/// Ask Envoy whether a configuration is good, without starting it.
///
/// Besides, the configuration must have what `run` needs. Port conflicts are not seen.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
    0  the configuration is good
   64  the command line is wrong
   65  Envoy rejects it, with the reason on one line, or it cannot be read
   69  Envoy did not say
  126  the Envoy binary cannot be executed
  127  the Envoy binary was not found")]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pub(crate) envoy: EnvoyArgs,

    /// Print the rendered template as epoch 0 would read it, and do not ask Envoy.
    #[arg(long, env = "HANDOVER_PRINT", requires = "template")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) print: bool,

    #[command(flatten)]
    pub(crate) node: NodeArgs,

    /// Further arguments for Envoy.
    #[arg(last = true, value_name = "ENVOY ARGS", help_heading = "Arguments")]
    pub(crate) extra: Vec<String>,
}
