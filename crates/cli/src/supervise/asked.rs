//! What is asked at the control socket, and what becomes of it.
//!
//! What changes something is done by the loop itself, before it looks at anything else. What is
//! waited for is waited for in a task of its own, which ends when nobody is there to be answered.

use std::sync::Arc;
use std::time::Duration;

use handover_core::{Outcome, Phase, Urgency};
use tracing::{debug, info, warn};

use super::Desk;
use super::overview::{Known, status};
use super::reload::within;
use crate::control::wire::{
    API, Code, DrainRequest, DrainResult, Drained, Refusal, Reply, State, StopRequest, Stopped,
};
use crate::control::{Answer, Ask, Asked};
use crate::exit_code::ExitCode;
use crate::operate::Operate;
use crate::source::Source;

/// How everything has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) code: ExitCode,
}

impl<P, S> Desk<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    pub(super) fn asked(&mut self, asked: Asked) {
        let pid = asked.pid.unwrap_or_default();
        let ask = asked.ask;
        if ask == Ask::Status {
            debug!(pid, "process {pid} asks at the control socket: {ask}");
        } else {
            info!(pid, "process {pid} asks at the control socket: {ask}");
        }
        match ask {
            Ask::Status => self.tell_status(asked),
            Ask::Reload(request) => self.reload(asked, request),
            Ask::Drain(request) => self.drain(asked, request),
            Ask::Undrain => self.undrain(asked),
            Ask::Stop(request) => self.stop(asked, request),
        }
    }

    fn tell_status(&self, asked: Asked) {
        let Some(wanted) = &self.wanted else {
            return;
        };
        let known = Known {
            name: self.name.to_string(),
            desired: self.proxy.describe(&wanted.config),
            stands_in: wanted.stands_in,
            problem: wanted.problem.clone(),
            counters: self.counted.get(),
            watching: self.files.watching(),
        };
        let proxy = Arc::clone(&self.proxy);
        let current = self.handle.status();
        spawn(asked, async move {
            let facts = proxy.facts().await;
            let status = status(known, &current.borrow(), facts);
            Ok(Reply::Status(Box::new(status)))
        });
    }

    fn drain(&self, asked: Asked, request: DrainRequest) {
        if let Some(refusal) = self.ending() {
            return answer(asked, Err(refusal));
        }
        let proxy = Arc::clone(&self.proxy);
        // To the end, even if the one who asks goes away.
        tokio::spawn(async move {
            let epoch = match proxy.drain_on_request().await {
                Ok(epoch) => epoch.map(handover_core::Epoch::number),
                Err(refusal) => return answer(asked, Err(refusal)),
            };
            info!("drains as asked: health checks fail until `handover undrain`");
            let drained = move |result| {
                Ok(Reply::Drained(Drained {
                    api: API,
                    result,
                    epoch,
                }))
            };
            if !request.wait {
                return answer(asked, drained(DrainResult::Draining));
            }
            spawn(asked, async move {
                let limit = request.timeout_ms.map(Duration::from_millis);
                // Otherwise it would wait for ever for what is never seen.
                let unknown = match limit {
                    None => proxy.unknown_clients().await,
                    Some(_) => Vec::new(),
                };
                if !unknown.is_empty() {
                    let message = "it cannot be seen whether clients are connected: with --timeout \
                                   it is waited that long";
                    let mut refusal = Refusal::new(Code::TimedOut, message);
                    refusal.lines = unknown;
                    return Err(refusal);
                }
                if within(limit, proxy.without_clients()).await.is_some() {
                    return drained(DrainResult::Drained);
                }
                let limit = humantime::format_duration(limit.unwrap_or_default());
                let message = format!("clients are still connected after {limit}");
                let mut refusal = Refusal::new(Code::TimedOut, message);
                refusal.lines = proxy.held_by().await;
                Err(refusal)
            });
        });
    }

    /// Drains as `handover drain` does, for a signal, which nobody waits for.
    pub(super) fn drain_by_signal(&self) {
        if let Some(refusal) = self.ending() {
            return info!("a drain has no effect any more: {}", refusal.message);
        }
        let proxy = Arc::clone(&self.proxy);
        tokio::spawn(async move {
            match proxy.drain_on_request().await {
                Ok(_) => info!("drains as asked: health checks fail until `handover undrain`"),
                Err(refusal) => warn!("a drain was not done: {}", refusal.message),
            }
        });
    }

    fn undrain(&self, asked: Asked) {
        if let Some(mut refusal) = self.ending() {
            refusal
                .message
                .push_str(": a stop that has begun is not taken back");
            return answer(asked, Err(refusal));
        }
        let proxy = Arc::clone(&self.proxy);
        tokio::spawn(async move {
            let undrained = proxy.undrain().await.map(|epoch| {
                info!("does not drain any more: health checks succeed");
                Reply::Drained(Drained {
                    api: API,
                    result: DrainResult::Undrained,
                    epoch: epoch.map(handover_core::Epoch::number),
                })
            });
            answer(asked, undrained);
        });
    }

    fn stop(&mut self, asked: Asked, request: StopRequest) {
        self.no_drain_wanted |= request.now;
        // Whoever asks for the same once more does not get more.
        self.end(match request.now {
            true => Urgency::Stop,
            false => Urgency::Drain,
        });
        if !request.wait {
            let state = match self.urgency {
                None | Some(Urgency::Drain) => State::Draining,
                Some(Urgency::Stop | Urgency::Kill) => State::Stopping,
            };
            let stopped = Stopped {
                api: API,
                state,
                outcome: None,
                exit_code: None,
            };
            return answer(asked, Ok(Reply::Stopped(stopped)));
        }
        let mut end = self.end.subscribe();
        spawn(asked, async move {
            let limit = request.timeout_ms.map(Duration::from_millis);
            let ended = within(limit, end.wait_for(Option::is_some)).await;
            match ended.map(|ended| ended.ok().and_then(|ended| *ended)) {
                Some(Some(ended)) => Ok(Reply::Stopped(Stopped {
                    api: API,
                    state: State::Ended,
                    outcome: Some(ended.outcome.to_string()),
                    exit_code: Some(ended.code.number()),
                })),
                Some(None) => Err(Refusal::new(Code::Failed, "the supervisor ended unseen")),
                None => {
                    let limit = humantime::format_duration(limit.unwrap_or_default());
                    let message = format!("not ended within {limit}");
                    Err(Refusal::new(Code::TimedOut, message))
                }
            }
        });
    }

    /// That everything ends, if it does.
    fn ending(&self) -> Option<Refusal> {
        let runs = self.handle.status().borrow().phase == Phase::Running;
        let ending = !runs || self.urgency.is_some();
        ending.then(|| Refusal::new(Code::Ending, "everything is ending"))
    }
}

/// Answers when it is known what, unless nobody waits any more.
pub(super) fn spawn(mut asked: Asked, what: impl Future<Output = Answer> + Send + 'static) {
    tokio::spawn(async move {
        let result = tokio::select! {
            biased;
            result = what => result,
            () = asked.answer.closed() => return,
        };
        answer(asked, result);
    });
}

pub(super) fn answer(asked: Asked, what: Answer) {
    if let Err(refusal) = &what {
        let (ask, why) = (asked.ask, &refusal.message);
        warn!("{ask} was not done: {why}");
    }
    // Whoever asked may have gone.
    let _gone = asked.answer.send(what);
}
