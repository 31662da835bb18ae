use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_core::{EpochState, Held, Timestamp};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

use super::*;

/// Keeps each line: its level, its sentence and its fields.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Line {
    sentence: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.sentence = format!("{value:?}"),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = event.metadata().level().as_str();
        let Line { sentence, fields } = line;
        let line = format!("{level:<5} {sentence} |{fields}");
        self.0.lock().unwrap().push(line.trim_end().to_owned());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Returns the lines that are logged meanwhile.
fn lines(log: impl FnOnce()) -> String {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), log);
    let lines = lines.0.lock().unwrap();
    lines.join("\n")
}

fn epoch(number: u32) -> Epoch {
    Epoch::new(number)
}

fn failure(of: u32) -> Failure {
    Failure {
        epoch: epoch(of),
        error: Arc::new(std::io::Error::other("the port is taken")),
    }
}

#[test]
fn each_event_is_a_sentence_with_its_numbers_as_fields() {
    let start = |number, purpose| Event::Started {
        epoch: epoch(number),
        purpose,
    };
    let exit = |number, exit| Event::Exited {
        epoch: epoch(number),
        exit,
        was: EpochState::Starting,
    };
    let retry = |purpose| Event::RetryScheduled {
        purpose,
        delay: Duration::from_millis(200),
        retries_left: 2,
    };
    let gave_up = |holding| Event::GaveUp {
        epoch: epoch(2),
        why: GaveUp::BudgetSpent,
        holding,
    };
    let events = [
        start(2, Purpose::Desired),
        start(2, Purpose::Fallback),
        Event::Live {
            epoch: epoch(2),
            after: Duration::from_millis(50),
        },
        Event::Superseded {
            epoch: epoch(1),
            by: epoch(2),
        },
        Event::StoppedServing { epoch: epoch(2) },
        Event::WokeLate {
            late: Duration::from_secs(3),
        },
        Event::StartTimedOut { epoch: epoch(2) },
        exit(2, Exit::Clean),
        exit(2, Exit::Aborted),
        exit(2, Exit::Failed(Severity::Transient)),
        exit(1, Exit::Failed(Severity::Permanent)),
        retry(Purpose::Desired),
        retry(Purpose::Fallback),
        Event::BudgetRefilled {
            epoch: epoch(2),
            retries_left: 3,
        },
        Event::Restarting,
        Event::Held(Held::Cap { running: 2 }),
        Event::Held(Held::Interval(Timestamp::from_millis(7))),
        gave_up(true),
        gave_up(false),
        Event::FallbackLost { epoch: epoch(2) },
        Event::NotRestarted { epoch: epoch(2) },
        Event::Draining {
            until: Some(Timestamp::ZERO),
        },
        Event::DrainTimedOut,
    ];
    let failure = failure(2);
    let logged = lines(|| {
        for it in &events {
            event(it, None, Some(&failure));
        }
    });
    insta::assert_snapshot!(logged);
}

#[test]
fn the_epoch_that_stands_for_the_drain_is_no_epoch_for_people() {
    let drain = Some(epoch(3));
    let exit = |number| Event::Exited {
        epoch: epoch(number),
        exit: Exit::Clean,
        was: EpochState::Draining,
    };
    let started = Event::Started {
        epoch: epoch(3),
        purpose: Purpose::Drain,
    };
    let logged = lines(|| {
        event(&started, drain, None);
        event(&exit(2), drain, None);
        event(&exit(3), drain, None);
        event(&exit(0), None, None);
    });
    insta::assert_snapshot!(logged, @r"
    DEBUG draining has begun |
    INFO  epoch 2 ended cleanly | epoch=2
    DEBUG draining is over: Clean |
    INFO  epoch 0 ended cleanly | epoch=0
    ");
}

#[test]
fn what_becomes_of_a_probation_is_said_with_the_evidence() {
    let unfit = |number, replaced| Event::Unfit {
        epoch: epoch(number),
        replaced,
    };
    let events = [
        Event::ProbationPassed { epoch: epoch(2) },
        unfit(2, true),
        unfit(2, false),
        unfit(3, true),
        Event::BeyondCap {
            epoch: epoch(4),
            running: 2,
        },
        Event::GaveUp {
            epoch: epoch(2),
            why: GaveUp::Unfit,
            holding: true,
        },
    ];
    let logged = lines(|| {
        for of in events {
            event(&of, None, Some(&failure(2)));
        }
    });
    insta::assert_snapshot!(logged, @r"
    INFO  epoch 2 has passed its probation | epoch=2
    ERROR epoch 2 makes room for what served before: the port is taken | epoch=2
    ERROR epoch 2 serves on, because nothing is known to go back to: the port is taken | epoch=2
    ERROR epoch 3 makes room for what served before: no reason is known | epoch=3
    WARN  epoch 4 is started beside 2 others, which is beyond the limit; connections of the oldest one may be cut | epoch=4 running=2
    WARN  gave up the configuration, because epoch 2 was found unfit with it; it is not tried again unless that is asked for | epoch=2
    ");
}

#[test]
fn what_is_said_beside_the_events() {
    let logged = lines(|| {
        withdraw(epoch(2));
        panic(epoch(2));
        callback_panicked("cleanup", "a broom fell over");
        for outcome in [
            Outcome::Drained,
            Outcome::ProxyEnded { epoch: epoch(2) },
            Outcome::DrainTimedOut,
            Outcome::DrainSkipped,
            Outcome::DrainFailed,
            Outcome::Killed,
            Outcome::GaveUp {
                epoch: epoch(2),
                why: GaveUp::Permanent,
            },
        ] {
            finish(outcome);
        }
    });
    insta::assert_snapshot!(logged, @r"
    INFO  epoch 2 is still starting; its start is withdrawn unless it has taken over already | epoch=2
    DEBUG reporting the given-up configuration | epoch=2
    ERROR the proxy's cleanup panicked: a broom fell over |
    INFO  finished: drained |
    INFO  finished: epoch 2 ended cleanly |
    DEBUG finished: the drain was not done in time and was cut |
    DEBUG finished: the drain was skipped |
    DEBUG finished: the drain has failed |
    DEBUG finished: killed as asked |
    DEBUG finished: gave up after epoch 2: a retry cannot help |
    ");
}
