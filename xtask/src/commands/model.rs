//! `model`: explores the large sets of models of the two state machines.

use std::process::ExitCode;

use anyhow::Result;

use crate::context::Context;
use crate::process;

/// The package, the test binary and the filter of each model.
const MODELS: [[&str; 3]; 2] = [
    ["handover-core-testing", "model", ""],
    ["handover-supervisor", "operator", "model"],
];

/// Explores every state; some minutes.
pub(super) fn command() -> Result<ExitCode> {
    let context = Context::new()?;
    let mut code = ExitCode::SUCCESS;
    for [package, binary, filter] in MODELS {
        let mut test = context.cargo([
            "test",
            "--release",
            "--package",
            package,
            "--test",
            binary,
            "--",
            "--nocapture",
            filter,
        ]);
        test.env("HANDOVER_MODEL", "large");
        if let Some(problem) = process::passes(test)? {
            eprintln!("{problem}");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
