//! Where the control groups of this process are that have the memory controller.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::kernel_file;

/// Where a hierarchy is mounted that may have the memory controller, and which of its groups is the
/// mount's root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) hierarchy: Hierarchy,
    root: PathBuf,
    pub(crate) point: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hierarchy {
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
}

impl Mount {
    /// The directory of the group of the process with these groups, if this hierarchy shows it.
    pub(crate) fn directory(&self, groups: &str) -> Option<PathBuf> {
        let group = Path::new(self.hierarchy.group(groups)?);
        let below = group.strip_prefix(&self.root).ok()?;
        Some(self.point.join(below))
    }
}

/// The mount table is read once: a hierarchy does not move under a running program.
pub(crate) fn mounts() -> &'static [Mount] {
    static MOUNTS: OnceLock<Vec<Mount>> = OnceLock::new();
    MOUNTS.get_or_init(|| {
        let table = kernel_file::text_of(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        find_mounts(&table)
    })
}

/// Finds the hierarchies in a `mountinfo` table; its layout is in proc(5).
pub(crate) fn find_mounts(mountinfo: &str) -> Vec<Mount> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const PROC: &str = "24 1 0:22 / /proc rw - proc proc rw\n";

    fn directory(table: &str, groups: &str) -> Option<PathBuf> {
        let mounts = find_mounts(&format!("{PROC}{table}"));
        mounts.iter().find_map(|mount| mount.directory(groups))
    }

    #[test]
    fn the_group_is_found_below_the_mount_in_hosts_and_containers() {
        let host =
            "30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            directory(host, "0::/system.slice/envoy.service\n").unwrap(),
            Path::new("/sys/fs/cgroup/system.slice/envoy.service")
        );
        let bound = "30 23 0:26 /pod/c1 /sys/fs/cgroup ro - cgroup2 none rw\n";
        assert_eq!(
            directory(bound, "0::/pod/c1\n").unwrap(),
            Path::new("/sys/fs/cgroup")
        );
        assert!(directory(bound, "0::/elsewhere\n").is_none());
        assert!(directory("", "0::/pod/c1\n").is_none());
    }

    #[test]
    fn the_group_of_version_2_has_number_0_and_no_controller() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n";
        let groups = "9::/other\n0:memory:/another\n0::/own\n";
        assert_eq!(
            directory(unified, groups).unwrap(),
            Path::new("/sys/fs/cgroup/own")
        );
    }

    #[test]
    fn the_mounts_are_those_of_the_table_of_this_process() {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mounts(), find_mounts(&table));
    }

    #[test]
    fn the_group_of_version_1_is_that_of_the_memory_controller() {
        let cpu = "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let memory = "32 23 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        let both = format!("{cpu}{memory}");
        let groups = "5:cpu,cpuacct:/other\n4:memory:/a:b\n0::/\n";
        assert_eq!(
            directory(&both, groups).unwrap(),
            Path::new("/sys/fs/cgroup/memory/a:b")
        );
        assert!(directory(cpu, groups).is_none());
        assert!(directory(memory, "0::/\n").is_none());
    }
}
