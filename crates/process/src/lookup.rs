//! Finding the program before a process is made, so that each failure has its own name.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, access, accessat};
use rustix::io::Errno;
use rustix::process::{geteuid, getuid};

use super::error::SpawnError;

/// Where `execvp` looks when the environment has no `PATH`; the value of `_CS_PATH` on Linux.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Turns the program's name into the path of a file that may be executed.
///
/// A name with a slash is taken as it is, relative to `here`, or to the supervisor's own working directory (not
/// to the one the child is given, so that a change of that one cannot change which program runs).
/// Any other name is searched in `path`. As with `execvp`, a match that may not be executed is
/// passed over, and reported only if no later directory has a better one.
pub(super) fn find(
    program: &OsStr,
    path: Option<&OsStr>,
    here: Option<&Path>,
) -> Result<PathBuf, SpawnError> {
    let absolute = |path: &Path| match here {
        Some(here) => Ok(here.join(path)),
        None => std::path::absolute(path),
    };
    if program.as_bytes().contains(&b'/') {
        let path = absolute(Path::new(program)).map_err(|source| SpawnError::NoDirectory {
            program: program.to_string_lossy().into_owned(),
            source,
        })?;
        return match check(&path)? {
            Found::Program => Ok(path),
            Found::Nothing => Err(SpawnError::NotFound { path }),
            Found::Directory => Err(SpawnError::IsDirectory { path }),
            Found::NotExecutable => Err(SpawnError::NotExecutable { path }),
        };
    }
    let search = path.map_or_else(|| OsString::from(DEFAULT_PATH), OsStr::to_os_string);
    let mut passed_over = None;
    if !program.is_empty() {
        for dir in std::env::split_paths(&search) {
            // An empty entry means the working directory, as in every shell.
            let Ok(candidate) = absolute(&Path::new(".").join(dir).join(program)) else {
                continue;
            };
            match check(&candidate) {
                Ok(Found::Program) => return Ok(candidate),
                Ok(Found::NotExecutable) => {
                    passed_over.get_or_insert(SpawnError::NotExecutable { path: candidate });
                }
                Ok(Found::Nothing | Found::Directory) => {}
                Err(error) => {
                    passed_over.get_or_insert(error);
                }
            }
        }
    }
    Err(passed_over.unwrap_or_else(|| SpawnError::NotInPath {
        program: program.to_string_lossy().into_owned(),
        path: search.to_string_lossy().into_owned(),
    }))
}

enum Found {
    Program,
    Nothing,
    Directory,
    NotExecutable,
}

fn check(path: &Path) -> Result<Found, SpawnError> {
    let lookup = |source| SpawnError::Lookup {
        path: path.into(),
        source,
    };
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(Found::Directory),
        Ok(meta) if !meta.is_file() => Ok(Found::NotExecutable),
        Ok(_) => match may_execute(path) {
            Ok(()) => Ok(Found::Program),
            Err(Errno::ACCESS) => Ok(Found::NotExecutable),
            Err(errno) => Err(lookup(errno.into())),
        },
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Found::Nothing)
        }
        Err(error) => Err(lookup(error)),
    }
}

/// Asks whether the effective user may execute a file, as `execve` decides.
fn may_execute(path: &Path) -> Result<(), Errno> {
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // `faccessat2` came with Linux 5.8, and containers of an older Docker or libseccomp refuse what they do not know.
        Err(Errno::NOSYS | Errno::PERM) if getuid() == geteuid() => access(path, Access::EXEC_OK),
        // Then `execve` tells.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(dir: &Path, name: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_name_is_searched_in_each_directory_of_path_in_order() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        program(first.path(), "tool", 0o644);
        std::fs::create_dir(first.path().join("other")).unwrap();
        let good = program(second.path(), "tool", 0o755);
        let other = program(second.path(), "other", 0o755);
        let path = std::env::join_paths([first.path(), second.path()]).unwrap();
        assert_eq!(find(OsStr::new("tool"), Some(&path), None).unwrap(), good);
        assert_eq!(find(OsStr::new("other"), Some(&path), None).unwrap(), other);
    }

    #[test]
    fn a_match_that_may_not_run_is_named_when_there_is_no_better_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = program(dir.path(), "tool", 0o644);
        let error = find(OsStr::new("tool"), Some(dir.path().as_os_str()), None).unwrap_err();
        assert!(matches!(error, SpawnError::NotExecutable { path } if path == file));
    }

    #[test]
    fn what_is_no_file_cannot_run_whatever_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = find(path.as_os_str(), None, None).unwrap_err();
        assert!(matches!(error, SpawnError::NotExecutable { .. }), "{error}");
    }

    #[test]
    fn an_unknown_name_is_told_with_the_path_that_was_searched() {
        for name in ["no-such-tool", ""] {
            let error =
                find(OsStr::new(name), Some(OsStr::new("/nowhere:/bin")), None).unwrap_err();
            let SpawnError::NotInPath { program, path } = error else {
                panic!("{error}");
            };
            assert_eq!((program.as_str(), path.as_str()), (name, "/nowhere:/bin"));
        }
    }

    #[test]
    fn a_path_with_a_slash_is_not_searched() {
        let dir = tempfile::tempdir().unwrap();
        let file = program(dir.path(), "tool", 0o644);
        let at = |path: &Path| find(path.as_os_str(), None, None).unwrap_err();
        assert!(matches!(at(dir.path()), SpawnError::IsDirectory { .. }));
        assert!(matches!(at(&file), SpawnError::NotExecutable { .. }));
        assert!(matches!(at(&file.join("x")), SpawnError::NotFound { .. }));
        assert!(matches!(
            at(&dir.path().join("gone")),
            SpawnError::NotFound { .. }
        ));
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert!(matches!(
            at(&dir.path().join("loop")),
            SpawnError::Lookup { .. }
        ));
    }

    #[test]
    fn a_relative_path_becomes_absolute_so_that_the_childs_directory_does_not_matter() {
        let error = find(OsStr::new("./no-such-tool"), None, None).unwrap_err();
        assert!(matches!(error, SpawnError::NotFound { path } if path.is_absolute()));
    }

    #[test]
    fn a_relative_path_counts_from_the_directory_that_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let file = program(dir.path(), "tool", 0o755);
        let here = Some(dir.path());
        for (name, path) in [("./tool", None), ("tool", Some(".")), ("tool", Some(""))] {
            let found = find(OsStr::new(name), path.map(OsStr::new), here).unwrap();
            assert!(found.is_absolute());
            assert_eq!(found.canonicalize().unwrap(), file.canonicalize().unwrap());
        }
        assert_eq!(
            find(file.as_os_str(), None, Some(Path::new("/"))).unwrap(),
            file
        );
    }
}
