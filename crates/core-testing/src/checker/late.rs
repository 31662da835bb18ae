//! What becomes of a start that is not live in time.

use alloc::format;

use handover_core::{Epoch, Timestamp};

use super::record::Watched;
use super::{Checker, due, rules};
use crate::invariant::ensure;
use crate::{Invariant, View, Violation};

impl<C: Clone + Eq> Checker<C> {
    /// A start is called late: its deadline must have passed. It is withdrawn next, unless it was before.
    pub(super) fn start_timed_out(&mut self, epoch: Epoch) -> Result<(), Violation> {
        let span = self.policy.start_deadline;
        let watched = self.running.get(&epoch).filter(|it| it.is_starting());
        let end = watched
            .filter(|it| !it.is_drain() && !it.late)
            .zip(span)
            .map(|(it, span)| it.started.after(span));
        let is_late = end.is_some_and(|end| self.is_due(end));
        let must_be_asked = watched.is_some_and(|it| it.withdrawn.is_none());
        if must_be_asked && rules::has_grace(&self.policy) {
            self.step.asks_late = Some(epoch);
        }
        if let Some(watched) = self.running.get_mut(&epoch) {
            watched.late = true;
        }
        self.gave_way = 0;
        ensure(is_late, Invariant::LooksBeforeLateDeadlines, || {
            format!("{epoch} is called late, deadline: {end:?}")
        })
    }

    /// Whether an epoch that was withdrawn then has had the grace to answer in.
    pub(super) fn has_had_time_to_answer(&self, asked: Option<Timestamp>) -> bool {
        let grace = self.policy.abort_grace;
        !rules::has_grace(&self.policy) || asked.is_some_and(|at| self.is_due(at.after(grace)))
    }

    /// A start that is late was asked, and has a deadline to answer by.
    pub(super) fn check_late_starts(
        &self,
        after: &View<C>,
        is_timeout: bool,
    ) -> Result<(), Violation> {
        let name = Invariant::LateStartsMayAnswer;
        ensure(self.step.asks_late.is_none(), name, || {
            format!("{:?} is late and was not asked", self.step.asks_late)
        })?;
        let is_awaited = |it: &&Watched<C>| it.late && it.is_starting();
        for watched in self.running.values().filter(is_awaited) {
            let asked = watched.withdrawn.unwrap_or(watched.started);
            let end = due(asked.after(self.policy.abort_grace), self.woke);
            let has_deadline = after.deadline.is_some_and(|next| next.at <= end);
            ensure(
                has_deadline && (!is_timeout || end > self.now),
                name,
                || format!("a late start has no deadline by {end}"),
            )?;
        }
        Ok(())
    }
}
