//! The job that an instance was started for: when it is done, the instance drains and ends.

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};

use handover_process::{WatchProcessError, WatchedProcess};
use handover_watch::{FileState, Rescan, WatchError, Watcher};
use tracing::warn;

use crate::operator::JobDone;

/// By what it is seen that a job is done: a process that ends, or a file that appears. By default there
/// is no job.
#[derive(Debug, Default)]
pub struct Job {
    process: Option<WatchedProcess>,
    file: Option<Watcher>,
}

/// Why a job cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The process cannot be watched.
    #[error(transparent)]
    Process(#[from] WatchProcessError),
    /// The file is there already.
    #[error("`{}` is there already, perhaps from an earlier run: remove it before the start", .0.display())]
    FileIsThere(PathBuf),
    /// It cannot be seen whether the file is there, or something else is in its place.
    #[error("{0}")]
    FileNotSeen(String),
    /// The file cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
}

impl Job {
    /// Is done when this process ends.
    ///
    /// # Errors
    ///
    /// When there is no such process, it is this one, or it cannot be watched.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with its I/O driver.
    pub fn with_process(mut self, pid: i32) -> Result<Self, JobError> {
        self.process = Some(WatchedProcess::open(pid)?);
        Ok(self)
    }

    /// Is done when this regular file appears. It may be empty. Where the kernel reports no changes, it is
    /// checked as `rescan` says. It looks at the file, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// When the file is there already, since it may be left from an earlier run, or when that cannot be
    /// seen.
    ///
    /// # Panics
    ///
    /// As [`Job::with_process`].
    pub fn with_file(mut self, path: &Path, rescan: Rescan) -> Result<Self, JobError> {
        // Otherwise everything in it would be looked at.
        if path.is_dir() {
            let path = path.display();
            let why = format!("`{path}` is a directory: name the file that is to appear");
            return Err(JobError::FileNotSeen(why));
        }
        let watcher = Watcher::with_identities([] as [&Path; 0], [path])?;
        match state_of(&watcher) {
            None | Some(FileState::Missing) => {}
            Some(FileState::Unreadable { reason }) => {
                return Err(JobError::FileNotSeen(reason.clone()));
            }
            Some(FileState::Present { .. } | FileState::Unread { .. } | FileState::Directory) => {
                return Err(JobError::FileIsThere(path.to_owned()));
            }
        }
        self.file = Some(watcher.rescan(rescan));
        Ok(self)
    }

    /// Waits until the job is done. It tells each sign once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a sign is told by the next call.
    pub(crate) async fn done(&mut self) -> JobDone {
        loop {
            tokio::select! {
                ended = process_ended(self.process.as_ref()) => {
                    let process = self.process.take();
                    let pid = process.map(|process| process.pid()).unwrap_or_default();
                    match ended {
                        Ok(()) => return JobDone::ProcessEnded(pid),
                        // It is given up, so this is logged once and not for each call.
                        Err(error) => warn!(
                            "process {pid} can be watched no longer, so its end will not be noticed: \
                             {error}; end this instance by a signal or by its control socket"
                        ),
                    }
                }
                () = file_appeared(self.file.as_mut()) => {
                    self.file = None;
                    return JobDone::FileAppeared;
                }
            }
        }
    }
}

/// Waits until the process has ended, or for ever where there is none.
async fn process_ended(process: Option<&WatchedProcess>) -> io::Result<()> {
    match process {
        Some(process) => process.ended().await,
        None => pending().await,
    }
}

async fn file_appeared(file: Option<&mut Watcher>) {
    let Some(watcher) = file else {
        return pending().await;
    };
    // A change that was seen before this call was cancelled has left its trace.
    while !is_there(watcher) {
        watcher.changed().await;
    }
}

fn state_of(watcher: &Watcher) -> Option<&FileState> {
    watcher.snapshot().files().values().next()
}

fn is_there(watcher: &Watcher) -> bool {
    matches!(
        state_of(watcher),
        Some(FileState::Present { .. } | FileState::Unread { .. })
    )
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_job_is_done_when_its_process_ends() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // It may have ended already, and is not reaped yet.
        let mut job = Job::default().with_process(pid).unwrap();
        assert_eq!(job.done().await, JobDone::ProcessEnded(child.id()));
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_file_that_appears_is_the_end_and_one_that_is_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("done");
        let mut job = Job::default().with_file(&path, Rescan::Never).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(job.done().await, JobDone::FileAppeared);
        let refused = Job::default().with_file(&path, Rescan::Never).unwrap_err();
        assert!(matches!(refused, JobError::FileIsThere(_)), "{refused}");
        let refused = Job::default()
            .with_file(dir.path(), Rescan::Never)
            .unwrap_err();
        assert!(matches!(refused, JobError::FileNotSeen(_)), "{refused}");
    }

    /// The error was logged again for each signal, client and change, as each of them begins the wait again.
    #[test]
    fn a_process_that_can_be_watched_no_longer_is_given_up() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().unwrap()
        };
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let first = runtime();
        let mut job = first
            .block_on(async { Job::default().with_process(pid) })
            .unwrap();
        // What it is watched with goes with its runtime.
        drop(first);
        let waited = runtime()
            .block_on(async { tokio::time::timeout(Duration::from_millis(10), job.done()).await });
        assert!(waited.is_err() && job.process.is_none(), "{waited:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
