//! The program of `cargo xtask chaos`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people and CI logs: printing is what it does"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Parser;
use handover_chaos::{Failure, Outcome, Plan, Setup, Step, run, shrink, step};

/// Let the fake Envoy hand over often, with faults, signals, stops and shortages, and check that nothing is
/// lost that need not be lost.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", max_term_width = 100)]
struct Arguments {
    /// End after so many hand-overs.
    #[arg(long, value_name = "N", default_value_t = 300)]
    hand_overs: u64,
    /// The number that all steps follow from. Without it, one is chosen and printed.
    #[arg(long, value_name = "S", conflicts_with = "steps")]
    seed: Option<u64>,
    /// Do these steps instead, once: a list with semicolons between them, as a failing run prints it.
    #[arg(long, value_name = "LIST")]
    steps: Option<String>,
    /// How long a failing run is repeated in parts, to find the shortest list that fails; 0 for not at all.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    shorten: u64,
    /// Print each burst, with when it began, how long it took and how many requests were lost.
    #[arg(long)]
    verbose: bool,
    /// Write what the supervisor and its processes print to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The program under test. Otherwise `handover` beside this program.
    #[arg(long, value_name = "FILE")]
    handover: Option<PathBuf>,
}

/// How often a part is repeated before it counts as one that does not fail. Moments are not repeated exactly.
const REPEATS: usize = 3;

fn main() -> ExitCode {
    match command(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: &Arguments) -> Result<bool> {
    let setup = setup(arguments)?;
    let seen = |burst: &str| {
        if arguments.verbose {
            println!("{burst}");
        }
    };
    let (what, outcome) = if let Some(text) = &arguments.steps {
        let steps = step::read(text)?;
        (
            "the list".to_owned(),
            run(&setup, [with_an_end(steps)], u64::MAX, seen)?,
        )
    } else {
        let seed = arguments.seed.unwrap_or_else(random_seed);
        println!("seed {seed}");
        let outcome = run(&setup, Plan::new(seed), arguments.hand_overs, seen)?;
        (format!("seed {seed}"), outcome)
    };
    let Outcome {
        summary,
        steps,
        log,
        failure,
    } = outcome;
    if let Some(path) = &arguments.log {
        std::fs::write(path, log).with_context(|| format!("writing {}", path.display()))?;
    }
    let Some(failure) = failure else {
        println!("=== chaos, {what}: {summary}");
        return Ok(true);
    };
    tell(&failure);
    let (bursts, hand_overs) = (summary.bursts, summary.hand_overs);
    println!("FAILED: {what}, in burst {bursts}, after {hand_overs} hand-overs");
    if arguments.steps.is_none() {
        let count = arguments.hand_overs;
        println!(
            "replay: cargo xtask chaos --hand-overs {count} {}",
            what.replace("seed", "--seed")
        );
    }
    let limit = Duration::from_secs(arguments.shorten);
    let (shortest, tries) = shortened(&setup, &steps, limit);
    println!(
        "shortest list that failed again, after {tries} tries, {} of {} steps:",
        shortest.len(),
        steps.len()
    );
    println!(
        "replay: cargo xtask chaos --steps '{}'",
        step::write(&shortest)
    );
    Ok(false)
}

/// Repeats parts of the steps until the time is over. Returns the shortest list and the number of runs.
fn shortened(setup: &Setup, steps: &[Step], limit: Duration) -> (Vec<Step>, u64) {
    let begun = Instant::now();
    let hurried = Setup {
        patience: Setup::LESS_PATIENCE,
        ..setup.clone()
    };
    let mut tries = 0;
    let fails = |part: &[Step]| {
        (0..REPEATS).any(|_| {
            if begun.elapsed() >= limit {
                return false;
            }
            tries += 1;
            let again = run(&hurried, [with_an_end(part.to_vec())], u64::MAX, |_| {});
            again.is_ok_and(|outcome| outcome.failure.is_some())
        })
    };
    let shortest = shrink::shrink(steps, fails, || begun.elapsed() >= limit);
    (shortest, tries)
}

/// A list that ends before it has settled was never checked.
fn with_an_end(mut steps: Vec<Step>) -> Vec<Step> {
    if steps.last() != Some(&Step::Settle) {
        steps.push(Step::Settle);
    }
    steps
}

fn tell(failure: &Failure) {
    println!("{}", failure.details);
    for problem in &failure.problems {
        println!("VIOLATION: {problem}");
    }
}

fn setup(arguments: &Arguments) -> Result<Setup> {
    let own = std::env::current_exe().context("the path of this program")?;
    let beside = |name: &str| own.with_file_name(name);
    let handover = arguments
        .handover
        .clone()
        .unwrap_or_else(|| beside("handover"));
    let fake = beside("handover-chaos-envoy");
    for program in [&handover, &fake] {
        anyhow::ensure!(
            program.is_file(),
            "there is no {}: build it with `cargo build -p handover -p handover-chaos`, or call `cargo xtask chaos`",
            program.display()
        );
    }
    Ok(Setup {
        handover,
        fake,
        patience: Setup::PATIENCE,
    })
}

fn random_seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // Short enough to be typed, and another one each millisecond of a month.
    u64::try_from(now.as_millis() % 2_592_000_000).unwrap_or_default()
}
