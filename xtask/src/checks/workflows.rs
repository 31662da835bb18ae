//! CI calls these checks and nothing else for them, has its other jobs, and pins what it uses by hash.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context as _, Result};

use super::Findings;
use crate::context::Context;

const SCRIPT: &str = ".ci/run";
const WORKFLOWS: &str = ".github/workflows/";

/// The jobs of the workflows, and what each must call: what a machine may lack is certain to run there.
const JOBS: [(&str, &str, &str); 12] = [
    ("ci.yml", "ci", SCRIPT),
    ("ci.yml", "msrv", "cargo check"),
    ("ci.yml", "minimal-versions", "cargo xtask minimal-versions"),
    ("ci.yml", "deny", "cargo deny"),
    ("ci.yml", "hack", "cargo hack"),
    ("ci.yml", "semver", "cargo semver-checks"),
    ("ci.yml", "fuzz", "cargo xtask fuzz"),
    ("ci.yml", "packages", "cargo xtask package"),
    ("release.yml", "build", "cargo xtask package"),
    ("release.yml", "crates", "cargo publish"),
    ("release.yml", "install", "cargo install handover"),
    ("mutants.yml", "mutants", "cargo xtask mutants"),
];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let script = context.text(SCRIPT)?;
    if script.lines().rfind(|line| !line.trim().is_empty()) != Some("exec cargo xtask ci") {
        findings.problem(format!(
            "{SCRIPT}: its last line is not `exec cargo xtask ci`"
        ));
    }
    let metadata = context.root.join(SCRIPT).metadata();
    let metadata = metadata.with_context(|| format!("looking at {SCRIPT}"))?;
    if metadata.permissions().mode() & 0o111 != 0o111 {
        findings.problem(format!("{SCRIPT} is not executable"));
    }
    for (file, job, calls) in JOBS {
        let workflow = context.text(format!("{WORKFLOWS}{file}"))?;
        if !job_lines(&workflow, job)
            .iter()
            .any(|line| line.contains(calls))
        {
            findings.problem(format!(
                "{WORKFLOWS}{file}: there is no job `{job}` that calls `{calls}`"
            ));
        }
    }
    for file in context.files_where(|file| file.starts_with(WORKFLOWS))? {
        for (index, line) in context.text(file)?.lines().enumerate() {
            let problem = unpinned(line).map(|reason| format!("{file}:{}: {reason}", index + 1));
            findings.problems.extend(problem);
        }
    }
    Ok(findings)
}

/// The lines of a job: those below its name that are indented further.
fn job_lines<'a>(workflow: &'a str, job: &str) -> Vec<&'a str> {
    let name = format!("  {job}:");
    workflow
        .lines()
        .skip_while(|line| **line != name)
        .skip(1)
        .take_while(|line| line.trim().is_empty() || line.starts_with("   "))
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect()
}

/// Why an action is not pinned, if the line uses one that is not.
fn unpinned(line: &str) -> Option<String> {
    let line = line.trim_start().trim_start_matches("- ");
    let action = line
        .strip_prefix("uses:")?
        .split_whitespace()
        .next()
        .unwrap_or_default();
    let hash = action.split_once('@').map_or("", |(_, hash)| hash);
    let pinned = hash.len() == 40 && hash.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    (!pinned).then(|| format!("`{action}` is not pinned by the full hash of a commit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_commit_hash_pins_an_action() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(unpinned(&format!("      - uses: a/b@{hash} # v1")), None);
        assert_eq!(unpinned("      - run: true"), None);
        for action in ["a/b", "a/b@v4", "a/b@main", "a/b@0123456", "./local"] {
            assert!(
                unpinned(&format!("        uses: {action}")).is_some(),
                "{action}"
            );
        }
    }

    #[test]
    fn a_job_ends_where_the_next_one_begins() {
        let text = "jobs:\n  ci:\n    steps:\n      # cargo a\n      - run: .ci/run\n\n  msrv:\n    steps: []\n";
        assert_eq!(
            job_lines(text, "ci"),
            ["    steps:", "      - run: .ci/run", ""]
        );
        assert_eq!(job_lines(text, "deny"), Vec::<&str>::new());
    }
}
