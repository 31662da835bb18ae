//! `soak`: the tests on real Envoy in their long form, with every pinned version, once or for as long as
//! asked, and then the chaos over the fake one.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::chaos::Chaos;
use super::{envoy, promtool, servers};
use crate::checks::leftovers;
use crate::checks::tests::{report, run_profile};
use crate::context::Context;
use crate::process;
use crate::report::Results;

/// The profile of `.config/nextest.toml`.
const PROFILE: &str = "soak";

/// Tests that are run and reported together.
struct Suite {
    name: &'static str,
    /// Which tests, in nextest's language of filters.
    filter: &'static str,
    /// How many run beside each other: one, where they count and measure.
    threads: u32,
    /// Whether tests that are about Handover run on a real Envoy as well, and not on the fake one.
    is_real: bool,
    /// How long they may take: about three times what they take on two busy cores.
    limit: Duration,
}

const SUITES: [Suite; 7] = [
    Suite {
        name: "facts",
        filter: "binary(facts)",
        // Each waits for one of Envoy's own timers most of the time.
        threads: 4,
        is_real: true,
        limit: Duration::from_secs(15 * 60),
    },
    Suite {
        name: "versions",
        filter: "binary(adapter) & test(/^real::versions::/)",
        threads: 1,
        is_real: true,
        limit: Duration::from_secs(20 * 60),
    },
    Suite {
        name: "adapter",
        filter: "binary(adapter) - test(/^real::versions::/)",
        threads: 1,
        is_real: true,
        limit: Duration::from_secs(75 * 60),
    },
    Suite {
        name: "transports",
        filter: "binary(transports)",
        threads: 1,
        is_real: true,
        limit: Duration::from_secs(25 * 60),
    },
    Suite {
        name: "proof",
        filter: "binary(proof)",
        threads: 1,
        is_real: true,
        limit: Duration::from_secs(30 * 60),
    },
    Suite {
        name: "adapter-fake",
        filter: "binary(adapter) - test(/^real::/)",
        threads: 4,
        is_real: false,
        limit: Duration::from_secs(30 * 60),
    },
    Suite {
        name: "proof-fake",
        filter: PROOF_ON_FAKE,
        threads: 4,
        is_real: false,
        limit: Duration::from_secs(15 * 60),
    },
];

/// The tests of the binary that are about Handover and not about Envoy, as `.config/nextest.toml` groups them.
const PROOF_ON_FAKE: &str = "binary(proof) & test(/^(apply|base_id|binary|control|control_drain|crashes\
    |drained|ending|fake|gaps|keeping|metrics|order|places|shortages|stopping|switches|template|who|withdrawing)::/)";

/// How many hand-overs the chaos makes, once.
const HAND_OVERS: u64 = 5_000;

/// The package that the suites are in.
const RUN: &str = "nextest run --package handover-tests";

/// By which lines a test tells a figure.
const FIGURE: &str = "=== ";

/// Runs all suites, again until the time is over, and prints one summary.
///
/// # Errors
///
/// When the versions cannot be installed or nothing can be built.
pub(super) fn command(minutes: u64) -> Result<bool> {
    let context = Context::new()?;
    let envoys = std::env::join_paths(envoy::install_all(context.target())?)
        .context("the target directory has a colon in its path")?;
    let reports = context.scratch()?.join("soak");
    fs_err::create_dir_all(&reports)?;
    // Before the suites, so that their limits are for the tests alone.
    for fetched in [promtool::check(&context)?, servers::check(&context)?] {
        // A test without its server is skipped, and fails the soak.
        for missing in fetched.problems.iter().chain(&fetched.left) {
            println!("- {missing}");
        }
    }
    context.ensure_nextest()?;
    if !process::all_pass([context.cargo_words(&format!("{RUN} --no-run"))])? {
        return Ok(false);
    }

    let enough = Duration::from_secs(minutes.saturating_mul(60));
    let begun = Instant::now();
    let mut outcomes = Vec::new();
    for round in 1_u32.. {
        for suite in &SUITES {
            println!("\n==> {}, round {round}", suite.name);
            let copy = reports.join(format!("{}-{round}.xml", suite.name));
            let outcome = run(&context, suite, round, &envoys, copy)?;
            println!("{outcome}");
            outcomes.push(outcome);
        }
        if begun.elapsed() >= enough {
            break;
        }
    }
    println!("\n==> chaos");
    let outcome = chaos(&context, reports.join("chaos.log"))?;
    println!("{outcome}");
    outcomes.push(outcome);
    let left = leftovers::check(&context)?.problems;
    Ok(summarise(&outcomes, &left, begun.elapsed()))
}

/// Lets the fake Envoy hand over by a seed that nobody has chosen. What failed and how it is repeated is in the log.
fn chaos(context: &Context, log: PathBuf) -> Result<Outcome> {
    let begun = Instant::now();
    let chaos = Chaos {
        hand_overs: HAND_OVERS,
        ..Chaos::default()
    };
    let run = chaos.prepare(context)?;
    let (problem, output) = process::logged_within(&context.run_id, run, &log, chaos.limit())?;
    Ok(Outcome {
        suite: "chaos",
        round: 1,
        took: begun.elapsed(),
        problems: problem.into_iter().collect(),
        results: Results {
            output,
            ..Results::default()
        },
        report: log,
    })
}

/// How a suite ended.
#[derive(Debug, Default)]
struct Outcome {
    suite: &'static str,
    round: u32,
    took: Duration,
    /// What went wrong with the run, each failed test, and each that skipped itself.
    problems: Vec<String>,
    results: Results,
    /// Where the report of the run is kept, with all that its tests printed.
    report: PathBuf,
}

fn run(
    context: &Context,
    suite: &Suite,
    round: u32,
    envoys: &OsStr,
    copy: PathBuf,
) -> Result<Outcome> {
    let begun = Instant::now();
    let mut nextest = context.cargo_words(RUN);
    nextest.args(["--filterset", suite.filter]);
    nextest.args(["--test-threads", &suite.threads.to_string()]);
    nextest.env("HANDOVER_SOAK", "1");
    nextest.env("HANDOVER_ENVOYS", envoys);
    let kind = if suite.is_real { "real" } else { "fake" };
    nextest.env("HANDOVER_TEST_ENVOY", kind);
    let (problem, results) = run_profile(context, nextest, PROFILE, suite.limit)?;
    // The next run writes its report to the same place. One that was broken off has written none.
    let report = report(context, PROFILE);
    if report.is_file() {
        fs_err::copy(report, &copy)?;
    }
    let failed = results.failed.iter().map(|test| format!("the test {test}"));
    Ok(Outcome {
        suite: suite.name,
        round,
        took: begun.elapsed(),
        problems: problem
            .into_iter()
            .chain(failed)
            .chain(results.skipped.iter().cloned())
            .collect(),
        results,
        report: copy,
    })
}

impl Outcome {
    /// The figures that the tests told.
    fn figures(&self) -> impl Iterator<Item = &str> {
        let lines = self.results.output.lines();
        lines.filter_map(|line| line.trim_start().strip_prefix(FIGURE))
    }

    /// All requests of all loads, and the failed ones among them.
    fn requests(&self) -> (u64, u64) {
        let loads = self.results.output.lines().filter_map(load);
        loads.fold((0, 0), |(all, lost), load| (all + load.0, lost + load.1))
    }
}

/// The requests of a load and the failed ones among them, from the first line of its report.
fn load(line: &str) -> Option<(u64, u64)> {
    let (requests, rest) = line.trim_start().split_once(" requests in ")?;
    let (_, rest) = rest.split_once(" s, ")?;
    let (failed, _) = rest.split_once(" failed, longest gap ")?;
    Some((requests.parse().ok()?, failed.parse().ok()?))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.problems.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        let (requests, lost) = self.requests();
        write!(
            f,
            "{verdict:>6}  {:<12}  round {}  {:>7.1} s  {}; {requests} requests, {lost} failed",
            self.suite,
            self.round,
            self.took.as_secs_f64(),
            self.results.counts,
        )
    }
}

fn summarise(outcomes: &[Outcome], left: &[String], took: Duration) -> bool {
    println!("\n==> figures");
    for figure in outcomes.iter().flat_map(Outcome::figures) {
        println!("{figure}");
    }
    println!("\n==> summary (a test that kills what serves counts the requests that fail by it)");
    for outcome in outcomes {
        println!("{outcome}");
        for problem in &outcome.problems {
            println!("        {problem}; see {}", outcome.report.display());
        }
    }
    for thing in left {
        println!("        left behind: {thing}");
    }
    let good = left.is_empty() && outcomes.iter().all(|outcome| outcome.problems.is_empty());
    let verdict = if good { "all passed" } else { "NOT all passed" };
    println!("{verdict} in {:.0} minutes", took.as_secs_f64() / 60.0);
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_nextest_are_those_of_the_suites() {
        let groups = include_str!("../../../.config/nextest.toml");
        let adapter = "binary(adapter) - test(/^real::/)";
        for on_fake in [PROOF_ON_FAKE, adapter] {
            let line = format!("filter = \"package(handover-tests) & {on_fake}\"\n");
            assert!(groups.contains(&line), "{line}");
        }
        // The others take more of the threads.
        let others = format!("not (package(handover-tests) & (({adapter}) | ({PROOF_ON_FAKE})))");
        let line = format!("filter = \"{others}\"\nthreads-required = 2\n");
        assert!(groups.contains(&line), "{line}");
        for suite in SUITES.iter().filter(|suite| !suite.is_real) {
            assert!(suite.filter == PROOF_ON_FAKE || suite.filter.contains("- test(/^real::/)"));
        }
    }

    #[test]
    fn figures_and_requests_are_found_in_what_the_tests_printed() {
        let output = "running 1 test\n=== 30 changes: 2 epochs\n\
                      120 requests in 3.027 s, 2 failed, longest gap 41.9ms; 0 idle close races\n\
                      80 requests in 1.000 s, 0 failed, longest gap 1.9ms; 0 idle close races\n\
                      [0] the log of Envoy\n";
        let outcome = Outcome {
            suite: "adapter",
            round: 1,
            took: Duration::from_millis(1_500),
            results: Results {
                output: output.to_owned(),
                ..Results::default()
            },
            ..Outcome::default()
        };
        assert_eq!(
            outcome.figures().collect::<Vec<_>>(),
            ["30 changes: 2 epochs"]
        );
        assert_eq!(
            outcome.to_string(),
            "    ok  adapter       round 1      1.5 s  0 passed, 0 failed, 0 skipped; 200 requests, 2 failed"
        );
    }
}
