//! What is done where a second process does not fit.

use std::io;

use handover_runtime::offload;

use super::{Bound, MemoryShort, bounds, check, used_by};

/// What is done before a process is started beside one that runs and that it is to replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guard {
    /// Where both do not fit, no second one is started.
    #[default]
    Hold,
    /// Where both do not fit, a warning is logged.
    Warn,
    /// Nobody looks.
    Off,
}

impl Guard {
    /// Looks whether another process fits that takes as much memory as a running one and its descendants.
    ///
    /// It looks on another thread. What it cannot find out holds nothing.
    ///
    /// # Errors
    ///
    /// [`MemoryShort`] where both do not fit, with [`Guard::Hold`] alone.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn look(self, running: u32) -> Result<(), MemoryShort> {
        if self == Self::Off {
            return Ok(());
        }
        let looked = offload::offload(move || look_at(running)).await;
        let seen = looked.unwrap_or_else(|error| Err(io::Error::other(error)));
        self.judge_what_was_seen(running, seen)
    }

    /// Looks as [`Guard::look`] does, on this thread.
    pub(crate) fn look_here(self, running: u32) -> Result<(), MemoryShort> {
        if self == Self::Off {
            return Ok(());
        }
        self.judge_what_was_seen(running, look_at(running))
    }

    fn judge_what_was_seen(self, running: u32, seen: io::Result<Seen>) -> Result<(), MemoryShort> {
        match seen {
            Ok(seen) => self.judge(check(seen.needed, &seen.bounds)),
            Err(error) => {
                tracing::debug!(
                    "memory was not looked at before a start: process {running}: {error}"
                );
                Ok(())
            }
        }
    }

    fn judge(self, checked: Result<(), MemoryShort>) -> Result<(), MemoryShort> {
        match checked {
            Err(short) if self == Self::Warn => {
                tracing::warn!("{short} memory, and it is started all the same");
                Ok(())
            }
            checked => checked,
        }
    }
}

/// What a look has found.
struct Seen {
    needed: u64,
    bounds: Vec<Bound>,
}

fn look_at(running: u32) -> io::Result<Seen> {
    Ok(Seen {
        needed: used_by(running)?,
        bounds: bounds(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    #[test]
    fn only_the_guard_that_holds_lets_a_start_fail() {
        let bound = Bound {
            place: Place::Host,
            limit: 1,
            used: 1,
            freeable: 0,
            swap: 0,
            stalled: None,
        };
        let short = || check(1, std::slice::from_ref(&bound));
        assert!(Guard::Hold.judge(short()).is_err());
        assert!(Guard::Warn.judge(short()).is_ok());
        assert!(Guard::Hold.judge(Ok(())).is_ok());
    }

    #[tokio::test]
    async fn what_cannot_be_looked_at_holds_nothing() {
        // Above the largest process id of Linux.
        for guard in [Guard::Hold, Guard::Warn, Guard::Off] {
            assert_eq!(guard.look(1 << 23).await, Ok(()));
            assert_eq!(guard.look_here(1 << 23), Ok(()));
        }
    }
}
