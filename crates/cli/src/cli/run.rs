//! `handover run` and `handover validate`.

mod envoy_flags;
mod error_rise;
mod termination;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use handover_files::below;
use handover_supervisor::operator::ErrorRise;

use super::control::ControlArgs;
use super::duration::{self, Limit};
use super::global::{LoggingArgs, WatchArgs};
use super::group::Group;
use super::hooks::HookArgs;
use super::order::OrderArgs;
use super::policy::PolicyArgs;
use super::record::RecordArgs;
use super::run_as::RunAsArgs;
use super::settings::SettingsArgs;
use super::status_server::StatusServerArgs;

use error_rise::parse_percent;

pub(crate) use envoy_flags::{EnvoyLogArgs, LocalAddress, NodeArgs};
pub(crate) use termination::TerminationArgs;

/// Supervise Envoy: hot restart on every change of its configuration.
///
/// Envoy validates a changed configuration first. Then it starts as the next epoch, and takes over once
/// its admin endpoint reports that it is live. A configuration that Envoy rejects never ends the epoch
/// that serves. The configuration needs an `admin` block with an address, which handover uses.
#[derive(Args, Clone, Debug)]
#[command(
    after_long_help = super::AFTER_HELP,
    override_usage = "handover run [OPTIONS] --config-path FILE [-- ENVOY ARGS...]\n       \
                      handover run [OPTIONS] --config-from socket --state-dir DIR [-- ENVOY ARGS...]",
    // Clients may give the configuration in its place.
    mut_arg("config_path", |arg| arg.required(false))
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) envoy: EnvoyArgs,

    /// Where Envoy's configuration comes from.
    ///
    /// `socket` starts no Envoy before `handover apply` has given a configuration. The last one that has passed its
    /// probation is kept in --state-dir, and the next start runs it.
    #[arg(long, value_enum, value_name = "WHERE", env = "HANDOVER_CONFIG_FROM")]
    #[arg(default_value = "file")]
    pub(crate) config_from: ConfigFrom,

    /// The base id of Envoy's shared memory. Without it, a free one is taken.
    ///
    /// After handover was killed, the next start with the same configuration file takes the same one.
    #[arg(long, value_name = "N", env = "HANDOVER_BASE_ID")]
    pub(crate) base_id: Option<u32>,

    /// The time over which an old epoch closes its connections, in whole seconds.
    ///
    /// It must be shorter than --parent-shutdown-time.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_DRAIN_TIME",
        default_value = "45s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) drain_time: Duration,

    /// The time from the start of the next epoch to the end of the old one, in whole seconds.
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

    /// Whether the next epoch waits for what its configuration fetches while an older one serves.
    ///
    /// Then it is also held until it has what the older epoch had from its control plane. The first epoch
    /// starts with what the configuration says in either case.
    #[arg(long, value_enum, value_name = "WHETHER")]
    #[arg(env = "HANDOVER_WAIT_FOR_RESOURCES", default_value = "yes")]
    pub(crate) wait_for_resources: WaitForResources,

    /// Start the next epoch also when the Envoy binary is replaced.
    ///
    /// A replacement is a rename, or a symbolic link that leads to another file.
    #[arg(long, env = "HANDOVER_WATCH_BINARY")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) watch_binary: bool,

    /// The number of Envoy's worker threads. Without it, the number of processors at the start.
    ///
    /// The variable `ISTIO_CPU_LIMIT` of Istio's agent counts before the number of processors. Every epoch gets the same number. A hand-over to another number resets some new connections.
    #[arg(long, value_name = "N", env = "HANDOVER_CONCURRENCY")]
    pub(crate) concurrency: Option<NonZeroU32>,

    /// The directory for the configuration of each running epoch.
    ///
    /// Without it, a new directory below the temporary directory is used, and removed at the end. If
    /// others can write to DIR, as to a volume of Kubernetes, DIR/handover-UID is used.
    #[arg(long, value_name = "DIR", env = "HANDOVER_RUN_DIR")]
    pub(crate) run_dir: Option<PathBuf>,

    /// Let this group read the configuration of each epoch: a name in /etc/group, or a number.
    ///
    /// With --user, it is the group of that user unless another one is given here. Use it if a start script
    /// runs Envoy as another user. That user must be able to pass the
    /// directories above the run directory.
    #[arg(long, value_name = "GROUP", env = "HANDOVER_RUN_DIR_GROUP")]
    pub(crate) run_dir_group: Option<Group>,

    /// The directory for the locks of base ids and the control sockets.
    ///
    /// All instances of a user must have the same one. The default is /run/handover for root, and a
    /// private directory for other users.
    #[arg(long, value_name = "DIR", env = "HANDOVER_LOCK_DIR")]
    pub(crate) lock_dir: Option<PathBuf>,

    /// Keep the last good configuration in this directory, reports of crashes and a recording.
    ///
    /// A configuration is good once it has passed its probation. See --fallback and --record. A crash is
    /// every end of an epoch that was not asked for. The last ten reports are kept.
    #[arg(long, value_name = "DIR", env = "HANDOVER_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) recorded: RecordArgs,

    /// What to run if the configuration is unusable when handover starts.
    #[arg(long, value_enum, value_name = "WHAT", env = "HANDOVER_FALLBACK")]
    #[arg(default_value = "nothing")]
    pub(crate) fallback: Fallback,

    /// Write the reason to this file, in one line, when handover ends with another code than 0.
    ///
    /// In Kubernetes it is /dev/termination-log.
    #[arg(long, value_name = "FILE", env = "HANDOVER_TERMINATION_LOG")]
    pub(crate) termination_log: Option<PathBuf>,

    /// Treat a live Envoy as hung when its admin endpoint has not answered for this time.
    ///
    /// With `none` a live Envoy is not asked, so that an idle handover sleeps.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_HUNG_AFTER",
        default_value = "none"
    )]
    pub(crate) hung_after: Limit,

    /// What to do with an Envoy that hangs; see --hung-after.
    #[arg(long, value_enum, value_name = "WHAT", env = "HANDOVER_ON_HUNG")]
    #[arg(default_value = "restart")]
    pub(crate) on_hung: OnHung,

    /// On probation: the share of failed requests may rise by this much, such as 5%.
    ///
    /// The share since live is compared with that of the same time before. Both sides need 100 requests.
    /// Without the flag, requests are not compared: an upstream that fails in the same moment is not the
    /// fault of the configuration. With it, Envoy is asked once a second, also while nothing changes.
    #[arg(long, value_name = "PERCENT", env = "HANDOVER_MAX_ERROR_RISE")]
    #[arg(value_parser = parse_percent, help_heading = "Probation")]
    pub(crate) max_error_rise: Option<ErrorRise>,

    /// Never write to Envoy's shared memory.
    ///
    /// An epoch that fails during its start can leave a flag there, which blocks every hot restart.
    /// Handover clears it. With this flag only `handover reload --cold` helps then.
    #[arg(long, env = "HANDOVER_NO_REPAIR")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_repair: bool,

    /// On TERM, end at once with 0. Only `handover drain` drains.
    ///
    /// Use it for a native sidecar of Kubernetes, which gets TERM after its clients have ended.
    #[arg(long, env = "HANDOVER_NATIVE_SIDECAR")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) native_sidecar: bool,

    /// Print the command line of Envoy's epoch 0 for a shell, and end. Nothing is started.
    ///
    /// Without --run-dir, the line has XXXXXX in place of random characters.
    #[arg(long, env = "HANDOVER_PRINT_COMMAND")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) print_command: bool,

    #[command(flatten)]
    pub(crate) control: ControlArgs,

    #[command(flatten)]
    pub(crate) status_server: StatusServerArgs,

    /// Show the statistics of Envoy at /stats/prometheus of the status server, over all epochs.
    ///
    /// Each sample has the number of its epoch as a label. What ended epochs have counted is kept; see
    /// docs/status.md. Just before a hand-over, the old epoch is asked once more, for a second at most.
    /// Envoy is started with `stats_flush_on_admin`, unless the configuration sets `stats_sinks` or how often
    /// statistics are flushed. Everyone who can connect may read them.
    #[arg(long, env = "HANDOVER_STATUS_ENVOY_STATS", requires = "status_address")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Status server")]
    pub(crate) status_envoy_stats: bool,

    #[command(flatten)]
    pub(crate) order: OrderArgs,

    #[command(flatten)]
    pub(crate) run_as: RunAsArgs,

    #[command(flatten)]
    pub(crate) hooks: HookArgs,

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

    #[command(flatten)]
    pub(crate) settings: SettingsArgs,

    /// More arguments for Envoy. Arguments that handover sets itself are refused.
    #[arg(
        id = "envoy_args",
        last = true,
        value_name = "ENVOY ARGS",
        help_heading = "Arguments"
    )]
    pub(crate) extra: Vec<String>,
}

/// Where the configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigFrom {
    /// From the file of --config-path, and its overlays.
    File,
    /// From `handover apply`, by the control socket.
    Socket,
}

/// What is started when the configuration is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fallback {
    /// Run nothing, and end with 65.
    Nothing,
    /// Run the last good configuration, from --state-dir. Handover keeps watching the broken file and
    /// switches once it is valid.
    LastKnownGood,
}

/// Whether an epoch waits for what its configuration fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitForResources {
    /// A control plane or certificate server that is away keeps it from going live until
    /// --start-deadline, and the older one serves on.
    Yes,
    /// Envoy goes live without what it did not get within its `initial_fetch_timeout`, and takes the
    /// listeners over.
    No,
}

/// What is done with an Envoy that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnHung {
    /// Kill it, and start it again as after any failure.
    Restart,
    /// Log a warning, and let it run.
    Report,
}

/// The Envoy binary, and its configuration.
#[derive(Args, Clone, Debug)]
pub(crate) struct EnvoyArgs {
    /// Envoy's configuration file, YAML or JSON. The format is detected from the extension.
    #[arg(
        long,
        value_name = "FILE",
        env = "HANDOVER_CONFIG_PATH",
        required = true
    )]
    pub(crate) config_path: Option<PathBuf>,

    /// Merge this YAML or JSON file over the configuration. Repeat it for more, merged in this order.
    ///
    /// Mappings are merged, lists get more entries, other values are replaced, and null removes a field;
    /// see docs/overlays.md. The file is watched like the configuration. With --template it is rendered too.
    #[arg(
        long,
        value_name = "FILE",
        env = "HANDOVER_CONFIG_OVERLAY",
        value_delimiter = ','
    )]
    pub(crate) config_overlay: Vec<PathBuf>,

    /// Render the configuration file as a Jinja template first; see docs/templates.md.
    ///
    /// A template can use `env.NAME`, `epoch`, `node_id` (of --service-node), `private_ips` and
    /// `resolve("HOST:PORT")`. An unknown name is an error. The extension .yaml.j2 counts as .yaml.
    #[arg(long, env = "HANDOVER_TEMPLATE")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) template: bool,

    /// The Envoy binary: a path, or a name that is searched in PATH.
    #[arg(
        long,
        value_name = "FILE",
        env = "HANDOVER_ENVOY_PATH",
        default_value = "envoy"
    )]
    pub(crate) envoy_path: PathBuf,
}

/// Ask Envoy whether a configuration is valid. Nothing is started.
///
/// The command also checks what `run` needs, such as the address of the admin endpoint. It does not
/// detect an address that is in use.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
    0  the configuration is valid
   64  the command line is wrong
   65  the configuration is invalid, or cannot be read; the reason is one line
   69  Envoy gave no verdict
  126  the Envoy binary cannot be executed
  127  the Envoy binary was not found")]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pub(crate) envoy: EnvoyArgs,

    /// Print the rendered or merged text as epoch 0 would get it. Envoy is not asked.
    ///
    /// It needs --template or --config-overlay. Otherwise Envoy gets the file as it is.
    #[arg(long, env = "HANDOVER_PRINT")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) print: bool,

    #[command(flatten)]
    pub(crate) node: NodeArgs,

    /// More arguments for Envoy.
    #[arg(last = true, value_name = "ENVOY ARGS", help_heading = "Arguments")]
    pub(crate) extra: Vec<String>,
}

/// The name of the file in the state directory where a configuration of `handover apply` is kept.
const KEPT: &str = "applied-configuration.yaml";

impl RunArgs {
    /// Lets the configuration be the one that is kept in this state directory.
    pub(crate) fn keep_in(&mut self, state_dir: &Path) {
        self.envoy.config_path = Some(state_dir.join(KEPT));
    }

    /// Lets the configuration be the one that is kept, if clients give it. Nothing is made or written.
    pub(crate) fn look_for_kept(&mut self) {
        if let (ConfigFrom::Socket, Some(dir)) = (self.config_from, self.state_dir.clone()) {
            let below = below(&dir);
            match below.join(KEPT).exists() {
                true => self.keep_in(&below),
                false => self.keep_in(&dir),
            }
        }
    }
}

impl EnvoyArgs {
    /// The configuration file. Without one there is an error before.
    pub(crate) fn path(&self) -> &Path {
        self.config_path.as_deref().unwrap_or(Path::new(""))
    }
}
