//! What a run has seen, and what was wrong.

use std::fmt;
use std::time::Duration;

use crate::excuses::Excuses;
use crate::run::WARM;
use crate::step::Step;
use crate::violation::{Kind, Violation};

/// What a run has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Hand-overs that the supervisor has counted.
    pub hand_overs: u64,
    /// Bursts that were done.
    pub bursts: u64,
    /// Processes of the fake that were started.
    pub started: u64,
    /// Requests that have ended, well or not.
    pub requests: u64,
    /// Those that were lost.
    pub lost: u64,
    /// The longest time without an answer.
    pub longest_gap: Duration,
    /// How long the run took.
    pub took: Duration,
    /// What was not as it must be, and was not held against the supervisor.
    pub excuses: Excuses,
    /// What the memory of the supervisor has grown by since it was warm, in bytes. Unknown in a short run.
    pub growth: Option<i64>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            hand_overs,
            bursts,
            started,
            requests,
            lost,
            longest_gap,
            took,
            excuses,
            growth,
        } = self;
        write!(
            f,
            "{hand_overs} hand-overs in {bursts} bursts and {:.1} s: {started} processes started; {lost} of {requests} \
             requests lost where the tables allow it, or where the machine stood still; longest gap {:.2} s; memory ",
            took.as_secs_f64(),
            longest_gap.as_secs_f64(),
        )?;
        match growth {
            Some(bytes) => write!(f, "{:+} KiB since hand-over {WARM}", bytes / 1024)?,
            None => f.write_str("not compared in a run this short")?,
        }
        write!(f, "; excused: {}", excuses.within(*took))
    }
}

/// A step that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// When it began, counted from the begin of the run.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was seen.
    pub summary: Summary,
    /// All steps that were done.
    pub steps: Vec<Done>,
    /// What the supervisor and the processes have printed.
    pub log: String,
    /// Whether nothing was wrong until the run was broken off, so that it proves nothing.
    pub is_broken_off: bool,
    /// What is wrong, if anything.
    pub failure: Option<Failure>,
}

/// What is wrong.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// Each violation.
    pub violations: Vec<Violation>,
    /// Whether it was found at the end, when all steps were done.
    pub is_at_the_end: bool,
    /// What explains it on a page: the last steps, processes and lines of the log, and the status.
    pub page: String,
    /// All of that, except for the log.
    pub details: String,
}

impl Failure {
    /// Returns the invariant that was broken first.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.violations.first().map(|violation| violation.kind)
    }
}
