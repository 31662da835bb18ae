//! The checks that are calls of Cargo. Each passes if every call does.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Findings;
use crate::context::Context;
use crate::process;
use crate::report::{self, Counts};

/// Up to this many features, every combination is tried; above it each alone, none, and all.
const POWERSET_UP_TO: usize = 4;

/// How long all examples of the documentation may take, compiling included.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Every file is as rustfmt writes it. The fuzz targets are a workspace of their own.
pub(super) fn format(context: &Context) -> Result<Findings> {
    let fmt = ["fmt", "--all", "--check", "--manifest-path"];
    let workspaces = ["Cargo.toml", "fuzz/Cargo.toml"];
    all_pass(workspaces.map(|manifest| context.cargo(fmt.into_iter().chain([manifest]))))
}

/// No warning from the compiler or clippy: for everything with all features, and for the libraries,
/// with their tests, without default features.
pub(super) fn clippy(context: &Context) -> Result<Findings> {
    let clippy = ["clippy", "--all-targets"];
    let mut everything = context.cargo(clippy);
    everything.args(["--workspace", "--all-features"]);
    let mut bare = context.cargo(clippy);
    bare.arg("--no-default-features");
    for library in context.libraries() {
        bare.args(["--package", library.name.as_str()]);
    }
    all_pass([everything, bare].map(without_warnings))
}

/// Each member stands alone: it compiles by itself, without a warning, a library with each combination
/// of its features. One invocation for each, so that no other member switches on what it forgot to ask for.
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
    let count = runs.len();
    let mut findings = all_pass(runs)?;
    findings.note(format!("{count} combinations"));
    findings.left("combinations of features without dependencies of the tests: the job `hack`");
    Ok(findings)
}

/// The documentation builds without a warning, private items too.
pub(super) fn docs(context: &Context) -> Result<Findings> {
    let mut doc = context.cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    doc.arg("--document-private-items");
    doc.env("RUSTDOCFLAGS", "-D warnings");
    all_pass([doc])
}

/// Every example in the documentation compiles and runs. nextest does not run them, Cargo does.
pub(super) fn doctests(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let log = context.scratch()?.join("doctests.txt");
    let mut run = context.cargo(["test", "--doc", "--workspace", "--all-features"]);
    run.arg("--no-fail-fast").env("TMPDIR", context.temp());
    run.stdout(File::create(&log).with_context(|| format!("creating {}", log.display()))?);
    let problem = process::passes_within(&context.run_id, run, LIMIT)?;
    findings.problems.extend(problem);

    let output = fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
    print!("{output}");
    let summaries: Vec<Counts> = output.lines().filter_map(report::libtest_summary).collect();
    if summaries.is_empty() {
        findings.problem("no summary was printed: how many examples ran is unknown");
    }
    let mut counts = Counts::default();
    summaries.into_iter().for_each(|summary| counts += summary);
    findings.counts = Some(counts);
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
    if features.len() > POWERSET_UP_TO {
        let alone = features.iter().map(|feature| vec![*feature]);
        return [vec![], features.to_vec()]
            .into_iter()
            .chain(alone)
            .collect();
    }
    features.iter().fold(vec![Vec::new()], |sets, feature| {
        let with = sets
            .iter()
            .map(|set| [set.as_slice(), &[*feature]].concat());
        sets.iter().cloned().chain(with).collect()
    })
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
            [0, 5, 1, 1, 1, 1, 1]
        );
    }
}
