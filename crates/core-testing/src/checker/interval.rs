//! How far changes are apart.

use handover_core::Timestamp;

use super::record::Stage;
use super::{Checker, due};

impl<C: Clone + Eq> Checker<C> {
    /// When the next change may be started, by the last one.
    pub(super) fn end_of_interval(&self) -> Option<Timestamp> {
        Some(self.last_change?.after(self.policy.min_interval?))
    }

    /// The same, if a change may wait for that: one that nobody has tried.
    pub(super) fn interval_that_waits(&self) -> Option<Timestamp> {
        let desired = self.desired.as_ref()?;
        let is_new = desired.untried && desired.stage == Stage::Due;
        self.end_of_interval().filter(|_| is_new)
    }

    /// When the change is handled that waits for the time between two of them, if that is what it waits for.
    pub(super) fn held_by_interval(&self) -> Option<Timestamp> {
        let end = self.interval_that_waits()?;
        self.is_served_well().then(|| due(end, self.woke))
    }

    /// What is asked for now does not wait for a time that is over.
    pub(super) fn forget_interval_that_is_over(&mut self) {
        if self.end_of_interval().is_some_and(|end| end <= self.now) {
            self.last_change = None;
        }
    }
}
