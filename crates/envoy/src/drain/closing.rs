//! Whether listeners that were told to close are closed, from one look at them after the other.
//!
//! It is pure: it looks at nothing and reads no clock.

use std::time::{Duration, Instant};

use super::ListenersSeen;

/// How long an Envoy whose listeners cannot be seen gets to close them: 250 ms. Measured: below 5 ms.
pub(crate) const UNVERIFIED: Duration = Duration::from_millis(250);

/// How long a thread of Envoy may take until it comes to the listeners: 5 s. They close once the main thread and each
/// worker have done so, and one that is busy takes in clients until then. Envoy's watchdog calls one stuck after 1 s.
const SLOWEST_THREAD: Duration = Duration::from_secs(5);

/// The most that a pause between two looks counts for: 1 s. In a longer one this process was stopped, and the one that
/// it looks at may have been stopped with it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Listeners that were told to close, as they were seen so far.
#[derive(Debug)]
pub(crate) struct Closing {
    /// How long they get while one is seen open that closes; `None` is without end.
    open: Option<Duration>,
    /// How long they get while all that are seen open may be ones that stay.
    may_stay: Duration,
    /// How long they have had.
    waited: Duration,
    looked: Instant,
    are_closed: bool,
    /// What the last look has shown that has shown anything.
    seen: ListenersSeen,
    is_over: bool,
}

impl Closing {
    /// Begins with listeners that a drain has told to close just `now`. The drain of a stop ends also where they do not.
    pub(crate) fn of_drain(now: Instant) -> Self {
        Self::new(Some(SLOWEST_THREAD), UNVERIFIED, now)
    }

    /// Begins with the listeners of an epoch that was replaced and that a stop waits for, from `now` on. It closes all it
    /// has, also those that no configuration names.
    pub(crate) fn of_replaced_in_stop(now: Instant) -> Self {
        Self::new(Some(SLOWEST_THREAD), SLOWEST_THREAD, now)
    }

    /// Begins with the listeners of an epoch that was replaced just `now`. It has a time of its own to end, and is not
    /// called drained before that while it is seen to take clients in.
    pub(crate) fn of_replaced(now: Instant) -> Self {
        Self::new(None, SLOWEST_THREAD, now)
    }

    fn new(open: Option<Duration>, may_stay: Duration, now: Instant) -> Self {
        Self {
            open,
            may_stay,
            waited: Duration::ZERO,
            looked: now,
            are_closed: false,
            seen: ListenersSeen::Unseen,
            is_over: false,
        }
    }

    /// Takes in a look that ended `now`.
    pub(crate) fn handle_look(&mut self, seen: ListenersSeen, now: Instant) {
        self.pass(now);
        self.are_closed |= seen == ListenersSeen::Closed;
        if seen != ListenersSeen::Unseen {
            self.seen = seen;
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
        let time = match self.seen {
            ListenersSeen::Open => self.open,
            ListenersSeen::MayStay => Some(self.may_stay),
            ListenersSeen::Closed | ListenersSeen::Unseen => Some(UNVERIFIED),
        };
        self.is_over |= self.are_closed || time.is_some_and(|time| self.waited > time);
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

    /// Looks at these milliseconds at the listeners of a drain, and returns after which of them nobody new is expected.
    fn over(looks: &[(u64, ListenersSeen)]) -> Vec<u64> {
        over_of(Closing::of_drain, looks)
    }

    fn over_of(begin: fn(Instant) -> Closing, looks: &[(u64, ListenersSeen)]) -> Vec<u64> {
        let start = Instant::now();
        let mut closing = begin(start);
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
    fn a_replaced_epoch_takes_clients_in_for_as_long_as_it_is_seen_open() {
        let seconds =
            |seen| [1_000, 2_000, 3_000, 4_000, 5_000, 5_001, 60_000].map(|at| (at, seen));
        let of_replaced = |seen| over_of(Closing::of_replaced, &seconds(seen));
        assert_eq!(of_replaced(Open), [0; 0]);
        assert_eq!(of_replaced(MayStay), [5_001, 60_000]);
        for seen in [Open, MayStay] {
            let in_stop = over_of(Closing::of_replaced_in_stop, &seconds(seen));
            assert_eq!(in_stop, [5_001, 60_000]);
        }
        assert_eq!(
            over_of(Closing::of_replaced, &[(250, Unseen), (251, Unseen)]),
            [251]
        );
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
        let mut closing = Closing::of_drain(start);
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
