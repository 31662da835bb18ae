//! Whether an epoch has finished its work, from looks at its listeners and counts of its connections.

use std::time::Instant;

use crate::drain::ListenersSeen;
use crate::drain::closing::Closing;

/// What a count of connections has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Count {
    /// So many are open.
    Open(u64),
    /// The process has ended.
    Ended,
    /// They cannot be counted, so there may be some.
    Unknown,
}

/// What follows from a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Progress {
    /// No client is left, and none can come.
    Drained,
    /// The process has ended. Whether an old epoch was to end is judged where its end is seen.
    Ended,
    /// Connections are open, or may be.
    Waits,
}

/// The wait of a stop for an epoch to be without connections, as it was seen so far.
#[derive(Debug)]
pub(in crate::adapter) struct Emptying {
    /// The listeners of an old epoch. Nobody new is let in to one that is live when this begins.
    closing: Option<Closing>,
}

impl Emptying {
    /// Begins with the live epoch, whose listeners no new connection reaches.
    pub(in crate::adapter) fn of_live() -> Self {
        Self { closing: None }
    }

    /// Begins with an old epoch. When it was told to close its listeners is not known, so it may have been just `now`.
    pub(in crate::adapter) fn of_old(now: Instant) -> Self {
        Self {
            closing: Some(Closing::of_replaced_in_stop(now)),
        }
    }

    /// Returns whether its listeners must be looked at before the next count.
    pub(in crate::adapter) fn needs_look_at_listeners(&self) -> bool {
        let closing = self.closing.as_ref();
        closing.is_some_and(Closing::needs_look)
    }

    /// Takes in what a look at its listeners that ended `now` has shown.
    pub(in crate::adapter) fn handle_listeners(&mut self, seen: ListenersSeen, now: Instant) {
        if let Some(closing) = &mut self.closing {
            closing.handle_look(seen, now);
        }
    }

    /// Takes in a count that ended `now`, and returns how far the epoch is. One that is giving way to one of another
    /// lineage has not been told yet to close all its listeners.
    pub(in crate::adapter) fn handle_count(
        &mut self,
        count: Count,
        gives_way: bool,
        now: Instant,
    ) -> Progress {
        if let Some(closing) = &mut self.closing
            && gives_way
        {
            *closing = Closing::of_replaced_in_stop(now);
        }
        let closing = self.closing.as_mut();
        let may_accept = gives_way || closing.is_some_and(|closing| !closing.is_over(now));
        match count {
            Count::Open(0) if !may_accept => Progress::Drained,
            Count::Open(_) | Count::Unknown => Progress::Waits,
            Count::Ended => Progress::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const COUNTS: [Count; 4] = [Count::Open(0), Count::Open(1), Count::Unknown, Count::Ended];

    fn progress(emptying: &mut Emptying, gives_way: bool, now: Instant) -> [Progress; 4] {
        COUNTS.map(|count| emptying.handle_count(count, gives_way, now))
    }

    use Progress::{Drained, Ended, Waits};

    #[test]
    fn it_is_drained_when_no_connection_is_open_and_none_can_come() {
        let now = Instant::now();
        let mut live = Emptying::of_live();
        assert!(!live.needs_look_at_listeners());
        assert_eq!(
            progress(&mut live, false, now),
            [Drained, Waits, Waits, Ended]
        );
        let mut old = Emptying::of_old(now);
        assert!(old.needs_look_at_listeners());
        old.handle_listeners(ListenersSeen::Open, now);
        assert_eq!(progress(&mut old, false, now), [Waits, Waits, Waits, Ended]);
        old.handle_listeners(ListenersSeen::Closed, now);
        assert_eq!(
            progress(&mut old, false, now),
            [Drained, Waits, Waits, Ended]
        );
        assert!(!old.needs_look_at_listeners());
    }

    /// A control plane has sent them, so no configuration names them, and a busy thread comes to them late.
    #[test]
    fn listeners_of_a_control_plane_get_the_time_of_a_slow_thread() {
        let start = Instant::now();
        let mut old = Emptying::of_old(start);
        let mut at = |at| {
            let now = start + Duration::from_millis(at);
            old.handle_listeners(ListenersSeen::MayStay, now);
            old.handle_count(Count::Open(0), false, now)
        };
        let looks = [251, 1_000, 2_000, 3_000, 4_000, 5_000, 5_001].map(&mut at);
        assert_eq!(looks, [Waits, Waits, Waits, Waits, Waits, Waits, Drained]);
    }

    #[test]
    fn one_that_gives_way_closes_its_listeners_after_that() {
        let start = Instant::now();
        let mut old = Emptying::of_old(start);
        let seen = ListenersSeen::Unseen;
        let mut at = |at, gives_way| {
            let now = start + Duration::from_millis(at);
            old.handle_listeners(seen, now);
            old.handle_count(Count::Open(0), gives_way, now)
        };
        assert_eq!(at(900, true), Waits);
        assert_eq!(at(1_150, false), Waits);
        assert_eq!(at(1_151, false), Drained);
    }
}
