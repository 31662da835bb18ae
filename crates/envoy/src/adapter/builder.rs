//! Making an [`Envoy`] with as little said as possible.

use std::path::PathBuf;
use std::sync::Arc;

use handover_core::OnExit;
use handover_process::memory::Guard as MemoryGuard;
use handover_process::{Line, OutputSink, RunAs};

use super::{Envoy, EnvoySettings, SetupError, StopOptions, Watchdog};
use crate::admin::LivePoll;
use crate::args::ArgsOptions;
use crate::files::TemporaryRunDir;
use crate::hot_restart::BaseIdChoice;
use crate::last_good::LastKnownGood;
use crate::report::CrashReports;

/// Makes an [`Envoy`]. Every setting has a default.
#[must_use = "a builder does nothing until `build` is called"]
#[derive(Clone)]
pub struct EnvoyBuilder {
    settings: EnvoySettings,
    run_dir: Option<PathBuf>,
    lock_dir: Option<PathBuf>,
}

impl Envoy {
    /// Starts to describe an Envoy that runs this binary. The binary is looked at again for each
    /// epoch, so it may be replaced.
    ///
    /// ```no_run
    /// use handover_envoy::Envoy;
    /// use handover_envoy::args::ArgsOptions;
    ///
    /// let args = ArgsOptions { log_level: Some("warning".into()), ..ArgsOptions::default() };
    /// let envoy = Envoy::builder("/usr/local/bin/envoy")
    ///     .args(args)
    ///     .run_dir("/run/my-agent")
    ///     .build()?;
    /// # Ok::<(), handover_envoy::SetupError>(())
    /// ```
    pub fn builder(binary: impl Into<PathBuf>) -> EnvoyBuilder {
        EnvoyBuilder {
            settings: EnvoySettings {
                binary: binary.into(),
                args: ArgsOptions::default(),
                base_id: BaseIdChoice::Auto,
                instance: format!("process {}", std::process::id()),
                // Both are filled in when it is built.
                run_dir: PathBuf::new(),
                lock_dir: PathBuf::new(),
                run_dir_group: None,
                run_as: RunAs::new(),
                output: Arc::new(|_: &Line<'_>| {}),
                live_poll: LivePoll::default(),
                stop: StopOptions::default(),
                repair: true,
                watchdog: None,
                wait_for_resources: true,
                memory_guard: MemoryGuard::Hold,
                on_exit: OnExit::RESTART,
                last_good: None,
                statistics: false,
                reports: None,
            },
            run_dir: None,
            lock_dir: None,
        }
    }
}

impl EnvoyBuilder {
    /// Sets the command line of every epoch. Default: Envoy's own defaults for all that the adapter
    /// does not need.
    pub fn args(mut self, args: ArgsOptions) -> Self {
        self.settings.args = args;
        self
    }

    /// Sets the base id, which must belong to this agent alone. Default: one is chosen that nobody
    /// uses.
    pub fn base_id(mut self, base_id: BaseIdChoice) -> Self {
        self.settings.base_id = base_id;
        self
    }

    /// Sets the name under which the base id is owned. After a crash, an agent of the same name gets
    /// the same base id. Default: the process id.
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.settings.instance = instance.into();
        self
    }

    /// Sets the directory for the configuration file of each epoch. It is made if it is missing.
    /// Default: a new directory below `/tmp`, or below `TMPDIR`, which is removed at the end.
    pub fn run_dir(mut self, run_dir: impl Into<PathBuf>) -> Self {
        self.run_dir = Some(run_dir.into());
        self
    }

    /// Sets the group that may read the files in the run directory, for an Envoy that runs as another
    /// user. Default: none.
    pub fn run_dir_group(mut self, group: impl Into<Option<u32>>) -> Self {
        self.settings.run_dir_group = group.into();
        self
    }

    /// Sets the user, the groups and the capabilities of Envoy, also when it validates a configuration or
    /// reports its version. Another user can read its configuration by [`run_dir_group`](Self::run_dir_group),
    /// which is the group of that user unless it is set. Default: those of this process.
    pub fn run_as(mut self, run_as: RunAs) -> Self {
        self.settings.run_as = run_as;
        self
    }

    /// Sets the directory of the base-id locks. Agents on one host that choose their base ids should
    /// share it. Default: the run directory. Then an agent that chooses a base id passes over those
    /// under which an Envoy runs.
    pub fn lock_dir(mut self, lock_dir: impl Into<PathBuf>) -> Self {
        self.lock_dir = Some(lock_dir.into());
        self
    }

    /// Sets where the output of every epoch goes. Default: nowhere. The last lines are kept in any
    /// case, to explain a failure.
    pub fn output(self, output: impl OutputSink + 'static) -> Self {
        self.shared_output(Arc::new(output))
    }

    /// Sets where the output of every epoch goes, as [`output`](Self::output) does, to a sink that
    /// something else uses too.
    pub fn shared_output(mut self, output: Arc<dyn OutputSink>) -> Self {
        self.settings.output = output;
        self
    }

    /// Sets how an epoch is asked whether it is live. Default: [`LivePoll::default`].
    pub fn live_poll(mut self, live_poll: LivePoll) -> Self {
        self.settings.live_poll = live_poll;
        self
    }

    /// Sets how a stop drains. Default: [`StopOptions::default`].
    pub fn stop(mut self, stop: StopOptions) -> Self {
        self.settings.stop = stop;
        self
    }

    /// Sets whether the flag that a failed epoch leaves in shared memory is cleared. Without that, no
    /// epoch can follow a failed one until a cold restart. Default: true.
    pub fn repair(mut self, repair: bool) -> Self {
        self.settings.repair = repair;
        self
    }

    /// Watches the newest live epoch. Default: an Envoy that hangs is not noticed.
    pub fn watchdog(mut self, watchdog: impl Into<Option<Watchdog>>) -> Self {
        self.settings.watchdog = watchdog.into();
        self
    }

    /// Sets whether an epoch that starts beside one that serves waits for what its configuration fetches
    /// until its start deadline, whatever `initial_fetch_timeout` says. If it asks a control plane, it is also
    /// held until it has what the older epoch was seen to have from there. Default: true. Without that, Envoy
    /// goes live without what it did not get in time or has refused, and takes the listeners over.
    pub fn wait_for_resources(mut self, wait: bool) -> Self {
        self.settings.wait_for_resources = wait;
        self
    }

    /// Sets what is done where there is no room in memory for the next epoch beside the one that serves.
    /// Default: the start fails, and the one that serves goes on.
    pub fn memory_guard(mut self, guard: MemoryGuard) -> Self {
        self.settings.memory_guard = guard;
        self
    }

    /// Sets which ends of an Envoy that nobody asked for are final. Default: none, so that the policy
    /// decides.
    ///
    /// What follows from a clean end of a live epoch is part of the machine's policy; see
    /// [`OnExit::on_clean_exit`].
    pub fn on_exit(mut self, on_exit: OnExit) -> Self {
        self.settings.on_exit = on_exit;
        self
    }

    /// Keeps the configuration that was live last and has passed its probation. Without a probation
    /// ([`Policy::probation`](handover_core::Policy::probation)), that is the one that went live last.
    /// Default: it is not kept.
    pub fn last_good(mut self, last_good: impl Into<Option<LastKnownGood>>) -> Self {
        self.settings.last_good = last_good.into();
        self
    }

    /// Reports the ends of epochs that nobody asked for. Default: they are not reported.
    pub fn reports(mut self, reports: impl Into<Option<CrashReports>>) -> Self {
        self.settings.reports = reports.into();
        self
    }

    /// Sets whether the statistics of epochs are looked at for the last time before another one takes over, and
    /// told as [`Observed::Statistics`](super::Observed::Statistics). A hand-over takes up to a second longer with
    /// that, and a few milliseconds as a rule. Default: false.
    ///
    /// A configuration with neither `stats_flush_interval`, `stats_flush_on_admin` nor `stats_sinks` gets
    /// `stats_flush_on_admin: true`, so that nothing is counted by two epochs.
    pub fn statistics(mut self, statistics: bool) -> Self {
        self.settings.statistics = statistics;
        self
    }

    /// Checks the settings, takes the base id and makes the run directory. It starts no Envoy.
    ///
    /// # Errors
    ///
    /// [`SetupError`]; nothing is left behind then.
    pub fn build(self) -> Result<Envoy, SetupError> {
        let mut settings = self.settings;
        if settings.run_as.changes_user() && settings.run_dir_group.is_none() {
            settings.run_dir_group = settings.run_as.group();
        }
        let mut temporary = None;
        settings.run_dir = match self.run_dir {
            Some(run_dir) => run_dir,
            None => {
                let made = TemporaryRunDir::create(&std::env::temp_dir())?;
                let run_dir = made.run_dir().path().to_owned();
                temporary = Some(made);
                run_dir
            }
        };
        settings.lock_dir = self.lock_dir.unwrap_or_else(|| settings.run_dir.clone());
        Envoy::new(settings).map(|envoy| envoy.with_temporary_run_dir(temporary))
    }
}

impl std::fmt::Debug for EnvoyBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvoyBuilder")
            .field("binary", &self.settings.binary)
            .field("run_dir", &self.run_dir)
            .finish_non_exhaustive()
    }
}
