//! No snapshot waits for review, and each one belongs to a test. insta itself notes which ones the tests read,
//! so no other program is needed to tell.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use super::{Findings, tests};
use crate::context::Context;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let references = tests::references(context)?;
    let tests_failed = !references.is_file();
    let noted = if tests_failed {
        findings.problem("the tests failed, so which snapshots belong to a test cannot be told");
        String::new()
    } else {
        fs_err::read_to_string(&references)?
    };
    let noted: BTreeSet<&str> = noted.lines().collect();
    // A path that cannot be resolved is that of a snapshot which is not there, a test's failure.
    let read = noted
        .iter()
        .filter_map(|line| context.root.join(line).canonicalize().ok());
    let read: BTreeSet<PathBuf> = read.collect();
    for path in read.iter().filter(|path| !path.starts_with(&context.root)) {
        findings.problem(format!(
            "a test read {}, so it was built for another checkout that shares this target directory: \
             give each checkout its own, or `touch` the sources here",
            path.display()
        ));
    }

    // Snapshots that wait for review are ignored by git, so they are asked for by name.
    let pending = ["--others", "--", "*.snap.new", "*.pending-snap", ":!target"];
    for file in context.list_files(&pending)? {
        findings.problem(format!(
            "{file} waits for review: accept it by renaming it, or delete it"
        ));
    }
    let mut count = 0_usize;
    for file in context.files_where(|file| file.ends_with(".snap"))? {
        count += 1;
        let path = context.root.join(file).canonicalize();
        if !tests_failed && !path.is_ok_and(|real| read.contains(&real)) {
            findings.problem(format!("{file} belongs to no test: delete it"));
        }
    }
    findings.note(format!("{count} snapshot files"));
    Ok(findings)
}
