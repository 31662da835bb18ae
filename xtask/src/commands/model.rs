//! `model`: explores the large sets of models of the two state machines.

use anyhow::Result;

use crate::context::Context;
use crate::process;

/// The package, the test binary and the filter of each model.
const MODELS: [&str; 2] = [
    "handover-core-testing --test model -- --nocapture",
    "handover-supervisor --test operator -- --nocapture model",
];

/// Explores every state; some minutes.
pub(super) fn command() -> Result<bool> {
    let context = Context::new()?;
    let mut all_hold = true;
    for model in MODELS {
        let mut test = context.cargo_words(&format!("test --release --package {model}"));
        test.env("HANDOVER_MODEL", "large");
        all_hold &= process::all_pass([test])?;
    }
    Ok(all_hold)
}
