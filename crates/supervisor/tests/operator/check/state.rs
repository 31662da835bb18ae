//! What the operator shows.

use std::collections::BTreeSet;

use handover_core::{Standing, Urgency};
use handover_supervisor::operator::{AskId, Operator};

use super::{Checker, Violation, ensure};
use crate::trials;

impl<C: Clone + Eq + std::fmt::Debug> Checker<C> {
    /// Compares what the operator shows with what it was told and has said.
    pub(super) fn state(&mut self, operator: &Operator<C>) -> Result<(), Violation> {
        // The end of the agent, a denial and a signal end every probation as well.
        let view = self.view.clone();
        self.trials.see(&view, self.is_ending());
        let tried = self.trials.state();
        tried.or_else(|promise| ensure(false, promise, || format!("{:?}", self.trials)))?;
        let overview = operator.overview();
        ensure(
            operator.examining() == self.trials.open
                && overview.probation.map(|trial| trial.epoch)
                    == trials::tried(&view)
                        .filter(|_| !self.is_ending())
                        .map(|tried| tried.epoch),
            trials::ONE,
            || format!("{:?} and {:?}", overview.probation, self.trials),
        )?;
        if self.ended {
            // Nothing that is under way counts any more.
            (self.read, self.call, self.releasing) = (None, None, None);
            self.look = None;
            self.watched.clear();
        }
        ensure(
            operator.reading() == self.read,
            "a_read_is_pending_at_most_once",
            || format!("{:?} and {:?}", operator.reading(), self.read),
        )?;
        self.order(overview.awaited.is_some())?;
        let open: BTreeSet<AskId> = operator.asks().map(|(ask, _)| ask).collect();
        ensure(open == self.open, "every_ask_is_answered_once", || {
            format!("{open:?} and {:?}", self.open)
        })?;
        ensure(
            operator.calls().next() == self.call,
            "proxy_calls_take_turns",
            || format!("{:?}", self.call),
        )?;
        ensure(
            operator.looking() == self.look,
            "there_is_one_look_at_a_time",
            || format!("{:?} and {:?}", operator.looking(), self.look),
        )?;
        let watched: BTreeSet<AskId> = operator.watched().collect();
        ensure(
            watched == self.watched,
            "clients_are_watched_for_open_asks_only",
            || format!("{watched:?} and {:?}", self.watched),
        )?;
        ensure(
            operator.urgency()
                == self
                    .urgency
                    .or(self.drain_is_held.then_some(Urgency::Drain))
                && operator.is_ending() == self.is_ending()
                && operator.ending().is_some() == self.ended
                && operator.is_ready() == (!self.is_ending() && self.serves()),
            "getters_show_what_was_told",
            || format!("{:?}", operator.overview().urgency),
        )?;
        let verdict = operator.verdict();
        let live = view.live().map(Standing::Live);
        let serves_the_desired = live == Some(view.standing);
        ensure(
            verdict.is_ready() == (!self.is_ending() && self.serves())
                && (!verdict.is_current() || (verdict.is_ready() && serves_the_desired)),
            "a_verdict_claims_what_was_seen",
            || format!("{verdict:?}"),
        )?;
        let (gauges, overview) = (operator.gauges(), operator.overview());
        ensure(
            [operator.is_current(), gauges.current, overview.current] == [verdict.is_current(); 3],
            "what_is_current_is_decided_once",
            || format!("{verdict:?}, {gauges:?}, {:?}", overview.current),
        )?;
        ensure(
            self.finished == self.ended,
            "the_end_comes_once_and_last",
            || "the agent has ended and the operator has not".to_owned(),
        )
    }
}
