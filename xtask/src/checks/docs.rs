//! The documentation builds without a warning, private items too.

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::process;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut doc = context.cargo([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--all-features",
    ]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    findings.problems.extend(process::passes(doc)?);
    Ok(findings)
}
