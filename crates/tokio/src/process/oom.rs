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
    /// `None` without a version 2 memory controller.
    pub(super) fn start() -> Option<Self> {
        let mount = cgroup2_mount()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::at(
            mount
                .path_of(unified_group(&groups)?)?
                .join("memory.events"),
        )
    }

    fn at(events: PathBuf) -> Option<Self> {
        let before = oom_kills(&fs::read_to_string(&events).ok()?)?;
        Some(Self { events, before })
    }

    /// Whether the kernel killed some process of the group for want of memory since the start.
    pub(super) fn has_risen(&self) -> bool {
        fs::read_to_string(&self.events)
            .ok()
            .and_then(|text| oom_kills(&text))
            .is_some_and(|after| after > self.before)
    }
}

/// Where the version 2 hierarchy is mounted, and which of its groups is the mount's root.
struct Mount {
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    fn path_of(&self, group: &str) -> Option<PathBuf> {
        let below = Path::new(group).strip_prefix(&self.root).ok()?;
        Some(self.point.join(below))
    }
}

/// The mount table is read once: the hierarchy does not move under a running program.
fn cgroup2_mount() -> Option<&'static Mount> {
    static MOUNT: OnceLock<Option<Mount>> = OnceLock::new();
    MOUNT
        .get_or_init(|| find_mount(&fs::read_to_string("/proc/self/mountinfo").ok()?))
        .as_ref()
}

/// Finds the `cgroup2` line of a `mountinfo` table; its layout is in proc(5).
fn find_mount(mountinfo: &str) -> Option<Mount> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        Some(Mount {
            root: fields.next()?.into(),
            point: fields.next()?.into(),
        })
    })
}

/// The version 2 entry of `/proc/PID/cgroup`: hierarchy number 0 and no controller.
fn unified_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
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
    fn the_group_is_found_below_the_mount_in_hosts_and_containers() {
        let table = "24 1 0:22 / /proc rw - proc proc rw\n\
            30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let mount = find_mount(table).unwrap();
        let group = unified_group("4:memory:/old\n0::/system.slice/envoy.service\n").unwrap();
        assert_eq!(
            mount.path_of(group).unwrap(),
            Path::new("/sys/fs/cgroup/system.slice/envoy.service")
        );
        let bound = find_mount("30 23 0:26 /pod/c1 /sys/fs/cgroup ro - cgroup2 none rw\n").unwrap();
        assert_eq!(
            bound.path_of("/pod/c1").unwrap(),
            Path::new("/sys/fs/cgroup/")
        );
        assert!(bound.path_of("/elsewhere").is_none());
        assert!(find_mount("24 1 0:22 / /proc rw - proc proc rw\n").is_none());
        assert!(unified_group("4:memory:/old\n").is_none());
    }
}
