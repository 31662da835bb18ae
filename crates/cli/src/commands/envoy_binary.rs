//! Finding the Envoy binary.

use std::path::{Path, PathBuf};

use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

/// Whether it is a name to look for in `PATH`, and not a path.
pub(super) fn is_name(named: &Path) -> bool {
    named.components().count() == 1 && !named.is_absolute()
}

/// The path of the binary: as it is given, or where `PATH` has a program of this name.
///
/// # Errors
///
/// When no directory of `PATH` has one. A path is checked where it is used.
pub(super) fn envoy_binary(named: &Path) -> Result<PathBuf, Fatal> {
    if !is_name(named) {
        return Ok(named.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path)
        // An empty entry would be the working directory, where no system program is meant.
        .filter(|dir| !dir.as_os_str().is_empty())
        .map(|dir| dir.join(named));
    candidates
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            let error = anyhow::anyhow!(
                "`{}` was not found in PATH: install it, or name it with --envoy-path",
                named.display()
            );
            Fatal::new(ExitCode::NOT_FOUND, error)
        })
}
