//! Waiting until a file loses its name.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What the system reports of a file that loses a name while a second link keeps it.
const NAME_LOST: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::DONT_FOLLOW);

/// A read takes in more than a hundred events.
const READS_AT_ONCE: usize = 8;

/// Reports when files may have lost a name: the moment to call
/// [`ServerSocket::look_at_file`](crate::ServerSocket::look_at_file).
#[derive(Debug)]
pub struct FileWatch(AsyncFd<OwnedFd>);

impl FileWatch {
    /// Returns a watch of no file.
    ///
    /// # Errors
    ///
    /// When a limit of open files or of inotify instances is reached.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(unsafe_code, reason = "tokio has no safe way to wait for inotify")]
        // SAFETY: the descriptor is owned, never replaced, and open for as long as the value lives.
        let events = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) };
        Ok(Self(events?))
    }

    /// Watches the file that is at this path. The same file again changes nothing. A symlink is not followed.
    ///
    /// # Errors
    ///
    /// When there is no file, when this process may not read it, and when the limit of watches is reached.
    pub fn watch(&self, path: &Path) -> io::Result<()> {
        inotify::add_watch(self.0.get_ref(), path, NAME_LOST)?;
        Ok(())
    }

    /// Waits until something has changed of a watched file. What has changed before the call counts.
    ///
    /// # Errors
    ///
    /// When the system does not let this process wait.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped.
    pub async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut events = [0; 4096];
        // What they tell is the same, so a queue that fills as fast as it is read is left as it is.
        for _ in 0..READS_AT_ONCE {
            if !matches!(rustix::io::read(self.0.get_ref(), &mut events), Ok(1..)) {
                // It is empty. An event that has come since then makes it ready again.
                ready.clear_ready();
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn each_way_to_lose_a_name_is_reported() {
        const LIMIT: Duration = Duration::from_secs(20);
        let dir = tempfile::tempdir().unwrap();
        let (path, spare) = (dir.path().join("file"), dir.path().join("spare"));
        std::fs::write(&path, "").unwrap();
        std::fs::hard_link(&path, &spare).unwrap();
        let other = dir.path().join("other");
        std::fs::write(&other, "").unwrap();
        type Lose<'a> = &'a dyn Fn() -> io::Result<()>;
        let ways: [Lose<'_>; 3] = [
            &|| std::fs::remove_file(&path),
            &|| std::fs::rename(&path, dir.path().join("moved")),
            &|| std::fs::rename(&other, &path),
        ];
        for lose in ways {
            let watch = FileWatch::new().unwrap();
            watch.watch(&path).unwrap();
            lose().unwrap();
            let changed = tokio::time::timeout(LIMIT, watch.changed()).await;
            changed.unwrap().unwrap();
            drop(std::fs::remove_file(&path));
            std::fs::hard_link(&spare, &path).unwrap();
        }
        let nowhere = dir.path().join("nowhere");
        assert!(FileWatch::new().unwrap().watch(&nowhere).is_err());
    }

    /// Somebody changes files as fast as their changes are read.
    #[tokio::test]
    async fn a_long_queue_is_not_read_to_its_end_at_once_and_is_reported_again() {
        use std::os::unix::fs::PermissionsExt as _;

        const LIMIT: Duration = Duration::from_secs(20);
        let dir = tempfile::tempdir().unwrap();
        let watch = FileWatch::new().unwrap();
        let files = ["a", "b"].map(|name| dir.path().join(name));
        for file in &files {
            std::fs::write(file, "").unwrap();
            watch.watch(file).unwrap();
        }
        // Equal events that follow each other are one, and a read takes in 256 of them.
        for _ in 0..READS_AT_ONCE * 256 / 2 + 1 {
            for file in &files {
                let mode = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(file, mode).unwrap();
            }
        }
        for _ in 0..2 {
            let changed = tokio::time::timeout(LIMIT, watch.changed()).await;
            changed.unwrap().unwrap();
        }
        let quiet = tokio::time::timeout(Duration::from_millis(50), watch.changed()).await;
        assert!(quiet.is_err());
    }
}
