//! What happens, as an event: one word that stays the same, a sentence for everyone, and what only the user
//! of the instance may read.
//!
//! No sentence holds a text from a file, a proxy or a user. The detail may.

use handover_core::{Epoch, Event as AgentEvent, Exit, GaveUp, Held, Purpose, Urgency};
use handover_tokio::Failure;

use crate::operator::{Again, Call, EndedBy, Event, JobDone};

/// Makes the enum and its list from one table, so that neither can lack a word of the other.
macro_rules! words {
    ($($(#[$meaning:meta])* $word:ident => $text:literal,)*) => {
        /// What an event is about, in one word that stays the same.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Word {
            $($(#[$meaning])* $word,)*
        }

        impl Word {
            /// Every word that there is.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$word),*];

            /// Returns the word as clients read it.
            pub(crate) fn text(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                }
            }
        }
    };
}

words! {
    /// An epoch was started.
    Started => "started",
    /// An epoch has gone live.
    Live => "live",
    /// A newer epoch serves in place of this one.
    Superseded => "superseded",
    /// An epoch has stopped serving by itself.
    StoppedServing => "stopped_serving",
    /// The supervisor did not run for a while.
    WokeLate => "woke_late",
    /// An epoch was not live in time.
    StartTimedOut => "start_timed_out",
    /// A start gives way to a newer configuration.
    GivesWay => "gives_way",
    /// An epoch has ended.
    Exited => "exited",
    /// An epoch has failed.
    Failed => "failed",
    /// A failed start is tried again later.
    RetryScheduled => "retry_scheduled",
    /// An epoch has proven itself.
    ProbationPassed => "probation_passed",
    /// An epoch serves worse than the one before.
    Unfit => "unfit",
    /// An epoch is started although the cap is reached.
    BeyondCap => "beyond_cap",
    /// An epoch was live for long, so its retries are whole again.
    BudgetRefilled => "budget_refilled",
    /// A cold restart has begun.
    Restarting => "restarting",
    /// A start is held.
    Held => "held",
    /// The desired configuration was given up.
    GaveUp => "gave_up",
    /// The former configuration was given up too.
    FallbackLost => "fallback_lost",
    /// An epoch ended cleanly and is not started again.
    NotRestarted => "not_restarted",
    /// Every epoch drains.
    Draining => "draining",
    /// A drain is cut.
    DrainTimedOut => "drain_timed_out",
    /// The end has begun, or is more urgent.
    Ending => "ending",
    /// A signal asks for the next epoch.
    NextIsDue => "next_is_due",
    /// A read has failed.
    NotRead => "not_read",
    /// The agent has refused a change.
    NotTakenIn => "not_taken_in",
    /// What was read is desired already.
    Unchanged => "unchanged",
    /// The system is short of something.
    Short => "short",
    /// Something is tried again.
    TriesAgain => "tries_again",
    /// Health checks fail on request, or that was refused.
    Drain => "drain",
    /// Health checks succeed again on request, or that was refused.
    Undrain => "undrain",
    /// A probe could not be made.
    ProbeUnknown => "probe_unknown",
    /// A hook has failed.
    HookFailed => "hook_failed",
    /// Nothing is started before files are there.
    AwaitsFiles => "awaits_files",
    /// The awaited files are there.
    FilesAreThere => "files_are_there",
    /// Nothing is started, because no client has given a configuration.
    AwaitsConfiguration => "awaits_configuration",
    /// A drain has no effect, because everything ends.
    DrainTooLate => "drain_too_late",
    /// The verdict is another one.
    Health => "health",
    /// The client has missed events.
    Missed => "missed",
    /// An event of a later version of the agent.
    Other => "other",
}

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) event: Word,
    pub(super) epoch: Option<Epoch>,
    pub(super) text: String,
    /// What may quote a file or a process.
    pub(super) detail: Option<String>,
}

impl Told {
    fn with_detail(self, detail: Option<String>) -> Self {
        Self { detail, ..self }
    }
}

fn of_epoch(event: Word, epoch: Epoch, text: String) -> Told {
    Told {
        event,
        epoch: Some(epoch),
        text,
        detail: None,
    }
}

fn of_all(event: Word, text: impl Into<String>) -> Told {
    Told {
        event,
        epoch: None,
        text: text.into(),
        detail: None,
    }
}

/// What the agent does. `failure` is the last one that it has noted.
pub(super) fn of_agent(event: &AgentEvent, failure: Option<&Failure>) -> Told {
    let told = sentence_of_agent(event);
    let is_explained = matches!(told.event, Word::Failed | Word::Unfit | Word::GaveUp);
    let failure = failure.filter(|failure| is_explained && told.epoch == Some(failure.epoch));
    let detail = failure.map(Failure::message);
    told.with_detail(detail)
}

fn sentence_of_agent(event: &AgentEvent) -> Told {
    match *event {
        AgentEvent::Started { epoch, purpose } => {
            let purpose = match purpose {
                Purpose::Desired => "with the desired configuration",
                Purpose::Fallback => "with the configuration that served before",
                Purpose::Drain => "to drain the others",
            };
            of_epoch(
                Word::Started,
                epoch,
                format!("epoch {epoch} is started {purpose}"),
            )
        }
        AgentEvent::Live { epoch, after } => {
            let after = after.as_millis();
            of_epoch(
                Word::Live,
                epoch,
                format!("epoch {epoch} is live after {after} ms"),
            )
        }
        AgentEvent::Superseded { epoch, by } => {
            let text = format!("epoch {epoch} drains, because epoch {by} serves");
            of_epoch(Word::Superseded, epoch, text)
        }
        AgentEvent::StoppedServing { epoch } => {
            let text = format!("epoch {epoch} has stopped serving, and no newer one serves");
            of_epoch(Word::StoppedServing, epoch, text)
        }
        AgentEvent::WokeLate { late } => {
            let late = late.as_millis();
            of_all(
                Word::WokeLate,
                format!("the supervisor did not run for {late} ms"),
            )
        }
        AgentEvent::StartTimedOut { epoch } => of_epoch(
            Word::StartTimedOut,
            epoch,
            format!("epoch {epoch} was not live in time"),
        ),
        AgentEvent::GivesWay { epoch, .. } => {
            let text = format!("epoch {epoch} gives way to a newer configuration");
            of_epoch(Word::GivesWay, epoch, text)
        }
        AgentEvent::Exited { epoch, exit, .. } => match exit {
            Exit::Failed(_) => of_epoch(Word::Failed, epoch, format!("epoch {epoch} has failed")),
            Exit::Clean | Exit::Aborted => {
                of_epoch(Word::Exited, epoch, format!("epoch {epoch} has ended"))
            }
        },
        AgentEvent::RetryScheduled {
            delay,
            retries_left,
            ..
        } => {
            let delay = delay.as_millis();
            let text = format!("a retry is due in {delay} ms, and {retries_left} more are left");
            of_all(Word::RetryScheduled, text)
        }
        AgentEvent::ProbationPassed { epoch } => of_epoch(
            Word::ProbationPassed,
            epoch,
            format!("epoch {epoch} has passed its probation"),
        ),
        AgentEvent::Unfit { epoch, replaced } => {
            let then = match replaced {
                true => "the configuration that served before takes its place",
                false => "nothing takes its place",
            };
            of_epoch(
                Word::Unfit,
                epoch,
                format!("epoch {epoch} is unfit: {then}"),
            )
        }
        AgentEvent::BeyondCap { epoch, running } => {
            let text = format!("epoch {epoch} is started although {running} epochs run");
            of_epoch(Word::BeyondCap, epoch, text)
        }
        AgentEvent::BudgetRefilled {
            epoch,
            retries_left,
        } => {
            let text = format!("epoch {epoch} was live for long: {retries_left} retries are left");
            of_epoch(Word::BudgetRefilled, epoch, text)
        }
        AgentEvent::Restarting => of_all(Word::Restarting, "every epoch ends for a cold restart"),
        // The moment is one of the agent's clock, which means nothing outside.
        AgentEvent::Held(Held::Retry(_)) => of_all(Word::Held, "the start is held: a retry is due"),
        AgentEvent::Held(Held::Interval(_)) => of_all(
            Word::Held,
            "the start is held: the shortest time between two changes is not over",
        ),
        AgentEvent::Held(held) => of_all(Word::Held, format!("the start is held: {held}")),
        AgentEvent::GaveUp { epoch, why, .. } => {
            let why = match why {
                GaveUp::BudgetSpent => "the retries are spent",
                GaveUp::Unfit => "the epoch was found unfit",
                GaveUp::Permanent | _ => "no retry can help",
            };
            let text = format!("the desired configuration is given up after epoch {epoch}: {why}");
            of_epoch(Word::GaveUp, epoch, text)
        }
        AgentEvent::FallbackLost { epoch, .. } => {
            let text = format!("what served before is given up as well after epoch {epoch}");
            of_epoch(Word::FallbackLost, epoch, text)
        }
        AgentEvent::NotRestarted { epoch } => {
            let text = format!("epoch {epoch} ended cleanly and is not restarted");
            of_epoch(Word::NotRestarted, epoch, text)
        }
        AgentEvent::Draining { .. } => of_all(Word::Draining, "every epoch drains"),
        AgentEvent::DrainTimedOut => {
            of_all(Word::DrainTimedOut, "the drain took too long and is cut")
        }
        _ => of_all(Word::Other, "an event of a later version"),
    }
}

/// What the operator says to people.
pub(super) fn of_operator(event: &Event) -> Told {
    let detail = match event {
        Event::NotRead(failure) => Some(failure.report.message.clone()),
        Event::Short(what) => Some(what.clone()),
        Event::Called { refusal, .. } => refusal.as_ref().map(ToString::to_string),
        Event::ProbeUnknown { probe, why } => Some(format!("{probe}: {why}")),
        Event::HookFailed { why, .. } => Some(why.clone()),
        Event::AwaitsFiles(missing) => Some(missing.join("; ")),
        Event::Ending { .. }
        | Event::NextIsDue(_)
        | Event::NotTakenIn(_)
        | Event::Unchanged(_)
        | Event::TriesAgain(_)
        | Event::FilesAreThere
        | Event::AwaitsConfiguration
        | Event::DrainTooLate => None,
    };
    sentence_of_operator(event).with_detail(detail)
}

fn sentence_of_operator(event: &Event) -> Told {
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
            of_all(Word::Ending, format!("{how}: {by}"))
        }
        Event::NextIsDue(signal) => {
            of_all(Word::NextIsDue, format!("{signal} asks for the next epoch"))
        }
        Event::NotRead(_) => of_all(Word::NotRead, "the files ask for nothing that can be run"),
        Event::NotTakenIn(_) => of_all(Word::NotTakenIn, "a change is refused: everything ends"),
        Event::Unchanged(_) => of_all(Word::Unchanged, "what was read is desired already"),
        Event::Short(_) => of_all(
            Word::Short,
            "the system is short of something: tried again later",
        ),
        Event::TriesAgain(Again::Read) => of_all(Word::TriesAgain, "the files are read again"),
        Event::TriesAgain(Again::Start) => of_all(Word::TriesAgain, "the start is tried again"),
        Event::Called { what, refusal } => {
            let (event, what) = match what {
                Call::Drain => (Word::Drain, "health checks fail on request"),
                Call::Undrain => (Word::Undrain, "health checks succeed again"),
            };
            let done = match refusal {
                None => "",
                Some(_) => "not done: ",
            };
            of_all(event, format!("{done}{what}"))
        }
        Event::ProbeUnknown { .. } => of_all(Word::ProbeUnknown, "a probe could not be made"),
        Event::HookFailed { moment, .. } => {
            of_all(Word::HookFailed, format!("the hook {moment} has failed"))
        }
        Event::AwaitsFiles(_) => of_all(
            Word::AwaitsFiles,
            "nothing is started before files are there",
        ),
        Event::AwaitsConfiguration => of_all(
            Word::AwaitsConfiguration,
            "nothing is started: a configuration is awaited",
        ),
        Event::FilesAreThere => of_all(Word::FilesAreThere, "the awaited files are there"),
        Event::DrainTooLate => of_all(Word::DrainTooLate, "a drain has no effect: everything ends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::{Health, ReadFailure, Refusal, Report};

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
            Event::HookFailed {
                moment: crate::operator::Moment::Live,
                why: secret(),
            },
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
            let has_detail = told.detail.is_some_and(|detail| detail.contains("SECRET"));
            assert_eq!(has_detail, told.event != Word::Ending, "{:?}", told.event);
        }
    }

    #[test]
    fn an_epoch_that_fails_is_told_from_one_that_ends() {
        let epoch = Epoch::new(3);
        let exited = |exit| {
            let was = handover_core::EpochState::Live;
            let failure = |number| Failure {
                epoch: Epoch::new(number),
                error: std::sync::Arc::new(std::fmt::Error),
            };
            let event = AgentEvent::Exited { epoch, exit, was };
            // That of another epoch explains nothing.
            assert_eq!(of_agent(&event, Some(&failure(2))).detail, None);
            of_agent(&event, Some(&failure(3)))
        };
        let failed = exited(Exit::Failed(handover_core::Severity::Transient));
        assert_eq!(failed.event, Word::Failed);
        assert_eq!(failed.epoch, Some(epoch));
        assert_eq!(failed.detail, Some(std::fmt::Error.to_string()));
        assert_eq!(exited(Exit::Clean).detail, None);
        assert_eq!(exited(Exit::Clean).event, Word::Exited);
    }

    #[test]
    fn each_event_of_the_agent_has_its_word_and_its_sentence() {
        use std::time::Duration;

        use handover_core::{EpochState, Severity, Timestamp};

        let (epoch, by) = (Epoch::new(3), Epoch::new(4));
        let (running, retries_left, holding) = (3, 2, false);
        let time = Duration::from_millis(1_500);
        let was = EpochState::Live;
        let started = |purpose| AgentEvent::Started { epoch, purpose };
        let exited = |exit| AgentEvent::Exited { epoch, exit, was };
        let gave_up = |why| AgentEvent::GaveUp {
            epoch,
            why,
            holding,
        };
        let unfit = |replaced| AgentEvent::Unfit { epoch, replaced };
        let events = [
            started(Purpose::Desired),
            started(Purpose::Fallback),
            started(Purpose::Drain),
            AgentEvent::Live { epoch, after: time },
            AgentEvent::Superseded { epoch, by },
            AgentEvent::StoppedServing { epoch },
            AgentEvent::WokeLate { late: time },
            AgentEvent::StartTimedOut { epoch },
            AgentEvent::GivesWay { epoch, after: time },
            exited(Exit::Failed(Severity::Permanent)),
            exited(Exit::Clean),
            exited(Exit::Aborted),
            AgentEvent::RetryScheduled {
                purpose: Purpose::Desired,
                delay: time,
                retries_left,
            },
            AgentEvent::ProbationPassed { epoch },
            unfit(true),
            unfit(false),
            AgentEvent::BeyondCap { epoch, running },
            AgentEvent::BudgetRefilled {
                epoch,
                retries_left,
            },
            AgentEvent::Restarting,
            AgentEvent::Held(Held::Retry(Timestamp::ZERO)),
            AgentEvent::Held(Held::Cap { running }),
            gave_up(GaveUp::BudgetSpent),
            gave_up(GaveUp::Permanent),
            gave_up(GaveUp::Unfit),
            AgentEvent::FallbackLost { epoch },
            AgentEvent::NotRestarted { epoch },
            AgentEvent::Draining { until: None },
            AgentEvent::DrainTimedOut,
        ];
        let lines = events.iter().map(|event| {
            let told = of_agent(event, None);
            assert_eq!(told.detail, None);
            let epoch = told.epoch.map(|epoch| format!(" {epoch}"));
            let epoch = epoch.unwrap_or_default();
            format!("{}{epoch}: {}", told.event.text(), told.text)
        });
        let lines = lines.collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(lines);
    }

    /// Dashboards and scripts choose events by their words, and read them in the manual.
    #[test]
    fn the_manual_has_every_word() {
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/status.md");
        let manual = std::fs::read_to_string(manual).unwrap();
        let (_, list) = manual.split_once("The words are ").unwrap();
        let (list, _) = list.split_once("A later handover").unwrap();
        let mut listed: Vec<_> = list.split('`').skip(1).step_by(2).collect();
        let mut words: Vec<_> = Word::ALL.iter().map(|word| word.text()).collect();
        listed.sort_unstable();
        words.sort_unstable();
        assert_eq!(listed, words);
        for health in [
            Health::Ready,
            Health::Degraded,
            Health::NotReady,
            Health::Terminating,
        ] {
            assert!(manual.contains(&format!("\n| `{health}` | ")), "{health}");
        }
    }
}
