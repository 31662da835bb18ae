//! What happens, as an event for everyone: one word that stays the same, and a sentence.
//!
//! No sentence holds a text from a file, a proxy or a user.

use handover_core::{Epoch, Event as AgentEvent, Exit, GaveUp, Held, Purpose, Urgency};

use crate::operator::{Again, Call, EndedBy, Event, JobDone};

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// One word.
    pub(super) event: &'static str,
    pub(super) epoch: Option<Epoch>,
    pub(super) text: String,
}

fn of_epoch(event: &'static str, epoch: Epoch, text: String) -> Told {
    let epoch = Some(epoch);
    Told { event, epoch, text }
}

fn of_all(event: &'static str, text: impl Into<String>) -> Told {
    let (epoch, text) = (None, text.into());
    Told { event, epoch, text }
}

/// What the agent does.
pub(super) fn of_agent(event: &AgentEvent) -> Told {
    match *event {
        AgentEvent::Started { epoch, purpose } => {
            let purpose = match purpose {
                Purpose::Desired => "with the desired configuration",
                Purpose::Fallback => "with the configuration that served before",
                Purpose::Drain => "to drain the others",
            };
            of_epoch(
                "started",
                epoch,
                format!("epoch {epoch} is started {purpose}"),
            )
        }
        AgentEvent::Live { epoch, after } => {
            let after = after.as_millis();
            of_epoch(
                "live",
                epoch,
                format!("epoch {epoch} is live after {after} ms"),
            )
        }
        AgentEvent::Superseded { epoch, by } => {
            let text = format!("epoch {epoch} drains, because epoch {by} serves");
            of_epoch("superseded", epoch, text)
        }
        AgentEvent::StoppedServing { epoch } => {
            let text = format!("epoch {epoch} has stopped serving, and no newer one serves");
            of_epoch("stopped_serving", epoch, text)
        }
        AgentEvent::WokeLate { late } => {
            let late = late.as_millis();
            of_all(
                "woke_late",
                format!("the supervisor did not run for {late} ms"),
            )
        }
        AgentEvent::StartTimedOut { epoch } => of_epoch(
            "start_timed_out",
            epoch,
            format!("epoch {epoch} was not live in time"),
        ),
        AgentEvent::GivesWay { epoch, .. } => {
            let text = format!("epoch {epoch} gives way to a newer configuration");
            of_epoch("gives_way", epoch, text)
        }
        AgentEvent::Exited { epoch, exit, .. } => match exit {
            Exit::Failed(_) => of_epoch("failed", epoch, format!("epoch {epoch} has failed")),
            Exit::Clean | Exit::Aborted => {
                of_epoch("exited", epoch, format!("epoch {epoch} has ended"))
            }
        },
        AgentEvent::RetryScheduled {
            delay,
            retries_left,
            ..
        } => {
            let delay = delay.as_millis();
            let text = format!("a retry is due in {delay} ms, and {retries_left} more are left");
            of_all("retry_scheduled", text)
        }
        AgentEvent::ProbationPassed { epoch } => of_epoch(
            "probation_passed",
            epoch,
            format!("epoch {epoch} has passed its probation"),
        ),
        AgentEvent::Unfit { epoch, replaced } => {
            let then = match replaced {
                true => "the configuration that served before takes its place",
                false => "nothing takes its place",
            };
            of_epoch("unfit", epoch, format!("epoch {epoch} is unfit: {then}"))
        }
        AgentEvent::BeyondCap { epoch, running } => {
            let text = format!("epoch {epoch} is started although {running} epochs run");
            of_epoch("beyond_cap", epoch, text)
        }
        AgentEvent::BudgetRefilled {
            epoch,
            retries_left,
        } => {
            let text = format!("epoch {epoch} was live for long: {retries_left} retries are left");
            of_epoch("budget_refilled", epoch, text)
        }
        AgentEvent::Restarting => of_all("restarting", "every epoch ends for a cold restart"),
        // The moment is one of the agent's clock, which means nothing outside.
        AgentEvent::Held(Held::Retry(_)) => of_all("held", "the start is held: a retry is due"),
        AgentEvent::Held(held) => of_all("held", format!("the start is held: {held}")),
        AgentEvent::GaveUp { epoch, why, .. } => {
            let why = match why {
                GaveUp::BudgetSpent => "the retries are spent",
                GaveUp::Unfit => "the epoch was found unfit",
                GaveUp::Permanent | _ => "no retry can help",
            };
            let text = format!("the desired configuration is given up after epoch {epoch}: {why}");
            of_epoch("gave_up", epoch, text)
        }
        AgentEvent::FallbackLost { epoch, .. } => {
            let text = format!("what served before is given up as well after epoch {epoch}");
            of_epoch("fallback_lost", epoch, text)
        }
        AgentEvent::NotRestarted { epoch } => {
            let text = format!("epoch {epoch} ended cleanly and is not restarted");
            of_epoch("not_restarted", epoch, text)
        }
        AgentEvent::Draining { .. } => of_all("draining", "every epoch drains"),
        AgentEvent::DrainTimedOut => {
            of_all("drain_timed_out", "the drain took too long and is cut")
        }
        _ => of_all("other", "an event of a later version"),
    }
}

/// What the operator says to people.
pub(super) fn of_operator(event: &Event) -> Told {
    match event {
        Event::Ending { urgency, by } => {
            let how = match urgency {
                Urgency::Drain => "everything ends after a drain",
                Urgency::Stop => "everything ends without a drain",
                Urgency::Kill => "everything is killed",
            };
            let by = match by {
                EndedBy::Signal(signal) => format!("{signal} asked for it"),
                EndedBy::Ask(_) => "a client of the control socket asked for it".to_owned(),
                EndedBy::Job(JobDone::ProcessEnded(_)) => {
                    "the process of its job has ended".to_owned()
                }
                EndedBy::Job(JobDone::FileAppeared) => {
                    "the file of its job has appeared".to_owned()
                }
                EndedBy::FilesLimit => "awaited files did not come in time".to_owned(),
                EndedBy::FirstRead => "there is nothing to run".to_owned(),
                EndedBy::Panic => "there is a bug".to_owned(),
            };
            of_all("ending", format!("{how}: {by}"))
        }
        Event::NextIsDue(signal) => {
            of_all("next_is_due", format!("{signal} asks for the next epoch"))
        }
        Event::NotRead(_) => of_all("not_read", "the files ask for nothing that can be run"),
        Event::NotTakenIn(_) => of_all("not_taken_in", "a change is refused: everything ends"),
        Event::Unchanged(_) => of_all("unchanged", "what was read is desired already"),
        Event::Short(_) => of_all(
            "short",
            "the system is short of something: tried again later",
        ),
        Event::TriesAgain(Again::Read) => of_all("tries_again", "the files are read again"),
        Event::TriesAgain(Again::Start) => of_all("tries_again", "the start is tried again"),
        Event::Called { what, refusal } => {
            let (event, what) = match what {
                Call::Drain => ("drain", "health checks fail on request"),
                Call::Undrain => ("undrain", "health checks succeed again"),
            };
            let done = match refusal {
                None => "",
                Some(_) => "not done: ",
            };
            of_all(event, format!("{done}{what}"))
        }
        Event::ProbeUnknown { .. } => of_all("probe_unknown", "a probe could not be made"),
        Event::AwaitsFiles(_) => {
            of_all("awaits_files", "nothing is started before files are there")
        }
        Event::FilesAreThere => of_all("files_are_there", "the awaited files are there"),
        Event::DrainTooLate => of_all("drain_too_late", "a drain has no effect: everything ends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::{ReadFailure, Refusal, Report};

    #[test]
    fn no_text_of_a_file_a_proxy_or_a_probe_is_told() {
        let secret = || "SECRET".to_owned();
        let report = || Report {
            message: secret(),
            lines: vec![secret()],
        };
        let events = [
            Event::NotRead(ReadFailure {
                report: report(),
                shortage: false,
            }),
            Event::Short(secret()),
            Event::Called {
                what: Call::Drain,
                refusal: Some(Refusal::Failed(report())),
            },
            Event::ProbeUnknown {
                probe: secret(),
                why: secret(),
            },
            Event::AwaitsFiles(vec![secret()]),
            Event::Ending {
                urgency: Urgency::Drain,
                by: EndedBy::Job(JobDone::ProcessEnded(4711)),
            },
        ];
        for event in events {
            let told = of_operator(&event);
            assert!(!told.text.contains("SECRET"), "{told:?}");
            assert!(!told.text.contains("4711"), "{told:?}");
            assert!(!told.text.is_empty());
        }
    }

    #[test]
    fn an_epoch_that_fails_is_told_from_one_that_ends() {
        let epoch = Epoch::new(3);
        let exited = |exit| {
            let was = handover_core::EpochState::Live;
            of_agent(&AgentEvent::Exited { epoch, exit, was })
        };
        let failed = exited(Exit::Failed(handover_core::Severity::Transient));
        assert_eq!(failed.event, "failed");
        assert_eq!(failed.epoch, Some(epoch));
        assert_eq!(exited(Exit::Clean).event, "exited");
    }
}
