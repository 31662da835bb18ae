//! `soak`: the tests on real Envoy in their long form, with every pinned version, once or for as long as
//! asked.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::envoy;
use crate::checks::leftovers;
use crate::checks::tests::environment;
use crate::context::Context;
use crate::process;
use crate::text::summary::{self, Counts, Runner};

/// Tests that run one after the other, because they count and measure.
struct Suite {
    name: &'static str,
    /// The test binary of `handover-tests`.
    binary: &'static str,
    /// Which of its tests.
    filter: &'static [&'static str],
    /// How long they may take: about three times what they take on two busy cores.
    limit: Duration,
}

const SUITES: [Suite; 3] = [
    Suite {
        name: "versions",
        binary: "adapter",
        filter: &["versions::"],
        limit: Duration::from_secs(20 * 60),
    },
    Suite {
        name: "adapter",
        binary: "adapter",
        filter: &["--skip", "versions::"],
        limit: Duration::from_secs(75 * 60),
    },
    Suite {
        name: "proof",
        binary: "proof",
        filter: &[],
        limit: Duration::from_secs(30 * 60),
    },
];

/// By which lines a test tells a figure.
const FIGURE: &str = "=== ";

/// Runs all suites, again until the time is over, and prints one summary.
///
/// # Errors
///
/// When the versions cannot be installed or nothing can be built.
pub(super) fn command(minutes: u64) -> Result<ExitCode> {
    let context = Context::new()?;
    let envoys = envoy::install_all(context.target())?;
    let logs = context.scratch()?.join("soak");
    std::fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    build(&context)?;

    let enough = Duration::from_secs(minutes.saturating_mul(60));
    let begun = Instant::now();
    let mut results = Vec::new();
    for round in 1_u32.. {
        for suite in &SUITES {
            println!("\n==> {}, round {round}", suite.name);
            let log = logs.join(format!("{}-{round}.log", suite.name));
            let result = run(&context, suite, round, &envoys, log)?;
            println!("{result}");
            results.push(result);
        }
        if begun.elapsed() >= enough {
            break;
        }
    }
    let left = leftovers::check(&context)?.problems;
    Ok(summarise(&results, &left, begun.elapsed()))
}

/// Compiles what the suites need, so that their limits are for the tests alone.
fn build(context: &Context) -> Result<()> {
    let mut build = context.cargo(["test", "--package", "handover-tests", "--no-run"]);
    environment(context, &mut build)?;
    match process::passes(build)? {
        None => Ok(()),
        Some(problem) => anyhow::bail!(problem),
    }
}

/// How a suite ended.
struct Outcome {
    suite: &'static str,
    round: u32,
    took: Duration,
    problems: Vec<String>,
    seen: Seen,
    log: PathBuf,
}

/// What the output of a suite tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    counts: Counts,
    failed: Vec<String>,
    skipped: Vec<String>,
    figures: Vec<String>,
    requests: u64,
    lost: u64,
}

impl Seen {
    /// Takes a line in, and says whether it is worth showing at once.
    fn take(&mut self, line: &str) -> bool {
        if let Some(counts) = summary::parse(Runner::Libtest, line) {
            self.counts += counts;
            return true;
        }
        if let Some(skipped) = summary::skipped(line) {
            self.skipped.push(skipped);
            return true;
        }
        if let Some(failed) = summary::failed(Runner::Libtest, line) {
            self.failed.push(failed);
            return true;
        }
        if let Some(figure) = line.strip_prefix(FIGURE) {
            self.figures.push(figure.to_owned());
        }
        if let Some((requests, lost)) = load(line) {
            self.requests += requests;
            self.lost += lost;
        }
        line.starts_with("test ")
    }
}

/// The requests of a load and the failed ones among them, from the first line of its report.
fn load(line: &str) -> Option<(u64, u64)> {
    let (requests, rest) = line.split_once(" requests in ")?;
    let (_, rest) = rest.split_once(" s, ")?;
    let (failed, _) = rest.split_once(" failed, longest gap ")?;
    Some((requests.parse().ok()?, failed.parse().ok()?))
}

fn run(
    context: &Context,
    suite: &Suite,
    round: u32,
    envoys: &[PathBuf],
    log: PathBuf,
) -> Result<Outcome> {
    let command = test(context, suite, envoys)?;
    let what = process::describe(&command);
    let mut file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let mut written = Ok(());
    let mut seen = Seen::default();
    let begun = Instant::now();
    let ended = process::stream(&context.run_id, command, suite.limit, |line| {
        if written.is_ok() {
            written = writeln!(file, "{line}");
        }
        if seen.take(line) {
            crate::show(line);
        }
    })?;
    written.with_context(|| format!("writing {}", log.display()))?;
    let mut problems: Vec<String> = ended.problem(&what).into_iter().collect();
    if seen.counts == Counts::default() {
        problems.push(format!("`{what}` printed no summary"));
    }
    let skipped = seen.skipped.len();
    seen.counts.skip_by_name(skipped);
    Ok(Outcome {
        suite: suite.name,
        round,
        took: begun.elapsed(),
        problems,
        seen,
        log,
    })
}

fn test(context: &Context, suite: &Suite, envoys: &[PathBuf]) -> Result<Command> {
    let mut command = context.cargo([
        "test",
        "--package",
        "handover-tests",
        "--test",
        suite.binary,
    ]);
    // What tests print goes to the log, also where they pass.
    command
        .args(["--", "--test-threads=1", "--show-output"])
        .args(suite.filter);
    environment(context, &mut command)?;
    let envoys = std::env::join_paths(envoys.iter().map(PathBuf::as_path))
        .context("the target directory has a colon in its path")?;
    command
        .env("HANDOVER_SOAK", "1")
        .env("HANDOVER_ENVOYS", envoys);
    Ok(command)
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.problems.is_empty() && self.seen.failed.is_empty() && self.seen.skipped.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_good() { "ok" } else { "FAILED" };
        write!(
            f,
            "{verdict:>6}  {:<8}  round {}  {:>7.1} s  {}; {} requests, {} failed",
            self.suite,
            self.round,
            self.took.as_secs_f64(),
            self.seen.counts,
            self.seen.requests,
            self.seen.lost,
        )
    }
}

fn summarise(results: &[Outcome], left: &[String], took: Duration) -> ExitCode {
    println!("\n==> figures");
    for figure in results.iter().flat_map(|result| &result.seen.figures) {
        println!("{figure}");
    }
    println!("\n==> summary (a test that kills what serves counts the requests that fail by it)");
    for result in results {
        println!("{result}");
        let failed = result.seen.failed.iter();
        let failed = failed.map(|name| format!("the test `{name}` failed"));
        let skipped = result.seen.skipped.iter().cloned();
        let problems = result.problems.iter().cloned();
        for problem in problems.chain(failed).chain(skipped) {
            println!("        {problem}; see {}", result.log.display());
        }
    }
    for thing in left {
        println!("        left behind: {thing}");
    }
    let good = left.is_empty() && results.iter().all(Outcome::is_good);
    let verdict = if good { "all passed" } else { "NOT all passed" };
    println!("{verdict} in {:.0} minutes", took.as_secs_f64() / 60.0);
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_a_suite_is_understood() {
        let mut seen = Seen::default();
        let shown: Vec<&str> = [
            "running 2 tests",
            "SKIPPED versions::a: HANDOVER_ENVOYS names no two versions of Envoy",
            "test versions::a ... ok",
            "test hung::b ... FAILED",
            "=== 30 changes: 2 epochs",
            "120 requests in 3.027 s, 2 failed, longest gap 41.9ms; 0 idle close races",
            "80 requests in 1.000 s, 0 failed, longest gap 1.9ms; 0 idle close races",
            "[0] the log of Envoy",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        ]
        .into_iter()
        .filter(|line| seen.take(line))
        .collect();
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert_eq!(seen.figures, ["30 changes: 2 epochs"]);
        assert_eq!(seen.failed, ["hung::b"]);
        assert_eq!(seen.skipped.len(), 1);
        assert_eq!((seen.requests, seen.lost), (200, 2));
        assert_eq!((seen.counts.passed, seen.counts.failed), (1, 1));
    }

    #[test]
    fn a_suite_that_skips_or_fails_is_not_good() {
        let outcome = |seen| Outcome {
            suite: "adapter",
            round: 1,
            took: Duration::from_millis(1_500),
            problems: Vec::new(),
            seen,
            log: PathBuf::new(),
        };
        let good = outcome(Seen::default());
        assert_eq!(
            good.to_string(),
            "    ok  adapter   round 1      1.5 s  0 passed, 0 failed, 0 skipped; 0 requests, 0 failed"
        );
        let skipped = outcome(Seen {
            skipped: vec!["SKIPPED a: b".to_owned()],
            ..Seen::default()
        });
        let failed = outcome(Seen {
            failed: vec!["a".to_owned()],
            ..Seen::default()
        });
        assert!(good.is_good() && !skipped.is_good() && !failed.is_good());
    }
}
