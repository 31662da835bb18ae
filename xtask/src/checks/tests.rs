//! Every test passes. cargo-nextest runs them, with a limit for each, and reports them in a `JUnit` file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Findings;
use crate::commands::{envoy, promtool};
use crate::context::Context;
use crate::process;
use crate::report::Results;

/// How long all tests may take, compiling included.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// The tests: everything but the examples in the documentation.
const ALL: &str = "--workspace --all-features";

/// With it the random tests try the same each time: a check fails for what was changed, not by luck.
/// `cargo xtask model` tries others.
const SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "1");

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let references = references(context)?;
    forget(&references)?;
    let listed = names(context)?.len();
    let mut run = context.cargo_words(&format!("nextest run {ALL}"));
    run.env("INSTA_UPDATE", "no")
        .env(SEED.0, SEED.1)
        .env("INSTA_SNAPSHOT_REFERENCES_FILE", &references);
    let (problem, mut results) = run_profile(context, run, "ci", LIMIT)?;
    results.without_turn(listed);
    findings.problems.extend(problem);
    findings.problems.append(&mut results.failed);
    (findings.counts, findings.skipped) = (Some(results.counts), results.skipped);
    if !findings.problems.is_empty() {
        // A test that failed may have read less than it does.
        forget(&references)?;
    }
    Ok(findings)
}

/// Runs nextest with a profile of `.config/nextest.toml`. Returns the problem with its end, if any, and what
/// its report says. A run without a report is a problem, as how many tests ran is then unknown.
pub(crate) fn run_profile(
    context: &Context,
    mut run: Command,
    profile: &str,
    limit: Duration,
) -> Result<(Option<String>, Results)> {
    environment(context, &mut run)?;
    run.args(["--profile", profile]);
    let report = report(context, profile);
    forget(&report)?;
    let problem = process::passes_within(&context.run_id, run, limit)?;
    Ok(match Results::from_junit(&report) {
        Ok(results) => (problem, results),
        Err(error) => {
            let why = format!("how many tests ran is unknown: {error:#}");
            let both = problem.map_or_else(|| why.clone(), |problem| format!("{problem}; {why}"));
            (Some(both), Results::default())
        }
    })
}

/// Removes a file, if it is there.
fn forget(file: &Path) -> Result<()> {
    if file.exists() {
        fs_err::remove_file(file)?;
    }
    Ok(())
}

/// Where nextest writes the report of a profile: below its store, whose place is relative to the root.
pub(crate) fn report(context: &Context, profile: &str) -> PathBuf {
    let store = context.root.join("target/nextest");
    store.join(profile).join("junit.xml")
}

/// The full names of all tests.
///
/// # Errors
///
/// When cargo-nextest is neither there nor can be built, or the tests do not compile.
pub(super) fn names(context: &Context) -> Result<Vec<String>> {
    context.ensure_nextest()?;
    let list = format!("nextest list --message-format json {ALL}");
    let mut list = context.cargo_words(&list);
    list.stderr(std::process::Stdio::inherit());
    let json: serde_json::Value =
        serde_json::from_str(&process::capture(list)?).context("parsing what nextest lists")?;
    let suites = json
        .get("rust-suites")
        .and_then(|suites| suites.as_object());
    let suites = suites.context("nextest lists no `rust-suites`")?;
    let cases = suites
        .values()
        .filter_map(|suite| suite.get("testcases")?.as_object());
    Ok(cases.flat_map(|cases| cases.keys().cloned()).collect())
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
    command
        .env("HANDOVER_FAKE_ENVOY_BIN", context.fake_envoy()?)
        .env("HANDOVER_REQUIRE_FAKE_ENVOY", "1");
    if let Some(promtool) = promtool::found(context.target()) {
        command.env("PROMTOOL", promtool);
    }
    Ok(())
}

/// Where the tests note which snapshots they read, for the check `snapshots`. It is not there after a failure.
pub(super) fn references(context: &Context) -> Result<PathBuf> {
    Ok(context.scratch()?.join("snapshot-references.txt"))
}
