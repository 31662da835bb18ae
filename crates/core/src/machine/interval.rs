//! The shortest time between two starts that changes lead to.

use super::pursuit::{Pursuit, Stage};
use super::{Machine, Phase};
use crate::{Deadline, DeadlineReason, Purpose, Timestamp};

impl<C: Clone + Eq> Machine<C> {
    /// Returns when the time since the last change is over.
    fn end_of_interval(&self) -> Option<Timestamp> {
        let last_change = self.last_change?;
        Some(last_change.after(self.policy.min_interval?))
    }

    /// Returns the deadline at which a change that nobody has tried may be started, while it waits for that.
    pub(super) fn interval(&self) -> Option<Deadline> {
        let is_new = |it: &Pursuit<C>| it.stage == Stage::Ready && !it.tried;
        if self.phase != Phase::Running || !self.desired.as_ref().is_some_and(is_new) {
            return None;
        }
        Some(Deadline {
            at: self.end_of_interval()?,
            reason: DeadlineReason::Interval,
        })
    }

    /// Returns the moment until which the desired configuration is held for the time between two changes.
    ///
    /// Rule: a change waits only while it costs nothing. Where nothing serves, or what serves is unfit, to
    /// wait would be the outage that the change may end.
    pub(super) fn held_by_interval(&self) -> Option<Timestamp> {
        let deadline = self.interval()?;
        self.is_served_well().then(|| self.due(deadline.at))
    }

    /// Rule: what a change has started beside an epoch that serves begins the time anew. It must be called
    /// before the start.
    pub(super) fn note_start_for_a_change(&mut self, purpose: Purpose) {
        if purpose != Purpose::Desired {
            return;
        }
        let counts = self.policy.min_interval.is_some() && self.is_served_well();
        if let Some(desired) = &mut self.desired
            && !core::mem::replace(&mut desired.tried, true)
            && counts
        {
            self.last_change = Some(self.now);
        }
    }

    /// Rule: a time that is over holds nothing that is asked for later, even if its deadline was missed.
    pub(super) fn forget_interval_that_is_over(&mut self) {
        if self.end_of_interval().is_some_and(|at| at <= self.now) {
            self.last_change = None;
        }
    }

    /// Returns the last change if it may hold anything from this moment on.
    pub(super) fn last_change_that_matters(&self, now: Timestamp) -> Option<Timestamp> {
        let may_hold =
            self.end_of_interval().is_some_and(|at| at > now) || self.interval().is_some();
        self.last_change
            .filter(|_| may_hold && self.phase == Phase::Running)
    }
}
