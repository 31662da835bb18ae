//! Where the control groups of this process are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where a hierarchy is mounted that may have the memory controller, and which of its groups is the
/// mount's root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) hierarchy: Hierarchy,
    root: PathBuf,
    pub(super) point: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hierarchy {
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
    /// Returns the directory of the group of the process with these groups, if this hierarchy has it.
    pub(super) fn group(&self, groups: &str) -> Option<PathBuf> {
        let group = Path::new(self.hierarchy.group(groups)?);
        let below = group.strip_prefix(&self.root).ok()?;
        Some(self.point.join(below))
    }
}

/// The mount table is read once: a hierarchy does not move under a running program.
pub(super) fn mounts() -> &'static [Mount] {
    static MOUNTS: OnceLock<Vec<Mount>> = OnceLock::new();
    MOUNTS.get_or_init(|| {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        find_mounts(&table)
    })
}

/// Finds the hierarchies in a `mountinfo` table; its layout is in proc(5).
pub(super) fn find_mounts(mountinfo: &str) -> Vec<Mount> {
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
