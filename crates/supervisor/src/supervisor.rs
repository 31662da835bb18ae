//! A supervisor: an agent and an operator, and what both need of the world.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handover_core::{GaveUp, Outcome, Policy, PolicyError};
use handover_runtime::offload::offload;
use handover_tokio::{Agent, Failure, Handle, Observer};
use handover_watch::{Rescan, WatchError};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::control::{Control, Name, Socket};
use crate::driver::unwind::caught;
use crate::driver::{Driver, World};
use crate::events::{self, Events};
use crate::history;
use crate::metrics::{Observe, Shared, Watched};
use crate::operator::{
    Ending, EvidenceRules, Fault, Notification, OnTerminate, Operator, Reading, Settings, Signal,
};
use crate::recorder::Recorder;
use crate::statistics::Statistics;
use crate::status_server::{StatusListener, StatusServer};
use crate::{
    AwaitedFiles, Files, Hooks, Job, Operate, ServiceManager, Signals, Source, Verify, sysexits,
};

/// How long the end of a run waits for what the proxy removes as it goes: 2 s. That takes milliseconds, unless a disk
/// hangs.
const REMOVALS: Duration = Duration::from_secs(2);

/// Keeps a proxy running with what its source asks for: it answers signals and the clients of its control
/// socket, and follows the watched files.
///
/// [`Supervisor::builder`] makes one, [`run`](Self::run) keeps it running to the end.
pub struct Supervisor<P: Operate, S> {
    agent: Agent<P>,
    proxy: Arc<P>,
    source: S,
    files: Files,
    awaited: AwaitedFiles,
    job: Job,
    name: Name,
    socket: Option<Socket>,
    status_listener: Option<StatusListener>,
    on_terminate: OnTerminate,
    exit_code: Box<dyn Fn(&Ended) -> u8 + Send>,
    notify: Box<dyn FnMut(Notification) + Send>,
    service_manager: Option<ServiceManager>,
    probation: Option<Duration>,
    evidence: EvidenceRules,
    verify: Vec<Verify>,
    hooks: Hooks,
    recorder: Option<Recorder>,
}

/// Makes a [`Supervisor`]. Every setting has a default.
#[must_use = "it does nothing until `build` is called"]
pub struct Builder<P: Operate, S> {
    proxy: Arc<P>,
    source: S,
    policy: Policy,
    watched: Vec<PathBuf>,
    rescan: Rescan,
    awaited: AwaitedFiles,
    job: Job,
    name: Name,
    socket: Option<Socket>,
    status_listener: Option<StatusListener>,
    on_terminate: OnTerminate,
    exit_code: Box<dyn Fn(&Ended) -> u8 + Send>,
    notify: Box<dyn FnMut(Notification) + Send>,
    service_manager: Option<ServiceManager>,
    evidence: EvidenceRules,
    verify: Vec<Verify>,
    hooks: Hooks,
    recorder: Option<Recorder>,
}

/// Why there is no supervisor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The policy cannot be honoured.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The files cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// A watched file is missing or cannot be read, and there is no stand-in.
    #[error("cannot start with these files: {0}")]
    Files(String),
    /// Files are awaited, and the source has a configuration to start with before they are there.
    #[error(
        "{name} has a configuration to start with before its files can be used, so nothing can wait for \
         {files}: await no files, or start without a configuration that stands in"
    )]
    AwaitsWithStandIn {
        /// What is supervised.
        name: String,
        /// The awaited files.
        files: String,
    },
}

/// How a supervisor has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// What the operator knows of it.
    pub ending: Ending,
    /// The epoch that failed last, if one did.
    pub last_failure: Option<Failure>,
    /// What a drain that was not done in time has cut, in words.
    pub cut: Option<String>,
    /// How what served has ended under its clients together with a stop, if it has: then that stop, which found
    /// nothing to drain, has not drained them.
    pub lost: Option<String>,
    /// What was supervised, from [`Source::name`].
    pub name: String,
}

impl<P, S> Supervisor<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    /// Returns a builder of a supervisor that runs this proxy with what the source asks for.
    pub fn builder(proxy: Arc<P>, source: S) -> Builder<P, S> {
        Builder {
            proxy,
            source,
            policy: Policy::resilient(),
            watched: Vec::new(),
            rescan: Rescan::default(),
            awaited: AwaitedFiles::default(),
            job: Job::default(),
            name: Name::of_process(std::process::id()),
            socket: None,
            status_listener: None,
            on_terminate: OnTerminate::default(),
            exit_code: Box::new(Ended::exit_code),
            notify: Box::new(log_notification),
            service_manager: None,
            evidence: EvidenceRules::default(),
            verify: Vec::new(),
            hooks: Hooks::default(),
            recorder: None,
        }
    }

    /// Returns what speaks to the agent and watches it. Whoever ends the agent by it ends the supervisor.
    #[must_use]
    pub fn handle(&self) -> Handle<P::Config> {
        self.agent.handle()
    }

    /// Runs until everything has ended. Each signal does what it does for the `handover` command: SIGTERM,
    /// SIGINT and SIGQUIT drain, a second one stops, a third one kills; SIGHUP starts the next epoch,
    /// SIGUSR1 is passed on, SIGUSR2 lets health checks fail.
    ///
    /// # Errors
    ///
    /// When the operating system refuses what the control socket or the status server needs. Nothing was
    /// started then.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its timer and its I/O driver.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future drops every epoch without a drain.
    pub async fn run(self, signals: Signals) -> io::Result<Ended> {
        self.run_with(Some(signals)).await
    }

    /// Runs as [`run`](Self::run) does, and leaves the signals of the process to the caller. Everything
    /// ends when the agent is [terminated](Handle::terminate) or a client of the control socket asks for
    /// it.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_without_signals(self) -> io::Result<Ended> {
        self.run_with(None).await
    }

    async fn run_with(self, signals: Option<Signals>) -> io::Result<Ended> {
        let metrics = Shared::new();
        let history = history::Shared::default();
        let (counted, written) = (metrics.observe(), history.clone());
        let asked = Arc::clone(&self.proxy);
        let statistics = Statistics::new(metrics.clone(), move |only_used| {
            let proxy = Arc::clone(&asked);
            Box::pin(async move { proxy.statistics(only_used).await })
        });
        let kept = self.status_listener.is_some().then(|| statistics.clone());
        self.proxy.observe(Observe::new(move |observed| {
            written.observed(&observed);
            if let Some(kept) = &kept {
                kept.observed(&observed);
            }
            counted.tell(observed);
        }));
        let scrape = metrics.scrape(self.agent.handle().status());
        let events = Events::new(self.recorder.as_ref().map(Recorder::event_log));
        let serve = |socket| Control::serve(socket, scrape.clone(), events.clone());
        let control = self.socket.map(serve).transpose()?;
        let serve = |listener| StatusServer::serve(listener, scrape, statistics, events.clone());
        let status_server = self.status_listener.map(serve).transpose()?;
        let settings = Settings {
            on_terminate: self.on_terminate,
            no_cold_restart: self.proxy.no_cold_restart(),
            probation: self.probation,
            evidence: self.evidence,
            nothing_to_examine: !self.proxy.shows_evidence() && self.verify.is_empty(),
            files: self.awaited.wait(),
            service_manager: self.service_manager.as_ref().map(ServiceManager::expects),
            hooks: self.hooks.settings(),
            applies: self.source.applies(),
        };
        let operator = match self.source.stand_in() {
            Some(config) => {
                let inputs = self.source.inputs(&self.files);
                Operator::with_stand_in(settings, Reading { config, inputs })
            }
            None => Operator::new(settings),
        };
        let mut agent = self.agent;
        let tape = self.recorder.as_ref().map(Recorder::tape);
        let (of_agent, recorded) = tape.unzip();
        let of_agent = of_agent.map(|recorded| Box::new(recorded) as Box<dyn Observer<_>>);
        let counted = Box::new(Watched::new(metrics.clone(), of_agent));
        let written = Box::new(history::Watched::new(history.clone(), counted));
        agent.observe(Box::new(events::Watched::new(events.clone(), written)));
        metrics.operator_is(operator.gauges());
        let handle = agent.handle();
        let mut driver = Driver::new(
            operator,
            World {
                proxy: self.proxy,
                handle,
                source: self.source,
                files: self.files,
                awaited: self.awaited,
                job: self.job,
                name: self.name,
                metrics,
                history,
                events,
                control,
                status_server,
                signals,
                agent: tokio::spawn(agent.run(std::future::pending())),
                recorded,
                exit_code: self.exit_code,
                notify: self.notify,
                service_manager: self.service_manager,
                verify: self.verify.into(),
                hooks: self.hooks.into(),
                time_limit: self.evidence.time_limit,
            },
        );
        let mut has_panicked = false;
        let ending = loop {
            match caught(driver.turn()).await {
                Ok(None) => {}
                Ok(Some(ending)) => break ending,
                Err(message) if has_panicked => {
                    break driver.drain_without_the_operator(message).await;
                }
                Err(message) => {
                    has_panicked = true;
                    driver.broken(message);
                }
            }
        };
        let ended = driver.ended(ending);
        let proxy = driver.proxy();
        driver.close().await;
        put_away(proxy).await;
        if let Some(recorder) = self.recorder {
            recorder.close().await;
        }
        Ok(ended)
    }
}

impl<P, S> Builder<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    /// Decides about epochs by this policy. The default is [`Policy::resilient`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Watches these files and directories. Each change leads to a read.
    pub fn watch(mut self, paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.watched.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Looks at the watched files this often without being told of a change.
    pub fn rescan(mut self, rescan: Rescan) -> Self {
        self.rescan = rescan;
        self
    }

    /// Starts nothing before these files are there.
    pub fn await_files(mut self, files: AwaitedFiles) -> Self {
        self.awaited = files;
        self
    }

    /// Drains and ends when this job is done, as at the first signal to end.
    pub fn job(mut self, job: Job) -> Self {
        self.job = job;
        self
    }

    /// Calls this instance so in its status. The default is made of the process id.
    pub fn name(mut self, name: Name) -> Self {
        self.name = name;
        self
    }

    /// Answers at this control socket while the supervisor runs.
    pub fn control(mut self, socket: Socket) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Shows its state to everyone who can connect to this address while the supervisor runs: see
    /// [`status_server`](crate::status_server).
    pub fn status_server(mut self, listener: Option<StatusListener>) -> Self {
        self.status_listener = listener;
        self
    }

    /// Does this at the first signal to end.
    pub fn on_terminate(mut self, what: OnTerminate) -> Self {
        self.on_terminate = what;
        self
    }

    /// Tells clients that wait for the end this exit code. The default is [`Ended::exit_code`].
    pub fn exit_code(mut self, of: impl Fn(&Ended) -> u8 + Send + 'static) -> Self {
        self.exit_code = Box::new(of);
        self
    }

    /// Calls this with all that a service manager is to hear. It must not block.
    pub fn notify(mut self, notify: impl FnMut(Notification) + Send + 'static) -> Self {
        self.notify = Box::new(notify);
        self
    }

    /// Reports to this service manager, and asks it for the time that a start or a drain takes. Without
    /// one, nobody is reported to.
    pub fn service_manager(mut self, manager: Option<ServiceManager>) -> Self {
        self.service_manager = manager;
        self
    }

    /// Judges an epoch on probation by these rules. How long it is on probation is said by the
    /// [policy](Self::policy).
    pub fn evidence(mut self, rules: EvidenceRules) -> Self {
        self.evidence = rules;
        self
    }

    /// Makes these probes once a second while an epoch is on probation.
    pub fn verify(mut self, probes: impl IntoIterator<Item = Verify>) -> Self {
        self.verify.extend(probes);
        self
    }

    /// Runs these commands at moments of an epoch's life.
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// Records the inputs and outputs of both machines.
    pub fn record(mut self, recorder: Option<Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// Checks the policy and reads the watched files, which blocks. Nothing is started yet.
    ///
    /// # Errors
    ///
    /// When the policy cannot be honoured, or when the files are missing or cannot be read. While files are
    /// awaited, the watched ones may be missing as well. When files are awaited and the source has a stand-in.
    pub fn build(self) -> Result<Supervisor<P, S>, BuildError> {
        let probation = self.policy.probation;
        let agent = Agent::new(Arc::clone(&self.proxy), self.policy)?;
        let files = Files::watch(&self.watched, self.source.programs(), self.rescan)?;
        let awaits = self.awaited.wait().is_some();
        let has_stand_in = self.source.stand_in().is_some();
        if awaits && has_stand_in {
            return Err(BuildError::AwaitsWithStandIn {
                name: self.source.name(),
                files: self.awaited.names(),
            });
        }
        if let Some(problem) = files.problem().filter(|_| !has_stand_in && !awaits) {
            return Err(BuildError::Files(problem));
        }
        files.tell_bad_entries(None);
        Ok(Supervisor {
            agent,
            proxy: self.proxy,
            source: self.source,
            files,
            awaited: self.awaited,
            job: self.job,
            name: self.name,
            socket: self.socket,
            status_listener: self.status_listener,
            on_terminate: self.on_terminate,
            exit_code: self.exit_code,
            notify: self.notify,
            service_manager: self.service_manager,
            probation,
            evidence: self.evidence,
            verify: self.verify,
            hooks: self.hooks,
            recorder: self.recorder,
        })
    }
}

/// Drops the proxy on a thread that may wait for the disk, and waits for that, but not for long: what it removes as it
/// goes must not keep the end of the run from being reported.
async fn put_away<P: Send + Sync + 'static>(proxy: Arc<P>) {
    // One that has begun goes on when it is not waited for any more.
    let dropped = offload(move || drop(proxy));
    match timeout(REMOVALS, dropped).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("the proxy was dropped by no thread of its own: {error}"),
        Err(_) => warn!(
            "what the proxy removes at its end is still there after {REMOVALS:?}: check that the file systems of its \
             directories answer"
        ),
    }
}

fn log_notification(notification: Notification) {
    debug!("a service manager would hear: {notification:?}");
}

impl Ended {
    /// Returns how it has ended, in words.
    #[must_use]
    pub fn outcome(&self) -> String {
        match self.agent() {
            Ok(outcome) => outcome.to_string(),
            Err(message) => format!("the agent panicked: {message}"),
        }
    }

    /// Returns why it has ended otherwise than it was asked to, if it has.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match &self.ending.fault {
            Some(Fault::NotRead(failure)) => return Some(failure.report.message.clone()),
            Some(Fault::FilesMissing(missing)) => return Some(not_there_in_time(missing)),
            Some(Fault::Panic(message)) => {
                return Some(format!("a bug: the control loop panicked: {message}"));
            }
            None => {}
        }
        let outcome = match self.agent() {
            Ok(outcome) => outcome,
            Err(message) => return Some(format!("a bug: the agent panicked: {message}")),
        };
        match outcome {
            Outcome::Drained | Outcome::ProxyEnded { .. } => None,
            Outcome::DrainSkipped if self.ending.drain_unwanted => None,
            Outcome::GaveUp { why, .. } => {
                let reason = self.last_reason();
                let name = &self.name;
                // Most reasons begin with the name.
                let prefix = format!("{name}: ");
                let reason = reason.strip_prefix(&prefix).unwrap_or(&reason);
                Some(format!("gave up on {name}, as {why}: {reason}"))
            }
            Outcome::DrainFailed => {
                let reason = self.lost.clone().unwrap_or_else(|| self.last_reason());
                Some(format!("the drain has failed: {reason}"))
            }
            Outcome::DrainTimedOut => {
                let cut = self.cut.as_ref().map(|cut| format!(": {cut}"));
                Some(format!("{outcome}{}", cut.unwrap_or_default()))
            }
            Outcome::DrainSkipped => Some(self.sooner("the drain was cut")),
            Outcome::Killed => Some(self.sooner("everything was killed")),
            _ => Some(outcome.to_string()),
        }
    }

    /// Returns the exit code for a process that ends like this, with the numbers of `sysexits.h` and of
    /// a shell: 0 as asked, 65 for a configuration that cannot be used, 69 when the retries are spent, 70
    /// for a bug, 71 when the operating system was short of something, 75 for a drain that was cut or has
    /// failed and for awaited files that were not there in time, and 128 + signal when everything was killed.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match &self.ending.fault {
            Some(Fault::NotRead(failure)) if failure.shortage => return sysexits::OS_ERROR,
            Some(Fault::NotRead(_)) => return sysexits::DATA_ERROR,
            Some(Fault::FilesMissing(_)) => return sysexits::TEMPORARY_FAILURE,
            Some(Fault::Panic(_)) => return sysexits::SOFTWARE,
            None => {}
        }
        let Ok(outcome) = self.agent() else {
            return sysexits::SOFTWARE;
        };
        match outcome {
            Outcome::Drained | Outcome::ProxyEnded { .. } => 0,
            Outcome::DrainSkipped if self.ending.drain_unwanted => 0,
            Outcome::DrainTimedOut | Outcome::DrainSkipped | Outcome::DrainFailed => {
                sysexits::TEMPORARY_FAILURE
            }
            Outcome::Killed => {
                let signal = self.ending.signal.map(handover_process::Signal::from);
                let number = signal.unwrap_or(handover_process::Signal::KILL).number();
                u8::try_from(number.saturating_add(128)).unwrap_or(sysexits::SOFTWARE)
            }
            Outcome::GaveUp { why, .. } => match why {
                GaveUp::BudgetSpent => sysexits::UNAVAILABLE,
                GaveUp::Permanent | _ => sysexits::DATA_ERROR,
            },
            // The end of a later version, for which there is no code yet.
            _ => sysexits::SOFTWARE,
        }
    }

    /// What the agent says, with what was seen beside it.
    fn agent(&self) -> Result<Outcome, &String> {
        match &self.ending.agent {
            Ok(Outcome::Drained) if self.lost.is_some() => Ok(Outcome::DrainFailed),
            Ok(outcome) => Ok(*outcome),
            Err(message) => Err(message),
        }
    }

    fn last_reason(&self) -> String {
        let failure = self.last_failure.as_ref();
        failure.map_or_else(|| "no reason is known".to_owned(), Failure::message)
    }

    /// Explains an end that a further signal has made sooner.
    fn sooner(&self, what: &str) -> String {
        match self.ending.signal {
            Some(signal) => format!("{what}, because a further {signal} asked for it"),
            None => format!("{what}, as was asked for"),
        }
    }
}

fn not_there_in_time(missing: &[String]) -> String {
    match missing {
        [] => "the awaited files were not seen in time".to_owned(),
        missing => format!(
            "the awaited files were not there in time: {}",
            missing.join("; ")
        ),
    }
}

/// Why it has ended otherwise than it was asked to, or else how.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem() {
            Some(problem) => f.write_str(&problem),
            None => f.write_str(&self.outcome()),
        }
    }
}

impl From<Signal> for handover_process::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Terminate => Self::TERM,
            Signal::Interrupt => Self::INT,
            Signal::Quit => Self::QUIT,
            Signal::HangUp => Self::HUP,
            Signal::User1 => Self::USR1,
            Signal::User2 => Self::USR2,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use handover_core::Epoch;

    use super::*;
    use crate::operator::{ReadFailure, Report};

    fn ended(agent: Result<Outcome, String>) -> Ended {
        Ended {
            ending: Ending {
                agent,
                fault: None,
                signal: None,
                drain_unwanted: false,
            },
            last_failure: None,
            cut: None,
            lost: None,
            name: "web.yaml".to_owned(),
        }
    }

    fn told(ended: &Ended) -> (u8, Option<String>) {
        (ended.exit_code(), ended.problem())
    }

    fn is(ended: &Ended, code: u8, problem: &str) {
        assert_eq!(told(ended), (code, Some(problem.to_owned())));
    }

    #[test]
    fn an_end_as_it_was_asked_for_is_no_problem() {
        let fine = (0, None);
        assert_eq!(told(&ended(Ok(Outcome::Drained))), fine);
        let mut unwanted = ended(Ok(Outcome::DrainSkipped));
        unwanted.ending.drain_unwanted = true;
        assert_eq!(told(&unwanted), fine);
    }

    #[test]
    fn a_stop_that_found_nothing_to_drain_because_it_was_lost_has_failed() {
        let mut lost = ended(Ok(Outcome::Drained));
        lost.lost = Some("epoch 0 ended before it was drained".to_owned());
        let problem = "the drain has failed: epoch 0 ended before it was drained";
        is(&lost, 75, problem);
        assert_eq!(lost.outcome(), Outcome::DrainFailed.to_string());
        // Another end explains more.
        lost.ending.agent = Ok(Outcome::DrainTimedOut);
        is(&lost, 75, &Outcome::DrainTimedOut.to_string());
    }

    #[test]
    fn a_drain_that_was_cut_says_by_whom_or_what() {
        let mut late = ended(Ok(Outcome::DrainTimedOut));
        late.cut = Some("1 connection to 127.0.0.1:80".to_owned());
        let outcome = Outcome::DrainTimedOut;
        is(
            &late,
            75,
            &format!("{outcome}: 1 connection to 127.0.0.1:80"),
        );
        let mut skipped = ended(Ok(Outcome::DrainSkipped));
        is(&skipped, 75, "the drain was cut, as was asked for");
        skipped.ending.signal = Some(Signal::Interrupt);
        let further = "the drain was cut, because a further SIGINT asked for it";
        is(&skipped, 75, further);
        let mut killed = ended(Ok(Outcome::Killed));
        killed.ending.signal = Some(Signal::Terminate);
        let further = "everything was killed, because a further SIGTERM asked for it";
        is(&killed, 128 + 15, further);
        killed.ending.signal = None;
        assert_eq!(killed.exit_code(), 128 + 9);
    }

    #[test]
    fn a_configuration_that_was_given_up_is_named_once_with_its_reason() {
        let gave_up = |why| {
            let epoch = Epoch::ZERO;
            ended(Ok(Outcome::GaveUp { epoch, why }))
        };
        let why = GaveUp::BudgetSpent;
        let mut spent = gave_up(why);
        let unknown = format!("gave up on web.yaml, as {why}: no reason is known");
        is(&spent, 69, &unknown);
        let error: Box<dyn Error + Send + Sync> = "web.yaml: no such field".into();
        spent.last_failure = Some(Failure {
            epoch: Epoch::ZERO,
            error: error.into(),
        });
        let known = format!("gave up on web.yaml, as {why}: no such field");
        is(&spent, 69, &known);
        assert_eq!(gave_up(GaveUp::Permanent).exit_code(), 65);
    }

    #[test]
    fn what_was_never_read_and_what_is_a_bug_have_codes_of_their_own() {
        let mut unread = ended(Ok(Outcome::Drained));
        let failure = |shortage| {
            let report = Report::new("no such file");
            Some(Fault::NotRead(ReadFailure { report, shortage }))
        };
        unread.ending.fault = failure(false);
        is(&unread, 65, "no such file");
        unread.ending.fault = failure(true);
        is(&unread, 71, "no such file");
        unread.ending.fault = Some(Fault::Panic("index 3".to_owned()));
        is(&unread, 70, "a bug: the control loop panicked: index 3");
        let late = |missing: &[&str]| {
            let missing = missing.iter().map(ToString::to_string);
            Some(Fault::FilesMissing(missing.collect()))
        };
        unread.ending.fault = late(&["`a` is empty", "`b` does not exist"]);
        is(
            &unread,
            75,
            "the awaited files were not there in time: `a` is empty; `b` does not exist",
        );
        unread.ending.fault = late(&[]);
        is(&unread, 75, "the awaited files were not seen in time");
        let lost = ended(Err("index 4".to_owned()));
        is(&lost, 70, "a bug: the agent panicked: index 4");
        assert_eq!(lost.outcome(), "the agent panicked: index 4");
    }
}
