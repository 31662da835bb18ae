//! `mutants`: changes the code of the libraries in small ways, one at a time, and looks whether a test notices.
//! What no test notices must stand in `docs/mutants.md`, with a reason.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Package;
use serde::Deserialize;

use crate::checks::publish::is_published;
use crate::context::Context;
use crate::process;

const LIST: &str = "docs/mutants.md";

/// What a library's manifest says below `[package.metadata.mutants]`. One that says nothing is changed
/// everywhere, and all its tests are run.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Subject {
    /// The targets whose tests notice, as arguments of `cargo test`: the quick ones, as each change runs them all.
    tests: Vec<String>,
    /// Parts of the names of those tests that take too long for that.
    skip: Vec<String>,
    /// The packages that have those tests, beside the library's own.
    packages: Vec<String>,
    /// The files that are changed, as patterns below the crate; all where there are none.
    files: Vec<String>,
    /// The files that are not changed.
    exclude: Vec<String>,
    /// How long the tests of one change may take, in seconds. A change that loops for ever costs so much.
    timeout: u32,
}

impl Default for Subject {
    fn default() -> Self {
        Self {
            tests: vec!["--lib".to_owned(), "--tests".to_owned()],
            skip: Vec::new(),
            packages: Vec::new(),
            files: Vec::new(),
            exclude: Vec::new(),
            timeout: 60,
        }
    }
}

impl Subject {
    fn of(library: &Package) -> Result<Self> {
        let Some(said) = library.metadata.get("mutants") else {
            return Ok(Self::default());
        };
        serde_json::from_value(said.clone())
            .with_context(|| format!("{}: [package.metadata.mutants]", library.manifest_path))
    }
}

/// Runs cargo-mutants for the chosen packages, and compares what survived with the list.
pub(super) fn command(shard: Option<&str>, packages: &[String]) -> Result<bool> {
    let context = Context::new()?;
    if !context.has_subcommand("mutants") {
        bail!("cargo-mutants is not installed: `cargo install cargo-mutants --locked` does it");
    }
    let mut libraries = context.libraries();
    libraries.retain(|library| is_published(library) || library.metadata.get("mutants").is_some());
    let is_known = |name: &String| libraries.iter().any(|library| library.name == *name);
    if let Some(unknown) = packages.iter().find(|name| !is_known(name)) {
        let known = libraries.iter().map(|library| library.name.as_str());
        let known: Vec<&str> = known.collect();
        bail!(
            "there is no library `{unknown}`; there are {}",
            known.join(", ")
        );
    }
    let mut survivors = BTreeSet::new();
    for library in &libraries {
        if packages.is_empty() || packages.iter().any(|name| library.name == *name) {
            survivors.extend(run(&context, library, shard)?);
        }
    }
    let listed = listed(&context.text(LIST)?);
    let new = survivors.difference(&listed);
    let mut problems: Vec<_> = new
        .map(|mutant| format!("survives and is not in {LIST}: {mutant}"))
        .collect();
    // A part of the changes says nothing of the rest of the list.
    if shard.is_none() && packages.is_empty() {
        let caught = listed.difference(&survivors);
        problems.extend(caught.map(|mutant| format!("is caught and still in {LIST}: {mutant}")));
    }
    for problem in &problems {
        println!("{problem}");
    }
    println!("{} survivors, {} problems", survivors.len(), problems.len());
    Ok(problems.is_empty())
}

/// What survived of one package, without line numbers.
fn run(context: &Context, library: &Package, shard: Option<&str>) -> Result<BTreeSet<String>> {
    let subject = Subject::of(library)?;
    let name = library.name.as_str();
    let directory = context.directory(name)?;
    let scratch = context.scratch()?.join("mutants");
    let output = scratch.join(name);
    let copies = output.join("copies");
    fs_err::create_dir_all(&copies)?;
    // A second job would build everything once more, and fight for the processors.
    let mut mutants = context.cargo_words(&format!(
        "mutants --all-features --colors never --jobs 1 --build-timeout 600 --timeout {} --package {name}",
        subject.timeout
    ));
    // Without this option only the tests of the package that is changed are run.
    if !subject.packages.is_empty() {
        let packages = std::iter::once(name).chain(subject.packages.iter().map(String::as_str));
        mutants.args(packages.flat_map(|package| ["--test-package", package]));
    }
    // A name without a file would leave that file out in silence.
    for file in subject.files.iter().filter(|file| !file.contains('*')) {
        context
            .text(&format!("{directory}/{file}"))
            .with_context(|| format!("{name}: [package.metadata.mutants]"))?;
    }
    for (option, patterns) in [("--file", &subject.files), ("--exclude", &subject.exclude)] {
        mutants.args(
            patterns
                .iter()
                .flat_map(|pattern| [option.to_owned(), format!("{directory}/{pattern}")]),
        );
    }
    mutants.args(shard.iter().flat_map(|shard| ["--shard", shard]));
    mutants.arg("--output").arg(&output);
    // For the build as well: without them it builds every test, bench and example.
    mutants.args(
        subject
            .tests
            .iter()
            .map(|argument| format!("--cargo-arg={argument}")),
    );
    // Cargo's arguments, of which there are none, then those of the tests.
    if !subject.skip.is_empty() {
        mutants.args(["--", "--"]);
        mutants.args(subject.skip.iter().flat_map(|name| ["--skip", name]));
    }
    mutants
        // The copy of the tree, and what is built of it, are on the disk of the target directory. What
        // does not change with a mutant is built once for all packages and parts.
        .env("CARGO_TARGET_DIR", scratch.join("target"))
        .env("TMPDIR", &copies)
        // One line has changed since the last build.
        .env("CARGO_INCREMENTAL", "1")
        // Nobody debugs a mutant: what is needed is a yes or a no, soon. The scenarios decide most;
        // few random cases do the rest, and a failing one is not made smaller.
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("RUST_BACKTRACE", "0")
        .env("PROPTEST_CASES", "60")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("INSTA_UPDATE", "no");
    let missed = output.join("mutants.out").join("missed.txt");
    if missed.exists() {
        fs_err::remove_file(&missed)?;
    }
    // It ends with an error where a mutant survives, which is for the list to judge.
    match process::passes(mutants)? {
        Some(problem) if !missed.is_file() => bail!("{problem} and left no results"),
        _ => survivors(&missed),
    }
}

fn survivors(missed: &Path) -> Result<BTreeSet<String>> {
    let text = fs_err::read_to_string(missed)?;
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

/// The mutants in the first column of the list's tables, in backticks.
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

    #[test]
    fn a_setting_that_is_not_known_is_an_error() {
        let parse = |text: &str| serde_json::from_str::<Subject>(text);
        assert_eq!(parse(r#"{ "files": ["src/a.rs"] }"#).unwrap().timeout, 60);
        assert!(parse(r#"{ "file": "src/a.rs" }"#).is_err());
    }
}
