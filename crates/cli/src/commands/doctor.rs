//! `handover doctor`, and what `run` logs of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use handover_core::{EpochState, Standing};
use handover_envoy::EnvoyConfig;
use handover_envoy::args::{ArgsError, EnvoyArgs};
use handover_envoy::hot_restart::{BaseId, BaseIdChoice};
use handover_runtime::offload::offload;
use handover_runtime::time_limit::timeout;
use handover_tokio::Status;
use handover_watch::Rescan;
use tokio::sync::watch;

use super::envoy_binary;
use super::envoy_config::{ConfigFile, beside_the_loop};
use super::run::{arguments, base_id, judge, lock_dir, owner, watched};
use crate::cli::doctor::DoctorArgs;
use crate::cli::duration;
use crate::cli::run::RunArgs;
use crate::doctor::{
    ConfigurationFacts, Finding, GracePeriod, Known, Places, Report, Scope, Settings, Severity,
    Unknown, config_facts, examine_at_start, file_facts, gather, no_answer,
};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::supervise::prepare_threads;

/// How long a configuration may take to be read.
const READ: Duration = Duration::from_secs(5);
/// How long a template may take: it waits for addresses, and is rendered in a process of its own.
const RENDER: Duration = Duration::from_secs(15);
/// How long `run` waits for its first epoch to be live before it looks, from the moment at which there is a
/// configuration to start: the start has the processors first.
const START: Duration = Duration::from_secs(3);

/// The variable of the flag of `doctor`, which `run` does not have.
const OUR_VARIABLE: &str = "HANDOVER_GRACE_PERIOD";
/// What a pod may pass to its containers.
const POD_VARIABLE: &str = "TERMINATION_GRACE_PERIOD_SECONDS";

pub(super) async fn run(args: DoctorArgs) -> Result<ExitCode, Fatal> {
    let DoctorArgs { mut run, report } = args;
    judge(&run)?;
    run.look_for_kept();
    prepare_threads()?;
    let limit = run.stop.termination_drain;
    let envoy_args = EnvoyArgs::new(arguments(&run).await);
    let settings = settings(&run, limit, envoy_args, report.grace_period);
    let binary = envoy_binary(&run.envoy.envoy_path).map_err(|error| error.to_string());
    let places = places(&run, &lock_dir(&run).expected(), binary, report.unit);
    let file = ConfigFile::new(&run.envoy, &run.node);
    let facts = gather(settings, places, Scope::All, configuration(&file)).await;
    let found = Report::new(&facts, report.all);
    if report.json {
        let json = serde_json::to_string_pretty(&found)
            .context("writing the findings as JSON")
            .or_exit(ExitCode::INTERNAL)?;
        super::print(json)?;
    } else {
        super::print(found.text())?;
    }
    Ok(found.exit_code())
}

/// Looks at the host once the first epoch is live, or some time after its start, and logs what is wrong. The
/// start does not wait for it, and is not disturbed by whatever it meets.
pub(super) fn log_beside_the_start(
    settings: Settings,
    places: Places,
    first: Arc<OnceLock<Arc<EnvoyConfig>>>,
    mut status: watch::Receiver<Status>,
) {
    // It ends with the runtime.
    tokio::spawn(async move {
        if !leaves_the_start_alone(&mut status).await {
            return;
        }
        let configuration = async {
            let config = first.get().cloned();
            let config = config.ok_or_else(|| Unknown("none was read yet".to_owned()))?;
            let facts = offload(move || config_facts(&config)).await;
            facts.map_err(|error| Unknown(error.to_string()))
        };
        let facts = gather(settings, places, Scope::Start, configuration).await;
        examine_at_start(&facts).iter().for_each(log);
    });
}

/// Waits until the first epoch is live, or its start has taken [`START`]. Files that are awaited, and a
/// template that waits for addresses, hold the start for as long as they like. Before it, the configuration
/// could not be judged. Returns false if everything ends without a start.
async fn leaves_the_start_alone(status: &mut watch::Receiver<Status>) -> bool {
    let begun = status.wait_for(|status| status.standing != Standing::Nothing);
    match begun.await {
        Err(_) => return false,
        Ok(status) if status.standing == Standing::Ending => return false,
        Ok(_) => {}
    }
    let is_live = |status: &Status| {
        let mut epochs = status.epochs.iter();
        epochs.any(|epoch| epoch.state == EpochState::Live)
    };
    let live = async { status.wait_for(is_live).await.is_ok() };
    // Late is no fault here.
    timeout(START, live).await.unwrap_or(true)
}

fn log(finding: &Finding) {
    let Finding {
        name,
        severity,
        value,
        reason,
        remedy,
        about: _,
    } = finding;
    let remedy = remedy.as_deref().unwrap_or("see `handover doctor`");
    match severity {
        Severity::Error => {
            tracing::error!(check = *name, "doctor: {name}: {value}: {reason}; {remedy}");
        }
        Severity::Warning | Severity::Information => {
            tracing::warn!(check = *name, "doctor: {name}: {value}: {reason}; {remedy}");
        }
    }
}

/// What the configuration says, read as `run` would read it.
async fn configuration(file: &ConfigFile) -> Known<ConfigurationFacts> {
    let limit = if file.is_template() { RENDER } else { READ };
    let read = async {
        if file.is_derived() {
            let config = file.read().await?;
            return Ok(offload(move || config_facts(&config)).await?);
        }
        let path = file.path().to_owned();
        beside_the_loop(move |unwanted| file_facts(&path, unwanted)).await
    };
    match timeout(limit, read).await {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(error)) => {
            let error: anyhow::Error = error;
            Err(Unknown(format!("{error:#}")))
        }
        Err(_) => Err(no_answer(limit)),
    }
}

/// What the flags of `run` say to the checks.
pub(super) fn settings(
    args: &RunArgs,
    termination_drain: Duration,
    envoy_args: Result<EnvoyArgs, ArgsError>,
    grace_period_flag: Option<Duration>,
) -> Settings {
    Settings {
        config_path: args.envoy.path().to_owned(),
        base_id: chosen_base_id(args),
        drain_time: args.drain_time,
        termination_drain,
        pre_drain_delay: args.stop.pre_drain_delay,
        min_drain: args.stop.min_drain,
        abort_grace: args.policy.policy(None).abort_grace,
        native_sidecar: args.native_sidecar,
        watch_binary: args.watch_binary,
        rescans: args.watched.rescan_interval.0 != Rescan::Never,
        concurrency_is_given: args.concurrency.is_some(),
        log_level_is_given: args.envoy_log.envoy_log_level.is_some(),
        args: envoy_args.map_err(|error| Unknown(format!("{:#}", anyhow::Error::new(error)))),
        grace_period: grace_period(grace_period_flag),
    }
}

fn chosen_base_id(args: &RunArgs) -> Option<BaseId> {
    match base_id(args).ok()? {
        BaseIdChoice::Explicit(id) => Some(id),
        BaseIdChoice::Auto => None,
    }
}

/// The time until SIGKILL from the flag, or from a variable.
fn grace_period(flag: Option<Duration>) -> Known<Option<GracePeriod>> {
    let from = |time, from| Ok(Some(GracePeriod { time, from }));
    if let Some(time) = flag {
        return from(time, "--grace-period");
    }
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(text) = variable(OUR_VARIABLE) {
        let time = duration::parse(&text.to_string_lossy());
        let time = time.map_err(|error| Unknown(format!("{OUR_VARIABLE}: {error}")))?;
        return from(time, OUR_VARIABLE);
    }
    if let Some(text) = variable(POD_VARIABLE) {
        let seconds = text.to_str().and_then(|text| text.parse::<u32>().ok());
        let seconds = seconds.ok_or_else(|| {
            Unknown(format!(
                "{POD_VARIABLE} is {text:?}, which is no number of whole seconds"
            ))
        })?;
        return from(Duration::from_secs(seconds.into()), POD_VARIABLE);
    }
    Ok(None)
}

/// What `run` would use.
pub(super) fn places(
    args: &RunArgs,
    lock_dir: &Path,
    binary: Result<PathBuf, String>,
    unit: Option<String>,
) -> Places {
    Places {
        watched: watched(args),
        lock_dir: lock_dir.to_owned(),
        instance: owner(args),
        binary,
        unit,
    }
}

#[cfg(test)]
mod tests {
    use handover_core::{Epoch, Held, Phase};
    use tokio::time::Instant;

    use super::*;

    fn status(standing: Standing) -> Status {
        Status {
            phase: Phase::Running,
            epochs: Vec::new(),
            standing,
            held: None,
            retries_left: None,
            degraded: false,
            last_failure: None,
            started: Instant::now(),
        }
    }

    /// The three seconds passed while files were awaited. The checks then judged a host without a
    /// configuration, and never again.
    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_start_begins_with_the_start() {
        let (told, mut status_of) = watch::channel(status(Standing::Nothing));
        let waiting = leaves_the_start_alone(&mut status_of);
        tokio::pin!(waiting);
        let early = tokio::time::timeout(START * 1_000, &mut waiting).await;
        assert!(early.is_err(), "it looked before the start");
        told.send_replace(status(Standing::Pending(Held::Starting(Epoch::ZERO))));
        let begun = Instant::now();
        assert!(waiting.await);
        assert!(begun.elapsed() >= START, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_start_nothing_is_looked_at() {
        let (told, mut ending) = watch::channel(status(Standing::Nothing));
        told.send_replace(status(Standing::Ending));
        assert!(!leaves_the_start_alone(&mut ending).await);
        let (told, mut gone) = watch::channel(status(Standing::Nothing));
        drop(told);
        assert!(!leaves_the_start_alone(&mut gone).await);
    }
}
