//! The checks that are calls of Cargo. Each passes if every call does.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::packages::Variant;
use crate::process;
use crate::report;

/// Up to this many features, every combination is tried; above it each alone, none, and all.
const POWERSET_UP_TO: usize = 4;

/// How long all examples of the documentation may take, compiling included.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Every file is as rustfmt writes it. The fuzz targets are a workspace of their own.
pub(super) fn format(context: &Context) -> Result<Findings> {
    let workspaces = ["Cargo.toml", "fuzz/Cargo.toml"];
    let fmt = |manifest| format!("fmt --all --check --manifest-path {manifest}");
    all_pass(workspaces.map(|manifest| context.cargo_words(&fmt(manifest))))
}

/// No warning from the compiler or clippy: for everything with all features, and for the libraries,
/// with their tests, without default features.
pub(super) fn clippy(context: &Context) -> Result<Findings> {
    let everything = context.cargo_words("clippy --all-targets --workspace --all-features");
    let mut bare = context.cargo_words("clippy --all-targets --no-default-features");
    for library in context.libraries() {
        bare.args(["--package", library.name.as_str()]);
    }
    all_pass([everything, bare].map(without_warnings))
}

/// Each member stands alone: it compiles by itself, without a warning, a library with each combination
/// of its features, the program as it is by default and without Envoy. One invocation for each, so that no other
/// member switches on what it forgot to ask for.
pub(super) fn features(context: &Context) -> Result<Findings> {
    let libraries = context.libraries();
    let mut runs = Vec::new();
    for package in context.members() {
        let is_library = libraries.iter().any(|library| library.id == package.id);
        let names = package.features.keys().map(String::as_str);
        // `default` is a choice of others.
        let features = names.filter(|name| is_library && *name != "default");
        for set in combinations(&features.collect::<Vec<_>>()) {
            let mut clippy = context.cargo(["clippy", "--quiet", "--package", &package.name]);
            if is_library {
                clippy.args(["--lib", "--no-default-features", "--features"]);
                clippy.arg(set.join(","));
            }
            runs.push(without_warnings(clippy));
        }
    }
    let mut exec_alone = context.cargo(["clippy", "--quiet", "--package", "handover"]);
    exec_alone.args(Variant::Exec.features());
    runs.push(without_warnings(exec_alone));
    let count = runs.len();
    let mut findings = all_pass(runs)?;
    findings.note(format!("{count} combinations"));
    findings.left("combinations of features without dependencies of the tests: the job `hack`");
    Ok(findings)
}

/// The documentation builds without a warning, private items too.
pub(super) fn docs(context: &Context) -> Result<Findings> {
    let doc = "doc --workspace --no-deps --all-features --document-private-items";
    let mut doc = context.cargo_words(doc);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    all_pass([doc])
}

/// Every example in the documentation compiles and runs. nextest does not run them, Cargo does.
pub(super) fn doctests(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let log = context.scratch()?.join("doctests.txt");
    let run = "test --doc --workspace --all-features --no-fail-fast";
    let mut run = context.cargo_words(run);
    run.env("TMPDIR", context.temp());
    let (problem, output) = process::logged_within(&context.run_id, run, &log, LIMIT)?;
    findings.problems.extend(problem);

    findings.counts = report::libtest_summaries(&output)?;
    if findings.counts.is_none() {
        findings.problem("no summary was printed: how many examples ran is unknown");
    }
    for line in output.lines() {
        let failed = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"));
        let failed = failed.map(|name| format!("the example `{name}` failed"));
        findings.problems.extend(failed);
    }
    Ok(findings)
}

fn without_warnings(mut clippy: Command) -> Command {
    clippy.args(["--", "-D", "warnings"]);
    clippy
}

fn all_pass(commands: impl IntoIterator<Item = Command>) -> Result<Findings> {
    let mut findings = Findings::default();
    for command in commands {
        findings.problems.extend(process::passes(command)?);
    }
    Ok(findings)
}

fn combinations<'a>(features: &[&'a str]) -> Vec<Vec<&'a str>> {
    let many = features.len() > POWERSET_UP_TO;
    let mut sets = vec![Vec::new()];
    for feature in features {
        sets.extend(
            sets.clone()
                .into_iter()
                .map(|set| [set, vec![*feature]].concat()),
        );
        sets.retain(|set| !many || set.len() <= 1);
    }
    sets.extend(many.then(|| features.to_vec()));
    sets
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn few_features_are_tried_in_every_combination_many_one_by_one() {
        assert_eq!(combinations(&[]), [Vec::<&str>::new()]);
        let all = [vec![], vec!["a"], vec!["b"], vec!["a", "b"]];
        assert_eq!(combinations(&["a", "b"]), all);
        let lengths = combinations(&["a", "b", "c", "d", "e"]);
        assert_eq!(
            lengths.iter().map(Vec::len).collect::<Vec<_>>(),
            [0, 1, 1, 1, 1, 1, 5]
        );
    }
}
