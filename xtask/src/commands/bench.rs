//! `bench`: measures, with the release profile.

use anyhow::Result;

use crate::context::Context;
use crate::process;

/// A step of the state machine, and a million hand-overs on one machine.
pub(super) fn core() -> Result<bool> {
    let context = Context::new()?;
    process::all_pass([
        context.cargo_words("bench --package handover-core --bench step"),
        context.cargo_words("run --release --package handover-core --example million"),
    ])
}
