//! No warning from the compiler or clippy: for everything with all features, and for the libraries,
//! with their tests, without default features.

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::process;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let everything = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ];
    findings
        .problems
        .extend(process::passes(context.cargo(everything))?);

    let mut bare = context.cargo(["clippy", "--all-targets", "--no-default-features"]);
    for library in context.libraries() {
        bare.args(["--package", library.name.as_str()]);
    }
    bare.args(["--", "-D", "warnings"]);
    findings.problems.extend(process::passes(bare)?);
    Ok(findings)
}
