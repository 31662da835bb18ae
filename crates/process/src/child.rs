//! A running child.

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use handover_runtime::offload::offload;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::{SignalError, WaitError};
use super::exit::ExitCause;
use super::kernel_file::text_of;
use super::output::{Stream, Tail};
use super::pump::Output;
use super::registry::Slot;
use super::signal::Signal;
use super::spawner::ChildGuard;

/// A child that was started with [`Command::spawn`](super::Command::spawn).
///
/// Every method takes `&self`: one task can wait while another one signals.
///
/// Dropping a child that still runs kills its process group with SIGKILL and collects it in the
/// background, so neither a process nor a zombie is left. Output that its group has written until
/// then is still forwarded, as long as the runtime lives.
pub struct Child {
    running: ChildGuard,
    exit: AsyncFd<ExitFd>,
    output: Option<Output>,
}

impl Child {
    pub(super) fn new(running: ChildGuard, output: Option<Output>) -> std::io::Result<Self> {
        let exit = ExitFd(Arc::clone(running.slot()));
        #[expect(
            unsafe_code,
            reason = "tokio has no safe way to wait for a process descriptor"
        )]
        // SAFETY: the slot owns one descriptor, opened before and closed only with the slot, which
        // the `ExitFd` keeps alive.
        let exit = unsafe { AsyncFd::register_with_interest(exit, Interest::READABLE) }?;
        Ok(Self {
            exit,
            running,
            output,
        })
    }

    /// Returns the process id, which is the id of the process group as well.
    pub fn pid(&self) -> u32 {
        self.running.slot().pid()
    }

    /// Returns how the child ended, once it has, and once all it wrote has reached the sink.
    ///
    /// It can be called any number of times, at the same time and after the end too. A grandchild
    /// that holds the output open does not delay it; what that one writes is forwarded on.
    ///
    /// # Errors
    ///
    /// [`WaitError::Lost`] if other code in this program collected the child's status.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost, and the next call goes on where this one was.
    pub async fn wait(&self) -> Result<ExitCause, WaitError> {
        let slot = self.running.slot();
        let end = loop {
            if let Some(end) = slot.known() {
                break end;
            }
            let mut ready = self.exit.readable().await.map_err(|source| {
                let pid = self.pid();
                WaitError::Runtime { pid, source }
            })?;
            // The descriptor can be ready and the status not yet ours, under a debugger. Then the
            // kernel wakes us once more.
            if let Some(end) = slot.note_end() {
                reap_later(slot);
                break end;
            }
            ready.clear_ready();
        };
        if let Some(output) = &self.output {
            output.finish().await;
        }
        end
    }

    /// Returns whether the child has ended. It never blocks.
    pub fn has_ended(&self) -> bool {
        self.running.slot().has_ended()
    }

    /// Returns how the child ended, or `None` while it runs. Output may still be on its way.
    ///
    /// A child whose end nobody has waited for is collected here. The kernel can take more than a second for that:
    /// on the thread of a runtime, use [`Child::has_ended`] or [`Child::wait`].
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub fn try_wait(&self) -> Result<Option<ExitCause>, WaitError> {
        self.running.slot().collect().transpose()
    }

    /// Sends a signal to the child itself.
    ///
    /// It cannot hit another process: the kernel is told by process descriptor.
    ///
    /// # Errors
    ///
    /// [`SignalError::Ended`] once the child's end has been collected.
    pub fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        self.running.slot().signal(signal)
    }

    /// Sends a signal to the child and to every process of its group.
    ///
    /// # Errors
    ///
    /// [`SignalError::Ended`] once the child's end has been collected, even if its group has
    /// members left: the group's number may then be somebody else's.
    pub fn signal_group(&self, signal: Signal) -> Result<(), SignalError> {
        self.running.slot().signal_group(signal)
    }

    /// Ends the child: asks, waits for the grace, then kills its process group.
    ///
    /// The request is followed by SIGCONT, so that a stopped child can act on it. Whatever is left
    /// of the process group is killed as soon as the child has ended, in time or not.
    ///
    /// It needs tokio's timer.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child has been asked to end but is not killed after the
    /// grace. Call it again, or drop the child.
    pub async fn stop(&self, stop: Stop) -> Result<Stopped, WaitError> {
        let slot = self.running.slot();
        slot.sweep_group_at_end();
        let send = |signal| match stop.reach {
            Reach::Child => slot.signal(signal),
            Reach::Group => slot.signal_group(signal),
        };
        // A child that has ended needs no signal, and one that cannot be signalled is given its
        // grace all the same.
        if send(stop.signal).is_ok() && stop.signal != Signal::KILL {
            drop(send(Signal::CONT));
        }
        if let Ok(end) = handover_runtime::time_limit::timeout(stop.grace, self.wait()).await {
            return Ok(Stopped {
                cause: end?,
                forced: false,
            });
        }
        self.kill().await
    }

    /// Ends the child's process group with SIGKILL, and waits for the child's end.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    ///
    /// # Cancel safety
    ///
    /// The signal is sent at the first poll; after that it is cancel safe.
    pub async fn kill(&self) -> Result<Stopped, WaitError> {
        let slot = self.running.slot();
        slot.sweep_group_at_end();
        let forced = slot.signal_group(Signal::KILL).is_ok();
        let cause = self.wait().await?;
        Ok(Stopped { cause, forced })
    }

    /// Returns the child's memory in RAM, in bytes, shared pages included; `None` once it has ended,
    /// or if `/proc` cannot be read.
    pub fn resident_bytes(&self) -> Option<u64> {
        // Read before looking whether it runs: so the number is not another process's by now.
        let statm = text_of(format!("/proc/{}/statm", self.pid()).as_ref()).ok()?;
        if self.running.slot().has_ended() {
            return None;
        }
        let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        // An ended process that was not collected has none.
        pages.checked_mul(page).filter(|bytes| *bytes > 0)
    }

    /// Returns the last lines the child wrote to standard error; empty without an output sink.
    ///
    /// After [`Child::wait`] has returned, the child's very last line is among them.
    pub fn stderr_tail(&self) -> Tail {
        self.tail(Stream::Stderr)
    }

    /// Returns the last lines the child wrote to standard output, as [`Child::stderr_tail`] does. There are programs that
    /// write everything there, also why they end.
    pub fn stdout_tail(&self) -> Tail {
        self.tail(Stream::Stdout)
    }

    fn tail(&self, stream: Stream) -> Tail {
        let output = self.output.as_ref();
        output.map(|output| output.tail(stream)).unwrap_or_default()
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// Collects an ended child on a thread that may wait, because the kernel can take seconds for it. Nobody waits for
/// that: the child serves nobody any more.
fn reap_later(slot: &Arc<Slot>) {
    let (work, slot) = (Arc::clone(slot), Arc::clone(slot));
    // It is queued here, and the task only keeps it from being cancelled.
    let reaped = offload(move || work.reap());
    tokio::spawn(async move {
        if reaped.await.is_err() {
            // Late is better than never.
            slot.reap();
        }
    });
}

/// How a child is asked to end; see [`Child::stop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The request.
    pub signal: Signal,
    /// Who gets the request. SIGKILL after the grace always goes to the whole group.
    pub reach: Reach,
    /// How long the child may take.
    pub grace: Duration,
}

impl Stop {
    /// Asks by SIGTERM, sent to the child alone, which knows best how its own children end.
    pub fn within(grace: Duration) -> Self {
        Self {
            signal: Signal::TERM,
            reach: Reach::Child,
            grace,
        }
    }
}

/// Who gets the request to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The child alone.
    Child,
    /// Every process of its group, for instance where the child is a shell that passes no signal
    /// on.
    Group,
}

/// How a child that was told to stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// How it ended.
    pub cause: ExitCause,
    /// Whether SIGKILL was sent to it, because it did not end within the grace or was not asked.
    pub forced: bool,
}

/// Becomes readable when the child ends.
struct ExitFd(Arc<Slot>);

impl AsRawFd for ExitFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::Command;

    const LIMIT: Duration = Duration::from_secs(20);

    /// How many threads there are for work that may wait, at most.
    const THREADS: usize = 32;

    /// Gives each of those threads something to do until the sender is dropped.
    async fn occupy_threads() -> (Sender<()>, Vec<JoinHandle<()>>) {
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let mut tasks = Vec::new();
        for _ in 0..THREADS {
            let (begun, has_begun) = oneshot::channel();
            let released: Arc<Mutex<Receiver<()>>> = Arc::clone(&released);
            let work = offload(move || {
                begun.send(()).unwrap();
                // One waits for the sender, and the others for that one.
                let receiver = released.lock().unwrap_or_else(PoisonError::into_inner);
                let _over = receiver.recv();
            });
            tasks.push(tokio::spawn(async move { work.await.unwrap() }));
            tokio::time::timeout(LIMIT, has_begun)
                .await
                .unwrap()
                .unwrap();
        }
        (release, tasks)
    }

    /// The kernel's letter for the state of a process; nothing once it is collected.
    fn state(pid: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.chars().next()
    }

    /// The kernel can take more than a second to collect a process, and a loop that does it itself stands still then. So
    /// while no thread is free for it, the end is told all the same, and the process is left as it is.
    #[tokio::test]
    async fn the_end_is_told_before_a_thread_has_collected_the_child() {
        let child = Command::new("sleep").args(["60"]).spawn().await.unwrap();
        let pid = child.pid();
        let (release, tasks) = occupy_threads().await;
        child.signal(Signal::KILL).unwrap();
        let cause = tokio::time::timeout(LIMIT, child.wait()).await.unwrap();
        assert_eq!(cause.unwrap().signal(), Some(Signal::KILL.raw().as_raw()));
        assert_eq!(state(pid), Some('Z'), "the loop has collected it");
        // Its number is its own until then, and no signal is sent to it any more.
        assert!(matches!(
            child.signal(Signal::TERM),
            Err(SignalError::Ended { .. })
        ));
        drop(release);
        for task in tasks {
            tokio::time::timeout(LIMIT, task).await.unwrap().unwrap();
        }
        let collected = async {
            while state(pid).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, collected).await.unwrap();
    }

    /// What a program does before it ends: it waits for no thread that may never come, and not only for those
    /// whose end is known.
    #[tokio::test]
    async fn what_has_ended_or_was_killed_is_gone_at_the_end_of_the_program() {
        let child = Command::new("true").spawn().await.unwrap();
        let dropped = Command::new("sleep").args(["60"]).spawn().await.unwrap();
        let runs_on = Command::new("sleep").args(["60"]).spawn().await.unwrap();
        let (release, _tasks) = occupy_threads().await;
        child.wait().await.unwrap();
        assert_eq!(state(child.pid()), Some('Z'));
        let pid = dropped.pid();
        drop(dropped);
        assert!(crate::collect_ended(LIMIT));
        assert_eq!((state(child.pid()), state(pid)), (None, None));
        assert!(!runs_on.has_ended());
        drop(release);
    }
}
