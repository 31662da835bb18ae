//! Faults on demand: what goes wrong, at which step, and for which start. The crate page lists them.

mod state;
mod text;

use std::fmt;
use std::time::Duration;

pub(crate) use self::state::State;
pub use self::text::FaultError;

/// A step in the life of the process, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// Before anything is done.
    Start,
    /// Before the configuration is checked with `--mode validate`.
    Validate,
    /// The domain sockets are bound.
    Bound,
    /// The flag in shared memory is set.
    FlagSet,
    /// The configuration is read.
    Config,
    /// The admin endpoint is taken over.
    Admin,
    /// The listening sockets are taken over.
    Listeners,
    /// The workers accept connections; the parent still serves.
    Live,
    /// The parent was told to drain, and the flag is cleared.
    HandOver,
    /// A child has told this process to drain.
    Drain,
    /// The process was told to end.
    End,
}

/// What goes wrong at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// End by SIGABRT.
    Crash,
    /// End by SIGSEGV.
    Segv,
    /// End by SIGKILL.
    Kill,
    /// Exit with a code.
    Exit(u8),
    /// Take so long, and answer meanwhile.
    Slow(Duration),
    /// Never go on, and answer meanwhile.
    Stuck,
    /// Let the main thread stand still for so long.
    Freeze(Duration),
    /// Write so many bytes to standard error.
    Flood(u64),
}

/// What goes wrong all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Habit {
    /// The flag stays set.
    KeepFlag,
    /// No listener is served.
    NoListeners,
    /// No listening socket is passed on.
    RefuseSockets,
    /// A child gets no answer.
    DeafParent,
    /// There is no admin endpoint.
    AdminClosed,
    /// The admin endpoint does not answer.
    AdminSilent,
    /// The admin endpoint takes so long for each answer.
    AdminSlow(Duration),
    /// The admin endpoint does not speak HTTP.
    AdminGarbage,
    /// The admin endpoint refuses all.
    AdminForbidden,
    /// The state is always LIVE.
    LieLive,
    /// The restart epoch is another one.
    LieEpoch(u32),
    /// The gauges of listeners are missing.
    GaugesMissing,
    /// The gauges of listeners have foreign names.
    GaugesForeign,
    /// The gauges of listeners have one value.
    GaugesStuck(u64),
    /// The process grows by so many bytes a second.
    Leak(u64),
    /// Each response takes so long.
    SlowAnswers(Duration),
    /// Signals do not end the process.
    IgnoreTerm,
    /// The child does not end the process.
    IgnoreTerminate,
    /// The process does not ask to die with its supervisor.
    OutliveSupervisor,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Something at a step.
    At(Step, Action),
    /// Something all the time.
    Always(Habit),
}

/// A fault: what goes wrong, and when.
///
/// ```
/// use handover_fake_envoy::{Action, Fault, Kind, Step};
///
/// let fault: Fault = "crash@live:epoch=2".parse()?;
/// assert_eq!(fault, Fault::new(Kind::At(Step::Live, Action::Crash)).epoch(2));
/// assert_eq!(fault.to_string(), "crash@live:epoch=2");
/// # Ok::<(), handover_fake_envoy::FaultError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    epoch: Option<u32>,
    start: Option<u64>,
    once: bool,
}

impl Fault {
    /// A fault of every start.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            epoch: None,
            start: None,
            once: false,
        }
    }

    /// Limits the fault to a restart epoch.
    #[must_use]
    pub fn epoch(mut self, epoch: u32) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Limits the fault to the N-th start, counted from 1 in the state directory.
    #[must_use]
    pub fn start(mut self, start: u64) -> Self {
        self.start = Some(start);
        self
    }

    /// Limits the fault to the first time that it happens, as the state directory remembers.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Returns what goes wrong.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Returns whether a state directory is needed.
    pub(crate) fn counts_starts(&self) -> bool {
        self.once || self.start.is_some()
    }

    /// Returns whether this start is meant.
    fn means(&self, start: &StartNumber) -> bool {
        self.epoch.is_none_or(|epoch| epoch == start.epoch)
            && self.start.is_none_or(|number| Some(number) == start.number)
    }
}

/// Which start this is.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartNumber {
    pub(crate) epoch: u32,
    /// The number among all that share a state directory, from 1.
    pub(crate) number: Option<u64>,
}

/// The faults of one process. They can change while it runs.
#[derive(Debug)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    start: StartNumber,
    state: Option<State>,
}

impl Faults {
    pub(crate) fn new(faults: Vec<Fault>, epoch: u32, state: Option<State>) -> Self {
        let number = state.as_ref().map(State::start);
        let mut new = Self {
            faults,
            start: StartNumber { epoch, number },
            state,
        };
        // A habit is one thing that lasts, so it is spent here and not when it is looked at.
        let mut faults = std::mem::take(&mut new.faults);
        faults.retain(|fault| {
            let is_habit = matches!(fault.kind, Kind::Always(_));
            !is_habit || !fault.means(&new.start) || new.may_happen(fault)
        });
        new.faults = faults;
        new
    }

    /// Returns what goes wrong at a step. A fault that comes once is spent by that.
    pub(crate) fn at(&self, step: Step) -> Vec<Action> {
        let faults = self.faults.iter().filter(|fault| fault.means(&self.start));
        faults
            .filter_map(|fault| match &fault.kind {
                Kind::At(at, action) if *at == step && self.may_happen(fault) => {
                    Some(action.clone())
                }
                Kind::At(..) | Kind::Always(_) => None,
            })
            .collect()
    }

    /// Returns whether a fault is there for a step. It may be spent already.
    pub(crate) fn is_armed(&self, step: Step) -> bool {
        let mut faults = self.faults.iter().filter(|fault| fault.means(&self.start));
        faults.any(|fault| matches!(fault.kind, Kind::At(at, _) if at == step))
    }

    /// Returns what goes wrong all the time.
    pub(crate) fn habits(&self) -> Habits {
        let faults = self.faults.iter().filter(|fault| fault.means(&self.start));
        let habits = faults.filter_map(|fault| match &fault.kind {
            Kind::Always(habit) => Some(habit.clone()),
            Kind::At(..) => None,
        });
        Habits(habits.collect())
    }

    /// Adds a fault.
    pub(crate) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Removes all faults.
    pub(crate) fn clear(&mut self) {
        self.faults.clear();
    }

    /// Returns the texts of all faults.
    pub(crate) fn texts(&self) -> String {
        let texts: Vec<_> = self.faults.iter().map(ToString::to_string).collect();
        texts.join(" ")
    }

    fn may_happen(&self, fault: &Fault) -> bool {
        let spent = |state: &State| !state.spend(&fault.to_string());
        !(fault.once && self.state.as_ref().is_some_and(spent))
    }
}

/// What goes wrong all the time in one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Habits(Vec<Habit>);

impl Habits {
    /// Returns whether a habit without a value is there.
    pub(crate) fn has(&self, habit: &Habit) -> bool {
        self.0.contains(habit)
    }

    /// Returns the value of a habit, as `of` finds it.
    pub(crate) fn value<T>(&self, of: impl Fn(&Habit) -> Option<T>) -> Option<T> {
        self.0.iter().rev().find_map(of)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Validate => "validate",
            Self::Bound => "bound",
            Self::FlagSet => "flag_set",
            Self::Config => "config",
            Self::Admin => "admin",
            Self::Listeners => "listeners",
            Self::Live => "live",
            Self::HandOver => "hand_over",
            Self::Drain => "drain",
            Self::End => "end",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(texts: &str, epoch: u32, state: Option<State>) -> Faults {
        let faults = texts.split_whitespace().map(|text| text.parse().unwrap());
        Faults::new(faults.collect(), epoch, state)
    }

    #[test]
    fn a_fault_happens_at_its_step_and_in_its_epoch() {
        let of = |epoch| faults("crash@live:epoch=2 slow=1s@live exit=3@end", epoch, None);
        let slow = Action::Slow(Duration::from_secs(1));
        assert_eq!(of(1).at(Step::Live), std::slice::from_ref(&slow));
        assert_eq!(of(2).at(Step::Live), [Action::Crash, slow]);
        assert_eq!(of(2).at(Step::End), [Action::Exit(3)]);
        assert_eq!(of(2).at(Step::Start), []);
    }

    #[test]
    fn a_fault_that_comes_once_is_spent_for_later_starts() {
        let dir = tempfile::tempdir().unwrap();
        let start = || {
            let state = State::open(dir.path()).unwrap();
            faults("crash@live:once kill@bound:start=3", 0, Some(state))
        };
        let seen: Vec<_> = (0..4)
            .map(|_| {
                let faults = start();
                (faults.at(Step::Live).len(), faults.at(Step::Bound).len())
            })
            .collect();
        assert_eq!(seen, [(1, 0), (0, 0), (0, 1), (0, 0)]);
    }

    #[test]
    fn habits_can_be_added_and_cleared() {
        let mut faults = faults("ignore-term", 0, None);
        faults.add("leak=2M".parse().unwrap());
        let habits = faults.habits();
        assert!(habits.has(&Habit::IgnoreTerm) && !habits.has(&Habit::KeepFlag));
        let leak = habits.value(|habit| {
            if let Habit::Leak(bytes) = habit {
                Some(*bytes)
            } else {
                None
            }
        });
        assert_eq!(leak, Some(2 << 20));
        faults.clear();
        assert_eq!(faults.habits(), Habits::default());
    }
}
