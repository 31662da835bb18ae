//! The Envoys that this test process has started, as the system shows them.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use handover_envoy::connections::listening_ports;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Looks for the Envoy of one epoch.
pub(crate) struct Hunt {
    base_id: String,
    epoch: String,
    /// The one that runs already is not meant by a wait.
    known: Option<u32>,
}

/// An Envoy; a signal reaches it and no other process, even if it has ended.
pub(crate) struct Prey {
    pub(crate) pid: u32,
    pub(crate) found: Instant,
    descriptor: OwnedFd,
}

impl Hunt {
    pub(crate) fn new(base_id: u32, epoch: u32) -> Self {
        let mut hunt = Self {
            base_id: base_id.to_string(),
            epoch: epoch.to_string(),
            known: None,
        };
        hunt.known = hunt.look().map(|prey| prey.pid);
        hunt
    }

    /// The one that runs.
    pub(crate) fn look(&self) -> Option<Prey> {
        children().into_iter().find_map(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words: Vec<_> = command.split(|byte| *byte == 0).collect();
            let has = |flag: &str, value: &str| {
                let pair = [flag.as_bytes(), value.as_bytes()];
                words.windows(2).any(|words| words == pair)
            };
            let meant = has("--base-id", &self.base_id)
                && has("--restart-epoch", &self.epoch)
                && !has("--mode", "validate");
            let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
            let descriptor = meant
                .then(|| pidfd_open(raw, PidfdFlags::empty()).ok())
                .flatten()?;
            Some(Prey {
                pid,
                found: Instant::now(),
                descriptor,
            })
        })
    }

    /// Waits for one that was not there when this was made; it is found within a millisecond or two.
    pub(crate) fn wait(mut self, limit: Duration) -> Prey {
        let end = Instant::now() + limit;
        loop {
            match self.look() {
                Some(prey) if Some(prey.pid) != self.known => return prey,
                Some(_) => {}
                None => self.known = None,
            }
            assert!(
                Instant::now() < end,
                "no epoch {} with base id {} in {limit:?}",
                self.epoch,
                self.base_id
            );
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

impl Prey {
    pub(crate) fn send(&self, signal: Signal) {
        // One that has ended needs no signal.
        let _ended = pidfd_send_signal(&self.descriptor, signal);
    }

    /// Waits until this long after it was found, and sends the signal.
    pub(crate) fn send_at(&self, age: Duration, signal: Signal) {
        std::thread::sleep(age.saturating_sub(self.found.elapsed()));
        self.send(signal);
    }

    pub(crate) fn is_running(&self) -> bool {
        // Nothing else says so at each moment: while it begins to execute a program it has no command line, like a zombie.
        let mut end = [PollFd::new(&self.descriptor, PollFlags::IN)];
        poll(&mut end, Some(&Timespec::default())).expect("the end can be looked at") == 0
    }

    /// Whether its main thread waits in the middle of receiving a message, as a child does for the
    /// answer of its parent. A main thread with nothing to do waits for events instead.
    pub(crate) fn waits_for_a_message(&self) -> bool {
        // The number of the system call that it is in, then its arguments.
        let state = fs::read_to_string(format!("/proc/{}/syscall", self.pid)).unwrap_or_default();
        let number = state.split_whitespace().next().map(str::parse);
        number == Some(Ok(libc::SYS_recvmsg))
    }

    /// Whether it has its listener; an epoch that has handed it over has closed it.
    pub(crate) fn listens_on(&self, port: u16) -> bool {
        listening_ports(self.pid).is_ok_and(|ports| ports.contains(&port))
    }
}

/// The children of this process, whichever thread started them, without zombies.
fn children() -> Vec<u32> {
    let threads = fs::read_dir("/proc/self/task").expect("a process sees its threads");
    let children = threads.flatten().flat_map(|thread| {
        // A thread may end in between.
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let pids = children.split_whitespace();
        pids.filter_map(|pid| pid.parse().ok())
            .collect::<Vec<u32>>()
    });
    children
        .filter(|pid| {
            // A zombie has no command line.
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
        })
        .collect()
}
