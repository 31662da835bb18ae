//! The Envoy of `demo --fake-envoy`: this program, when it is started by the name of the fake one.
//!
//! The adapter starts an Envoy by a path, with the arguments of Envoy and no others. So the name is what tells the
//! two apart.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

const NAME: &str = "handover-fake-envoy";

/// Runs as the fake Envoy if this program was started by that name.
pub(crate) fn run_if_named() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    let is_named = Path::new(&name).file_name() == Some(OsStr::new(NAME));
    is_named.then(|| handover_fake_envoy::run(std::env::args_os()))
}

/// Makes a link of that name to this program, and returns its path.
///
/// # Errors
///
/// The program cannot be found, or the link cannot be made.
pub(crate) fn install(dir: &Path) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program")?;
    let link = dir.join(NAME);
    symlink(&program, &link)
        .with_context(|| format!("making the link {} to this program", link.display()))?;
    Ok(link)
}
