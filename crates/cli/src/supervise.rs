//! What `run`, `exec` and `demo` have in common: an agent, the signals, the watched files, the
//! control socket, and the exit code. It is the same for every proxy.

mod again;
mod asked;
mod counters;
mod overview;
mod reading;
mod reload;
mod unwind;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use handover_core::{Outcome, Policy, Urgency};
use handover_process::{Signal, adopts_orphans, reap_orphans};
use handover_runtime::offload;
use handover_tokio::{Agent, Handle};
use handover_watch::Rescan;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use crate::control::{Control, Instance, Name};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit};
use crate::operate::Operate;
use crate::signals::{Request, Signals};
use crate::source::{Files, Reading, Source};
use again::Again;
use asked::Ended;
use counters::Counted;
use reading::{Reloads, Wanted, end_of};
use unwind::caught;

/// Keeps a proxy running with what its source asks for.
pub(crate) struct Supervisor<P: Operate, S> {
    agent: Agent<P>,
    desk: Desk<P, S>,
    instance: Option<Instance>,
}

/// What the loop decides with, and what it keeps of its decisions.
struct Desk<P: Operate, S> {
    proxy: Arc<P>,
    handle: Handle<P::Config>,
    source: S,
    files: Files,
    /// Whether the next epoch is asked for, even if nothing has changed.
    renewal_is_due: bool,
    /// What was asked for last.
    wanted: Option<Wanted<P::Config>>,
    /// What is wanted next, on its way.
    reading: Option<Reading<P::Config>>,
    /// The inputs of the proxy when that was begun to be read.
    reading_inputs: u64,
    reloads: Reloads,
    again: Again,
    name: Name,
    counted: Arc<Counted>,
    on_terminate: OnTerminate,
    /// The most urgent end that was asked for.
    urgency: Option<Urgency>,
    /// The last signal that asked for the end.
    ended_by: Option<Signal>,
    /// Whether somebody has said that no drain is wanted.
    no_drain_wanted: bool,
    /// For whoever waits for the end.
    end: watch::Sender<Option<Ended>>,
}

/// Starts the threads that a supervisor must have later on.
///
/// # Errors
///
/// When the operating system has none left, with [`ExitCode::OS`].
pub(crate) fn prepare_threads() -> Result<(), Fatal> {
    offload::prepare()
        .context("starting the thread for work that blocks")
        .or_exit(ExitCode::OS)?;
    handover_process::prepare().or_exit(ExitCode::OS)
}

/// What the first signal to end does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnTerminate {
    /// It drains, then ends.
    #[default]
    Drain,
    /// It ends at once, and that is what was wanted: a drain was asked for before, if at all.
    End,
}

impl<P, S> Supervisor<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    /// Checks the policy and reads the watched files. Nothing is started yet.
    pub(crate) fn new(
        proxy: Arc<P>,
        policy: Policy,
        source: S,
        watched: &[PathBuf],
        rescan: Rescan,
    ) -> Result<Self, Fatal> {
        let agent = Agent::new(Arc::clone(&proxy), policy).or_exit(ExitCode::USAGE)?;
        let files = Files::watch(watched, source.programs(), rescan).or_exit(ExitCode::OS)?;
        if let Some(problem) = files.problem().filter(|_| source.stand_in().is_none()) {
            let error = anyhow::anyhow!("cannot start with the files as they are: {problem}");
            return Err(Fatal::new(ExitCode::CONFIG, error));
        }
        files.tell_bad_entries(None);
        let desk = Desk {
            handle: agent.handle(),
            proxy,
            source,
            files,
            renewal_is_due: false,
            wanted: None,
            reading: None,
            reading_inputs: 0,
            reloads: Reloads::default(),
            again: Again::default(),
            name: Name::of_process(std::process::id()),
            counted: Arc::default(),
            on_terminate: OnTerminate::default(),
            urgency: None,
            ended_by: None,
            no_drain_wanted: false,
            end: watch::Sender::default(),
        };
        Ok(Self {
            agent,
            desk,
            instance: None,
        })
    }

    /// Answers at the control socket of this instance while it runs.
    #[must_use]
    pub(crate) fn controlled_as(mut self, instance: Instance) -> Self {
        self.desk.name = instance.name.clone();
        self.instance = Some(instance);
        self
    }

    /// Does this at the first signal to end.
    #[must_use]
    pub(crate) fn on_terminate(mut self, what: OnTerminate) -> Self {
        self.desk.on_terminate = what;
        self
    }

    /// Speaks to the agent and watches it.
    pub(crate) fn handle(&self) -> Handle<P::Config> {
        self.desk.handle.clone()
    }

    /// Runs until the agent has ended.
    ///
    /// # Errors
    ///
    /// Why it ended otherwise than it was asked to.
    pub(crate) async fn run(self, mut signals: Signals) -> Result<ExitCode, Fatal> {
        let Self {
            agent,
            mut desk,
            instance,
        } = self;
        let stand_in = desk.source.stand_in();
        let stands_in = stand_in.is_some();
        let inputs = desk.source.inputs(&desk.files);
        let first = match stand_in {
            Some(config) => config,
            None => tokio::select! {
                first = desk.source.read(&desk.files) => {
                    first.map_err(Fatal::not_read)?
                }
                signal = signals.end() => {
                    info!("received {signal} before {} was read", desk.source.name());
                    return Ok(ExitCode::CLEAN);
                }
            },
        };
        let mut control = match instance.and_then(|instance| instance.socket) {
            Some(socket) => Some(Control::serve(socket).or_exit(ExitCode::OS)?),
            None => None,
        };
        if adopts_orphans() {
            // It ends with the runtime.
            tokio::spawn(async {
                let Err(error) = reap_orphans().await;
                warn!("orphaned processes are not collected: {error}");
            });
        }
        // It ends with the agent.
        tokio::spawn(Arc::clone(&desk.counted).follow(desk.handle.events()));
        let mut agent = tokio::spawn(agent.run(std::future::pending()));
        desk.wanted = Some(Wanted::new(first.clone(), inputs, stands_in));
        reading::apply(&desk.handle, first, false).await;

        let mut status = desk.handle.status();
        let looped = caught(async {
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut agent => break outcome.or_exit(ExitCode::INTERNAL),
                    request = signals.next() => desk.signalled(request),
                    asked = next(&mut control) => desk.asked(asked),
                    read = end_of(&mut desk.reading) => match read {
                        Ok(config) => desk.read(config).await,
                        Err(problem) => desk.not_read(&problem),
                    },
                    changed = desk.files.changed() => desk.looked(&changed),
                    // It closes when the agent has ended, which the first arm tells.
                    Ok(()) = status.changed() => desk.notice_shortage(),
                    what = desk.again.due() => desk.try_again(what),
                }
            }
        })
        .await;
        let (outcome, result) = match looped {
            Ok(outcome) => {
                let outcome = outcome?;
                (outcome, desk.result(outcome))
            }
            Err(message) => {
                error!("a bug: the control loop panicked: {message}; draining");
                let outcome = drain_to_the_end(&desk.handle, &mut signals, &mut agent).await?;
                let error = anyhow::anyhow!("a bug: the control loop panicked: {message}");
                (outcome, Err(Fatal::new(ExitCode::INTERNAL, error)))
            }
        };
        let code = result
            .as_ref()
            .map_or_else(|fatal| fatal.code, |code| *code);
        desk.end.send_replace(Some(Ended { outcome, code }));
        if let Some(control) = control {
            control.close().await;
        }
        result
    }
}

impl<P, S> Desk<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    fn signalled(&mut self, request: Request) {
        match request {
            Request::End(signal) => {
                self.ended_by = Some(signal);
                let at_once = self.on_terminate == OnTerminate::End;
                match self.urgency {
                    None | Some(Urgency::Drain) if at_once => {
                        info!("received {signal}: stopping without a drain, as a sidecar does");
                        self.no_drain_wanted = true;
                        self.end(Urgency::Stop);
                    }
                    None => {
                        info!("received {signal}: draining");
                        self.end(Urgency::Drain);
                    }
                    Some(Urgency::Drain) => {
                        info!("received {signal}: stopping without a drain");
                        self.end(Urgency::Stop);
                    }
                    Some(Urgency::Stop | Urgency::Kill) => {
                        info!("received {signal}: killing");
                        self.end(Urgency::Kill);
                    }
                }
            }
            Request::Next => {
                info!("received {}: the next epoch is due", Signal::HUP);
                self.reloads.next_is_due();
                self.files.look_soon();
            }
            Request::Forward(signal) => {
                debug!("received {signal}: it is passed on to every epoch");
                self.proxy.forward(signal);
            }
            Request::Drain => {
                info!("received {}: health checks are to fail", Signal::USR2);
                self.drain_by_signal();
            }
        }
    }

    /// Ends everything, so urgently.
    fn end(&mut self, urgency: Urgency) {
        self.handle.terminate(urgency);
        self.urgency = self.urgency.max(Some(urgency));
    }

    /// Explains an end that a further signal has made sooner.
    fn ended_sooner(&self, code: ExitCode, what: &str) -> Fatal {
        let signal = self.ended_by.unwrap_or(Signal::KILL);
        let error = anyhow::anyhow!("{what}, because a further {signal} asked for it");
        Fatal::new(code, error)
    }

    /// The exit code, or why there is an error.
    fn result(&self, outcome: Outcome) -> Result<ExitCode, Fatal> {
        let failure = self.handle.status().borrow().last_failure.clone();
        let code = ExitCode::of_outcome(outcome, failure.as_ref(), self.ended_by);
        match outcome {
            Outcome::GaveUp { why, .. } => {
                let reason = failure.map_or_else(
                    || "no reason is known".to_owned(),
                    |failure| failure.message(),
                );
                let name = self.source.name();
                // Most reasons begin with the name.
                let prefix = format!("{name}: ");
                let reason = reason.strip_prefix(&prefix).unwrap_or(&reason);
                Err(Fatal::new(
                    code,
                    anyhow::anyhow!("gave up on {name}, as {why}: {reason}"),
                ))
            }
            Outcome::DrainFailed => {
                let reason = failure.map_or_else(
                    || "no reason is known".to_owned(),
                    |failure| failure.message(),
                );
                Err(Fatal::new(
                    code,
                    anyhow::anyhow!("the drain has failed: {reason}"),
                ))
            }
            Outcome::DrainTimedOut => {
                let cut = self.proxy.cut().map(|cut| format!(": {cut}"));
                let cut = cut.unwrap_or_default();
                Err(Fatal::new(
                    code,
                    anyhow::anyhow!("{outcome}{cut}; {} sets its time", P::DRAIN_TIME_FLAG),
                ))
            }
            Outcome::DrainSkipped if self.no_drain_wanted => Ok(ExitCode::CLEAN),
            Outcome::DrainSkipped => Err(self.ended_sooner(code, "the drain was cut")),
            Outcome::Killed => Err(self.ended_sooner(code, "everything was killed")),
            Outcome::Drained | Outcome::ProxyEnded { .. } => Ok(code),
            _ => Err(Fatal::new(code, anyhow::anyhow!("{outcome}"))),
        }
    }
}

/// The next question at the control socket, if there is one.
async fn next(control: &mut Option<Control>) -> crate::control::Asked {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}

/// Drains without the loop, of which nothing can be expected any more. Each further signal to end
/// means more, as ever.
async fn drain_to_the_end<C>(
    handle: &Handle<C>,
    signals: &mut Signals,
    agent: &mut JoinHandle<Outcome>,
) -> Result<Outcome, Fatal> {
    handle.terminate(Urgency::Drain);
    let mut urgency = Urgency::Drain;
    loop {
        tokio::select! {
            biased;
            outcome = &mut *agent => return outcome.or_exit(ExitCode::INTERNAL),
            _ = signals.end() => {
                urgency = match urgency {
                    Urgency::Drain => Urgency::Stop,
                    Urgency::Stop | Urgency::Kill => Urgency::Kill,
                };
                handle.terminate(urgency);
            }
        }
    }
}
