//! What is generated from code is what the code gives.

use anyhow::Result;

use super::Findings;
use crate::commands::generate;
use crate::context::Context;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let (is, should_be) = generate::both(context)?;
    if is != should_be {
        let file = generate::FILE;
        findings.problem(format!(
            "{file} is not what the state machine gives: `cargo xtask generate` writes it"
        ));
    }
    Ok(findings)
}
