//! `handover run`.

use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use handover_envoy::admin::LivePoll;
use handover_envoy::args::ArgsOptions;
use handover_envoy::hot_restart::{BaseId, BaseIdChoice};
use handover_envoy::{Envoy, EnvoyConfig, EnvoySettings, StopOptions};
use handover_tokio::process::{OutputSink, Signal};

use super::envoy_binary;
use crate::cli::run::RunArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::logging::Logging;
use crate::signals::Signals;
use crate::source::{Files, Source};
use crate::supervise::{Forward, Supervisor};

pub(super) async fn run(args: RunArgs) -> Result<ExitCode, Fatal> {
    let signals = Signals::take_over().or_exit(ExitCode::OS)?;
    let logging = Logging::start(&args.logging).or_exit(ExitCode::OS)?;
    let result = supervise(args, signals, logging.children()).await;
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
    let source = ConfigFile::new(args.envoy.config_path.clone());
    let settings = settings(args, run_dir, output)?;
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
        instance: format!("handover run {}", args.envoy.config_path.display()),
        run_dir,
        lock_dir: args.lock_dir.unwrap_or_else(default_lock_dir),
        output,
        live_poll: LivePoll::default(),
        stop: StopOptions {
            limit: args.termination_drain,
            ..StopOptions::default()
        },
        repair: true,
    })
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
}

impl ConfigFile {
    pub(super) fn new(path: PathBuf) -> Self {
        // Without a working directory the path cannot be watched either, and that is told.
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        Self { path, absolute }
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
                if let handover_tokio::watch::FileState::Present { digest, .. } = state {
                    digest.hash(&mut hasher);
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
}

impl Forward for Envoy {
    fn forward(&self, signal: Signal) {
        self.signal_all(signal);
    }
}
