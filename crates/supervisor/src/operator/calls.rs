//! Calls to the proxy: draining on request and taking that back, in the order in which it was asked
//! for.

use alloc::vec::Vec;

use handover_core::Epoch;

use super::{
    AskId, AskState, Call, CallId, Clients, Event, Ignored, Operator, Output, Reception, Refusal,
    Reply,
};

/// A call that is under way or waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct QueuedCall {
    id: CallId,
    what: Call,
}

impl QueuedCall {
    pub(super) fn id(&self) -> CallId {
        self.id
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// The number of the next call.
    pub(super) fn next_call(&self) -> CallId {
        CallId(self.called.saturating_add(1))
    }

    /// Rule: one call is under way at a time. Otherwise an undrain could overtake the drain that it
    /// takes back.
    pub(super) fn call(&mut self, what: Call) {
        let id = self.next_call();
        self.called = id.0;
        self.calls.push_back(QueuedCall { id, what });
        if self.calls.len() == 1 {
            self.outputs.push_back(Output::Call { call: id, what });
        }
    }

    /// Whether the last call that is under way or waits is a drain.
    pub(super) fn drains_last(&self) -> bool {
        let last = self.calls.back();
        last.is_some_and(|call| call.what == Call::Drain)
    }

    pub(super) fn call_done(
        &mut self,
        id: CallId,
        result: Result<Option<Epoch>, Refusal>,
    ) -> Reception {
        let Some(call) = self.calls.front().copied().filter(|call| call.id == id) else {
            return Reception::Ignored(Ignored::Stale);
        };
        self.calls.pop_front();
        self.event(Event::Called {
            what: call.what,
            refusal: result.as_ref().err().cloned(),
        });
        if let Some(next) = self.calls.front() {
            let (call, what) = (next.id, next.what);
            self.outputs.push_back(Output::Call { call, what });
        }
        // It may have gone, or its limit may have passed. Nobody asks by a signal.
        let asked = |state: &AskState| *state == AskState::Call(id);
        let Some(ask) = self.asks.iter_mut().find(|ask| asked(&ask.state)) else {
            return Reception::Accepted;
        };
        let (id, wait) = (ask.id, ask.wait);
        match (result, call.what) {
            (Ok(epoch), Call::Drain) if wait.waits() => {
                ask.state = AskState::Clients(epoch);
                self.outputs.push_back(Output::WatchClients {
                    ask: id,
                    // Without a limit the ask would wait for ever for what is never seen.
                    unless_unknown: wait.limit().is_none(),
                });
            }
            (Ok(epoch), Call::Drain) => self.answer(id, Ok(Reply::Draining(epoch))),
            (Ok(epoch), Call::Undrain) => self.answer(id, Ok(Reply::Undrained(epoch))),
            (Err(refusal), _) => self.answer(id, Err(refusal)),
        }
        Reception::Accepted
    }

    pub(super) fn clients_watched(&mut self, id: AskId, result: Clients) -> Reception {
        let open = self.asks.iter().find(|ask| ask.id == id);
        let Some(&AskState::Clients(epoch)) = open.map(|ask| &ask.state) else {
            return Reception::Ignored(Ignored::UnknownAsk);
        };
        self.answer(
            id,
            match result {
                Clients::Gone => Ok(Reply::Drained(epoch)),
                Clients::Unknown(lines) => Err(Refusal::ClientsUnknown(lines)),
            },
        );
        Reception::Accepted
    }

    /// Refuses the calls whose turn has not come. The one under way returns by itself.
    pub(super) fn refuse_queued_calls(&mut self) {
        let queued: Vec<CallId> = self.calls.iter().skip(1).map(|call| call.id).collect();
        self.calls.truncate(1);
        self.answer_each(|ask| match ask.state {
            AskState::Call(call) if queued.contains(&call) => Some(Err(Refusal::Ending)),
            AskState::Call(_)
            | AskState::Read { .. }
            | AskState::Offered { .. }
            | AskState::Change(_)
            | AskState::Probation(_)
            | AskState::Keep { .. }
            | AskState::Clients(_)
            | AskState::Look(_)
            | AskState::Condition(..)
            | AskState::End => None,
        });
    }
}
