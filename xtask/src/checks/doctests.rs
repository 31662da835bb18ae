//! Every example in the documentation compiles and runs. nextest does not run them, Cargo does.

use anyhow::Result;

use super::{Findings, tests};
use crate::context::Context;
use crate::text::summary::Runner;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut run = context.cargo([
        "test",
        "--doc",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
    ]);
    run.env("TMPDIR", context.temp());
    tests::run_tests(context, Runner::Libtest, run, &mut findings)?;
    Ok(findings)
}
