//! From a wish to a change: the files are read, and what they ask for is passed on.

use super::awaits::Awaits;
use super::changes::OpenChange;
use super::{
    Again, AskState, ChangeId, EndedBy, Event, Fault, Ignored, Next, Operator, Output, ReadFailure,
    ReadId, Reading, Reception, Refusal,
};
use handover_core::Urgency;

/// What was asked for last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Wanted<C> {
    pub(super) reading: Reading<C>,
    /// Whether it stands in for what the files ask for, which cannot be used.
    pub(super) stands_in: bool,
}

/// A read that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct OpenRead {
    pub(super) id: ReadId,
    /// Whether the files have to be looked at before.
    pub(super) look: bool,
}

impl<C: Clone + Eq> Operator<C> {
    pub(super) fn files_changed(&mut self) -> Reception {
        if self.is_ending() {
            return Reception::Ignored(Ignored::Ending);
        }
        self.read(Next::IfDifferent, false);
        Reception::Accepted
    }

    /// Rule: the newest wish takes the place of the read before it, and what that one owed is owed by
    /// the new one.
    ///
    /// Whoever waited for the older read waits for the newer one. A look that an older read had yet
    /// to take is still due: the reported change need not be the only one. While files are awaited there
    /// is nothing to read, and neither is there before a client has given the first configuration.
    pub(super) fn read(&mut self, next: Next, look: bool) {
        self.next = self.next.max(next);
        self.attempt = None;
        if self.awaits.as_mut().is_some_and(Awaits::holds_a_read) {
            return;
        }
        if self.has_nothing_to_read() {
            return;
        }
        self.forget_the_held_read();
        self.reads = self.reads.saturating_add(1);
        let read = OpenRead {
            id: ReadId(self.reads),
            look: look || self.read.is_some_and(|before| before.look),
        };
        self.read = Some(read);
        self.outputs.push_back(Output::Read {
            read: read.id,
            look: read.look,
            text: self.applied.to_read(),
        });
        self.reload_begins();
    }

    pub(super) fn read_done(
        &mut self,
        read: ReadId,
        result: Result<Reading<C>, ReadFailure>,
    ) -> Reception {
        if self.hooks.read.is_some() || self.read.is_none_or(|open| open.id != read) {
            return Reception::Ignored(Ignored::Stale);
        }
        match result {
            Ok(reading) => {
                if let Some(reading) = self.hold_the_read(reading) {
                    self.read = None;
                    self.has_read(reading);
                }
            }
            Err(failure) => {
                self.read = None;
                self.not_read(failure);
            }
        }
        Reception::Accepted
    }

    pub(super) fn has_read(&mut self, reading: Reading<C>) {
        if self.awaits.take().is_some() {
            self.outputs.push_back(Output::ForgetFiles);
        }
        self.problem = None;
        self.has_read_applied();
        let changed = self
            .wanted
            .as_ref()
            .is_none_or(|before| before.stands_in || before.reading != reading);
        let change = self.want(Wanted {
            reading,
            stands_in: false,
        });
        for ask in &mut self.asks {
            if let AskState::Read { hurry } = ask.state {
                ask.state = AskState::Offered {
                    change,
                    hurry,
                    changed,
                };
            }
        }
    }

    /// Rule: the agent is asked for the next epoch only where one is wished for, or where other inputs
    /// make an equal configuration another one. In every other case the agent compares.
    pub(super) fn want(&mut self, wanted: Wanted<C>) -> ChangeId {
        let Reading { config, inputs } = wanted.reading.clone();
        // An older epoch that is still live may have been started with the inputs that went live last.
        // The agent would go back to it for an equal configuration.
        let others_differ = self.wanted.as_ref().is_some_and(|before| {
            before.reading.inputs != inputs || self.served.is_some_and(|served| served != inputs)
        });
        let next = match core::mem::take(&mut self.next) {
            // Nothing runs, so there is nothing to renew.
            _ if self.wanted.is_none() => Next::IfDifferent,
            Next::IfDifferent if others_differ => Next::Renew,
            next @ (Next::IfDifferent | Next::Renew | Next::Cold) => next,
        };
        self.wanted = Some(wanted);
        self.changes = self.changes.saturating_add(1);
        let change = ChangeId(self.changes);
        self.change = Some(OpenChange {
            id: change,
            taken_in: false,
            waits_for_a_retry: false,
        });
        self.outputs.push_back(match next {
            Next::IfDifferent => Output::Apply { change, config },
            Next::Renew => Output::Renew { change, config },
            Next::Cold => Output::Restart { change, config },
        });
        change
    }

    /// Rule: a failed read changes nothing of what runs, unless it was the first one.
    ///
    /// The next epoch that was wished for is owed by the next read that succeeds. A cold restart is
    /// not: it cuts connections, and its client was told that it did not happen.
    ///
    /// While files are awaited, the first read may have failed because an awaited file has vanished again.
    pub(super) fn not_read(&mut self, failure: ReadFailure) {
        let Some(failure) = self.keep_while_files_are_awaited(failure) else {
            return;
        };
        self.next = self.next.min(Next::Renew);
        let Some(failure) = self.drop_offered(failure) else {
            return;
        };
        self.problem = Some(failure.report.clone());
        if self.wanted.is_some() {
            self.event(Event::NotRead(failure.clone()));
        }
        self.answer_each(|ask| {
            matches!(ask.state, AskState::Read { .. })
                .then(|| Err(Refusal::NotRead(failure.report.clone())))
        });
        if self.wanted.is_none() {
            self.fault = Some(Fault::NotRead(failure));
            self.end(Urgency::Drain, EndedBy::FirstRead);
        } else if failure.shortage {
            self.plan(Again::Read);
        }
    }
}
