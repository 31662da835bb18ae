use handover_core::{EpochState, Severity};

use super::*;

const REJECTED: Exit = Exit::Failed(Severity::Permanent);
const FAILED: Exit = Exit::Failed(Severity::Transient);

/// A history, and its clock.
#[derive(Default)]
struct Story {
    history: History,
    now: Timestamp,
}

impl Story {
    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = Timestamp::new(Duration::from_secs(seconds));
        self
    }

    fn event(&mut self, event: Event) -> &mut Self {
        self.history.agent_event(self.now, &event);
        self
    }

    fn starts(&mut self, epoch: u32) -> &mut Self {
        self.event(Event::Started {
            epoch: Epoch::new(epoch),
            purpose: Purpose::Desired,
        })
    }

    fn live(&mut self, epoch: u32) -> &mut Self {
        self.event(Event::Live {
            epoch: Epoch::new(epoch),
            after: Duration::ZERO,
        })
    }

    fn superseded(&mut self, epoch: u32, by: u32) -> &mut Self {
        let (epoch, by) = (Epoch::new(epoch), Epoch::new(by));
        self.event(Event::Superseded { epoch, by })
    }

    fn exits(&mut self, epoch: u32, exit: Exit) -> &mut Self {
        let (epoch, was) = (Epoch::new(epoch), EpochState::Live);
        self.event(Event::Exited { epoch, exit, was })
    }

    fn ends(&mut self, epoch: u32, cause: &'static str, connections: Option<u64>) -> &mut Self {
        self.history.observed(&Observed::Ended {
            epoch: Epoch::new(epoch),
            cause,
            exit: None,
            connections,
        });
        self
    }

    fn on_probation(&mut self, epoch: u32) -> &mut Self {
        self.history.epochs_are([EpochInfo {
            epoch: Epoch::new(epoch),
            state: EpochState::Live,
            purpose: Purpose::Desired,
            desired: true,
            withdrawn: false,
            on_probation: true,
            unfit: false,
            started: Timestamp::ZERO,
            released: false,
        }]);
        self
    }

    /// Each epoch as a line: its stages and its end, by the minutes and seconds of an hour.
    fn told(&self) -> String {
        let wall = SystemTime::UNIX_EPOCH + self.now.elapsed();
        let mut told = String::new();
        for epoch in self.history.view(self.now, wall) {
            told += &format!("epoch {}:", epoch.epoch);
            for since in epoch.stages {
                let (_, time) = since.at.split_at("1970-01-01T00:".len());
                told += &format!(" {} {:?},", time.trim_end_matches(".000Z"), since.stage);
            }
            match epoch.end {
                None => told += " runs",
                Some(end) => {
                    let (_, time) = end.at.split_at("1970-01-01T00:".len());
                    let time = time.trim_end_matches(".000Z");
                    let (cause, connections) = (end.cause.unwrap_or_default(), end.connections);
                    told += &format!(" {time} {:?} ({cause}, {connections:?})", end.result);
                }
            }
            told.push('\n');
        }
        told
    }
}

#[test]
fn a_hand_over_a_failure_and_its_retry_are_told_with_their_times() {
    let mut story = Story::default();
    story.starts(0).at(1).live(0);
    story.at(10).starts(1).at(11).live(1).superseded(0, 1);
    story.at(12).starts(2).at(13).ends(2, "configuration", None);
    story.exits(2, FAILED).at(15).starts(2);
    story
        .at(70)
        .ends(0, "handed_over", Some(0))
        .exits(0, Exit::Clean);
    insta::assert_snapshot!(story.told(), @r"
    epoch 0: 00:00 Starting, 00:01 Live, 00:11 Draining, 01:10 HandedOver (handed_over, Some(0))
    epoch 1: 00:10 Starting, 00:11 Live, runs
    epoch 2: 00:12 Starting, 00:13 Failed (configuration, None)
    epoch 2: 00:15 Starting, runs
    ");
}

#[test]
fn probation_begins_with_live_whenever_it_is_seen() {
    let mut story = Story::default();
    story.starts(0).at(1).live(0).at(3).on_probation(0);
    story
        .at(11)
        .event(Event::ProbationPassed { epoch: Epoch::ZERO });
    story.at(20).starts(1).at(21).live(1).superseded(0, 1);
    story.at(25).event(Event::Unfit {
        epoch: Epoch::new(1),
        replaced: true,
    });
    story.starts(2).at(26).live(2).superseded(1, 2);
    story.at(30).exits(1, Exit::Clean);
    // It is shown from its first moment on, before any step has shown it.
    story.at(40).on_probation(2).on_probation(7);
    insta::assert_snapshot!(story.told(), @r"
    epoch 0: 00:00 Starting, 00:01 Probation, 00:11 Live, 00:21 Draining, runs
    epoch 1: 00:20 Starting, 00:21 Probation, 00:25 Unfit, 00:26 Draining, 00:30 Unfit (, None)
    epoch 2: 00:25 Starting, 00:26 Probation, runs
    ");
}

#[test]
fn each_way_to_end_has_a_word() {
    let mut story = Story::default();
    let epoch = Epoch::new;
    let after = Duration::ZERO;
    story
        .starts(0)
        .live(0)
        .at(1)
        .exits(0, FAILED)
        .ends(0, "crashed", Some(9));
    story.starts(1).at(2);
    story.event(Event::StartTimedOut { epoch: epoch(1) });
    story.history.aborts(story.now, epoch(1));
    story.at(3).exits(1, Exit::Aborted);
    story.starts(1).exits(1, REJECTED);
    story.starts(1).ends(1, "exited", None).exits(1, REJECTED);
    story.starts(2).event(Event::GivesWay {
        epoch: epoch(2),
        after,
    });
    story.exits(2, Exit::Aborted);
    // It stops serving, and the next one takes its place.
    story.starts(3).at(4).live(3);
    story.event(Event::StoppedServing { epoch: epoch(3) });
    // Late, and live all the same.
    story
        .starts(4)
        .event(Event::StartTimedOut { epoch: epoch(4) });
    story.at(5).live(4).superseded(3, 4).exits(3, Exit::Clean);
    story.at(6).event(Event::Started {
        epoch: epoch(5),
        purpose: Purpose::Drain,
    });
    story.event(Event::Draining { until: None }).at(8);
    story.exits(4, Exit::Clean).exits(5, Exit::Clean);
    insta::assert_snapshot!(story.told(), @r"
    epoch 0: 00:00 Starting, 00:00 Live, 00:01 Failed (crashed, Some(9))
    epoch 1: 00:01 Starting, 00:02 Aborting, 00:03 Late (, None)
    epoch 1: 00:03 Starting, 00:03 Rejected (, None)
    epoch 1: 00:03 Starting, 00:03 Failed (exited, None)
    epoch 2: 00:03 Starting, 00:03 GaveWay (, None)
    epoch 3: 00:03 Starting, 00:04 Live, 00:04 Draining, 00:05 HandedOver (, None)
    epoch 4: 00:04 Starting, 00:05 Live, 00:06 Draining, 00:08 Ended (, None)
    ");
}

#[test]
fn what_is_held_is_bounded_and_what_runs_is_kept() {
    let mut story = Story::default();
    story.starts(0).live(0).on_probation(0);
    for round in 0..1_000 {
        story.at(round).starts(1).exits(1, FAILED);
    }
    story.event(Event::ProbationPassed { epoch: Epoch::ZERO });
    // A drain of everything is told once, however often it is asked for.
    for round in 1_000..2_000 {
        story.at(round).event(Event::Draining { until: None });
        story.history.aborts(story.now, Epoch::ZERO);
    }
    let held = story.history.view(story.now, SystemTime::UNIX_EPOCH);
    assert_eq!((held.len(), held[0].epoch), (EPOCHS, 0));
    let stages: Vec<_> = held[0].stages.iter().map(|since| since.stage).collect();
    let each_once = [
        Stage::Starting,
        Stage::Probation,
        Stage::Live,
        Stage::Draining,
        Stage::Aborting,
    ];
    assert_eq!(stages, each_once);
    for _ in 0..100 {
        story.starts(2);
    }
    assert_eq!(story.history.epochs.len(), EPOCHS);
}

#[test]
fn a_clock_far_from_ours_is_written_all_the_same() {
    let second = Duration::from_secs(1);
    assert_eq!(
        written(SystemTime::UNIX_EPOCH, second),
        "1970-01-01T00:00:00.000Z"
    );
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    assert_eq!(written(far, second), "9999-12-31T23:59:59.000Z");
    let ago = SystemTime::UNIX_EPOCH + 3 * second;
    assert_eq!(written(ago, second), "1970-01-01T00:00:02.000Z");
}
