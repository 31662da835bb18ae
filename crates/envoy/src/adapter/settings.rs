//! What an [`Envoy`](super::Envoy) is made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handover_core::OnExit;
use handover_process::memory::Guard as MemoryGuard;
use handover_process::{OutputSink, RunAs};

use super::Watchdog;
use crate::admin::{Exclude, LivePoll};
use crate::args::ArgsOptions;
use crate::hot_restart::BaseIdChoice;
use crate::last_good::LastKnownGood;
use crate::report::CrashReports;

/// What an [`Envoy`](super::Envoy) is made from.
#[derive(Clone)]
pub(super) struct EnvoySettings {
    /// The Envoy binary. It is looked at anew for each epoch, so it may be replaced.
    pub(super) binary: PathBuf,
    /// The command line.
    pub(super) args: ArgsOptions,
    /// The base id, which must belong to this agent alone. An Envoy that replaces another one side by
    /// side takes a further one, which nobody uses.
    pub(super) base_id: BaseIdChoice,
    /// What others are told about the owner of the base id, beside its process id.
    pub(super) instance: String,
    /// The directory for the configuration file of each epoch. It is made if it is not there.
    pub(super) run_dir: PathBuf,
    /// The group that may read the configurations there, for an Envoy that runs as another user.
    pub(super) run_dir_group: Option<u32>,
    /// Who Envoy runs as.
    pub(super) run_as: RunAs,
    /// The directory of the base-id locks, which agents on one host must share.
    pub(super) lock_dir: PathBuf,
    /// Where the output of every epoch goes.
    pub(super) output: Arc<dyn OutputSink>,
    /// How an epoch is waited for.
    pub(super) live_poll: LivePoll,
    /// How a stop drains.
    pub(super) stop: StopOptions,
    /// Whether the flag that a failed epoch leaves in shared memory is cleared. Without it, no epoch
    /// can follow a failed one until a cold restart.
    pub(super) repair: bool,
    /// How the newest live epoch is watched; without it, an Envoy that hangs is not noticed.
    pub(super) watchdog: Option<Watchdog>,
    /// Whether an epoch beside one that serves waits for its first resources without Envoy's time-out.
    pub(super) wait_for_resources: bool,
    /// What is done where two epochs do not fit into memory.
    pub(super) memory_guard: MemoryGuard,
    /// Which ends of an Envoy that nobody asked for are final, so that a failure is reported as permanent.
    pub(super) on_exit: OnExit,
    /// Where the configuration is kept that has passed its probation last, if it is.
    pub(super) last_good: Option<LastKnownGood>,
    /// Whether the statistics of epochs that end are wanted.
    pub(super) statistics: bool,
    /// Where the ends of epochs that nobody asked for are reported, if they are.
    pub(super) reports: Option<CrashReports>,
}

/// How a stop drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopOptions {
    /// How long Envoy goes on accepting after its health checks have begun to fail, for load
    /// balancers to notice.
    pub pre_drain_delay: Duration,
    /// The shortest time of the whole drain.
    pub minimum: Duration,
    /// The longest time of the whole drain. It should be the policy's `drain_deadline`: then the
    /// connections that are cut can be named.
    pub limit: Duration,
    /// Listeners whose connections hold neither the drain nor a change that waits until an old epoch
    /// has no connection left. They are meant by their names in the configuration as well.
    pub exclude: Exclude,
}

impl Default for StopOptions {
    fn default() -> Self {
        Self {
            pre_drain_delay: Duration::ZERO,
            minimum: Duration::ZERO,
            // Istio's TERMINATION_DRAIN_DURATION_SECONDS.
            limit: Duration::from_secs(5),
            exclude: Exclude::default(),
        }
    }
}
