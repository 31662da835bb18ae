//! Finds every process that a test has started, however far down and however orphaned.
//!
//! A tag is an environment variable with a value of its own. Children inherit it, and the kernel
//! shows it in `/proc/PID/environ`, so that a grandchild whose parents are gone is found too,
//! which a walk over parent ids would miss. Tests of one process run side by side, so "the children
//! of this process" would name those of other tests.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::claim::random;
use crate::limit;

/// The environment variable. Its name does not begin with `HANDOVER_`, for those configure the
/// program under test.
const VARIABLE: &str = "TEST_PROCESS_TAG";

/// Marks the processes of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessTag(String);

/// A process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its arguments, joined by blanks.
    pub command: String,
    /// Ended, but not yet waited for by its parent.
    pub is_zombie: bool,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            parent,
            command,
            is_zombie,
        } = self;
        let zombie = if *is_zombie { "zombie " } else { "" };
        write!(f, "{zombie}process {pid} (parent {parent}): {command}")
    }
}

impl ProcessTag {
    /// A tag that nobody else has.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "each tag differs, so none is the default"
    )]
    pub fn new() -> Self {
        Self(format!("{}-{:016x}", std::process::id(), random()))
    }

    /// Gives the tag to a process about to be started, and so to its descendants.
    pub fn mark(&self, command: &mut Command) {
        command.env(VARIABLE, &self.0);
    }

    /// The tagged processes that run, and the descendants of those, tagged or not.
    ///
    /// An ended process that its parent has not waited for has no environment any more; it is found
    /// as a descendant while its parent runs.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let mut others = all_processes();
        let mut ours = Vec::new();
        let entry = format!("{VARIABLE}={}", self.0);
        let mut found: Vec<u32> = others
            .keys()
            .copied()
            .filter(|pid| has_variable(*pid, &entry))
            .collect();
        while let Some(pid) = found.pop() {
            // A tagged child of a tagged process is found twice.
            let Some(process) = others.remove(&pid) else {
                continue;
            };
            found.extend(
                others
                    .values()
                    .filter(|other| other.parent == pid)
                    .map(|child| child.pid),
            );
            ours.push(process);
        }
        ours.sort_by_key(|process| process.pid);
        ours
    }

    /// Kills all of them, and those that appear meanwhile, and waits until they are gone; the
    /// ones left when `limit` passes are returned. A zombie counts as gone.
    #[must_use]
    pub fn kill_all(&self, limit: Duration) -> Vec<Process> {
        let running = || -> Vec<Process> {
            self.processes()
                .into_iter()
                .filter(|process| !process.is_zombie)
                .collect()
        };
        let all_gone = limit::poll(limit, || {
            let handles: Vec<_> = running()
                .into_iter()
                .filter_map(|process| {
                    let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
                    Some((process.pid, pidfd_open(pid, PidfdFlags::empty()).ok()?))
                })
                .collect();
            // A pid may have been given to a stranger before its handle was opened. It is ours
            // only if it is still tagged now that the handle is fixed to one process.
            let ours = running();
            for (pid, handle) in &handles {
                if ours.iter().any(|process| process.pid == *pid) {
                    // It may end by itself at any time, which is as good.
                    let _sent = pidfd_send_signal(handle, Signal::KILL);
                }
            }
            ours.is_empty().then_some(())
        });
        if all_gone.is_some() {
            Vec::new()
        } else {
            running()
        }
    }
}

/// The processes whose parent is `pid`, zombies included.
#[must_use]
pub fn children_of(pid: u32) -> Vec<Process> {
    all_processes()
        .into_values()
        .filter(|process| process.parent == pid)
        .collect()
}

/// The process with this id; `None` when there is none.
#[must_use]
pub fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything, parentheses too.
    let (before, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments);
    let arguments = arguments.trim_end_matches('\0').replace('\0', " ");
    let command = if arguments.is_empty() {
        before
            .split_once('(')
            .map_or("", |(_, name)| name)
            .to_owned()
    } else {
        arguments
    };
    Some(Process {
        pid,
        parent,
        command,
        is_zombie: matches!(state, "Z" | "X"),
    })
}

fn all_processes() -> BTreeMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, process(pid)?)))
        .collect()
}

/// Whether the process got `entry` ("NAME=value") in its environment; `false` when it is not ours
/// to read.
fn has_variable(pid: u32, entry: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
        environ
            .split(|byte| *byte == 0)
            .any(|one| one == entry.as_bytes())
    })
}
