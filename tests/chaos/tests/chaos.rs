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
use std::time::Duration;

use handover_chaos::{
    Done, Failure, Kind, Outcome, Plan, Setup, Step, Violation, run, shorten, step, with_an_end,
};
use handover_test_support::supervisor::handover_bin;

/// How many hand-overs each of the runs below makes.
const EACH: u64 = 100;

fn setup() -> Setup {
    let fake = PathBuf::from(env!("CARGO_BIN_EXE_handover-chaos-envoy"));
    Setup::new(handover_bin(), fake)
}

#[track_caller]
fn passes(what: &str, replay: &str, outcome: &Outcome) {
    let name = format!("chaos-{}.txt", what.replace(' ', "-"));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let kept = file.display().to_string();
    if let Some(page) = outcome.story(what, replay, &kept) {
        let kept = outcome.keep(&page, &file);
        panic!("{page}everything was kept: {kept:?}");
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
            let replay = format!("cargo xtask chaos --hand-overs {EACH} --seed {seed}");
            passes(&format!("seed {seed}"), &replay, &outcome.unwrap());
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
        let replay = format!("cargo xtask chaos --steps '{}'", step::write(&steps));
        let outcome = run(&setup(), with_an_end(steps), u64::MAX, |_| {});
        passes(&name, &replay, &outcome.unwrap());
    }
}

/// A violation that is planted into the last eleven of two thousand steps. The shortening runs the shipped programs.
#[test]
fn of_two_thousand_steps_that_fail_at_most_ten_are_left_within_the_time() {
    let setup = Setup {
        plant: Some("signal usr1 then reload --cold".parse().unwrap()),
        ..setup()
    };
    let harmless = "status; who; signal alrm; change same; settle; ".repeat(400);
    let mut steps = step::read(&harmless).unwrap();
    let count = steps.len();
    steps[count - 11] = "signal usr1".parse().unwrap();
    steps[count - 3] = "reload --cold".parse().unwrap();
    let took = Duration::from_millis(50);
    let failed = Outcome {
        summary: handover_chaos::Summary::default(),
        steps: steps
            .into_iter()
            .map(|step| Done {
                step,
                at: Duration::ZERO,
                took,
            })
            .collect(),
        log: String::new(),
        is_broken_off: false,
        failure: Some(Failure {
            violations: vec![Violation {
                kind: Kind::Planted,
                text: String::new(),
            }],
            ..Failure::default()
        }),
    };
    let limit = Duration::from_secs(90);
    let found = shorten(&setup, &failed, limit).unwrap();
    let (runs, seconds) = (found.runs, found.took.as_secs_f64());
    let shortest = found.shortest.unwrap_or_default();
    println!(
        "=== chaos, shortened: {} of {count} steps after {runs} runs in {seconds:.1} s",
        shortest.len()
    );
    let needed: [Step; 2] = ["signal usr1", "reload --cold"].map(|step| step.parse().unwrap());
    assert!(shortest.len() <= 10, "{}", step::write(&shortest));
    assert!(
        needed.iter().all(|step| shortest.contains(step)),
        "{}",
        step::write(&shortest)
    );
    // Every run is broken off when the time is over.
    assert!(found.took < limit + Duration::from_secs(20), "{seconds} s");
}
