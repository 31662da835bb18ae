//! The files that a configuration is read from, compared by content.

use std::path::{Path, PathBuf};

use handover_watch::{FileState, Rescan, Snapshot, WatchError, Watcher};
use tracing::warn;

use crate::control::wire::Watching;
use crate::due_look::{DueLook, LOOK_LIMIT};

/// How many problems are named; the rest is counted.
const MOST_NAMED: usize = 20;

/// The watched files of a supervisor.
pub struct Files {
    /// None when no path is watched: then there is nothing to listen to.
    watcher: Option<Watcher>,
    /// Whether somebody wants to know what they hold at this moment.
    look: DueLook,
}

impl Files {
    /// Begins to watch. It reads the files, but not the programs, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// When there is no working directory that a path could count from.
    pub(crate) fn watch(
        paths: &[PathBuf],
        programs: &[PathBuf],
        rescan: Rescan,
    ) -> Result<Self, WatchError> {
        let watcher = match (paths, programs) {
            ([], []) => None,
            (paths, programs) => Some(Watcher::with_identities(paths, programs)?.rescan(rescan)),
        };
        Ok(Self {
            watcher,
            look: DueLook::default(),
        })
    }

    /// Returns what the files held when they were last looked at; `None` where no file is watched.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.watcher.as_ref().map(Watcher::snapshot)
    }

    /// Why the files cannot be used, if one that was named is missing or cannot be read. What is in
    /// a named directory is a matter of its own: see [`Files::tell_bad_entries`].
    pub(crate) fn problem(&self) -> Option<String> {
        let files = self.snapshot()?.files();
        let mut named = self.watcher.as_ref()?.paths();
        named.find_map(|path| problem_of(path, files.get(path)?))
    }

    /// Logs each entry of a watched directory that is missing or cannot be read, of these paths or
    /// of all.
    pub(crate) fn tell_bad_entries(&self, among: Option<&[PathBuf]>) {
        let bad = self.bad_entries();
        let bad = bad.filter(|(path, _)| among.is_none_or(|among| among.contains(path)));
        for problem in some_of(bad.map(|(_, problem)| problem)) {
            warn!("continues without it: {problem}");
        }
    }

    /// How the files are watched, for the status.
    pub(crate) fn watching(&self) -> Watching {
        let Some(watcher) = &self.watcher else {
            return Watching::default();
        };
        let slow = watcher.looking_for().filter(|time| *time > LOOK_LIMIT);
        let slow = slow.map(|time| format!("a look at the files has taken {}s", time.as_secs()));
        let gaps = watcher.gaps().iter().map(ToString::to_string);
        let bad = self.bad_entries().map(|(_, problem)| problem);
        Watching {
            problems: some_of(slow.into_iter().chain(gaps).chain(bad)),
            rescan_seconds: watcher.rescan_interval().map(|span| span.as_secs_f64()),
        }
    }

    fn bad_entries(&self) -> impl Iterator<Item = (&PathBuf, String)> {
        let watcher = self.watcher.iter();
        watcher.flat_map(|watcher| {
            let is_named = |path: &Path| watcher.paths().any(|named| named == path);
            let files = watcher.snapshot().files().iter();
            let bad = files.filter_map(|(path, state)| Some((path, problem_of(path, state)?)));
            bad.filter(move |(path, _)| !is_named(path))
        })
    }

    /// Lets [`Files::changed`] look at the files at once, and return even if nothing has changed.
    pub(crate) fn look_soon(&mut self) {
        self.look.request(self.watcher.as_mut());
    }

    /// Waits until the files hold something else, and tells which do.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change is told by the next call.
    pub(crate) async fn changed(&mut self) -> Vec<PathBuf> {
        if self.look.is_due() {
            let change = match &mut self.watcher {
                Some(watcher) => self.look.ended(watcher, "watched files").await,
                None => {
                    self.look = DueLook::default();
                    None
                }
            };
            return change.map(|change| change.paths).unwrap_or_default();
        }
        match &mut self.watcher {
            Some(watcher) => watcher.changed().await.paths,
            None => std::future::pending().await,
        }
    }
}

/// Why what was found at a path cannot be used, if so.
fn problem_of(path: &Path, state: &FileState) -> Option<String> {
    match state {
        FileState::Missing => Some(format!("`{}` does not exist", path.display())),
        FileState::Unreadable { reason } => Some(reason.clone()),
        FileState::Present { .. } | FileState::Unread { .. } | FileState::Directory => None,
    }
}

/// The first ones, and how many more there are.
fn some_of(mut problems: impl Iterator<Item = String>) -> Vec<String> {
    let mut some: Vec<String> = problems.by_ref().take(MOST_NAMED).collect();
    match problems.count() {
        0 => {}
        more => some.push(format!("{more} more")),
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::due_look::tests::{Hanging, disturbed};

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let problems = |count: usize| some_of((0..count).map(|number| number.to_string()));
        assert_eq!(problems(2), ["0", "1"]);
        assert_eq!(problems(20).len(), 20);
        assert_eq!(problems(1020).last().unwrap(), "1000 more");
    }

    /// Whoever asked for the status every 100 ms kept every reload from its end.
    #[tokio::test(start_paused = true)]
    async fn a_look_without_an_end_is_waited_for_no_longer_when_something_else_happens_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("envoy.yaml")];
        let mut files = Files::watch(&paths, &[], Rescan::Never).unwrap();
        let _hanging = Hanging::begin();
        files.look_soon();
        let (changed, took) = disturbed(async || files.changed().await).await;
        assert_eq!(changed.len(), 0);
        assert!(took >= LOOK_LIMIT && took < LOOK_LIMIT * 2, "{took:?}");
    }
}
