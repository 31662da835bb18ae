//! Whether each start is followed by a change of the watched files, as where the program itself writes one of them.
//!
//! It is pure: it reads no clock. Nothing is decided by it but what people are told: tools that write a file again and
//! again look the same.

use std::time::Duration;

use handover_core::Epoch;

/// How soon after a start a change may come from what was started: 3 s.
pub(crate) const SOON: Duration = Duration::from_secs(3);

/// After so many starts in a row it is told, and again after ten times as many.
const TOLD_AFTER: u32 = 5;

/// The newest starts and changes.
#[derive(Debug, Default)]
pub(crate) struct ChangeLoop {
    /// The newest epoch, and when it was seen first.
    newest: Option<(Epoch, Duration)>,
    /// The newest epoch whose start was followed by a change.
    followed: Option<Epoch>,
    /// How many starts in a row were.
    starts: u32,
}

impl ChangeLoop {
    /// Takes in which epoch is the newest one.
    pub(crate) fn handle_newest(&mut self, newest: Option<Epoch>, now: Duration) {
        if newest != self.newest.map(|(epoch, _)| epoch) {
            self.newest = newest.map(|epoch| (epoch, now));
        }
    }

    /// Takes in a change. Returns how many starts in a row were followed by one, if that must be told now.
    pub(crate) fn handle_change(&mut self, now: Duration) -> Option<u32> {
        let (newest, started) = self.newest?;
        if now.saturating_sub(started) > SOON || self.followed == Some(newest) {
            return None;
        }
        let goes_on = self.followed.and_then(Epoch::next) == Some(newest);
        self.starts = if goes_on {
            self.starts.saturating_add(1)
        } else {
            1
        };
        self.followed = Some(newest);
        is_told(self.starts).then_some(self.starts)
    }
}

/// Whether this is 5, 50, 500 and so on.
fn is_told(mut starts: u32) -> bool {
    while starts > TOLD_AFTER && starts.is_multiple_of(10) {
        starts /= 10;
    }
    starts == TOLD_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Duration = Duration::ZERO;

    /// Starts these epochs, each of which is followed by a change after that time. Returns what is told.
    fn told(epochs: impl IntoIterator<Item = (u32, Duration)>) -> Vec<u32> {
        let mut changes = ChangeLoop::default();
        let mut now = Duration::ZERO;
        let mut told = Vec::new();
        for (epoch, after) in epochs {
            now += Duration::from_secs(60);
            changes.handle_newest(Some(Epoch::new(epoch)), now);
            told.extend(changes.handle_change(now + after));
            // A further one tells nothing new.
            assert_eq!(changes.handle_change(now + after), None);
            // Nor does it begin anew when the state of the epoch is another one.
            changes.handle_newest(Some(Epoch::new(epoch)), now + after);
        }
        told
    }

    #[test]
    fn a_change_soon_after_each_start_is_told_after_five_and_then_ever_more_rarely() {
        assert_eq!(told((0..4).map(|epoch| (epoch, ZERO))), [0; 0]);
        assert_eq!(told((0..500).map(|epoch| (epoch, SOON))), [5, 50, 500]);
    }

    #[test]
    fn a_start_that_no_change_follows_soon_ends_the_row() {
        let late = SOON + Duration::from_millis(1);
        let row = (0..9).map(|epoch| (epoch, if epoch == 4 { late } else { ZERO }));
        assert_eq!(told(row), [0; 0]);
        let from_zero_again = (0..4).chain(0..4).map(|epoch| (epoch, ZERO));
        assert_eq!(told(from_zero_again), [0; 0]);
    }

    #[test]
    fn without_an_epoch_nothing_was_started() {
        let mut changes = ChangeLoop::default();
        assert_eq!(changes.handle_change(ZERO), None);
    }
}
