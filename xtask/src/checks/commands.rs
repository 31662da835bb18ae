//! Every command that the pages at the root and in docs show runs here, or a test runs it: see
//! [`crate::text::console`] for the comments that say which.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Findings, tests};
use crate::commands::envoy;
use crate::context::Context;
use crate::process;
use crate::text::console::{self, Block, Tag};
use crate::text::rust;

/// How long one block may take; one that starts with compiling takes the longest.
const LIMIT: Duration = Duration::from_secs(20 * 60);

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let tests = test_names(context)?;
    let mut names = BTreeSet::new();
    for file in context
        .files()?
        .iter()
        .filter(|file| is_documentation(file))
    {
        let text = context
            .text(file)?
            .with_context(|| format!("{file} is not text"))?;
        match console::blocks(&text) {
            Ok(blocks) => document(context, file, &blocks, &tests, &mut names, &mut findings)?,
            Err(reason) => findings.problem(format!("{file}: {reason}")),
        }
    }
    findings.note(format!("{} blocks were run", names.len()));
    Ok(findings)
}

fn is_documentation(file: &str) -> bool {
    let markdown = Path::new(file)
        .extension()
        .is_some_and(|extension| extension == "md");
    markdown && (!file.contains('/') || file.starts_with("docs/") || file.starts_with("crates/"))
}

fn document(
    context: &Context,
    file: &str,
    blocks: &[Block],
    tests: &BTreeSet<String>,
    names: &mut BTreeSet<String>,
    findings: &mut Findings,
) -> Result<()> {
    for block in blocks.iter().filter(|block| block.is_commands()) {
        let at = format!("{file}:{}", block.line);
        let commands = block.commands();
        if commands.is_empty() {
            findings.problem(format!(
                "{at}: no line of the block starts with `$ `, so nothing can run it"
            ));
            continue;
        }
        match &block.tag {
            None => findings.problem(format!(
                "{at}: nothing runs these commands; tag the block (docs/checks.md)"
            )),
            Some(Tag::File(_)) => {
                findings.problem(format!("{at}: commands cannot be the content of a file"));
            }
            Some(Tag::This) if commands == ["cargo xtask ci"] => {}
            Some(Tag::This) => {
                findings.problem(format!("{at}: only `cargo xtask ci` is what is running"));
            }
            Some(Tag::TestedBy(path)) => {
                let name = path.rsplit("::").next().unwrap_or(path);
                if !tests.contains(name) {
                    findings.problem(format!("{at}: there is no test `{path}`"));
                }
            }
            Some(Tag::Run { name, in_repo }) => {
                if !names.insert(name.clone()) {
                    findings.problem(format!("{at}: there is another block named `{name}`"));
                }
                if let Some(problem) = run(context, name, *in_repo, &commands, blocks)? {
                    findings.problem(format!("{at}: {problem}"));
                }
            }
        }
    }
    Ok(())
}

/// Runs a block's commands one after the other in one shell, until one fails.
fn run(
    context: &Context,
    name: &str,
    in_repo: bool,
    commands: &[String],
    blocks: &[Block],
) -> Result<Option<String>> {
    let directory = tempfile::Builder::new()
        .prefix("docs-")
        .tempdir()
        .context("making a directory")?;
    for block in blocks {
        if let Some(Tag::File(file)) = &block.tag {
            let path = directory.path().join(file);
            std::fs::write(&path, &block.body)
                .with_context(|| format!("writing {}", path.display()))?;
        }
    }
    let mut shell = context.command("bash");
    shell.args(["-euo", "pipefail", "-c", &commands.join("\n")]);
    if !in_repo {
        shell.current_dir(directory.path());
    }
    tests::environment(context, &mut shell)?;
    shell.env(
        "PATH",
        search_path(context, &directory.path().join(".bin"))?,
    );
    println!("--> {name}");
    let ended = process::stream(&context.run_id, shell, LIMIT, crate::show)?;
    Ok(ended.problem(name))
}

/// The search path with a directory in front where `handover` and `envoy` are the ones under test.
fn search_path(context: &Context, directory: &Path) -> Result<std::ffi::OsString> {
    std::fs::create_dir(directory).with_context(|| format!("creating {}", directory.display()))?;
    let envoy = envoy::installed(context.target(), envoy::DEFAULT_VERSION);
    for (name, program) in [
        ("handover", context.handover()?),
        ("envoy", envoy.as_path()),
    ] {
        std::os::unix::fs::symlink(program, directory.join(name))
            .with_context(|| format!("linking to {}", program.display()))?;
    }
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let parts = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&rest));
    std::env::join_paths(parts).context("putting the search path together")
}

/// The names of all functions below a `#[test]` attribute of any kind.
fn test_names(context: &Context) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for file in context.files()?.iter().filter(|file| file.ends_with(".rs")) {
        if let Some(source) = context.text(file)? {
            names.extend(tests_of(&source));
        }
    }
    Ok(names)
}

fn tests_of(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in rust::code(source).lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((_, after)) = line.split_once("fn ").filter(|_| marked) {
            names.extend(
                after
                    .split(['(', '<'])
                    .next()
                    .map(|name| name.trim().to_owned()),
            );
            marked = false;
        }
    }
    names
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn only_functions_marked_as_tests_count() {
        let source = "#[test]\n#[cfg(unix)]\nfn one() {}\nfn helper() {}\n// #[test]\nfn no() {}\n\
                      #[tokio::test(start_paused = true)]\nasync fn two() {}\n";
        assert_eq!(tests_of(source), ["one", "two"]);
    }
}
