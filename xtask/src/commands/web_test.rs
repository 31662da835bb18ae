//! The page of the status server in a real browser, alone. `cargo xtask ci` runs the same tests with all others.

use std::time::Duration;

use anyhow::Result;

use super::envoy;
use crate::checks::leftovers;
use crate::checks::tests::run_profile;
use crate::context::Context;

/// The tests, and nothing else.
const RUN: &str = "nextest run --package handover-tests --filterset test(/^page::/)";

/// How long they may take, compiling included.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs the tests, and returns whether all passed and none was skipped: here the browser was asked for.
///
/// # Errors
///
/// When Envoy cannot be installed or nothing can be built.
pub(super) fn command(pictures: bool) -> Result<bool> {
    let context = Context::new()?;
    envoy::install(context.target(), envoy::DEFAULT_VERSION)?;
    context.ensure_nextest()?;
    let mut run = context.cargo_words(RUN);
    if pictures {
        run.env("HANDOVER_PICTURES", context.root.join("docs"));
    }
    let (problem, results) = run_profile(&context, run, "ci", LIMIT)?;
    let left = leftovers::check(&context)?.problems;
    let failed = results.failed.iter().map(|test| format!("the test {test}"));
    let problems: Vec<String> = problem
        .into_iter()
        .chain(failed)
        .chain(results.skipped.iter().cloned())
        .chain(left)
        .collect();
    for problem in &problems {
        println!("- {problem}");
    }
    println!("{}", results.counts);
    Ok(problems.is_empty())
}
