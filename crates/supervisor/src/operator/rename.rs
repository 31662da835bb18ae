//! The same operator with other names for its configurations.

use alloc::boxed::Box;
use alloc::string::String;

use super::reading::Wanted;
use super::{Input, Inputs, Operator, Output, Overview, Reading, Reply};

/// Gives configurations other values, for example to leave their content out of a recording.
///
/// Equal values must become equal ones, and different values different ones. Then the renamed operator
/// does the same as the original.
pub trait Rename<C> {
    /// What stands for a configuration.
    type Config;

    /// Returns what stands for this configuration.
    fn config(&mut self, config: &C) -> Self::Config;

    /// Returns what stands for this digest of the other inputs.
    fn inputs(&mut self, inputs: Inputs) -> Inputs;
}

impl<C> Operator<C> {
    /// Returns this operator with other values for its configurations.
    #[must_use]
    pub fn rename<R: Rename<C>>(&self, names: &mut R) -> Operator<R::Config> {
        Operator {
            settings: self.settings,
            now: self.now,
            awaits: self.awaits.clone(),
            applied: self.applied.clone(),
            wanted: self.wanted.as_ref().map(|wanted| Wanted {
                reading: wanted.reading.rename(names),
                stands_in: wanted.stands_in,
            }),
            served: self.served.map(|served| names.inputs(served)),
            problem: self.problem.clone(),
            next: self.next,
            read: self.read,
            reads: self.reads,
            change: self.change,
            changes: self.changes,
            asks: self.asks.clone(),
            newest_ask: self.newest_ask,
            calls: self.calls.clone(),
            called: self.called,
            agent: self.agent.clone(),
            looks: self.looks.clone(),
            trials: self.trials.clone(),
            releasing: self.releasing,
            attempt: self.attempt,
            pause: self.pause,
            denied: self.denied,
            urgency: self.urgency,
            signal: self.signal,
            drain_unwanted: self.drain_unwanted,
            fault: self.fault.clone(),
            ended: self.ended.clone(),
            told: self.told,
            heard: self.heard,
            hooks: self.hooks.rename(|reading| reading.rename(names)),
            summary: self.summary,
            outputs: self
                .outputs
                .iter()
                .map(|output| output.rename(names))
                .collect(),
        }
    }
}

impl<C> Reading<C> {
    fn rename<R: Rename<C>>(&self, names: &mut R) -> Reading<R::Config> {
        Reading {
            config: names.config(&self.config),
            inputs: names.inputs(self.inputs),
        }
    }
}

impl<C> Input<C> {
    /// Returns this input with another value for its configuration.
    #[must_use]
    pub fn rename<R: Rename<C>>(&self, names: &mut R) -> Input<R::Config> {
        match self {
            Self::ReadDone { read, result } => Input::ReadDone {
                read: *read,
                result: match result {
                    Ok(reading) => Ok(reading.rename(names)),
                    Err(failure) => Err(failure.clone()),
                },
            },
            Self::Signal(signal) => Input::Signal(*signal),
            Self::Asked { ask, request } => Input::Asked {
                ask: *ask,
                request: *request,
            },
            Self::AskGone(ask) => Input::AskGone(*ask),
            Self::FilesChanged => Input::FilesChanged,
            Self::TakenIn { change, result } => Input::TakenIn {
                change: *change,
                result: *result,
            },
            Self::Settled { change, result } => Input::Settled {
                change: *change,
                result: result.clone(),
            },
            Self::AgentChanged(view) => Input::AgentChanged(view.clone()),
            Self::AgentEnded(result) => Input::AgentEnded(result.clone()),
            Self::Released { epoch, connections } => Input::Released {
                epoch: *epoch,
                connections: *connections,
            },
            Self::CallDone { call, result } => Input::CallDone {
                call: *call,
                result: result.clone(),
            },
            Self::ClientsWatched { ask, result } => Input::ClientsWatched {
                ask: *ask,
                result: result.clone(),
            },
            Self::Looked { look, listens } => Input::Looked {
                look: *look,
                listens: listens.clone(),
            },
            Self::Examined { examination, seen } => Input::Examined {
                examination: *examination,
                seen: seen.clone(),
            },
            Self::FilesFound(missing) => Input::FilesFound(missing.clone()),
            Self::JobDone(done) => Input::JobDone(*done),
            Self::Kept { text, result } => Input::Kept {
                text: *text,
                result: result.clone(),
            },
            Self::HookDone { hook, result } => Input::HookDone {
                hook: *hook,
                result: result.clone(),
            },
            Self::Broken(message) => Input::Broken(message.clone()),
        }
    }
}

impl<C> Output<C> {
    /// Returns this output with another value for its configuration.
    #[must_use]
    pub fn rename<R: Rename<C>>(&self, names: &mut R) -> Output<R::Config> {
        match self {
            Self::Apply { change, config } => Output::Apply {
                change: *change,
                config: names.config(config),
            },
            Self::Renew { change, config } => Output::Renew {
                change: *change,
                config: names.config(config),
            },
            Self::Restart { change, config } => Output::Restart {
                change: *change,
                config: names.config(config),
            },
            Self::Answer { ask, answer } => Output::Answer {
                ask: *ask,
                answer: match answer {
                    Ok(reply) => Ok(reply.rename(names)),
                    Err(refusal) => Err(refusal.clone()),
                },
            },
            Self::Read { read, look, text } => Output::Read {
                read: *read,
                look: *look,
                text: *text,
            },
            Self::Keep(text) => Output::Keep(*text),
            Self::CancelRead(read) => Output::CancelRead(*read),
            Self::LookForFiles => Output::LookForFiles,
            Self::ForgetFiles => Output::ForgetFiles,
            Self::Terminate(urgency) => Output::Terminate(*urgency),
            Self::Release(epoch) => Output::Release(*epoch),
            Self::Call { call, what } => Output::Call {
                call: *call,
                what: *what,
            },
            Self::Look(look) => Output::Look(*look),
            Self::Examine {
                examination,
                epoch,
                probes,
            } => Output::Examine {
                examination: *examination,
                epoch: *epoch,
                probes: *probes,
            },
            Self::CancelExamine(examination) => Output::CancelExamine(*examination),
            Self::Unfit { epoch, evidence } => Output::Unfit {
                epoch: *epoch,
                evidence: evidence.clone(),
            },
            Self::WatchClients {
                ask,
                unless_unknown,
            } => Output::WatchClients {
                ask: *ask,
                unless_unknown: *unless_unknown,
            },
            Self::Forward(signal) => Output::Forward(*signal),
            Self::RunHook { hook, call } => Output::RunHook {
                hook: *hook,
                call: call.clone(),
            },
            Self::Notify(notification) => Output::Notify(*notification),
            Self::Event(event) => Output::Event(event.clone()),
            Self::Finish(ending) => Output::Finish(ending.clone()),
        }
    }
}

impl<C> Reply<C> {
    fn rename<R: Rename<C>>(&self, names: &mut R) -> Reply<R::Config> {
        match self {
            Self::Status(overview) => Reply::Status(Box::new(Overview {
                desired: overview.desired.as_ref().map(|it| names.config(it)),
                awaited: overview.awaited.clone(),
                awaits_configuration: overview.awaits_configuration,
                stands_in: overview.stands_in,
                problem: overview.problem.clone(),
                ready: overview.ready,
                current: overview.current,
                listening: overview.listening,
                urgency: overview.urgency,
                probation: overview.probation,
                unfit: overview.unfit.clone(),
            })),
            Self::Who => Reply::Who,
            Self::Reloaded {
                progress,
                changed,
                released,
            } => Reply::Reloaded {
                progress: *progress,
                changed: *changed,
                released: released.clone(),
            },
            Self::Applied {
                epoch,
                started,
                kept,
            } => Reply::Applied {
                epoch: *epoch,
                started: *started,
                kept: *kept,
            },
            Self::Draining(epoch) => Reply::Draining(*epoch),
            Self::Drained(epoch) => Reply::Drained(*epoch),
            Self::Undrained(epoch) => Reply::Undrained(*epoch),
            Self::Reached(epoch) => Reply::Reached(*epoch),
            Self::Ending(urgency) => Reply::Ending(*urgency),
            Self::Ended(ending) => Reply::Ended(ending.clone()),
        }
    }
}

/// Reads a sentence that a proxy has as a constant. Only a restored operator needs it, so it is kept for
/// the rest of the process.
pub(super) fn constant<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<&'static str>, D::Error> {
    let text: Option<String> = serde::Deserialize::deserialize(from)?;
    Ok(text.map(|text| &*text.leak()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_sentence_is_restored_as_it_was() {
        let restored = |json: &str| {
            let mut from = serde_json::Deserializer::from_str(json);
            super::constant(&mut from).unwrap()
        };
        assert_eq!(restored("\"a sentence\""), Some("a sentence"));
        assert_eq!(restored("null"), None);
    }
}
