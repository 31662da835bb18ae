//! Envoy as a [`Proxy`]: one Envoy per epoch, handed over by hot restart.
//!
//! What the measured behaviour of Envoy asks for, and where it is kept:
//!
//! - A configuration is validated before an epoch is spent on it, while an older one serves
//!   (`launch`).
//! - An epoch is live when the admin endpoint says LIVE with the expected epoch (`serve`).
//! - An epoch that initialises beside an older one is ended with SIGKILL, because its orderly end
//!   would take the older one along (`serve`).
//! - A start that is given up is dropped where nothing has been taken over (`withdraw`).
//! - When an epoch has failed, the flag it leaves in shared memory is cleared once it is reaped, so
//!   that the same number can be tried again (`flag`).
//! - A binary that speaks another hot restart version replaces the running one side by side, under
//!   another base id (`lines`, `side_by_side`).
//! - When an epoch dies under a live child, the child is answered in its place until it lets its
//!   parent go; otherwise it would abort (`orphans`).
//! - An old epoch is continued where it was stopped, because its child waits for it, and killed where
//!   it does not end at its time (`old`).
//! - A live epoch that does not answer any more is noticed (`watchdog`).
//! - What went live and what ended badly is kept in the state directory (`keep`).
//! - What runs, with its connections and memory, and what ended last can be asked for (`overview`).
//! - Health checks fail and succeed on request, whichever epoch is live (`on_request`).
//! - The drain goes through the admin endpoint of the live epoch; the connections of older ones,
//!   which have none, are counted from outside (`drain`).

mod clients;
mod config;
mod count;
mod drain;
mod epochs;
mod error;
mod flag;
mod keep;
mod launch;
mod lines;
mod old;
mod on_request;
mod orphans;
mod overview;
#[cfg(feature = "template")]
mod rendered;
mod serve;
mod side_by_side;
mod start;
mod watchdog;
mod withdraw;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use handover_core::{Epoch, Target};
use handover_tokio::process::{OutputSink, Signal};
use handover_tokio::{Proxy, RunControl, RunError};
use tokio::sync::Mutex;

use self::epochs::{Epochs, FileId};
use self::keep::Keeping;
use self::lines::Lines;
use self::on_request::OnRequest;
use self::orphans::StandIns;
use crate::admin::{Exclude, LivePoll};
use crate::args::{ArgsOptions, EnvoyArgs};
use crate::files::RunDir;
use crate::hot_restart::{BaseIdChoice, HostPaths};
use crate::last_good::LastKnownGood;
use crate::report::CrashReports;
use crate::version::check_binary;

pub use self::config::{ConfigError, EnvoyConfig};
pub use self::error::{EnvoyFailed, SetupError};
pub use self::on_request::{Holding, OnRequestError};
pub use self::overview::{EndedEpoch, EpochOverview, Overview};
#[cfg(feature = "template")]
pub use self::rendered::RenderError;
pub use self::side_by_side::NotSideBySide;
pub use self::watchdog::{HungAction, Watchdog};

/// What an [`Envoy`] is made from.
#[derive(Clone)]
pub struct EnvoySettings {
    /// The Envoy binary. It is looked at anew for each epoch, so it may be replaced.
    pub binary: PathBuf,
    /// The command line.
    pub args: ArgsOptions,
    /// The base id, which must belong to this agent alone. An Envoy that replaces another one side by
    /// side takes a further one, which nobody uses.
    pub base_id: BaseIdChoice,
    /// What others are told about the owner of the base id, beside its process id.
    pub instance: String,
    /// The directory for the configuration file of each epoch. It is made if it is not there.
    pub run_dir: PathBuf,
    /// The group that may read the configurations there, for an Envoy that runs as another user.
    pub run_dir_group: Option<u32>,
    /// The directory of the base-id locks, which agents on one host must share.
    pub lock_dir: PathBuf,
    /// Where the output of every epoch goes.
    pub output: Arc<dyn OutputSink>,
    /// How an epoch is waited for.
    pub live_poll: LivePoll,
    /// How a stop drains.
    pub stop: StopOptions,
    /// Whether the flag that a failed epoch leaves in shared memory is cleared. Without it, no epoch
    /// can follow a failed one until a cold restart.
    pub repair: bool,
    /// How the newest live epoch is watched; without it, an Envoy that hangs is not noticed.
    pub watchdog: Option<Watchdog>,
    /// Whether the end of an Envoy that nobody asked for is final, so that a failure is reported as
    /// permanent.
    pub end_is_final: bool,
    /// Where the configuration that went live last is kept, if it is.
    pub last_good: Option<LastKnownGood>,
    /// Where the ends of epochs that nobody asked for are reported, if they are.
    pub reports: Option<CrashReports>,
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

/// A configuration that Envoy has found valid.
struct Validated {
    config: Arc<EnvoyConfig>,
    /// The reading of the configuration that asked for it.
    asked: Arc<EnvoyConfig>,
    binary: FileId,
    /// Whether it was the text with which Envoy waits for its first resources. If so, the original,
    /// which says less, is valid too.
    waits: bool,
}

/// A real Envoy, run by an [`Agent`](handover_tokio::Agent).
pub struct Envoy {
    settings: EnvoySettings,
    args: EnvoyArgs,
    run_dir: RunDir,
    lines: Lines,
    epochs: Epochs,
    stand_ins: StandIns,
    keeping: Keeping,
    on_request: OnRequest,
    /// What a drain had not seen end at its limit.
    cut: std::sync::Mutex<Vec<String>>,
    /// What each epoch held a drain with when it was looked at last.
    held: std::sync::Mutex<BTreeMap<Epoch, Vec<String>>>,
    /// The configuration that was found valid last, so that a crash is not answered by a validation.
    validated: Mutex<Option<Validated>>,
}

impl Envoy {
    /// Checks the settings, takes the base id and makes the run directory. It starts no Envoy.
    ///
    /// # Errors
    ///
    /// [`SetupError`]; nothing is left behind then.
    pub fn new(settings: EnvoySettings) -> Result<Self, SetupError> {
        check_binary(&settings.binary)?;
        let args = EnvoyArgs::new(settings.args.clone())?;
        let mut run_dir = RunDir::create(&settings.run_dir)?;
        if let Some(group) = settings.run_dir_group {
            run_dir = run_dir.readable_by(group)?;
        }
        let locks = RunDir::create(&settings.lock_dir)?;
        let host = HostPaths::with_locks(locks.path());
        let lines = Lines::claim(settings.base_id, settings.instance.clone(), host)?;
        Ok(Self {
            settings,
            args,
            run_dir,
            lines,
            epochs: Epochs::default(),
            stand_ins: StandIns::default(),
            keeping: Keeping::default(),
            on_request: OnRequest::default(),
            cut: std::sync::Mutex::default(),
            held: std::sync::Mutex::default(),
            validated: Mutex::new(None),
        })
    }

    /// The base id, whether it was given or picked. While an Envoy replaces another one side by side,
    /// and from then on until the next such change, epochs may run under another one.
    #[must_use]
    pub fn base_id(&self) -> u32 {
        self.lines.home().get()
    }

    /// Sends a signal to every running epoch, SIGUSR1 for example, which makes Envoy open its log
    /// files again. Epochs that have just ended are passed over.
    pub fn signal_all(&self, signal: Signal) {
        for child in self.epochs.children() {
            // One that has ended in between has no use for it.
            let _ended = child.signal(signal);
        }
    }
}

#[async_trait]
impl Proxy for Envoy {
    type Config = Arc<EnvoyConfig>;

    async fn run(
        &self,
        target: Target<Arc<EnvoyConfig>>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        match target {
            Target::Serve(config) => self.serve(config, epoch, control).await,
            Target::Drain => self.drain(&control).await,
        }
    }

    fn cleanup(&self, epoch: Epoch) {
        if let Err(error) = self.run_dir.remove(epoch.number()) {
            tracing::warn!(epoch = epoch.number(), "{error}");
        }
    }

    fn panic(&self, config: &Arc<EnvoyConfig>) {
        tracing::debug!("giving up on the configuration {config}");
    }
}

impl std::fmt::Debug for Envoy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envoy")
            .field("binary", &self.settings.binary)
            .field("base_id", &self.base_id())
            .finish_non_exhaustive()
    }
}
