//! What is started next, or why nothing is.

use super::pursuit::{NO_DESIRE, Stage};
use super::slot::{Slot, State};
use super::{Machine, Phase};
use crate::policy::waits_for_live;
use crate::{Epoch, Event, GaveUp, Held, Outcome, Output, Purpose, Target};

/// What there is to do.
pub(super) enum Plan {
    /// What is desired is current, or nothing is desired.
    Nothing,
    /// Something is to be started, but not yet.
    Hold(Held),
    /// This epoch is to be started.
    Start(Purpose, Epoch),
    /// The desired configuration was given up, and what was held instead is gone.
    GiveUp(Epoch, GaveUp),
    /// The drain is over, or there can be none, and the machine is to end in this way.
    Stop(Outcome),
}

impl<C: Clone + Eq> Machine<C> {
    /// Starts what is to be started, or says why it is held.
    pub(super) fn reconcile(&mut self) {
        match self.plan() {
            Plan::Nothing => self.reported = None,
            Plan::Hold(held) => {
                self.report(held);
                self.give_way_if_due();
            }
            Plan::Start(purpose, epoch) => self.start(purpose, epoch),
            Plan::GiveUp(epoch, why) => self.give_up_and_stop(epoch, why),
            Plan::Stop(outcome) => self.stop(outcome),
        }
    }

    pub(super) fn why_held(&self) -> Option<Held> {
        match self.plan() {
            Plan::Hold(held) => Some(held),
            Plan::Nothing | Plan::Start(..) | Plan::GiveUp(..) | Plan::Stop(_) => None,
        }
    }

    fn plan(&self) -> Plan {
        match self.phase {
            Phase::Running => self.plan_to_serve(),
            Phase::Draining {
                epoch: Some(drain), ..
            } => self.plan_while_draining(drain),
            Phase::Draining { epoch: None, .. } => self.plan_to_drain(),
            Phase::Stopping(_) | Phase::Finished(_) => Plan::Nothing,
        }
    }

    pub(super) fn plan_to_serve(&self) -> Plan {
        let Some(desired) = &self.desired else {
            return Plan::Nothing;
        };
        if self
            .current_slot()
            .is_some_and(|slot| self.runs_desired(slot))
        {
            return Plan::Nothing;
        }
        let purpose = match desired.stage {
            Stage::Ready => Ok(Purpose::Desired),
            Stage::Waiting(at) => Err(Plan::Hold(Held::Retry(self.due(at)))),
            Stage::GivenUp { .. } if self.is_serving() => Err(Plan::Hold(Held::GivenUp)),
            // Unless there is a fallback, which comes first.
            Stage::GivenUp { epoch, why } => Err(Plan::GiveUp(epoch, why)),
            Stage::NotRestarted => Err(Plan::Hold(Held::NotRestarted)),
        };
        // The fallback is started only while nothing serves, or what serves is unfit, and the desired
        // configuration, which always comes first, may not be started.
        let purpose = match (purpose, &self.fallback) {
            (Ok(purpose), _) => purpose,
            (Err(otherwise), Some(fallback)) if !self.is_served_well() => match fallback.stage {
                Stage::Waiting(at) => {
                    let at = self.due(at);
                    let retry = desired.stage.waits_until().map(|at| self.due(at));
                    let at = retry.map_or(at, |retry| retry.min(at));
                    return self
                        .obstacle()
                        .map_or(Plan::Hold(Held::Retry(at)), Plan::Hold);
                }
                Stage::Ready => Purpose::Fallback,
                Stage::GivenUp { .. } | Stage::NotRestarted => return otherwise,
            },
            (Err(otherwise), _) => return otherwise,
        };
        if purpose == Purpose::Desired
            && let Some(at) = self.held_by_interval()
        {
            return Plan::Hold(Held::Interval(at));
        }
        if let Some(held) = self.obstacle() {
            return Plan::Hold(held);
        }
        let running = self.counted_epochs();
        if self.is_at_cap(running) && !self.has_unfit() {
            return Plan::Hold(Held::Cap { running });
        }
        match self.next_epoch() {
            Some(epoch) => Plan::Start(purpose, epoch),
            None => Plan::Hold(Held::NumbersUsedUp),
        }
    }

    fn plan_to_drain(&self) -> Plan {
        if !self.has_something_to_drain() {
            // A start that was withdrawn may yet turn out to serve.
            return match self.slots.iter().find(|slot| self.may_answer(slot)) {
                Some(slot) => Plan::Hold(Held::Starting(slot.epoch)),
                None => Plan::Stop(self.outcome_of_drain()),
            };
        }
        if let Some(held) = self.obstacle() {
            return Plan::Hold(held);
        }
        match self.next_epoch() {
            Some(epoch) => Plan::Start(Purpose::Drain, epoch),
            // To wait for a number would be to wait for an exit that nobody asks for.
            None => Plan::Stop(Outcome::DrainSkipped),
        }
    }

    /// Whether any epoch may have connections. Where nothing waits for live, a start is taken for
    /// serving.
    pub(super) fn has_something_to_drain(&self) -> bool {
        self.slots.iter().any(|slot| self.holds_clients(slot))
    }

    /// Whether the epoch's start was withdrawn and it has time to answer.
    fn may_answer(&self, slot: &Slot<C>) -> bool {
        slot.withdrawn().is_some() && !self.policy.abort_grace.is_zero()
    }

    /// The drain is over when the epoch that drains has returned or is the only one left.
    fn plan_while_draining(&self, drain: Epoch) -> Plan {
        let running = self.slots.iter().any(|slot| slot.epoch == drain);
        if running && self.slots.len() > 1 {
            Plan::Nothing
        } else {
            Plan::Stop(self.outcome_of_drain())
        }
    }

    pub(super) fn outcome_of_drain(&self) -> Outcome {
        if self.drain_failed {
            Outcome::DrainFailed
        } else {
            Outcome::Drained
        }
    }

    /// Whether clients may be connected to the epoch. Where nothing waits for live, a start is taken
    /// for serving.
    pub(super) fn holds_clients(&self, slot: &Slot<C>) -> bool {
        let started_serves = !waits_for_live(&self.policy) && !slot.is_drain();
        slot.is_live() || slot.is_draining() || (started_serves && slot.is_starting())
    }

    /// Rule: 1 + the highest epoch that runs, or 0 if none runs.
    fn next_epoch(&self) -> Option<Epoch> {
        self.slots
            .last()
            .map_or(Some(Epoch::ZERO), |newest| newest.epoch.next())
    }

    /// An epoch that must be out of the way before any other may be started.
    fn obstacle(&self) -> Option<Held> {
        if let Some(slot) = self.slots.iter().find(|slot| slot.is_aborting()) {
            return Some(Held::Aborting(slot.epoch));
        }
        let newest = self.slots.last()?;
        (waits_for_live(&self.policy) && newest.is_starting())
            .then_some(Held::Starting(newest.epoch))
    }

    fn is_at_cap(&self, running: u32) -> bool {
        self.policy.max_epochs.is_some_and(|max| running >= max)
    }

    /// Rule: what serves badly is replaced at once, whatever the cap is. To wait for the end of another
    /// epoch would cost more than the connections of that one.
    fn has_unfit(&self) -> bool {
        self.slots.iter().any(Slot::is_unfit)
    }

    fn counted_epochs(&self) -> u32 {
        let counted = self.slots.iter().filter(|slot| !slot.is_released()).count();
        u32::try_from(counted).unwrap_or(u32::MAX)
    }

    fn start(&mut self, purpose: Purpose, epoch: Epoch) {
        let running = self.counted_epochs();
        let beyond_cap = purpose != Purpose::Drain && self.is_at_cap(running);
        self.note_start_for_a_change(purpose);
        let (config, generation) = match purpose {
            Purpose::Desired | Purpose::Fallback => {
                let pursuit = if purpose == Purpose::Desired {
                    &self.desired
                } else {
                    &self.fallback
                };
                let Some(pursuit) = pursuit else { return };
                for older in &mut self.slots {
                    older.contested |= older.is_starting() || older.is_live();
                }
                (Some(pursuit.config.clone()), pursuit.generation)
            }
            Purpose::Drain => {
                if let Phase::Draining { epoch: drain, .. } = &mut self.phase {
                    *drain = Some(epoch);
                }
                (None, NO_DESIRE)
            }
        };
        let target = config.clone().map_or(Target::Drain, Target::Serve);
        self.slots.push(Slot {
            epoch,
            purpose,
            generation,
            config,
            outdated: false,
            started: self.now,
            contested: false,
            state: State::Starting {
                withdrawn: None,
                late: false,
            },
        });
        self.reported = None;
        self.outputs.push_back(Output::Start { epoch, target });
        self.event(Event::Started { epoch, purpose });
        if beyond_cap {
            self.event(Event::BeyondCap { epoch, running });
        }
    }

    /// Says once why what is desired is held. A retry, giving up and a clean exit have events of
    /// their own.
    fn report(&mut self, held: Held) {
        let has_own_event = match held {
            Held::Retry(_) | Held::GivenUp | Held::NotRestarted => true,
            Held::Starting(_)
            | Held::Aborting(_)
            | Held::Cap { .. }
            | Held::Interval(_)
            | Held::NumbersUsedUp => false,
        };
        if self.reported != Some(held) {
            self.reported = Some(held);
            if !has_own_event {
                self.event(Event::Held(held));
            }
        }
    }
}
