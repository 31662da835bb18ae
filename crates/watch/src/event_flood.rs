//! A brake for directories in which much happens that does not matter.
//!
//! The kernel tells of every write to any file of a directory. A log beside the configuration, written to some thousand
//! times a second, would wake this process as often. A queue that fills as fast as it is read would even keep its
//! thread from everything else.

use std::time::Duration;

use tokio::time::Instant;

use super::kernel_events::{Heard, LookTime};

/// So many events in a row that lead to no look are taken in as they come. A file that is replaced, by whatever tool,
/// makes less than ten.
const MOST: u32 = 100;
/// How long the queue then fills before it is read again. It holds 16,384 events by default, and a loss leads to a look.
const PAUSE: Duration = Duration::from_millis(20);
/// After this time without an event, those before are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(100);

/// Counts events that have led to no look.
#[derive(Debug, Default)]
pub(super) struct EventFlood {
    events: u32,
    heard: Option<Instant>,
}

impl EventFlood {
    /// Takes in what was heard. Returns until when to leave the queue alone.
    pub(super) fn note(&mut self, now: Instant, heard: &Heard) -> Option<Instant> {
        match heard.look {
            LookTime::Now => {
                self.events = 0;
                return None;
            }
            LookTime::Unneeded | LookTime::OnceQuiet => {}
        }
        if self.heard.is_none_or(|last| now - last >= FORGOTTEN_AFTER) {
            self.events = 0;
        }
        self.heard = Some(now);
        self.events = self.events.saturating_add(heard.events);
        (self.events > MOST).then(|| now + PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(look: LookTime, events: u32) -> Heard {
        Heard {
            look,
            events,
            is_all: true,
        }
    }

    #[test]
    fn many_events_that_do_not_matter_are_left_in_the_queue_for_a_while() {
        for look in [LookTime::Unneeded, LookTime::OnceQuiet] {
            let mut flood = EventFlood::default();
            let now = Instant::now();
            assert_eq!(flood.note(now, &heard(look, MOST)), None);
            let until = flood.note(now, &heard(look, 1));
            assert_eq!(until, Some(now + PAUSE));
            // For as long as it goes on.
            let later = now + PAUSE;
            let until = flood.note(later, &heard(look, 1));
            assert_eq!(until, Some(later + PAUSE));
            let quiet = later + FORGOTTEN_AFTER;
            assert_eq!(flood.note(quiet, &heard(look, MOST)), None);
        }
    }

    #[test]
    fn a_change_among_them_is_followed_without_a_pause() {
        let mut flood = EventFlood::default();
        let now = Instant::now();
        assert!(flood.note(now, &heard(LookTime::Unneeded, 1000)).is_some());
        assert_eq!(flood.note(now, &heard(LookTime::Now, 1000)), None);
        assert_eq!(flood.note(now, &heard(LookTime::Unneeded, MOST)), None);
    }
}
