//! Transcripts: what both machines and a proxy say, and what is exported after it.

use std::time::UNIX_EPOCH;

use handover_core::{Abort, Event, Exit, GaveUp, Severity, Timestamp};

use super::own::Figures;
use super::samples::Value;
use super::*;
use crate::operator::{ReadFailure, Report};

/// The numbers, with a clock that the test sets.
struct Told {
    metrics: Metrics,
    now: Duration,
    state: State,
}

impl Told {
    fn new() -> Self {
        Self {
            metrics: Metrics::new(),
            now: Duration::ZERO,
            state: State::default(),
        }
    }

    fn after(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self
    }

    /// The wall clock began at the second 1,000.
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000) + self.now
    }

    fn agent(&mut self, event: Event) -> &mut Self {
        let wall = self.wall();
        self.metrics
            .agent_event(Timestamp::new(self.now), wall, &event);
        self
    }

    fn operator(&mut self, event: &operator::Event, gauges: Gauges) -> &mut Self {
        let wall = self.wall();
        self.metrics.operator_event(wall, event, gauges);
        self.operator_is(gauges)
    }

    fn operator_is(&mut self, gauges: Gauges) -> &mut Self {
        let wall = self.wall();
        self.metrics.operator_is(wall, gauges);
        self
    }

    fn observed(&mut self, observed: Observed) -> &mut Self {
        self.metrics.observed(observed);
        self
    }

    fn started(&mut self, number: u32) -> &mut Self {
        self.agent(Event::Started {
            epoch: Epoch::new(number),
            purpose: Purpose::Desired,
        })
    }

    fn live(&mut self, number: u32, after: u64) -> &mut Self {
        let epoch = Epoch::new(number);
        self.after(after).agent(Event::Live {
            epoch,
            after: Duration::from_millis(after),
        })
    }

    fn superseded(&mut self, number: u32, by: u32) -> &mut Self {
        let (epoch, by) = (Epoch::new(number), Epoch::new(by));
        self.agent(Event::Superseded { epoch, by })
    }

    fn exited(&mut self, number: u32, exit: Exit, was: EpochState) -> &mut Self {
        let epoch = Epoch::new(number);
        self.agent(Event::Exited { epoch, exit, was })
    }

    fn ended(&mut self, number: u32, cause: &'static str, exit: ExitCause) -> &mut Self {
        self.observed(Observed::Ended {
            epoch: Epoch::new(number),
            cause,
            exit: Some(exit),
            connections: None,
        })
    }

    fn text(&self) -> String {
        let samples = self.metrics.seen(self.state.clone());
        let samples = samples.samples(&Figures::default());
        encode::encode(samples, Format::OpenMetrics).body
    }

    /// The lines of the samples whose names begin like this, without those that are zero.
    fn shows(&self, prefixes: &[&str]) -> String {
        let text = self.text();
        let lines = text.lines().filter(|line| {
            let is_asked_for = prefixes.iter().any(|prefix| line.starts_with(prefix));
            is_asked_for && !line.ends_with(" 0")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

const FAILED: Exit = Exit::Failed(Severity::Transient);
const STARTS: &[&str] = &["handover_hand_overs", "handover_first_starts"];
const RELOAD: &[&str] = &["handover_last_reload", "handover_failed_reads"];

#[test]
fn a_hand_over_is_told_with_its_stages() {
    let mut told = Told::new();
    told.started(0).live(0, 250).after(1_000);
    told.started(1).observed(Observed::Validated {
        epoch: Epoch::new(1),
        took: Duration::from_millis(250),
    });
    told.live(1, 500).superseded(0, 1);
    told.after(10_000).agent(Event::ProbationPassed {
        epoch: Epoch::new(1),
    });
    told.after(5_000)
        .exited(0, Exit::Clean, EpochState::Draining);
    insta::assert_snapshot!(told.shows(STARTS), @r#"
    handover_hand_overs_total{result="live"} 1
    handover_first_starts_total{result="live"} 1
    "#);
    let sums = told.text();
    let sums: Vec<_> = sums
        .lines()
        .filter(|line| line.contains("duration_seconds_sum"))
        .collect();
    insta::assert_snapshot!(sums.join("\n"), @r#"
    handover_stage_duration_seconds_sum{stage="drain"} 15.0
    handover_stage_duration_seconds_sum{stage="probation"} 10.0
    handover_stage_duration_seconds_sum{stage="start"} 0.5
    handover_stage_duration_seconds_sum{stage="validate"} 0.25
    "#);
}

#[test]
fn a_hand_over_counts_once_although_the_older_epoch_ends_before_the_new_one_is_live() {
    let mut told = Told::new();
    let mut lines = Vec::new();
    let mut note = |what: &str, told: &Told| {
        lines.push(format!("{what}: {}", told.metrics.counters.hand_overs));
    };
    told.started(0).live(0, 1);
    note("the first start", &told);
    told.started(1).live(1, 1).superseded(0, 1);
    note("an ordinary hand-over", &told);
    told.exited(0, Exit::Clean, EpochState::Draining);
    told.started(2);
    told.exited(1, FAILED, EpochState::Live);
    told.live(2, 1);
    note("the old one ends before the new one is live", &told);
    told.exited(2, FAILED, EpochState::Live);
    told.started(0).live(0, 1);
    note("a start after everything has ended", &told);
    // The one that went live later was started first.
    told.started(1).started(2);
    told.live(1, 1).live(2, 1).superseded(0, 2).superseded(1, 2);
    note("two starts beside one, and both go live", &told);
    told.exited(0, Exit::Clean, EpochState::Draining);
    told.started(3).exited(3, FAILED, EpochState::Starting);
    note("a start that fails beside a live one", &told);
    insta::assert_snapshot!(lines.join("\n"), @r"
    the first start: 0
    an ordinary hand-over: 1
    the old one ends before the new one is live: 2
    a start after everything has ended: 2
    two starts beside one, and both go live: 4
    a start that fails beside a live one: 4
    ");
}

#[test]
fn each_start_has_one_result_which_is_the_first() {
    let aborting = EpochState::Aborting(Abort::Immediate);
    let epoch = Epoch::new(1);
    let mut told = Told::new();
    told.started(0).live(0, 1);
    told.started(1).exited(1, FAILED, EpochState::Starting);
    told.started(1).agent(Event::StartTimedOut { epoch });
    told.exited(1, FAILED, aborting);
    let after = Duration::from_secs(2);
    told.started(1).agent(Event::GivesWay { epoch, after });
    told.exited(1, Exit::Aborted, EpochState::Starting);
    told.started(1)
        .exited(1, Exit::Aborted, EpochState::Starting);
    // A program that will not go live finishes its requests.
    told.started(1).exited(1, Exit::Clean, EpochState::Draining);
    told.started(1).exited(1, Exit::Clean, EpochState::Draining);
    told.started(1).exited(1, Exit::Clean, EpochState::Starting);
    // What gives way and has taken something over goes live all the same.
    told.started(1).agent(Event::GivesWay { epoch, after });
    told.live(1, 1).superseded(0, 1);
    told.exited(1, FAILED, EpochState::Live);
    insta::assert_snapshot!(told.shows(STARTS), @r#"
    handover_hand_overs_total{result="live"} 1
    handover_hand_overs_total{result="start_failed"} 1
    handover_hand_overs_total{result="timed_out"} 1
    handover_hand_overs_total{result="gave_way"} 1
    handover_hand_overs_total{result="withdrawn"} 3
    handover_hand_overs_total{result="exited"} 1
    handover_first_starts_total{result="live"} 1
    "#);
}

#[test]
fn a_start_is_a_hand_over_only_while_something_serves() {
    let mut told = Told::new();
    told.started(0)
        .live(0, 1)
        .exited(0, FAILED, EpochState::Live);
    told.started(0).live(0, 1);
    // The only live epoch has lost its listeners, so nothing is handed over.
    told.agent(Event::StoppedServing { epoch: Epoch::ZERO });
    told.started(1).live(1, 1);
    insta::assert_snapshot!(told.shows(STARTS), @r#"handover_first_starts_total{result="live"} 3"#);
}

#[test]
fn an_epoch_that_was_not_live_in_time_counts_as_failed_once_however_it_ends() {
    let mut told = Told::new();
    let epoch = Epoch::new(1);
    let aborting = EpochState::Aborting(Abort::Immediate);
    for (failed, was) in [EpochState::Starting, EpochState::Draining, aborting]
        .into_iter()
        .enumerate()
    {
        told.started(1).agent(Event::StartTimedOut { epoch });
        assert_eq!(told.metrics.counters.failed, failed as u64);
        told.exited(1, FAILED, was);
        assert_eq!(told.metrics.counters.failed, failed as u64 + 1);
    }
}

#[test]
fn an_epoch_that_goes_live_late_has_not_failed() {
    let mut told = Told::new();
    let epoch = Epoch::new(1);
    told.started(1).agent(Event::StartTimedOut { epoch });
    told.live(1, 61)
        .exited(1, Exit::Clean, EpochState::Draining);
    assert_eq!(told.metrics.counters.failed, 0);
    insta::assert_snapshot!(told.shows(STARTS), @r#"handover_first_starts_total{result="live"} 1"#);
}

#[test]
fn a_crash_loop_shows_and_a_drain_does_not_count() {
    let mut told = Told::new();
    let epoch = Epoch::ZERO;
    for _ in 0..3 {
        told.started(0).exited(0, FAILED, EpochState::Starting);
        told.agent(Event::RetryScheduled {
            purpose: Purpose::Desired,
            delay: Duration::ZERO,
            retries_left: 1,
        });
    }
    let purpose = Purpose::Drain;
    told.agent(Event::Started { epoch, purpose });
    told.exited(0, Exit::Clean, EpochState::Draining);
    let expected = Counters {
        started: 3,
        failed: 3,
        retries: 3,
        hand_overs: 0,
    };
    assert_eq!(told.metrics.counters, expected);
    insta::assert_snapshot!(told.shows(STARTS), @r#"handover_first_starts_total{result="start_failed"} 3"#);
}

#[test]
fn a_verdict_is_told_beside_the_result_of_the_start() {
    let mut told = Told::new();
    told.started(0)
        .live(0, 1)
        .started(1)
        .live(1, 1)
        .superseded(0, 1);
    let epoch = Epoch::new(1);
    told.after(3_000).agent(Event::Unfit {
        epoch,
        replaced: true,
    });
    told.agent(Event::GaveUp {
        epoch,
        why: GaveUp::Unfit,
        holding: true,
    });
    told.started(2).live(2, 1).superseded(1, 2);
    let shown = told.shows(&[
        "handover_unfit_v",
        "handover_gave_up",
        "handover_hand_overs",
    ]);
    insta::assert_snapshot!(shown, @r#"
    handover_hand_overs_total{result="live"} 2
    handover_gave_up_total{reason="unfit"} 1
    handover_unfit_verdicts_total{outcome="replaced"} 1
    "#);
    let text = told.text();
    let probation = r#"handover_stage_duration_seconds_sum{stage="probation"} 3.0"#;
    assert!(text.contains(probation), "{text}");
}

#[test]
fn a_reload_is_successful_when_what_the_files_ask_for_is_live() {
    let serving = Gauges {
        ready: true,
        current: true,
        ..Gauges::default()
    };
    let broken = Gauges {
        current: false,
        problem: true,
        ..serving
    };
    let unreadable = operator::Event::NotRead(ReadFailure {
        report: Report::new("no such field"),
        shortage: false,
    });
    let unchanged = operator::Event::Unchanged(operator::ChangeId(1));
    let mut told = Told::new();
    assert_eq!(told.shows(RELOAD), "");
    told.started(0).live(0, 1_000);
    insta::assert_snapshot!(told.shows(RELOAD), @"
    handover_last_reload_successful 1
    handover_last_reload_success_timestamp_seconds 1001.0
    ");
    told.after(9_000).operator(&unreadable, broken);
    insta::assert_snapshot!(told.shows(RELOAD), @"
    handover_last_reload_success_timestamp_seconds 1001.0
    handover_failed_reads_total 1
    ");
    assert!(told.text().contains("handover_last_reload_successful 0"));
    // What was desired before goes live, and the file is still broken.
    told.started(1).live(1, 1_000);
    assert!(told.text().contains("handover_last_reload_successful 0"));
    // The file is as it was.
    told.after(9_000).operator(&unchanged, serving);
    insta::assert_snapshot!(told.shows(RELOAD), @"
    handover_last_reload_successful 1
    handover_last_reload_success_timestamp_seconds 1020.0
    handover_failed_reads_total 1
    ");
}

/// A file is broken and put right again between two looks at the operator's state.
#[test]
fn a_reload_that_asks_for_what_serves_already_is_successful() {
    let failed = operator::Event::NotRead(ReadFailure {
        report: Report::new("no such field"),
        shortage: false,
    });
    let unchanged = operator::Event::Unchanged(operator::ChangeId(1));
    let gauges = |current| Gauges {
        current,
        ..Gauges::default()
    };
    let mut told = Told::new();
    told.operator_is(gauges(true));
    told.operator(&failed, gauges(true));
    assert!(told.text().contains("handover_last_reload_successful 0"));
    told.operator(&unchanged, gauges(true));
    assert!(told.text().contains("handover_last_reload_successful 1"));
    told.operator(&failed, gauges(false));
    told.operator(&unchanged, gauges(false));
    assert!(told.text().contains("handover_last_reload_successful 0"));
}

#[test]
fn what_stands_in_for_a_broken_file_is_no_successful_reload() {
    let mut told = Told::new();
    let stand_in = Gauges {
        stands_in: true,
        ..Gauges::default()
    };
    told.operator_is(stand_in);
    told.started(0).live(0, 1);
    assert_eq!(told.shows(RELOAD), "");
    // What is given up reads as it did before.
    let current = Gauges::default();
    let unchanged = operator::Event::Unchanged(operator::ChangeId(1));
    told.operator(&unchanged, current);
    assert_eq!(told.shows(RELOAD), "");
}

#[test]
fn a_reload_that_does_not_go_live_has_failed_and_a_later_crash_is_none() {
    let epoch = Epoch::new(1);
    let given_up = Event::GaveUp {
        epoch,
        why: GaveUp::Unfit,
        holding: false,
    };
    let not_started = Event::Exited {
        epoch,
        exit: FAILED,
        was: EpochState::Starting,
    };
    let late = Event::StartTimedOut { epoch };
    for failure in [vec![late, not_started], vec![given_up], vec![not_started]] {
        let mut told = Told::new();
        told.started(0).live(0, 1).started(1);
        for event in &failure {
            told.agent(*event);
        }
        let text = told.text();
        let failed = "handover_last_reload_successful 0";
        assert!(text.contains(failed), "{failure:?}\n{text}");
    }
    let succeeded = "handover_last_reload_successful 1";
    let mut told = Told::new();
    told.started(0)
        .live(0, 1)
        .exited(0, FAILED, EpochState::Live);
    assert!(told.text().contains(succeeded), "{}", told.text());
    // The fallback is not what the files ask for.
    let purpose = Purpose::Fallback;
    told.agent(Event::Started { epoch, purpose });
    told.exited(1, FAILED, EpochState::Starting);
    assert!(told.text().contains(succeeded), "{}", told.text());
}

/// A rejected configuration that is put back as it was starts no epoch: what serves is what is desired again.
/// Reloaders of others have shown a failed reload from then on, until the next change.
#[test]
fn a_failed_reload_ends_when_the_file_is_put_back_as_it_was() {
    let serving = Gauges {
        ready: true,
        current: true,
        ..Gauges::default()
    };
    let another = Gauges {
        current: false,
        ..serving
    };
    let mut told = Told::new();
    told.started(0).live(0, 1_000).operator_is(serving);
    told.operator_is(another).started(1);
    told.exited(1, FAILED, EpochState::Starting);
    let failed = "handover_last_reload_successful 0";
    assert!(told.text().contains(failed), "{}", told.text());
    told.after(59_000).operator_is(serving);
    insta::assert_snapshot!(told.shows(RELOAD), @"
    handover_last_reload_successful 1
    handover_last_reload_success_timestamp_seconds 1060.0
    ");
    // Nothing has failed meanwhile, so this is no reload.
    told.after(1_000).operator_is(another).operator_is(serving);
    assert!(
        told.text().contains("timestamp_seconds 1060.0"),
        "{}",
        told.text()
    );
}

#[test]
fn an_end_has_a_cause_and_a_signal_or_the_class_of_a_code() {
    let signal = |number| ExitCause::Signal {
        number,
        core_dumped: false,
    };
    let mut told = Told::new();
    told.ended(0, "crashed", signal(11));
    told.ended(0, "crashed", signal(11));
    // A real-time signal has no name.
    told.ended(0, "killed", signal(40));
    told.ended(0, "out_of_memory", ExitCause::OutOfMemory);
    for (cause, code) in [("clean", 0), ("exited", 1), ("exited", 3), ("exited", 137)] {
        told.ended(0, cause, ExitCause::Code(code));
    }
    insta::assert_snapshot!(told.shows(&["handover_epoch_exits"]), @r#"
    handover_epoch_exits_total{cause="clean",code="0"} 1
    handover_epoch_exits_total{cause="crashed",signal="SIGSEGV"} 2
    handover_epoch_exits_total{cause="exited",code="1"} 1
    handover_epoch_exits_total{cause="exited",code="126_to_255"} 1
    handover_epoch_exits_total{cause="exited",code="2_to_125"} 1
    handover_epoch_exits_total{cause="killed",signal="40"} 1
    handover_epoch_exits_total{cause="out_of_memory"} 1
    "#);
}

#[test]
fn connections_that_nobody_has_counted_are_absent_and_not_zero() {
    const CUT: &[&str] = &["handover_cut", "handover_uncounted"];
    let ended = |connections| Observed::Ended {
        epoch: Epoch::ZERO,
        cause: "handed_over",
        exit: None,
        connections,
    };
    let mut told = Told::new();
    // It was never live, so nobody had a connection.
    told.started(0).observed(ended(None));
    assert_eq!(told.shows(CUT), "");
    told.live(0, 1).observed(ended(None));
    assert_eq!(told.shows(CUT), "handover_uncounted_ends_total 1");
    assert!(!told.text().contains("handover_cut_connections"));
    told.observed(ended(Some(0)));
    assert!(told.text().contains("\nhandover_cut_connections_total 0\n"));
    told.observed(ended(Some(3)));
    insta::assert_snapshot!(told.shows(CUT), @"
    handover_cut_connections_total 3
    handover_uncounted_ends_total 1
    ");
}

#[test]
fn an_epoch_that_is_drained_at_the_end_of_everything_has_its_time_too() {
    let mut told = Told::new();
    told.started(0).live(0, 1);
    told.agent(Event::Draining { until: None });
    told.after(4_000)
        .exited(0, Exit::Clean, EpochState::Draining);
    let text = told.text();
    let drain = r#"handover_stage_duration_seconds_sum{stage="drain"} 4.0"#;
    assert!(text.contains(drain), "{text}");
}

/// A supervisor in which everything is known.
fn all_known() -> Vec<samples::Samples> {
    let mut told = Told::new();
    let epoch = Epoch::ZERO;
    told.started(0).live(0, 40).observed(Observed::Live {
        epoch,
        version: Some("1.40.0".to_owned()),
        base_id: Some(7),
    });
    told.observed(Observed::Ended {
        epoch,
        cause: "handed_over",
        exit: Some(ExitCause::Code(0)),
        connections: Some(2),
    });
    told.state = State {
        epochs: [0, 1, 2, 0],
        live: Some(Epoch::new(3)),
        held: Some("cap"),
        retries_left: Some(10),
        degraded: false,
        on_probation: true,
    };
    let own = Figures {
        cpu_seconds: Some(1.5),
        resident_bytes: Some(8 << 20),
        virtual_bytes: Some(64 << 20),
        open_fds: Some(20),
        max_fds: Some(1024),
        start_seconds: Some(1_000.25),
    };
    told.metrics.seen(told.state.clone()).samples(&own)
}

#[test]
fn the_exported_text_stays_as_it_is() {
    let text = encode::encode(all_known(), Format::OpenMetrics);
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let body = text.body.replace(&version, "version=\"VERSION\"");
    insta::assert_snapshot!("open_metrics", body);
    assert!(text.body.ends_with("\n# EOF\n"));
    let text = encode::encode(all_known(), Format::Text);
    assert!(!text.body.contains("# EOF"));
    assert!(text.content_type.starts_with("text/plain; version=0.0.4"));
}

#[test]
fn every_family_is_exported_with_the_labels_that_are_documented() {
    let all = all_known();
    let exported: Vec<_> = all.iter().map(|samples| samples.family.name()).collect();
    let documented: Vec<_> = FAMILIES.iter().map(|family| family.name()).collect();
    assert_eq!(exported, documented);
    for samples::Samples { family, samples } in &all {
        for (labels, value) in samples {
            for (name, value) in labels {
                let label = family.labels.iter().find(|label| label.name == *name);
                let label = label.unwrap_or_else(|| panic!("{}: {name}", family.name()));
                let is_listed = label.values.is_empty() || label.values.contains(&value.as_str());
                assert!(is_listed, "{}: {name}=\"{value}\"", family.name());
            }
            let is_histogram = matches!(value, Value::Buckets(_));
            assert_eq!(is_histogram, family.kind == Kind::Histogram);
        }
    }
}

#[test]
fn a_reader_gets_the_format_that_it_names() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    for (accept, format) in [
        (None, Format::OpenMetrics),
        (Some("*/*"), Format::OpenMetrics),
        (Some(prometheus), Format::OpenMetrics),
        (Some("text/plain"), Format::Text),
        (Some("TEXT/PLAIN;version=0.0.4"), Format::Text),
        (Some("application/json"), Format::OpenMetrics),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept:?}");
    }
}

#[test]
fn the_state_of_the_agent_is_told_without_what_stands_for_a_drain() {
    let info = |number, state, purpose| handover_core::EpochInfo {
        epoch: Epoch::new(number),
        state,
        purpose,
        desired: true,
        withdrawn: false,
        on_probation: state == EpochState::Live,
        unfit: false,
        started: Timestamp::ZERO,
        released: false,
    };
    let status = Status {
        phase: handover_core::Phase::Running,
        standing: handover_core::Standing::Nothing,
        epochs: vec![
            info(0, EpochState::Draining, Purpose::Desired),
            info(1, EpochState::Live, Purpose::Desired),
            info(2, EpochState::Starting, Purpose::Fallback),
            info(3, EpochState::Starting, Purpose::Drain),
        ],
        held: Some(Held::Cap { running: 3 }),
        retries_left: Some(4),
        degraded: true,
        last_failure: None,
        started: tokio::time::Instant::now(),
    };
    let expected = State {
        epochs: [1, 1, 1, 0],
        live: Some(Epoch::new(1)),
        held: Some("cap"),
        retries_left: Some(4),
        degraded: true,
        on_probation: true,
    };
    assert_eq!(State::of(&status), expected);
}
