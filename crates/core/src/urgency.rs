//! How urgently everything has to end.

use core::fmt;

/// How urgently everything has to end.
///
/// Urgency only rises: the strongest one said so far counts, and saying a weaker or an equal one
/// again changes nothing. Whether a second request means more than the first is knowledge of the
/// sender, for instance of a signal handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Drain what runs, and end when that is done.
    Drain,
    /// End without a drain; each epoch may finish what it is doing.
    Stop,
    /// End immediately, with whatever is unfinished.
    Kill,
}

impl fmt::Display for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Kill => "kill",
        })
    }
}
