//! `handover run`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use handover_envoy::admin::Exclude;
use handover_envoy::args::{ArgsOptions, EnvoyArgs};
use handover_envoy::files::{RunDir, TemporaryRunDir};
use handover_envoy::hot_restart::{BaseId, BaseIdChoice};
use handover_envoy::last_good::LastKnownGood;
use handover_envoy::report::{CrashReports, TerminationError, termination_message};
use handover_envoy::validate::Verdict;
use handover_envoy::{Envoy, EnvoyBuilder, EnvoyConfig, HungAction, StopOptions, Watchdog};
use handover_files::PrivateDir;
use handover_process::{OutputSink, RunAs};
use handover_supervisor::control::Directory;
use handover_supervisor::operator::OnTerminate;
use handover_supervisor::{ServiceManager, Signals};

use super::doctor;
use super::envoy_args::node_options;
use super::envoy_binary;
use super::envoy_config::{ConfigFile, ConfigSource, Given};
use super::named_directory::{full, make_full};
use super::order::Order;
use super::own_files;
use super::run_as;
use super::status_address;
use super::verify;
use crate::cli::control::SocketPath;
use crate::cli::group::Group;
use crate::cli::run::{ConfigFrom, Fallback, OnHung, RunArgs, WaitForResources};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::instance::Instance;
use crate::logging::Logging;
use crate::passed::{self, Passed};
use crate::service_manager;
use crate::supervise::prepare_threads;
use crate::supervised::{Supervised, SupervisedSource, Supervisor};

/// How many epochs of Envoy can run at once without harm to each other.
const ENVOY_EPOCHS: u32 = 2;

pub(super) async fn run(mut args: RunArgs, passed: Passed) -> Result<ExitCode, Fatal> {
    followed_paths(&mut args).for_each(make_full);
    let termination_log = args.termination_log.clone();
    let (signals, logging) = match prepare_process(&args) {
        Ok(prepared) => prepared,
        Err(error) => {
            // What cannot be written here is told by the error itself.
            let _unwritten = leave_reason(termination_log.as_deref(), &error);
            return Err(error);
        }
    };
    passed::refuse(passed);
    let manager = service_manager::from_environment();
    let result = match prepare_threads() {
        Ok(()) => supervise(args, signals, logging.children(), manager.clone()).await,
        Err(error) => Err(error),
    };
    service_manager::report_end(manager.as_ref(), &result).await;
    if let Err(error) = &result
        && let Err(error) = leave_reason(termination_log.as_deref(), error)
    {
        tracing::warn!("{:#}", anyhow::Error::new(error));
    }
    Ok(logging.finish(result))
}

/// What each start may find in another place, once the link that led to the working directory leads elsewhere. What
/// is written stays where it is.
fn followed_paths(args: &mut RunArgs) -> impl Iterator<Item = &mut PathBuf> {
    let envoy = &mut args.envoy;
    let config = envoy
        .config_path
        .iter_mut()
        .chain(&mut envoy.config_overlay);
    let binary = Some(&mut envoy.envoy_path).filter(|path| !envoy_binary::is_name(path));
    config.chain(binary).chain(&mut args.watched.watch)
}

fn prepare_process(args: &RunArgs) -> Result<(Signals, Logging), Fatal> {
    let signals = Signals::take_over().or_exit(ExitCode::OS)?;
    prepare_threads()?;
    let logging = Logging::start(&args.logging).or_exit(ExitCode::OS)?;
    Ok((signals, logging))
}

/// Writes to the termination log why handover ends, for every end but 0.
fn leave_reason(path: Option<&Path>, error: &Fatal) -> Result<(), TerminationError> {
    match path {
        Some(path) => termination_message(path, &error.to_string()),
        None => Ok(()),
    }
}

async fn supervise(
    args: RunArgs,
    mut signals: Signals,
    output: Arc<dyn OutputSink>,
    manager: Option<ServiceManager>,
) -> Result<ExitCode, Fatal> {
    let prepared = tokio::select! {
        prepared = prepare(args, output, manager) => prepared?,
        signal = signals.end() => {
            tracing::info!("received {signal} before Envoy was started");
            return Ok(ExitCode::CLEAN);
        }
    };
    crate::supervise::supervise(prepared.supervisor, signals, "--termination-drain").await
}

/// All that is needed before the first epoch.
struct Prepared {
    supervisor: Supervisor,
    /// It goes when the last epoch is gone.
    _run_dir: Option<TemporaryRunDir>,
}

/// Waits for what the node has to tell, and for a verdict on the configuration where there is
/// another one to fall back to.
async fn prepare(
    mut args: RunArgs,
    output: Arc<dyn OutputSink>,
    manager: Option<ServiceManager>,
) -> Result<Prepared, Fatal> {
    judge(&args)?;
    own_files::judge_output(&watched(&args))?;
    if args.policy.max_epochs > ENVOY_EPOCHS {
        tracing::warn!(
            "--max-epochs {}: Envoy ends its oldest epoch when a third one starts, and cuts what that \
             one still serves; {ENVOY_EPOCHS} is the highest number without a loss",
            args.policy.max_epochs
        );
    }
    let order = Order::open(&args.order, args.watched.rescan_interval.0)?;
    // What was typed is judged before anything is bound or written.
    let limit = args.stop.termination_drain;
    let run_as = run_as::run_as(&args.run_as)?;
    let probes = verify::probes(&args.policy.probation).await?;
    let binary = envoy_binary(&args.envoy.envoy_path)?;
    let arguments = arguments(&args).await;
    let checked = EnvoyArgs::new(arguments.clone()).or_exit(ExitCode::USAGE)?;
    if args.config_from == ConfigFrom::Socket
        && let Some(dir) = in_state_dir(&args, PrivateDir::create)?
    {
        // Others can neither read nor replace what is kept there.
        args.keep_in(dir.path());
    }
    let directory = lock_dir(&args);
    let instance = Instance::open(&args.control, &directory)?;
    if args.config_from == ConfigFrom::Socket && instance.socket.is_none() {
        let problem = "there is no control socket to take a configuration from; choose its place with --socket";
        return Err(Fatal::new(ExitCode::UNAVAILABLE, anyhow::anyhow!(problem)));
    }
    let status_server = status_address::listen(&args.status_server).await?;
    let recorder = args.recorded.recorder(args.state_dir.as_deref());
    let output = match &recorder {
        Some(recorder) => recorder.keep_lines(output),
        None => output,
    };
    let on_terminate = match args.native_sidecar {
        true => OnTerminate::Stop,
        false => OnTerminate::Drain,
    };
    let (run_dir, temporary) = run_dir(&args)?;
    let locks = directory
        .make()
        .context("--lock-dir")
        .or_exit(ExitCode::OS)?;
    let lock_dir = locks.path().to_owned();
    let policy = args.policy.policy(Some(limit));
    let watched = watched(&args);
    let rescan = args.watched.rescan_interval.0;
    let file = ConfigFile::new(&args.envoy, &args.node);
    let fallback = args.fallback;
    let watch_binary = args.watch_binary;
    let settings = doctor::settings(&args, limit, Ok(checked.clone()), None);
    let places = doctor::places(&args, &lock_dir, Ok(binary.clone()), None);
    let last_good = in_state_dir(&args, LastKnownGood::open)?;
    let programs = match watch_binary {
        true => vec![binary.clone()],
        false => Vec::new(),
    };
    let given = (args.config_from == ConfigFrom::Socket).then(|| Given {
        kept: file.path().to_owned(),
        binary: binary.clone(),
        args: checked.clone(),
        run_as: run_as.clone(),
    });
    let stand_in = match (fallback, &last_good) {
        // Nobody has given a configuration yet, so there is nothing to stand in for.
        _ if given.as_ref().is_some_and(|given| !given.is_kept()) => None,
        // Without a store it was refused before.
        (Fallback::Nothing, _) | (Fallback::LastKnownGood, None) => None,
        (Fallback::LastKnownGood, Some(store)) => {
            stand_in(&file, &binary, &checked, store, &run_as).await?
        }
    };
    let envoy = envoy(&args, binary, limit, output)?
        .args(arguments)
        .run_as(run_as)
        .run_dir(run_dir)
        .lock_dir(lock_dir)
        .last_good(last_good)
        .build()
        .map_err(|error| {
            let code = ExitCode::of_failure(&error);
            Fatal::new(code, error)
        })?;
    tracing::info!(
        base_id = envoy.base_id(),
        "Envoy has the base id {}",
        envoy.base_id()
    );
    let source = ConfigSource::new(file, stand_in)
        .with_programs(programs)
        .with_clients(given);
    let first = source.first();
    let supervisor = Supervisor::builder(
        Arc::new(Supervised::from(envoy)),
        SupervisedSource::from(source),
    )
    .policy(policy)
    .evidence(args.policy.probation.rules(args.max_error_rise))
    .verify(probes)
    .hooks(args.hooks.hooks())
    .watch(watched)
    .rescan(rescan)
    .on_terminate(on_terminate)
    .service_manager(manager)
    .record(recorder)
    .status_server(status_server);
    let supervisor = instance.control(order.of(supervisor)).build()?;
    doctor::log_beside_the_start(settings, places, first, supervisor.handle().status());
    Ok(Prepared {
        supervisor,
        _run_dir: temporary,
    })
}

/// Refuses what no start can make good, from flags and variables alone.
pub(super) fn judge(args: &RunArgs) -> Result<(), Fatal> {
    let limit = args.stop.termination_drain;
    args.policy
        .policy(Some(limit))
        .check()
        .or_exit(ExitCode::USAGE)?;
    verify::judge(&args.policy.probation, args.max_error_rise.is_some())?;
    base_id(args)?;
    run_as::judge(&args.run_as)?;
    judge_config_from(args)?;
    let places = [
        ("--state-dir", args.state_dir.as_ref()),
        ("--run-dir", args.run_dir.as_ref()),
        ("--lock-dir", args.lock_dir.as_ref()),
    ];
    own_files::judge(&watched(args), &places)?;
    if args.fallback == Fallback::LastKnownGood && args.state_dir.is_none() {
        return Err(Fatal::usage(
            "--fallback last-known-good needs --state-dir, where that configuration is kept",
        ));
    }
    if args.fallback == Fallback::LastKnownGood && !args.order.wait_for_file.is_empty() {
        return Err(Fatal::usage(
            "--wait-for-file goes with --fallback nothing only: a fallback starts at once, and would not \
             wait for a file",
        ));
    }
    Ok(())
}

/// Refuses a place for the configuration that does not go with where it comes from.
fn judge_config_from(args: &RunArgs) -> Result<(), Fatal> {
    let is_named = args.envoy.config_path.is_some();
    let problem = match args.config_from {
        ConfigFrom::File if !is_named => {
            "--config-path FILE is missing; or let `handover apply` give the configuration, with --config-from \
             socket"
        }
        ConfigFrom::Socket if is_named => {
            "--config-path goes with --config-from file only: `handover apply` gives the configuration"
        }
        ConfigFrom::Socket if args.state_dir.is_none() => {
            "--config-from socket needs --state-dir, where the configuration is kept"
        }
        ConfigFrom::Socket if args.control.socket == Some(SocketPath::None) => {
            "--config-from socket needs a control socket, and --socket is none"
        }
        ConfigFrom::File | ConfigFrom::Socket => return Ok(()),
    };
    Err(Fatal::usage(problem))
}

/// The files whose changes lead to the next epoch. What clients give is told by them.
pub(super) fn watched(args: &RunArgs) -> Vec<PathBuf> {
    let path = match args.config_from {
        ConfigFrom::File => Some(args.envoy.path().to_owned()),
        ConfigFrom::Socket => None,
    };
    let others = args.envoy.config_overlay.iter().chain(&args.watched.watch);
    path.into_iter().chain(others.cloned()).collect()
}

/// The directory for the configurations of the epochs, and its guard where it is made for this run.
fn run_dir(args: &RunArgs) -> Result<(PathBuf, Option<TemporaryRunDir>), Fatal> {
    if let Some(dir) = &args.run_dir {
        let made = RunDir::create(dir)
            .context("--run-dir")
            .or_exit(ExitCode::OS)?;
        return Ok((made.path().to_owned(), None));
    }
    let made = TemporaryRunDir::create(&tempfile::env::temp_dir())
        .context("choose another place with --run-dir")
        .or_exit(ExitCode::OS)?;
    Ok((made.run_dir().path().to_owned(), Some(made)))
}

/// The command line that every epoch gets.
pub(super) async fn arguments(args: &RunArgs) -> ArgsOptions {
    ArgsOptions {
        drain_time: args.drain_time,
        parent_shutdown_time: args.parent_shutdown_time,
        concurrency: args.concurrency,
        log_level: args.envoy_log.envoy_log_level.clone(),
        component_log_level: args.envoy_log.envoy_component_log_level.clone(),
        ..node_options(&args.node, &args.extra).await
    }
}

pub(super) fn base_id(args: &RunArgs) -> Result<BaseIdChoice, Fatal> {
    let Some(number) = args.base_id else {
        return Ok(BaseIdChoice::Auto);
    };
    let base_id = BaseId::new(number).context("--base-id");
    Ok(BaseIdChoice::Explicit(base_id.or_exit(ExitCode::USAGE)?))
}

/// How others are told about this agent, and how it knows itself again after it was killed: with the
/// full path, so that no two that can run at once have one name.
pub(super) fn owner(args: &RunArgs) -> String {
    let path = args.envoy.path();
    format!("handover run {}", full(path).display())
}

pub(super) fn lock_dir(args: &RunArgs) -> Directory {
    Directory::new(args.lock_dir.clone())
}

/// What the flags say of Envoy, apart from its command line and its places.
fn envoy(
    args: &RunArgs,
    binary: PathBuf,
    termination_drain: Duration,
    output: Arc<dyn OutputSink>,
) -> Result<EnvoyBuilder, Fatal> {
    let stop = StopOptions {
        pre_drain_delay: args.stop.pre_drain_delay,
        minimum: args.stop.min_drain,
        limit: termination_drain,
        exclude: Exclude {
            ports: args.stop.drain_exclude_port.iter().copied().collect(),
            listeners: args.stop.drain_exclude_listener.iter().cloned().collect(),
            inbound_only: args.stop.drain_inbound_only,
        },
    };
    // Without a time it is not asked: an idle supervisor sleeps.
    let watchdog = args.hung_after.0.map(|hung_after| Watchdog {
        hung_after,
        action: match args.on_hung {
            OnHung::Restart => HungAction::Restart,
            OnHung::Report => HungAction::Report,
        },
    });
    Ok(Envoy::builder(binary)
        .base_id(base_id(args)?)
        .instance(owner(args))
        .run_dir_group(args.run_dir_group.map(Group::id))
        .shared_output(output)
        .stop(stop)
        .repair(!args.no_repair)
        .watchdog(watchdog)
        .wait_for_resources(args.wait_for_resources == WaitForResources::Yes)
        .memory_guard(args.policy.memory_guard.into())
        .statistics(args.status_envoy_stats)
        .on_exit(args.policy.on_exit)
        .reports(in_state_dir(args, CrashReports::open)?))
}

/// Opens something in the state directory, if one was named.
fn in_state_dir<T, E>(
    args: &RunArgs,
    open: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<Option<T>, Fatal>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let opened = args.state_dir.as_deref().map(open).transpose();
    opened.context("--state-dir").or_exit(ExitCode::OS)
}

/// The last good configuration, where the one that is asked for cannot be used.
async fn stand_in(
    file: &ConfigFile,
    binary: &Path,
    args: &EnvoyArgs,
    store: &LastKnownGood,
    run_as: &RunAs,
) -> Result<Option<Arc<EnvoyConfig>>, Fatal> {
    let problem = match file.read().await {
        Err(error) => format!("{error:#}"),
        Ok(config) => match file.verdict(binary, args, &config, run_as).await? {
            Verdict::Rejected { message } => format!("{}: {message}", file.name()),
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
