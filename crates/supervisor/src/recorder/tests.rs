//! What is recorded can be read and replayed, whatever becomes of the files.

mod chosen;
mod event_log;
mod small_disk;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_core::{Epoch, Exit, Input, Machine, Policy, Severity, Timestamp, Urgency};
use handover_tokio::Observer as _;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use self::chosen::{request, seen, view};
use super::files::{LIMITS, Limits};
use super::format::{HEADER, LONGEST_LINE};
use super::tape::{Recorded, Tape};
use super::writer::{Place, Writer};
use super::*;
use crate::operator::{
    self, Applies, AskId, CallId, ChangeId, Clients, ExaminationId, Inputs, LookId, Operator,
    ReadFailure, ReadId, Reading, Refusal, Report, Settings, Settlement, Signal, TakenIn,
};

/// It is in every configuration and every text.
const MARKER: &str = "k3y-of-the-t3st";

fn temporary() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap()
}

fn config(number: u8) -> String {
    format!("{MARKER} {number}")
}

fn report(number: u8) -> Report {
    Report {
        message: format!("{MARKER}: bad field {number}"),
        lines: vec![format!("password: {MARKER}"); usize::from(number % 3)],
    }
}

/// Both machines of a run that was never there, and what records them.
struct World {
    machine: Machine<String>,
    operator: Operator<String>,
    agent: Recorded<String>,
    of_operator: Recorded<String>,
    at: Duration,
    asks: u64,
}

impl World {
    fn new(recorder: &Recorder) -> Self {
        let (agent, of_operator) = recorder.tape();
        Self::with(agent, of_operator)
    }

    fn with(agent: Recorded<String>, of_operator: Recorded<String>) -> Self {
        let mut policy = Policy::resilient();
        policy.retry.jitter = handover_core::retry::Jitter::percent(50);
        let settings = Settings {
            no_cold_restart: Some("not for this proxy"),
            probation: Some(Duration::from_secs(10)),
            applies: Applies::FromClients { kept: true },
            ..Settings::default()
        };
        Self {
            machine: Machine::with_seed(policy, 7).unwrap(),
            operator: Operator::new(settings),
            agent,
            of_operator,
            at: Duration::ZERO,
            asks: 0,
        }
    }

    /// One step of one of the machines, chosen by two numbers.
    fn step(&mut self, what: u8, number: u8) {
        self.at += Duration::from_millis(u64::from(number) * 37) + Duration::from_nanos(13);
        if what.is_multiple_of(2) {
            self.agent_step(what / 2, number);
        } else {
            self.operator_step(what / 2, number);
        }
    }

    fn agent_step(&mut self, what: u8, number: u8) {
        let epoch = Epoch::new(u32::from(number % 3));
        let input = match what % 12 {
            0 | 1 => Some(Input::Desire(config(number % 5))),
            2 => Some(Input::Renew(config(number % 5))),
            3 => Some(Input::Restart(config(number % 5))),
            4 | 5 => Some(Input::Live(epoch)),
            6 => Some(Input::Exited(epoch, Exit::Failed(Severity::Transient))),
            7 => Some(Input::Exited(epoch, Exit::Failed(Severity::Permanent))),
            8 => Some(Input::Exited(epoch, Exit::Aborted)),
            9 => Some(Input::StoppedServing(epoch)),
            10 if number == 200 => Some(Input::Terminate(Urgency::Drain)),
            10 => Some(Input::Released(epoch)),
            _ => None,
        };
        let at = self.machine.poll_timeout().filter(|_| input.is_none());
        self.at = at.map_or(self.at, |due| due.at.elapsed().max(self.at));
        let now = Timestamp::new(self.at);
        self.agent.step_begins(&self.machine, now, input.as_ref());
        match input {
            Some(input) => drop(self.machine.handle_input(now, input)),
            None => self.machine.handle_timeout(now),
        }
        while let Some(output) = self.machine.poll_output() {
            self.agent.output(&output);
        }
    }

    fn operator_step(&mut self, what: u8, number: u8) {
        let newest = u64::from(number % 4);
        let input = match what % 24 {
            22 | 23 => Some(operator::Input::Examined {
                examination: self.operator.examining().unwrap_or(ExaminationId(newest)),
                seen: seen(number),
            }),
            0 => Some(operator::Input::Signal(Signal::HangUp)),
            1 => Some(operator::Input::FilesChanged),
            2 | 3 => Some(operator::Input::ReadDone {
                read: self.operator.reading().unwrap_or(ReadId(newest)),
                result: Ok(Reading {
                    config: config(number % 5),
                    inputs: Inputs([number; 32]),
                }),
            }),
            4 => Some(operator::Input::ReadDone {
                read: self.operator.reading().unwrap_or(ReadId(newest)),
                result: Err(ReadFailure {
                    report: report(number),
                    shortage: number.is_multiple_of(2),
                }),
            }),
            5 => Some(operator::Input::TakenIn {
                change: self.operator.changing().unwrap_or(ChangeId(newest)),
                result: TakenIn::Changed,
            }),
            6 | 7 => Some(operator::Input::Settled {
                change: self.operator.changing().unwrap_or(ChangeId(newest)),
                result: match number % 3 {
                    0 => Settlement::Live(Epoch::ZERO),
                    1 => Settlement::GivenUp {
                        epoch: Epoch::ZERO,
                        report: Some(report(number)),
                    },
                    _ => Settlement::Replaced,
                },
            }),
            8..=10 => Some(operator::Input::AgentChanged(view(number))),
            11 => Some(operator::Input::CallDone {
                call: self.operator.calls().next().unwrap_or(CallId(newest)),
                result: Err(Refusal::Failed(report(number))),
            }),
            12 => Some(operator::Input::ClientsWatched {
                ask: AskId(newest),
                result: Clients::Unknown(vec![MARKER.to_owned()]),
            }),
            13 | 14 => Some(operator::Input::Looked {
                look: self.operator.looking().unwrap_or(LookId(newest)),
                listens: BTreeMap::from([(Epoch::ZERO, Some(number.is_multiple_of(2)))]),
            }),
            15 if number == 201 => Some(operator::Input::Broken(MARKER.to_owned())),
            15..=18 => {
                self.asks += 1;
                let ask = AskId(self.asks);
                let request = request(number);
                Some(operator::Input::Asked { ask, request })
            }
            19 if number == 202 => Some(operator::Input::AgentEnded(Err(MARKER.to_owned()))),
            19 if number.is_multiple_of(3) => Some(operator::Input::Kept {
                text: self.operator.applied().last().unwrap_or(AskId(newest)),
                result: match number.is_multiple_of(2) {
                    true => Ok(()),
                    false => Err(report(number)),
                },
            }),
            19 => Some(operator::Input::AskGone(AskId(self.asks))),
            _ => None,
        };
        let now = Timestamp::new(self.at);
        self.of_operator
            .operator_step(&self.operator, now, input.as_ref());
        match input {
            Some(input) => drop(self.operator.handle_input(now, input)),
            None => self.operator.handle_timeout(now),
        }
        while let Some(output) = self.operator.poll_output() {
            self.of_operator.operator_output(&output);
        }
    }
}

/// Hears of everything, and keeps what should not be.
#[derive(Default)]
struct Heard {
    notes: Vec<Note>,
    differences: Vec<String>,
    missing: usize,
}

impl Watch for Heard {
    fn note(&mut self, note: &Note) {
        self.notes.push(note.clone());
    }

    fn agent(&mut self, step: &AgentStep, _machine: &Machine<u64>) {
        let difference = step.difference.as_ref();
        self.differences
            .extend(difference.map(|it| format!("{:?}: {it:?}", step.input)));
    }

    fn operator(&mut self, step: &OperatorStep) {
        let difference = step.difference.as_ref();
        self.differences
            .extend(difference.map(|it| format!("{:?}: {it:?}", step.input)));
    }

    fn missing(&mut self, _who: Who) {
        self.missing += 1;
    }

    fn other_state(&mut self, who: Who, at: Timestamp) {
        self.differences.push(format!("state of {who} at {at}"));
    }
}

fn replayed(recording: &Recording) -> (Replayed, Heard) {
    let mut heard = Heard::default();
    let replayed = replay(recording, &mut heard);
    (replayed, heard)
}

/// Waits until all that was passed on is written.
fn end(recorder: Recorder) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(recorder.close());
}

fn small(records: u64) -> Limits {
    Limits { records, ..LIMITS }
}

/// Records a run step by step, slowly enough for the queue.
fn record(dir: &Path, limits: Limits, steps: impl IntoIterator<Item = (u8, u8)>) {
    let recorder = Recorder::open_with(dir, json!({ "version": "test" }), limits).unwrap();
    let mut world = World::new(&recorder);
    for (index, (what, number)) in steps.into_iter().enumerate() {
        world.step(what, number);
        if index % 8 == 7 {
            recorder.wait_until_idle();
        }
    }
    end(recorder);
}

fn bytes_of(dir: &Path) -> Vec<u8> {
    let files = Recording::files_in(dir);
    files
        .iter()
        .flat_map(|path| fs::read(path).unwrap())
        .collect()
}

/// A long run without an order.
fn steps(count: usize) -> impl Iterator<Item = (u8, u8)> {
    let mut random = handover_core::retry::SplitMix64::new(3);
    (0..count).map(move |_| {
        let [what, number, ..] = random.next_u64().to_le_bytes();
        // The ends are for the other tests.
        (what, number.min(199))
    })
}

fn config_of_proptest(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config_of_proptest(60))]

    #[test]
    fn what_is_recorded_is_replayed_without_a_difference(
        steps in vec(any::<(u8, u8)>(), 1..120), records in 5_u64..60,
    ) {
        let dir = temporary();
        record(dir.path(), small(records), steps);
        let recording = Recording::read(dir.path()).unwrap();
        prop_assert_eq!(&recording.problems, &[]);
        let (sum, heard) = replayed(&recording);
        prop_assert_eq!(&heard.differences, &[""; 0]);
        prop_assert!(sum.steps > 0 && sum.unusable_states == 0, "{sum:?}");
        let found = bytes_of(dir.path());
        prop_assert!(!String::from_utf8(found).unwrap().contains(MARKER));
    }

    #[test]
    fn a_record_is_read_as_it_was_written(
        nanos in any::<u64>(), who in 0..2_usize, sign in 0..5_usize, text in ".*", number in any::<i64>(),
    ) {
        let record = Record::Of {
            at: Timestamp::new(Duration::from_nanos(nanos)),
            who: Who::ALL[who],
            sign: [Sign::State, Sign::Input, Sign::Deadline, Sign::Output, Sign::Missing][sign],
            value: json!({ "text": text, "number": number }),
        };
        let line = record.to_string();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(Record::parse(&line).unwrap(), record);
    }

    #[test]
    fn garbage_is_a_problem_and_nothing_worse(
        garbage in vec(any::<u8>(), 0..400), at in any::<u16>(), with_header in any::<bool>(),
    ) {
        let mut bytes = if with_header { sample() } else { Vec::new() };
        let at = usize::from(at) % (bytes.len() + 1);
        bytes.splice(at..at, garbage);
        let mut recording = Recording::default();
        if recording.add(Path::new("x"), &bytes).is_ok() {
            let (_, heard) = replayed(&recording);
            prop_assert!(heard.differences.is_empty() || with_header);
        }
    }

    #[test]
    fn another_number_or_name_in_a_recording_never_ends_the_replay(
        at in any::<u32>(), byte in prop_oneof!["[0-9]", "[a-zA-Z\"{}]"],
    ) {
        let mut bytes = sample();
        let at = usize::try_from(at).unwrap() % bytes.len();
        bytes[at] = byte.as_bytes()[0];
        let mut recording = Recording::default();
        if recording.add(Path::new("x"), &bytes).is_ok() {
            replayed(&recording);
        }
    }
}

/// A short recording of a clean run.
fn sample() -> Vec<u8> {
    static SAMPLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let make = || {
        let dir = temporary();
        record(dir.path(), LIMITS, steps(40));
        bytes_of(dir.path())
    };
    SAMPLE.get_or_init(make).clone()
}

#[test]
fn a_recording_that_ends_anywhere_is_read_up_to_its_last_whole_record() {
    let dir = temporary();
    record(dir.path(), LIMITS, steps(5));
    let whole = bytes_of(dir.path());
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    for length in HEADER.len() + 1..=whole.len() {
        let mut recording = Recording::default();
        let cut = &whole[..length];
        recording.add(Path::new("x"), cut).unwrap();
        let records = recording.parts[0].records.iter().flatten().count();
        assert_eq!(records + 1, lines(cut), "{length}");
        let is_half = cut.last() != Some(&b'\n');
        assert_eq!(recording.problems.len(), usize::from(is_half), "{length}");
        if is_half {
            let problem = recording.problems[0].to_string();
            assert!(problem.contains("written in part"), "{problem}");
        }
        let (_, heard) = replayed(&recording);
        assert_eq!(heard.differences, [""; 0], "{length}");
    }
}

#[test]
fn another_output_another_state_and_a_lost_input_are_differences() {
    let text = String::from_utf8(sample()).unwrap();
    let read = |text: &str| {
        let mut recording = Recording::default();
        recording.add(Path::new("x"), text.as_bytes()).unwrap();
        replayed(&recording).0
    };
    let sum = read(&text);
    assert_eq!((sum.differences, sum.left_out > 2), (0, false), "{sum:?}");
    assert!(sum.steps >= 40, "{sum:?}");
    // An output is gone.
    let mut lines: Vec<_> = text.lines().collect();
    let output = lines
        .iter()
        .position(|line| line.contains(" agent > {\"Start\""))
        .unwrap();
    let start = lines.remove(output);
    assert_eq!(read(&(lines.join("\n") + "\n")).differences, 1);
    // It is another one.
    let other = start.replace("\"epoch\":0", "\"epoch\":9");
    assert_ne!(other, start);
    lines.insert(output, &other);
    assert_eq!(read(&(lines.join("\n") + "\n")).differences, 1);
    // An input is gone, and with it what it has led to.
    let lines: Vec<_> = text.lines().collect();
    let leads_to_something =
        |at: usize| lines[at].contains(" agent < ") && lines[at + 1].contains(" agent > ");
    // Not the first one: its outputs would belong to no step.
    let input = (0..lines.len() - 1)
        .filter(|at| leads_to_something(*at))
        .nth(1)
        .unwrap();
    let lines: Vec<_> = [&lines[..input], &lines[input + 1..]].concat();
    assert!(read(&(lines.join("\n") + "\n")).differences >= 1);
}

#[test]
fn the_files_stay_small_and_hold_the_last_ten_thousand_records() {
    let dir = temporary();
    let recorder = Recorder::open(dir.path(), json!(null)).unwrap();
    let mut world = World::new(&recorder);
    let mut most = 0;
    for (index, (what, number)) in steps(24_000).enumerate() {
        world.step(what, number);
        if index % 16 == 15 {
            recorder.wait_until_idle();
        }
        if index % 1_000 == 999 {
            most = most.max(bytes_of(dir.path()).len());
        }
    }
    end(recorder);
    assert!(most <= 2 * (1_300 << 10), "{most}");
    let recording = Recording::read(dir.path()).unwrap();
    assert_eq!(recording.parts.len(), 2);
    assert_eq!(recording.problems, []);
    let records: usize = recording.parts.iter().map(|part| part.records.len()).sum();
    assert!(records >= 10_000, "{records}");
    let (sum, heard) = replayed(&recording);
    assert_eq!(
        (sum.differences, heard.missing),
        (0, 0),
        "{:?}",
        heard.differences
    );
    // Each file has its states, so each input is replayed.
    assert_eq!(sum.left_out, 0, "{sum:?}");
    for path in Recording::files_in(dir.path()) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[test]
fn a_run_after_a_killed_one_goes_on_in_the_same_file() {
    let dir = temporary();
    let path = dir.path().join(NEW);
    record(dir.path(), LIMITS, steps(30));
    // The last record of a process that was killed.
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 9);
    fs::write(&path, &bytes).unwrap();
    record(dir.path(), LIMITS, steps(30));
    assert!(fs::read(&path).unwrap().starts_with(&bytes));
    let recording = Recording::read(dir.path()).unwrap();
    assert_eq!(recording.problems.len(), 1, "{:?}", recording.problems);
    let (sum, heard) = replayed(&recording);
    assert_eq!((sum.differences, sum.steps >= 60), (0, true), "{sum:?}");
    let begins = heard
        .notes
        .iter()
        .filter(|note| matches!(note, Note::Begin(_)));
    assert_eq!(begins.count(), 2);
}

#[test]
fn one_process_records_in_a_directory_at_a_time() {
    let dir = temporary();
    let first = Recorder::open(dir.path(), json!(null)).unwrap();
    let error = Recorder::open(dir.path(), json!(null)).unwrap_err();
    assert!(
        error.to_string().contains("a directory of its own"),
        "{error}"
    );
    end(first);
    // The thread gives the lock back a moment later.
    let again = (0..1_000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(5));
        Recorder::open(dir.path(), json!(null)).ok()
    });
    end(again.unwrap());
}

#[test]
fn what_is_not_of_this_version_is_put_aside_and_told() {
    let dir = temporary();
    let path = dir.path().join(NEW);
    fs::write(&path, "handover-recording 99\n{}\n").unwrap();
    let error = Recording::read(&path).unwrap_err();
    assert!(matches!(error, ReadError::Version { .. }), "{error}");
    record(dir.path(), LIMITS, steps(3));
    let recording = Recording::read(dir.path()).unwrap();
    assert_eq!((recording.parts.len(), recording.problems.len()), (1, 1));
    fs::write(&path, "policy resilient\n").unwrap();
    let error = Recording::read(&path).unwrap_err();
    assert!(matches!(error, ReadError::Other { .. }), "{error}");
    let empty = temporary();
    let error = Recording::read(empty.path()).unwrap_err();
    assert!(matches!(error, ReadError::Nothing { .. }), "{error}");
}

#[test]
fn no_pipe_or_link_or_directory_is_written_to() {
    let dir = temporary();
    let path = dir.path().join(NEW);
    let refused = || {
        let error = Recorder::open(dir.path(), json!(null)).unwrap_err();
        assert!(matches!(error, OpenError::Os { .. }), "{error}");
    };
    fs::create_dir(&path).unwrap();
    refused();
    fs::remove_dir(&path).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    refused();
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "mine");
}

#[test]
fn a_line_that_is_too_long_is_left_out_and_counted() {
    let dir = temporary();
    let recorder = Recorder::open(dir.path(), json!(null)).unwrap();
    let mut world = World::new(&recorder);
    let many = u32::try_from(LONGEST_LINE).unwrap() / 4;
    let listens = (0..many).map(|number| (Epoch::new(number), None)).collect();
    let now = Timestamp::ZERO;
    world.operator_step(0, 0);
    let look = LookId(1);
    let input = operator::Input::Looked { look, listens };
    world
        .of_operator
        .operator_step(&world.operator, now, Some(&input));
    let _ = world.operator.handle_input(now, input);
    for (what, number) in steps(20) {
        world.step(what, number);
    }
    end(recorder);
    let recording = Recording::read(dir.path()).unwrap();
    assert_eq!(recording.problems, []);
    let (sum, heard) = replayed(&recording);
    assert_eq!(
        (sum.differences, heard.missing),
        (0, 1),
        "{:?}",
        heard.differences
    );
    let missing = recording.parts[0]
        .records
        .iter()
        .flatten()
        .find_map(|record| match record {
            Record::Of {
                sign: Sign::Missing,
                value,
                ..
            } => value.as_u64(),
            Record::Note(_) | Record::Of { .. } => None,
        });
    assert!(missing.is_some_and(|missing| missing >= 1), "{missing:?}");
    let mut long = Recording::default();
    let line = format!(
        "{HEADER}\n0.000000000 agent < \"{}\"\n",
        "x".repeat(LONGEST_LINE)
    );
    long.add(Path::new("x"), line.as_bytes()).unwrap();
    assert!(
        long.problems[0].what.contains("longer than"),
        "{:?}",
        long.problems
    );
}

/// A disk that is full for a while.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    written: Vec<u8>,
    whole: usize,
    is_full: bool,
}

impl Place for Disk {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.is_full {
            // Half a record still fits.
            state.written.extend(&lines[..lines.len() / 2]);
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.written.extend(lines);
        state.whole = state.written.len();
        Ok(())
    }

    fn repair(&mut self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let whole = state.whole;
        state.written.truncate(whole);
        Ok(())
    }

    fn would_free_enough(&self, _bytes: usize) -> bool {
        false
    }

    fn file_limit(&self) -> u64 {
        u64::MAX
    }

    fn rotate(&mut self, _at: String) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        match state.is_full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => {
                *state = State::default();
                Ok(())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("disk")
    }

    fn write_last_lines(&mut self, _text: &str) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_costs_records_and_they_are_counted_when_it_has_room_again() {
    let disk = Disk::default();
    let writer = Writer::start(disk.clone(), None, LastLines::default(), Duration::ZERO).unwrap();
    let tape = Arc::new(Mutex::new(Tape::new(writer.clone(), LIMITS, 0, 0)));
    let recorded = |who| Recorded::new(&tape, who);
    let mut world = World::with(recorded(Who::Agent), recorded(Who::Operator));
    let mut all = steps(90);
    let mut go = |world: &mut World| {
        for (what, number) in all.by_ref().take(30) {
            world.step(what, number);
            writer.wait_until_idle();
        }
    };
    go(&mut world);
    let before = disk.0.lock().unwrap().written.len();
    disk.0.lock().unwrap().is_full = true;
    go(&mut world);
    disk.0.lock().unwrap().is_full = false;
    go(&mut world);
    let state = disk.0.lock().unwrap();
    assert!(state.written.len() > before);
    let text = String::from_utf8(state.written.clone()).unwrap();
    let (_, after) = text.split_once("{\"dropped\":").unwrap();
    assert!(
        after.contains(" agent = ") && after.contains(" operator = "),
        "{after}"
    );
    let mut recording = Recording::default();
    let bytes = [format!("{HEADER}\n").as_bytes(), &state.written].concat();
    recording.add(Path::new("x"), &bytes).unwrap();
    assert_eq!(recording.problems, []);
    let (sum, heard) = replayed(&recording);
    assert_eq!(sum.differences, 0, "{:?}", heard.differences);
    let dropped = heard.notes.iter().find_map(|note| match note {
        Note::Dropped(dropped) => Some(*dropped),
        Note::Begin(_) | Note::End { .. } => None,
    });
    assert!(
        dropped.is_some_and(|dropped| dropped > 0),
        "{:?}",
        heard.notes
    );
}

#[test]
fn a_disk_that_hangs_costs_records_and_never_a_step() {
    let disk = Disk::default();
    let hangs = disk.0.lock().unwrap();
    let writer = Writer::start(disk.clone(), None, LastLines::default(), Duration::ZERO).unwrap();
    let tape = Arc::new(Mutex::new(Tape::new(writer.clone(), small(500), 0, 0)));
    let recorded = |who| Recorded::new(&tape, who);
    let mut world = World::with(recorded(Who::Agent), recorded(Who::Operator));
    let mut all = steps(4_100);
    for (what, number) in all.by_ref().take(4_000) {
        world.step(what, number);
    }
    drop(hangs);
    writer.wait_until_idle();
    for (what, number) in all {
        world.step(what, number);
        writer.wait_until_idle();
    }
    let state = disk.0.lock().unwrap();
    let mut recording = Recording::default();
    let bytes = [format!("{HEADER}\n").as_bytes(), &state.written].concat();
    recording.add(Path::new("x"), &bytes).unwrap();
    let (sum, heard) = replayed(&recording);
    assert_eq!(
        (sum.differences, sum.steps > 50),
        (0, true),
        "{:?} {sum:?}",
        heard.differences
    );
}

#[test]
fn a_configuration_keeps_its_number_as_long_as_a_machine_holds_it() {
    let dir = temporary();
    let recorder = Recorder::open(dir.path(), json!(null)).unwrap();
    let mut world = World::new(&recorder);
    let desire = |world: &mut World, config: String| {
        world.at += Duration::from_secs(1);
        let now = Timestamp::new(world.at);
        let input = Input::Desire(config);
        world.agent.step_begins(&world.machine, now, Some(&input));
        let _ = world.machine.handle_input(now, input);
        while let Some(output) = world.machine.poll_output() {
            world.agent.output(&output);
        }
    };
    desire(&mut world, config(0));
    world.agent_step(4, 0);
    for number in 1..100 {
        desire(&mut world, config(number));
        recorder.wait_until_idle();
    }
    desire(&mut world, config(0));
    assert!(
        world.agent.known_configs() <= 20,
        "{}",
        world.agent.known_configs()
    );
    end(recorder);
    let text = fs::read_to_string(dir.path().join(NEW)).unwrap();
    let desires: Vec<_> = text
        .lines()
        .filter(|line| line.contains("< {\"Desire\":"))
        .collect();
    assert!(desires[0].ends_with("{\"Desire\":1}"), "{}", desires[0]);
    assert!(desires[100].ends_with("{\"Desire\":1}"), "{}", desires[100]);
    let (sum, heard) = replayed(&Recording::read(dir.path()).unwrap());
    assert_eq!(sum.differences, 0, "{:?}", heard.differences);
}

#[test]
fn the_end_and_what_the_program_says_of_itself_are_there() {
    let dir = temporary();
    record(dir.path(), LIMITS, [(0, 0)]);
    let (_, heard) = replayed(&Recording::read(dir.path()).unwrap());
    let [Note::Begin(begin), Note::End { .. }] = heard.notes.as_slice() else {
        unreachable!("{:?}", heard.notes)
    };
    assert_eq!(begin.pid, std::process::id());
    assert_eq!(begin.about, json!({ "version": "test" }));
    assert!(!begin.continues);
}
