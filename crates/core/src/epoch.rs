//! Restart epochs.

use core::fmt;

/// The number, from 0, of one launched proxy process.
///
/// A new epoch is exactly one higher than the highest epoch that is running, or 0 when none runs:
/// what Envoy's hot restart protocol asks for. The number of an epoch that has exited is used
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// The first epoch, which starts cold.
    pub const ZERO: Self = Self(0);

    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number, as a proxy's command line takes it.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The epoch that replaces this one, or nothing when the numbers are used up.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

/// Written as its number.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_its_number() {
        assert_eq!(Epoch::new(7).number(), 7);
        assert_eq!(Epoch::new(7).next().map(Epoch::number), Some(8));
        assert_eq!(Epoch::new(u32::MAX).next(), None);
    }
}
