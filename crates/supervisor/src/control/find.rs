//! Finding the instance that is meant.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use handover_files::DirectoryError;

use super::address::{Found, look, look_for};
use super::directory::Directory;
use super::name::Name;

/// Which instance is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The one with this socket.
    Socket(PathBuf),
    /// The one of this name.
    Name(Name),
    /// The only one there is.
    Only,
}

/// Why no instance was found that could be meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The directory cannot be trusted.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// None runs. The message tells where it was looked for, and the remedy.
    #[error("{0}")]
    NotRunning(String),
    /// There is more than one. The message tells where it was looked for, and the remedy.
    #[error("{0}")]
    NotOne(String),
}

/// Returns the path of the instance's socket.
///
/// # Errors
///
/// When there is none, or more than one that could be meant.
pub fn find(wanted: &Selector, directory: &Directory) -> Result<PathBuf, FindError> {
    if let Selector::Socket(path) = wanted {
        return Ok(path.clone());
    }
    let directories = directory.searched()?;
    among(wanted, &directories)
}

/// The same among these directories, of which there is at least one.
fn among(wanted: &Selector, directories: &[PathBuf]) -> Result<PathBuf, FindError> {
    let directory = directories.first().cloned().unwrap_or_default();
    match wanted {
        Selector::Socket(path) => Ok(path.clone()),
        Selector::Name(name) => {
            let mut paths = directories.iter().map(|dir| dir.join(name.file()));
            // What is wrong with the others is told by the attempt to connect.
            let answers = |path: &PathBuf| {
                matches!(
                    look(path),
                    Ok(Found::Live { .. } | Found::Foreign { .. } | Found::NoSocket) | Err(_)
                )
            };
            match paths.find(answers) {
                Some(path) => Ok(path),
                None => Err(FindError::NotRunning(format!(
                    "no instance {name} is running: nobody listens on {}; {}",
                    directory.join(name.file()).display(),
                    there_are(&live(directories)),
                ))),
            }
        }
        Selector::Only => match live(directories).as_slice() {
            [(name, directory)] => Ok(directory.join(name.file())),
            [] => Err(FindError::NotRunning(format!(
                "no instance is running: none listens in {}; name its socket with --socket, or its \
                 directory with --lock-dir",
                directory.display()
            ))),
            names => Err(FindError::NotOne(format!(
                "several instances are running: choose one with --name; {}",
                there_are(names)
            ))),
        },
    }
}

/// The names of the instances that listen, in order, each with its directory. What nobody listens on
/// any more is passed over.
fn live(directories: &[PathBuf]) -> Vec<(Name, PathBuf)> {
    let mut names: Vec<_> = directories.iter().flat_map(|dir| live_in(dir)).collect();
    names.sort_unstable();
    names
}

fn live_in(directory: &Path) -> Vec<(Name, PathBuf)> {
    let own = rustix::process::geteuid();
    // Root may ask the instances of others: in the directories that are theirs alone.
    let user = match std::fs::symlink_metadata(directory) {
        Ok(found) if own.is_root() && found.mode() & 0o022 == 0 => found.uid(),
        _ => own.as_raw(),
    };
    // A directory that is not there has none, and one that cannot be read shows none.
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| Name::of_file(entry.file_name().to_str()?))
        .filter(|name| {
            let path = directory.join(name.file());
            matches!(look_for(&path, user), Ok(Found::Live { .. }))
        })
        .map(|name| (name, directory.to_owned()))
        .collect()
}

fn there_are(names: &[(Name, PathBuf)]) -> String {
    match names {
        [] => "no other is running either".to_owned(),
        names => {
            let names: Vec<_> = names.iter().map(|(name, _)| name.to_string()).collect();
            format!("running are {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::socket::Socket;
    use crate::control::test_directory as directory;
    use std::os::unix::net::UnixListener;

    fn find(wanted: &Selector, directory: &Path) -> Result<PathBuf, FindError> {
        super::find(wanted, &Directory::Given(directory.to_owned()))
    }

    fn refused(wanted: &Selector, directory: &Path) -> String {
        find(wanted, directory).unwrap_err().to_string()
    }

    #[test]
    fn the_only_live_one_is_meant_and_stale_ones_are_passed_over() {
        let dir = directory();
        drop(UnixListener::bind(dir.path().join("old.sock")).unwrap());
        std::fs::write(dir.path().join("base-id-7.lock"), "").unwrap();
        std::fs::write(dir.path().join("file.sock"), "").unwrap();
        assert!(refused(&Selector::Only, dir.path()).contains(dir.path().to_str().unwrap()));

        let path = dir.path().join("web.sock");
        let _web = Socket::bind(&path).unwrap();
        assert_eq!(find(&Selector::Only, dir.path()).unwrap(), path);
    }

    #[test]
    fn of_several_one_must_be_named() {
        let dir = directory();
        let path = |name: &str| dir.path().join(name);
        let _one = Socket::bind(&path("b.sock")).unwrap();
        let _other = Socket::bind(&path("a.sock")).unwrap();
        let message = refused(&Selector::Only, dir.path());
        assert!(
            message.ends_with("with --name; running are a, b"),
            "{message}"
        );
        let named = Selector::Name("b".parse().unwrap());
        assert_eq!(find(&named, dir.path()).unwrap(), path("b.sock"));
        let message = refused(&Selector::Name("c".parse().unwrap()), dir.path());
        assert!(message.starts_with("no instance c is running"), "{message}");
        assert!(message.ends_with("running are a, b"), "{message}");
    }

    #[test]
    fn a_directory_that_is_not_there_has_none() {
        let dir = directory();
        let missing = dir.path().join("missing");
        assert!(refused(&Selector::Only, &missing).starts_with("no instance is running"));
    }
}
