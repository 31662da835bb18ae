//! `mutants`: changes the code of the libraries in small ways, one at a time, and looks whether a test notices.
//! What no test notices must stand in `docs/mutants.md`, with a reason.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Package;
use toml::{Table, Value};

use crate::checks::publish::is_published;
use crate::context::Context;
use crate::process;

const LIST: &str = "docs/mutants.md";

/// The configuration of cargo-mutants beside a library's manifest: which files are changed, and which tests
/// are run for that.
const CONFIG: &str = "mutants.toml";

/// Runs cargo-mutants for the chosen packages, and compares what survived with the list.
pub(super) fn command(shard: Option<&str>, packages: &[String]) -> Result<bool> {
    let context = Context::new()?;
    if !context.has_subcommand("mutants") {
        bail!("cargo-mutants is not installed: `cargo install cargo-mutants --locked` does it");
    }
    let mut libraries = context.libraries();
    libraries.retain(|library| is_published(library));
    let known = libraries.iter().map(|library| library.name.as_str());
    let known: Vec<&str> = known.collect();
    if let Some(unknown) = packages.iter().find(|name| !known.contains(&name.as_str())) {
        let known = known.join(", ");
        bail!("there is no library `{unknown}`; there are {known}");
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
    let name = library.name.as_str();
    let config = format!("{}/{CONFIG}", context.directory(name)?);
    names_files(context, &config)?;
    let scratch = context.scratch()?.join("mutants");
    let output = scratch.join(name);
    let copies = output.join("copies");
    fs_err::create_dir_all(&copies)?;
    // A second job would build everything once more, and fight for the processors.
    let mut mutants = context.cargo_words(&format!(
        "mutants --all-features --colors never --jobs 1 --build-timeout 600 --package {name} --config {config}"
    ));
    mutants.args(shard.iter().flat_map(|shard| ["--shard", shard]));
    mutants.arg("--output").arg(&output);
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

/// Makes sure that each file that a configuration names is there: cargo-mutants would leave it out in silence.
fn names_files(context: &Context, config: &str) -> Result<()> {
    let settings: Table = context.toml(config)?;
    let files = settings.get("examine_globs").and_then(Value::as_array);
    for file in files.into_iter().flatten().filter_map(Value::as_str) {
        if !file.contains('*') {
            context.text(file).with_context(|| config.to_owned())?;
        }
    }
    Ok(())
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
}
