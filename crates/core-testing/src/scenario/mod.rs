//! Scenarios as text: a script goes in, a transcript comes out.
//!
//! A script has one line per input, each with its time. Between two lines every deadline fires when
//! it is due, and every invariant of [`Checker`](crate::Checker) is checked after every step.
//!
//! ```text
//! # A failed epoch 1 beside a good epoch 0 is tried again as epoch 1.
//! policy default retries=3
//! 0      desire A
//! 50ms   live 0
//! 1s     desire B
//! +20ms  exit 1 failed
//! 2s     wait
//! ```
//!
//! | part | meaning |
//! | --- | --- |
//! | `# ...` | a comment; the first one is the scenario's title |
//! | `policy NAME KEY=VALUE ...` | the policy: a preset (`default`, `istio_1_2`, `resilient`) and what differs |
//! | `50ms`, `2s`, `1m`, `0` | a time since the start, in `ns`, `us`, `ms`, `s` or `m`; with `+` since the line before |
//! | `9s!` | the same, but deadlines on the way are missed, as by a driver that was busy |
//! | `desire NAME`, `renew NAME`, `restart NAME`, `live N`, `stopped_serving N`, `released N`, `withdrawn N` | the inputs |
//! | `terminate drain\|stop\|kill` | the end, so urgently |
//! | `exit N clean\|failed\|permanent\|aborted` | the exit of an epoch |
//! | `wait` | only a timeout: what is due until then fires, the rest does not |
//!
//! The keys of a policy: `retries`, `initial`, `max_interval`, `reset_after`, `start_deadline`,
//! `max_epochs`, `grace`, `drain` (each a number or a time, or `none`), `advance`
//! (`when_live`, `at_once`), `on_failure` (`keep_serving`, `abort_all`), `on_exhausted` (`stop`,
//! `hold`), `on_clean_exit` (`stay`, `restart`, `stop`).

mod parse;
mod run;
mod table;
mod write;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use handover_core::{Input, Policy, Timestamp};

pub use self::run::{RunError, Step, Transcript, What};

/// A script: a policy, and what happens when.
///
/// Its [`Display`](fmt::Display) is the script again: one that [`parse`](Self::parse) reads, as long
/// as the names of the configurations are words and the title is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The first comment.
    pub title: String,
    /// The policy.
    pub policy: Policy,
    /// What happens, in the order of the lines.
    pub lines: Vec<Line>,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// Whether deadlines before that moment are missed.
    pub missing_deadlines: bool,
    /// The input, or only a timeout where there is none.
    pub input: Option<Input<String>>,
}

/// A script that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl core::error::Error for ParseError {}

impl Scenario {
    /// Reads a script.
    ///
    /// # Errors
    ///
    /// The first line that cannot be read, with the reason.
    pub fn parse(script: &str) -> Result<Self, ParseError> {
        parse::scenario(script)
    }

    /// Runs it on a new machine.
    ///
    /// # Errors
    ///
    /// When the policy cannot be honoured or an invariant does not hold.
    pub fn run(&self) -> Result<Transcript, RunError> {
        run::scenario(self)
    }
}
