//! `mutants`: changes the code of core and retry in small ways, one at a time, and looks whether a
//! test notices. What no test notices must stand in `docs/mutants.md`, with a reason.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::process;

const LIST: &str = "docs/mutants.md";

/// A package, what of it is changed, and the quick tests that shall notice.
struct Subject {
    package: &'static str,
    /// The record of what tests watch is changed by no test's rules but its own.
    exclude: &'static [&'static str],
    tests: &'static [&'static str],
}

/// The names of the packages that are changed.
pub(super) const PACKAGES: [&str; 2] = ["handover-retry", "handover-core"];

const SUBJECTS: [Subject; PACKAGES.len()] = [
    Subject {
        package: PACKAGES[0],
        exclude: &[],
        tests: &["--lib", "--test", "properties"],
    },
    Subject {
        package: PACKAGES[1],
        exclude: &["crates/core/src/check/**"],
        tests: &[
            "--lib",
            "--test",
            "scenarios",
            "--test",
            "scripts",
            "--test",
            "properties",
        ],
    },
];

/// Runs cargo-mutants and compares what survived with the list.
pub(super) fn command(shard: Option<&str>, package: Option<&str>) -> Result<ExitCode> {
    let context = Context::new()?;
    if !context.has_subcommand("mutants") {
        bail!("cargo-mutants is not installed: `cargo install cargo-mutants --locked` does it");
    }
    let mut survivors = BTreeSet::new();
    let chosen = |subject: &&Subject| package.is_none_or(|package| package == subject.package);
    for subject in SUBJECTS.iter().filter(chosen) {
        survivors.extend(run(&context, subject, shard)?);
    }
    let text = context
        .text(LIST)?
        .with_context(|| format!("{LIST} is not text"))?;
    let listed = listed(&text);
    let mut problems: Vec<_> = survivors
        .difference(&listed)
        .map(|mutant| format!("survives and is not in {LIST}: {mutant}"))
        .collect();
    // A part of the changes says nothing of the rest of the list.
    if shard.is_none() && package.is_none() {
        let caught = listed.difference(&survivors);
        problems.extend(caught.map(|mutant| format!("is caught and still in {LIST}: {mutant}")));
    }
    for problem in &problems {
        println!("{problem}");
    }
    println!("{} survivors, {} problems", survivors.len(), problems.len());
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What survived of one package, without line numbers.
fn run(context: &Context, subject: &Subject, shard: Option<&str>) -> Result<BTreeSet<String>> {
    let output = context.scratch()?.join("mutants").join(subject.package);
    std::fs::create_dir_all(&output).with_context(|| format!("creating {}", output.display()))?;
    let mut mutants = context.cargo([
        "mutants",
        "--all-features",
        // A second one would build everything once more, and fight for the processors.
        "--jobs",
        "1",
        // The tests take a second or two; a mutant that loops for ever shall not take much longer.
        "--timeout",
        "60",
        "--build-timeout",
        "600",
        "--colors",
        "never",
        "--package",
        subject.package,
    ]);
    for pattern in subject.exclude {
        mutants.args(["--exclude", pattern]);
    }
    if let Some(shard) = shard {
        mutants.args(["--shard", shard]);
    }
    mutants.arg("--output").arg(&output);
    // For the build as well: without them it builds every test, bench and example.
    for argument in subject.tests {
        mutants.arg(format!("--cargo-arg={argument}"));
    }
    let copies = output.join("copies");
    std::fs::create_dir_all(&copies).with_context(|| format!("creating {}", copies.display()))?;
    mutants
        // The copy of the tree, and what is built of it, are on the disk of the target directory. What
        // does not change with a mutant is built once for all parts.
        .env("CARGO_TARGET_DIR", output.join("target"))
        .env("TMPDIR", &copies)
        // Nobody debugs a mutant: what is needed is a yes or a no, soon. The scenarios decide most;
        // few random cases do the rest, and a failing one is not made smaller.
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("RUST_BACKTRACE", "0")
        .env("PROPTEST_CASES", "60")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("INSTA_UPDATE", "no");
    // It ends with an error where a mutant survives, which is for the list to judge.
    let problem = process::passes(mutants)?;
    let results = output.join("mutants.out");
    if let Some(problem) = problem
        && !results.join("missed.txt").is_file()
    {
        bail!("{problem} and left no results");
    }
    missed(&results)
}

fn missed(results: &Path) -> Result<BTreeSet<String>> {
    let path = results.join("missed.txt");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.lines().map(without_place).collect())
}

/// `src/a.rs:26:9: replace ...` is `src/a.rs: replace ...`: a line added above is no other mutant.
fn without_place(line: &str) -> String {
    let Some((place, what)) = line.split_once(": ") else {
        return line.to_owned();
    };
    let file = place.split(':').next().unwrap_or(place);
    format!("{file}: {what}")
}

/// The mutants in the first column of the list's table, in backticks.
fn listed(text: &str) -> BTreeSet<String> {
    let mutants = text.lines().filter_map(|line| {
        let cell = line.strip_prefix("| `")?;
        Some(cell.split_once("` |")?.0.replace("\\|", "|"))
    });
    mutants.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_known_by_its_file_and_change() {
        assert_eq!(
            without_place("crates/a/src/b.rs:26:9: replace C::d -> u32 with 1"),
            "crates/a/src/b.rs: replace C::d -> u32 with 1"
        );
    }

    #[test]
    fn the_first_column_is_the_list() {
        let text =
            "| mutant | reason |\n| --- | --- |\n| `a.rs: replace \\|\\| with &&` | same |\n";
        assert_eq!(
            listed(text),
            BTreeSet::from(["a.rs: replace || with &&".to_owned()])
        );
    }
}
