//! What is known of the host, the flags and the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use handover_envoy::admin::ServerInfo;
use handover_envoy::args::EnvoyArgs;
use handover_envoy::bootstrap::{Bootstrap, DrainTimeout, LongStream};
use handover_envoy::hot_restart::{BaseId, Neighbour};
use handover_process::memory::Bound;
use handover_watch::Preview;

/// A fact, or why it is unknown.
pub(crate) type Known<T> = Result<T, Unknown>;

/// Why a fact is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown(pub(crate) String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Unknown {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Everything that the checks judge by.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) settings: Settings,
    pub(crate) host: Known<HostFacts>,
    pub(crate) shared_memory: Known<SharedMemoryFacts>,
    /// What bounds memory: the host, and control groups.
    pub(crate) memory: Known<Vec<Bound>>,
    /// The systemd unit that this process runs in, if it runs in one.
    pub(crate) unit: Known<Option<UnitFacts>>,
    pub(crate) base_ids: Known<BaseIdFacts>,
    /// Whether the Envoy binary can be used, and where it is.
    pub(crate) binary: Known<Result<PathBuf, String>>,
    pub(crate) configuration: Known<ConfigurationFacts>,
    pub(crate) admin: Known<AdminFacts>,
    pub(crate) watched: Known<Preview>,
    /// The variables that [`variables`](super::variables) knows, as far as they are set.
    pub(crate) variables: BTreeMap<&'static str, String>,
}

/// What the flags say.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config_path: PathBuf,
    pub(crate) base_id: Option<BaseId>,
    pub(crate) drain_time: Duration,
    pub(crate) termination_drain: Duration,
    pub(crate) pre_drain_delay: Duration,
    pub(crate) min_drain: Duration,
    pub(crate) abort_grace: Duration,
    pub(crate) native_sidecar: bool,
    pub(crate) watch_binary: bool,
    /// Whether watched files are looked at without an event.
    pub(crate) rescans: bool,
    pub(crate) concurrency_is_given: bool,
    pub(crate) log_level_is_given: bool,
    pub(crate) args: Known<EnvoyArgs>,
    /// The time between the request to end and SIGKILL, and who says so.
    pub(crate) grace_period: Known<Option<GracePeriod>>,
}

/// The time between the request to end and SIGKILL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GracePeriod {
    pub(crate) time: Duration,
    /// The flag or variable that says so.
    pub(crate) from: &'static str,
}

/// The kernel and its limits.
#[derive(Debug)]
pub(crate) struct HostFacts {
    /// What `uname -r` prints.
    pub(crate) kernel: String,
    /// Whether a child can be awaited by its process descriptor.
    pub(crate) awaits_by_pidfd: bool,
    pub(crate) inotify_instances: Known<u64>,
    /// How many instances could be opened of those that were tried, and what happened then.
    pub(crate) inotify_opened: (usize, Option<String>),
    pub(crate) inotify_watches: Known<u64>,
    /// The soft limit; `None` for no limit.
    pub(crate) open_files_soft: Option<u64>,
    /// The hard limit; `None` for no limit.
    pub(crate) open_files_hard: Option<u64>,
}

/// The directory of shared memory.
#[derive(Debug)]
pub(crate) struct SharedMemoryFacts {
    pub(crate) owner: u32,
    pub(crate) mode: u32,
    /// The user of this process.
    pub(crate) user: u32,
    /// Whether files can be made there.
    pub(crate) is_writable: bool,
    /// The size of the file system, in bytes.
    pub(crate) size: u64,
    /// What this user can still write, in bytes.
    pub(crate) available: u64,
}

/// A unit of systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitFacts {
    pub(crate) name: String,
    /// `Type`, by which systemd knows when the service is ready.
    pub(crate) service_type: Known<String>,
    pub(crate) kill_mode: String,
    /// `TimeoutStopSec`; `None` for no limit.
    pub(crate) stop_timeout: Known<Option<Duration>>,
}

/// Envoys of this host.
#[derive(Debug)]
pub(crate) struct BaseIdFacts {
    /// Those of this network namespace.
    pub(crate) neighbours: Known<Vec<Neighbour>>,
    /// The base ids with shared memory.
    pub(crate) with_memory: Known<Vec<BaseId>>,
    /// The base id of an instance with this configuration file that runs.
    pub(crate) own: Option<BaseId>,
    /// The network namespace of this process, as the kernel calls it.
    pub(crate) network: Known<String>,
    /// That of process 1.
    pub(crate) network_of_init: Known<String>,
}

/// The configuration of Envoy.
#[derive(Debug)]
pub(crate) struct ConfigurationFacts {
    pub(crate) bootstrap: Bootstrap,
    /// Why `run` refuses it, although it can be read.
    pub(crate) refused: Option<String>,
    /// What is done otherwise because of `admin.allow_paths`.
    pub(crate) limits: Option<String>,
    pub(crate) fetches_listeners: bool,
    pub(crate) drain_timeouts: Known<Vec<DrainTimeout>>,
    /// What may last long, or has a limit in time of its own.
    pub(crate) long_streams: Known<Vec<LongStream>>,
    /// The network namespaces of listeners, each with why it cannot be opened.
    pub(crate) namespaces: Vec<(PathBuf, Option<String>)>,
}

/// The admin address.
#[derive(Debug)]
pub(crate) struct AdminFacts {
    /// Why this host cannot listen on it, if it cannot.
    pub(crate) cannot_listen: Option<String>,
    pub(crate) answer: AdminAnswer,
    /// Major and minor version of the Envoy that answers.
    pub(crate) version: Option<(u32, u32)>,
}

/// Who answers at the admin address.
#[derive(Debug)]
pub(crate) enum AdminAnswer {
    Nobody,
    Envoy(Box<ServerInfo>),
    /// Something else, with what was wrong with the answer.
    Other(String),
}
