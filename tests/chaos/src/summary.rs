//! What a run has seen, and what was wrong.

use std::fmt;
use std::time::Duration;

use crate::run::WARM;
use crate::step::Step;

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
    /// How often the machine has let the supervisor stand still, and more was lost than the tables allow.
    pub standstills: u64,
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
            standstills,
            growth,
        } = self;
        write!(
            f,
            "{hand_overs} hand-overs in {bursts} bursts and {:.1} s: {started} processes started; {lost} of {requests} \
             requests lost where the tables allow it, or in {standstills} standstills of the machine; longest gap {:.2} s; \
             memory ",
            took.as_secs_f64(),
            longest_gap.as_secs_f64(),
        )?;
        match growth {
            Some(bytes) => write!(f, "{:+} KiB since hand-over {WARM}", bytes / 1024),
            None => f.write_str("not compared in a run this short"),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was seen.
    pub summary: Summary,
    /// All steps that were done.
    pub steps: Vec<Step>,
    /// What the supervisor and the processes have printed.
    pub log: String,
    /// What is wrong, if anything.
    pub failure: Option<Failure>,
}

/// What is wrong.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// Each violation in a sentence.
    pub problems: Vec<String>,
    /// What explains it: the processes, the status, the log.
    pub details: String,
}
