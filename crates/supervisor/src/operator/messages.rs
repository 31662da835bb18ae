//! What goes into the operator and what comes out of it: two closed enums and their parts.
//!
//! Both are closed on purpose. A driver that does not carry out a command, or never gives an input,
//! breaks a promise; the compiler names such a driver when a variant is added. What is only told,
//! such as [`Event`], is not closed.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use handover_core::{Epoch, EpochInfo, EpochState, Outcome, Phase, Standing, Timestamp, Urgency};

use super::ask::{AskId, Refusal, Reply, Report, Request};
use super::evidence::Seen;
use super::hooks::{HookCall, HookFailure, HookId, Moment};

/// The number of a read. A later read has a higher number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ReadId(pub u64);

/// The number of a change that the agent is asked for. A later change has a higher number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ChangeId(pub u64);

/// The number of a call to the proxy. A later call has a higher number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct CallId(pub u64);

/// The number of a look at the processes. A later look has a higher number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct LookId(pub u64);

/// The number of a look at an epoch on probation. A later look has a higher number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ExaminationId(pub u64);

/// What the driver tells the operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Input<C> {
    /// The process received this signal.
    Signal(Signal),
    /// A client asks for something.
    Asked {
        /// The number by which it is answered.
        ask: AskId,
        /// What it asks for.
        request: Request,
    },
    /// The client of this ask has gone. It needs no answer, but what it asked for goes on.
    AskGone(AskId),
    /// The watched files hold something else.
    FilesChanged,
    /// A read has ended.
    ReadDone {
        /// Its number, from [`Output::Read`].
        read: ReadId,
        /// What the files ask for, or why they ask for nothing that can be run.
        result: Result<Reading<C>, ReadFailure>,
    },
    /// The agent has received a change. An [`Input::AgentChanged`] with a state at least as new as
    /// this follows.
    TakenIn {
        /// Its number.
        change: ChangeId,
        /// What the agent made of it.
        result: TakenIn,
    },
    /// A change that the agent took in has come to its end.
    Settled {
        /// Its number.
        change: ChangeId,
        /// Which end.
        result: Settlement,
    },
    /// The agent shows another state.
    AgentChanged(AgentView),
    /// The agent has ended: how its work ended, or the message of its panic.
    AgentEnded(Result<Outcome, String>),
    /// An epoch was released from the cap, as by [`Output::Release`].
    Released {
        /// Its number.
        epoch: Epoch,
        /// The connections that clients had to it, where they can be counted.
        connections: Option<u64>,
    },
    /// A call to the proxy has returned.
    CallDone {
        /// Its number, from [`Output::Call`].
        call: CallId,
        /// The live epoch, if one is live, or why the proxy did not do it.
        result: Result<Option<Epoch>, Refusal>,
    },
    /// What [`Output::WatchClients`] has led to.
    ClientsWatched {
        /// The ask.
        ask: AskId,
        /// What was seen.
        result: Clients,
    },
    /// A look at the processes was done.
    Looked {
        /// Its number, from [`Output::Look`].
        look: LookId,
        /// Whether clients can connect to each running epoch: `None` where that cannot be seen, as for
        /// an epoch that is not named.
        listens: BTreeMap<Epoch, Option<bool>>,
    },
    /// A look at an epoch on probation was done.
    Examined {
        /// Its number, from [`Output::Examine`].
        examination: ExaminationId,
        /// What was seen.
        seen: Seen,
    },
    /// What is missing of the files without which nothing is started, each in a sentence. Nothing is
    /// missing where there is none. It answers [`Output::LookForFiles`], and follows each change of these
    /// files.
    FilesFound(Vec<String>),
    /// The job that this instance was started for is done.
    JobDone(JobDone),
    /// A configuration that a client has given is kept, or cannot be. It answers [`Output::Keep`].
    Kept {
        /// The ask that gave it.
        text: AskId,
        /// Why it cannot be kept, if so.
        result: Result<(), Report>,
    },
    /// A hook has ended.
    HookDone {
        /// Its number, from [`Output::RunHook`].
        hook: HookId,
        /// How it has failed, if so.
        result: Result<(), HookFailure>,
    },
    /// A part of the driver has panicked, with this message. A look that is under way is not waited
    /// for any longer.
    Broken(String),
}

/// What the operator tells the driver: commands, which must be carried out in order, and what is for
/// people and service managers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Output<C> {
    /// Begin to read what the files ask for, in place of any read before; answer with
    /// [`Input::ReadDone`].
    Read {
        /// Its number.
        read: ReadId,
        /// Whether the files must be looked at first, since a change may not have been reported yet.
        look: bool,
        /// The ask whose client has given what is read, if that is not kept yet.
        text: Option<AskId>,
    },
    /// Drop this read. Its result would be ignored.
    CancelRead(ReadId),
    /// Look at the files without which nothing is started, in place of any look before, and answer with
    /// [`Input::FilesFound`].
    LookForFiles,
    /// Watch these files no longer: a read has succeeded.
    ForgetFiles,
    /// Keep what the client of this ask has given, in place of what was kept before, and answer with
    /// [`Input::Kept`]. One is kept at a time.
    Keep(AskId),
    /// Ask the agent for this configuration, as by [`Input::Desire`](handover_core::Input::Desire).
    Apply {
        /// The number of the change.
        change: ChangeId,
        /// The configuration.
        config: C,
    },
    /// Ask the agent for the next epoch with this configuration, although it may be equal.
    Renew {
        /// The number of the change.
        change: ChangeId,
        /// The configuration.
        config: C,
    },
    /// Ask the agent for a cold restart, as by [`Input::Restart`](handover_core::Input::Restart).
    Restart {
        /// The number of the change.
        change: ChangeId,
        /// The configuration.
        config: C,
    },
    /// Let the agent end, this urgently.
    Terminate(Urgency),
    /// Count the clients of this epoch, release it from the cap, and answer with
    /// [`Input::Released`].
    Release(Epoch),
    /// Call the proxy, and answer with [`Input::CallDone`]. There is one call at a time.
    Call {
        /// Its number.
        call: CallId,
        /// What the proxy shall do.
        what: Call,
    },
    /// Look at the processes of the proxy, and answer with [`Input::Looked`]. There is one look at a
    /// time. The status that is answered next shows what it has found.
    Look(LookId),
    /// Look at this epoch, and answer with [`Input::Examined`]. There is one such look at a time.
    Examine {
        /// Its number.
        examination: ExaminationId,
        /// The epoch.
        epoch: Epoch,
        /// Whether the probes of the user are made as well.
        probes: bool,
    },
    /// Give up this look at an epoch. Its result would be ignored.
    CancelExamine(ExaminationId),
    /// Tell the agent that this epoch is unfit, as by [`Input::Unfit`](handover_core::Input::Unfit).
    Unfit {
        /// Its number.
        epoch: Epoch,
        /// Why, in a sentence.
        evidence: String,
    },
    /// Wait until no client is connected, and answer with [`Input::ClientsWatched`]. The wait ends
    /// when the ask was answered or its client has gone.
    WatchClients {
        /// For this ask.
        ask: AskId,
        /// Whether connections that cannot be seen end the wait.
        unless_unknown: bool,
    },
    /// Send this signal to the process of every epoch.
    Forward(Signal),
    /// Answer this ask, if its client is still there.
    Answer {
        /// Its number.
        ask: AskId,
        /// The answer.
        answer: Result<Reply<C>, Refusal>,
    },
    /// Run a hook, and answer with [`Input::HookDone`], at the latest when its time limit has passed.
    /// There is one hook at a time. It may come after [`Output::Finish`].
    RunHook {
        /// The number of the run.
        hook: HookId,
        /// What it is run for.
        call: HookCall,
    },
    /// Tell the service manager.
    Notify(Notification),
    /// Something that people want to know.
    Event(Event),
    /// Everything has ended, and every ask was answered.
    Finish(Ending),
}

/// The signals that the operator answers to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    HangUp,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::HangUp => "SIGHUP",
            Self::User1 => "SIGUSR1",
            Self::User2 => "SIGUSR2",
        })
    }
}

/// What the files ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Reading<C> {
    /// The configuration.
    pub config: C,
    /// What else the proxy reads when it starts.
    pub inputs: Inputs,
}

/// A digest of everything beside the configuration that a new epoch reads: certificates, for example,
/// or the binary. An equal configuration with other inputs leads to the next epoch.
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
pub struct Inputs(pub [u8; 32]);

/// Why a read has led to nothing that can be run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ReadFailure {
    /// What is wrong.
    pub report: Report,
    /// Whether the operating system was short of something, such as memory or descriptors. That may
    /// pass without a change of the files.
    pub shortage: bool,
}

/// What the agent made of a change.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum TakenIn {
    /// It is desired from here on.
    Changed,
    /// It was desired already.
    Unchanged,
    /// The agent terminates or has ended, and takes nothing in. No [`Input::Settled`] follows.
    Denied,
}

/// How a change that was taken in has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Settlement {
    /// It is live with this epoch.
    Live(Epoch),
    /// Another one was asked for first.
    Replaced,
    /// It was given up.
    GivenUp {
        /// The last epoch that failed with it.
        epoch: Epoch,
        /// How it failed, if known.
        report: Option<Report>,
    },
    /// Its epoch ended cleanly and is not started again.
    NotRestarted,
    /// The agent ends.
    Ended,
}

/// What the operator has to know of the agent's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct AgentView {
    /// Where the agent is in its life.
    pub phase: Phase,
    /// How the desired configuration stands.
    pub standing: Standing,
    /// The running epochs, oldest first.
    pub epochs: Vec<EpochView>,
    /// The epoch that failed last, if it failed because the operating system was short of something.
    pub shortage: Option<Shortage>,
}

impl Default for AgentView {
    /// Returns the view of an agent that was asked for nothing yet.
    fn default() -> Self {
        Self {
            phase: Phase::Running,
            standing: Standing::Nothing,
            epochs: Vec::new(),
            shortage: None,
        }
    }
}

impl AgentView {
    /// Returns the newest epoch that is live.
    #[must_use]
    pub fn live(&self) -> Option<Epoch> {
        let mut epochs = self.epochs.iter().rev();
        let live = epochs.find(|view| view.state == EpochState::Live)?;
        Some(live.epoch)
    }

    /// Returns whether the agent is on the way to its end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.phase != Phase::Running
    }

    pub(super) fn desired_starts(&self) -> bool {
        let mut epochs = self.epochs.iter();
        epochs.any(|view| view.desired && view.state == EpochState::Starting)
    }

    pub(super) fn oldest_draining(&self) -> Option<Epoch> {
        let mut epochs = self.epochs.iter();
        let draining = epochs.find(|view| view.holds_the_cap())?;
        Some(draining.epoch)
    }
}

/// An epoch as the operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct EpochView {
    /// Its number.
    pub epoch: Epoch,
    /// Its state.
    pub state: EpochState,
    /// Whether it runs with the desired configuration.
    pub desired: bool,
    /// Whether it was released from the cap.
    pub released: bool,
    /// When it was started, by the clock of the agent. Two epochs of one number differ in it.
    pub started: Timestamp,
    /// Whether it is live and has yet to prove itself.
    pub on_probation: bool,
    /// Whether it was found unfit.
    pub unfit: bool,
}

impl EpochView {
    pub(super) fn holds_the_cap(&self) -> bool {
        self.state == EpochState::Draining && !self.released
    }

    /// Whether evidence against it counts.
    pub(super) fn is_tried(&self) -> bool {
        self.state == EpochState::Live && self.on_probation && !self.unfit
    }
}

impl From<EpochInfo> for EpochView {
    fn from(info: EpochInfo) -> Self {
        Self {
            epoch: info.epoch,
            state: info.state,
            desired: info.desired,
            released: info.released,
            started: info.started,
            on_probation: info.on_probation,
            unfit: info.unfit,
        }
    }
}

/// An epoch that failed because the operating system was short of something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Shortage {
    /// Its number.
    pub epoch: Epoch,
    /// What there was too little of.
    pub what: String,
}

/// What the proxy is called for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Call {
    /// To let health checks fail until further notice.
    Drain,
    /// To let them succeed again.
    Undrain,
}

/// What was seen of the clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Clients {
    /// None is connected.
    Gone,
    /// Some connections cannot be seen; which, in words.
    Unknown(Vec<String>),
}

/// What a service manager is told, in the terms of `sd_notify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Notification {
    /// An epoch is live, a look has found nothing that keeps clients out, and no reload is under way. It
    /// comes once at the start and once after each
    /// [`Notification::Reloading`].
    Ready,
    /// A reload has begun. It comes only after [`Notification::Ready`], and again for a signal that
    /// comes during a reload.
    Reloading,
    /// The end has begun. None of the three follows.
    Stopping,
    /// The state in a few words has changed.
    Status(Summary),
    /// The loop turns. It comes as often as [`Settings::service_manager`](super::Settings) says.
    Alive,
    /// What is under way needs up to this much time from here on. It comes again in good time, for as
    /// long as the start or the drain takes.
    MoreTime(Duration),
}

/// The state of everything in a few words.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[non_exhaustive]
pub enum Summary {
    /// Nothing is seen to serve yet, or any more.
    Starting,
    /// Nothing is started, because files are awaited.
    AwaitingFiles,
    /// Nothing is started, because no client has given a configuration.
    AwaitingConfiguration,
    /// The desired configuration serves.
    Serving(Epoch),
    /// Another configuration than the desired one serves.
    ServingAnother(Epoch),
    /// An epoch is live, but none is seen to listen for clients.
    NotListening(Epoch),
    /// Everything ends, and connections are waited for.
    Draining,
    /// Everything ends without a drain.
    Stopping,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("nothing serves"),
            Self::AwaitingFiles => f.write_str("nothing serves yet: files are awaited"),
            Self::AwaitingConfiguration => {
                f.write_str("nothing serves yet: a configuration is awaited")
            }
            Self::Serving(epoch) => write!(f, "epoch {epoch} serves"),
            Self::ServingAnother(epoch) => {
                write!(
                    f,
                    "epoch {epoch} serves another configuration than the desired one"
                )
            }
            Self::NotListening(epoch) => {
                write!(f, "epoch {epoch} is live, but nothing listens for clients")
            }
            Self::Draining => f.write_str("draining"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

/// Something that people want to know. Nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// The end has begun, or is more urgent from here on.
    Ending {
        /// How urgent it is.
        urgency: Urgency,
        /// What has asked for it.
        by: EndedBy,
    },
    /// The next epoch is due, because this signal asks for it.
    NextIsDue(Signal),
    /// A read has failed; what runs goes on. A first read that fails is told by the end.
    NotRead(ReadFailure),
    /// The agent did not take this change in.
    NotTakenIn(ChangeId),
    /// What was read is what was desired already.
    Unchanged(ChangeId),
    /// The desired configuration was given up for lack of this, and is tried again later.
    Short(String),
    /// What failed for lack of something is tried again.
    TriesAgain(Again),
    /// A call to the proxy has returned.
    Called {
        /// What for.
        what: Call,
        /// Why the proxy did not do it, if so.
        refusal: Option<Refusal>,
    },
    /// A probe of an epoch on probation could not be made, so that it proves nothing.
    ProbeUnknown {
        /// The probe.
        probe: String,
        /// Why.
        why: String,
    },
    /// A drain that a signal asked for has no effect, because everything ends.
    DrainTooLate,
    /// Nothing is started, because this is missing. It is repeated after pauses that grow.
    AwaitsFiles(Vec<String>),
    /// The awaited files are there, and the configuration is read.
    FilesAreThere,
    /// Nothing is started, because no client has given a configuration.
    AwaitsConfiguration,
    /// A hook has failed, was not done in time, or could not be run.
    HookFailed {
        /// The moment that it was for.
        moment: Moment,
        /// Why.
        why: String,
    },
}

/// How it was seen that a job is done.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum JobDone {
    /// The process with this id has ended.
    ProcessEnded(u32),
    /// The file has appeared.
    FileAppeared,
}

/// What has asked for the end.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum EndedBy {
    /// A signal.
    Signal(Signal),
    /// A client.
    Ask(AskId),
    /// The first read, which has failed.
    FirstRead,
    /// The job of this instance, which is done.
    Job(JobDone),
    /// The limit of the wait for files.
    FilesLimit,
    /// A panic in the driver.
    Panic,
}

/// What is tried again without anybody asking.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Again {
    /// Reading the files.
    Read,
    /// Starting what was read.
    Start,
}

/// How everything has ended. The driver turns it into an exit code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Ending {
    /// How the agent's work ended, or the message of its panic.
    pub agent: Result<Outcome, String>,
    /// What made the operator end everything by itself, if so.
    pub fault: Option<Fault>,
    /// The last signal that asked for the end.
    pub signal: Option<Signal>,
    /// Whether a client, or the setting for signals, said that no drain is wanted.
    pub drain_unwanted: bool,
}

/// What made the operator end everything by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Fault {
    /// The first read has failed, so there was nothing to run.
    NotRead(ReadFailure),
    /// The awaited files were not there in time. What was missing; nothing if they were never seen.
    FilesMissing(Vec<String>),
    /// A part of the driver has panicked, with this message.
    Panic(String),
}

/// What became of an input.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Reception {
    /// It was taken in; outputs may follow.
    Accepted,
    /// It changed nothing, and that is all right.
    Ignored(Ignored),
}

/// Why an input changed nothing.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[non_exhaustive]
pub enum Ignored {
    /// It is over, or a newer one has taken its place.
    Stale,
    /// No such ask is open.
    UnknownAsk,
    /// The number of the ask was used before.
    UsedAsk,
    /// Everything ends.
    Ending,
    /// That is so already.
    Unchanged,
    /// The operator has finished.
    Finished,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "that is over",
            Self::UnknownAsk => "no such ask is open",
            Self::UsedAsk => "the number of the ask was used before",
            Self::Ending => "everything ends",
            Self::Unchanged => "that is so already",
            Self::Finished => "the operator has finished",
        })
    }
}

/// When the driver must call [`Operator::handle_timeout`](super::Operator::handle_timeout), and what
/// for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Deadline {
    /// The moment.
    pub at: Timestamp,
    /// The reason, for logs and tests.
    pub reason: DeadlineReason,
}

/// What a deadline is for. Each says when it is set; where it is not, there is no such deadline.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[non_exhaustive]
pub enum DeadlineReason {
    /// When to answer that the limit has passed: while an ask with a limit is open.
    Limit(AskId),
    /// When to try again what failed for lack of something: from the failure until a newer read.
    Again(Again),
    /// When to look at the processes again: while an epoch is live and nothing is seen to listen.
    Look,
    /// When to look at an epoch: while one is on probation, or requests are counted for the next one.
    Examine,
    /// When to give up such a look: while it is under way.
    ExaminationLimit,
    /// When to report again which files are missing: while they are.
    FilesReport,
    /// When to end without the awaited files: while they are missing and there is a limit.
    FilesLimit,
    /// When to report that the loop turns: while a service manager waits for that.
    Alive,
    /// When to ask a service manager for more time: while nothing serves yet, and during a drain.
    MoreTime,
    /// When to drain without waiting for a hook: while one holds the drain.
    DrainHook,
}

impl fmt::Display for DeadlineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(ask) => write!(f, "ask {ask} has waited for long enough"),
            Self::Again(Again::Read) => f.write_str("read again"),
            Self::Again(Again::Start) => f.write_str("start again"),
            Self::Look => f.write_str("look again whether anything listens"),
            Self::Examine => f.write_str("look again at what serves"),
            Self::ExaminationLimit => f.write_str("the look at what serves has taken too long"),
            Self::FilesReport => f.write_str("report the missing files again"),
            Self::FilesLimit => f.write_str("files were awaited for long enough"),
            Self::Alive => f.write_str("report that the loop turns"),
            Self::MoreTime => f.write_str("ask the service manager for more time"),
            Self::DrainHook => f.write_str("the hook has held the drain for long enough"),
        }
    }
}
