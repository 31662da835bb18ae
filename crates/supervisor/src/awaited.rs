//! Files without which nothing is started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_watch::{FileState, Rescan, WatchError, Watcher};

use crate::due_look::DueLook;
use crate::operator::FileWait;

/// Files without which nothing is started, and how they are awaited. By default there are none.
#[derive(Debug, Default)]
pub struct AwaitedFiles {
    watcher: Option<Watcher>,
    limit: Option<Duration>,
    /// Whether the operator wants to know what is missing at this moment.
    look: DueLook,
}

impl AwaitedFiles {
    /// Begins to watch these files. The start is held until each is a regular file that is not empty and
    /// can be read. None of them need be there, and neither need their directories.
    ///
    /// With a `limit` the supervisor ends if they are not there in time, counted from its start. Where the
    /// kernel reports no changes, the files are checked as `rescan` says. It reads the files, and blocks
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// When there is no working directory that a path could count from.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with its I/O driver.
    pub fn watch(
        paths: &[PathBuf],
        limit: Option<Duration>,
        rescan: Rescan,
    ) -> Result<Self, WatchError> {
        if paths.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self {
            watcher: Some(Watcher::new(paths)?.rescan(rescan)),
            limit,
            look: DueLook::default(),
        })
    }

    /// How the operator awaits them; `None` where no file is awaited.
    pub(crate) fn wait(&self) -> Option<FileWait> {
        let limit = self.limit;
        self.watcher.as_ref().map(|_| FileWait { limit })
    }

    /// The files that are awaited, for people.
    pub(crate) fn names(&self) -> String {
        let paths = self.watcher.iter().flat_map(Watcher::paths);
        let names: Vec<_> = paths.map(|path| format!("`{}`", path.display())).collect();
        names.join(", ")
    }

    /// Lets [`AwaitedFiles::found`] look at the files at once, and return even if nothing has changed.
    pub(crate) fn look_soon(&mut self) {
        self.look.request(self.watcher.as_mut());
    }

    /// Watches them no longer.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Waits until the files are different, and returns what is missing.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change is told by the next call.
    pub(crate) async fn found(&mut self) -> Vec<String> {
        let Some(watcher) = &mut self.watcher else {
            return std::future::pending().await;
        };
        if self.look.is_due() {
            self.look.ended(watcher, "awaited files").await;
        } else {
            watcher.changed().await;
        }
        let files = watcher.snapshot().files();
        let missing = watcher.paths().map(|path| match files.get(path) {
            Some(state) => problem_of(path, state),
            None => Some(format!("`{}` was not seen", path.display())),
        });
        missing.flatten().collect()
    }
}

/// Why what was found at a path is not enough, if so.
fn problem_of(path: &Path, state: &FileState) -> Option<String> {
    let path = path.display();
    match state {
        FileState::Present { size: 1.., .. } | FileState::Unread { size: 1.., .. } => None,
        FileState::Present { size: 0, .. } | FileState::Unread { size: 0, .. } => {
            Some(format!("`{path}` is empty"))
        }
        FileState::Directory => Some(format!("`{path}` is a directory, not a file")),
        FileState::Missing => Some(format!("`{path}` does not exist")),
        FileState::Unreadable { reason } => Some(reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::due_look::LOOK_LIMIT;
    use crate::due_look::tests::{Hanging, disturbed};

    async fn missing(paths: &[PathBuf]) -> Vec<String> {
        let mut files = AwaitedFiles::watch(paths, None, Rescan::Never).unwrap();
        files.look_soon();
        files.found().await
    }

    #[tokio::test]
    async fn only_a_regular_file_with_something_in_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("full"), "x").unwrap();
        std::fs::write(at("empty"), "").unwrap();
        symlink("full", at("link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        assert_eq!(missing(&[at("full"), at("link")]).await, [""; 0]);
        for (name, problem) in [
            ("empty", "is empty"),
            ("dangling", "does not exist"),
            ("no/directory/yet", "does not exist"),
            (".", "is a directory, not a file"),
        ] {
            let missing = missing(&[at("full"), at(name)]).await;
            assert_eq!(missing.len(), 1, "{name}: {missing:?}");
            assert!(missing[0].ends_with(problem), "{name}: {missing:?}");
        }
    }

    #[tokio::test]
    async fn each_change_tells_what_is_still_missing() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("new/cert"), dir.path().join("key")];
        let mut files = AwaitedFiles::watch(&paths, None, Rescan::Never).unwrap();
        files.look_soon();
        assert_eq!(files.found().await.len(), 2);
        std::fs::write(&paths[1], "key").unwrap();
        assert_eq!(files.found().await.len(), 1);
        std::fs::create_dir(dir.path().join("new")).unwrap();
        std::fs::write(&paths[0], "cert").unwrap();
        while !files.found().await.is_empty() {}
        std::fs::remove_file(&paths[1]).unwrap();
        assert_eq!(files.found().await.len(), 1);
    }

    /// Whoever asked for the status every 100 ms kept the supervisor from ever ending this wait.
    #[tokio::test(start_paused = true)]
    async fn a_look_without_an_end_is_waited_for_no_longer_when_something_else_happens_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("key")];
        let mut files = AwaitedFiles::watch(&paths, None, Rescan::Never).unwrap();
        let _hanging = Hanging::begin();
        files.look_soon();
        let (missing, took) = disturbed(async || files.found().await).await;
        assert_eq!(missing.len(), 1);
        assert!(took >= LOOK_LIMIT && took < LOOK_LIMIT * 2, "{took:?}");
    }
}
