//! Every example in the documentation compiles and runs. nextest does not run them, Cargo does.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Findings;
use crate::context::Context;
use crate::process;
use crate::report::{self, Counts};

/// How long all of them may take, compiling included.
const LIMIT: Duration = Duration::from_secs(20 * 60);

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let log = context.scratch()?.join("doctests.txt");
    let mut run = context.cargo([
        "test",
        "--doc",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
    ]);
    run.env("TMPDIR", context.temp());
    run.stdout(File::create(&log).with_context(|| format!("creating {}", log.display()))?);
    findings
        .problems
        .extend(process::passes_within(&context.run_id, run, LIMIT)?);

    let output = fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
    print!("{output}");
    let mut counts = Counts::default();
    let summaries: Vec<Counts> = output.lines().filter_map(report::libtest_summary).collect();
    if summaries.is_empty() {
        findings.problem("no summary was printed: how many examples ran is unknown");
    }
    summaries.into_iter().for_each(|summary| counts += summary);
    for line in output.lines() {
        let failed = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"));
        findings
            .problems
            .extend(failed.map(|name| format!("the example `{name}` failed")));
    }
    context.count(counts, Vec::new());
    Ok(findings)
}
