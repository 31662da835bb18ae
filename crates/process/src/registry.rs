//! Who collects which child: the one place that reaps, and the one place that signals.
//!
//! A process number is free for reuse as soon as the process has been collected. So the end is noted under
//! one lock per child before that, and a signal is sent only to a child whose end is not noted. Its group's
//! number is ours for just as long.
//!
//! The kernel collects a process together with what it has cached of it below `/proc`. That can take more than
//! a second on a busy host. So it is done without the lock, and by the callers on threads that may wait.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, kill_process, kill_process_group, pidfd_send_signal};
use tokio::sync::Notify;

use super::error::{SignalError, WaitError};
use super::exit::ExitCause;
use super::out_of_memory::OomCounter;
use super::signal::Signal;
use super::syscalls::{self, EndedProcess, WaitFor};

/// How often is looked whether a child is gone. A killed one mostly is within this time.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A child from its start until its status has been collected, and the status after that.
#[derive(Debug)]
pub(super) struct Slot {
    pid: Pid,
    pidfd: OwnedFd,
    oom: Option<OomCounter>,
    state: Mutex<State>,
    /// Whether its number is free. The end is known a moment before.
    reaped: AtomicBool,
    /// Whether somebody has begun to reap it.
    reaping: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    end: Option<End>,
    /// Whether what is left of the group is killed when the child is collected.
    sweep: bool,
    /// Whether SIGKILL was sent from here, so that it came from nobody else.
    kill_sent: bool,
}

/// What is known of a child that is gone.
#[derive(Debug, Clone, Copy)]
enum End {
    Known(ExitCause),
    Lost,
}

impl Slot {
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Collects the child if it has ended; afterwards, and from any thread, tells how it ended. It may block for
    /// more than a second.
    ///
    /// `None` while it runs.
    pub(super) fn collect(self: &Arc<Self>) -> Option<Result<ExitCause, WaitError>> {
        let end = self.note_end()?;
        self.reap();
        Some(end)
    }

    /// Notes how the child ended, if it has, and tells that. It does not block. The child must be
    /// [reaped](Self::reap) after it.
    pub(super) fn note_end(&self) -> Option<Result<ExitCause, WaitError>> {
        let mut state = lock(&self.state);
        let end = match state.end {
            Some(end) => end,
            None => {
                let end = self.look(&state)?;
                state.end = Some(end);
                end
            }
        };
        drop(state);
        Some(self.told(end))
    }

    /// Collects a child whose end is noted, unless somebody does or has done so. It may block for more than a
    /// second.
    pub(super) fn reap(self: &Arc<Self>) {
        if self.reaping.swap(true, Ordering::AcqRel) {
            return;
        }
        // If somebody else has collected it meanwhile, its end is known all the same.
        drop(syscalls::reap(WaitFor::PidFd(self.pidfd.as_fd())));
        self.reaped.store(true, Ordering::Release);
        forget(self);
        GATE_OPENED.notify_waiters();
    }

    /// Tells how the child ended, if that is noted. It never blocks.
    pub(super) fn known(&self) -> Option<Result<ExitCause, WaitError>> {
        let end = lock(&self.state).end;
        end.map(|end| self.told(end))
    }

    /// Returns whether the child has ended, collected or not. It never blocks.
    pub(super) fn has_ended(&self) -> bool {
        let is_running = || matches!(syscalls::peek(WaitFor::PidFd(self.pidfd.as_fd())), Ok(None));
        lock(&self.state).end.is_some() || !is_running()
    }

    fn told(&self, end: End) -> Result<ExitCause, WaitError> {
        match end {
            End::Known(cause) => Ok(cause),
            End::Lost => Err(WaitError::Lost { pid: self.pid() }),
        }
    }

    /// The last thing before the number is given up: sweep the group, and judge the cause.
    fn look(&self, state: &State) -> Option<End> {
        let which = WaitFor::PidFd(self.pidfd.as_fd());
        let ended = match syscalls::peek(which) {
            Ok(None) => return None,
            Ok(Some(ended)) => ended,
            // ECHILD: it is gone and was collected by somebody else.
            Err(_) => return Some(End::Lost),
        };
        if state.sweep {
            // The ended child still holds its number, so the group is certainly ours. No such
            // group means that nothing is left of it.
            let _ = kill_process_group(self.pid, Signal::KILL.raw());
        }
        Some(End::Known(self.cause(ended, state)))
    }

    fn cause(&self, ended: EndedProcess, state: &State) -> ExitCause {
        let has_risen = || self.oom.as_ref().is_some_and(OomCounter::has_risen);
        ExitCause::of(ended).or_out_of_memory(state.kill_sent, has_risen)
    }

    /// Signals the child itself.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        self.send(signal, |slot| {
            match pidfd_send_signal(&slot.pidfd, signal.raw()) {
                // Containers of an older Docker or libseccomp refuse the call. While its end is not noted, the child
                // has its number.
                Err(Errno::NOSYS | Errno::PERM) => kill_process(slot.pid, signal.raw()),
                sent => sent,
            }
        })
    }

    /// Signals every process of the child's group.
    pub(super) fn signal_group(&self, signal: Signal) -> Result<(), SignalError> {
        self.send(signal, |slot| kill_process_group(slot.pid, signal.raw()))
    }

    fn send(
        &self,
        signal: Signal,
        send: impl FnOnce(&Self) -> rustix::io::Result<()>,
    ) -> Result<(), SignalError> {
        let pid = self.pid();
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return Err(SignalError::Ended { pid });
        }
        match send(self) {
            Ok(()) => {
                state.kill_sent |= signal == Signal::KILL;
                Ok(())
            }
            Err(Errno::SRCH) => Err(SignalError::Ended { pid }),
            Err(errno) => Err(SignalError::Refused {
                pid,
                source: errno.into(),
            }),
        }
    }

    /// From here on, the collector of the child kills what is left of its group.
    pub(super) fn sweep_group_at_end(&self) {
        lock(&self.state).sweep = true;
    }
}

impl AsFd for Slot {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Slot {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

/// Enters a child that has just been made.
///
/// The caller holds [`spawning`] from before the child is made until this returns.
pub(super) fn register(
    pid: Pid,
    pidfd: OwnedFd,
    oom: Option<OomCounter>,
    sweep: bool,
) -> Arc<Slot> {
    let slot = Arc::new(Slot {
        pid,
        pidfd,
        oom,
        state: Mutex::new(State {
            sweep,
            ..State::default()
        }),
        reaped: AtomicBool::new(false),
        reaping: AtomicBool::new(false),
    });
    lock(&OURS).insert(pid.as_raw_nonzero().get(), Arc::clone(&slot));
    slot
}

/// Keeps the collection of orphans out while a child is made and registered.
///
/// A child that ends at once would otherwise be taken for an orphan, and its status be lost.
pub(super) fn spawning() -> SpawnGate {
    SpawnGate {
        guard: Some(lock(&GATE)),
    }
}

/// Held while a child is made; see [`spawning`].
pub(super) struct SpawnGate {
    guard: Option<MutexGuard<'static, ()>>,
}

impl Drop for SpawnGate {
    fn drop(&mut self) {
        self.guard = None;
        GATE_OPENED.notify_waiters();
    }
}

/// A process that was not started here and has been collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swept {
    /// An orphan was collected.
    Orphan(EndedProcess),
    /// No ended process is left.
    Nothing,
    /// A child is being made, or collected elsewhere; wait on [`gate_opened`].
    Busy,
}

/// Collects the next orphan that has ended; children of this module are collected on the way.
///
/// It does not wait while a child is being made: that can take as long as the file system takes to find the
/// program. To collect a process may take more than a second.
pub(super) fn sweep_orphan() -> Swept {
    let _gate = match GATE.try_lock() {
        Ok(gate) => gate,
        Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(std::sync::TryLockError::WouldBlock) => return Swept::Busy,
    };
    loop {
        // An error is ECHILD: there is no child at all.
        let Ok(Some(ended)) = syscalls::peek(WaitFor::Any) else {
            return Swept::Nothing;
        };
        let ours = lock(&OURS).get(&ended.pid).cloned();
        if let Some(slot) = ours {
            // The kernel shows the same process until it is collected. A waiter for this one
            // finds its status in the slot.
            if !slot.reaping.load(Ordering::Acquire) {
                drop(slot.collect());
                continue;
            }
            if !slot.reaped.load(Ordering::Acquire) {
                return Swept::Busy;
            }
            // Collected before: the number was given to a newcomer.
            forget(&slot);
        }
        if let Ok(Some(ended)) = syscalls::reap(WaitFor::Pid(ended.pid)) {
            return Swept::Orphan(ended);
        }
    }
}

/// Told each time a child has been made or collected.
pub(super) fn gate_opened() -> &'static Notify {
    &GATE_OPENED
}

/// Waits until each child that has ended, or was killed from here, has been collected; see
/// [`collect_ended`](super::collect_ended).
pub(super) fn collect_ended(at_most: Duration) -> bool {
    let begun = Instant::now();
    loop {
        let ours: Vec<_> = lock(&OURS).values().cloned().collect();
        let is_left = |slot: &Arc<Slot>| match slot.collect() {
            Some(_) => !slot.reaped.load(Ordering::Acquire),
            None => lock(&slot.state).kill_sent,
        };
        // Each one is looked at, so that none waits for another one's end.
        if ours.iter().filter(|slot| is_left(slot)).count() == 0 {
            return true;
        }
        if begun.elapsed() >= at_most {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn forget(slot: &Arc<Slot>) {
    let mut ours = lock(&OURS);
    let pid = slot.pid.as_raw_nonzero().get();
    if ours.get(&pid).is_some_and(|entry| Arc::ptr_eq(entry, slot)) {
        ours.remove(&pid);
    }
}

/// The data is valid at every step, so a panic of another holder is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The children that have not been collected, by number. Held for single operations only.
static OURS: LazyLock<Mutex<HashMap<i32, Arc<Slot>>>> = LazyLock::new(Mutex::default);
/// Taken before the other locks: see [`spawning`].
static GATE: Mutex<()> = Mutex::new(());
static GATE_OPENED: Notify = Notify::const_new();
