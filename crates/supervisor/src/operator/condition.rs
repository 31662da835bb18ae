//! Clients that wait until something is so.

use handover_core::Epoch;

use super::{AskState, Condition, OpenAsk, Operator, Refusal, Reply};

impl OpenAsk {
    /// Whether it waits until clients can connect.
    pub(super) fn needs_a_look(&self) -> bool {
        matches!(
            self.state,
            AskState::Condition(Condition::Ready | Condition::Current, _)
        )
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Rule: who waits is answered as soon as it is so, however that has come about.
    ///
    /// An end that somebody has asked for is an answer at once: nothing will be so any more. An end by
    /// itself is awaited, because its reason is what the client needs.
    pub(super) fn answer_conditions(&mut self) {
        let was_asked_to_end = self.urgency.is_some() && self.fault.is_none();
        let is_ending = self.is_ending();
        let (live, ready, current) = (self.agent.live(), self.ready_epoch(), self.current_epoch());
        let looks = self.looks.clone();
        self.answer_each(|ask| {
            let AskState::Condition(condition, look) = ask.state else {
                return None;
            };
            if was_asked_to_end {
                return Some(Err(Refusal::Ending));
            }
            let was_seen = looks.are_current_since(look);
            let epoch = match condition {
                _ if is_ending => None,
                Condition::Live => live,
                Condition::Ready => ready.filter(|_| was_seen),
                Condition::Current => current.filter(|_| was_seen),
            };
            epoch.map(|epoch| Ok(Reply::Reached(epoch)))
        });
    }

    fn ready_epoch(&self) -> Option<Epoch> {
        self.agent.live().filter(|_| self.is_ready())
    }

    /// Rule: a read or a change that is under way may ask for something else, so nothing is current
    /// meanwhile.
    fn current_epoch(&self) -> Option<Epoch> {
        let is_quiet = self.read.is_none() && self.change.is_none();
        let ready = self.ready_epoch();
        ready.filter(|epoch| is_quiet && self.is_asked_for(*epoch))
    }
}
