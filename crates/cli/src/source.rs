//! Where the desired configuration comes from: files, compared by content, and a count of the times
//! that a next epoch was asked for without a change.

use std::path::PathBuf;
use std::pin::Pin;

use handover_tokio::watch::{FileState, Snapshot, WatchError, Watcher};

/// A configuration on its way, or in one line why the files ask for nothing that can be run. Whoever
/// has a newer wish drops it.
pub(crate) type Reading<C> = Pin<Box<dyn Future<Output = anyhow::Result<C>> + Send>>;

/// Turns what there is into a configuration.
pub(crate) trait Source {
    /// What the proxy is run with.
    type Config;

    /// What is supervised, for people.
    fn name(&self) -> String;

    /// The configuration that the files ask for at present. Another generation makes another
    /// configuration, even if nothing else has changed. It may wait for the network.
    fn read(&self, files: &Files, generation: u64) -> Reading<Self::Config>;

    /// Program files whose replacement leads to another configuration. They are not read.
    fn programs(&self) -> &[PathBuf] {
        &[]
    }

    /// A configuration to start with in place of what the files ask for, which cannot be used.
    fn stand_in(&self) -> Option<Self::Config> {
        None
    }
}

/// The watched files.
pub(crate) struct Files {
    /// None when no path is watched: then there is nothing to listen to.
    watcher: Option<Watcher>,
    /// Whether somebody wants to know what they hold at this moment.
    look_due: bool,
}

impl Files {
    /// Begins to watch. It reads the files, but not the programs, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// When the kernel cannot watch them.
    pub(crate) fn watch(paths: &[PathBuf], programs: &[PathBuf]) -> Result<Self, WatchError> {
        let watcher = match (paths, programs) {
            ([], []) => None,
            (paths, programs) => Some(Watcher::with_identities(paths, programs)?),
        };
        Ok(Self {
            watcher,
            look_due: false,
        })
    }

    /// What the files held when they were last looked at.
    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.watcher.as_ref().map(Watcher::snapshot)
    }

    /// Why the files cannot be used, if one is missing or cannot be read.
    pub(crate) fn problem(&self) -> Option<String> {
        let files = self.snapshot()?.files();
        files.iter().find_map(|(path, state)| match state {
            FileState::Missing => Some(format!("`{}` does not exist", path.display())),
            FileState::Unreadable { reason } => Some(reason.clone()),
            FileState::Present { .. } | FileState::Unread { .. } | FileState::Directory => None,
        })
    }

    /// Whether one of the files could not be read.
    pub(crate) fn has_unreadable(&self) -> bool {
        let unreadable = |state: &FileState| matches!(state, FileState::Unreadable { .. });
        self.snapshot()
            .is_some_and(|snapshot| snapshot.files().values().any(unreadable))
    }

    /// Lets [`Files::changed`] look at the files at once, and return even if nothing has changed.
    pub(crate) fn look_soon(&mut self) {
        self.look_due = true;
    }

    /// Waits until the files hold something else, and tells which do.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change is told by the next call.
    pub(crate) async fn changed(&mut self) -> Result<Vec<PathBuf>, WatchError> {
        if self.look_due {
            let looked = match &mut self.watcher {
                Some(watcher) => watcher.look().await,
                None => Ok(None),
            };
            self.look_due = false;
            return Ok(looked?.map(|change| change.paths).unwrap_or_default());
        }
        match &mut self.watcher {
            Some(watcher) => Ok(watcher.changed().await?.paths),
            None => std::future::pending().await,
        }
    }

    /// Stops watching, after an error that will not pass.
    pub(crate) fn give_up(&mut self) {
        self.watcher = None;
    }
}
