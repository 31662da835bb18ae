//! Telling an out-of-memory kill from any other SIGKILL.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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
        let counters = mounts().iter().filter_map(|mount| mount.counter(&groups));
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

/// Where a hierarchy is mounted that may have the memory controller, and which of its groups is the
/// mount's root.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    hierarchy: Hierarchy,
    root: PathBuf,
    point: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hierarchy {
    /// Version 2, for all controllers.
    Unified,
    /// Version 1, for the memory controller.
    Memory,
}

impl Hierarchy {
    /// What a line of a `mountinfo` table tells after its dash: the kind, the source and the options.
    fn of(kind: &str) -> Option<Self> {
        let mut fields = kind.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        let is_memory = || options.split(',').any(|option| option == "memory");
        match kind {
            "cgroup2" => Some(Self::Unified),
            "cgroup" if is_memory() => Some(Self::Memory),
            _ => None,
        }
    }

    /// The group of a process in this hierarchy, from its `/proc/PID/cgroup`: each line has a number,
    /// the controllers and the group, and that of version 2 has number 0 and no controller.
    fn group(self, groups: &str) -> Option<&str> {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
            let is_meant = match self {
                Self::Unified => number == "0" && controllers.is_empty(),
                Self::Memory => controllers.split(',').any(|name| name == "memory"),
            };
            is_meant.then_some(group)
        })
    }

    /// The file of a group that has a line `oom_kill N`.
    fn file(self) -> &'static str {
        match self {
            Self::Unified => "memory.events",
            // Since Linux 4.13.
            Self::Memory => "memory.oom_control",
        }
    }
}

impl Mount {
    /// Where the counter of the process with these groups is, if this hierarchy has it.
    fn counter(&self, groups: &str) -> Option<PathBuf> {
        let group = Path::new(self.hierarchy.group(groups)?);
        let below = group.strip_prefix(&self.root).ok()?;
        Some(self.point.join(below).join(self.hierarchy.file()))
    }
}

/// The mount table is read once: a hierarchy does not move under a running program.
fn mounts() -> &'static [Mount] {
    static MOUNTS: OnceLock<Vec<Mount>> = OnceLock::new();
    MOUNTS.get_or_init(|| {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        find_mounts(&table)
    })
}

/// Finds the hierarchies in a `mountinfo` table; its layout is in proc(5).
fn find_mounts(mountinfo: &str) -> Vec<Mount> {
    let of_line = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        Some(Mount {
            hierarchy: Hierarchy::of(kind)?,
            root: fields.next()?.into(),
            point: fields.next()?.into(),
        })
    };
    mountinfo.lines().filter_map(of_line).collect()
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
        mounts.iter().find_map(|mount| mount.counter(groups))
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
