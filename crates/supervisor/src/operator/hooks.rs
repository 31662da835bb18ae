//! The commands of the user at moments of an epoch's life: which is run when, one after another.
//!
//! ```text
//!   a read is done ──▶ pre-start ──▶ the change            (ends with a failure: as a failed read)
//!   a drain of all ──▶ pre-drain ──▶ Terminate             (at most for the time limit)
//!   live, unfit, post-exit, gave-up: run, and nothing waits for them
//! ```

use alloc::collections::VecDeque;
use alloc::string::{String, ToString as _};
use core::fmt;
use core::time::Duration;

use handover_core::{Epoch, EpochState, Outcome, Standing, Timestamp, Urgency};

use super::{
    AgentView, Deadline, DeadlineReason, Ending, Event, Ignored, Operator, Output, ReadFailure,
    Reading, Reception, Report,
};

/// So many hooks wait for their turn. That is enough for all that happens to some dozens of epochs in the
/// time limit of one hook.
const LONGEST_QUEUE: usize = 64;

/// The number of a run of a hook. A later run has a higher number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct HookId(pub u64);

/// When a hook is run.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Moment {
    /// Before a configuration that was read is passed on. A hook that fails rejects it.
    PreStart,
    /// Once an epoch is live.
    Live,
    /// Once an epoch was found unfit on probation.
    Unfit,
    /// Before everything drains at the end. The drain waits for it, at most for its time limit.
    PreDrain,
    /// Once an epoch has ended.
    PostExit,
    /// Once the desired configuration was given up.
    GaveUp,
}

impl Moment {
    /// All moments, in the order of an epoch's life.
    pub const ALL: [Self; 6] = [
        Self::PreStart,
        Self::Live,
        Self::Unfit,
        Self::PreDrain,
        Self::PostExit,
        Self::GaveUp,
    ];

    /// Returns its name, as in `--hook-NAME`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreStart => "pre-start",
            Self::Live => "live",
            Self::Unfit => "unfit",
            Self::PreDrain => "pre-drain",
            Self::PostExit => "post-exit",
            Self::GaveUp => "gave-up",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::PreStart => 1,
            Self::Live => 1 << 1,
            Self::Unfit => 1 << 2,
            Self::PreDrain => 1 << 3,
            Self::PostExit => 1 << 4,
            Self::GaveUp => 1 << 5,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The moments that have a hook, and how long each hook may take.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct HookSettings {
    moments: u8,
    limit: Duration,
}

impl HookSettings {
    /// Returns settings with hooks at these moments, each of which may take this long.
    #[must_use]
    pub fn new(moments: impl IntoIterator<Item = Moment>, limit: Duration) -> Self {
        let moments = moments.into_iter().fold(0, |all, it| all | it.bit());
        Self { moments, limit }
    }

    /// Returns whether there is a hook at this moment.
    #[must_use]
    pub const fn has(self, moment: Moment) -> bool {
        self.moments & moment.bit() != 0
    }
}

/// What a hook is run for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct HookCall {
    /// The moment.
    pub moment: Moment,
    /// The epoch that it is about. Nothing before a start, whose epoch has no number yet, and before a drain
    /// if no epoch is live.
    pub epoch: Option<Epoch>,
    /// Why it has come to this, where that is known.
    pub reason: Option<String>,
}

/// How a hook has failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct HookFailure {
    /// What has happened, in a sentence.
    pub why: String,
    /// Whether it could not be run because the operating system was short of something.
    pub shortage: bool,
}

/// The hooks that run, wait, and hold something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Hooks<C> {
    begun: u64,
    running: Option<(HookId, Moment)>,
    waiting: VecDeque<(HookId, HookCall)>,
    /// What was read, until its hook has ended.
    pub(super) read: Option<(HookId, Reading<C>)>,
    /// The hook that holds the drain, and until when at most.
    drain: Option<(HookId, Timestamp)>,
    /// The epoch whose failure was reported as given up.
    gave_up: Option<Epoch>,
}

impl<C> Default for Hooks<C> {
    fn default() -> Self {
        Self {
            begun: 0,
            running: None,
            waiting: VecDeque::new(),
            read: None,
            drain: None,
            gave_up: None,
        }
    }
}

impl<C> Hooks<C> {
    pub(super) fn rename<D>(&self, reading: impl FnOnce(&Reading<C>) -> Reading<D>) -> Hooks<D> {
        Hooks {
            begun: self.begun,
            running: self.running,
            waiting: self.waiting.clone(),
            read: self.read.as_ref().map(|(id, read)| (*id, reading(read))),
            drain: self.drain,
            gave_up: self.gave_up,
        }
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Returns whether a hook runs or waits for its turn.
    #[must_use]
    pub fn has_open_hooks(&self) -> bool {
        self.hooks.running.is_some()
    }

    /// Rule: hooks run one at a time, in the order of what they are about. Where too many wait, the newest is
    /// dropped and reported, so that what is run has no gap before it.
    fn run_hook(&mut self, call: HookCall) -> Option<HookId> {
        if !self.settings.hooks.has(call.moment) {
            return None;
        }
        if self.hooks.waiting.len() >= LONGEST_QUEUE {
            self.event(Event::HookFailed {
                moment: call.moment,
                why: "not run: too many hooks wait for their turn".to_string(),
            });
            return None;
        }
        self.hooks.begun = self.hooks.begun.saturating_add(1);
        let id = HookId(self.hooks.begun);
        self.hooks.waiting.push_back((id, call));
        self.run_next_hook();
        Some(id)
    }

    fn run_next_hook(&mut self) {
        if self.hooks.running.is_some() {
            return;
        }
        if let Some((hook, call)) = self.hooks.waiting.pop_front() {
            self.hooks.running = Some((hook, call.moment));
            self.outputs.push_back(Output::RunHook { hook, call });
        }
    }

    /// Rule: a configuration that its hook rejects is a failed read: the older one serves, and a first one
    /// ends everything. A hook that could not be run or was not done in time has not agreed.
    pub(super) fn hook_done(&mut self, hook: HookId, result: Result<(), HookFailure>) -> Reception {
        let Some((_, moment)) = self.hooks.running.take_if(|(running, _)| *running == hook) else {
            return Reception::Ignored(Ignored::Stale);
        };
        if let Err(HookFailure { why, .. }) = &result {
            let why = why.clone();
            self.event(Event::HookFailed { moment, why });
        }
        self.run_next_hook();
        if let Some((_, reading)) = self.hooks.read.take_if(|(held, _)| *held == hook) {
            self.read = None;
            match result {
                Ok(()) => self.has_read(reading),
                Err(failure) => self.not_read(ReadFailure {
                    report: Report::new(format!("rejected by --hook-pre-start: {}", failure.why)),
                    shortage: failure.shortage,
                }),
            }
        }
        if self.hooks.drain.is_some_and(|(held, _)| held == hook) {
            self.drain_now();
        }
        Reception::Accepted
    }

    /// Lets the read wait for its hook. Returns what was read, if there is none to wait for.
    pub(super) fn hold_the_read(&mut self, reading: Reading<C>) -> Option<Reading<C>> {
        let before = self.wanted.as_ref().filter(|before| !before.stands_in);
        let is_the_same = before.is_some_and(|before| before.reading == reading);
        if is_the_same && self.next == super::Next::IfDifferent {
            return Some(reading);
        }
        if !self.settings.hooks.has(Moment::PreStart) {
            return Some(reading);
        }
        let call = HookCall {
            moment: Moment::PreStart,
            epoch: None,
            reason: None,
        };
        match self.run_hook(call) {
            Some(hook) => self.hooks.read = Some((hook, reading)),
            None => {
                self.read = None;
                self.not_read(ReadFailure {
                    report: Report::new(
                        "rejected by --hook-pre-start: too many hooks wait for their turn",
                    ),
                    shortage: true,
                });
            }
        }
        None
    }

    /// Drops the hook of a read that nothing waits for any more, unless it runs already.
    pub(super) fn forget_the_held_read(&mut self) {
        if let Some((hook, _)) = self.hooks.read.take() {
            self.hooks.waiting.retain(|(waiting, _)| *waiting != hook);
        }
    }

    /// Lets the drain of everything wait for its hook. Returns whether it does.
    pub(super) fn hold_the_drain(&mut self, reason: String) -> bool {
        let Some(live) = self.agent.live() else {
            return false;
        };
        let call = HookCall {
            moment: Moment::PreDrain,
            epoch: Some(live),
            reason: Some(reason),
        };
        let until = self.now.after(self.settings.hooks.limit);
        self.hooks.drain = self.run_hook(call).map(|hook| (hook, until));
        self.hooks.drain.is_some()
    }

    /// Holds the drain no longer.
    pub(super) fn drain_now(&mut self) {
        if self.hooks.drain.take().is_some() {
            self.outputs.push_back(Output::Terminate(Urgency::Drain));
        }
    }

    /// Forgets the drain that is held: a more urgent end takes its place, or everything has ended.
    pub(super) fn forget_the_held_drain(&mut self) {
        self.hooks.drain = None;
    }

    pub(super) fn hook_deadline(&self) -> Option<Deadline> {
        self.hooks.drain.map(|(_, at)| Deadline {
            at,
            reason: DeadlineReason::DrainHook,
        })
    }

    /// Rule: two epochs of one number differ in their start.
    pub(super) fn run_hooks_of_epochs(&mut self, before: &AgentView) {
        let now = self.agent.clone();
        let same = |view: &super::EpochView, in_view: &AgentView| {
            let mut views = in_view.epochs.iter().copied();
            views.find(|it| it.epoch == view.epoch && it.started == view.started)
        };
        for view in &before.epochs {
            if same(view, &now).is_none() {
                self.run_hook_of(Moment::PostExit, view.epoch, None);
            }
        }
        for view in &now.epochs {
            let was = same(view, before);
            let is_live = |view: super::EpochView| view.state == EpochState::Live;
            if is_live(*view) && !was.is_some_and(is_live) {
                self.run_hook_of(Moment::Live, view.epoch, None);
            }
            if view.unfit && !was.is_some_and(|was| was.unfit) {
                let evidence = self.trials.evidence_against(view.epoch);
                self.run_hook_of(Moment::Unfit, view.epoch, evidence);
            }
        }
        match now.standing {
            Standing::GivenUp(epoch) if self.hooks.gave_up != Some(epoch) => {
                self.hooks.gave_up = Some(epoch);
                let reason = self.trials.evidence_against(epoch);
                self.run_hook_of(Moment::GaveUp, epoch, reason);
            }
            // What has led to the end is told once.
            Standing::GivenUp(_) | Standing::Ending => {}
            Standing::Nothing
            | Standing::Pending(_)
            | Standing::Live(_)
            | Standing::NotRestarted => self.hooks.gave_up = None,
        }
    }

    /// Rule: where the agent has ended, every epoch that it showed has ended, although the state that shows it may
    /// not have come. Of an agent that has panicked that is not known.
    pub(super) fn run_hooks_of_the_end(&mut self, ending: &Ending) {
        let Ok(outcome) = &ending.agent else {
            return;
        };
        for view in core::mem::take(&mut self.agent.epochs) {
            self.run_hook_of(Moment::PostExit, view.epoch, None);
        }
        if let Outcome::GaveUp { epoch, .. } = outcome
            && self.hooks.gave_up != Some(*epoch)
        {
            let reason = Some(outcome.to_string());
            self.run_hook_of(Moment::GaveUp, *epoch, reason);
        }
    }

    fn run_hook_of(&mut self, moment: Moment, epoch: Epoch, reason: Option<String>) {
        let _where_there_is_one = self.run_hook(HookCall {
            moment,
            epoch: Some(epoch),
            reason,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Inputs;
    use super::*;

    fn reading(config: &'static str) -> Reading<&'static str> {
        Reading {
            config,
            inputs: Inputs::default(),
        }
    }

    /// A recording shows the hooks as they are, with another name for each configuration.
    #[test]
    fn hooks_are_the_same_under_other_names() {
        let (first, second, third) = (HookId(1), HookId(2), HookId(3));
        let call = HookCall {
            moment: Moment::PreStart,
            epoch: None,
            reason: Some("because".to_owned()),
        };
        let hooks = |config: &'static str| Hooks {
            begun: 3,
            running: Some((first, Moment::Live)),
            waiting: [(second, call.clone())].into(),
            read: Some((second, reading(config))),
            drain: Some((third, Timestamp::ZERO)),
            gave_up: Some(Epoch::ZERO),
        };
        let named = hooks("a").rename(|_| reading("b"));
        assert_eq!(named, hooks("b"));
    }

    #[test]
    fn a_hook_is_open_until_it_is_done() {
        use super::super::{Input, Settings};

        let hooks = HookSettings::new(Moment::ALL, Duration::from_secs(1));
        let settings = Settings {
            hooks,
            ..Settings::default()
        };
        let mut operator = Operator::new(settings);
        let mut input = |input| {
            operator.handle_input(Timestamp::ZERO, input);
            let outputs = core::iter::from_fn(|| operator.poll_output());
            let asked = outputs.filter_map(|output| {
                let Output::Read { read, .. } = output else {
                    return None;
                };
                Some(read)
            });
            let asked = asked.last();
            (asked, operator.has_open_hooks())
        };
        let (read, is_open) = input(Input::FilesChanged);
        assert!(!is_open);
        let read = Input::ReadDone {
            read: read.unwrap(),
            result: Ok(reading("a")),
        };
        assert!(input(read).1);
        let done = Input::HookDone {
            hook: HookId(1),
            result: Ok(()),
        };
        assert!(!input(done).1);
    }
}
