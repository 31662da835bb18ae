//! An operator with its checker, and what the world owes it: the answers that a driver, an agent, a
//! proxy and clients have yet to give. The model and the random tests play it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handover_core::{Epoch, EpochState, Held, Outcome, Phase, Standing, Timestamp};
use handover_supervisor::operator::{
    AgentView, AskId, CallId, ChangeId, Clients, Condition, EpochView, Examination, ExaminationId,
    Input, Inputs, JobDone, LookId, Operator, Output, ProbeResult, Probed, ReadFailure, ReadId,
    Reading, Report, Request, Seen, Settings, Settlement, Shortage, Signal, TakenIn, Totals, Wait,
    WaitedFor,
};

use crate::check::{Checker, Violation};

/// So many steps the world needs at most to answer everything; it needs far fewer.
const LIMIT: usize = 200;

/// A world that answers everything lets so much time pass at once.
const LATE: Duration = Duration::from_secs(1);

/// What can happen, without the numbers that the operator has given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    Signal(Signal),
    Ask(Request),
    /// The client of the oldest open ask, or of the newest one, goes.
    Go {
        oldest: bool,
    },
    FilesChanged,
    /// The newest read ends with this configuration, or the one before it.
    Read {
        config: u8,
        inputs: u8,
        stale: bool,
    },
    ReadFails {
        shortage: bool,
    },
    Take(TakenIn),
    /// The oldest change that was taken in is settled.
    Settle(Settlement),
    See(AgentView),
    /// The look ends, and every epoch was seen so.
    Look(Option<bool>),
    /// The look at what serves ends.
    Examine(Sight),
    Call {
        done: bool,
    },
    Clients {
        gone: bool,
    },
    Release,
    End(bool),
    Break,
    /// The awaited files are looked at: all are there, or one is missing.
    Files {
        there: bool,
    },
    JobDone,
    /// What is being kept is kept, or cannot be.
    Keep {
        done: bool,
    },
    /// The next deadline is reached.
    Timeout,
}

/// What a look at what serves has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sight {
    /// Nothing can be seen.
    Unknown,
    Fine,
    Silent,
    Hung,
    Missing,
    Warming,
    /// The probe of the user fails, or cannot be made.
    Probe {
        made: bool,
    },
    /// So many hundreds of requests, and how many of each hundred failed.
    Requests(u8, u8),
}

impl Sight {
    fn seen(self) -> Seen {
        let named = || Some(vec!["web".to_owned()]);
        let mut proxy = Examination::default();
        let mut probes = Vec::new();
        match self {
            Self::Unknown => {}
            Self::Hung => return Seen::default(),
            Self::Fine => {
                proxy.missing = Some(Vec::new());
                proxy.warming = Some(Vec::new());
            }
            Self::Silent => proxy.silent = Some("no answer".to_owned()),
            Self::Missing => proxy.missing = named(),
            Self::Warming => (proxy.missing, proxy.warming) = (named(), named()),
            Self::Probe { made } => probes.push(Probed {
                name: "--verify".to_owned(),
                result: match made {
                    true => ProbeResult::Failed("exited with code 1".to_owned()),
                    false => ProbeResult::Unknown("no process".to_owned()),
                },
            }),
            Self::Requests(hundreds, failed) => {
                let hundreds = u64::from(hundreds);
                proxy.requests = Some(Totals {
                    all: hundreds * 100,
                    failed: hundreds * u64::from(failed),
                });
            }
        }
        Seen {
            proxy: Some(proxy),
            probes,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) operator: Operator<u8>,
    pub(crate) checker: Checker<u8>,
    /// Whether a look finds at once that clients can connect.
    looks_at_once: bool,
    now: Timestamp,
    asks: u64,
    offered: BTreeSet<ChangeId>,
    taken: BTreeSet<ChangeId>,
    broken: Option<&'static str>,
    detail: String,
}

impl World {
    /// Makes a world in which a look finds at once that clients can connect.
    pub(crate) fn new(settings: Settings) -> Self {
        let mut operator = Operator::new(settings);
        let watched = Checker::watch(&mut operator, settings, None);
        let (checker, _) = watched.unwrap_or_else(|violation| panic!("{violation:?}"));
        Self {
            operator,
            checker,
            looks_at_once: true,
            now: Timestamp::ZERO,
            asks: 0,
            offered: BTreeSet::new(),
            taken: BTreeSet::new(),
            broken: None,
            detail: String::new(),
        }
    }

    /// Makes a world in which a look is a deed.
    pub(crate) fn with_looks(settings: Settings) -> Self {
        Self {
            looks_at_once: false,
            ..Self::new(settings)
        }
    }

    /// The promise that was broken, and how.
    pub(crate) fn broken(&self) -> Option<(&'static str, &str)> {
        Some((self.broken?, &self.detail))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.broken.is_some() || self.checker.finished
    }

    /// Does the deed, where it can happen. Returns whether it can.
    pub(crate) fn play(&mut self, deed: &Deed) -> bool {
        if self.broken.is_some() {
            return false;
        }
        if *deed == Deed::Timeout {
            let Some(deadline) = self.operator.poll_timeout() else {
                return false;
            };
            self.now = self.now.max(deadline.at);
            let given = self.checker.give_timeout(&mut self.operator, self.now);
            self.note(given);
            return true;
        }
        let Some(input) = self.input(deed) else {
            return false;
        };
        if let Input::TakenIn { change, result } = &input {
            self.offered.remove(change);
            if *result != TakenIn::Denied {
                self.taken.insert(*change);
            }
        }
        if let Input::Settled { change, .. } = &input {
            self.taken.remove(change);
        }
        let given = self.checker.give(&mut self.operator, self.now, input);
        self.note(given.map(|(_, outputs)| outputs));
        while self.looks_at_once
            && self.broken.is_none()
            && let Some(seen) = self.input(&Deed::Look(Some(true)))
        {
            let given = self.checker.give(&mut self.operator, self.now, seen);
            self.note(given.map(|(_, outputs)| outputs));
        }
        true
    }

    fn input(&mut self, deed: &Deed) -> Option<Input<u8>> {
        let agent_ended = self.operator.ending().is_some();
        Some(match deed {
            Deed::Signal(signal) => Input::Signal(*signal),
            Deed::Ask(request) => {
                self.asks += 1;
                Input::Asked {
                    ask: AskId(self.asks),
                    request: *request,
                }
            }
            Deed::Go { oldest: true } => Input::AskGone(*self.checker.open.first()?),
            Deed::Go { oldest: false } => Input::AskGone(*self.checker.open.last()?),
            Deed::FilesChanged => Input::FilesChanged,
            Deed::Read {
                config,
                inputs,
                stale,
            } => {
                let ReadId(read) = self.checker.read?;
                let mut digest = Inputs::default();
                digest.0[0] = *inputs;
                Input::ReadDone {
                    read: ReadId(read - u64::from(*stale)),
                    result: Ok(Reading {
                        config: *config,
                        inputs: digest,
                    }),
                }
            }
            Deed::ReadFails { shortage } => Input::ReadDone {
                read: self.checker.read?,
                result: Err(ReadFailure {
                    report: Report::new("not read"),
                    shortage: *shortage,
                }),
            },
            Deed::Take(TakenIn::Changed) if self.agent_ends() => return None,
            Deed::Take(result) => Input::TakenIn {
                change: *self.offered.first()?,
                result: *result,
            },
            Deed::Settle(result) => Input::Settled {
                change: *self.taken.first()?,
                result: result.clone(),
            },
            // An agent that ends does not go on.
            Deed::See(view) if agent_ended || (self.agent_ends() && !view.is_ending()) => {
                return None;
            }
            Deed::See(view) => Input::AgentChanged(view.clone()),
            Deed::Look(listens) => {
                let epochs = self.checker.view.epochs.iter();
                Input::Looked {
                    look: self.checker.look?,
                    listens: epochs.map(|view| (view.epoch, *listens)).collect(),
                }
            }
            Deed::Examine(sight) => Input::Examined {
                examination: self.checker.trials.open?,
                seen: sight.seen(),
            },
            Deed::Call { done } => Input::CallDone {
                call: self.checker.call?,
                result: match done {
                    true => Ok(Some(Epoch::ZERO)),
                    false => Err(handover_supervisor::operator::Refusal::Failed(Report::new(
                        "no answer",
                    ))),
                },
            },
            Deed::Clients { gone } => Input::ClientsWatched {
                ask: *self.checker.watched.first()?,
                result: match gone {
                    true => Clients::Gone,
                    false => Clients::Unknown(Vec::new()),
                },
            },
            Deed::Release => Input::Released {
                epoch: self.checker.releasing?,
                connections: None,
            },
            Deed::End(_) if agent_ended => return None,
            Deed::End(true) => Input::AgentEnded(Ok(Outcome::Drained)),
            Deed::End(false) => Input::AgentEnded(Err("a panic".to_owned())),
            Deed::Break => Input::Broken("a panic".to_owned()),
            Deed::Files { .. } if !self.checker.files.watched => return None,
            Deed::Files { there: true } => Input::FilesFound(Vec::new()),
            Deed::Files { there: false } => Input::FilesFound(vec!["`cert` is empty".to_owned()]),
            Deed::JobDone => Input::JobDone(JobDone::FileAppeared),
            Deed::Keep { done } => Input::Kept {
                text: self.checker.applied.keeping?,
                result: match done {
                    true => Ok(()),
                    false => Err(Report::new("no space left on the device")),
                },
            },
            Deed::Timeout => return None,
        })
    }

    fn agent_ends(&self) -> bool {
        self.checker.view.is_ending() || self.checker.denied()
    }

    fn note(&mut self, given: Result<Vec<Output<u8>>, Violation>) {
        match given {
            Ok(outputs) => {
                for output in outputs {
                    if let Output::Apply { change, .. }
                    | Output::Renew { change, .. }
                    | Output::Restart { change, .. } = output
                    {
                        self.offered.insert(change);
                    }
                }
            }
            Err(violation) => {
                self.broken = Some(violation.invariant);
                self.detail = violation.what;
            }
        }
    }

    /// What a world does that answers everything; nothing where it owes nothing.
    fn fair_deed(&self) -> Option<Deed> {
        if self.checker.read.is_some() {
            return Some(Deed::Read {
                config: 0,
                inputs: 0,
                stale: false,
            });
        }
        if !self.offered.is_empty() {
            return Some(Deed::Take(match self.agent_ends() {
                true => TakenIn::Denied,
                false => TakenIn::Changed,
            }));
        }
        if !self.taken.is_empty() {
            return Some(Deed::Settle(match self.agent_ends() {
                true => Settlement::Ended,
                false => Settlement::Live(Epoch::ZERO),
            }));
        }
        if self.checker.look.is_some() {
            return Some(Deed::Look(Some(true)));
        }
        let files = &self.checker.files;
        if files.watched && (files.look || !files.are_there) && !self.operator.is_ending() {
            return Some(Deed::Files { there: true });
        }
        if self.checker.applied.keeping.is_some() {
            return Some(Deed::Keep { done: true });
        }
        let waits = |wanted: fn(WaitedFor) -> bool| {
            let mut asks = self.operator.asks();
            asks.any(|(_, what)| wanted(what)) && !self.agent_ends()
        };
        let next = view("next");
        let is_next = self.checker.view == next;
        if waits(|what| what == WaitedFor::Probation)
            || (waits(|what| what == WaitedFor::Keep) && !is_next)
            || (waits(|what| matches!(what, WaitedFor::Condition(_))) && !is_next)
        {
            return Some(Deed::See(next));
        }
        // No client may have given anything that could be read.
        let gives = self.checker.applied.are_taken && !self.operator.is_ending();
        if gives && waits(|what| what == WaitedFor::Read) {
            return Some(Deed::Ask(Request::Apply {
                wait: Wait::No,
                through_probation: false,
            }));
        }
        // Another look is due after a pause.
        let needs_a_look = |what| {
            matches!(
                what,
                WaitedFor::Condition(Condition::Ready | Condition::Current)
            )
        };
        let is_shut = self.operator.overview().listening == Some(false);
        if waits(needs_a_look) && is_shut && !self.operator.is_ending() {
            return Some(Deed::Timeout);
        }
        // The read before may have failed.
        if waits(|what| what == WaitedFor::Condition(Condition::Current))
            && !self.operator.is_ending()
        {
            return Some(match gives {
                true => Deed::Ask(Request::Apply {
                    wait: Wait::No,
                    through_probation: false,
                }),
                false => Deed::FilesChanged,
            });
        }
        if self.checker.call.is_some() {
            return Some(Deed::Call { done: true });
        }
        if !self.checker.watched.is_empty() {
            return Some(Deed::Clients { gone: true });
        }
        self.checker.releasing.is_some().then_some(Deed::Release)
    }

    /// Whether every open ask but those for the end is answered by a world that answers everything,
    /// and whether a signal then leads to the end.
    pub(crate) fn ends_well(&self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        let mut world = self.clone();
        let mut told = false;
        for _ in 0..LIMIT {
            if world.broken.is_some() {
                return false;
            }
            if world.checker.finished {
                return world.checker.open.is_empty();
            }
            let deed = world.fair_deed().unwrap_or_else(|| {
                let waits = world.operator.asks();
                let ends = world.operator.is_ending();
                let mut for_others = waits.filter(|(_, what)| match what {
                    WaitedFor::End => false,
                    // The reason of the end is waited for.
                    WaitedFor::Condition(_) => !ends,
                    WaitedFor::Read
                    | WaitedFor::Live
                    | WaitedFor::Probation
                    | WaitedFor::Keep
                    | WaitedFor::Proxy
                    | WaitedFor::Clients
                    | WaitedFor::Look => true,
                });
                // All has been answered that anybody but the end could answer.
                match (for_others.next(), told) {
                    (Some(_), _) => Deed::Break,
                    (None, false) => Deed::Signal(Signal::Terminate),
                    (None, true) => Deed::End(true),
                }
            });
            if deed == Deed::Break {
                return false;
            }
            told |= matches!(deed, Deed::Signal(_));
            if deed == Deed::Timeout {
                // A timeout may be late, so one is enough for all that is due until then.
                world.now = world.now.after(LATE);
            }
            world.play(&deed);
        }
        false
    }

    /// Whether a timeout that comes too early, or again, does nothing.
    pub(crate) fn bears_needless_timeouts(&self) -> bool {
        let mut operator = self.operator.clone();
        operator.handle_timeout(self.now);
        while operator.poll_output().is_some() {}
        let handled = operator.clone();
        operator.handle_timeout(self.now);
        let is_due = (self.operator.poll_timeout()).is_some_and(|next| next.at <= self.now);
        operator == handled && (is_due || operator == self.operator)
    }

    /// Whether results of what is over are ignored.
    pub(crate) fn ignores_what_is_over(&self) -> bool {
        let mut operator = self.operator.clone();
        let unknown: [Input<u8>; 6] = [
            Input::Examined {
                examination: ExaminationId(u64::MAX),
                seen: Seen::default(),
            },
            Input::ReadDone {
                read: ReadId(u64::MAX),
                result: Ok(Reading {
                    config: 9,
                    inputs: Inputs::default(),
                }),
            },
            Input::TakenIn {
                change: ChangeId(u64::MAX),
                result: TakenIn::Denied,
            },
            Input::CallDone {
                call: CallId(u64::MAX),
                result: Ok(None),
            },
            Input::Looked {
                look: LookId(u64::MAX),
                listens: BTreeMap::new(),
            },
            Input::AskGone(AskId(u64::MAX)),
        ];
        unknown.into_iter().all(|input| {
            let reception = operator.handle_input(self.now, input);
            matches!(
                reception,
                handover_supervisor::operator::Reception::Ignored(_)
            )
        }) && operator == self.operator
    }
}

/// States of an agent, by a word.
pub(crate) fn view(name: &str) -> AgentView {
    let epoch = |number, state, desired| EpochView {
        epoch: Epoch::new(number),
        state,
        desired,
        released: false,
        started: Timestamp::ZERO,
        on_probation: false,
        unfit: false,
    };
    let tried = |view| EpochView {
        on_probation: true,
        ..view
    };
    let base = AgentView::default();
    let capped = AgentView {
        standing: Standing::Pending(Held::Cap { running: 2 }),
        epochs: vec![
            epoch(0, EpochState::Draining, false),
            epoch(1, EpochState::Live, false),
        ],
        ..base.clone()
    };
    match name {
        "live" => AgentView {
            standing: Standing::Live(Epoch::ZERO),
            epochs: vec![epoch(0, EpochState::Live, true)],
            ..base
        },
        "none" => base,
        "restarting" => AgentView {
            standing: Standing::Pending(Held::Starting(Epoch::ZERO)),
            epochs: vec![epoch(0, EpochState::Starting, true)],
            ..base
        },
        "next" => AgentView {
            standing: Standing::Live(Epoch::new(1)),
            epochs: vec![epoch(1, EpochState::Live, true)],
            ..base
        },
        "tried first" => AgentView {
            standing: Standing::Live(Epoch::ZERO),
            epochs: vec![tried(epoch(0, EpochState::Live, true))],
            ..base
        },
        "tried" => AgentView {
            standing: Standing::Live(Epoch::new(1)),
            epochs: vec![
                epoch(0, EpochState::Draining, false),
                tried(epoch(1, EpochState::Live, true)),
            ],
            ..base
        },
        "unfit" => {
            let mut unfit = epoch(1, EpochState::Live, false);
            unfit.unfit = true;
            AgentView {
                standing: Standing::GivenUp(Epoch::new(1)),
                epochs: vec![unfit, epoch(2, EpochState::Starting, false)],
                ..base
            }
        }
        "cap" => capped,
        "released" => {
            let mut view = capped;
            view.epochs[0].released = true;
            view
        }
        "starting" => AgentView {
            standing: Standing::Pending(Held::Starting(Epoch::new(2))),
            epochs: vec![
                epoch(1, EpochState::Live, false),
                epoch(2, EpochState::Starting, true),
            ],
            ..base
        },
        "short" => AgentView {
            standing: Standing::GivenUp(Epoch::ZERO),
            shortage: Some(Shortage {
                epoch: Epoch::ZERO,
                what: "memory".to_owned(),
            }),
            ..base
        },
        "ending" => AgentView {
            phase: Phase::Stopping(Outcome::Drained),
            standing: Standing::Ending,
            ..base
        },
        other => panic!("no such view: {other}"),
    }
}
