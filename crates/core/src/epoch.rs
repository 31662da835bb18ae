//! Restart epochs.

use core::fmt;

/// The number of one started proxy process, from 0.
///
/// A new epoch is exactly one higher than the highest running one, or 0 if none runs, as Envoy's
/// hot restart protocol requires. The number of an exited epoch is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Epoch(u32);

impl Epoch {
    /// The first epoch, which replaces no other one.
    pub const ZERO: Self = Self(0);

    /// Returns the epoch with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number, as a proxy's command line takes it.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Returns the epoch after this one, or `None` if the numbers are used up.
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
