//! What `run`, `exec` and `demo` have in common: an agent, the signals, the watched files, and the
//! exit code. It is the same for every proxy.

use std::path::PathBuf;
use std::sync::Arc;

use handover_core::{Outcome, Policy};
use handover_tokio::process::{Signal, adopts_orphans, reap_orphans};
use handover_tokio::watch::WatchError;
use handover_tokio::{Agent, Applied, ApplyError, Handle, Proxy};
use tracing::{debug, error, info, warn};

use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit};
use crate::signals::{Request, Signals};
use crate::source::{Files, Reading, Source};

/// A proxy to whose processes a signal can be passed on.
pub(crate) trait Forward {
    /// Sends the signal to the process of every epoch.
    fn forward(&self, signal: Signal);
}

/// Keeps a proxy running with what its source asks for.
pub(crate) struct Supervisor<P: Proxy, S> {
    proxy: Arc<P>,
    agent: Agent<P>,
    handle: Handle<P::Config>,
    source: S,
    files: Files,
    generation: u64,
}

impl<P, S> Supervisor<P, S>
where
    P: Proxy + Forward,
    S: Source<Config = P::Config>,
{
    /// Checks the policy and reads the watched files. Nothing is started yet.
    pub(crate) fn new(
        proxy: Arc<P>,
        policy: Policy,
        source: S,
        watched: &[PathBuf],
    ) -> Result<Self, Fatal> {
        let agent = Agent::new(Arc::clone(&proxy), policy).or_exit(ExitCode::USAGE)?;
        let files = Files::watch(watched, source.programs()).or_exit(ExitCode::OS)?;
        if let Some(problem) = files.problem().filter(|_| source.stand_in().is_none()) {
            let error = anyhow::anyhow!("cannot start with the files as they are: {problem}");
            return Err(Fatal::new(ExitCode::CONFIG, error));
        }
        let handle = agent.handle();
        Ok(Self {
            proxy,
            agent,
            handle,
            source,
            files,
            generation: 0,
        })
    }

    /// Speaks to the agent and watches it.
    pub(crate) fn handle(&self) -> Handle<P::Config> {
        self.handle.clone()
    }

    /// Runs until the agent has ended.
    ///
    /// # Errors
    ///
    /// Why it ended otherwise than it was asked to.
    pub(crate) async fn run(self, mut signals: Signals) -> Result<ExitCode, Fatal> {
        let Self {
            proxy,
            agent,
            handle,
            source,
            mut files,
            mut generation,
        } = self;
        let first = match source.stand_in() {
            Some(config) => config,
            None => tokio::select! {
                first = source.read(&files, generation) => first.or_exit(ExitCode::CONFIG)?,
                signal = signals.end() => {
                    info!("received {signal} before {} was read", source.name());
                    return Ok(ExitCode::CLEAN);
                }
            },
        };
        if adopts_orphans() {
            // It ends with the runtime.
            tokio::spawn(async {
                let Err(error) = reap_orphans().await;
                warn!("orphaned processes are not collected: {error}");
            });
        }
        let mut agent = tokio::spawn(agent.run(std::future::pending()));
        apply(&handle, first).await;

        let mut reading = None;
        let mut ended_by = None;
        let mut ends = 0_u32;
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut agent => break outcome.or_exit(ExitCode::INTERNAL)?,
                request = signals.next() => match request {
                    Request::End(signal) => {
                        ends = ends.saturating_add(1);
                        let what = match ends {
                            1 => "draining",
                            2 => "stopping without a drain",
                            _ => "killing",
                        };
                        info!("received {signal}: {what}");
                        ended_by = Some(signal);
                        handle.terminate();
                    }
                    Request::Next => {
                        info!("received {}: the next epoch is due", Signal::HUP);
                        generation += 1;
                        reading = begin_to_read(&source, &files, generation);
                    }
                    Request::Forward(signal) => {
                        debug!("received {signal}: it is passed on to every epoch");
                        proxy.forward(signal);
                    }
                },
                read = end_of(&mut reading) => match read {
                    Ok(config) => apply(&handle, config).await,
                    Err(problem) => keep(&problem),
                },
                changed = files.changed() => match changed {
                    Ok(paths) => {
                        info!("{}", sentence(&paths));
                        reading = begin_to_read(&source, &files, generation);
                    }
                    Err(error) => not_heard(&mut files, error),
                },
            }
        };
        end(outcome, &handle, ended_by, &source.name())
    }
}

/// Begins to read what the files hold, in place of what is being read.
fn begin_to_read<S: Source>(
    source: &S,
    files: &Files,
    generation: u64,
) -> Option<Reading<S::Config>> {
    match files.problem() {
        None => Some(source.read(files, generation)),
        Some(problem) => {
            keep(&anyhow::anyhow!(problem));
            None
        }
    }
}

/// Waits for what is being read, if anything is.
///
/// # Cancel safety
///
/// The reading goes on with the next call.
async fn end_of<C>(reading: &mut Option<Reading<C>>) -> anyhow::Result<C> {
    match reading {
        None => std::future::pending().await,
        Some(read) => {
            let result = read.await;
            *reading = None;
            result
        }
    }
}

fn keep(problem: &anyhow::Error) {
    warn!("keeps serving what it has: {problem:#}");
}

async fn apply<C>(handle: &Handle<C>, config: C) {
    match handle.apply(config).await {
        Ok(Applied::Changed) => {}
        Ok(Applied::Unchanged) => debug!("the configuration is what is wanted already"),
        Err(error @ (ApplyError::Terminating | ApplyError::Ended)) => {
            info!("a change is not taken in: {error}");
        }
    }
}

/// `a.yaml and 2 more have changed`.
fn sentence(paths: &[PathBuf]) -> String {
    match paths {
        [] => "the watched files have changed".to_owned(),
        [path] => format!("{} has changed", path.display()),
        [path, others @ ..] => format!("{} and {} more have changed", path.display(), others.len()),
    }
}

/// Changes of files are not heard of, in whole or in part; everything else goes on.
fn not_heard(files: &mut Files, error: WatchError) {
    let rest_is_heard = matches!(
        error,
        WatchError::TooMany { .. } | WatchError::Listen { .. }
    );
    let error = anyhow::Error::new(error);
    if rest_is_heard {
        warn!("{error:#}");
    } else {
        files.give_up();
        error!("changes are not noticed any more: {error:#}");
    }
}

fn end<C>(
    outcome: Outcome,
    handle: &Handle<C>,
    ended_by: Option<Signal>,
    name: &str,
) -> Result<ExitCode, Fatal> {
    let failure = handle.status().borrow().last_failure.clone();
    let code = ExitCode::of_outcome(outcome, failure.as_ref(), ended_by);
    match outcome {
        Outcome::GaveUp { why, .. } => {
            let reason = failure.map_or_else(
                || "no reason is known".to_owned(),
                |failure| failure.message(),
            );
            Err(Fatal::new(
                code,
                anyhow::anyhow!("gave up on {name}, as {why}: {reason}"),
            ))
        }
        Outcome::Drained
        | Outcome::DrainTimedOut
        | Outcome::DrainSkipped
        | Outcome::Killed
        | Outcome::ProxyEnded { .. } => Ok(code),
    }
}
