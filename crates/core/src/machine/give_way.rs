//! A start that waits gives way to a newer desire.

use core::time::Duration;

use super::pursuit::Stage;
use super::reconcile::Plan;
use super::slot::{Slot, State};
use super::{Machine, Phase};
use crate::policy::waits_for_live;
use crate::{Deadline, DeadlineReason, Event, Held, Output, Timestamp};

/// The most starts in a row that are counted, so that the time doubles no further.
const MOST_DOUBLINGS: u32 = 5;

impl<C: Clone + Eq> Machine<C> {
    /// Returns when the start that holds the desired configuration back gives way to it.
    ///
    /// Rule: a start gives way to a desire that is newer. So the desired configuration must not have
    /// failed since it was asked for: its retry is no newer desire, and what starts in its place
    /// meanwhile is the fallback.
    pub(super) fn giving_way(&self) -> Option<Deadline> {
        let span = self.time_before_giving_way()?;
        let newest = self.slots.last().filter(|slot| slot.is_starting())?;
        let desired = self.desired.as_ref()?;
        if newest.withdrawn().is_some()
            || desired.stage != Stage::Ready
            || desired.budget.used() > 0
        {
            return None;
        }
        let holds_it_back = matches!(
            self.plan_to_serve(),
            Plan::Hold(Held::Starting(epoch)) if epoch == newest.epoch
        );
        holds_it_back.then(|| Deadline {
            at: newest.started.after(span),
            reason: DeadlineReason::GiveWay(newest.epoch),
        })
    }

    /// Returns how long a start is let be.
    ///
    /// Rule: the time doubles with each start in a row that gave way. Otherwise a start that takes
    /// longer would never come to an end while changes come more often than that. A start that would
    /// be let be until its deadline is left to it.
    fn time_before_giving_way(&self) -> Option<Duration> {
        if self.phase != Phase::Running || !waits_for_live(&self.policy) {
            return None;
        }
        let first = self.policy.give_way_after?;
        let times = 1_u32.checked_shl(self.gave_way).unwrap_or(u32::MAX);
        let span = first.saturating_mul(times);
        let deadline = self.policy.start_deadline;
        deadline
            .is_none_or(|deadline| span < deadline)
            .then_some(span)
    }

    /// Withdraws the start that is to give way by now. It may be older than that already when the
    /// desire comes, and then nothing is put off: what the driver has missed, the proxy knows.
    ///
    /// Only the proxy can tell whether the epoch has taken its listeners over. If it has, it goes
    /// on, and the desire waits.
    pub(super) fn give_way_if_due(&mut self) {
        let due = self.giving_way().filter(|it| it.at <= self.now);
        let Some(DeadlineReason::GiveWay(epoch)) = due.map(|it| it.reason) else {
            return;
        };
        let now = self.now;
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.epoch == epoch) else {
            return;
        };
        slot.state = State::Starting {
            withdrawn: Some(now),
            late: false,
        };
        let after = now.since(slot.started);
        self.gave_way = self.gave_way.saturating_add(1).min(MOST_DOUBLINGS);
        self.event(Event::GivesWay { epoch, after });
        self.outputs.push_back(Output::Withdraw(epoch));
    }

    /// Returns a moment of the start that leads to the same: one that is old enough to give way at
    /// once, whatever is asked for next, need not be older. `None` is for a start whose age does not
    /// matter here.
    pub(super) fn start_that_matters(&self, slot: &Slot<C>, now: Timestamp) -> Option<Timestamp> {
        let span = self.time_before_giving_way()?;
        if !slot.is_starting() || slot.withdrawn().is_some() {
            return None;
        }
        let is_held_by = self.giving_way().is_some();
        if is_held_by || self.policy.start_deadline.is_some() {
            return Some(slot.started);
        }
        let oldest = Timestamp::new(now.elapsed().saturating_sub(span));
        Some(slot.started.max(oldest))
    }
}
