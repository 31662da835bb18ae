//! `minimal-versions`: compiles every member with the oldest version of each direct dependency that the
//! manifests allow, so that a lower bound in a manifest is true.

use anyhow::Result;

use crate::context::Context;
use crate::process;

/// Resolves and builds in a copy of the workspace, as resolving writes a `Cargo.lock`.
pub(super) fn command() -> Result<bool> {
    let context = Context::new()?;
    let copy = context.scratch()?.join("minimal-versions");
    context.copy_to(&copy)?;
    // How to resolve is an unstable option; the build after it is that of the stable compiler.
    let mut resolve = context.cargo_words("update -Z direct-minimal-versions");
    resolve.current_dir(&copy).env("RUSTC_BOOTSTRAP", "1");
    let mut build = context.cargo_words("check --locked --workspace --all-features");
    build.current_dir(&copy).env(
        "CARGO_TARGET_DIR",
        context.scratch()?.join("minimal-target"),
    );
    process::all_pass([resolve, build])
}
