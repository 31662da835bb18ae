//! Every file is as rustfmt writes it.

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::process;

/// The fuzz targets are a workspace of their own.
const FUZZ: &str = "fuzz/Cargo.toml";

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    for manifest in ["Cargo.toml", FUZZ] {
        let fmt = ["fmt", "--all", "--check", "--manifest-path", manifest];
        findings
            .problems
            .extend(process::passes(context.cargo(fmt))?);
    }
    Ok(findings)
}
