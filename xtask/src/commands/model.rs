//! `model`: explores the large set of models of the state machine.

use std::process::ExitCode;

use anyhow::Result;

use crate::context::Context;
use crate::process;

/// Explores every state; some minutes.
pub(super) fn command() -> Result<ExitCode> {
    let context = Context::new()?;
    let mut test = context.cargo([
        "test",
        "--release",
        "--package",
        "handover-core",
        "--test",
        "model",
        "--",
        "--nocapture",
    ]);
    test.env("HANDOVER_MODEL", "large");
    Ok(match process::passes(test)? {
        None => ExitCode::SUCCESS,
        Some(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    })
}
