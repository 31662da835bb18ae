//! What happens to an epoch from the moment a newer one is live until its end.
//!
//! As a rule it ends by itself at its parent-shutdown time, because its child tells it to. Until then
//! it must go on running. Its child asks it for statistics every five seconds and waits for the answer
//! with its whole main thread. So a parent that is stopped also stops the admin endpoint of its child,
//! and with it every further hand-over.
//!
//! An epoch that was replaced side by side has no child, and neither has one whose child has died while
//! the next one started. It is told to end as soon as its last connection is gone, or at its
//! parent-shutdown time. Otherwise it would keep its place, which the third epoch after it needs.

use std::time::{Duration, Instant};

use handover_core::{LATE, LOOK_AROUND};

use crate::drain::ListenersSeen;
use crate::drain::closing::{Closing, UNVERIFIED};

/// The shortest pause between two looks. People wait for the end of an old epoch, and the kernel
/// reports neither the end of its last connection nor that it was stopped.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// The pause while its listeners close: 15 ms. Most are closed at the first look.
const PAUSE_WHILE_CLOSING: Duration = Duration::from_millis(15);

/// A look takes longer on a host with many connections. The pause is at least this many times as long
/// as the look, so that looking takes a third of the time at most.
const PAUSE_PER_LOOK: u32 = 2;

/// The longest pause between two looks: a change may wait for the next one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long it may listen on without a word, where nothing else is left of its work: 1 s. A further change may wait for it.
const LISTENS_UNTOLD: Duration = Duration::from_secs(1);

/// How long an old epoch may be stopped. Its child feels it after five seconds.
const LONGEST_STOP: Duration = Duration::from_secs(4);

/// How long an old epoch may run beyond its parent-shutdown time.
const OVERSTAY: Duration = Duration::from_secs(5);

/// An old epoch, as it was seen so far.
#[derive(Debug)]
pub(in crate::adapter) struct OldEpoch {
    parent_shutdown: Duration,
    /// Since when its listeners are closing.
    closing_since: Instant,
    closing: Closing,
    /// Whether it was told of that it has no connection left and still listens.
    told_that_it_listens: bool,
    /// Whether it has no connection left, and gets none.
    released: bool,
    /// Whether it was told to end.
    told_to_end: bool,
    /// Since when it has been seen stopped.
    stopped_since: Option<Instant>,
    /// The moment after which the clock proves something. After a time in which this process was
    /// stopped, it is seen first what has become of the epoch.
    judged_from: Instant,
    /// Whether the last look took so long that this process may have been stopped in the middle of it.
    last_look_was_long: bool,
}

/// What one look has shown.
#[derive(Clone, Copy, Debug)]
pub(in crate::adapter) struct Look {
    /// How long the look took.
    pub(in crate::adapter) took: Duration,
    /// Whether the epoch has not been told yet to close its listeners.
    pub(in crate::adapter) listens: bool,
    /// What its sockets have shown of its listeners, if they were looked at.
    pub(in crate::adapter) listeners: Option<ListenersSeen>,
    /// How many connections it had after that, if they were counted and could be.
    pub(in crate::adapter) connections: Option<usize>,
    /// Whether its process is stopped.
    pub(in crate::adapter) is_stopped: bool,
    /// How long any newer epoch has been live.
    pub(in crate::adapter) newer_live_for: Option<Duration>,
    /// Whether newer epochs run and none of them is its child, so that none tells it to end.
    pub(in crate::adapter) is_left_behind: bool,
}

/// What must be done after a look, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Step {
    /// Tell people that it has no connection left, and still listens.
    TellThatItListens,
    /// Report that the epoch has nothing left to lose.
    Release,
    /// Continue its stopped process.
    Continue,
    /// Tell it to end.
    Terminate,
    /// Kill it: it has not ended at its time.
    Kill,
}

impl OldEpoch {
    /// Begins to follow an epoch that a newer one has just replaced.
    pub(in crate::adapter) fn new(parent_shutdown: Duration, now: Instant) -> Self {
        Self {
            parent_shutdown,
            closing_since: now,
            closing: Closing::of_replaced(now),
            told_that_it_listens: false,
            released: false,
            told_to_end: false,
            stopped_since: None,
            judged_from: now,
            last_look_was_long: false,
        }
    }

    /// Returns whether the connections of the epoch must be counted in the next look. While it still
    /// listens, further ones may come.
    pub(in crate::adapter) fn needs_count(&self, listens: bool) -> bool {
        !self.released && !listens
    }

    /// Returns whether its listeners must be looked at before the connections are counted. A newer epoch is live before
    /// each thread of this one has closed them, and one that is busy may take in a client until then.
    pub(in crate::adapter) fn needs_look_at_listeners(&self, listens: bool) -> bool {
        self.needs_count(listens) && self.closing.needs_look()
    }

    /// Takes in a look that ended `now`, and returns what must be done.
    pub(in crate::adapter) fn handle_look(&mut self, look: &Look, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        if look.listens {
            self.begin_to_close(now);
        }
        if let Some(seen) = look.listeners {
            self.closing.handle_look(seen, now);
        }
        if self.needs_count(look.listens) {
            let are_closed = self.closing.is_over(now);
            if look.connections == Some(0) {
                steps.extend(self.without_connections(are_closed, now));
            }
        }
        // Where every look takes so long, the host is slow, and the second one counts.
        let is_long = look.took > LOOK_AROUND;
        if is_long && !self.last_look_was_long {
            self.look_around(now);
        }
        self.last_look_was_long = is_long;
        if self.has_been_stopped_for_long(look.is_stopped, now) {
            steps.push(Step::Continue);
        }
        if now <= self.judged_from {
            return steps;
        }
        let live = look.newer_live_for;
        let is_over = self.released || live.is_some_and(|live| live >= self.parent_shutdown);
        if is_over && !self.told_to_end && !look.listens && look.is_left_behind {
            self.told_to_end = true;
            steps.push(Step::Terminate);
        }
        let limit = self.parent_shutdown.saturating_add(OVERSTAY);
        if live.is_some_and(|live| live >= limit) {
            steps.push(Step::Kill);
        }
        steps
    }

    /// Returns how long to wait before the next look, after one that ended `now` and took so long.
    pub(in crate::adapter) fn pause_after(&self, took: Duration, now: Instant) -> Duration {
        let shortest = match self.closing.needs_look() && self.closing_for(now) <= UNVERIFIED {
            true => PAUSE_WHILE_CLOSING,
            false => SHORTEST_PAUSE,
        };
        let pause = took.saturating_mul(PAUSE_PER_LOOK);
        pause.clamp(shortest, LONGEST_PAUSE)
    }

    /// Takes in that the pause until `due` is over. If it is noticed late, this process was stopped.
    pub(in crate::adapter) fn handle_pause(&mut self, due: Instant, now: Instant) {
        if now.saturating_duration_since(due) > LATE {
            self.look_around(now);
        }
    }

    fn begin_to_close(&mut self, now: Instant) {
        self.closing_since = now;
        self.closing = Closing::of_replaced(now);
    }

    fn without_connections(&mut self, are_closed: bool, now: Instant) -> Option<Step> {
        if are_closed {
            self.released = true;
            return Some(Step::Release);
        }
        if self.told_that_it_listens || self.closing_for(now) < LISTENS_UNTOLD {
            return None;
        }
        self.told_that_it_listens = true;
        Some(Step::TellThatItListens)
    }

    fn closing_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.closing_since)
    }

    fn look_around(&mut self, now: Instant) {
        self.judged_from = now + LOOK_AROUND;
    }

    fn has_been_stopped_for_long(&mut self, is_stopped: bool, now: Instant) -> bool {
        self.stopped_since = is_stopped.then(|| self.stopped_since.unwrap_or(now));
        let Some(since) = self.stopped_since else {
            return false;
        };
        now.saturating_duration_since(since.max(self.judged_from)) >= LONGEST_STOP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    struct Followed {
        old: OldEpoch,
        start: Instant,
    }

    impl Followed {
        fn new() -> Self {
            let start = Instant::now();
            let old = OldEpoch::new(TIME, start);
            Self { old, start }
        }

        /// What is done after a look that many milliseconds after the beginning.
        fn look(&mut self, at: u64, look: Look) -> Vec<Step> {
            self.old.handle_look(&look, self.at(at))
        }

        fn at(&self, milliseconds: u64) -> Instant {
            self.start + Duration::from_millis(milliseconds)
        }
    }

    /// A parent of a child that went live a moment ago, with a connection.
    fn serving() -> Look {
        Look {
            took: Duration::from_millis(1),
            listens: false,
            listeners: Some(ListenersSeen::Closed),
            connections: Some(1),
            is_stopped: false,
            newer_live_for: Some(Duration::ZERO),
            is_left_behind: false,
        }
    }

    #[test]
    fn it_is_released_once_when_its_last_connection_is_gone() {
        let mut followed = Followed::new();
        assert!(followed.old.needs_count(false));
        assert_eq!(followed.look(200, serving()), []);
        let unknown = Look {
            connections: None,
            ..serving()
        };
        assert_eq!(followed.look(400, unknown), []);
        let without = Look {
            connections: Some(0),
            ..serving()
        };
        assert_eq!(followed.look(600, without), [Step::Release]);
        assert!(!followed.old.needs_count(false));
        assert_eq!(followed.look(800, without), []);
    }

    #[test]
    fn while_it_listens_no_connection_is_no_release() {
        let mut followed = Followed::new();
        assert!(!followed.old.needs_count(true));
        let listens = Look {
            listens: true,
            connections: Some(0),
            is_left_behind: true,
            newer_live_for: Some(TIME),
            ..serving()
        };
        assert_eq!(followed.look(200, listens), []);
    }

    /// Its main thread was busy when its child went live. It was released with nobody connected, took a client in, and
    /// the next change ended it.
    #[test]
    fn one_that_closes_its_listeners_late_is_released_after_that() {
        let mut followed = Followed::new();
        let seen = |listeners, connections| Look {
            listeners: Some(listeners),
            connections: Some(connections),
            ..serving()
        };
        let (open, closed) = (ListenersSeen::Open, ListenersSeen::Closed);
        assert!(followed.old.needs_look_at_listeners(false));
        assert_eq!(followed.look(0, seen(open, 0)), []);
        assert_eq!(followed.look(15, seen(open, 0)), []);
        assert_eq!(followed.look(251, seen(open, 1)), []);
        assert_eq!(followed.look(460, seen(open, 0)), []);
        assert!(followed.old.needs_look_at_listeners(false));
        assert_eq!(followed.look(660, seen(closed, 1)), []);
        assert!(!followed.old.needs_look_at_listeners(false));
        let later = |connections| Look {
            listeners: None,
            connections: Some(connections),
            ..serving()
        };
        assert_eq!(followed.look(860, later(1)), []);
        assert_eq!(followed.look(1_060, later(0)), [Step::Release]);
    }

    #[test]
    fn one_that_goes_on_listening_is_not_released_before_its_time() {
        let mut followed = Followed::new();
        let open = |live| Look {
            listeners: Some(ListenersSeen::Open),
            connections: Some(0),
            newer_live_for: Some(live),
            is_left_behind: true,
            ..serving()
        };
        let told = followed.look(1_000, open(Duration::from_secs(1)));
        assert_eq!(told, [Step::TellThatItListens]);
        for second in 2..10 {
            let live = Duration::from_secs(second);
            assert_eq!(followed.look(second * 1_000, open(live)), []);
        }
        assert_eq!(followed.look(10_000, open(TIME)), [Step::Terminate]);
    }

    #[test]
    fn that_it_still_listens_is_told_once_and_not_while_it_has_connections() {
        let mut followed = Followed::new();
        let may_stay = |connections| Look {
            listeners: Some(ListenersSeen::MayStay),
            connections,
            ..serving()
        };
        assert_eq!(followed.look(999, may_stay(Some(0))), []);
        assert_eq!(followed.look(1_199, may_stay(Some(1))), []);
        assert_eq!(followed.look(1_399, may_stay(None)), []);
        let told = followed.look(1_599, may_stay(Some(0)));
        assert_eq!(told, [Step::TellThatItListens]);
        for at in [1_799, 2_799, 3_799, 4_799] {
            assert_eq!(followed.look(at, may_stay(Some(0))), []);
        }
        assert_eq!(followed.look(5_400, may_stay(Some(0))), [Step::Release]);
    }

    #[test]
    fn one_whose_listeners_cannot_be_seen_gets_the_time_that_closing_takes() {
        let mut followed = Followed::new();
        let unseen = Look {
            listeners: Some(ListenersSeen::Unseen),
            connections: Some(0),
            ..serving()
        };
        // It has not been told to close them before.
        let listens = Look {
            listens: true,
            listeners: None,
            ..serving()
        };
        assert_eq!(followed.look(0, listens), []);
        assert_eq!(followed.look(200, listens), []);
        assert_eq!(followed.look(450, unseen), []);
        assert_eq!(followed.look(451, unseen), [Step::Release]);
    }

    #[test]
    fn while_its_listeners_close_it_is_looked_at_more_often() {
        let mut followed = Followed::new();
        let open = Look {
            listeners: Some(ListenersSeen::Open),
            ..serving()
        };
        let pause = |followed: &Followed, at| {
            let took = Duration::from_millis(1);
            followed.old.pause_after(took, followed.at(at)).as_millis()
        };
        let _none = followed.look(0, open);
        assert_eq!([0, 250, 251].map(|at| pause(&followed, at)), [15, 15, 200]);
        let _none = followed.look(100, serving());
        assert_eq!(pause(&followed, 100), 200);
    }

    #[test]
    fn a_stopped_one_is_continued_after_four_seconds() {
        let mut followed = Followed::new();
        let stopped = Look {
            is_stopped: true,
            ..serving()
        };
        assert_eq!(followed.look(1_000, stopped), []);
        assert_eq!(followed.look(4_999, stopped), []);
        assert_eq!(followed.look(5_000, stopped), [Step::Continue]);
        // It went on meanwhile, so the time begins again.
        assert_eq!(followed.look(5_200, serving()), []);
        assert_eq!(followed.look(5_400, stopped), []);
        assert_eq!(followed.look(9_399, stopped), []);
        assert_eq!(followed.look(9_400, stopped), [Step::Continue]);
    }

    #[test]
    fn one_with_a_child_is_never_told_to_end_and_is_killed_when_it_overstays() {
        let mut followed = Followed::new();
        let at_its_time = Look {
            connections: Some(0),
            newer_live_for: Some(TIME),
            ..serving()
        };
        assert_eq!(followed.look(10_000, at_its_time), [Step::Release]);
        let late = |by: Duration| Look {
            newer_live_for: Some(TIME + by),
            ..serving()
        };
        let before = late(OVERSTAY - Duration::from_millis(1));
        assert_eq!(followed.look(14_999, before), []);
        assert_eq!(followed.look(15_000, late(OVERSTAY)), [Step::Kill]);
    }

    #[test]
    fn one_without_a_child_is_told_to_end_once_it_is_released() {
        let mut followed = Followed::new();
        let left_behind = Look {
            is_left_behind: true,
            ..serving()
        };
        assert_eq!(followed.look(200, left_behind), []);
        let without = Look {
            connections: Some(0),
            ..left_behind
        };
        assert_eq!(
            followed.look(400, without),
            [Step::Release, Step::Terminate]
        );
        assert_eq!(followed.look(600, without), []);
    }

    #[test]
    fn one_without_a_child_is_told_to_end_at_its_time_whatever_it_still_has() {
        let mut followed = Followed::new();
        let look = |live: Duration| Look {
            is_left_behind: true,
            newer_live_for: Some(live),
            ..serving()
        };
        let before = look(TIME - Duration::from_millis(1));
        assert_eq!(followed.look(9_999, before), []);
        assert_eq!(followed.look(10_000, look(TIME)), [Step::Terminate]);
        assert_eq!(followed.look(10_200, look(TIME)), []);
    }

    #[test]
    fn after_a_gap_it_is_looked_at_before_it_is_judged() {
        let overstayed = Look {
            is_stopped: true,
            newer_live_for: Some(TIME + OVERSTAY),
            ..serving()
        };
        let mut followed = Followed::new();
        assert_eq!(
            followed.look(
                100,
                Look {
                    is_stopped: true,
                    ..serving()
                }
            ),
            []
        );
        let (due, now) = (followed.at(300), followed.at(60_000));
        followed.old.handle_pause(due, now);
        assert_eq!(followed.look(60_001, overstayed), []);
        let around = u64::try_from(LOOK_AROUND.as_millis()).unwrap();
        assert_eq!(followed.look(60_000 + around, overstayed), []);
        assert_eq!(followed.look(60_001 + around, overstayed), [Step::Kill]);
        // The stop counts from the end of the look around.
        let at = 60_000 + around + 4_000;
        assert_eq!(followed.look(at, overstayed), [Step::Continue, Step::Kill]);
    }

    #[test]
    fn a_pause_that_is_noticed_in_time_is_no_gap() {
        let overstayed = Look {
            newer_live_for: Some(TIME + OVERSTAY),
            ..serving()
        };
        let mut followed = Followed::new();
        let due = followed.at(300);
        followed.old.handle_pause(due, due + LATE);
        let late = u64::try_from(LATE.as_millis()).unwrap();
        assert_eq!(followed.look(301 + late, overstayed), [Step::Kill]);
    }

    #[test]
    fn one_long_look_is_a_gap_and_the_second_is_a_slow_host() {
        let overstayed = Look {
            took: LOOK_AROUND + Duration::from_millis(1),
            newer_live_for: Some(TIME + OVERSTAY),
            ..serving()
        };
        let mut followed = Followed::new();
        assert_eq!(followed.look(20_000, overstayed), []);
        assert_eq!(followed.look(40_000, overstayed), [Step::Kill]);
        let no_gap = Look {
            took: LOOK_AROUND,
            ..overstayed
        };
        assert_eq!(Followed::new().look(20_000, no_gap), [Step::Kill]);
    }

    #[test]
    fn looking_takes_a_third_of_the_time_at_most() {
        let mut followed = Followed::new();
        let _none = followed.look(0, serving());
        let pause = |took| {
            let took = Duration::from_millis(took);
            followed.old.pause_after(took, followed.start).as_millis()
        };
        assert_eq!([pause(0), pause(100), pause(150)], [200, 200, 300]);
        assert_eq!([pause(500), pause(5_000)], [1_000, 1_000]);
    }
}
