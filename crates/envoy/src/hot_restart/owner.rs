//! The line by which a lock file names its owner: the name of the instance, and its process id.

use std::path::Path;

use handover_files::read_owner;

/// Returns the line of an owner of this name, which is our process.
pub(super) fn line(name: &str) -> String {
    format!("{name} (pid {})", std::process::id())
}

/// Returns whether an owner of this name has written the file. The owner may hold the lock or be dead.
pub(super) fn wrote(path: &Path, name: &str) -> bool {
    // A file that cannot be read is not ours.
    let text = read_owner(path).unwrap_or_default();
    let pid = text.strip_prefix(name);
    pid.is_some_and(|pid| pid.starts_with(" (pid "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_files::{LockFile, TryLock, is_held};

    #[test]
    fn a_file_is_of_the_one_who_wrote_it() {
        let mut builder = tempfile::Builder::new();
        let dir = builder.prefix("handover-").tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!wrote(&path, "front"));
        let TryLock::Locked(lock) = LockFile::try_lock(&path, &line("front")).unwrap() else {
            panic!("a file that nobody has locked is free");
        };
        assert!(wrote(&path, "front") && is_held(&path));
        for other in ["", "fro", "front (pid", "front proxy", "back"] {
            assert!(!wrote(&path, other), "{other}");
        }
        drop(lock);
        assert!(!wrote(&path, "front") && !is_held(&path));
        std::fs::write(&path, line("front")).unwrap();
        assert!(wrote(&path, "front") && !is_held(&path));
    }
}
