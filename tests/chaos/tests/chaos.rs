//! Real hand-overs at random. What failed once is repeated first.
//!
//! The seed is always the same, so that this fails for a change and not by luck. `cargo xtask soak` draws others.
#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a failing test ends with its story, and one that passes tells its figures"
)]

use std::path::{Path, PathBuf};
use std::thread;

use handover_chaos::{Outcome, Plan, Setup, run, step};
use handover_test_support::supervisor::handover_bin;

/// How many hand-overs each of the runs below makes.
const EACH: u64 = 100;

fn setup() -> Setup {
    Setup {
        handover: handover_bin(),
        fake: PathBuf::from(env!("CARGO_BIN_EXE_handover-chaos-envoy")),
        patience: Setup::PATIENCE,
    }
}

#[track_caller]
fn passes(what: &str, outcome: &Outcome) {
    if let Some(failure) = &outcome.failure {
        panic!(
            "{what}: {}\n{}\nall steps: {}",
            failure.problems.join("\n"),
            failure.details,
            step::write(&outcome.steps)
        );
    }
    println!("=== chaos, {what}: {}", outcome.summary);
}

/// Most of the time of a hand-over is waited, so three runs beside each other take little more than one.
#[test]
fn over_three_hundred_hand_overs_with_faults_nothing_is_lost_that_need_not_be_lost() {
    thread::scope(|scope| {
        let runs: Vec<_> = [1, 2, 3]
            .map(|seed| scope.spawn(move || (seed, run(&setup(), Plan::new(seed), EACH, |_| {}))))
            .into();
        for run in runs {
            let (seed, outcome) = run.join().unwrap();
            passes(&format!("seed {seed}"), &outcome.unwrap());
        }
    });
}

/// The lists of `failed/`: each broke an invariant once, and its first line says which.
#[test]
fn what_has_failed_once_passes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("failed");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let steps = step::read(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert!(!steps.is_empty(), "{name} has no step");
        passes(&name, &run(&setup(), [steps], u64::MAX, |_| {}).unwrap());
    }
}
