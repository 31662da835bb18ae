//! `handover run` and `handover validate`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::global::LoggingArgs;
use super::policy::PolicyArgs;
use super::span;

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

    /// The base id of Envoy's shared memory; without it a free one is taken.
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
    #[arg(value_parser = span::parse)]
    pub(crate) drain_time: Duration,

    /// How long after the next epoch's start an old epoch ends, in whole seconds.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_PARENT_SHUTDOWN_TIME",
        default_value = "60s"
    )]
    #[arg(value_parser = span::parse)]
    pub(crate) parent_shutdown_time: Duration,

    /// How long the drain may take after TERM; connections that are left then are cut.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_TERMINATION_DRAIN",
        default_value = "5s"
    )]
    #[arg(value_parser = span::parse)]
    pub(crate) termination_drain: Duration,

    /// Start the next epoch too when this file, or a file in this directory, has other contents.
    #[arg(
        long,
        value_name = "PATH",
        env = "HANDOVER_WATCH",
        value_delimiter = ','
    )]
    pub(crate) watch: Vec<PathBuf>,

    /// The number of Envoy's worker threads, the same for every epoch; without it the number of
    /// processors.
    #[arg(long, value_name = "N", env = "HANDOVER_CONCURRENCY")]
    pub(crate) concurrency: Option<NonZeroU32>,

    /// Where the configuration of each running epoch is kept; without it a directory of its own
    /// below the temporary directory, which is removed at the end.
    #[arg(long, value_name = "DIR", env = "HANDOVER_RUN_DIR")]
    pub(crate) run_dir: Option<PathBuf>,

    /// Where the locks of the base ids are, the same for all agents of a user; without it
    /// /run/handover for root, and a directory of the user's own for others.
    #[arg(long, value_name = "DIR", env = "HANDOVER_LOCK_DIR")]
    pub(crate) lock_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) logging: LoggingArgs,

    /// Further arguments for Envoy.
    #[arg(last = true, value_name = "ENVOY ARGS", help_heading = "Arguments")]
    pub(crate) extra: Vec<String>,
}

/// Which Envoy, and with what.
#[derive(Args, Clone, Debug)]
pub(crate) struct EnvoyArgs {
    /// Envoy's configuration: YAML or JSON, told by the file's extension.
    #[arg(long, value_name = "FILE", env = "HANDOVER_CONFIG_PATH")]
    pub(crate) config_path: PathBuf,

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

    /// Further arguments for Envoy.
    #[arg(last = true, value_name = "ENVOY ARGS", help_heading = "Arguments")]
    pub(crate) extra: Vec<String>,
}
