//! What can be wrong with a run.

use std::fmt;

/// The invariant that was broken. A part of a failing list fails as the whole did if it breaks the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// More was lost than the tables allow.
    Loss,
    /// The status says ready, and nothing serves.
    FalseReady,
    /// It is not as it must be in time.
    Unsettled,
    /// The supervisor has ended, or cannot be reached by a step.
    Ended,
    /// The loop of the supervisor was blocked.
    Blocked,
    /// A request on the control socket was not answered as it must be, or a step beside it failed.
    Answer,
    /// A process of the fake has not understood its script.
    Script,
    /// More processes run than one.
    Processes,
    /// Descriptors or memory have grown.
    Growth,
    /// The stop has cut requests, or took too long, or had another exit code.
    Stop,
    /// Something is left behind.
    Leftovers,
    /// The log has a panic.
    Panic,
    /// It was planted, to show how a failure is told and shortened.
    Planted,
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub kind: Kind,
    /// What was seen, in a sentence.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
