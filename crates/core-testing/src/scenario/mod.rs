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
//! | `9s!` | the same, but deadlines before it are missed, as by a driver that was stopped |
//! | `desire NAME`, `renew NAME`, `restart NAME`, `live N`, `stopped_serving N`, `released N`, `withdrawn N`, `unfit N` | the inputs |
//! | `terminate drain\|stop\|kill` | the end, with this urgency |
//! | `exit N clean\|failed\|permanent\|aborted` | the exit of an epoch |
//! | `wait` | no input, only a timeout: deadlines until then fire, later ones do not |
//!
//! The keys of a policy: `retries`, `initial`, `max_interval`, `reset_after`, `start_deadline`,
//! `give_way_after`, `min_interval`, `max_epochs`, `grace`, `probation`, `drain` (each a number or a time, or
//! `none`), `advance` (`when_live`, `at_once`), `on_failure` (`keep_serving`, `abort_all`), `on_exhausted` (`stop`,
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

/// A script: a policy, and inputs with their times.
///
/// Its [`Display`](fmt::Display) writes the script again. [`parse`](Self::parse) reads it, provided
/// that the names of the configurations are words and the title is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The title: the first comment.
    pub title: String,
    /// The policy.
    pub policy: Policy,
    /// The inputs, in the order of the lines.
    pub lines: Vec<Line>,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The time of the line.
    pub at: Timestamp,
    /// Whether deadlines before that time are missed.
    pub missing_deadlines: bool,
    /// The input; `None` is a timeout only.
    pub input: Option<Input<String>>,
}

/// The reason why a script cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The number of the line, from 1.
    pub line: usize,
    /// The fault in the line, and what would be right.
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
    /// Returns the first line that cannot be read, with the reason.
    pub fn parse(script: &str) -> Result<Self, ParseError> {
        parse::scenario(script)
    }

    /// Runs the script on a new machine.
    ///
    /// # Errors
    ///
    /// Returns an error if the policy cannot be honoured or an invariant is broken.
    pub fn run(&self) -> Result<Transcript, RunError> {
        run::scenario(self)
    }
}
