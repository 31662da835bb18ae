//! The Envoy of `demo --fake-envoy`: this program, when it is started by the name of the fake one, or that one.
//!
//! The adapter starts an Envoy by a path, with the arguments of Envoy and no others. So the name is what tells the
//! two apart.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

const NAME: &str = "handover-fake-envoy";

/// Runs as the fake Envoy if this program was started by that name.
#[cfg(feature = "fake-envoy")]
pub(crate) fn run_if_named() -> Option<std::process::ExitCode> {
    let name = std::env::args_os().next()?;
    let is_named = Path::new(&name).file_name() == Some(std::ffi::OsStr::new(NAME));
    is_named.then(|| handover_fake_envoy::run(std::env::args_os()))
}

/// Makes a link of that name to this program, and returns its path.
///
/// # Errors
///
/// The program cannot be found, or the link cannot be made.
#[cfg(feature = "fake-envoy")]
pub(crate) fn install(dir: &Path) -> Result<PathBuf, Fatal> {
    let program = own_path()?;
    let link = dir.join(NAME);
    std::os::unix::fs::symlink(&program, &link)
        .with_context(|| format!("making the link {} to this program", link.display()))
        .or_exit(ExitCode::OS)?;
    Ok(link)
}

/// Finds the program beside this one, or on the search path.
///
/// # Errors
///
/// There is none.
#[cfg(not(feature = "fake-envoy"))]
pub(crate) fn install(_dir: &Path) -> Result<PathBuf, Fatal> {
    let beside = own_path()?.parent().map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    let candidates = beside.into_iter().chain(path).map(|dir| dir.join(NAME));
    candidates
        .into_iter()
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!(
                "this binary has no fake Envoy in it, and `{NAME}` is neither beside it nor in PATH: \
                 `cargo install {NAME}` brings it"
            )
        })
        .or_exit(ExitCode::NOT_FOUND)
}

fn own_path() -> Result<PathBuf, Fatal> {
    std::env::current_exe()
        .context("finding this program")
        .or_exit(ExitCode::OS)
}
