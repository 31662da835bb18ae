//! No snapshot waits for review, and each one belongs to a test.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{Findings, tests};
use crate::context::Context;
use crate::files;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    // Pending snapshots are ignored by git, so the directories are searched themselves.
    let skip = [context.target().to_owned(), context.root.join("target")];
    let mut snapshots = Vec::new();
    for path in files::walk(&context.root, &skip)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".snap.new") || name.ends_with(".pending-snap") {
            findings.problem(format!(
                "{} waits for review: accept it by renaming it, or delete it",
                context.relative(&path)
            ));
        } else if name.ends_with(".snap") {
            snapshots.push(path);
        }
    }

    if context.failures().iter().any(|(name, _)| *name == "tests") {
        findings.problem("the tests failed, so which snapshots belong to a test cannot be told");
        return Ok(findings);
    }
    let referenced = referenced(context)?;
    for path in &snapshots {
        let real = path
            .canonicalize()
            .with_context(|| format!("resolving {}", path.display()))?;
        if !referenced.contains(&real) {
            findings.problem(format!(
                "{} belongs to no test: delete it",
                context.relative(path)
            ));
        }
    }
    findings.note(format!("{} snapshot files", snapshots.len()));
    Ok(findings)
}

/// The snapshot files that the tests of this run read. The same file comes up once for each assertion,
/// and by relative ways too.
fn referenced(context: &Context) -> Result<BTreeSet<PathBuf>> {
    let path = tests::references(context)?;
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let distinct: BTreeSet<&str> = text.lines().collect();
    let mut files = BTreeSet::new();
    for line in distinct {
        // A path that cannot be resolved is that of a snapshot which is not there, a test's failure.
        let Ok(file) = context.root.join(line).canonicalize() else {
            continue;
        };
        if !file.starts_with(&context.root) {
            bail!(
                "a test read {}, so it was built for another checkout that shares the target directory {}: \
                 give each checkout its own, or `touch` the sources here",
                file.display(),
                context.target().display()
            );
        }
        files.insert(file);
    }
    Ok(files)
}
