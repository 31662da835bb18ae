//! `bench`: measures, with the release profile.

use std::process::ExitCode;

use anyhow::Result;

use crate::context::Context;
use crate::process;

/// A step of the state machine, and a million hand-overs on one machine.
pub(super) fn core() -> Result<ExitCode> {
    let context = Context::new()?;
    let package = ["--package", "handover-core"];
    let mut step = context.cargo(["bench"]);
    step.args(package).args(["--bench", "step"]);
    let mut million = context.cargo(["run", "--release"]);
    million.args(package).args(["--example", "million"]);
    for measurement in [step, million] {
        if let Some(problem) = process::passes(measurement)? {
            eprintln!("{problem}");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
