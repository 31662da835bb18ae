//! `model`: explores the large sets of models of the two state machines, and tries many random inputs of each.

use anyhow::Result;

use crate::context::Context;
use crate::process;

/// The package, the test binary and the filter of each model, and of the random inputs.
const MODELS: [&str; 4] = [
    "handover-core-testing --test model -- --nocapture",
    "handover-supervisor --test operator -- --nocapture model",
    "handover-core-testing --test properties",
    "handover-supervisor --test operator -- properties",
];

/// How many random inputs each property is tried with, other ones each time.
const CASES: &str = "100000";

/// Explores every state; some minutes.
pub(super) fn command() -> Result<bool> {
    let context = Context::new()?;
    let mut all_hold = true;
    for model in MODELS {
        let mut test = context.cargo_words(&format!("test --release --package {model}"));
        test.env("HANDOVER_MODEL", "large")
            .env("PROPTEST_CASES", CASES);
        all_hold &= process::all_pass([test])?;
    }
    Ok(all_hold)
}
