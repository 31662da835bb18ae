//! `minimal-versions`: builds the libraries with the oldest version of each direct dependency that the
//! manifests allow, so that a lower bound in a manifest is true.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::process;

/// Resolves and builds in a copy of the workspace, as resolving writes a `Cargo.lock`.
pub(super) fn command() -> Result<ExitCode> {
    let context = Context::new()?;
    let copy = context.scratch()?.join("minimal-versions");
    if copy.exists() {
        std::fs::remove_dir_all(&copy).with_context(|| format!("removing {}", copy.display()))?;
    }
    for file in context.files()? {
        let target = copy.join(file);
        let parent = target.parent().unwrap_or(&copy);
        std::fs::create_dir_all(parent)
            .with_context(|| format!("creating {}", parent.display()))?;
        std::fs::copy(context.root.join(file), &target)
            .with_context(|| format!("copying to {}", target.display()))?;
    }
    // How to resolve is an unstable option; the build after it is that of the stable compiler.
    let mut resolve = context.cargo(["update", "-Z", "direct-minimal-versions"]);
    resolve.current_dir(&copy).env("RUSTC_BOOTSTRAP", "1");
    let mut build = context.cargo(["check", "--locked", "--all-features", "--lib"]);
    build.current_dir(&copy).env(
        "CARGO_TARGET_DIR",
        context.scratch()?.join("minimal-target"),
    );
    build.args(
        context
            .libraries()
            .iter()
            .flat_map(|library| ["--package", library.name.as_str()]),
    );
    for step in [resolve, build] {
        if let Some(problem) = process::passes(step)? {
            eprintln!("{problem}");
            return Ok(ExitCode::FAILURE);
        }
    }
    println!("the libraries build with the oldest versions that their manifests allow");
    Ok(ExitCode::SUCCESS)
}
