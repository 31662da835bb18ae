//! When a start makes room for a newer desire.

use alloc::format;

use handover_core::{Epoch, Phase};

use super::record::{Stage, Watched};
use super::{Checker, due, rules};
use crate::invariant::ensure;
use crate::{Invariant, View, Violation};

impl<C: Clone + Eq> Checker<C> {
    /// The newest epoch, if it starts and a configuration waits for it that nobody has tried yet.
    fn awaited_start(&self) -> Option<(Epoch, &Watched<C>)> {
        let (epoch, newest) = self.running.last_key_value()?;
        let all_run_on = self.running.values().all(|it| it.aborted.is_none());
        let desired = self.desired.as_ref()?;
        let is_untried = desired.used == 0 && matches!(desired.stage, Stage::Due | Stage::Started);
        let waits = newest.is_starting()
            && !newest.is_drain()
            && newest.withdrawn.is_none()
            && !self.is_desired(newest);
        (self.urgency.is_none() && all_run_on && is_untried && waits).then_some((*epoch, newest))
    }

    /// A start is called one that gives way: it must be old enough, and something must wait for it.
    pub(super) fn gives_way(&mut self, epoch: Epoch) -> Result<(), Violation> {
        let let_be = rules::let_be(&self.policy, self.gave_way);
        // What waits for the change before it does not wait for a start, until that time is over.
        let is_free = self.held_by_interval().is_none_or(|end| end <= self.now);
        let awaited = self
            .awaited_start()
            .filter(|(it, _)| *it == epoch && is_free);
        let end = awaited
            .zip(let_be)
            .map(|((_, it), let_be)| it.started.after(let_be));
        self.gave_way = rules::one_more(self.gave_way);
        let before = self.step.gives_way.replace(epoch);
        ensure(
            before.is_none() && end.is_some_and(|end| end <= self.now),
            Invariant::GivesWayToANewerDesire,
            || format!("{epoch} gives way, due: {end:?}"),
        )
    }

    /// A start that something waits for gives way, and has a deadline until then.
    pub(super) fn check_giving_way(
        &self,
        after: &View<C>,
        is_timeout: bool,
    ) -> Result<(), Violation> {
        let name = Invariant::GivesWayToANewerDesire;
        ensure(self.step.gives_way.is_none(), name, || {
            format!("{:?} gives way and goes on", self.step.gives_way)
        })?;
        let let_be = rules::let_be(&self.policy, self.gave_way);
        let Some(((epoch, start), let_be)) = self.awaited_start().zip(let_be) else {
            return Ok(());
        };
        if after.phase != Phase::Running || self.held_by_interval().is_some() {
            return Ok(());
        }
        let end = due(start.started.after(let_be), self.woke);
        let has_deadline = after.deadline.is_some_and(|next| next.at <= end);
        ensure(has_deadline, name, || {
            format!("{epoch} has no deadline by {end}")
        })?;
        ensure(!is_timeout || end > self.now, name, || {
            format!("{epoch} does not give way, due: {end}")
        })
    }
}
