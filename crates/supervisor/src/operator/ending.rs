//! The way to the end: what asks for it, how urgent it is, and what is answered then.

use alloc::string::String;

use handover_core::{Outcome, Urgency};

use super::{
    AskState, Call, EndedBy, Ending, Event, Fault, Ignored, JobDone, Next, OnTerminate, OpenAsk,
    Operator, Output, Reception, Refusal, Reply, Signal, Wait,
};

/// Why everything drains, in words for a hook.
fn reason(by: EndedBy) -> String {
    match by {
        EndedBy::Signal(signal) => format!("received {signal}"),
        EndedBy::Ask(_) => "a client asked for it".to_owned(),
        EndedBy::FirstRead => "the first read has failed".to_owned(),
        EndedBy::Job(_) => "the job is done".to_owned(),
        EndedBy::FilesLimit => "the awaited files are not there".to_owned(),
        EndedBy::Panic => "a bug".to_owned(),
    }
}

impl<C: Clone + Eq> Operator<C> {
    pub(super) fn signalled(&mut self, signal: Signal) -> Reception {
        match signal {
            Signal::Terminate | Signal::Interrupt | Signal::Quit => self.signalled_to_end(signal),
            Signal::HangUp if self.is_ending() => Reception::Ignored(Ignored::Ending),
            Signal::HangUp => {
                self.event(Event::NextIsDue(signal));
                let is_reloading = self.is_reloading();
                self.read(Next::Renew, true);
                if is_reloading {
                    self.reload_begins_again();
                }
                Reception::Accepted
            }
            Signal::User1 => {
                self.outputs.push_back(Output::Forward(signal));
                Reception::Accepted
            }
            Signal::User2 if self.is_ending() => {
                self.event(Event::DrainTooLate);
                Reception::Ignored(Ignored::Ending)
            }
            // However often it comes, the calls that wait stay few.
            Signal::User2 if self.drains_last() => Reception::Ignored(Ignored::Unchanged),
            Signal::User2 => {
                self.call(Call::Drain);
                Reception::Accepted
            }
        }
    }

    /// Rule: each further signal is more urgent than the end that is under way, whoever asked for that.
    fn signalled_to_end(&mut self, signal: Signal) -> Reception {
        self.signal = Some(signal);
        let urgency = match (self.urgency, self.settings.on_terminate) {
            (None | Some(Urgency::Drain), OnTerminate::Stop) => {
                self.drain_unwanted = true;
                Urgency::Stop
            }
            (None, OnTerminate::Drain) => Urgency::Drain,
            (Some(Urgency::Drain), OnTerminate::Drain) => Urgency::Stop,
            (Some(Urgency::Stop | Urgency::Kill), _) => Urgency::Kill,
        };
        self.end(urgency, EndedBy::Signal(signal))
    }

    /// Rule: a job that is done asks for what the first signal asks for, and makes no end more urgent.
    pub(super) fn job_done(&mut self, done: JobDone) -> Reception {
        if self.is_ending() {
            return Reception::Ignored(Ignored::Ending);
        }
        let urgency = match self.settings.on_terminate {
            OnTerminate::Drain => Urgency::Drain,
            OnTerminate::Stop => {
                self.drain_unwanted = true;
                Urgency::Stop
            }
        };
        self.end(urgency, EndedBy::Job(done))
    }

    /// Rule: a client that asks for the same once more does not get more.
    pub(super) fn stop(&mut self, ask: OpenAsk, now: bool, wait: Wait) {
        if let Some(ending) = self.ended.clone() {
            return self.answer(ask.id, Ok(Reply::Ended(ending)));
        }
        self.drain_unwanted |= now;
        let urgency = match now {
            true => Urgency::Stop,
            false => Urgency::Drain,
        };
        let _at_least_as_urgent = self.end(urgency, EndedBy::Ask(ask.id));
        if wait.waits() {
            self.asks.push(ask);
        } else {
            let urgency = self.urgency.unwrap_or(urgency);
            self.answer(ask.id, Ok(Reply::Ending(urgency)));
        }
    }

    /// Rule: a bug in the driver must not take the proxies along, so they are drained.
    pub(super) fn broken(&mut self, message: String) -> Reception {
        let is_first = !matches!(self.fault, Some(Fault::Panic(_)));
        if is_first {
            self.fault = Some(Fault::Panic(message));
            let _at_least_as_urgent = self.end(Urgency::Drain, EndedBy::Panic);
        }
        // It may be the look that has panicked.
        let gave_up_a_look = self.give_up_looking();
        match is_first || gave_up_a_look {
            true => Reception::Accepted,
            false => Reception::Ignored(Ignored::Unchanged),
        }
    }

    /// Rule: urgency only rises.
    pub(super) fn end(&mut self, urgency: Urgency, by: EndedBy) -> Reception {
        if self.urgency >= Some(urgency) {
            return Reception::Ignored(Ignored::Unchanged);
        }
        let was_ending = self.is_ending();
        self.urgency = Some(urgency);
        self.event(Event::Ending { urgency, by });
        // More urgent than a drain that a hook still holds.
        self.forget_the_held_drain();
        let may_wait = !was_ending
            && urgency == Urgency::Drain
            && matches!(by, EndedBy::Signal(_) | EndedBy::Ask(_) | EndedBy::Job(_));
        if !may_wait || !self.hold_the_drain(reason(by)) {
            self.outputs.push_back(Output::Terminate(urgency));
        }
        if !was_ending {
            self.wind_down();
        }
        Reception::Accepted
    }

    /// Rule: once the end has begun, nothing new begins. What was not begun yet is refused; a drain
    /// whose clients are waited for, and a change that the agent has, come to their own end.
    pub(super) fn wind_down(&mut self) {
        self.forget_the_held_read();
        if let Some(read) = self.read.take() {
            self.outputs.push_back(Output::CancelRead(read.id));
        }
        self.next = Next::IfDifferent;
        self.attempt = None;
        self.awaits = None;
        self.answer_each(|ask| {
            matches!(ask.state, AskState::Read { .. }).then_some(Err(Refusal::Ending))
        });
        self.refuse_queued_calls();
        self.stop_examining();
    }

    /// Rule: every ask that is open is answered before the operator finishes.
    pub(super) fn agent_ended(&mut self, agent: Result<Outcome, String>) -> Reception {
        if !self.is_ending() {
            self.wind_down();
        }
        let ending = Ending {
            agent,
            fault: self.fault.clone(),
            signal: self.signal,
            drain_unwanted: self.drain_unwanted,
        };
        self.forget_the_held_drain();
        self.run_hooks_of_the_end(&ending);
        self.ended = Some(ending.clone());
        self.change = None;
        self.releasing = None;
        self.calls.clear();
        let _its_asks_are_answered = self.give_up_looking();
        self.answer_each(|ask| {
            Some(match ask.state {
                AskState::End | AskState::Condition(..) => Ok(Reply::Ended(ending.clone())),
                AskState::Read { .. }
                | AskState::Offered { .. }
                | AskState::Change(_)
                | AskState::Probation(_)
                | AskState::Keep { .. }
                | AskState::Call(_)
                | AskState::Look(_)
                | AskState::Clients(_) => Err(Refusal::Ending),
            })
        });
        // A service manager hears of the end before it sees it.
        self.notify();
        self.outputs.push_back(Output::Finish(ending));
        Reception::Accepted
    }
}
