//! Whether clients can connect, and when that is looked at.
//!
//! Nothing reports that a process has opened or closed its listeners. So the driver looks at the
//! processes when it is told to:
//!
//! - when another epoch is the live one, or an epoch has ended beside the live one, since either may
//!   have changed who listens;
//! - for each status, which so shows the present;
//! - after a pause, while nothing is seen to listen, since a proxy may open its listeners after it has
//!   said that it is live.
//!
//! While clients are seen to connect, or nobody can see whether they do, no look is due. So an operator
//! in its rest has no deadline.

use alloc::collections::BTreeMap;
use core::time::Duration;

use handover_core::{Epoch, Timestamp};

use super::{
    AgentView, AskState, Condition, Deadline, DeadlineReason, Ignored, LookId, OpenAsk, Operator,
    Output, Reception, Refusal, Reply,
};

/// The pause before the first further look; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest pause while a client waits until clients can connect.
const LONGEST_PAUSE_OF_A_WAIT: Duration = Duration::from_secs(1);

/// What is known of the listeners.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Looks {
    /// The look that is under way.
    open: Option<OpenLook>,
    begun: u64,
    /// What the last look has shown, since an epoch is live.
    listening: Listening,
    /// Whether the last look has seen the present epochs.
    is_current: bool,
    /// The last look that has seen the epochs that were present when it ended.
    #[serde(default)]
    counted: u64,
    /// When the last look was done.
    looked: Timestamp,
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
struct OpenLook {
    id: LookId,
    /// Whether the epochs have changed since it began.
    is_overtaken: bool,
}

/// Whether clients can connect to an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
enum Listening {
    /// Nobody has looked since an epoch is live.
    NotLooked,
    /// The sockets cannot be seen: an epoch that says it is live is taken at its word.
    Unknown,
    Yes,
    No,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            open: None,
            begun: 0,
            listening: Listening::NotLooked,
            is_current: false,
            counted: 0,
            looked: Timestamp::ZERO,
            pause: FIRST_PAUSE,
        }
    }
}

impl Looks {
    /// Returns whether a look has found nothing that keeps clients out.
    pub(super) fn let_clients_in(&self) -> bool {
        match self.listening {
            Listening::Yes | Listening::Unknown => true,
            Listening::No | Listening::NotLooked => false,
        }
    }

    /// Returns whether clients can connect, if that was seen.
    pub(super) fn listening(&self) -> Option<bool> {
        match self.listening {
            Listening::Yes => Some(true),
            Listening::No => Some(false),
            Listening::Unknown | Listening::NotLooked => None,
        }
    }

    /// Returns whether the present epochs were looked at.
    pub(super) fn are_current(&self) -> bool {
        self.is_current
    }

    /// Returns whether the present epochs were looked at, by this look or a later one.
    pub(super) fn are_current_since(&self, look: LookId) -> bool {
        self.is_current && self.counted >= look.0
    }

    /// Returns the look that is under way.
    pub(super) fn open(&self) -> Option<LookId> {
        Some(self.open?.id)
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Rule: whoever asks for the status is answered after a look that began after the question.
    pub(super) fn look_for_a_status(&mut self) -> LookId {
        match self.looks.open {
            Some(open) => LookId(open.id.0.saturating_add(1)),
            None => self.look(),
        }
    }

    /// Rule: who waits until clients can connect is answered after a look that began after the question.
    /// While nothing is live, such a look comes with the first epoch that is.
    pub(super) fn look_for_a_condition(&mut self, condition: Condition) -> LookId {
        match condition {
            Condition::Live => LookId(0),
            Condition::Ready | Condition::Current
                if self.agent.live().is_some() && !self.is_ending() =>
            {
                self.look_for_a_status()
            }
            Condition::Ready | Condition::Current => LookId(self.looks.begun.saturating_add(1)),
        }
    }

    /// Rule: what was seen of the listeners counts until another look, but not beyond the last live
    /// epoch. Otherwise a hand-over would show as an outage.
    pub(super) fn epochs_changed(&mut self, before: &AgentView) {
        let Some(live) = self.agent.live() else {
            self.looks.listening = Listening::NotLooked;
            self.looks.is_current = false;
            return;
        };
        let runs = |epoch: Epoch| self.agent.epochs.iter().any(|view| view.epoch == epoch);
        let mut ran = before.epochs.iter();
        if before.live() == Some(live) && ran.all(|view| runs(view.epoch)) {
            return;
        }
        self.looks.is_current = false;
        self.looks.pause = FIRST_PAUSE;
        if let Some(open) = &mut self.looks.open {
            open.is_overtaken = true;
        } else if !self.is_ending() {
            self.look();
        }
    }

    /// Rule: nothing listens if no running epoch does. One that was not or cannot be seen is taken at
    /// its word.
    pub(super) fn looked(
        &mut self,
        id: LookId,
        listens: &BTreeMap<Epoch, Option<bool>>,
    ) -> Reception {
        let Some(look) = self.looks.open.take_if(|open| open.id == id) else {
            return Reception::Ignored(Ignored::Stale);
        };
        let is_live = self.agent.live().is_some();
        if is_live && !look.is_overtaken {
            let each = || {
                let epochs = self.agent.epochs.iter();
                epochs.map(|view| listens.get(&view.epoch).copied().flatten())
            };
            self.looks.listening = if each().any(|listens| listens == Some(true)) {
                Listening::Yes
            } else if each().all(|listens| listens == Some(false)) {
                Listening::No
            } else {
                Listening::Unknown
            };
            self.looks.is_current = true;
            self.looks.counted = id.0;
            self.looks.looked = self.now;
        }
        if look.is_overtaken {
            let next = LookId(id.0.saturating_add(1));
            for ask in &mut self.asks {
                if ask.state == AskState::Look(id) {
                    ask.state = AskState::Look(next);
                }
            }
        }
        let overview = self.overview();
        self.answer_statuses(|awaited| {
            (awaited <= id).then(|| Ok(Reply::Status(overview.clone().into())))
        });
        let may_show_more = is_live && !self.is_ending();
        let is_awaited = |ask: &OpenAsk| match ask.state {
            AskState::Look(_) => true,
            AskState::Condition(_, awaited) => may_show_more && awaited > id,
            AskState::Read { .. }
            | AskState::Offered { .. }
            | AskState::Change(_)
            | AskState::Probation(_)
            | AskState::Keep { .. }
            | AskState::Call(_)
            | AskState::Clients(_)
            | AskState::End => false,
        };
        let is_needed = look.is_overtaken && may_show_more;
        if is_needed || self.asks.iter().any(is_awaited) {
            self.look();
        }
        Reception::Accepted
    }

    /// Gives the look up that is under way, as it may never be done. Returns whether there was one. A
    /// status without it would show what nobody has seen.
    pub(super) fn give_up_looking(&mut self) -> bool {
        let was_open = self.looks.open.take().is_some();
        self.answer_statuses(|_| Some(Err(Refusal::Ending)));
        was_open
    }

    pub(super) fn look_deadline(&self) -> Option<Deadline> {
        let is_due =
            self.looks.listening == Listening::No && self.looks.open.is_none() && !self.is_ending();
        let is_waited_for = self.asks.iter().any(OpenAsk::needs_a_look);
        let pause = match is_waited_for {
            true => self.looks.pause.min(LONGEST_PAUSE_OF_A_WAIT),
            false => self.looks.pause,
        };
        is_due.then(|| Deadline {
            at: self.looks.looked.after(pause),
            reason: DeadlineReason::Look,
        })
    }

    pub(super) fn look_again(&mut self) {
        self.looks.pause = LONGEST_PAUSE.min(self.looks.pause.saturating_mul(2));
        self.look();
    }

    fn look(&mut self) -> LookId {
        self.looks.begun = self.looks.begun.saturating_add(1);
        let id = LookId(self.looks.begun);
        self.looks.open = Some(OpenLook {
            id,
            is_overtaken: false,
        });
        self.outputs.push_back(Output::Look(id));
        id
    }

    fn answer_statuses(&mut self, answer: impl Fn(LookId) -> Option<Result<Reply<C>, Refusal>>) {
        self.answer_each(|ask| match ask.state {
            AskState::Look(awaited) => answer(awaited),
            AskState::Read { .. }
            | AskState::Offered { .. }
            | AskState::Change(_)
            | AskState::Probation(_)
            | AskState::Keep { .. }
            | AskState::Call(_)
            | AskState::Clients(_)
            | AskState::Condition(..)
            | AskState::End => None,
        });
    }
}
