//! From what the operator answers to what goes over the control socket.

use std::sync::Arc;

use handover_core::{Epoch, Timestamp, Urgency};
use handover_tokio::Status;
use tracing::warn;

use super::status::{Known, held_in_words, status};
use super::{Done, Driver, who};
use crate::control::wire::{
    self, API, Applied, ApplyResult, Code, DrainResult, Drained, Refusal, ReloadResult, Reloaded,
    Reply, State, Stopped, Until, WaitResult, Waited, WhoRequest,
};
use crate::control::{Answer, Ask, PendingAsk};
use crate::operator::{self, AskId, Condition, Overview, Progress, Report, Verdict, WaitedFor};
use crate::supervisor::Ended;
use crate::{Operate, Source};

impl<P, S> Driver<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    /// Answers an ask, unless its client has gone.
    pub(super) fn answer(
        &mut self,
        ask: AskId,
        answer: Result<operator::Reply<P::Config>, operator::Refusal>,
    ) {
        let Some(asked) = self.asks.remove(&ask) else {
            return;
        };
        let proxy = Arc::clone(&self.world.proxy);
        let done = match answer {
            Ok(operator::Reply::Status(overview)) => {
                // A look has come just before.
                let status = status(self.known(*overview), &self.told, self.facts.clone());
                Ok(Reply::Status(Box::new(status)))
            }
            Ok(operator::Reply::Who) => {
                let request = match asked.ask {
                    Ask::Who(request) => request,
                    Ask::Status
                    | Ask::Reload(_)
                    | Ask::Apply(_)
                    | Ask::Drain(_)
                    | Ask::Undrain
                    | Ask::Wait(_)
                    | Ask::Stop(_) => WhoRequest::default(),
                };
                let current = self.status.clone();
                let first_seen = Arc::clone(&self.first_seen);
                self.work.spawn(async move {
                    let answer = who::answer(&*proxy, current, first_seen, request).await;
                    send(asked, answer);
                    Done::Nothing
                });
                return;
            }
            Err(
                refusal @ operator::Refusal::TimedOut {
                    waited_for: WaitedFor::Clients,
                    ..
                },
            ) => {
                let mut refusal = self.refusal(refusal, asked.ask);
                self.work.spawn(async move {
                    refusal.lines = proxy.held_by().await;
                    send(asked, Err(refusal));
                    Done::Nothing
                });
                return;
            }
            Ok(operator::Reply::Reloaded { progress, .. })
                if matches!(asked.ask, Ask::Apply(_)) =>
            {
                Ok(Reply::Applied(Applied {
                    api: API,
                    result: match progress {
                        Progress::Unchanged => ApplyResult::Unchanged,
                        Progress::Asked | Progress::Live(_) => ApplyResult::Asked,
                    },
                    epoch: None,
                    kept: None,
                }))
            }
            Ok(operator::Reply::Applied {
                epoch,
                started,
                kept,
            }) => Ok(Reply::Applied(Applied {
                api: API,
                result: match started {
                    true => ApplyResult::Live,
                    false => ApplyResult::Unchanged,
                },
                epoch: Some(epoch.number()),
                kept: Some(kept),
            })),
            Ok(operator::Reply::Reloaded {
                progress,
                changed,
                released,
            }) => {
                let cut = self.world.proxy.released_is_cut();
                Ok(reloaded(progress, changed, released, cut))
            }
            Ok(operator::Reply::Draining(epoch)) => Ok(drained(DrainResult::Draining, epoch)),
            Ok(operator::Reply::Drained(epoch)) => Ok(drained(DrainResult::Drained, epoch)),
            Ok(operator::Reply::Undrained(epoch)) => Ok(drained(DrainResult::Undrained, epoch)),
            Ok(operator::Reply::Ending(urgency)) => Ok(Reply::Stopped(Stopped {
                api: API,
                state: match urgency {
                    Urgency::Drain => State::Draining,
                    Urgency::Stop | Urgency::Kill => State::Stopping,
                },
                outcome: None,
                exit_code: None,
            })),
            Ok(operator::Reply::Reached(epoch)) => Ok(Reply::Waited(Waited {
                api: API,
                result: WaitResult::Reached,
                epoch: Some(epoch.number()),
                outcome: None,
                exit_code: None,
            })),
            Ok(operator::Reply::Ended(ending)) if matches!(asked.ask, Ask::Wait(_)) => {
                let ended = self.ended(ending);
                Ok(Reply::Waited(Waited {
                    api: API,
                    result: WaitResult::Ended,
                    epoch: None,
                    outcome: Some(ended.to_string()),
                    exit_code: Some((self.world.exit_code)(&ended)),
                }))
            }
            Ok(operator::Reply::Ended(ending)) => {
                let ended = self.ended(ending);
                Ok(Reply::Stopped(Stopped {
                    api: API,
                    state: State::Ended,
                    outcome: Some(ended.outcome()),
                    exit_code: Some((self.world.exit_code)(&ended)),
                }))
            }
            Err(refusal) => Err(self.refusal(refusal, asked.ask)),
        };
        send(asked, done);
    }

    /// How everything has ended, with what the world knows of it.
    pub(crate) fn ended(&self, ending: operator::Ending) -> Ended {
        Ended {
            ending,
            last_failure: self.status.borrow().last_failure.clone(),
            cut: self.world.proxy.cut(),
            lost: self.world.proxy.lost(),
            name: self.source_name.clone(),
        }
    }

    fn known(&self, overview: Overview<P::Config>) -> Known {
        let source = &self.world.source;
        let desired = overview.desired.as_ref();
        Known {
            name: self.world.name.to_string(),
            desired: desired.map_or_else(
                || wire::Configuration {
                    source: self.source_name.clone(),
                    hash: None,
                },
                |config| source.describe(config),
            ),
            problem: overview.problem,
            awaited: overview.awaited,
            awaits_configuration: overview.awaits_configuration,
            ready: overview.ready,
            current: overview.current,
            listening: overview.listening,
            probation: overview.probation.map(|probation| wire::Probation {
                epoch: probation.epoch.number(),
                seconds_left: probation
                    .until
                    .elapsed()
                    .saturating_sub(self.started.elapsed())
                    .as_secs(),
            }),
            unfit: overview.unfit.map(|unfit| wire::Unfit {
                epoch: unfit.epoch.number(),
                evidence: unfit.evidence,
            }),
            verdict: self.operator.verdict().into(),
            history: {
                let now = Timestamp::new(self.told.started.elapsed());
                self.world.history.view(now, &self.told.epochs)
            },
            counters: self.world.metrics.counters(),
            watching: self.world.files.watching(),
        }
    }

    fn refusal(&self, refusal: operator::Refusal, ask: Ask) -> Refusal {
        use operator::Refusal as Why;
        match refusal {
            Why::NotSupported(report) => with_lines(Code::NotSupported, report),
            Why::Ending if ask == Ask::Undrain => Refusal::new(
                Code::Ending,
                "everything is ending: a stop that has begun is not taken back",
            ),
            Why::Ending => Refusal::new(Code::Ending, refusal.to_string()),
            Why::NotTaken => Refusal::new(
                Code::NotSupported,
                format!(
                    "this instance runs {} and takes no configuration from clients: change its files, or \
                     start `handover run` with --config-from socket",
                    self.source_name
                ),
            ),
            Why::NotKept(ref report) => {
                let message =
                    format!("{refusal}; a restart would run the one that was kept before");
                with_lines(
                    Code::Failed,
                    Report {
                        message,
                        ..report.clone()
                    },
                )
            }
            Why::NotRead(report) => {
                let serves = self.operator.overview().desired.is_some();
                let prefix = if serves {
                    "the running configuration serves on: "
                } else {
                    ""
                };
                let message = format!("{prefix}{report}");
                with_lines(Code::Rejected, Report { message, ..report })
            }
            Why::GivenUp { ref report, .. } => {
                let message = refusal.to_string();
                let report = report.clone().unwrap_or_default();
                with_lines(Code::Rejected, Report { message, ..report })
            }
            Why::Replaced => Refusal::new(Code::Replaced, refusal.to_string()),
            Why::NotRestarted => Refusal::new(Code::Failed, refusal.to_string()),
            Why::Failed(report) => with_lines(Code::Failed, report),
            Why::ClientsUnknown(lines) => {
                let message = "it cannot be seen whether clients are connected: with --timeout it \
                               is waited that long"
                    .to_owned();
                with_lines(Code::TimedOut, Report { message, lines })
            }
            Why::TimedOut { limit, waited_for } => {
                let limit = humantime::format_duration(limit);
                let late = |message| Refusal::new(Code::TimedOut, message);
                match waited_for {
                    WaitedFor::Read if matches!(ask, Ask::Apply(_)) => late(format!(
                        "the configuration was not validated within {limit}"
                    )),
                    WaitedFor::Read => late(format!("the files were not read within {limit}")),
                    WaitedFor::Live => not_live_yet(&limit.to_string(), &self.status.borrow()),
                    WaitedFor::Probation => late(format!(
                        "live, and still on probation after {limit}: the wait has taken too long for it"
                    )),
                    WaitedFor::Keep => late(format!("live, but not kept within {limit}")),
                    WaitedFor::Proxy => late(format!("the proxy has not answered within {limit}")),
                    WaitedFor::Look => late(format!("the processes were not seen within {limit}")),
                    WaitedFor::Clients => {
                        late(format!("clients are still connected after {limit}"))
                    }
                    WaitedFor::Condition(condition) => {
                        let known = self.known(self.operator.overview());
                        let status = status(known, &self.told, self.facts.clone());
                        let missing = status.missing(condition.into());
                        // The status may show already what a look or a read has yet to confirm.
                        let missing = missing.unwrap_or_else(|| {
                            "the files or the processes were being read".to_owned()
                        });
                        late(format!("{} after {limit}: {missing}", not_yet(condition)))
                    }
                    WaitedFor::End => late(format!("not ended within {limit}")),
                }
            }
        }
    }
}

fn not_yet(condition: Condition) -> &'static str {
    match condition {
        Condition::Ready => "not ready",
        Condition::Live => "not live",
        Condition::Current => "not current",
    }
}

impl From<Condition> for Until {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Ready => Self::Ready,
            Condition::Live => Self::Live,
            Condition::Current => Self::Current,
        }
    }
}

impl From<Verdict> for wire::Verdict {
    fn from(verdict: Verdict) -> Self {
        Self {
            health: verdict.health.to_string(),
            why: verdict.why.to_string(),
        }
    }
}

fn drained(result: DrainResult, epoch: Option<Epoch>) -> Reply {
    Reply::Drained(Drained {
        api: API,
        result,
        epoch: epoch.map(Epoch::number),
    })
}

fn reloaded(
    progress: Progress,
    changed: bool,
    released: Vec<operator::Released>,
    released_is_cut: bool,
) -> Reply {
    let released = released.into_iter().map(|released| wire::Released {
        epoch: released.epoch.number(),
        active_connections: released.connections,
        cut: released_is_cut,
    });
    let (result, epoch) = match progress {
        Progress::Asked => (ReloadResult::Asked, None),
        Progress::Unchanged => (ReloadResult::Unchanged, None),
        Progress::Live(epoch) => (ReloadResult::Live, Some(epoch.number())),
    };
    Reply::Reloaded(Reloaded {
        api: API,
        result,
        changed,
        epoch,
        released: released.collect(),
    })
}

fn with_lines(code: Code, report: Report) -> Refusal {
    let mut refusal = Refusal::new(code, report.message);
    refusal.lines = report.lines;
    refusal
}

fn not_live_yet(limit: &str, status: &Status) -> Refusal {
    let why = status.held.map(|held| held_in_words(held, status));
    let why = why.or_else(|| {
        let epoch = status.epochs.iter().rev().find(|info| info.desired)?;
        Some(format!("epoch {} is not live yet", epoch.epoch))
    });
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let last = status.last_failure.as_ref().map(|failure| {
        let epoch = failure.epoch;
        format!("epoch {epoch} failed: {}", failure.message())
    });
    let mut refusal = Refusal::new(Code::TimedOut, format!("not live within {limit}{why}"));
    refusal.lines.extend(last);
    refusal
}

fn send(asked: PendingAsk, what: Answer) {
    if let Err(refusal) = &what {
        let (ask, why) = (asked.ask, &refusal.message);
        warn!("{ask} was not done: {why}");
    }
    // Whoever asked may have gone.
    let _gone = asked.answer.send(what);
}
