//! Every command that the pages at the root and in docs show runs here, or a test runs it; see [`crate::markdown`] for the
//! comments that say which.
//!
//! A block runs in one bash, because readers use pipes, variables and `||`. The output that a block shows is
//! compared as trycmd compares it, by the same library: `...` stands for any lines, `[..]` for any characters.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use snapbox::{Data, filter::NormalizeToExpected};

use super::{Findings, tests};
use crate::commands::envoy;
use crate::context::Context;
use crate::markdown::{self, Block, Session, Tag};
use crate::process;

/// The release profile of the commands that are shown: what they do is looked at, and not how fast. Any optimisation
/// takes minutes, up to a tenth of all checks.
const RELEASE: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
];

/// How long one block may take; one that starts with compiling takes the longest.
const LIMIT: Duration = Duration::from_secs(20 * 60);

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let tests = tests::names(context)?;
    let tests: BTreeSet<&str> = tests
        .iter()
        .filter_map(|name| name.rsplit("::").next())
        .collect();
    let mut names = BTreeSet::new();
    for file in context.files_where(is_documentation)? {
        let page = markdown::read(&context.text(file)?);
        match page {
            Err(reason) => findings.problem(format!("{file}: {reason}")),
            Ok(page) => {
                for block in page.blocks.iter().filter(|block| block.is_commands()) {
                    let problem = judge(context, block, &page.blocks, &tests, &mut names)?;
                    findings
                        .problems
                        .extend(problem.map(|problem| format!("{file}:{}: {problem}", block.line)));
                }
            }
        }
    }
    findings.note(format!("{} blocks were run", names.len()));
    Ok(findings)
}

fn is_documentation(file: &str) -> bool {
    let is_page = Path::new(file).extension() == Some(OsStr::new("md"));
    is_page && (!file.contains('/') || file.starts_with("docs/") || file.starts_with("crates/"))
}

/// What is wrong with a block of commands. It runs if its tag asks for that.
fn judge(
    context: &Context,
    block: &Block,
    page: &[Block],
    tests: &BTreeSet<&str>,
    names: &mut BTreeSet<String>,
) -> Result<Option<String>> {
    let session = block.session();
    if session.commands.is_empty() {
        return Ok(Some(
            "no line of the block starts with `$ `, so nothing can run it".to_owned(),
        ));
    }
    Ok(match &block.tag {
        None => Some("nothing runs these commands; tag the block (docs/checks.md)".to_owned()),
        Some(Tag::File(_)) => Some("commands cannot be the content of a file".to_owned()),
        Some(Tag::This) => (session.commands != ["cargo xtask ci"])
            .then(|| "only `cargo xtask ci` is what is running".to_owned()),
        Some(Tag::TestedBy(path)) => {
            let name = path.rsplit("::").next().unwrap_or(path);
            (!tests.contains(name)).then(|| format!("there is no test `{path}`"))
        }
        Some(Tag::CheckedBy(name)) => {
            let is_check = super::ALL.iter().any(|check| check.name == name);
            (!is_check).then(|| format!("there is no check `{name}`"))
        }
        Some(Tag::Run { name, .. }) if !names.insert(name.clone()) => {
            Some(format!("there is another block named `{name}`"))
        }
        Some(Tag::Run { name, in_repo }) => run(context, name, *in_repo, &session, page)?,
    })
}

/// Runs a block's commands one after the other in one shell, until one fails.
fn run(
    context: &Context,
    name: &str,
    in_repo: bool,
    session: &Session,
    page: &[Block],
) -> Result<Option<String>> {
    let directory = tempfile::Builder::new()
        .prefix("docs-")
        .tempdir()
        .context("making a directory")?;
    for block in page {
        if let Some(Tag::File(file)) = &block.tag {
            let path = directory.path().join(file);
            fs_err::write(&path, &block.body)?;
        }
    }
    let log = context.scratch()?.join("shown-command.txt");
    let mut shell = context.command("bash");
    shell.args(["-euo", "pipefail", "-c", &session.commands.join("\n")]);
    if !in_repo {
        shell.current_dir(directory.path());
    }
    tests::environment(context, &mut shell)?;
    shell.envs(RELEASE);
    shell.env("PATH", search_path(context)?);
    println!("--> {name}");
    let (problem, output) = process::logged_within(&context.run_id, shell, &log, LIMIT)?;
    let failed = problem.map(|problem| format!("`{name}` failed: {problem}"));
    Ok(failed.or_else(|| difference(&session.output, &output)))
}

/// What is wrong with the output of a block that shows some.
fn difference(shown: &str, output: &str) -> Option<String> {
    if shown.is_empty() {
        return None;
    }
    let expected = Data::text(shown);
    let actual = NormalizeToExpected::new()
        .redact()
        .normalize(Data::text(output), &expected);
    (actual != expected).then(|| format!("shows another output than the commands print:\n{output}"))
}

/// The search path with the directories in front where the `handover` and the `envoy` under test are.
fn search_path(context: &Context) -> Result<OsString> {
    let envoy = envoy::installed(context.target(), envoy::DEFAULT_VERSION);
    let programs = [context.handover()?, &envoy];
    let own = programs.into_iter().filter_map(Path::parent);
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(own.map(Path::to_owned).chain(std::env::split_paths(&rest)))
        .context("putting the search path together")
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn output_that_is_shown_is_compared_and_what_varies_is_left_open() {
        assert_eq!(difference("", "anything\n"), None);
        assert_eq!(
            difference("127.0.0.1:[..]\n...\nend\n", "127.0.0.1:80\na\nb\nend\n"),
            None
        );
        assert!(difference("127.0.0.1:80\n", "127.0.0.1:81\n").is_some());
        assert!(difference("one\n", "one\ntwo\n").is_some());
    }
}
