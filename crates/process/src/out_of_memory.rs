//! Telling an out-of-memory kill from any other SIGKILL.

use std::fs;
use std::path::PathBuf;

use crate::control_group::{Hierarchy, Mount, mounts};

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
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let counters = mounts()
            .iter()
            .filter_map(|mount| counter_of(mount, &groups));
        counters.map(Self::at).find_map(|counter| counter)
    }

    fn at(events: PathBuf) -> Option<Self> {
        let before = oom_kills(&fs::read_to_string(&events).ok()?)?;
        Some(Self { events, before })
    }

    /// Returns whether the kernel has killed a process of the group, out of memory, since the start.
    pub(super) fn has_risen(&self) -> bool {
        fs::read_to_string(&self.events)
            .ok()
            .and_then(|text| oom_kills(&text))
            .is_some_and(|after| after > self.before)
    }
}

/// The file of a group that has a line `oom_kill N`.
fn counter_of(mount: &Mount, groups: &str) -> Option<PathBuf> {
    let file = match mount.hierarchy {
        Hierarchy::Unified => "memory.events",
        // Since Linux 4.13.
        Hierarchy::Memory => "memory.oom_control",
    };
    Some(mount.group(groups)?.join(file))
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
    use std::path::Path;

    use super::*;
    use crate::control_group::find_mounts;

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

    const PROC: &str = "24 1 0:22 / /proc rw - proc proc rw\n";

    fn counter(table: &str, groups: &str) -> Option<PathBuf> {
        let mounts = find_mounts(&format!("{PROC}{table}"));
        mounts.iter().find_map(|mount| counter_of(mount, groups))
    }

    #[test]
    fn the_counter_is_found_below_the_mount_in_hosts_and_containers() {
        let host =
            "30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            counter(host, "0::/system.slice/envoy.service\n").unwrap(),
            Path::new("/sys/fs/cgroup/system.slice/envoy.service/memory.events")
        );
        let bound = "30 23 0:26 /pod/c1 /sys/fs/cgroup ro - cgroup2 none rw\n";
        assert_eq!(
            counter(bound, "0::/pod/c1\n").unwrap(),
            Path::new("/sys/fs/cgroup/memory.events")
        );
        assert!(counter(bound, "0::/elsewhere\n").is_none());
        assert!(counter("", "0::/pod/c1\n").is_none());
    }

    #[test]
    fn the_counter_of_version_1_is_that_of_the_memory_controller() {
        let cpu = "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let memory = "32 23 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        let both = format!("{cpu}{memory}");
        let groups = "5:cpu,cpuacct:/other\n4:memory:/a:b\n0::/\n";
        assert_eq!(
            counter(&both, groups).unwrap(),
            Path::new("/sys/fs/cgroup/memory/a:b/memory.oom_control")
        );
        assert!(counter(cpu, groups).is_none());
        assert!(counter(memory, "0::/\n").is_none());
    }
}
