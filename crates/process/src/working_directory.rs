//! The working directory of children, by the name under which the supervisor was started in it.
//!
//! A deployment makes a directory for each release, and one symbolic link leads to the newest. The kernel keeps the
//! directory that the link led to when the supervisor was started, so every child of it would run the old release,
//! or none once that was removed.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

static NAME: OnceLock<PathBuf> = OnceLock::new();

/// Lets each child that is started from now on run in the directory that has the name of this process's working
/// directory at that moment, and returns this name.
///
/// The name is that of the variable `PWD`, in which a shell keeps the symbolic links that it was led by. It counts if
/// it is an absolute path of the working directory without `.` and `..`, as for `pwd -L`. Otherwise the name is the
/// path without links that the kernel knows.
///
/// A relative path of a program counts from that directory as well. While the name leads nowhere, children get the
/// working directory of this process, as they do without this call. [`Command::current_dir`] goes before it. The
/// directory of this process itself never changes.
///
/// This is for a program, and not for a library: it concerns every child of the process. A second call changes
/// nothing, and returns the same name.
///
/// # Errors
///
/// What the operating system says if the working directory has no name, because it was removed. Then children get it
/// as it is.
///
/// [`Command::current_dir`]: super::Command::current_dir
pub fn follow_working_directory() -> io::Result<&'static Path> {
    if let Some(name) = NAME.get() {
        return Ok(name);
    }
    let named = std::env::var_os("PWD").map(PathBuf::from);
    let name = match named.filter(|named| is_name_of(named, Path::new("."))) {
        Some(named) => named,
        None => std::env::current_dir()?,
    };
    Ok(NAME.get_or_init(|| name))
}

/// Returns the directory that children get in place of the one of this process, if that is another one.
pub(super) fn followed() -> Option<&'static Path> {
    let name = NAME.get()?;
    leads_elsewhere(name, Path::new(".")).then_some(name)
}

/// Whether a path leads to a directory, and to another one than `here`.
fn leads_elsewhere(name: &Path, here: &Path) -> bool {
    match (std::fs::metadata(name), std::fs::metadata(here)) {
        (Ok(named), Ok(here)) => named.is_dir() && !is_same(&named, &here),
        (Ok(named), Err(_)) => named.is_dir(),
        (Err(_), _) => false,
    }
}

/// Whether a path is one that a shell would take for the name of the directory.
fn is_name_of(path: &Path, here: &Path) -> bool {
    let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    path.is_absolute()
        // `components` leaves out a `.` within a path, and it does no harm there.
        && path.components().all(is_plain)
        && matches!(
            (std::fs::metadata(path), std::fs::metadata(here)),
            (Ok(named), Ok(here)) if is_same(&named, &here)
        )
}

fn is_same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Two releases, and a link to the first.
    fn releases() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for release in ["1", "2"] {
            std::fs::create_dir(dir.path().join(release)).unwrap();
        }
        symlink("1", dir.path().join("current")).unwrap();
        dir
    }

    #[test]
    fn a_name_is_an_absolute_path_of_the_directory_without_dots() {
        let dir = releases();
        let at = |name: &str| dir.path().join(name);
        for name in ["current", "1", "current/"] {
            assert!(is_name_of(&at(name), &at("1")), "{name}");
        }
        for name in ["2", "gone", "2/../1", "current/../1"] {
            assert!(!is_name_of(&at(name), &at("1")), "{name}");
        }
        assert!(!is_name_of(Path::new("."), Path::new(".")));
        assert!(!is_name_of(Path::new(""), Path::new(".")));
    }

    #[test]
    fn the_directory_is_another_one_once_the_link_leads_to_another_release() {
        let dir = releases();
        let at = |name: &str| dir.path().join(name);
        assert!(!leads_elsewhere(&at("current"), &at("1")));
        std::fs::remove_file(at("current")).unwrap();
        assert!(!leads_elsewhere(&at("current"), &at("1")), "it has no name");
        symlink("2", at("current")).unwrap();
        assert!(leads_elsewhere(&at("current"), &at("1")));
        std::fs::remove_dir(at("1")).unwrap();
        assert!(leads_elsewhere(&at("current"), &at("1")));
        std::fs::write(at("file"), "").unwrap();
        assert!(!leads_elsewhere(&at("file"), &at("2")));
    }
}
