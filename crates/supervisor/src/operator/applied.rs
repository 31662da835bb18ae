//! Configurations that clients give: which one is read, and when it is kept.
//!
//! ```text
//!   Apply          ReadDone(Ok)          Live                  off probation          Kept(Ok)
//!   ─────▶ offered ────────────▶ desired ────▶ live, not kept ───────────────▶ Keep ──────────▶ kept
//!             │ ReadDone(Err)       │ given up       │ unfit                     │ Kept(Err)
//!             ▼                     ▼                ▼                           ▼
//!          dropped               dropped          dropped                     live, not kept
//! ```
//!
//! A configuration that is dropped leaves no trace: the one before is read again. So a restart, which begins
//! with the kept one, never begins with one that was rejected.
//!
//! A client that waits is answered once its configuration is kept. One whose configuration is on probation is
//! answered before, because a probation is long: that answer says that it is not kept yet. The first
//! configuration of all is kept on probation as well, since anything that is live is better than nothing.

use handover_core::{Epoch, Standing};

use super::{
    AskId, AskState, Event, Ignored, Next, OpenAsk, Operator, Output, ReadFailure, Reception,
    Refusal, Reply, Report,
};

/// Whether clients give the configuration.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Applies {
    /// The configuration is in files, and none is taken from clients.
    #[default]
    Never,
    /// Clients give it.
    FromClients {
        /// Whether one is kept from before, which can be read.
        kept: bool,
    },
}

/// The configurations of clients that are not kept yet, by the asks that gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Applied {
    /// The newest one, until its read is done.
    offered: Option<AskId>,
    /// The one that is desired, until it is live.
    desired: Option<AskId>,
    /// The one that is live, until it is kept.
    live: Option<AskId>,
    /// The one that is being kept.
    keeping: Option<AskId>,
    /// The one that could not be kept, until the agent changes.
    refused: Option<AskId>,
    /// The one that was kept last.
    kept: Option<AskId>,
}

impl Applied {
    /// The one that a read reads; none for the one that is kept.
    pub(super) fn to_read(&self) -> Option<AskId> {
        self.offered.or(self.desired).or(self.live)
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Rule: of two that are given at once, the newer one wins.
    pub(super) fn apply(&mut self, ask: OpenAsk) {
        if let Some(older) = self.applied.offered.replace(ask.id) {
            self.answer_reader(older, &Refusal::Replaced);
        }
        self.asks.push(ask);
        self.read(Next::IfDifferent, false);
    }

    /// Returns whether nothing is started because no client has given a configuration.
    pub(super) fn awaits_configuration(&self) -> bool {
        self.has_nothing_to_read() && self.wanted.is_none()
    }

    /// Returns whether no configuration was given yet that could be read.
    pub(super) fn has_nothing_to_read(&self) -> bool {
        !self.has_kept() && self.applied.to_read().is_none()
    }

    /// Returns whether there is a configuration that no client has yet to give.
    fn has_kept(&self) -> bool {
        match self.settings.applies {
            Applies::Never => true,
            Applies::FromClients { kept } => kept || self.applied.kept.is_some(),
        }
    }

    /// Returns the asks whose configurations may still be needed.
    pub fn applied(&self) -> impl Iterator<Item = AskId> {
        let applied = &self.applied;
        let needed = [
            applied.offered,
            applied.desired,
            applied.live,
            applied.keeping,
        ];
        needed.into_iter().flatten()
    }

    /// Notes that what was offered is what is desired.
    pub(super) fn has_read_applied(&mut self) {
        if let Some(offered) = self.applied.offered.take() {
            self.applied.desired = Some(offered);
        }
    }

    /// Rule: what was offered and cannot be used changes nothing, not even the first read. What was due beside
    /// it is still due, so the one before is read.
    ///
    /// Returns a failure that has nothing to do with what was offered.
    pub(super) fn drop_offered(&mut self, failure: ReadFailure) -> Option<ReadFailure> {
        let Some(offered) = self.applied.offered.take() else {
            return Some(failure);
        };
        self.answer_reader(offered, &Refusal::NotRead(failure.report.clone()));
        if self.wanted.is_some() {
            self.event(Event::NotRead(failure));
        }
        self.read_the_one_before();
        None
    }

    /// Notes that what is desired is live.
    pub(super) fn applied_is_live(&mut self) {
        if let Some(desired) = self.applied.desired.take() {
            self.applied.live = Some(desired);
        }
        self.applied.refused = None;
    }

    /// Lets what could not be kept be tried again.
    pub(super) fn keep_again(&mut self) {
        self.applied.refused = None;
    }

    /// Drops what was desired and given up.
    pub(super) fn applied_is_given_up(&mut self) {
        if self.applied.desired.take().is_some() {
            self.read_the_one_before();
        }
    }

    fn read_the_one_before(&mut self) {
        if !self.is_ending() {
            self.read(Next::IfDifferent, false);
        }
    }

    /// Rule: what is live is kept once it is not on probation, or if nothing is kept. What turns out unfit is
    /// dropped.
    ///
    /// While a read or a change is under way, the state of the agent may be about another configuration. After a
    /// read that has failed, what was given up may be another one as well.
    pub(super) fn keep_what_is_live(&mut self) {
        let is_quiet = self.read.is_none() && self.change.is_none() && !self.is_ending();
        if let Some(live) = self.applied.live.filter(|_| is_quiet) {
            match self.agent.standing {
                Standing::Live(epoch) if self.is_unfit(epoch) => self.applied_is_unfit(live, epoch),
                Standing::Live(epoch) if self.has_kept() && self.is_on_probation(epoch) => {}
                Standing::Live(_) => self.keep(live),
                Standing::GivenUp(epoch) if self.problem.is_none() => {
                    self.applied_is_unfit(live, epoch);
                }
                Standing::Nothing
                | Standing::Pending(_)
                | Standing::GivenUp(_)
                | Standing::NotRestarted
                | Standing::Ending => {}
            }
        }
        self.answer_keepers();
    }

    fn keep(&mut self, live: AskId) {
        if self.applied.keeping.is_none() && self.applied.refused != Some(live) {
            self.applied.keeping = Some(live);
            self.outputs.push_back(Output::Keep(live));
        }
    }

    fn applied_is_unfit(&mut self, live: AskId, epoch: Epoch) {
        self.applied.live = None;
        let report = self.trials.evidence(epoch);
        self.answer_each(|ask| {
            let keeps = ask.id == live && matches!(ask.state, AskState::Keep { .. });
            let report = report.clone();
            keeps.then_some(Err(Refusal::GivenUp { epoch, report }))
        });
        self.read_the_one_before();
    }

    /// Rule: a configuration that cannot be kept serves on, and its client hears why. It is tried again when
    /// the agent changes.
    pub(super) fn kept(&mut self, id: AskId, result: Result<(), Report>) -> Reception {
        if self.applied.keeping.take_if(|open| *open == id).is_none() {
            return Reception::Ignored(Ignored::Stale);
        }
        match result {
            Ok(()) => {
                self.applied.kept = Some(id);
                self.applied.live.take_if(|live| *live == id);
            }
            Err(report) => {
                self.applied.refused = Some(id);
                self.answer_each(|ask| {
                    let keeps = ask.id == id && matches!(ask.state, AskState::Keep { .. });
                    keeps.then_some(Err(Refusal::NotKept(report.clone())))
                });
            }
        }
        Reception::Accepted
    }

    /// Answers those whose configuration is live, and kept or not to be kept soon.
    fn answer_keepers(&mut self) {
        let applied = self.applied.clone();
        let on_probation = self.has_kept() && self.live_is_on_probation();
        let is_ending = self.is_ending();
        self.answer_each(|ask| {
            let AskState::Keep { epoch, started, .. } = ask.state else {
                return None;
            };
            let is_live = applied.live == Some(ask.id);
            if applied.keeping == Some(ask.id) {
                return None;
            }
            if is_live && is_ending {
                return Some(Err(Refusal::Ending));
            }
            let waits = is_live && !on_probation;
            (!waits).then_some(Ok(Reply::Applied {
                epoch,
                started,
                kept: !is_live && applied.kept == Some(ask.id),
            }))
        });
    }

    /// Lets the asks of those that gave what is live wait until it is kept, of the asks that are in this state.
    ///
    /// Returns whether there are any.
    pub(super) fn keep_before_the_answer(
        &mut self,
        epoch: Epoch,
        concerns: impl Fn(&AskState) -> bool,
    ) -> bool {
        let mut any = false;
        let asks = self.asks.iter_mut().filter(|ask| ask.applies);
        for ask in asks.filter(|ask| ask.wait.waits() && concerns(&ask.state)) {
            if let AskState::Change(followed) | AskState::Probation(followed) = &ask.state {
                let started = followed.has_started();
                ask.state = AskState::Keep { epoch, started };
                any = true;
            }
        }
        any
    }

    fn live_is_on_probation(&self) -> bool {
        match self.agent.standing {
            Standing::Live(epoch) => self.is_on_probation(epoch),
            Standing::Nothing
            | Standing::Pending(_)
            | Standing::GivenUp(_)
            | Standing::NotRestarted
            | Standing::Ending => false,
        }
    }

    fn is_on_probation(&self, epoch: Epoch) -> bool {
        let mut views = self.agent.epochs.iter();
        views.any(|view| view.epoch == epoch && view.on_probation)
    }

    fn is_unfit(&self, epoch: Epoch) -> bool {
        let mut views = self.agent.epochs.iter();
        views.any(|view| view.epoch == epoch && view.unfit)
    }

    fn answer_reader(&mut self, id: AskId, refusal: &Refusal) {
        self.answer_each(|ask| {
            let reads = ask.id == id && matches!(ask.state, AskState::Read { .. });
            reads.then(|| Err(refusal.clone()))
        });
    }
}
