//! The program of `cargo xtask chaos`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people and CI logs: printing is what it does"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Parser;
use handover_chaos::{Outcome, Plan, Plant, Setup, run, shorten, step, with_an_end};

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
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    shorten: u64,
    /// Print each burst, with when it began, how long it took and how many requests were lost.
    #[arg(long)]
    verbose: bool,
    /// Write what the supervisor and its processes print to this file, even if nothing fails.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Where a failing run leaves all its output, steps and processes. Otherwise in the temporary directory.
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
    /// Call it a violation when the first step came before the second one, as in `kill newest then who`. It shows how
    /// a failure is told and shortened.
    #[arg(long, value_name = "STEPS", hide = true)]
    plant: Option<Plant>,
    /// The program under test. Otherwise `handover` beside this program.
    #[arg(long, value_name = "FILE")]
    handover: Option<PathBuf>,
}

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
    let (what, replay, outcome) = if let Some(text) = &arguments.steps {
        let steps = step::read(text)?;
        let replay = format!("cargo xtask chaos --steps '{}'", step::write(&steps));
        let outcome = run(&setup, with_an_end(steps), u64::MAX, seen)?;
        ("the list".to_owned(), replay, outcome)
    } else {
        let seed = arguments.seed.unwrap_or_else(random_seed);
        println!("seed {seed}");
        let count = arguments.hand_overs;
        let replay = format!("cargo xtask chaos --hand-overs {count} --seed {seed}");
        let outcome = run(&setup, Plan::new(seed), count, seen)?;
        (format!("seed {seed}"), replay, outcome)
    };
    if let Some(path) = &arguments.log {
        std::fs::write(path, &outcome.log)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if outcome.failure.is_none() {
        println!("=== chaos, {what}: {}", outcome.summary);
        return Ok(true);
    }
    let file = place(arguments, &what);
    let kept = file.display().to_string();
    let page = outcome.story(&what, &replay, &kept).unwrap_or_default();
    println!("{page}seen until then: {}", outcome.summary);
    outcome
        .keep(&page, &file)
        .with_context(|| format!("writing {kept}; `--reports` names another directory"))?;
    if arguments.shorten > 0 {
        tell_shortest(&setup, &outcome, Duration::from_secs(arguments.shorten));
    }
    Ok(false)
}

/// Looks for a shorter list, and prints what was found.
fn tell_shortest(setup: &Setup, outcome: &Outcome, limit: Duration) {
    println!("shortening: parts of the steps are repeated for at most {limit:?}");
    let Some(found) = shorten(setup, outcome, limit) else {
        return;
    };
    let (runs, seconds) = (found.runs, found.took.as_secs_f64());
    let all = outcome.steps.len();
    let Some(shortest) = found.shortest else {
        println!(
            "it did not fail again: {runs} runs of the last steps in {seconds:.0} s passed, or failed otherwise, so it needs \
             more steps than fit into that time, or moments that did not come again; `--shorten` of the program \
             handover-chaos sets another time"
        );
        return;
    };
    let again = match found.again {
        (_, 0) => "there was no time to repeat it".to_owned(),
        (failed, runs) => format!("repeated, it failed in {failed} of {runs} runs"),
    };
    println!(
        "shortest list that failed again: {} of {all} steps, after {runs} runs in {seconds:.0} s; {again}",
        shortest.len(),
    );
    println!(
        "replay: cargo xtask chaos --steps '{}'",
        step::write(&shortest)
    );
}

/// Returns where everything about a failed run goes: a file of its own, because a seed fails in more than one way.
fn place(arguments: &Arguments, what: &str) -> PathBuf {
    let directory = arguments.reports.clone().unwrap_or_else(std::env::temp_dir);
    let (what, process) = (what.replace(' ', "-"), std::process::id());
    directory.join(format!("chaos-{what}-{process}.txt"))
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
        plant: arguments.plant.clone(),
        ..Setup::new(handover, fake)
    })
}

fn random_seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // Short enough to be typed, and another one each millisecond of a month.
    u64::try_from(now.as_millis() % 2_592_000_000).unwrap_or_default()
}
