//! `handover run`.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use handover_envoy::admin::LivePoll;
use handover_envoy::args::{ArgsOptions, EnvoyArgs};
use handover_envoy::hot_restart::{BaseId, BaseIdChoice};
use handover_envoy::last_good::LastKnownGood;
use handover_envoy::report::{CrashReports, termination_message};
use handover_envoy::validate::{Verdict, validate};
use handover_envoy::{Envoy, EnvoyConfig, EnvoySettings, HungAction, StopOptions, Watchdog};
use handover_tokio::process::{OutputSink, Signal};
use handover_tokio::watch::FileState;

use super::envoy_binary;
use crate::cli::run::{Fallback, OnHung, RunArgs};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::logging::Logging;
use crate::signals::Signals;
use crate::source::{Files, Source};
use crate::supervise::{Forward, Supervisor};

pub(super) async fn run(args: RunArgs) -> Result<ExitCode, Fatal> {
    let signals = Signals::take_over().or_exit(ExitCode::OS)?;
    let logging = Logging::start(&args.logging).or_exit(ExitCode::OS)?;
    let termination_log = args.termination_log.clone();
    let result = supervise(args, signals, logging.children()).await;
    if let (Some(path), Err(error)) = (&termination_log, &result)
        && let Err(error) = termination_message(path, &error.to_string())
    {
        tracing::warn!("{:#}", anyhow::Error::new(error));
    }
    Ok(logging.finish(result))
}

async fn supervise(
    args: RunArgs,
    signals: Signals,
    output: Arc<dyn OutputSink>,
) -> Result<ExitCode, Fatal> {
    // It goes when the last epoch is gone.
    let temporary;
    let run_dir = match &args.run_dir {
        Some(dir) => dir.clone(),
        None => {
            temporary = tempfile::Builder::new()
                .prefix("handover-run-")
                .tempdir()
                .context("making a directory for the configurations of the epochs")
                .or_exit(ExitCode::OS)?;
            temporary.path().to_owned()
        }
    };
    let policy = args.policy.policy(Some(args.termination_drain));
    let mut watched = vec![args.envoy.config_path.clone()];
    watched.extend(args.watch.iter().cloned());
    let mut source = ConfigFile::new(args.envoy.config_path.clone());
    let fallback = args.fallback;
    let watch_binary = args.watch_binary;
    let settings = settings(args, run_dir, output)?;
    if watch_binary {
        source.programs.push(settings.binary.clone());
    }
    if fallback == Fallback::LastKnownGood {
        source.stand_in = stand_in(&source.path, &settings).await?;
    }
    let envoy = Envoy::new(settings).map_err(|error| {
        let code = ExitCode::of_failure(&error);
        Fatal::new(code, error)
    })?;
    tracing::info!(
        base_id = envoy.base_id(),
        "Envoy has the base id {}",
        envoy.base_id()
    );
    let supervisor = Supervisor::new(Arc::new(envoy), policy, source, &watched)?;
    supervisor.run(signals).await
}

fn settings(
    args: RunArgs,
    run_dir: PathBuf,
    output: Arc<dyn OutputSink>,
) -> Result<EnvoySettings, Fatal> {
    let base_id = match args.base_id {
        Some(number) => BaseIdChoice::Explicit(
            BaseId::new(number)
                .context("--base-id")
                .or_exit(ExitCode::USAGE)?,
        ),
        None => BaseIdChoice::Auto,
    };
    let (last_good, reports) = match &args.state_dir {
        None => (None, None),
        Some(dir) => (
            Some(LastKnownGood::open(dir).or_exit(ExitCode::OS)?),
            Some(CrashReports::open(dir).or_exit(ExitCode::OS)?),
        ),
    };
    Ok(EnvoySettings {
        binary: envoy_binary(&args.envoy.envoy_path)?,
        args: ArgsOptions {
            drain_time: args.drain_time,
            parent_shutdown_time: args.parent_shutdown_time,
            concurrency: args.concurrency,
            extra: args.extra,
            ..ArgsOptions::default()
        },
        base_id,
        instance: instance(&args.envoy.config_path),
        run_dir,
        lock_dir: args.lock_dir.unwrap_or_else(default_lock_dir),
        output,
        live_poll: LivePoll::default(),
        stop: StopOptions {
            pre_drain_delay: args.pre_drain_delay,
            minimum: args.min_drain,
            limit: args.termination_drain,
            ..StopOptions::default()
        },
        repair: !args.no_repair,
        // Without a time it is not asked: an idle supervisor sleeps.
        watchdog: args.hung_after.0.map(|hung_after| Watchdog {
            hung_after,
            action: match args.on_hung {
                OnHung::Restart => HungAction::Restart,
                OnHung::Report => HungAction::Report,
            },
        }),
        last_good,
        reports,
    })
}

/// How others are told about this agent, and how it knows itself again after it was killed: with the
/// full path, so that no two that can run at once have one name.
fn instance(config_path: &Path) -> String {
    let absolute = std::path::absolute(config_path).unwrap_or_else(|_| config_path.to_owned());
    format!("handover run {}", absolute.display())
}

/// The last good configuration, where the one that is asked for cannot be used.
async fn stand_in(
    path: &Path,
    settings: &EnvoySettings,
) -> Result<Option<Arc<EnvoyConfig>>, Fatal> {
    let Some(store) = &settings.last_good else {
        return Err(Fatal::usage(
            "--fallback last-known-good needs --state-dir, where that configuration is kept",
        ));
    };
    let args = EnvoyArgs::new(settings.args.clone()).or_exit(ExitCode::USAGE)?;
    let problem = match EnvoyConfig::read(path) {
        Err(error) => format!("{:#}", anyhow::Error::new(error)),
        Ok(_) => match validate(&settings.binary, &args, path).await {
            Verdict::Rejected { message } => format!("{}: {message}", path.display()),
            // Without a verdict the start itself will tell.
            Verdict::Valid | Verdict::CouldNotRun(_) => return Ok(None),
        },
    };
    match store.load() {
        Ok(Some(good)) => {
            tracing::error!(
                "cannot use the configuration, and falls back to the one that was live at {}: \
                 {problem}",
                humantime::format_rfc3339_seconds(good.at)
            );
            Ok(Some(Arc::new(good.config)))
        }
        Ok(None) => {
            tracing::warn!("no configuration has gone live yet that could be fallen back to");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!("{:#}", anyhow::Error::new(error));
            Ok(None)
        }
    }
}

/// Where the locks of the base ids are: common to all agents of a user. A directory that others may
/// write to would not do, so users do not share one; that the base ids of other users are in use
/// is seen by their sockets.
pub(super) fn default_lock_dir() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return "/run/handover".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("handover"),
        None => std::env::temp_dir().join(format!("envoy-base-ids-{}", user.as_raw())),
    }
}

/// A configuration file, and other files that Envoy reads.
pub(super) struct ConfigFile {
    path: PathBuf,
    /// As the files are told by their full paths.
    absolute: PathBuf,
    stand_in: Option<Arc<EnvoyConfig>>,
    /// The Envoy binary, where its replacement shall lead to the next epoch.
    programs: Vec<PathBuf>,
}

impl ConfigFile {
    pub(super) fn new(path: PathBuf) -> Self {
        // Without a working directory the path cannot be watched either, and that is told.
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        Self {
            path,
            absolute,
            stand_in: None,
            programs: Vec::new(),
        }
    }

    /// What the other files hold, as a number.
    fn inputs(&self, files: &Files) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        let Some(snapshot) = files.snapshot() else {
            return 0;
        };
        for (path, state) in snapshot.files() {
            if *path != self.absolute {
                path.hash(&mut hasher);
                match state {
                    FileState::Present { digest, .. }
                    | FileState::Unread {
                        identity: digest, ..
                    } => digest.hash(&mut hasher),
                    FileState::Directory | FileState::Missing | FileState::Unreadable { .. } => {}
                }
            }
        }
        hasher.finish()
    }
}

impl Source for ConfigFile {
    type Config = Arc<EnvoyConfig>;

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn read(&self, files: &Files, generation: u64) -> anyhow::Result<Arc<EnvoyConfig>> {
        let config = EnvoyConfig::read(&self.path)?;
        let config = config
            .with_generation(generation)
            .with_inputs(self.inputs(files));
        Ok(Arc::new(config))
    }

    fn programs(&self) -> &[PathBuf] {
        &self.programs
    }

    fn stand_in(&self) -> Option<Arc<EnvoyConfig>> {
        self.stand_in.clone()
    }
}

impl Forward for Envoy {
    fn forward(&self, signal: Signal) {
        self.signal_all(signal);
    }
}
