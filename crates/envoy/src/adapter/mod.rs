//! Envoy as a [`Proxy`]: one Envoy per epoch, handed over by hot restart.
//!
//! [`Envoy`] is wiring. What the measured behaviour of Envoy asks for is decided in `epochs`, which is
//! pure, and carried out elsewhere:
//!
//! - `epochs`: the table of running epochs, and all decisions about them;
//! - `running`: the process of each epoch, its sockets and its connections;
//! - `epoch_run`: one epoch from its configuration to its end;
//! - `lineage`: epochs that hand over to each other under one base id;
//! - `drain`: letting clients go before a stop, and on request;
//! - `examination`: whether a live epoch can do its work;
//! - `records`, `overview`: what is kept and reported of each epoch;
//! - `statistics`: what the epochs count, before it is lost;
//! - `settings`, `builder`, `config`, `rendered`, `error`: what goes in and what comes out.
//!
//! What that behaviour is, and what follows from it:
//!
//! - A configuration is validated before an epoch is spent on it, while an older one runs
//!   (`epochs::preparation`).
//! - An epoch is live when the admin endpoint says LIVE with the expected epoch.
//! - An epoch that initialises beside an older one is ended with SIGKILL, because its orderly end
//!   would take the older one along (`Epochs::ending`).
//! - A start that is withdrawn is dropped where nothing has been taken over (`epochs::withdrawal`).
//! - A failed epoch leaves a flag in shared memory. It is cleared once the epoch is reaped, so that
//!   the same number can be tried again (`Epochs::may_clear_flag`).
//! - A binary that speaks another hot restart version replaces the running one side by side, under
//!   another base id (`lineage`, `Epochs::must_give_way`).
//! - A child whose parent dies early would abort. It is answered in the parent's place until it lets
//!   its parent go (`Epochs::child_without_parent`).
//! - An old epoch that is stopped is continued, because its child waits for it. It is killed if it does
//!   not end at its time (`epochs::old_epoch`).
//! - A live epoch that does not answer any more is noticed (`epoch_run::watchdog`).
//! - The drain goes through the admin endpoint of the live epoch. The connections of older ones, which
//!   have none, are counted from outside (`running::client_count`).

mod builder;
mod config;
mod drain;
mod epoch_files;
mod epoch_run;
mod epochs;
mod error;
mod examination;
mod lineage;
mod observed;
mod overview;
mod records;
#[cfg(feature = "template")]
mod rendered;
mod running;
mod settings;
mod statistics;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use handover_core::{Epoch, Target};
use handover_files::PrivateDir;
use handover_process::Signal;
use handover_tokio::{Proxy, RunControl, RunError};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use self::drain::{CutConnections, Drains, Stop, holding};
use self::epoch_files::EpochFiles;
use self::epoch_run::StandIns;
use self::epochs::preparation::LastValid;
use self::lineage::Lineages;
use self::observed::Observer;
use self::records::Records;
use self::running::{FileId, RunningEpochs};
use crate::args::EnvoyArgs;
use crate::drain::{least_pause, pause_after};
use crate::files::{RunDir, TemporaryRunDir};
use crate::hot_restart::HostPaths;
use crate::version::check_binary;

pub use self::builder::EnvoyBuilder;
pub use self::config::{ConfigError, EnvoyConfig};
pub use self::drain::{Holding, OnRequestError};
pub use self::epoch_run::{HungAction, Watchdog};
pub use self::epochs::succession::NotSideBySide;
pub use self::error::{EnvoyFailed, SetupError};
use self::examination::SharedEvidence;
pub use self::examination::{
    ClusterCounts, Examination, MissingCluster, MissingListener, RequestTotals,
};
pub use self::observed::Observed;
pub use self::overview::{EndedEpoch, EpochOverview, Overview};
#[cfg(feature = "template")]
pub use self::rendered::RenderError;
pub use self::running::{EpochListeners, ListenerPurpose, ListenerSeen};
use self::settings::EnvoySettings;
pub use self::settings::StopOptions;
pub use self::statistics::{EpochStatistics, NotScraped};

/// How often connections are counted while a caller waits until none is left.
const COUNT: Duration = Duration::from_millis(50);

/// A real Envoy, run by an [`Agent`](handover_tokio::Agent).
pub struct Envoy {
    settings: EnvoySettings,
    args: EnvoyArgs,
    files: EpochFiles,
    lineages: Arc<Lineages>,
    running: RunningEpochs,
    stand_ins: StandIns,
    records: Records,
    observer: Observer,
    evidence: SharedEvidence,
    drains: Drains,
    cut: CutConnections,
    last_valid: Mutex<LastValid<FileId>>,
    /// The run directory, where it was made for this adapter alone. It goes last.
    _temporary: Option<TemporaryRunDir>,
}

impl Envoy {
    /// Checks the settings, takes the base id and makes the run directory. It starts no Envoy.
    ///
    /// # Errors
    ///
    /// [`SetupError`]; nothing is left behind then.
    fn new(settings: EnvoySettings) -> Result<Self, SetupError> {
        check_binary(&settings.binary)?;
        let args = EnvoyArgs::new(settings.args.clone())?;
        let mut run_dir = RunDir::create(&settings.run_dir)?;
        if let Some(group) = settings.run_dir_group {
            run_dir = run_dir.readable_by(group)?;
        }
        let locks = PrivateDir::create(&settings.lock_dir)?;
        let host = HostPaths::with_locks(locks.path());
        let lineages = Lineages::claim(settings.base_id, settings.instance.clone(), host)?;
        Ok(Self {
            args,
            files: EpochFiles::new(run_dir),
            lineages: Arc::new(lineages),
            running: RunningEpochs::new(settings.stop.exclude.clone()),
            stand_ins: StandIns::default(),
            records: Records::new(
                settings.last_good.clone(),
                settings.reports.clone(),
                settings.binary.clone(),
            ),
            observer: Observer::default(),
            evidence: SharedEvidence::default(),
            drains: Drains::default(),
            cut: CutConnections::default(),
            last_valid: Mutex::default(),
            _temporary: None,
            settings,
        })
    }

    fn with_temporary_run_dir(self, temporary: Option<TemporaryRunDir>) -> Self {
        Self {
            _temporary: temporary,
            ..self
        }
    }

    /// Returns the base id, whether it was given or picked. If an Envoy replaced another one side
    /// by side, epochs run under a further one until the next such change.
    #[must_use]
    pub fn base_id(&self) -> u32 {
        self.lineages.home()
    }

    /// Tells this function what is observed of the processes. It is called from the tasks that follow them, so
    /// it must not block. Only the first function counts.
    pub fn observe(&self, take: impl Fn(Observed) + Send + Sync + 'static) {
        self.observer.set(take);
    }

    /// Sends a signal to every running epoch, SIGUSR1 for example, which makes Envoy open its log
    /// files again. Epochs that have just ended are passed over.
    pub fn signal_all(&self, signal: Signal) {
        for process in self.running.all() {
            // One that has ended in between has no use for it.
            let _ended = process.child.signal(signal);
        }
    }

    /// Makes the health checks of the live epoch fail, and of each one that goes live later, until
    /// [`undrain`](Self::undrain). Every client is asked to close with its next answer; new
    /// connections are still accepted. Returns the epoch that was told, if one is live and can be told: while the
    /// next epoch starts, that one has the endpoint, and is told when it goes live.
    ///
    /// # Errors
    ///
    /// [`OnRequestError`]; nothing is remembered then.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the drain counts as asked for, and the live epoch may or may not
    /// have heard it. It can be called again.
    pub async fn drain_on_request(&self) -> Result<Option<Epoch>, OnRequestError> {
        self.drains.change(&self.running, true).await
    }

    /// Takes [`drain_on_request`](Self::drain_on_request) back: health checks succeed again, clients
    /// are not asked to close any more. Those that were asked already may still close.
    ///
    /// It takes back no stop that has begun: that one has closed the listeners.
    ///
    /// # Errors
    ///
    /// [`OnRequestError`]; the drain is still remembered then.
    ///
    /// # Cancel safety
    ///
    /// As [`drain_on_request`](Self::drain_on_request).
    pub async fn undrain(&self) -> Result<Option<Epoch>, OnRequestError> {
        self.drains.change(&self.running, false).await
    }

    /// Returns whether a drain was asked for and not taken back.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drains.is_drained()
    }

    /// Returns the connections that clients have at this moment, without those of the listeners that
    /// do not hold a stop. An epoch whose connections cannot be counted is among them, without a
    /// number.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn held_by(&self) -> Vec<Holding> {
        holding(&self.running).await
    }

    /// Returns where clients connect to each running epoch: where it listens, and where it has listened
    /// before a newer one took over. It looks at the sockets of every epoch.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn listeners(&self) -> Vec<EpochListeners> {
        running::listeners_of_each(&self.running).await
    }

    /// Waits until no client has a connection. While the connections of an epoch cannot be counted, it
    /// goes on waiting.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn without_clients(&self) {
        let begun = Instant::now();
        loop {
            let looking = Instant::now();
            if self.held_by().await.is_empty() {
                return;
            }
            let least = least_pause(begun.elapsed(), COUNT);
            sleep(pause_after(looking.elapsed(), least)).await;
        }
    }

    /// Returns what runs, and what ended last. It looks at the sockets of every epoch, so it takes
    /// some milliseconds, on threads for blocking work.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn overview(&self) -> Overview {
        Overview {
            epochs: overview::of_each(&self.running).await,
            last_ended: self.records.last_ended(),
            drained: self.is_drained(),
        }
    }

    /// Looks at what a live epoch can do, through its admin endpoint. Each look asks `/listeners`,
    /// `/init_dump` and, three times, `/stats`; with missing listeners also `/config_dump`.
    ///
    /// Each answer is waited for a second at most, and is 4 MiB at most. A look takes 1.5 ms of the main
    /// thread of Envoy 1.40 with 10 listeners and 10 clusters, and 130 ms with 1,000 of each. Its
    /// workers go on meanwhile.
    ///
    /// Nothing is known of an epoch that is not the newest one: a newer epoch has the admin endpoint.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next look sees what a dropped one has not.
    pub async fn examine(&self, epoch: Epoch) -> Examination {
        examination::examine(self, epoch).await
    }

    /// Returns whether [`EnvoyBuilder::statistics`] asks for the statistics of epochs that end.
    #[must_use]
    pub fn keeps_statistics(&self) -> bool {
        self.settings.statistics
    }

    /// Asks the epoch that has the admin endpoint for its statistics, and returns them with its number. With
    /// `only_used`, what was never counted is left out. The answer takes five seconds and is 64 MiB at most.
    ///
    /// Older epochs have no endpoint. An epoch takes over what its parent counts while that drains.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call sees what a dropped one has not.
    pub async fn statistics(&self, only_used: bool) -> Vec<EpochStatistics> {
        statistics::of_each(self, only_used).await
    }

    /// Returns what a stop has cut, because clients still had it at the end of its time or nobody
    /// could tell that they had not: `3 connections on listener X of epoch 1`.
    pub fn cut(&self) -> Vec<String> {
        self.cut.all()
    }

    /// Returns how the newest live epoch has ended under its clients, if it did so within a second before a stop
    /// began that found nothing to drain: it was told to end together with this program, as by
    /// `KillMode=control-group` of systemd. Ask once everything has ended.
    pub fn lost(&self) -> Option<String> {
        self.drains.lost_in_words()
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
            Target::Serve(config) => epoch_run::serve(self, config, epoch, control).await,
            Target::Drain => {
                self.drains.begin_stop();
                let stop = Stop {
                    running: &self.running,
                    options: &self.settings.stop,
                    cut: &self.cut,
                    drains: &self.drains,
                };
                stop.drain(&control).await
            }
        }
    }

    fn cleanup(&self, epoch: Epoch) {
        self.files.remove(epoch);
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
