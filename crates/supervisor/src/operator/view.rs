//! What an operator shows of itself. Nothing here changes it.

use handover_core::{Epoch, Standing, Urgency};

use super::{
    AskId, AskState, CallId, ChangeId, Ending, ExaminationId, LookId, Operator, Overview, ReadId,
    WaitedFor,
};

/// The state of an operator in a few words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gauges {
    /// Whether an epoch serves; see [`Operator::is_ready`].
    pub ready: bool,
    /// Whether what serves is what the files ask for; see [`Operator::is_current`].
    pub current: bool,
    /// Whether the end has begun.
    pub ending: bool,
    /// Whether what is desired only stands in for what the files ask for.
    pub stands_in: bool,
    /// Whether the last read has failed.
    pub problem: bool,
    /// Whether an epoch was found unfit, until what is desired has passed its probation.
    pub unfit: bool,
}

impl<C: Clone + Eq> Operator<C> {
    /// Returns whether an epoch is live, and a look has found nothing that keeps clients out. Sockets
    /// that cannot be seen do not.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_ending() && self.agent.live().is_some() && self.looks.let_clients_in()
    }

    /// Returns whether what serves is what the files ask for, as the [verdict](Self::verdict) says.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.verdict().is_current()
    }

    /// Returns whether what is desired only stands in for what the files ask for.
    pub(super) fn stands_in(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.stands_in)
    }

    /// Returns whether this epoch runs with what the files asked for when they were read last. A change that
    /// the agent has yet to take in counts for nothing here, and before the first read nothing was asked for.
    pub(super) fn is_asked_for(&self, live: Epoch) -> bool {
        let wanted = self.wanted.as_ref();
        let was_read = wanted.is_some_and(|wanted| !wanted.stands_in);
        self.problem.is_none() && was_read && self.agent.standing == Standing::Live(live)
    }

    /// Returns the state of the operator in a few words.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            ready: self.is_ready(),
            current: self.is_current(),
            ending: self.is_ending(),
            stands_in: self.stands_in(),
            problem: self.problem.is_some(),
            unfit: self.trials.unfit().is_some(),
        }
    }

    /// Returns whether the end has begun.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.urgency.is_some() || self.denied || self.agent.is_ending() || self.ended.is_some()
    }

    /// Returns how everything has ended, once it has.
    #[must_use]
    pub fn ending(&self) -> Option<&Ending> {
        self.ended.as_ref()
    }

    /// Returns how urgently the agent was told to end, if it was.
    #[must_use]
    pub fn urgency(&self) -> Option<Urgency> {
        self.urgency
    }

    /// Returns the read that is under way.
    #[must_use]
    pub fn reading(&self) -> Option<ReadId> {
        Some(self.read?.id)
    }

    /// Returns the newest change, while it is not settled.
    #[must_use]
    pub fn changing(&self) -> Option<ChangeId> {
        Some(self.change?.id)
    }

    /// Returns the look at the processes that is under way.
    #[must_use]
    pub fn looking(&self) -> Option<LookId> {
        self.looks.open()
    }

    /// Returns the look at an epoch on probation, or at what serves, that is under way.
    #[must_use]
    pub fn examining(&self) -> Option<ExaminationId> {
        self.trials.open()
    }

    /// Returns the calls to the proxy: the one that is under way, then those that wait for their turn.
    pub fn calls(&self) -> impl Iterator<Item = CallId> {
        self.calls.iter().map(super::calls::QueuedCall::id)
    }

    /// Returns the asks that were not answered yet, oldest first, and what each waits for.
    pub fn asks(&self) -> impl Iterator<Item = (AskId, WaitedFor)> {
        self.asks.iter().map(|ask| (ask.id, ask.waited_for()))
    }

    /// Returns the asks whose clients are being waited for.
    pub fn watched(&self) -> impl Iterator<Item = AskId> {
        let asks = self.asks.iter();
        let watched = asks.filter(|ask| matches!(ask.state, AskState::Clients(_)));
        watched.map(|ask| ask.id)
    }

    /// Returns the state of the operator, as it answers to a status.
    #[must_use]
    pub fn overview(&self) -> Overview<C> {
        let wanted = self.wanted.as_ref();
        Overview {
            desired: wanted.map(|wanted| wanted.reading.config.clone()),
            awaited: self.awaited(),
            awaits_configuration: self.awaits_configuration(),
            stands_in: self.stands_in(),
            problem: self.problem.as_ref().map(|report| report.message.clone()),
            ready: self.is_ready(),
            current: self.is_current(),
            listening: self.looks.listening(),
            urgency: self.urgency,
            probation: self.trials.probation(),
            unfit: self.trials.unfit().cloned(),
        }
    }
}
