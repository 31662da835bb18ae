//! Relative paths of a long-lived command: they count from the working directory by its name, as its children do.
//!
//! So the files of a release are those of the next one, once the link that led to the working directory leads there.

use std::path::{Path, PathBuf};

use handover_process::follow_working_directory;

/// The full path, by the name of the working directory. Without a working directory it is the path as it is, and
/// whoever uses it tells.
pub(super) fn full(path: &Path) -> PathBuf {
    let joined = match follow_working_directory() {
        Ok(here) => here.join(path),
        Err(_) => return path.to_owned(),
    };
    std::path::absolute(&joined).unwrap_or(joined)
}

/// Makes it a full path.
pub(super) fn make_full(path: &mut PathBuf) {
    // An empty one is no path, and is refused where it is used.
    if !path.as_os_str().is_empty() {
        *path = full(path);
    }
}
