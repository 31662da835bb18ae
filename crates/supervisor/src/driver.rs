//! The driver of the [`Operator`]: it carries out what the operator says, and tells it what happens.
//! Nothing is decided here.
//!
//! Whatever may take time goes on in a task of its own, and ends as one input. A panic in such a task is
//! an input as well.

mod answer;
mod examine;
mod hooks;
mod status;
mod tell;
pub(crate) mod unwind;
mod who;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use handover_core::{Epoch, Outcome, Timestamp, Urgency};
use handover_runtime::{Shortage, panic_message};
use handover_tokio::{Applied, ApplyError, Followed, Handle, NotLive, Status, error_chain};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};
use tracing::error;

use crate::change_loop::ChangeLoop;
use crate::control::{Control, Name, PendingAsk};
use crate::events::Events;
use crate::history;
use crate::metrics;
use crate::operator::{
    self, AgentView, AskId, Call, ChangeId, Clients, Ending, EpochView, Input, LastReports, LookId,
    Notification, Operator, Output, ReadFailure, ReadId, Reading, Report, Settlement, TakenIn,
    Verdict,
};
use crate::recorder::Recorded;
use crate::status_server::{Question, StatusServer};
use crate::supervisor::Ended;
use crate::{
    AwaitedFiles, Facts, Files, Hooks, Job, Operate, ServiceManager, Signals, Source, Verify,
};
use who::SharedFirstSeen;
use work::Work;

/// What the driver speaks to. Everything else that it has is about what is under way.
pub(crate) struct World<P: Operate, S> {
    pub(crate) proxy: Arc<P>,
    pub(crate) handle: Handle<P::Config>,
    pub(crate) source: S,
    pub(crate) files: Files,
    /// The files without which nothing is started.
    pub(crate) awaited: AwaitedFiles,
    /// What the instance was started for.
    pub(crate) job: Job,
    pub(crate) name: Name,
    pub(crate) metrics: metrics::Shared,
    pub(crate) history: history::Shared,
    pub(crate) events: Events,
    pub(crate) control: Option<Control>,
    pub(crate) status_server: Option<StatusServer>,
    pub(crate) signals: Option<Signals>,
    pub(crate) agent: JoinHandle<Outcome>,
    pub(crate) exit_code: Box<dyn Fn(&Ended) -> u8 + Send>,
    pub(crate) notify: Box<dyn FnMut(Notification) + Send>,
    pub(crate) service_manager: Option<ServiceManager>,
    /// What the user wants to see of an epoch on probation.
    pub(crate) verify: Arc<[Verify]>,
    /// How long each part of a look at such an epoch may take.
    pub(crate) time_limit: Duration,
    /// The commands of the user at moments of an epoch's life.
    pub(crate) hooks: Arc<Hooks>,
    /// What records the operator's steps.
    pub(crate) recorded: Option<Recorded<P::Config>>,
}

/// Runs an operator in the world.
pub(crate) struct Driver<P: Operate, S> {
    operator: Operator<P::Config>,
    world: World<P, S>,
    /// What is supervised.
    source_name: String,
    status: watch::Receiver<Status>,
    /// The state of the agent that the operator was told last.
    told: Status,
    /// What the last look at the processes has found.
    facts: Facts,
    started: Instant,
    /// Whether the agent's task was seen to end.
    agent_ended: bool,
    /// The asks that were not answered yet.
    asks: BTreeMap<AskId, PendingAsk>,
    last_ask: u64,
    /// What has happened and was not told yet.
    inputs: VecDeque<Input<P::Config>>,
    /// What goes on beside the loop.
    work: Work<P::Config>,
    /// The configurations that clients have given, while the operator may need them.
    texts: BTreeMap<AskId, Arc<[u8]>>,
    /// The read that begins once the files were looked at.
    looking: Option<ToRead>,
    /// The read that is under way.
    reading: Option<AbortHandle>,
    /// The look at an epoch on probation that is under way.
    examining: Option<AbortHandle>,
    /// Those whose clients are being watched.
    watching: BTreeMap<AskId, AbortHandle>,
    /// When each connection of a client was seen first.
    first_seen: SharedFirstSeen,
    /// Which starts were followed by a change of files.
    change_loop: ChangeLoop,
}

/// A read that is to begin.
#[derive(Clone, Copy)]
struct ToRead {
    read: ReadId,
    /// The ask whose client has given what is read, if that is not kept yet.
    text: Option<AskId>,
}

/// Somebody asks whether clients should be sent here.
struct Questioned(oneshot::Sender<Verdict>);

/// What a task beside the loop ends with.
enum Done<C> {
    /// Nothing that the operator is to hear.
    Nothing,
    Input(Input<C>),
    Looked(LookId, Facts),
}

impl<P, S> Driver<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    pub(crate) fn new(operator: Operator<P::Config>, world: World<P, S>) -> Self {
        let mut status = world.handle.status();
        let told = status.borrow_and_update().clone();
        Self {
            operator,
            status,
            told,
            facts: Facts::default(),
            source_name: world.source.name(),
            world,
            started: Instant::now(),
            agent_ended: false,
            asks: BTreeMap::new(),
            last_ask: 0,
            inputs: VecDeque::new(),
            work: Work::new(),
            texts: BTreeMap::new(),
            looking: None,
            reading: None,
            examining: None,
            watching: BTreeMap::new(),
            first_seen: SharedFirstSeen::default(),
            change_loop: ChangeLoop::default(),
        }
    }

    /// Tells the operator of a part that has panicked.
    pub(crate) fn broken(&mut self, message: String) {
        error!("a bug: the control loop panicked: {message}; draining");
        self.inputs.push_back(Input::Broken(message));
    }

    /// Carries out what the operator says, and tells it the next thing that happens. Returns the end,
    /// once it is there.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: an output may be lost.
    pub(crate) async fn turn(&mut self) -> Option<Ending> {
        while let Some(output) = self.operator.poll_output() {
            if let Some(recorded) = &mut self.world.recorded {
                recorded.operator_output(&output);
            }
            if let Output::Finish(ending) = output {
                return Some(ending);
            }
            self.carry_out(output).await;
        }
        self.give_up_watching();
        self.forget_texts();
        let input = match self.inputs.pop_front() {
            Some(input) => Some(input),
            None => self.next().await,
        };
        let now = Timestamp::new(self.started.elapsed());
        if let Some(recorded) = &mut self.world.recorded {
            recorded.operator_step(&self.operator, now, input.as_ref());
        }
        match input {
            Some(input) => {
                let reception = self.operator.handle_input(now, input);
                tell::reception(reception);
            }
            None => self.operator.handle_timeout(now),
        }
        None
    }

    /// Ends without the operator, of which nothing can be expected any more. Each further signal to end
    /// means more, as ever. The service manager still hears what it must; the listener of the user does not,
    /// as it may be what has panicked.
    pub(crate) async fn drain_without_the_operator(&mut self, message: String) -> Ending {
        let manager = self.world.service_manager.clone();
        let mut reports = manager.map(|manager| (LastReports::new(manager.expects()), manager));
        let mut urgency = Urgency::Drain;
        let (mut asked, mut last) = (None, None);
        let agent = loop {
            if asked.replace(urgency) != Some(urgency) {
                self.world.handle.terminate(urgency);
            }
            if self.agent_ended {
                break Err("it was seen to end before".to_owned());
            }
            let now = Timestamp::new(self.started.elapsed());
            let due_at = reports.as_mut().and_then(|(reports, manager)| {
                for notification in reports.due(now, urgency) {
                    manager.notify(notification);
                }
                reports.next(now)
            });
            tokio::select! {
                biased;
                ended = &mut self.world.agent => break ended.map_err(panic_of),
                signal = next_end(&mut self.world.signals) => {
                    last = Some(signal);
                    urgency = match urgency {
                        Urgency::Drain => Urgency::Stop,
                        Urgency::Stop | Urgency::Kill => Urgency::Kill,
                    };
                }
                () = due(due_at, self.started) => {}
            }
        };
        Ending {
            agent,
            fault: Some(operator::Fault::Panic(message)),
            signal: last,
            drain_unwanted: false,
        }
    }

    /// Returns the proxy.
    pub(crate) fn proxy(&self) -> Arc<P> {
        Arc::clone(&self.world.proxy)
    }

    /// Lets the last answers be written.
    pub(crate) async fn close(mut self) {
        // What was not answered is answered by this: everything has ended.
        self.asks.clear();
        self.tell_the_verdict();
        self.run_last_hooks().await;
        self.world.events.close();
        let (control, server) = (self.world.control.take(), self.world.status_server.take());
        tokio::join!(
            async {
                if let Some(control) = control {
                    control.close().await;
                }
            },
            async {
                if let Some(server) = server {
                    server.close().await;
                }
            }
        );
    }

    /// Tells those who follow the events whether clients should be sent here, and the metrics what is so.
    ///
    /// Between two inputs that belong together the operator may claim what is over: that a change was read is
    /// known before the agent has shown what becomes of it.
    fn tell_the_verdict(&self) {
        self.world.metrics.operator_is(self.operator.gauges());
        self.world.events.verdict(self.operator.verdict());
    }

    /// Waits for what happens next; nothing is a deadline, or what the operator need not hear of.
    async fn next(&mut self) -> Option<Input<P::Config>> {
        // Everything that has happened was told, so the operator is up to date.
        self.tell_the_verdict();
        loop {
            match self.wait().await {
                Ok(input) => return input,
                // It changes nothing, so no time passes for the operator.
                Err(Questioned(answer)) => {
                    // Whoever asked may have gone.
                    let _gone = answer.send(self.operator.verdict());
                }
            }
        }
    }

    async fn wait(&mut self) -> Result<Option<Input<P::Config>>, Questioned> {
        let world = &mut self.world;
        let deadline = self.operator.poll_timeout().map(|deadline| deadline.at);
        let input = tokio::select! {
            biased;
            ended = &mut world.agent, if !self.agent_ended => {
                self.agent_ended = true;
                Some(Input::AgentEnded(ended.map_err(panic_of)))
            }
            // It closes when the agent has ended, which the first arm tells. Whoever asks has perhaps seen
            // this state, so it comes before the question.
            Ok(()) = self.status.changed() => Some(self.agent_changed()),
            signal = next_signal(&mut world.signals) => Some(Input::Signal(signal)),
            asked = next_ask(&mut world.control) => {
                tell::asked(&asked);
                Some(self.asked(asked))
            }
            ask = next_gone(&mut self.asks) => {
                self.asks.remove(&ask);
                Some(Input::AskGone(ask))
            }
            Some(done) = self.work.join_next() => match done {
                Ok(done) => self.done(done),
                Err(error) if error.is_cancelled() => None,
                Err(error) => {
                    self.broken(panic_of(error));
                    None
                }
            },
            changed = world.files.changed() => {
                if !changed.is_empty() {
                    tell::changed(&changed);
                    if let Some(starts) = self.change_loop.handle_change(self.started.elapsed()) {
                        tell::changed_after_each_start(&changed, starts);
                    }
                    self.world.files.tell_bad_entries(Some(&changed));
                }
                match self.looking.take() {
                    Some(read) => {
                        self.begin_to_read(read);
                        None
                    }
                    None => (!changed.is_empty()).then_some(Input::FilesChanged),
                }
            }
            missing = world.awaited.found() => Some(Input::FilesFound(missing)),
            done = world.job.done() => Some(Input::JobDone(done)),
            () = due(deadline, self.started) => None,
            // The last one, so that nobody on the network can hold up what comes before.
            question = next_question(&mut world.status_server) => match question {
                Question::Verdict(answer) => return Err(Questioned(answer)),
                Question::Ask(asked) => Some(self.asked(asked)),
            },
        };
        Ok(input)
    }

    fn asked(&mut self, mut asked: PendingAsk) -> Input<P::Config> {
        self.last_ask = self.last_ask.saturating_add(1);
        let ask = AskId(self.last_ask);
        let request = asked.ask.request();
        if let Some(text) = asked.text.take() {
            self.texts.insert(ask, text);
        }
        self.asks.insert(ask, asked);
        Input::Asked { ask, request }
    }

    fn done(&mut self, done: Done<P::Config>) -> Option<Input<P::Config>> {
        match done {
            Done::Nothing => None,
            Done::Input(input) => Some(input),
            Done::Looked(look, facts) => {
                self.facts = facts;
                let epochs = self.facts.epochs.iter();
                let listens = epochs.map(|(epoch, facts)| (*epoch, facts.listens));
                let mut each = BTreeMap::new();
                each.extend(listens);
                Some(Input::Looked {
                    look,
                    listens: each,
                })
            }
        }
    }

    fn agent_changed(&mut self) -> Input<P::Config> {
        self.told = self.status.borrow_and_update().clone();
        let status = &self.told;
        let newest = status.epochs.iter().map(|status| status.epoch).max();
        let now = self.started.elapsed();
        self.change_loop.handle_newest(newest, now);
        let shortage = status.last_failure.as_ref().and_then(|failure| {
            Some(operator::Shortage {
                epoch: failure.epoch,
                what: Shortage::of(&*failure.error)?.to_string(),
            })
        });
        Input::AgentChanged(AgentView {
            phase: status.phase,
            standing: status.standing,
            epochs: status.epochs.iter().copied().map(EpochView::from).collect(),
            shortage,
        })
    }

    async fn carry_out(&mut self, output: Output<P::Config>) {
        let handle = self.world.handle.clone();
        match output {
            Output::Read { read, look, text } => {
                self.cancel_read();
                let read = ToRead { read, text };
                if look {
                    self.world.files.look_soon();
                    self.looking = Some(read);
                } else {
                    self.begin_to_read(read);
                }
            }
            Output::Keep(text) => self.keep(text),
            Output::CancelRead(_) => self.cancel_read(),
            Output::LookForFiles => self.world.awaited.look_soon(),
            Output::ForgetFiles => self.world.awaited.forget(),
            Output::Apply { change, config } => {
                let result = handle.apply_and_follow(config).await;
                self.follow(change, result);
            }
            Output::Renew { change, config } => {
                let result = handle.renew_and_follow(config).await;
                self.follow(change, result);
            }
            Output::Restart { change, config } => {
                let result = handle.restart_and_follow(config).await;
                self.follow(change, result);
            }
            Output::Terminate(urgency) => handle.terminate(urgency),
            Output::Release(epoch) => self.release(epoch),
            Output::Call { call, what } => {
                let proxy = Arc::clone(&self.world.proxy);
                self.work.spawn(async move {
                    let result = match what {
                        Call::Drain => proxy.drain_on_request().await,
                        Call::Undrain => proxy.undrain().await,
                    };
                    Done::Input(Input::CallDone { call, result })
                });
            }
            Output::Look(look) => {
                let proxy = Arc::clone(&self.world.proxy);
                self.work
                    .spawn(async move { Done::Looked(look, proxy.facts().await) });
            }
            Output::Examine {
                examination,
                epoch,
                probes,
            } => self.examine(examination, epoch, probes),
            Output::CancelExamine(_) => self.cancel_examination(),
            // The agent says so in the log, with what is started in its place.
            Output::Unfit { epoch, evidence } => handle.unfit(epoch, evidence),
            Output::RunHook { hook, call } => self.run_hook(hook, call),
            Output::WatchClients {
                ask,
                unless_unknown,
            } => self.watch_clients(ask, unless_unknown),
            Output::Forward(signal) => self.world.proxy.forward(signal.into()),
            Output::Answer { ask, answer } => self.answer(ask, answer),
            Output::Notify(notification) => {
                if let Some(manager) = &self.world.service_manager {
                    manager.notify(notification);
                }
                (self.world.notify)(notification);
            }
            Output::Event(event) => {
                let gauges = self.operator.gauges();
                self.world.metrics.operator_event(&event, gauges);
                tell::event(&event, &self.source_name);
                self.world.events.operator(&event);
            }
            // It is not carried out, but returned.
            Output::Finish(_) => {}
        }
    }

    fn cancel_read(&mut self) {
        self.looking = None;
        if let Some(reading) = self.reading.take() {
            reading.abort();
        }
    }

    fn begin_to_read(&mut self, ToRead { read, text }: ToRead) {
        let (source, files) = (&self.world.source, &self.world.files);
        if let Some(problem) = files.problem() {
            let result = Err(ReadFailure {
                report: Report::new(problem),
                shortage: false,
            });
            self.inputs.push_back(Input::ReadDone { read, result });
            return;
        }
        let inputs = source.inputs(files);
        let text = text.and_then(|text| self.texts.get(&text));
        let reading = match text {
            Some(text) => source.read_given(Arc::clone(text), files),
            None => source.read(files),
        };
        self.reading = Some(self.work.spawn(async move {
            let result = match reading.await {
                Ok(config) => Ok(Reading { config, inputs }),
                Err(error) => Err(ReadFailure {
                    report: Report::new(error_chain(&*error)),
                    shortage: Shortage::of(&*error).is_some(),
                }),
            };
            Done::Input(Input::ReadDone { read, result })
        }));
    }

    /// Lets the source keep what a client has given.
    fn keep(&mut self, text: AskId) {
        let given = self.texts.get(&text).map(Arc::clone);
        let keeping = given.map(|given| self.world.source.keep(given));
        self.work.spawn(async move {
            let result = match keeping {
                Some(keeping) => keeping.await.map_err(|error| {
                    let report = Report::new(error_chain(&*error));
                    tell::not_kept(&report);
                    report
                }),
                // The operator names no other.
                None => Err(Report::new("a bug: what was given is not there any more")),
            };
            Done::Input(Input::Kept { text, result })
        });
    }

    /// Forgets the configurations that the operator has no more use for.
    fn forget_texts(&mut self) {
        if !self.texts.is_empty() {
            let needed: Vec<AskId> = self.operator.applied().collect();
            self.texts.retain(|text, _| needed.contains(text));
        }
    }

    /// Tells what the agent has made of a change, with the state that this has led to, and later how the
    /// change has ended.
    fn follow(&mut self, change: ChangeId, result: Result<(Applied, Followed), ApplyError>) {
        let (result, followed) = match result {
            Ok((Applied::Unchanged, followed)) => (TakenIn::Unchanged, Some(followed)),
            Ok((Applied::Changed | _, followed)) => (TakenIn::Changed, Some(followed)),
            Err(_) => (TakenIn::Denied, None),
        };
        self.inputs.push_back(Input::TakenIn { change, result });
        let state = self.agent_changed();
        self.inputs.push_back(state);
        if let Some(followed) = followed {
            let proxy = Arc::clone(&self.world.proxy);
            self.work.spawn(async move {
                let result = settlement(&*proxy, followed.live().await);
                Done::Input(Input::Settled { change, result })
            });
        }
    }

    fn release(&mut self, epoch: Epoch) {
        let (proxy, handle) = (Arc::clone(&self.world.proxy), self.world.handle.clone());
        self.work.spawn(async move {
            let facts = proxy.facts().await;
            let facts = facts.epochs.get(&epoch);
            let connections = facts.and_then(|facts| facts.active_connections);
            tell::released(epoch);
            handle.release(epoch);
            Done::Input(Input::Released { epoch, connections })
        });
    }

    fn watch_clients(&mut self, ask: AskId, unless_unknown: bool) {
        let proxy = Arc::clone(&self.world.proxy);
        let watching = self.work.spawn(async move {
            let unknown = match unless_unknown {
                true => proxy.unknown_clients().await,
                false => Vec::new(),
            };
            let result = if unknown.is_empty() {
                proxy.without_clients().await;
                Clients::Gone
            } else {
                Clients::Unknown(unknown)
            };
            Done::Input(Input::ClientsWatched { ask, result })
        });
        self.watching.insert(ask, watching);
    }

    /// Gives up watching for those that have gone or were answered.
    fn give_up_watching(&mut self) {
        let operator = &self.operator;
        self.watching.retain(|ask, watching| {
            let stays = operator.watched().any(|wanted| wanted == *ask);
            if !stays {
                watching.abort();
            }
            stays
        });
    }
}

/// How a change has ended.
fn settlement(proxy: &impl Operate, result: Result<Epoch, NotLive>) -> Settlement {
    match result {
        Ok(epoch) => Settlement::Live(epoch),
        Err(NotLive::Replaced) => Settlement::Replaced,
        Err(NotLive::GivenUp { epoch, failure }) => Settlement::GivenUp {
            epoch,
            report: failure.map(|failure| Report {
                message: failure.message(),
                lines: proxy.last_words(&*failure.error),
            }),
        },
        Err(NotLive::NotRestarted) => Settlement::NotRestarted,
        // Of a later version's reasons it is known only that nothing follows.
        Err(NotLive::NotApplied(_) | NotLive::Ended | _) => Settlement::Ended,
    }
}

fn panic_of(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => panic_message(&*payload),
        Err(error) => error.to_string(),
    }
}

/// The next ask at the control socket, if there is one.
async fn next_ask(control: &mut Option<Control>) -> PendingAsk {
    match control {
        Some(control) => control.next().await,
        None => pending().await,
    }
}

/// The next question at the status server, if there is one.
async fn next_question(server: &mut Option<StatusServer>) -> Question {
    match server {
        Some(server) => server.next().await,
        None => pending().await,
    }
}

async fn next_signal(signals: &mut Option<Signals>) -> operator::Signal {
    match signals {
        Some(signals) => signals.next().await,
        None => pending().await,
    }
}

async fn next_end(signals: &mut Option<Signals>) -> operator::Signal {
    match signals {
        Some(signals) => signals.end().await,
        None => pending().await,
    }
}

/// Waits until the client of an ask has gone.
async fn next_gone(asks: &mut BTreeMap<AskId, PendingAsk>) -> AskId {
    poll_fn(|context| {
        let mut asks = asks.iter_mut();
        let gone = asks
            .find_map(|(ask, asked)| asked.answer.poll_closed(context).is_ready().then_some(*ask));
        gone.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Waits until the deadline, or for ever where there is none.
async fn due(at: Option<Timestamp>, started: Instant) {
    match at.and_then(|at| started.checked_add(at.elapsed())) {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
