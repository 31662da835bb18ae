//! The control loop.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use handover_core::{
    Deadline, Epoch, Event, Exit, Ignored, Input, Machine, Outcome, Output, Policy, PolicyError,
    Purpose, Reception, Standing, Target, Timestamp, Urgency,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::control::{Orders, Report};
use crate::handle::{Applied, ApplyError, Events, NotLive};
use crate::status::{FoundUnfit, NotLiveInTime};
use crate::{Failure, Handle, Observer, Proxy, RunControl, RunError, Status, log};

/// Runs a [`Proxy`] under a [`Policy`]: the driver of a [`Machine`].
///
/// One task runs one loop without decisions. It takes one input, passes it to the machine, carries
/// out the outputs, sets the timer and waits.
pub struct Agent<P: Proxy + ?Sized> {
    proxy: Arc<P>,
    machine: Machine<P::Config>,
    started: Instant,
    /// The running epochs: the task of each ends by sending [`Message::Exited`].
    runs: JoinSet<()>,
    orders: BTreeMap<Epoch, watch::Sender<Orders>>,
    sender: mpsc::UnboundedSender<Message<P::Config>>,
    messages: mpsc::UnboundedReceiver<Message<P::Config>>,
    /// Who hears what became of their configuration, once the state shows it.
    answers: Vec<(oneshot::Sender<TakenIn>, TakenIn)>,
    waiters: Vec<oneshot::Sender<Result<Epoch, NotLive>>>,
    status: watch::Sender<Status>,
    events: Events,
    last_failure: Option<Failure>,
    /// The epoch that stands for the drain, once it was started.
    drain: Option<Epoch>,
    observer: Option<Box<dyn Observer<P::Config>>>,
}

/// What became of a configuration that was asked for.
type TakenIn = Result<Applied, ApplyError>;

/// What the loop may be told.
pub(crate) enum Message<C> {
    /// A configuration is asked for, by the input: who hears that it was taken in, and who, if
    /// anybody, waits until it is live.
    Asked {
        input: Input<C>,
        answer: oneshot::Sender<TakenIn>,
        waiter: Option<oneshot::Sender<Result<Epoch, NotLive>>>,
    },
    /// The epoch has something to say.
    Reported(Epoch, Report),
    /// The epoch's run has returned.
    Exited(Epoch, Result<(), RunError>),
    Terminate(Urgency),
    /// The epoch is unfit, and this was seen.
    Unfit(Epoch, String),
}

impl<P: Proxy + ?Sized> Agent<P> {
    /// Returns an agent that runs nothing yet. It does nothing until [`run`](Self::run) is awaited.
    ///
    /// # Errors
    ///
    /// Returns an error if the policy cannot be honoured.
    pub fn new(proxy: Arc<P>, policy: Policy) -> Result<Self, PolicyError> {
        // The jitter of the retries needs no better randomness than that of a hash map.
        let machine = Machine::with_seed(policy, RandomState::new().hash_one(()))?;
        let started = Instant::now();
        let (sender, messages) = mpsc::unbounded_channel();
        let (status, _) = watch::channel(status_of(&machine, started, None));
        Ok(Self {
            proxy,
            machine,
            started,
            runs: JoinSet::new(),
            orders: BTreeMap::new(),
            sender,
            messages,
            answers: Vec::new(),
            waiters: Vec::new(),
            status,
            events: Events::default(),
            last_failure: None,
            drain: None,
            observer: None,
        })
    }

    /// Lets this observer watch each step of the machine, in place of one before.
    pub fn observe(&mut self, observer: Box<dyn Observer<P::Config>>) {
        self.observer = Some(observer);
    }

    /// Returns a handle to this agent.
    #[must_use]
    pub fn handle(&self) -> Handle<P::Config> {
        Handle::new(
            self.sender.clone(),
            self.status.subscribe(),
            self.events.clone(),
        )
    }

    /// Runs until the machine has finished. When `shutdown` resolves, the agent terminates as by
    /// [`Handle::terminate`] with [`Urgency::Drain`]. Pass [`std::future::pending`] if only handles end it.
    ///
    /// The agent waits for every [`Proxy::run`]. A proxy that ignores [`RunControl::abort`] keeps
    /// this call from returning.
    ///
    /// # Panics
    ///
    /// Panics if the runtime has no timer, see `tokio::runtime::Builder::enable_time`.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe. Dropping the future drops every running [`Proxy::run`], without a drain and
    /// without a cleanup.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Outcome {
        // A runtime without a timer shows itself here, and not at the first deadline of a later day. To wait
        // would cost the first start a tick of that timer.
        drop(sleep(Duration::ZERO));
        let mut shutdown = pin!(shutdown);
        let mut is_shut_down = false;
        loop {
            self.carry_out();
            self.settle();
            if let Some(outcome) = self.machine.outcome() {
                return outcome;
            }
            let deadline = self.machine.poll_timeout();
            tokio::select! {
                biased;
                Some(message) = self.messages.recv() => self.take(message),
                () = &mut shutdown, if !is_shut_down => {
                    is_shut_down = true;
                    self.feed(Input::Terminate(Urgency::Drain));
                }
                () = wait_for(deadline, self.started) => self.handle_timeout(),
            }
            while self.runs.try_join_next().is_some() {}
        }
    }

    fn take(&mut self, message: Message<P::Config>) {
        match message {
            Message::Asked {
                input,
                answer,
                waiter,
            } => {
                // A waiter for the same configuration stays registered across a renewal and a restart.
                let is_awaited = matches!(
                    &input,
                    Input::Renew(config) | Input::Restart(config)
                        if self.machine.desired() == Some(config)
                );
                let reception = self.handle_input(input);
                if reception == Reception::Accepted && !is_awaited {
                    for waiter in self.waiters.drain(..) {
                        // The caller may have stopped waiting.
                        let _gone = waiter.send(Err(NotLive::Replaced));
                    }
                }
                self.waiters.extend(waiter);
                self.answers.push((answer, applied(reception)));
            }
            Message::Reported(epoch, Report::Live) => self.feed(Input::Live(epoch)),
            Message::Reported(epoch, Report::StoppedServing) => {
                self.feed(Input::StoppedServing(epoch));
            }
            Message::Reported(epoch, Report::WillNotGoLive(why)) => {
                if why.is_some() && self.is_late(epoch) {
                    self.was_late(epoch, why);
                }
                self.feed(Input::Withdrawn(epoch));
            }
            Message::Reported(epoch, Report::Released) => self.feed(Input::Released(epoch)),
            Message::Exited(epoch, result) => {
                self.orders.remove(&epoch);
                let exit = self.exit_of(epoch, result);
                self.feed(Input::Exited(epoch, exit));
            }
            Message::Unfit(epoch, evidence) => self.found_unfit(epoch, evidence),
            Message::Terminate(urgency) => self.feed(Input::Terminate(urgency)),
        }
    }

    /// Keeps the evidence only if the machine takes it for one: it may come too late.
    fn found_unfit(&mut self, epoch: Epoch, evidence: String) {
        let reception = self.handle_input(Input::Unfit(epoch));
        match reception {
            Reception::Accepted => {
                self.has_failed(Failure {
                    epoch,
                    error: Arc::new(FoundUnfit(evidence)),
                });
            }
            Reception::Ignored(why) => tracing::debug!("ignored that {epoch} is unfit: {why}"),
            Reception::Denied(why) => tracing::debug!("ignored that {epoch} is unfit: {why}"),
        }
    }

    /// Feeds an input that nobody waits for an answer to; one that comes too late is ignored.
    fn feed(&mut self, input: Input<P::Config>) {
        if let Reception::Ignored(why) = self.handle_input(input) {
            tracing::debug!("ignored an input: {why}");
        }
    }

    fn handle_input(&mut self, input: Input<P::Config>) -> Reception {
        let now = self.now();
        if let Some(observer) = &mut self.observer {
            observer.step_begins(&self.machine, now, Some(&input));
        }
        self.machine.handle_input(now, input)
    }

    fn handle_timeout(&mut self) {
        let now = self.now();
        if let Some(observer) = &mut self.observer {
            observer.step_begins(&self.machine, now, None);
        }
        self.machine.handle_timeout(now);
    }

    /// Carries out every output, in order.
    fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            if let Some(observer) = &mut self.observer {
                observer.output(&output);
            }
            match output {
                Output::Start { epoch, target } => self.start(epoch, target),
                Output::Abort { epoch, how } => {
                    self.order(epoch, |orders| orders.abort = Some(how));
                }
                Output::Retire { epoch, by } => {
                    self.order(epoch, |orders| orders.retired = Some(by));
                }
                Output::Withdraw(epoch) => {
                    log::withdraw(epoch);
                    self.order(epoch, |orders| orders.withdrawn = true);
                }
                Output::Cleanup(epoch) => guard("cleanup", || self.proxy.cleanup(epoch)),
                Output::Panic { config, epoch } => {
                    log::panic(epoch);
                    guard("panic", || self.proxy.panic(&config));
                }
                Output::Finish(outcome) => log::finish(outcome),
                Output::Event(event) => {
                    self.note(&event);
                    log::event(&event, self.drain, self.last_failure.as_ref());
                    self.events.send(event);
                }
            }
        }
    }

    fn order(&self, epoch: Epoch, give: impl FnOnce(&mut Orders)) {
        if let Some(orders) = self.orders.get(&epoch) {
            orders.send_modify(give);
        }
    }

    /// Keeps why an epoch has failed, and tells the observer.
    fn has_failed(&mut self, failure: Failure) {
        if let Some(observer) = &mut self.observer {
            observer.failed(&failure);
        }
        self.last_failure = Some(failure);
    }

    /// Keeps what later sentences will need.
    fn note(&mut self, event: &Event) {
        if let Event::Started {
            epoch,
            purpose: Purpose::Drain,
        } = event
        {
            self.drain = Some(*epoch);
        }
        if let Event::GivesWay { epoch, .. } = event {
            // That it is withdrawn follows as an output of its own.
            self.order(*epoch, |orders| orders.gives_way = true);
        }
        if let Event::Draining { .. } = event {
            // What was asked before is asked for another reason from here on.
            for orders in self.orders.values() {
                orders.send_modify(|orders| orders.gives_way = false);
            }
        }
        if let Event::ProbationPassed { epoch } = event {
            self.order(*epoch, |orders| orders.proven = true);
        }
        if let Event::Live { epoch, .. } = event {
            let mut epochs = self.machine.epochs();
            let is_proven = epochs.any(|it| it.epoch == *epoch && !it.on_probation);
            self.order(*epoch, |orders| orders.proven = is_proven);
        }
        // Such an epoch is dropped or aborted, so its own run need not tell of a failure.
        if let Event::StartTimedOut { epoch } = event {
            // That it is withdrawn follows as an output of its own, unless it was before.
            self.order(*epoch, |orders| {
                orders.late = true;
                orders.gives_way |= !orders.withdrawn;
            });
            self.was_late(*epoch, None);
        }
    }

    fn is_late(&self, epoch: Epoch) -> bool {
        let orders = self.orders.get(&epoch);
        orders.is_some_and(|orders| orders.borrow().late)
    }

    fn was_late(&mut self, epoch: Epoch, why: Option<Box<dyn Error + Send + Sync>>) {
        let deadline = self.machine.policy().start_deadline;
        self.has_failed(Failure {
            epoch,
            error: Arc::new(NotLiveInTime { deadline, why }),
        });
    }

    fn start(&mut self, epoch: Epoch, target: Target<P::Config>) {
        let (orders, told) = watch::channel(Orders::default());
        self.orders.insert(epoch, orders);
        let reports = self.sender.clone();
        let control = RunControl::new(told, move |report| {
            let _ended = reports.send(Message::Reported(epoch, report));
        });
        let (proxy, sender) = (Arc::clone(&self.proxy), self.sender.clone());
        self.runs.spawn(async move {
            let result = unwinding_is_failure(proxy.run(target, epoch, control)).await;
            // The exit takes the same way as what the epoch said before it, so it comes after it.
            let _ended = sender.send(Message::Exited(epoch, result));
        });
    }

    fn exit_of(&mut self, epoch: Epoch, result: Result<(), RunError>) -> Exit {
        match result {
            Ok(()) => Exit::Clean,
            Err(RunError::Aborted) => Exit::Aborted,
            Err(RunError::Failed { severity, source }) => {
                self.has_failed(Failure {
                    epoch,
                    error: source.into(),
                });
                Exit::Failed(severity)
            }
        }
    }

    /// Shows the new state and answers those whose wait is over.
    fn settle(&mut self) {
        let status = status_of(&self.machine, self.started, self.last_failure.clone());
        // First the state, so that the reader of an answer finds the state that it is about.
        self.status.send_replace(status);
        for (answer, result) in self.answers.drain(..) {
            // Whoever asked may have stopped waiting.
            let _gone = answer.send(result);
        }
        let answer = match self.machine.standing() {
            Standing::Live(epoch) => Some(Ok(epoch)),
            Standing::GivenUp(epoch) => {
                let failure = self
                    .last_failure
                    .clone()
                    .filter(|failure| failure.epoch == epoch);
                Some(Err(NotLive::GivenUp { epoch, failure }))
            }
            Standing::NotRestarted => Some(Err(NotLive::NotRestarted)),
            Standing::Ending => Some(Err(NotLive::Ended)),
            Standing::Nothing | Standing::Pending(_) => None,
        };
        if let Some(answer) = answer {
            for waiter in self.waiters.drain(..) {
                let _gone = waiter.send(answer.clone());
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::new(self.started.elapsed())
    }
}

impl<P: Proxy + ?Sized> std::fmt::Debug for Agent<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

fn status_of<C: Clone + Eq>(
    machine: &Machine<C>,
    started: Instant,
    last_failure: Option<Failure>,
) -> Status {
    Status {
        phase: machine.phase(),
        epochs: machine.epochs().collect(),
        standing: machine.standing(),
        held: machine.held(),
        retries_left: machine.retries_left(),
        degraded: machine.is_degraded(),
        last_failure,
        started,
    }
}

fn applied(reception: Reception) -> TakenIn {
    match reception {
        Reception::Accepted => Ok(Applied::Changed),
        Reception::Ignored(Ignored::Finished) => Err(ApplyError::Ended),
        Reception::Ignored(_) => Ok(Applied::Unchanged),
        Reception::Denied(why) => Err(why.into()),
    }
}

/// Waits until the deadline, or for ever where there is none.
async fn wait_for(deadline: Option<Deadline>, started: Instant) {
    match deadline.and_then(|deadline| started.checked_add(deadline.at.elapsed())) {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Turns a panic of a proxy's run into its failure.
async fn unwinding_is_failure(
    mut run: Pin<Box<dyn Future<Output = Result<(), RunError>> + Send + '_>>,
) -> Result<(), RunError> {
    poll_fn(move |context| {
        // A future that has panicked is not polled again, so nothing sees a broken state of it.
        catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context)))
            .unwrap_or_else(|payload| Poll::Ready(Err(panicked(&*payload))))
    })
    .await
}

/// Keeps the loop alive when a callback of the proxy panics.
fn guard(what: &'static str, callback: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(callback)) {
        log::callback_panicked(what, &message_of(&*payload));
    }
}

fn panicked(payload: &(dyn Any + Send)) -> RunError {
    RunError::transient(format!("the proxy's run panicked: {}", message_of(payload)))
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is no text".to_owned())
}
