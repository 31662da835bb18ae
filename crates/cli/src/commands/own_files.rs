//! What this process writes must not be what it watches: each write would start another epoch, which is written of.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::fatal::Fatal;

/// Refuses places that lie in something that is watched. Each is given with the flag that names it.
///
/// # Errors
///
/// For the first one that does, a usage error.
pub(super) fn judge(watched: &[PathBuf], places: &[(&str, Option<&PathBuf>)]) -> Result<(), Fatal> {
    for (flag, place) in places {
        if let Some(place) = place {
            refuse(watched, flag, place)?;
        }
    }
    Ok(())
}

/// The same for files that the log and the lines of the children go to.
///
/// # Errors
///
/// As [`judge`].
pub(super) fn judge_output(watched: &[PathBuf]) -> Result<(), Fatal> {
    for (name, descriptor) in [("standard output", 1), ("standard error", 2)] {
        // A pipe or a socket has no place, and neither has a file that was removed.
        if let Ok(file) = std::fs::read_link(format!("/proc/self/fd/{descriptor}"))
            && file.is_file()
        {
            refuse(watched, name, &file)?;
        }
    }
    Ok(())
}

fn refuse(watched: &[PathBuf], what: &str, place: &Path) -> Result<(), Fatal> {
    let Some(within) = watched.iter().find(|watched| is_heard(place, watched)) else {
        return Ok(());
    };
    let (place, within) = (place.display(), within.display());
    Err(Fatal::usage(format!(
        "{what} is {place}, and {within} is watched: each write there would start another epoch; choose a place \
         outside of it, or a name that begins with a dot, which is not watched"
    )))
}

/// Whether a write to `place`, or below it, is noticed by whoever watches `watched`.
fn is_heard(place: &Path, watched: &Path) -> bool {
    let (place, watched) = (resolved(place), resolved(watched));
    let below = place.strip_prefix(watched);
    below.is_ok_and(|names| !names.iter().any(is_hidden))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// The path without symbolic links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(resolved) = path.canonicalize() {
        return resolved;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => absolute,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_place_in_a_watched_directory_is_refused_by_whatever_path_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("app")).unwrap();
        std::fs::write(at("app/conf"), "").unwrap();
        symlink(at("app"), at("link")).unwrap();
        let is_refused = |watched: &str, place: &str| {
            let places = [("--lock-dir", None), ("--state-dir", Some(&at(place)))];
            judge(&[at("other"), at(watched)], &places).is_err()
        };
        for place in ["app", "app/state", "link/state", "app/a/b", "app/../link/c"] {
            for watched in ["app", "link", "app/."] {
                assert!(is_refused(watched, place), "{place} in {watched}");
            }
        }
        for place in ["state", "app.state", "app/.state", "app/.hidden/state"] {
            assert!(!is_refused("app", place), "{place}");
        }
        assert!(!is_refused("app/conf", "app/state"));
    }

    #[test]
    fn the_refusal_names_both_places_and_the_remedy() {
        let (watched, place) = (PathBuf::from("/nowhere"), PathBuf::from("/nowhere/state"));
        let refused = judge(&[watched], &[("--state-dir", Some(&place))]).unwrap_err();
        insta::assert_snapshot!(refused.to_string(), @"--state-dir is /nowhere/state, and /nowhere is watched: each write there would start another epoch; choose a place outside of it, or a name that begins with a dot, which is not watched");
    }
}
