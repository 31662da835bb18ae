//! Whether listeners that were told to close are closed, from one look at them after the other.
//!
//! It is pure: it looks at nothing and reads no clock.

use std::time::{Duration, Instant};

use super::ListenersSeen;

/// How long an Envoy whose listeners cannot be seen gets to close them: 250 ms. Measured: below 5 ms.
pub(crate) const UNVERIFIED: Duration = Duration::from_millis(250);

/// How long an Envoy gets whose listeners are seen open: 5 s. They close once its main thread and each worker have come
/// to it, and a thread that is busy takes in clients until then. Envoy's watchdog calls one stuck after 1 s.
const SLOWEST_THREAD: Duration = Duration::from_secs(5);

/// The most that a pause between two looks counts for: 1 s. In a longer one this process was stopped, and the one that
/// it looks at may have been stopped with it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Listeners that were told to close, as they were seen so far.
#[derive(Debug)]
pub(crate) struct Closing {
    /// How long they have had.
    waited: Duration,
    looked: Instant,
    are_closed: bool,
    /// Whether the last look that has shown anything has shown one open that closes.
    seen_open: bool,
    is_over: bool,
}

impl Closing {
    /// Begins with listeners that were told to close just `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            waited: Duration::ZERO,
            looked: now,
            are_closed: false,
            seen_open: false,
            is_over: false,
        }
    }

    /// Takes in a look that ended `now`.
    pub(crate) fn handle_look(&mut self, seen: ListenersSeen, now: Instant) {
        self.pass(now);
        match seen {
            ListenersSeen::Closed => self.are_closed = true,
            ListenersSeen::Open => self.seen_open = true,
            ListenersSeen::MayStay => self.seen_open = false,
            ListenersSeen::Unseen => {}
        }
    }

    /// Returns whether they were seen closed. Closed ones stay closed.
    pub(crate) fn are_closed(&self) -> bool {
        self.are_closed
    }

    /// Returns whether a further look can change anything, after the last call of [`is_over`](Self::is_over).
    pub(crate) fn needs_look(&self) -> bool {
        !self.is_over
    }

    /// Returns whether nobody new is expected to come in `now`: they were seen closed, or have had the time that
    /// closing takes. It stays so.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        self.pass(now);
        let time = match self.seen_open {
            true => SLOWEST_THREAD,
            false => UNVERIFIED,
        };
        self.is_over |= self.are_closed || self.waited > time;
        self.is_over
    }

    fn pass(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.looked);
        self.waited = self.waited.saturating_add(pause.min(LONGEST_PAUSE));
        self.looked = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ListenersSeen::{Closed, MayStay, Open, Unseen};

    /// Looks at these milliseconds, and returns after which of them nobody new is expected.
    fn over(looks: &[(u64, ListenersSeen)]) -> Vec<u64> {
        let start = Instant::now();
        let mut closing = Closing::new(start);
        let looked = looks.iter().filter(|(at, seen)| {
            let now = start + Duration::from_millis(*at);
            closing.handle_look(*seen, now);
            closing.is_over(now)
        });
        looked.map(|(at, _)| *at).collect()
    }

    #[test]
    fn it_is_over_once_they_were_seen_closed_and_stays_so() {
        let looks = [(0, Open), (10, Closed), (20, Unseen), (30, Open)];
        assert_eq!(over(&looks), [10, 20, 30]);
    }

    #[test]
    fn what_is_seen_open_gets_longer_than_what_cannot_be_seen_or_may_stay() {
        for seen in [Unseen, MayStay] {
            assert_eq!(over(&[(0, seen), (250, seen), (251, seen)]), [251]);
        }
        let open = [0, 900, 1_800, 2_700, 3_600, 4_500, 5_000, 5_001];
        assert_eq!(over(&open.map(|at| (at, Open))), [5_001]);
    }

    #[test]
    fn what_was_seen_open_and_cannot_be_seen_now_is_open_as_far_as_is_known() {
        let looks = [(0, Open), (900, Open), (901, Unseen), (902, Open)];
        assert_eq!(over(&looks), [0; 0]);
        let looks = [(0, Open), (900, Open), (901, MayStay), (902, Unseen)];
        assert_eq!(over(&looks), [901, 902]);
    }

    #[test]
    fn once_it_is_over_there_is_nothing_more_to_look_at() {
        let start = Instant::now();
        let mut closing = Closing::new(start);
        closing.handle_look(Unseen, start);
        assert!(!closing.is_over(start) && closing.needs_look());
        assert!(closing.is_over(start + Duration::from_millis(251)) && !closing.needs_look());
        assert!(!closing.are_closed());
    }

    /// The host was stopped for a minute, and has run for a moment since.
    #[test]
    fn a_time_in_which_nobody_looked_counts_for_a_second() {
        let looks = [(0, Open), (60_000, Open), (60_900, Open), (63_000, Open)];
        assert_eq!(over(&looks), [0; 0]);
        let looks = [1, 2, 3, 4, 5, 6].map(|minute| (minute * 60_000, Open));
        assert_eq!(over(&looks), [360_000]);
    }
}
