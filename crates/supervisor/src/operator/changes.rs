//! From a change to the answers: what the agent makes of it, and when its start is hurried.

use alloc::vec::Vec;

use handover_core::{Epoch, Held, Standing};

use super::{
    AgentView, AskState, ChangeId, Event, Ignored, Operator, Output, Progress, Reception, Refusal,
    Released, Reply, Settlement, TakenIn,
};

/// The newest change, while it is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct OpenChange {
    pub(super) id: ChangeId,
    /// Whether the agent has taken it in, so that the state it shows is about it.
    pub(super) taken_in: bool,
    /// Whether a start of it has failed, and is due again, or waits for the shortest time between two changes.
    #[serde(default)]
    pub(super) waits_for_a_retry: bool,
}

/// A change that an ask follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Followed {
    pub(super) change: ChangeId,
    pub(super) changed: bool,
    /// What the ask is answered if it does not wait until the change is live.
    taken_in: Progress,
    /// Whether epochs that hold its start are still being released.
    hurries: bool,
    released: Vec<Released>,
}

/// An epoch that is being released from the cap, until the agent shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Releasing {
    epoch: Epoch,
    /// Whether the driver has done it.
    reported: bool,
}

impl Followed {
    /// Whether the agent had to start an epoch for it.
    pub(super) fn has_started(&self) -> bool {
        self.taken_in != Progress::Unchanged
    }

    pub(super) fn reply<C>(&self, progress: Progress) -> Reply<C> {
        Reply::Reloaded {
            progress,
            changed: self.changed,
            released: self.released.clone(),
        }
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Rule: an ask that waits for nothing is answered once its change was taken in.
    pub(super) fn taken_in(&mut self, change: ChangeId, result: TakenIn) -> Reception {
        let is_newest = self.change.as_mut().filter(|open| open.id == change);
        let is_known = is_newest.is_some() || self.asks.iter().any(|ask| ask.is_offered(change));
        if !is_known {
            return Reception::Ignored(Ignored::Stale);
        }
        if let Some(open) = is_newest {
            open.taken_in = true;
        }
        match result {
            TakenIn::Denied => {
                // The agent is on the way to its end, and the state that shows it is yet to come.
                let was_ending = self.is_ending();
                self.denied = true;
                self.change.take_if(|open| open.id == change);
                self.event(Event::NotTakenIn(change));
                self.answer_each(|ask| ask.is_offered(change).then_some(Err(Refusal::Ending)));
                if !was_ending {
                    self.wind_down();
                }
            }
            TakenIn::Changed => {
                self.another_is_desired(change);
                self.follow(change, Progress::Asked);
            }
            TakenIn::Unchanged => {
                self.event(Event::Unchanged(change));
                self.follow(change, Progress::Unchanged);
            }
        }
        Reception::Accepted
    }

    fn follow(&mut self, id: ChangeId, taken_in: Progress) {
        for ask in &mut self.asks {
            if let AskState::Offered {
                change,
                hurry,
                changed,
            } = ask.state
                && change == id
            {
                ask.state = AskState::Change(Followed {
                    change,
                    changed,
                    taken_in,
                    hurries: hurry,
                    released: Vec::new(),
                });
            }
        }
        self.answer_those_who_wait_for_nothing();
    }

    fn answer_those_who_wait_for_nothing(&mut self) {
        self.answer_each(|ask| match &ask.state {
            AskState::Change(followed) if !ask.wait.waits() && !followed.hurries => {
                Some(Ok(followed.reply(followed.taken_in)))
            }
            AskState::Change(_)
            | AskState::Probation(_)
            | AskState::Keep { .. }
            | AskState::Read { .. }
            | AskState::Offered { .. }
            | AskState::Call(_)
            | AskState::Clients(_)
            | AskState::Look(_)
            | AskState::Condition(..)
            | AskState::End => None,
        });
    }

    /// Rule: an ask that waits is answered with what became of its change, and not with what became of
    /// another one.
    pub(super) fn settled(&mut self, change: ChangeId, result: &Settlement) -> Reception {
        let is_newest = self.change.take_if(|open| open.id == change).is_some();
        if is_newest && matches!(result, Settlement::Live(_)) {
            self.served = self.wanted.as_ref().map(|wanted| wanted.reading.inputs);
            self.applied_is_live();
        }
        let before = self.asks.len();
        let mut goes_on =
            matches!(result, Settlement::Live(_)) && self.wait_through_probation(change);
        if let Settlement::Live(epoch) = result {
            let is_ours = |state: &AskState| matches!(state, AskState::Change(followed) if followed.change == change);
            goes_on |= self.keep_before_the_answer(*epoch, is_ours);
        }
        self.answer_each(|ask| {
            let AskState::Change(followed) = &ask.state else {
                return None;
            };
            if followed.change != change {
                return None;
            }
            if !ask.wait.waits() {
                // It has waited for the start only, and there is nothing left to hurry.
                return Some(Ok(followed.reply(followed.taken_in)));
            }
            Some(match result {
                // Everything ends before its probation does.
                Settlement::Live(_) if ask.through_probation => Err(Refusal::Ending),
                Settlement::Live(epoch) => Ok(followed.reply(Progress::Live(*epoch))),
                Settlement::Replaced => Err(Refusal::Replaced),
                Settlement::GivenUp { epoch, report } => Err(Refusal::GivenUp {
                    epoch: *epoch,
                    report: report.clone(),
                }),
                Settlement::NotRestarted => Err(Refusal::NotRestarted),
                Settlement::Ended => Err(Refusal::Ending),
            })
        });
        self.answer_after_probation();
        if is_newest && matches!(result, Settlement::GivenUp { .. }) {
            self.applied_is_given_up();
        }
        if is_newest || goes_on || self.asks.len() < before {
            Reception::Accepted
        } else {
            Reception::Ignored(Ignored::Stale)
        }
    }

    /// Lets those wait on who wait through the probation. Returns whether there are any.
    fn wait_through_probation(&mut self, change: ChangeId) -> bool {
        if self.is_ending() {
            return false;
        }
        let mut goes_on = false;
        for ask in &mut self.asks {
            if let AskState::Change(followed) = &ask.state
                && followed.change == change
                && ask.through_probation
                && ask.wait.waits()
            {
                let mut followed = followed.clone();
                followed.hurries = false;
                ask.state = AskState::Probation(followed);
                goes_on = true;
            }
        }
        goes_on
    }

    pub(super) fn agent_changed(&mut self, view: AgentView) -> Reception {
        // A change that is held may take the place of another one, and the state stays the same. What
        // holds it is yet to be released.
        if view == self.agent && !self.asks.iter().any(hurries) {
            return Reception::Ignored(Ignored::Unchanged);
        }
        let was_ending = self.is_ending();
        let before = core::mem::replace(&mut self.agent, view);
        if self.is_ending() && !was_ending {
            self.wind_down();
        }
        if let Some(open) = self.change.as_mut().filter(|open| open.taken_in) {
            let standing = self.agent.standing;
            open.waits_for_a_retry = matches!(
                standing,
                Standing::Pending(Held::Retry(_) | Held::Interval(_))
            );
        }
        self.keep_again();
        self.epochs_changed(&before);
        self.trials_changed();
        self.run_hooks_of_epochs(&before);
        self.answer_after_probation();
        self.notice_a_shortage();
        self.hurry();
        Reception::Accepted
    }

    /// Rule: while the cap holds the start of a hurried reload, the oldest draining epoch is released,
    /// one at a time. Releasing two would cut more than the start needs.
    fn hurry(&mut self) {
        let agent = &self.agent;
        self.releasing.take_if(|releasing| {
            let mut views = agent.epochs.iter();
            let holds = views.any(|view| view.epoch == releasing.epoch && view.holds_the_cap());
            releasing.reported && !holds
        });
        let waits_for_a_state = self.change.is_some_and(|open| !open.taken_in);
        if waits_for_a_state || self.releasing.is_some() || !self.asks.iter().any(hurries) {
            return;
        }
        match self.agent.standing {
            Standing::Pending(Held::Cap { .. }) => {
                if let Some(epoch) = self.agent.oldest_draining() {
                    self.releasing = Some(Releasing {
                        epoch,
                        reported: false,
                    });
                    self.outputs.push_back(Output::Release(epoch));
                }
            }
            Standing::Pending(_) if !self.agent.desired_starts() => {}
            Standing::Pending(_)
            | Standing::Nothing
            | Standing::Live(_)
            | Standing::GivenUp(_)
            | Standing::NotRestarted
            | Standing::Ending => self.stop_hurrying(),
        }
    }

    fn stop_hurrying(&mut self) {
        for ask in &mut self.asks {
            if let AskState::Change(followed) = &mut ask.state {
                followed.hurries = false;
            }
        }
        self.answer_those_who_wait_for_nothing();
    }

    /// Rule: each reload that is being hurried is told of each epoch that was released meanwhile.
    pub(super) fn released(&mut self, released: Released) -> Reception {
        match &mut self.releasing {
            Some(releasing) if releasing.epoch == released.epoch && !releasing.reported => {
                releasing.reported = true;
            }
            _ => return Reception::Ignored(Ignored::Stale),
        }
        for ask in &mut self.asks {
            if let AskState::Change(followed) = &mut ask.state
                && followed.hurries
            {
                followed.released.push(released);
            }
        }
        self.hurry();
        Reception::Accepted
    }
}

fn hurries(ask: &super::OpenAsk) -> bool {
    matches!(&ask.state, AskState::Change(followed) if followed.hurries)
}

impl super::OpenAsk {
    fn is_offered(&self, id: ChangeId) -> bool {
        matches!(self.state, AskState::Offered { change, .. } if change == id)
    }
}
