//! The second state machine: what signals, clients and changed files lead to.
//!
//! From a wish to its answer:
//!
//! ```text
//!   changed files ─────┐         ReadDone            TakenIn              Settled
//!   HUP ───────────────┼─▶ Read ──────────▶ Apply ──────────▶ (running) ──────────▶ Answer
//!   reload ────────────┤     │              Renew      │          ▲
//!   shortage is over ──┘     │ failed       Restart    │ denied   │ Release, while the cap holds
//!                            ▼                         ▼          │ the start of a hurried reload
//!                     what runs goes on             Answer ───────┘
//! ```
//!
//! The life of the operator, whose end is `Finish`:
//!
//! ```text
//!           a signal, `stop`, the agent by itself,
//!           the first read failed, a panic              AgentEnded
//!   running ───────────────────────────────────▶ ending ──────────▶ finished
//!                                                │    ▲
//!                                                └────┘
//!                                    a further signal: Drain < Stop < Kill
//! ```
//!
//! What a service manager is told:
//!
//! ```text
//!             an epoch serves            a read begins
//!   (nothing) ───────────────▶ Ready ───────────────────▶ Reloading
//!       │                       │  ▲                          │ │
//!       │                       │  └──────────────────────────┘ │
//!       │       the end begins  ▼   settled, and an epoch serves│
//!       └───────────────────▶ Stopping ◀────────────────────────┘
//! ```
//!
//! Each file beside this one has one job: `messages` is what goes in and out, `ask` what clients ask and are
//! answered, `reading` leads from a wish to a change, `changes` from a change to the answers, `calls`
//! speaks to the proxy, `hooks` runs the commands of the user, `ending` is the way to the end, `again` tries again what failed for lack of
//! something, `trial` looks at an epoch on probation, `evidence` judges what was seen of it, `requests` counts
//! what has failed, `condition` answers those who wait until something is so, `awaits` holds the first read until
//! files are there, `applied` is what clients give, `notify` tells the service manager, `rename` leaves the content of configurations out,
//! `verdict` says whether clients should be sent here, `view` is what an operator shows of itself.

#![warn(clippy::arithmetic_side_effects)]

mod again;
mod applied;
mod ask;
mod awaits;
mod calls;
mod changes;
mod condition;
mod ending;
mod evidence;
mod hooks;
mod looks;
mod messages;
mod notify;
mod reading;
mod rename;
mod requests;
mod trial;
mod verdict;
mod view;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use handover_core::{Epoch, Timestamp, Urgency};

use self::again::{Attempt, Pause};
use self::applied::Applied;
use self::awaits::Awaits;
use self::calls::QueuedCall;
use self::changes::{OpenChange, Releasing};
use self::hooks::Hooks;
use self::looks::Looks;
use self::notify::{Heard, Told};
use self::reading::{OpenRead, Wanted};
use self::trial::Trials;

pub use self::applied::Applies;
pub use self::ask::{
    AskId, Condition, Next, Overview, Progress, Refusal, Released, Reply, Report, Request, Wait,
    WaitedFor,
};
pub use self::awaits::FileWait;
pub use self::evidence::{
    ErrorRise, EvidenceRules, Examination, ProbeResult, Probed, Seen, Totals,
};
pub use self::hooks::{HookCall, HookFailure, HookId, HookSettings, Moment};
pub(crate) use self::notify::LastReports;
pub use self::rename::Rename;

pub use self::messages::{
    Again, AgentView, Call, CallId, ChangeId, Clients, Deadline, DeadlineReason, EndedBy, Ending,
    EpochView, Event, ExaminationId, Fault, Ignored, Input, Inputs, JobDone, LookId, Notification,
    Output, ReadFailure, ReadId, Reading, Reception, Settlement, Shortage, Signal, Summary,
    TakenIn,
};
pub use self::trial::{Probation, Unfit};
pub use self::verdict::{Health, Lacking, Verdict, Why};
pub use self::view::Gauges;

/// A sentence of the program. By its own name, `serde` does not take it for a part of what is read.
type Constant = &'static str;

/// How an operator decides where there is a choice.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Settings {
    /// What the first signal to end leads to.
    pub on_terminate: OnTerminate,
    /// Why the proxy cannot be restarted cold, if it cannot.
    #[serde(deserialize_with = "rename::constant")]
    pub no_cold_restart: Option<Constant>,
    /// How long an epoch is on probation, as [`Policy::probation`](handover_core::Policy::probation) says.
    pub probation: Option<Duration>,
    /// What counts as evidence against an epoch on probation.
    pub evidence: EvidenceRules,
    /// Whether a look could show nothing of an epoch: its proxy shows nothing, and there is no probe of
    /// the user. Then none is made.
    pub nothing_to_examine: bool,
    /// Whether nothing is started before some files are there.
    #[serde(default)]
    pub files: Option<FileWait>,
    /// The service manager that must hear of this process in time, if there is one.
    #[serde(default)]
    pub service_manager: Option<ServiceManager>,
    /// The hooks of the user.
    #[serde(default)]
    pub hooks: HookSettings,
    /// Whether clients give the configuration.
    #[serde(default)]
    pub applies: Applies,
}

/// A service manager that ends what it does not hear of in time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ServiceManager {
    /// How often to report that the loop turns; `None` if the service manager does not wait for it.
    pub alive_every: Option<Duration>,
}

/// What the first signal to end leads to.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum OnTerminate {
    /// A drain, then the end.
    #[default]
    Drain,
    /// The end without a drain, which counts as wanted: a drain was asked for before, if at all.
    Stop,
}

/// The state machine that decides what signals, clients and changed files lead to.
///
/// It does no I/O and knows no clock. The caller, called the driver, owns the agent, the files, the
/// clients and the time, and always does the same:
///
/// 1. Carry out every output, in order, until [`poll_output`](Self::poll_output) has none. A new
///    operator has outputs already.
/// 2. Ask for the deadline again with [`poll_timeout`](Self::poll_timeout): any input may have moved,
///    added or removed it.
/// 3. Wait for the next input or the deadline.
/// 4. Give it that one input with the time: [`handle_input`](Self::handle_input), or
///    [`handle_timeout`](Self::handle_timeout) when a deadline is reached.
///
/// What the driver may rely on:
///
/// - Every ask is answered exactly once, unless its client goes first. An ask after the end is
///   answered as well.
/// - One read counts at a time, the newest, and one call to the proxy is under way at a time.
/// - No configuration follows a [`Output::Terminate`], and what is terminated only becomes more
///   urgent.
/// - The time need not be exact: a timeout that is early, late or repeated does no harm. A time before
///   the last one counts as the last one.
/// - An input about something that is over is ignored and says so. After [`Output::Finish`] only
///   answers come.
/// - No input makes it panic.
///
/// What it relies on:
///
/// - The agent runs from the beginning, before anything is applied.
/// - [`Output::Read`], [`Output::Keep`], [`Output::Call`], [`Output::Look`], [`Output::Release`] and
///   [`Output::WatchClients`] are answered in the end, or a panic is reported. [`Output::Examine`] need
///   not be. A change is answered by one [`Input::TakenIn`]; unless it was denied, by one
///   [`Input::Settled`] as well.
/// - Every state of the agent that stays is told by [`Input::AgentChanged`], and the end of its task by
///   [`Input::AgentEnded`]. After a [`Input::TakenIn`] no older state is told.
/// - A new ask has a higher number than every ask before.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use handover_core::{Epoch, Outcome, Timestamp};
/// use handover_supervisor::operator::{
///     Input, Inputs, Operator, Output, Reading, Settings, Settlement, Signal, TakenIn,
/// };
///
/// let mut operator = Operator::new(Settings::default());
/// let mut inputs = Vec::new();
/// let mut finished = None;
///
/// while finished.is_none() {
///     while let Some(output) = operator.poll_output() {
///         match output {
///             // A driver looks at the files if asked to, and reads them beside its loop.
///             Output::Read { read, look: _, text: _ } => {
///                 let reading = Reading { config: "a", inputs: Inputs::default() };
///                 inputs.push(Input::ReadDone { read, result: Ok(reading) });
///             }
///             // A driver asks its agent. This one is live in no time.
///             Output::Apply { change, .. } | Output::Renew { change, .. } | Output::Restart { change, .. } => {
///                 inputs.push(Input::TakenIn { change, result: TakenIn::Changed });
///                 inputs.push(Input::Settled { change, result: Settlement::Live(Epoch::ZERO) });
///                 inputs.push(Input::Signal(Signal::Terminate));
///             }
///             Output::Terminate(urgency) => {
///                 println!("terminate: {urgency}");
///                 inputs.push(Input::AgentEnded(Ok(Outcome::Drained)));
///             }
///             Output::Release(epoch) => inputs.push(Input::Released { epoch, connections: None }),
///             Output::Call { call, .. } => inputs.push(Input::CallDone { call, result: Ok(None) }),
///             // No epoch is on probation here.
///             Output::Examine { .. } | Output::CancelExamine(_) | Output::Unfit { .. } => {}
///             Output::Look(look) => inputs.push(Input::Looked { look, listens: BTreeMap::new() }),
///             Output::Answer { ask, answer } => println!("answer to {ask}: {answer:?}"),
///             Output::Notify(notification) => println!("{notification:?}"),
///             Output::Event(event) => println!("{event:?}"),
///             Output::Finish(ending) => finished = Some(ending),
///             // No read is slow, no client asks, and there is no process here.
///             Output::CancelRead(_) | Output::WatchClients { .. } | Output::Forward(_) => {}
///             // There is no hook.
///             Output::RunHook { hook, .. } => inputs.push(Input::HookDone { hook, result: Ok(()) }),
///             // No file is awaited.
///             Output::LookForFiles | Output::ForgetFiles => {}
///             // No client gives a configuration.
///             Output::Keep(_) => {}
///         }
///     }
///     // A driver arms its timer by `poll_timeout`, waits, and reads its clock here.
///     let now = Timestamp::ZERO;
///     if inputs.is_empty() {
///         operator.handle_timeout(now);
///     } else {
///         let _reception = operator.handle_input(now, inputs.remove(0));
///     }
/// }
/// assert_eq!(finished.map(|ending| ending.agent), Some(Ok(Outcome::Drained)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Operator<C> {
    settings: Settings,
    now: Timestamp,
    /// What holds the first read, until one has succeeded.
    #[serde(default)]
    awaits: Option<Awaits>,
    /// What clients have given.
    #[serde(default)]
    applied: Applied,
    /// What was asked for last.
    wanted: Option<Wanted<C>>,
    /// The other inputs of the configuration that went live last.
    served: Option<Inputs>,
    /// Why the last read failed, until one succeeds.
    problem: Option<Report>,
    /// What the next successful read leads to.
    next: Next,
    read: Option<OpenRead>,
    reads: u64,
    /// The newest change, until it is settled.
    change: Option<OpenChange>,
    changes: u64,
    /// The asks that were not answered, in the order in which they came.
    asks: Vec<OpenAsk>,
    newest_ask: Option<AskId>,
    /// The calls to the proxy: the first is under way, the others wait for their turn.
    calls: VecDeque<QueuedCall>,
    called: u64,
    agent: AgentView,
    looks: Looks,
    trials: Trials,
    /// The epoch that is being released from the cap.
    releasing: Option<Releasing>,
    /// What is tried again.
    attempt: Option<Attempt>,
    pause: Pause,
    /// Whether the agent has denied a change, because it ends.
    denied: bool,
    urgency: Option<Urgency>,
    signal: Option<Signal>,
    drain_unwanted: bool,
    fault: Option<Fault>,
    ended: Option<Ending>,
    told: Told,
    /// When the service manager has heard what it must hear again in time.
    #[serde(default)]
    heard: Heard,
    #[serde(default)]
    hooks: Hooks<C>,
    summary: Option<Summary>,
    outputs: VecDeque<Output<C>>,
}

/// An ask that was not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
struct OpenAsk {
    id: AskId,
    since: Timestamp,
    wait: Wait,
    /// Whether a wait for a change goes on until its probation is over.
    through_probation: bool,
    /// Whether its client has given a configuration, which is to be kept.
    #[serde(default)]
    applies: bool,
    state: AskState,
}

/// What an open ask waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
enum AskState {
    /// For the newest read.
    Read { hurry: bool },
    /// For the agent to take its change in.
    Offered {
        change: ChangeId,
        hurry: bool,
        changed: bool,
    },
    /// For its change to be started, or to be live.
    Change(changes::Followed),
    /// For the end of the probation of its change.
    Probation(changes::Followed),
    /// Until the configuration that its client has given is kept. It is live with this epoch.
    Keep { epoch: Epoch, started: bool },
    /// For a call to the proxy.
    Call(CallId),
    /// For this look at the processes.
    Look(LookId),
    /// Until this is so, as seen by this look or a later one.
    Condition(Condition, LookId),
    /// Until no client is connected; the epoch that was live at the drain.
    Clients(Option<Epoch>),
    /// For the end.
    End,
}

impl OpenAsk {
    fn deadline(&self) -> Option<Timestamp> {
        Some(self.since.after(self.wait.limit()?))
    }

    fn waited_for(&self) -> WaitedFor {
        match self.state {
            AskState::Read { .. } => WaitedFor::Read,
            AskState::Offered { .. } | AskState::Change(_) => WaitedFor::Live,
            AskState::Probation(_) => WaitedFor::Probation,
            AskState::Keep { .. } => WaitedFor::Keep,
            AskState::Call(_) => WaitedFor::Proxy,
            AskState::Look(_) => WaitedFor::Look,
            AskState::Condition(condition, _) => WaitedFor::Condition(condition),
            AskState::Clients(_) => WaitedFor::Clients,
            AskState::End => WaitedFor::End,
        }
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Returns an operator that begins with a read, unless files or a configuration are awaited.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut operator = Self::idle(settings);
        match settings.files {
            Some(_) => operator.await_files(),
            None => operator.read(Next::IfDifferent, false),
        }
        if operator.awaits_configuration() {
            operator.event(Event::AwaitsConfiguration);
        }
        operator.notify();
        operator
    }

    /// Returns an operator that begins with a configuration which stands in for what the files ask
    /// for, because that cannot be used. It reads the files once they change, or when it is asked to. It
    /// awaits no files: there is something to run.
    #[must_use]
    pub fn with_stand_in(settings: Settings, stand_in: Reading<C>) -> Self {
        let mut operator = Self::idle(settings);
        operator.want(Wanted {
            reading: stand_in,
            stands_in: true,
        });
        operator.notify();
        operator
    }

    fn idle(settings: Settings) -> Self {
        Self {
            settings,
            now: Timestamp::ZERO,
            awaits: None,
            applied: Applied::default(),
            wanted: None,
            served: None,
            problem: None,
            next: Next::IfDifferent,
            read: None,
            reads: 0,
            change: None,
            changes: 0,
            asks: Vec::new(),
            newest_ask: None,
            calls: VecDeque::new(),
            called: 0,
            agent: AgentView::default(),
            looks: Looks::default(),
            trials: Trials::default(),
            releasing: None,
            attempt: None,
            pause: Pause::default(),
            denied: false,
            urgency: None,
            signal: None,
            drain_unwanted: false,
            fault: None,
            ended: None,
            told: Told::Nothing,
            heard: Heard::default(),
            hooks: Hooks::default(),
            summary: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input in. What follows from it waits in [`poll_output`](Self::poll_output).
    pub fn handle_input(&mut self, now: Timestamp, input: Input<C>) -> Reception {
        self.now = self.now.max(now);
        let reception = self.take(input);
        self.keep_what_is_live();
        self.answer_conditions();
        self.notify();
        reception
    }

    /// Does what is due. Without anything due it does nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some(deadline) = self.poll_timeout().filter(|next| next.at <= self.now) {
            match deadline.reason {
                DeadlineReason::Limit(ask) => self.limit_passed(ask),
                DeadlineReason::Again(what) => self.try_again(what),
                DeadlineReason::Look => self.look_again(),
                DeadlineReason::Examine => self.examine(),
                DeadlineReason::ExaminationLimit => self.give_up_examining(),
                DeadlineReason::FilesReport => self.report_missing_files(),
                DeadlineReason::FilesLimit => self.files_limit_passed(),
                DeadlineReason::Alive => self.report_alive(),
                DeadlineReason::MoreTime => self.ask_for_more_time(),
                DeadlineReason::DrainHook => self.drain_now(),
            }
        }
        self.keep_what_is_live();
        self.answer_conditions();
        self.notify();
    }

    /// Returns the next output, in the order in which they must be carried out.
    pub fn poll_output(&mut self) -> Option<Output<C>> {
        self.outputs.pop_front()
    }

    /// Returns the next deadline; `None` when only an input can change anything.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let limits = self.asks.iter().filter_map(|ask| {
            Some(Deadline {
                at: ask.deadline()?,
                reason: DeadlineReason::Limit(ask.id),
            })
        });
        let tries = self.attempt_deadline().into_iter();
        let looks = self.look_deadline().into_iter();
        let looks = looks.chain(self.examination_deadline());
        let looks = looks.chain(self.awaits_deadline());
        let reports = self.alive_deadline().into_iter();
        let reports = reports.chain(self.more_time_deadline());
        let holds = self.hook_deadline().into_iter();
        let reports = reports.chain(holds);
        limits.chain(tries).chain(looks).chain(reports).min()
    }

    fn take(&mut self, input: Input<C>) -> Reception {
        match input {
            Input::Asked { ask, request } => self.asked(ask, request),
            Input::AskGone(ask) => self.gone(ask),
            // What has ended at the end has its hooks as well.
            Input::HookDone { hook, result } => self.hook_done(hook, result),
            Input::Signal(_)
            | Input::FilesChanged
            | Input::ReadDone { .. }
            | Input::TakenIn { .. }
            | Input::Settled { .. }
            | Input::AgentChanged(_)
            | Input::AgentEnded(_)
            | Input::Released { .. }
            | Input::CallDone { .. }
            | Input::ClientsWatched { .. }
            | Input::Looked { .. }
            | Input::Examined { .. }
            | Input::FilesFound(_)
            | Input::JobDone(_)
            | Input::Kept { .. }
            | Input::Broken(_)
                if self.ended.is_some() =>
            {
                Reception::Ignored(Ignored::Finished)
            }
            Input::Signal(signal) => self.signalled(signal),
            Input::FilesChanged => self.files_changed(),
            Input::ReadDone { read, result } => self.read_done(read, result),
            Input::TakenIn { change, result } => self.taken_in(change, result),
            Input::Settled { change, result } => self.settled(change, &result),
            Input::AgentChanged(view) => self.agent_changed(view),
            Input::AgentEnded(result) => self.agent_ended(result),
            Input::Released { epoch, connections } => {
                self.released(Released { epoch, connections })
            }
            Input::CallDone { call, result } => self.call_done(call, result),
            Input::ClientsWatched { ask, result } => self.clients_watched(ask, result),
            Input::Looked { look, listens } => self.looked(look, &listens),
            Input::Examined { examination, seen } => self.examined(examination, &seen),
            Input::FilesFound(missing) => self.files_found(missing),
            Input::JobDone(done) => self.job_done(done),
            Input::Kept { text, result } => self.kept(text, result),
            Input::Broken(message) => self.broken(message),
        }
    }

    /// Rule: what changes something is decided before anything else is looked at; what waits stays open.
    fn asked(&mut self, id: AskId, request: Request) -> Reception {
        if self.newest_ask.is_some_and(|newest| id <= newest) {
            return Reception::Ignored(Ignored::UsedAsk);
        }
        self.newest_ask = Some(id);
        let wait = match request {
            Request::Status | Request::Who | Request::Undrain => Wait::No,
            Request::Reload { wait, .. }
            | Request::Apply { wait, .. }
            | Request::Drain { wait }
            | Request::Await { wait, .. }
            | Request::Stop { wait, .. } => wait,
        };
        let through_probation = matches!(
            request,
            Request::Reload {
                through_probation: true,
                ..
            } | Request::Apply {
                through_probation: true,
                ..
            }
        );
        let applies = matches!(request, Request::Apply { .. });
        let since = self.now;
        let ask = |state| OpenAsk {
            id,
            since,
            wait,
            through_probation,
            applies,
            state,
        };
        match request {
            // There is nothing left to look at.
            Request::Status if self.ended.is_some() => {
                let overview = self.overview();
                self.answer(id, Ok(Reply::Status(overview.into())));
            }
            Request::Status => {
                let look = self.look_for_a_status();
                let open = ask(AskState::Look(look));
                self.asks.push(open);
            }
            Request::Await { condition, .. } => match self.ended.clone() {
                Some(ending) => self.answer(id, Ok(Reply::Ended(ending))),
                None => {
                    let look = self.look_for_a_condition(condition);
                    let open = ask(AskState::Condition(condition, look));
                    self.asks.push(open);
                }
            },
            // Connections hold an end up as well, so it is answered then too.
            Request::Who => self.answer(id, Ok(Reply::Who)),
            Request::Stop { now, wait } => {
                let open = ask(AskState::End);
                self.stop(open, now, wait);
            }
            Request::Reload { .. }
            | Request::Apply { .. }
            | Request::Drain { .. }
            | Request::Undrain
                if self.is_ending() =>
            {
                self.answer(id, Err(Refusal::Ending));
            }
            Request::Reload { next, hurry, .. } => match self.settings.no_cold_restart {
                Some(why) if next == Next::Cold => {
                    self.answer(id, Err(Refusal::NotSupported(Report::new(why))));
                }
                _ if self.awaits_files() && !wait.waits() => {
                    let report = self.awaited_report();
                    self.answer(id, Err(Refusal::NotRead(report)));
                }
                _ if self.has_nothing_to_read() && !wait.waits() => {
                    let report = Report::new("no configuration was given yet that could be read");
                    self.answer(id, Err(Refusal::NotRead(report)));
                }
                _ => {
                    let open = ask(AskState::Read { hurry });
                    self.asks.push(open);
                    self.read(next, true);
                }
            },
            Request::Apply { .. } => match self.settings.applies {
                Applies::Never => self.answer(id, Err(Refusal::NotTaken)),
                Applies::FromClients { .. } if self.awaits_files() && !wait.waits() => {
                    let report = self.awaited_report();
                    self.answer(id, Err(Refusal::NotRead(report)));
                }
                Applies::FromClients { .. } => {
                    let open = ask(AskState::Read { hurry: false });
                    self.apply(open);
                }
            },
            Request::Drain { .. } => {
                let open = ask(AskState::Call(self.next_call()));
                self.asks.push(open);
                self.call(Call::Drain);
            }
            Request::Undrain => {
                let open = ask(AskState::Call(self.next_call()));
                self.asks.push(open);
                self.call(Call::Undrain);
            }
        }
        Reception::Accepted
    }

    /// Rule: a client that goes takes back nothing but its wish to be answered.
    fn gone(&mut self, id: AskId) -> Reception {
        let before = self.asks.len();
        self.asks.retain(|ask| ask.id != id);
        if self.asks.len() == before {
            return Reception::Ignored(Ignored::UnknownAsk);
        }
        Reception::Accepted
    }

    fn limit_passed(&mut self, id: AskId) {
        let Some(ask) = self.asks.iter().find(|ask| ask.id == id) else {
            return;
        };
        let refusal = Refusal::TimedOut {
            limit: ask.wait.limit().unwrap_or(Duration::ZERO),
            waited_for: ask.waited_for(),
        };
        self.answer(id, Err(refusal));
    }

    /// Answers the ask, which is closed by that.
    fn answer(&mut self, id: AskId, answer: Result<Reply<C>, Refusal>) {
        self.asks.retain(|ask| ask.id != id);
        self.outputs.push_back(Output::Answer { ask: id, answer });
    }

    /// Answers each open ask for which there is an answer now.
    fn answer_each(&mut self, answer: impl Fn(&OpenAsk) -> Option<Result<Reply<C>, Refusal>>) {
        let answers: Vec<_> = self
            .asks
            .iter()
            .filter_map(|ask| Some((ask.id, answer(ask)?)))
            .collect();
        for (id, answer) in answers {
            self.answer(id, answer);
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
