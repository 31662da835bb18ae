//! How urgently everything has to end.

use core::fmt;

/// How urgently everything has to end.
///
/// Urgency only rises: the strongest one so far counts. A weaker or equal one changes nothing. The
/// sender decides whether a second request means more than the first, for example a signal handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Urgency {
    /// Drain every epoch, then end.
    Drain,
    /// End without a drain. Each epoch may finish its current requests.
    Stop,
    /// End immediately. Unfinished requests are cut.
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
