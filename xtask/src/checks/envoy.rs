//! The pinned real Envoy is installed: without it the tests that matter most could not run.

use anyhow::Result;

use super::Findings;
use crate::commands::envoy;
use crate::context::Context;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let path = envoy::install(context.target(), envoy::DEFAULT_VERSION)?;
    findings.note(format!(
        "Envoy {} is {}",
        envoy::DEFAULT_VERSION,
        path.display()
    ));
    Ok(findings)
}
