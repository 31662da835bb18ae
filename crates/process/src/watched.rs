//! A process that is no child of ours, watched until it ends.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a process of somebody else until it ends.
///
/// The process is held by a descriptor of its own. So another process that gets the same number later
/// does not count, and whose process it is does not matter. It is neither signalled nor collected.
#[derive(Debug)]
pub struct WatchedProcess {
    pid: Pid,
    descriptor: AsyncFd<OwnedFd>,
}

/// Why a process cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchProcessError {
    /// No process has this number.
    #[error(
        "there is no process {0}: it has ended, or is in another pid namespace (containers share one \
         only if they are told to)"
    )]
    Missing(i32),
    /// It is this process, whose end nobody could watch here.
    #[error("process {0} is this one: it cannot end before itself")]
    Own(i32),
    /// It is a thread that is not the first one of its process.
    #[error("{0} is a thread, not a process: give the id of its process")]
    Thread(i32),
    /// The operating system refuses to watch it.
    #[error("process {pid} cannot be watched")]
    Refused {
        /// Its process id.
        pid: i32,
        /// What the operating system says.
        source: io::Error,
    },
}

impl WatchedProcess {
    /// Begins to watch the process with this id.
    ///
    /// # Errors
    ///
    /// When there is no such process, it is this one, or it cannot be watched.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with its I/O driver.
    pub fn open(pid: i32) -> Result<Self, WatchProcessError> {
        let missing = WatchProcessError::Missing(pid);
        let Some(found) = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
            return Err(missing);
        };
        if found == getpid() {
            return Err(WatchProcessError::Own(pid));
        }
        let refused = |source| WatchProcessError::Refused { pid, source };
        let descriptor = match pidfd_open(found, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::SRCH) => return Err(missing),
            // Older kernels call it invalid, newer ones say that there is none.
            Err(Errno::INVAL | Errno::NOENT) if is_thread(pid) => {
                return Err(WatchProcessError::Thread(pid));
            }
            Err(errno) => return Err(refused(errno.into())),
        };
        #[expect(unsafe_code, reason = "tokio has no safe way to wait for a process")]
        // SAFETY: the descriptor is owned, never replaced, and open for as long as the value lives.
        let descriptor = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self {
            pid: found,
            descriptor: descriptor.map_err(|error| refused(error.into()))?,
        })
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until it has ended. One that has ended and was not collected counts.
    ///
    /// # Errors
    ///
    /// When the runtime shuts down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the end is told by the next call.
    pub async fn ended(&self) -> io::Result<()> {
        self.descriptor.readable().await.map(drop)
    }
}

/// A thread that leads no process has another process in its status.
fn is_thread(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let leader = lines.find_map(|line| line.strip_prefix("Tgid:")?.trim().parse::<i32>().ok());
    leader.is_some_and(|leader| leader != pid)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_process_is_watched_to_its_end_even_one_that_is_not_collected() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let watched = WatchedProcess::open(pid).unwrap();
        assert_eq!(watched.pid(), child.id());
        let early = std::time::Duration::from_millis(50);
        let ended = tokio::time::timeout(early, watched.ended()).await;
        assert!(ended.is_err(), "it runs");
        drop(child.stdin.take());
        watched.ended().await.unwrap();
        // As often as it is asked.
        watched.ended().await.unwrap();
        let ended = WatchedProcess::open(pid).unwrap();
        ended.ended().await.unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn this_process_a_thread_and_no_process_are_refused() {
        let own = getpid().as_raw_nonzero().get();
        let refused = WatchedProcess::open(own).unwrap_err();
        assert!(matches!(refused, WatchProcessError::Own(_)), "{refused}");
        for pid in [0, -1, i32::MAX] {
            let refused = WatchedProcess::open(pid).unwrap_err();
            assert!(
                matches!(refused, WatchProcessError::Missing(_)),
                "{refused}"
            );
        }
        let (tell, told) = mpsc::channel();
        let (stay, stays) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            // Until the test lets it go.
            let _gone = stays.recv();
        });
        let id = told.recv().unwrap().as_raw_nonzero().get();
        let refused = WatchedProcess::open(id).unwrap_err();
        assert!(matches!(refused, WatchProcessError::Thread(_)), "{refused}");
        drop(stay);
        thread.join().unwrap();
    }
}
