//! The promises of an operator by name, and a checker that watches an operator step by step. It sees
//! what goes in and what comes out, and the public getters.

mod answers;
mod applied;
mod order;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handover_core::{Epoch, EpochState, Timestamp, Urgency};
use handover_supervisor::operator::{
    Again, AgentView, AskId, Call, CallId, ChangeId, Condition, EndedBy, Event, HookId, Input,
    Inputs, LookId, Moment, Next, Notification, Operator, Output, ReadFailure, ReadId, Reading,
    Reception, Refusal, Reply, Request, Settings, Settlement, Signal, TakenIn, Wait,
};

use crate::trials::{self, Trials};
pub(crate) use applied::Applied;
pub(crate) use order::Files;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

/// Every promise. The model shows each as a property.
pub(crate) const INVARIANTS: [&str; 31] = [
    "every_ask_is_answered_once",
    "newest_read_wins",
    "a_read_is_pending_at_most_once",
    "what_was_read_is_asked_for_as_wished",
    "no_apply_after_terminate",
    "urgency_never_falls",
    "ready_only_if_something_is_seen_to_serve",
    "notifications_come_in_turn",
    "the_loop_is_reported_to_turn_in_time",
    "time_is_asked_for_while_something_takes_time",
    "an_answer_tells_what_happened",
    "proxy_calls_take_turns",
    "clients_are_watched_for_open_asks_only",
    "one_epoch_is_released_at_a_time",
    "there_is_one_look_at_a_time",
    "a_status_follows_a_look_that_began_after_it",
    "the_end_comes_once_and_last",
    "what_is_due_is_done",
    "what_is_ignored_changes_nothing",
    "getters_show_what_was_told",
    "a_wait_ends_once_it_is_so",
    "nothing_is_read_while_files_are_missing",
    "files_are_awaited_until_a_read_succeeds",
    "missing_files_end_it_at_the_limit_only",
    "what_is_kept_was_live_and_is_not_on_probation",
    "nothing_is_read_before_it_was_given",
    trials::TRIED_ONLY,
    trials::ONE,
    trials::ONCE,
    trials::BACKED,
    trials::SEEN,
];

/// What was told and what was said so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checker<C> {
    settings: Settings,
    newest_ask: Option<AskId>,
    pub(crate) open: BTreeSet<AskId>,
    /// The change that each reload waits for, once its read is done.
    reloads: BTreeMap<AskId, Option<ChangeId>>,
    pub(crate) read: Option<ReadId>,
    /// What was read, while its hook has not agreed to it.
    held: Option<Reading<C>>,
    /// The hook of what is held, once it runs.
    held_by: Option<HookId>,
    /// Whether a hook runs before the drain of everything.
    drain_is_held: bool,
    reads: u64,
    changes: u64,
    asked: Option<(C, Inputs)>,
    served: Option<Inputs>,
    /// What the next successful read owes.
    next: Next,
    pub(crate) call: Option<CallId>,
    pub(crate) watched: BTreeSet<AskId>,
    pub(crate) releasing: Option<Epoch>,
    pub(crate) urgency: Option<Urgency>,
    pub(crate) view: AgentView,
    pub(crate) look: Option<LookId>,
    looks: u64,
    /// Whether the epochs have changed since the look began.
    overtaken: bool,
    /// What was seen since an epoch is live: whether clients can connect, if that can be seen.
    seen: Option<Option<bool>>,
    /// Whether that was seen of the present epochs.
    seen_now: bool,
    /// The looks that were begun before each status was asked for.
    statuses: BTreeMap<AskId, u64>,
    /// What each open ask waits for, and the looks that were begun before it.
    waits: BTreeMap<AskId, (Condition, u64)>,
    /// The last look that counted.
    counted: u64,
    /// Whether the change that was asked for last has come to its end.
    settled: bool,
    /// Whether the last read has failed.
    failed: bool,
    stands_in: bool,
    pub(crate) files: Files,
    pub(crate) applied: Applied,
    /// Whether it ends because something is wrong, so that the reason is worth to be waited for.
    faulty: bool,
    pub(crate) trials: Trials,
    now: Timestamp,
    /// The reloads that wait through the probation, and those of them whose change was live.
    through: BTreeMap<AskId, bool>,
    told: Option<Notification>,
    /// When the service manager has heard last that the loop turns.
    alive: Option<Timestamp>,
    denied: bool,
    ended: bool,
    pub(crate) finished: bool,
}

/// What one step was about.
enum Cause<C> {
    Read(Reading<C>),
    Other,
}

type Step<C> = Result<(Reception, Vec<Output<C>>), Violation>;

impl<C: Clone + Eq + std::fmt::Debug> Checker<C> {
    /// Begins to watch a new operator, and takes its first outputs.
    pub(crate) fn watch(
        operator: &mut Operator<C>,
        settings: Settings,
        stand_in: Option<Reading<C>>,
    ) -> Result<(Self, Vec<Output<C>>), Violation> {
        let mut checker = Self {
            settings,
            newest_ask: None,
            open: BTreeSet::new(),
            reloads: BTreeMap::new(),
            read: None,
            held: None,
            held_by: None,
            drain_is_held: false,
            reads: 0,
            changes: 0,
            asked: None,
            served: None,
            next: Next::IfDifferent,
            call: None,
            watched: BTreeSet::new(),
            releasing: None,
            urgency: None,
            view: AgentView::default(),
            look: None,
            looks: 0,
            overtaken: false,
            seen: None,
            seen_now: false,
            statuses: BTreeMap::new(),
            waits: BTreeMap::new(),
            counted: 0,
            settled: true,
            failed: false,
            stands_in: stand_in.is_some(),
            files: Files {
                owed: settings.files.is_some() && stand_in.is_none(),
                ..Files::default()
            },
            applied: Applied::new(settings.applies),
            faulty: false,
            trials: Trials::default(),
            now: Timestamp::ZERO,
            through: BTreeMap::new(),
            told: None,
            alive: None,
            denied: false,
            ended: false,
            finished: false,
        };
        let cause = stand_in.map_or(Cause::Other, Cause::Read);
        let outputs = checker.outputs(operator, &cause, None)?;
        Ok((checker, outputs))
    }

    /// Gives the input, and checks what follows.
    pub(crate) fn give(
        &mut self,
        operator: &mut Operator<C>,
        now: Timestamp,
        input: Input<C>,
    ) -> Step<C> {
        self.now = self.now.max(now);
        let before = operator.clone();
        let reception = operator.handle_input(now, input.clone());
        let quiet = matches!(reception, Reception::Ignored(_));
        let cause = self.take(&input, !quiet);
        let outputs = self.outputs(operator, &cause, Some(&input))?;
        // The time goes on, the last signal is kept, and a late drain is told.
        let excused = matches!(input, Input::Signal(_)) || before.poll_timeout().is_some();
        if quiet && !excused {
            let mut again = operator.clone();
            let repeated = again.handle_input(now, input);
            ensure(
                outputs.is_empty() && repeated == reception && again == *operator,
                "what_is_ignored_changes_nothing",
                || format!("{outputs:?}"),
            )?;
        }
        Ok((reception, outputs))
    }

    /// Lets the time be handled, and checks what follows.
    pub(crate) fn give_timeout(
        &mut self,
        operator: &mut Operator<C>,
        now: Timestamp,
    ) -> Result<Vec<Output<C>>, Violation> {
        self.now = self.now.max(now);
        operator.handle_timeout(now);
        let outputs = self.outputs(operator, &Cause::Other, None)?;
        let left = operator.poll_timeout().filter(|left| left.at <= now);
        ensure(left.is_none(), "what_is_due_is_done", || {
            format!("{left:?}")
        })?;
        let manager = self.settings.service_manager.filter(|_| !self.ended);
        if let Some(every) = manager.and_then(|manager| manager.alive_every) {
            let every = every.max(Duration::from_millis(1));
            let next = self.alive.map(|last| last.after(every));
            ensure(
                next.is_some_and(|next| next > self.now),
                "the_loop_is_reported_to_turn_in_time",
                || format!("last at {:?}", self.alive),
            )?;
        }
        Ok(outputs)
    }

    /// The number of the newest read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// Whether the agent has denied a change, because it ends.
    pub(crate) fn denied(&self) -> bool {
        self.denied
    }

    fn is_ending(&self) -> bool {
        self.drain_is_held
            || self.urgency.is_some()
            || self.denied
            || self.ended
            || self.view.is_ending()
    }

    /// Whether an epoch is live, and a look has found nothing that keeps clients out.
    fn serves(&self) -> bool {
        is_live(&self.view) && self.seen.is_some_and(|seen| seen != Some(false))
    }

    fn see(&mut self, view: &AgentView) {
        let before = std::mem::replace(&mut self.view, view.clone());
        self.trials.see(view, self.is_ending());
        if !is_live(view) {
            (self.seen, self.seen_now) = (None, false);
            return;
        }
        let newest = |view: &AgentView| {
            let live = view.epochs.iter().filter(|epoch| epoch.state == LIVE);
            live.map(|epoch| epoch.epoch).max()
        };
        let numbers = |view: &AgentView| -> BTreeSet<_> {
            view.epochs.iter().map(|epoch| epoch.epoch).collect()
        };
        if newest(&before) != newest(view) || !numbers(&before).is_subset(&numbers(view)) {
            self.overtaken = true;
            self.seen_now = false;
        }
    }

    fn looked(&mut self, listens: &BTreeMap<Epoch, Option<bool>>) {
        self.look = None;
        if self.overtaken || !is_live(&self.view) {
            return;
        }
        let numbers = self.view.epochs.iter().map(|epoch| epoch.epoch);
        let seen: BTreeSet<Option<bool>> = numbers
            .map(|epoch| listens.get(&epoch).copied().flatten())
            .collect();
        self.seen = Some(match seen.contains(&Some(true)) {
            true => Some(true),
            false if seen.contains(&None) => None,
            false => Some(false),
        });
        self.seen_now = true;
        self.counted = self.looks;
    }

    /// Notes what the input tells.
    fn take(&mut self, input: &Input<C>, accepted: bool) -> Cause<C> {
        if let Input::Asked { ask, request } = input {
            if self.newest_ask.is_none_or(|newest| newest < *ask) {
                self.newest_ask = Some(*ask);
                self.open.insert(*ask);
                if let Request::Await { condition, .. } = request {
                    self.waits.insert(*ask, (*condition, self.looks));
                }
                if *request == Request::Status {
                    self.statuses.insert(*ask, self.looks);
                }
                self.applied
                    .asked(*ask, *request, accepted, self.is_ending());
                if self.applied.gave(*ask) {
                    self.reloads.insert(*ask, None);
                }
                if let Request::Reload {
                    wait,
                    through_probation,
                    ..
                } = request
                {
                    self.reloads.insert(*ask, None);
                    if *through_probation && *wait != Wait::No {
                        self.through.insert(*ask, false);
                    }
                }
                if let Request::Reload { next, .. } = request
                    && !(*next == Next::Cold && self.settings.no_cold_restart.is_some())
                {
                    self.wish(*next);
                }
            }
            return Cause::Other;
        }
        if let Input::AskGone(ask) = input {
            self.open.remove(ask);
            self.watched.remove(ask);
            self.reloads.remove(ask);
            self.statuses.remove(ask);
            self.waits.remove(ask);
            self.through.remove(ask);
        }
        self.trials.take(input, &self.settings);
        if self.ended {
            return Cause::Other;
        }
        let is_newest = matches!(input, Input::ReadDone { read, .. } if Some(*read) == self.read)
            || matches!(input, Input::Settled { change, .. } if change.0 == self.changes);
        self.applied.take(input, is_newest && self.held.is_none());
        match input {
            Input::Signal(Signal::HangUp) => self.wish(Next::Renew),
            Input::HookDone { hook, result } if Some(*hook) == self.held_by => {
                self.held_by = None;
                if let Some(reading) = self.held.take() {
                    self.read = None;
                    self.failed = result.is_err();
                    if result.is_ok() {
                        self.stands_in = false;
                        return Cause::Read(reading);
                    }
                    self.next = self.next.min(Next::Renew);
                    self.files.owed = self.files.watched;
                }
            }
            Input::ReadDone {
                read,
                result: Ok(reading),
            } if Some(*read) == self.read && self.needs_a_hook(reading) => {
                if self.held.is_none() {
                    (self.held, self.held_by) = (Some(reading.clone()), None);
                }
            }
            Input::ReadDone { read, result } if Some(*read) == self.read && self.held.is_none() => {
                self.read = None;
                self.failed = result.is_err();
                match result {
                    Ok(reading) => {
                        self.stands_in = false;
                        return Cause::Read(reading.clone());
                    }
                    Err(ReadFailure { .. }) => {
                        self.next = self.next.min(Next::Renew);
                        self.files.owed = self.files.watched;
                    }
                }
            }
            Input::Settled {
                change: ChangeId(change),
                result: Settlement::Live(_),
            } if *change == self.changes => {
                self.served = self.asked.as_ref().map(|(_, inputs)| *inputs);
            }
            Input::TakenIn {
                result: TakenIn::Denied,
                change,
            } if accepted => {
                self.denied = true;
                self.settled |= change.0 == self.changes;
            }
            Input::FilesFound(missing) if self.files.watched => {
                self.files.look = false;
                self.files.are_there = missing.is_empty();
            }
            Input::AgentChanged(view) => self.see(view),
            Input::Looked { look, listens } if self.look == Some(*look) => self.looked(listens),
            // It may be the look that has panicked.
            Input::Broken(_) => (self.look, self.faulty) = (None, true),
            Input::AgentEnded(_) => self.ended = true,
            Input::CallDone { call, .. } if self.call == Some(*call) => self.call = None,
            Input::ClientsWatched { ask, .. } => {
                self.watched.remove(ask);
            }
            Input::Released { epoch, .. } if self.releasing == Some(*epoch) => {
                self.releasing = None;
            }
            Input::Signal(_)
            | Input::Asked { .. }
            | Input::AskGone(_)
            | Input::FilesChanged
            | Input::ReadDone { .. }
            | Input::TakenIn { .. }
            | Input::Settled { .. }
            | Input::Released { .. }
            | Input::CallDone { .. }
            | Input::Examined { .. }
            | Input::FilesFound(_)
            | Input::JobDone(_)
            | Input::HookDone { .. }
            | Input::Kept { .. }
            | Input::Looked { .. } => {}
        }
        if let Input::Settled { change, .. } = input {
            self.settled |= change.0 == self.changes;
        }
        if let Input::Settled {
            change,
            result: Settlement::Live(_),
        } = input
        {
            let followed = self.reloads.iter();
            let live = followed.filter(|(_, followed)| **followed == Some(*change));
            self.applied.went_live(live.map(|(ask, _)| *ask));
            for (ask, was_live) in &mut self.through {
                *was_live |= self.reloads.get(ask) == Some(&Some(*change));
            }
        }
        Cause::Other
    }

    /// Whether a hook has to agree to this. What is desired already and not wished for again starts nothing.
    fn needs_a_hook(&self, reading: &Reading<C>) -> bool {
        let asked = self.asked.as_ref();
        let is_desired = asked
            .is_some_and(|(config, inputs)| *config == reading.config && *inputs == reading.inputs);
        let starts_nothing = is_desired && !self.stands_in && self.next == Next::IfDifferent;
        self.settings.hooks.has(Moment::PreStart) && !starts_nothing
    }

    fn wish(&mut self, next: Next) {
        if !self.is_ending() {
            self.next = self.next.max(next);
        }
    }

    fn outputs(
        &mut self,
        operator: &mut Operator<C>,
        cause: &Cause<C>,
        input: Option<&Input<C>>,
    ) -> Result<Vec<Output<C>>, Violation> {
        let mut outputs = Vec::new();
        let mut asked = 0;
        while let Some(output) = operator.poll_output() {
            self.output(&output, cause, input, &mut asked)?;
            outputs.push(output);
        }
        let expected = usize::from(matches!(cause, Cause::Read(_)));
        ensure(
            asked == expected,
            "what_was_read_is_asked_for_as_wished",
            || format!("{asked} changes were asked for in place of {expected}"),
        )?;
        if self.is_ending() {
            self.next = Next::IfDifferent;
        }
        self.state(operator)?;
        Ok(outputs)
    }

    fn output(
        &mut self,
        output: &Output<C>,
        cause: &Cause<C>,
        input: Option<&Input<C>>,
        asked: &mut usize,
    ) -> Result<(), Violation> {
        let told = || format!("{output:?}");
        let answers = matches!(output, Output::Answer { .. });
        ensure(
            answers || !self.finished,
            "the_end_comes_once_and_last",
            told,
        )?;
        let tried = self
            .trials
            .output(output, self.now, &self.view, &self.settings);
        tried.or_else(|promise| ensure(false, promise, told))?;
        match output {
            Output::Read { read, text, .. } => {
                ensure(
                    self.applied.may_read(*text),
                    "nothing_is_read_before_it_was_given",
                    told,
                )?;
                ensure(!self.is_ending(), "no_apply_after_terminate", told)?;
                ensure(read.0 > self.reads, "newest_read_wins", told)?;
                ensure(
                    !self.files.watched || self.files.are_there,
                    "nothing_is_read_while_files_are_missing",
                    told,
                )?;
                self.reads = read.0;
                (self.held, self.held_by) = (None, None);
                self.read = Some(*read);
            }
            Output::CancelRead(read) => {
                let pending = self.read.take();
                (self.held, self.held_by) = (None, None);
                ensure(
                    pending == Some(*read),
                    "a_read_is_pending_at_most_once",
                    told,
                )?;
            }
            Output::Keep(text) => ensure(
                self.applied.keep(*text, &self.view),
                "what_is_kept_was_live_and_is_not_on_probation",
                told,
            )?,
            Output::LookForFiles | Output::ForgetFiles => self.files_output(output, cause)?,
            Output::Apply { change, config } => {
                *asked += 1;
                self.change(*change, config, Next::IfDifferent, cause, told)?;
            }
            Output::Renew { change, config } => {
                *asked += 1;
                self.change(*change, config, Next::Renew, cause, told)?;
            }
            Output::Restart { change, config } => {
                *asked += 1;
                self.change(*change, config, Next::Cold, cause, told)?;
            }
            Output::Event(Event::Ending { by, urgency }) => {
                let waits = matches!(by, EndedBy::Signal(_) | EndedBy::Ask(_) | EndedBy::Job(_))
                    && self.settings.hooks.has(Moment::PreDrain);
                self.drain_is_held |= waits && *urgency == Urgency::Drain && is_live(&self.view);
                self.faulty |= matches!(
                    by,
                    EndedBy::FirstRead | EndedBy::FilesLimit | EndedBy::Panic
                );
            }
            Output::Terminate(urgency) => {
                let rises = self.urgency.is_none_or(|before| before < *urgency);
                ensure(rises && !self.ended, "urgency_never_falls", told)?;
                self.urgency = Some(*urgency);
            }
            Output::Release(epoch) => {
                let before = self.releasing.replace(*epoch);
                let drains = self.view.epochs.iter().any(|view| {
                    view.epoch == *epoch && view.state == EpochState::Draining && !view.released
                });
                let one = before.is_none() && drains;
                ensure(one, "one_epoch_is_released_at_a_time", told)?;
            }
            Output::Call { call, .. } => {
                let before = self.call.replace(*call);
                ensure(before.is_none_or(|_| false), "proxy_calls_take_turns", told)?;
            }
            Output::Look(look) => {
                let one = self.look.is_none() && look.0 > self.looks && !self.ended;
                ensure(one, "there_is_one_look_at_a_time", told)?;
                self.look = Some(*look);
                self.looks = look.0;
                self.overtaken = false;
            }
            Output::WatchClients { ask, .. } => {
                let open = self.open.contains(ask) && self.watched.insert(*ask);
                ensure(open, "clients_are_watched_for_open_asks_only", told)?;
            }
            Output::Answer { ask, answer } => {
                if let (Some((condition, begun)), Ok(Reply::Reached(_))) =
                    (self.waits.get(ask), answer)
                {
                    let is_so = self.is_so(*condition, *begun);
                    ensure(is_so, "a_wait_ends_once_it_is_so", told)?;
                }
                let open = self.open.remove(ask);
                ensure(open, "every_ask_is_answered_once", told)?;
                self.watched.remove(ask);
                let waited = self.waits.remove(ask).is_some();
                let begun = self.statuses.remove(ask);
                if let (Some(begun), Ok(_)) = (begun, answer) {
                    let seen = match input {
                        Some(Input::Looked { look, .. }) => look.0 > begun && !self.overtaken,
                        // It is not looked at what has ended.
                        _ => self.ended,
                    };
                    ensure(seen, "a_status_follows_a_look_that_began_after_it", told)?;
                }
                let followed = self.reloads.remove(ask).flatten();
                let was_live = self.through.remove(ask).unwrap_or_default();
                let is_its_own = match input {
                    // It is about no change.
                    _ if waited => true,
                    // Another one is desired, or the probation of its own is over.
                    Some(Input::TakenIn { .. } | Input::Settled { .. }) if was_live => true,
                    Some(Input::TakenIn { change, .. } | Input::Settled { change, .. }) => {
                        followed == Some(*change)
                    }
                    _ => true,
                };
                // What a client has given may have another fate than its change.
                let is_its_own = is_its_own || self.applied.gave(*ask);
                // A change that is denied begins the end, which refuses others as well.
                let is_its_own = is_its_own || *answer == Err(Refusal::Ending);
                let is_backed = match was_live {
                    true => self.is_over(answer) || matches!(answer, Err(Refusal::TimedOut { .. })),
                    false => self.is_backed(*ask, answer, input),
                };
                ensure(
                    is_its_own && is_backed,
                    "an_answer_tells_what_happened",
                    told,
                )?;
            }
            Output::RunHook { hook, call } => match call.moment {
                Moment::PreStart => self.held_by = Some(*hook),
                Moment::PreDrain
                | Moment::Live
                | Moment::Unfit
                | Moment::PostExit
                | Moment::GaveUp => {}
            },
            Output::Notify(Notification::Status(_)) => {}
            Output::Notify(Notification::Alive) => self.alive = Some(self.now),
            Output::Notify(Notification::MoreTime(_)) => {
                let takes_time = self.told.is_none() || self.told == Some(Notification::Stopping);
                ensure(
                    takes_time && !self.ended,
                    "time_is_asked_for_while_something_takes_time",
                    || format!("after {:?}", self.told),
                )?;
            }
            Output::Notify(notification) => self.notified(*notification)?,
            Output::Event(Event::TriesAgain(Again::Start)) => self.wish(Next::Renew),
            Output::Finish(ending) => {
                self.files_ending(ending)?;
                ensure(
                    self.ended && self.open.is_empty(),
                    "every_ask_is_answered_once",
                    || format!("{:?} are open at the end", self.open),
                )?;
                self.finished = true;
            }
            Output::Event(_)
            | Output::Forward(_)
            | Output::Examine { .. }
            | Output::CancelExamine(_)
            | Output::Unfit { .. } => {}
        }
        Ok(())
    }

    fn change(
        &mut self,
        change: ChangeId,
        config: &C,
        how: Next,
        cause: &Cause<C>,
        told: impl Fn() -> String,
    ) -> Result<(), Violation> {
        ensure(!self.is_ending(), "no_apply_after_terminate", &told)?;
        let Cause::Read(reading) = cause else {
            return ensure(false, "newest_read_wins", told);
        };
        let newest = reading.config == *config && change.0 > self.changes;
        ensure(newest, "newest_read_wins", &told)?;
        let inputs = reading.inputs;
        let others_differ = |before: Option<Inputs>| before.is_some_and(|before| before != inputs);
        let before = self.asked.as_ref().map(|(_, inputs)| *inputs);
        let wished = match self.next {
            _ if before.is_none() => Next::IfDifferent,
            Next::IfDifferent if others_differ(before) || others_differ(self.served) => Next::Renew,
            next @ (Next::IfDifferent | Next::Renew | Next::Cold) => next,
        };
        ensure(how == wished, "what_was_read_is_asked_for_as_wished", told)?;
        self.next = Next::IfDifferent;
        self.settled = false;
        self.changes = change.0;
        for followed in self.reloads.values_mut() {
            followed.get_or_insert(change);
        }
        self.asked = Some((config.clone(), inputs));
        Ok(())
    }

    fn notified(&mut self, notification: Notification) -> Result<(), Violation> {
        let serves = !self.is_ending() && self.serves() && self.seen_now;
        let is_quiet = self.read.is_none();
        let ready = notification == Notification::Ready;
        ensure(
            !ready || serves,
            "ready_only_if_something_is_seen_to_serve",
            || format!("{:?}", self.view),
        )?;
        let in_turn = match (self.told, notification) {
            (None, Notification::Ready)
            | (Some(Notification::Ready | Notification::Reloading), Notification::Reloading) => {
                true
            }
            (Some(Notification::Reloading), Notification::Ready) => is_quiet,
            (before, Notification::Stopping) => before != Some(Notification::Stopping),
            _ => false,
        };
        ensure(in_turn, "notifications_come_in_turn", || {
            format!("{notification:?} after {:?}", self.told)
        })?;
        self.told = Some(notification);
        Ok(())
    }
}

const LIVE: EpochState = EpochState::Live;

fn newest(view: &AgentView) -> Option<Epoch> {
    let live = view.epochs.iter().filter(|epoch| epoch.state == LIVE);
    live.map(|epoch| epoch.epoch).max()
}

fn is_live(view: &AgentView) -> bool {
    view.epochs.iter().any(|epoch| epoch.state == LIVE)
}

/// Whether a call drains, for the worlds that are played.
pub(crate) fn is_drain(what: Call) -> bool {
    what == Call::Drain
}

fn ensure(
    holds: bool,
    invariant: &'static str,
    what: impl FnOnce() -> String,
) -> Result<(), Violation> {
    match holds {
        true => Ok(()),
        false => Err(Violation {
            invariant,
            what: what(),
        }),
    }
}
