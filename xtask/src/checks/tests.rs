//! Every test passes. cargo-nextest runs them where it is installed, `cargo test` otherwise.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Findings;
use crate::commands::envoy;
use crate::context::Context;
use crate::process;
use crate::text::summary::{self, Counts, Filter, Runner, Skips};

/// The package whose tests start real processes. They measure those processes, so that they run one
/// after the other.
const REAL: &str = "handover-tests";

/// How long one invocation of a test runner may take, compiling included.
const LIMIT: Duration = Duration::from_secs(45 * 60);

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let references = references(context)?;
    std::fs::write(&references, "")
        .with_context(|| format!("emptying {}", references.display()))?;
    let runner = if context.has_subcommand("nextest") {
        Runner::Nextest
    } else {
        Runner::Libtest
    };
    if runner == Runner::Libtest {
        findings.note(
            "cargo-nextest is not installed: `cargo test` runs the tests, with no limit for each",
        );
    }
    for mut run in invocations(context, runner) {
        environment(context, &mut run)?;
        run.env("INSTA_UPDATE", "no")
            .env("INSTA_SNAPSHOT_REFERENCES_FILE", &references);
        run_tests(context, runner, run, &mut findings)?;
    }
    Ok(findings)
}

/// What to start, so that all tests run, those of [`REAL`] one after the other. nextest runs two of them
/// at once, by the rules in `.config/nextest.toml`.
fn invocations(context: &Context, runner: Runner) -> Vec<Command> {
    match runner {
        Runner::Nextest => {
            vec![context.cargo([
                "nextest",
                "run",
                "--workspace",
                "--all-features",
                "--profile",
                "ci",
            ])]
        }
        Runner::Libtest => {
            let targets = [
                "--all-features",
                "--no-fail-fast",
                "--lib",
                "--bins",
                "--tests",
                "--examples",
            ];
            let mut quick = context.cargo(["test", "--workspace", "--exclude", REAL]);
            quick.args(targets);
            let mut real = context.cargo(["test", "--package", REAL]);
            real.args(targets).args(["--", "--test-threads=1"]);
            vec![quick, real]
        }
    }
}

/// What tests find in their environment, wherever they run.
pub(crate) fn environment(context: &Context, command: &mut Command) -> Result<()> {
    command
        .env("HANDOVER_BIN", context.handover()?)
        .env("HANDOVER_REQUIRE_ENVOY", "1")
        .env("TMPDIR", context.temp());
    let envoy = envoy::installed(context.target(), envoy::DEFAULT_VERSION);
    if envoy.is_file() {
        command.env("ENVOY_BIN", envoy);
    }
    Ok(())
}

/// Runs a test runner, passes its output through, and adds up its summaries.
pub(super) fn run_tests(
    context: &Context,
    runner: Runner,
    run: Command,
    findings: &mut Findings,
) -> Result<()> {
    let what = process::describe(&run);
    let mut filter = Filter::default();
    let mut counts = Counts::default();
    let mut skips = Skips::default();
    let mut failed = BTreeSet::new();
    let mut summaries = 0_usize;
    let ended = process::stream(&context.run_id, run, LIMIT, |line| {
        if filter.shows(runner, line) {
            crate::show(line);
        }
        if let Some(found) = summary::parse(runner, line) {
            counts += found;
            summaries += 1;
        }
        skips.read(runner, line);
        failed.extend(summary::failed(runner, line));
    })?;
    let skipped = skips.lines();
    counts.skip_by_name(skipped.len());
    findings.problems.extend(
        failed
            .iter()
            .map(|name| format!("the test `{name}` failed")),
    );
    findings.problems.extend(ended.problem(&what));
    if summaries == 0 {
        findings.problem(format!(
            "`{what}` printed no summary: how many tests ran is not known"
        ));
    }
    context.count(counts, skipped);
    Ok(())
}

/// Where the tests note which snapshots they read, for the check `snapshots`.
pub(super) fn references(context: &Context) -> Result<PathBuf> {
    Ok(context.scratch()?.join("snapshot-references.txt"))
}
