//! Every file is as rustfmt writes it.

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::process;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    findings
        .problems
        .extend(process::passes(context.cargo(["fmt", "--all", "--check"]))?);
    Ok(findings)
}
