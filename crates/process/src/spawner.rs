//! The one thread that makes children.
//!
//! The kernel sends the parent-death signal when the *thread* that made the child ends, not when
//! the process does. Runtimes end idle threads. So every child is made by one thread that lives
//! until the process ends. It also collects the children that nobody waits for any more.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::process::Pid;
use tokio::sync::oneshot;

use super::control_group;
use super::launch::{Failure, Prepared, Stack, launch};
use super::out_of_memory::OomCounter;
use super::registry::{self, Slot};
use super::signal::Signal;
use super::syscalls;

/// A child that is killed with its group and collected when this is dropped.
#[derive(Debug)]
pub(super) struct ChildGuard {
    slot: Arc<Slot>,
    spawner: Arc<Spawner>,
}

impl ChildGuard {
    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        if self.slot.known().is_some() {
            return;
        }
        self.slot.sweep_group_at_end();
        // A child that ends in this moment is no failure, and one that runs as another user is
        // out of reach; it is collected whenever it ends.
        drop(self.slot.signal_group(Signal::KILL));
        self.spawner.push(Job::Abandoned(Arc::clone(&self.slot)));
    }
}

/// What is asked of the thread besides the making of the process.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) prepared: Prepared,
    pub(super) sweep_group: bool,
}

#[derive(Debug)]
pub(super) struct Spawner {
    jobs: Mutex<VecDeque<Job>>,
    wake: OwnedFd,
}

/// What hears of the child. It is dropped unused only if the thread panicked.
pub(super) type Answer = oneshot::Sender<Result<ChildGuard, Failure>>;

#[derive(Debug)]
enum Job {
    Launch(Box<Order>, Answer),
    Abandoned(Arc<Slot>),
}

impl Spawner {
    /// The thread of this process, started at the first call.
    pub(super) fn get() -> io::Result<Arc<Self>> {
        static SPAWNER: Mutex<Option<Arc<Spawner>>> = Mutex::new(None);
        let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spawner) = &*spawner {
            return Ok(Arc::clone(spawner));
        }
        let started = Arc::new(Self {
            jobs: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let stack = Stack::new()?;
        syscalls::keep_exit_statuses();
        let thread = Arc::clone(&started);
        std::thread::Builder::new()
            .name("handover-spawner".into())
            .stack_size(256 * 1024)
            .spawn({
                let stack = SendStack(stack);
                move || thread.run(stack)
            })?;
        *spawner = Some(Arc::clone(&started));
        Ok(started)
    }

    /// Asks for a child, which is not made if nobody waits for the answer by then.
    pub(super) fn launch(&self, order: Order, answer: Answer) {
        self.push(Job::Launch(Box::new(order), answer));
    }

    fn push(&self, job: Job) {
        self.jobs().push_back(job);
        // The counter only fails to take a 1 when it is near overflow, and then the thread is
        // certainly awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never returns: the end of this thread would be the end of every child.
    fn run(self: Arc<Self>, stack: SendStack) {
        let SendStack(mut stack) = stack;
        // Signals are for the other threads, and no handler may run in a child: see `launch`.
        syscalls::block_all_signals();
        // The first start needs it, and most of what comes before that start goes on beside this.
        let _read = control_group::mounts();
        let mut abandoned: Vec<Arc<Slot>> = Vec::new();
        loop {
            self.sleep(&abandoned);
            loop {
                let job = self.jobs().pop_front();
                match job {
                    Some(Job::Launch(_, answer)) if answer.is_closed() => {}
                    Some(Job::Launch(order, answer)) => {
                        // A panic would be a bug, but not one that children should die of.
                        let result =
                            catch_unwind(AssertUnwindSafe(|| self.make(&order, &mut stack)));
                        // The descriptors that were for the child are closed before anybody hears
                        // of it.
                        drop(order);
                        if let Ok(result) = result {
                            // If nobody waits for the answer, the child is dropped and thereby
                            // killed and abandoned.
                            drop(answer.send(result));
                        }
                    }
                    Some(Job::Abandoned(slot)) => abandoned.push(slot),
                    None => break,
                }
            }
            abandoned.retain(|slot| slot.collect().is_none());
        }
    }

    /// Waits for a job, or for the end of an abandoned child.
    fn sleep(&self, abandoned: &[Arc<Slot>]) {
        let mut fds = Vec::with_capacity(abandoned.len() + 1);
        fds.push(PollFd::new(&self.wake, PollFlags::IN));
        fds.extend(
            abandoned
                .iter()
                .map(|slot| PollFd::from_borrowed_fd(slot.as_fd(), PollFlags::IN)),
        );
        if poll(&mut fds, None).is_err() {
            // Only want of memory is left as a cause; give it time to pass.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // An empty counter is fine: the wake-up was for an abandoned child.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    fn make(self: &Arc<Self>, order: &Order, stack: &mut Stack) -> Result<ChildGuard, Failure> {
        let oom = OomCounter::start();
        let _gate = registry::spawning();
        let (pid, pidfd) = launch(&order.prepared, stack)?;
        let pid = Pid::from_raw(pid).ok_or_else(|| {
            Failure::Fork(io::Error::other("the kernel gave a process no number"))
        })?;
        Ok(ChildGuard {
            slot: registry::register(pid, pidfd, oom, order.sweep_group),
            spawner: Arc::clone(self),
        })
    }
}

/// The stack on its way to the thread that uses it.
struct SendStack(Stack);

#[expect(unsafe_code, reason = "a raw pointer is not Send by itself")]
// SAFETY: the stack owns its mapping, which is not tied to any thread.
unsafe impl Send for SendStack {}
