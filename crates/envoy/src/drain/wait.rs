//! Whether a drain is over, from one look at the listeners and one count of the connections after the
//! other.
//!
//! It is pure: it asks nothing and reads no clock.

use std::error::Error;
use std::time::{Duration, Instant};

use super::closing::Closing;
use super::reports::Reports;
use super::{DrainError, DrainReport, ListenersSeen, NotCounted};
use crate::admin::ListenerConnections;

/// Envoy's counters of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenerCounters {
    /// How many are active. One that has stopped listening is still among them.
    pub(super) active: u64,
    /// How many have stopped listening, ever. A new epoch takes over the counters of the old one, so
    /// it may not start at 0.
    pub(super) stopped: u64,
}

impl ListenerCounters {
    /// Returns whether as many have stopped since `before` as were active then.
    fn all_stopped_since(&self, before: &Self) -> bool {
        self.stopped >= before.stopped.saturating_add(before.active)
    }
}

/// A drain whose listeners were told to close, as it was seen so far.
#[derive(Debug)]
pub(super) struct DrainWait {
    start: Instant,
    minimum: Duration,
    /// The counters before the listeners were told to close, unless the statistics leave them out.
    before: Option<ListenerCounters>,
    closing: Closing,
    reports: Reports,
    /// The last count that proves something.
    last: Option<Result<Vec<ListenerConnections>, Box<dyn Error + Send + Sync>>>,
}

/// What must be done after a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Count again after a pause.
    Wait,
    /// Report these connections, which hold the drain, and count again after a pause.
    Report(String),
    /// Go on: the drain is over, or there is nothing more to count.
    End,
}

impl DrainWait {
    /// Begins to wait. The drain began at `start`, and the listeners were told to close just `now`.
    pub(super) fn new(
        start: Instant,
        now: Instant,
        minimum: Duration,
        before: Option<ListenerCounters>,
    ) -> Self {
        Self {
            start,
            minimum,
            before,
            closing: Closing::of_drain(now),
            reports: Reports::new(start, now),
            last: None,
        }
    }

    /// Returns whether the listeners must be looked at before the next count. Closed ones stay closed.
    pub(super) fn must_look_at_listeners(&self) -> bool {
        !self.closing.are_closed()
    }

    /// Returns whether the counters are needed as well, after a look at the listeners.
    pub(super) fn needs_counters(&self, seen: ListenersSeen) -> bool {
        seen == ListenersSeen::Unseen && self.before.is_some()
    }

    /// Takes in what a look at the listeners that ended `now` has shown, and the counters if they were needed.
    pub(super) fn handle_listeners(
        &mut self,
        seen: ListenersSeen,
        counters: Option<ListenerCounters>,
        now: Instant,
    ) {
        let by_counters = || Some(counters?.all_stopped_since(self.before.as_ref()?));
        let all_stopped = seen == ListenersSeen::Unseen && by_counters() == Some(true);
        let seen = if all_stopped {
            ListenersSeen::Closed
        } else {
            seen
        };
        self.closing.handle_look(seen, now);
    }

    /// Takes in a count that ended `now`, and returns what must be done.
    pub(super) fn handle_count(
        &mut self,
        counted: Result<Vec<ListenerConnections>, NotCounted>,
        now: Instant,
    ) -> Step {
        match counted {
            Ok(holding) => {
                let step = self.step(&holding, now);
                self.last = Some(Ok(holding));
                step
            }
            // A single slow or broken answer is no reason to cut anybody.
            Err(NotCounted { error, is_final }) => {
                let is_held = matches!(&self.last, Some(Ok(holding)) if !holding.is_empty());
                if is_final || !is_held {
                    self.last = Some(Err(error));
                }
                if is_final { Step::End } else { Step::Wait }
            }
        }
    }

    fn step(&mut self, holding: &[ListenerConnections], now: Instant) -> Step {
        if !holding.is_empty() {
            return match self.reports.is_due(now) {
                true => Step::Report(list(holding)),
                false => Step::Wait,
            };
        }
        // A connection that is accepted between two counts must not be missed. So an empty count ends
        // the drain only after the listeners were seen closed. If that cannot be seen, it ends the
        // drain once they have had the time that closing takes.
        let took = now.saturating_duration_since(self.start);
        if self.closing.is_over(now) && took >= self.minimum {
            Step::End
        } else {
            Step::Wait
        }
    }

    /// Returns how the drain has ended `now`.
    pub(super) fn into_report(self, now: Instant) -> Result<DrainReport, DrainError> {
        let took = now.saturating_duration_since(self.start);
        match self.last {
            Some(Ok(holding)) => Ok(DrainReport {
                holding,
                listeners_closed: self.closing.are_closed(),
                took,
            }),
            Some(Err(error)) => Err(DrainError::Count(error)),
            None => Err(DrainError::NoTime(took)),
        }
    }
}

/// `1 connection on listener a, 2 connections on listener b`.
pub(crate) fn list(holding: &[ListenerConnections]) -> String {
    let each: Vec<_> = holding.iter().map(ToString::to_string).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a moment of a drain shows.
    enum Seen {
        /// A look at the listeners, and the counter of stopped ones.
        Listeners(ListenersSeen, Option<u64>),
        Open(u64),
        NoAnswer,
        Gone,
    }

    use ListenersSeen::{Closed, MayStay, Unseen};
    use Seen::{Gone, Listeners, NoAnswer, Open};

    const OPEN: ListenersSeen = ListenersSeen::Open;

    fn holding(open: u64) -> Vec<ListenerConnections> {
        let listener = ListenerConnections {
            listener: "web".to_owned(),
            active: open,
        };
        (open > 0).then_some(listener).into_iter().collect()
    }

    fn counters(stopped: u64) -> ListenerCounters {
        ListenerCounters { active: 2, stopped }
    }

    /// Plays a drain that began 400 ms before its listeners were told to close. Each moment is given in
    /// milliseconds since then. Returns one line for each count, and one for the end.
    fn transcript(minimum: u64, before: Option<u64>, seen: &[(u64, Seen)]) -> String {
        let start = Instant::now();
        let closing = start + Duration::from_millis(400);
        let minimum = Duration::from_millis(minimum);
        let mut wait = DrainWait::new(start, closing, minimum, before.map(counters));
        let mut lines = Vec::new();
        let mut now = closing;
        for (at, seen) in seen {
            now = closing + Duration::from_millis(*at);
            let counted = match seen {
                Listeners(closed, stopped) => {
                    assert!(wait.must_look_at_listeners(), "at {at}");
                    assert_eq!(wait.needs_counters(*closed), stopped.is_some(), "at {at}");
                    wait.handle_listeners(*closed, stopped.map(counters), now);
                    continue;
                }
                Open(open) => Ok(holding(*open)),
                NoAnswer | Gone => Err(NotCounted {
                    error: "no answer".into(),
                    is_final: matches!(seen, Gone),
                }),
            };
            let step = wait.handle_count(counted, now);
            lines.push(format!("{at:>6} {step:?}"));
        }
        lines.push(match wait.into_report(now) {
            Ok(report) => {
                let closed = match report.listeners_closed {
                    true => "closed",
                    false => "not seen closed",
                };
                let held = list(&report.holding);
                format!("after {:?}, {closed}: {held:?}", report.took)
            }
            Err(DrainError::Count(error)) => format!("not counted: {error}"),
            Err(error) => error.to_string(),
        });
        lines.join("\n")
    }

    #[test]
    fn it_ends_with_the_last_connection_once_the_listeners_are_seen_closed() {
        let seen = [
            (0, Listeners(OPEN, None)),
            (1, Open(0)),
            (15, Listeners(OPEN, None)),
            (16, Open(2)),
            (30, Listeners(Closed, None)),
            (31, Open(1)),
            (46, Open(0)),
        ];
        insta::assert_snapshot!(transcript(0, Some(7), &seen), @r#"
             1 Wait
            16 Wait
            31 Wait
            46 End
        after 446ms, closed: ""
        "#);
    }

    #[test]
    fn the_counters_show_the_closing_where_it_cannot_be_seen() {
        let seen = [
            (0, Listeners(Unseen, Some(7))),
            (1, Open(0)),
            (15, Listeners(Unseen, Some(8))),
            (16, Open(0)),
            (30, Listeners(Unseen, Some(9))),
            (31, Open(0)),
        ];
        insta::assert_snapshot!(transcript(0, Some(7), &seen), @r#"
             1 Wait
            16 Wait
            31 End
        after 431ms, closed: ""
        "#);
    }

    #[test]
    fn an_unseen_closing_gets_its_time_from_the_moment_it_was_asked_for() {
        let seen = [
            (0, Listeners(Unseen, None)),
            (1, Open(0)),
            (249, Listeners(Unseen, None)),
            (250, Open(0)),
            (251, Open(0)),
        ];
        insta::assert_snapshot!(transcript(0, None, &seen), @r#"
             1 Wait
           250 Wait
           251 End
        after 651ms, not seen closed: ""
        "#);
    }

    /// A worker that was busy for longer than 250 ms had a client in its queue. The drain ended with nobody
    /// counted, and the client was cut.
    #[test]
    fn a_client_that_a_slow_worker_accepts_late_is_waited_for() {
        let seen = [
            (0, Listeners(OPEN, None)),
            (1, Open(0)),
            (400, Listeners(OPEN, None)),
            (401, Open(0)),
            (900, Listeners(OPEN, None)),
            (901, Open(1)),
            (916, Listeners(Closed, None)),
            (917, Open(1)),
            (932, Open(0)),
        ];
        insta::assert_snapshot!(transcript(0, Some(7), &seen), @r#"
             1 Wait
           401 Wait
           901 Wait
           917 Wait
           932 End
        after 1.332s, closed: ""
        "#);
    }

    #[test]
    fn listeners_that_are_seen_open_do_not_hold_it_for_ever() {
        let mut seen = Vec::new();
        for at in [900, 1_800, 2_700, 3_600, 4_500, 4_999] {
            seen.extend([(at, Listeners(OPEN, None)), (at + 1, Open(0))]);
        }
        seen.push((5_001, Open(0)));
        insta::assert_snapshot!(transcript(0, Some(7), &seen), @r#"
           901 Wait
          1801 Wait
          2701 Wait
          3601 Wait
          4501 Wait
          5000 Wait
          5001 End
        after 5.401s, not seen closed: ""
        "#);
    }

    #[test]
    fn listeners_that_may_stay_get_the_time_in_which_the_others_close() {
        let seen = [
            (0, Listeners(OPEN, None)),
            (1, Open(0)),
            (249, Listeners(MayStay, None)),
            (250, Open(0)),
            (251, Open(0)),
        ];
        insta::assert_snapshot!(transcript(0, Some(7), &seen), @r#"
             1 Wait
           250 Wait
           251 End
        after 651ms, not seen closed: ""
        "#);
    }

    #[test]
    fn the_minimum_counts_from_the_beginning() {
        let seen = [
            (0, Listeners(Closed, None)),
            (1, Open(0)),
            (599, Open(0)),
            (600, Open(0)),
        ];
        insta::assert_snapshot!(transcript(1_000, Some(7), &seen), @r#"
             1 Wait
           599 Wait
           600 End
        after 1s, closed: ""
        "#);
    }

    #[test]
    fn what_holds_it_is_reported_each_time_that_it_has_taken_twice_as_long() {
        let seen = [
            (0, Listeners(Closed, None)),
            (999, Open(1)),
            (1_000, Open(2)),
            (1_015, Open(2)),
            (2_399, Open(2)),
            (2_400, Open(1)),
            (5_199, Open(1)),
            (5_200, Open(1)),
        ];
        insta::assert_snapshot!(transcript(0, None, &seen), @r#"
           999 Wait
          1000 Report("2 connections on listener web")
          1015 Wait
          2399 Wait
          2400 Report("1 connection on listener web")
          5199 Wait
          5200 Report("1 connection on listener web")
        after 5.6s, closed: "1 connection on listener web"
        "#);
    }

    #[test]
    fn a_single_answer_that_is_missing_neither_ends_it_nor_hides_what_holds_it() {
        let seen = [
            (0, Listeners(Closed, None)),
            (1, NoAnswer),
            (15, Open(3)),
            (30, NoAnswer),
        ];
        insta::assert_snapshot!(transcript(0, None, &seen), @r#"
             1 Wait
            15 Wait
            30 Wait
        after 430ms, closed: "3 connections on listener web"
        "#);
    }

    #[test]
    fn what_could_not_be_counted_after_an_empty_count_is_unknown() {
        let seen = [(1, Open(0)), (15, NoAnswer)];
        insta::assert_snapshot!(transcript(0, None, &seen), @r#"
             1 Wait
            15 Wait
        not counted: no answer
        "#);
    }

    #[test]
    fn it_ends_at_once_when_there_is_nothing_more_to_ask() {
        let seen = [(0, Listeners(Closed, None)), (1, Open(3)), (15, Gone)];
        insta::assert_snapshot!(transcript(0, None, &seen), @r#"
             1 Wait
            15 End
        not counted: no answer
        "#);
    }

    #[test]
    fn without_any_count_nothing_is_known() {
        insta::assert_snapshot!(transcript(0, None, &[]), @"the drain took 400ms before the connections that are left could be counted");
    }

    #[test]
    fn what_closes_is_not_looked_at_again() {
        let now = Instant::now();
        let mut wait = DrainWait::new(now, now, Duration::ZERO, Some(counters(7)));
        assert!(wait.must_look_at_listeners());
        // Counters that are missing later prove nothing.
        assert!(wait.needs_counters(Unseen) && !wait.needs_counters(OPEN));
        wait.handle_listeners(Unseen, None, now);
        assert!(wait.must_look_at_listeners());
        wait.handle_listeners(Closed, None, now);
        assert!(!wait.must_look_at_listeners());
        // Closed ones stay closed, whatever a later look makes of them.
        wait.handle_listeners(OPEN, None, now);
        assert!(!wait.must_look_at_listeners());
    }
}
