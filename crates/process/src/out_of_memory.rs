//! Telling an out-of-memory kill from any other SIGKILL.

use std::path::{Path, PathBuf};

use crate::control_group::{Hierarchy, mounts};
use crate::kernel_file::text_of;

/// The `oom_kill` counter of a control group, and its value when the child was started.
///
/// The kernel raises the counter before it sends SIGKILL, so a child that is seen dead has been
/// counted. The counter is the group's, not the process's: see
/// [`ExitCause::OutOfMemory`](super::ExitCause::OutOfMemory) for what is concluded from it.
#[derive(Debug)]
pub(super) struct OomCounter {
    events: PathBuf,
    before: u64,
}

impl OomCounter {
    /// Reads the counter of this process's control group, which the child inherits.
    ///
    /// `None` without a memory controller, of version 2 or 1.
    pub(super) fn start() -> Option<Self> {
        let groups = text_of(Path::new("/proc/self/cgroup")).ok()?;
        mounts().iter().find_map(|mount| {
            let group = mount.directory(&groups)?;
            Self::at(group.join(counter_file(mount.hierarchy)))
        })
    }

    fn at(events: PathBuf) -> Option<Self> {
        let before = oom_kills(&text_of(&events).ok()?)?;
        Some(Self { events, before })
    }

    /// Returns whether the kernel has killed a process of the group, out of memory, since the start.
    pub(super) fn has_risen(&self) -> bool {
        text_of(&self.events)
            .ok()
            .and_then(|text| oom_kills(&text))
            .is_some_and(|after| after > self.before)
    }
}

/// The file of a group that has a line `oom_kill N`.
fn counter_file(hierarchy: Hierarchy) -> &'static str {
    match hierarchy {
        Hierarchy::Unified => "memory.events",
        // Since Linux 4.13.
        Hierarchy::Memory => "memory.oom_control",
    }
}

fn oom_kills(events: &str) -> Option<u64> {
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_rise_of_the_oom_kill_counter_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        let write = |oom: u64, kills: u64| {
            fs::write(
                &file,
                format!("low 0\nhigh 0\nmax 4\noom {oom}\noom_kill {kills}\noom_group_kill 0\n"),
            )
            .unwrap();
        };
        write(1, 7);
        let counter = OomCounter::at(file.clone()).unwrap();
        assert!(!counter.has_risen());
        write(2, 7);
        assert!(!counter.has_risen());
        write(2, 8);
        assert!(counter.has_risen());
        fs::remove_file(&file).unwrap();
        assert!(!counter.has_risen());
    }

    #[test]
    fn each_hierarchy_has_its_file() {
        assert_eq!(counter_file(Hierarchy::Unified), "memory.events");
        assert_eq!(counter_file(Hierarchy::Memory), "memory.oom_control");
    }

    #[test]
    fn without_the_counter_nothing_is_claimed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(OomCounter::at(dir.path().join("memory.events")).is_none());
        let empty = dir.path().join("empty");
        fs::write(&empty, "").unwrap();
        assert!(OomCounter::at(empty).is_none());
    }

    #[test]
    fn the_counter_of_version_1_is_told_from_the_switch_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.oom_control");
        let write = |kills: u64| {
            let text = format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n");
            fs::write(&file, text).unwrap();
        };
        write(3);
        let counter = OomCounter::at(file.clone()).unwrap();
        assert!(!counter.has_risen());
        write(4);
        assert!(counter.has_risen());
    }
}
