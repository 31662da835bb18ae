//! What is known of one process of the fake: what it was given, what it has reached, and how it ended.

use std::time::Duration;

use handover_fake_envoy::{Action, Fault, Habit, Kind, Step};

/// The life of a process. Times count from the begin of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Its restart epoch.
    pub epoch: u32,
    /// Its process id.
    pub pid: u32,
    /// When it said hello.
    pub begun: Duration,
    /// What goes wrong with it.
    pub faults: Vec<Fault>,
    /// The steps that it has reached, in their order.
    pub steps: Vec<(Duration, Step)>,
    /// When the chaos killed it.
    pub killed: Option<Duration>,
    /// When it was gone.
    pub ended: Option<Duration>,
}

/// What a fault does to those who are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Nothing. The supervisor must cope.
    None,
    /// The process ends at this step, or never goes on and is ended there.
    Ends(Step),
    /// The process takes over and cannot be used, or cannot be seen to serve.
    Blind,
    /// The process does not end when it should, and is killed with its last requests.
    Stays,
}

/// Returns what a fault does.
#[must_use]
pub fn harm(fault: &Fault) -> Harm {
    match fault.kind() {
        Kind::At(step, action) => match action {
            Action::Crash | Action::Segv | Action::Kill | Action::Exit(_) => Harm::Ends(*step),
            Action::Stuck if *step < Step::HandOver => Harm::Ends(*step),
            Action::Stuck if *step > Step::HandOver => Harm::Stays,
            Action::Stuck | Action::Slow(_) | Action::Freeze(_) | Action::Flood(_) => Harm::None,
            // A fault that is not known here may do anything.
            _ => Harm::Blind,
        },
        Kind::Always(habit) => match habit {
            Habit::KeepFlag
            | Habit::AdminSlow(_)
            | Habit::LieLive
            | Habit::GaugesMissing
            | Habit::GaugesForeign
            | Habit::GaugesStuck(_)
            | Habit::Leak(_)
            | Habit::SlowAnswers(_)
            | Habit::IgnoreTerm
            | Habit::OutliveSupervisor => Harm::None,
            Habit::IgnoreTerminate => Harm::Stays,
            Habit::NoListeners
            | Habit::RefuseSockets
            | Habit::DeafParent
            | Habit::AdminClosed
            | Habit::AdminSilent
            | Habit::AdminGarbage
            | Habit::AdminForbidden
            | Habit::LieEpoch(_)
            | _ => Harm::Blind,
        },
        _ => Harm::Blind,
    }
}

impl Life {
    /// Returns when it has reached a step.
    #[must_use]
    pub fn reached(&self, step: Step) -> Option<Duration> {
        self.steps
            .iter()
            .find(|(_, reached)| *reached >= step)
            .map(|(at, _)| *at)
    }

    /// Returns the harms of its faults.
    pub fn harms(&self) -> impl Iterator<Item = Harm> {
        self.faults.iter().map(harm)
    }

    /// Returns whether it hangs since a newer one has told it to drain, so that it answers no child any more.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        let mut faults = self.faults.iter();
        let hangs = faults.any(|fault| *fault.kind() == Kind::At(Step::Drain, Action::Stuck));
        hangs && self.reached(Step::Drain).is_some()
    }

    /// Returns whether something was done to it by which a start may fail.
    #[must_use]
    pub fn is_harmed(&self) -> bool {
        self.killed.is_some() || self.harms().any(|harm| harm != Harm::None)
    }

    /// Returns the step at which a fault ended it, if one did.
    pub(crate) fn ended_by_fault(&self) -> Option<Step> {
        self.ended?;
        let mut steps = self.harms().filter_map(|harm| match harm {
            Harm::Ends(step) => Some(step),
            Harm::None | Harm::Blind | Harm::Stays => None,
        });
        steps.find(|step| self.steps.iter().any(|(_, reached)| reached == step))
    }
}
