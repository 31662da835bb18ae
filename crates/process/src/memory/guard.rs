//! What is done where a second process does not fit.

use handover_runtime::offload;

use super::{MemoryShort, bounds, check, used_by};

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
        let looked = offload::offload(move || Ok((used_by(running)?, bounds()))).await;
        let seen: std::io::Result<_> =
            looked.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        match seen {
            Ok((needed, bounds)) => self.judge(check(needed, &bounds)),
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

#[cfg(test)]
mod tests {
    use super::super::{Bound, Place};
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
        }
    }
}
