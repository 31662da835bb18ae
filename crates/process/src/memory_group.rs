//! How much memory the control group of this process may use.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::control_group::{Hierarchy, Mount, find_mounts};

/// The most that is read of a file. Those of the kernel are far shorter.
const MOST: u64 = 64 << 10;

/// Version 1 writes the highest number of bytes that a process could have for "no limit".
const NO_LIMIT: u64 = 1 << 62;

/// The memory of the control group of this process, in version 1 or 2. Children are in it as well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryGroup {
    /// The directory of the group.
    pub directory: PathBuf,
    /// The limit that is reached first: that of the group, or of one around it. `None` means that
    /// none of those that can be seen has a limit.
    pub limit: Option<MemoryLimit>,
    /// How long processes of the group have waited for memory. Only version 2 tells it, if the
    /// kernel counts it.
    pub pressure: Option<MemoryPressure>,
}

/// A limit of memory, and what is used of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryLimit {
    /// The directory of the group that has the limit.
    pub directory: PathBuf,
    /// The limit, in bytes.
    pub limit: u64,
    /// What is used, in bytes, without the file cache that the kernel can drop at once.
    pub used: u64,
}

/// The share of the last minute in which processes waited for memory, in hundredths of a per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryPressure {
    /// At least one process waited.
    pub some: u32,
    /// All of them waited.
    pub full: u32,
}

impl MemoryGroup {
    /// Returns the group of this process, or `None` if no memory controller can be seen.
    ///
    /// It reads some small files of the kernel.
    ///
    /// # Errors
    ///
    /// What the operating system says if the groups or mounts of this process cannot be read.
    pub fn own() -> io::Result<Option<Self>> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::of(&groups, &table))
    }

    /// The same from the text of the two files.
    fn of(groups: &str, mountinfo: &str) -> Option<Self> {
        let mut mounts = find_mounts(mountinfo);
        // Where both are mounted, version 1 has the controller.
        mounts.sort_by_key(|mount| mount.hierarchy == Hierarchy::Unified);
        mounts.iter().find_map(|mount| Self::at(mount, groups))
    }

    fn at(mount: &Mount, groups: &str) -> Option<Self> {
        let directory = mount.group(groups)?;
        let files = Files::of(mount.hierarchy);
        let around = directory.ancestors();
        let all = around.take_while(|group| group.starts_with(&mount.point));
        // A group of version 2 need not have the controller, and is held by the limits around it.
        if !directory.is_dir() {
            return None;
        }
        let limits = all.filter_map(|group| files.limit(group));
        let pressure = read(&directory.join("memory.pressure"))
            .ok()
            .and_then(|text| MemoryPressure::parse(&text));
        Some(Self {
            limit: limits.min_by_key(MemoryLimit::left),
            pressure,
            directory,
        })
    }
}

impl MemoryLimit {
    /// Returns how many bytes are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

impl MemoryPressure {
    /// Reads the lines of a `memory.pressure` file or of `/proc/pressure/memory`. `None` means that the
    /// text has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let of_line = |kind: &str| {
            let mut lines = text.lines();
            let line = lines.find_map(|line| line.strip_prefix(kind))?;
            let mut fields = line.split_ascii_whitespace();
            let share = fields.find_map(|field| field.strip_prefix("avg60="))?;
            let (whole, rest) = share.split_once('.')?;
            let (whole, rest): (u32, u32) = (whole.parse().ok()?, rest.parse().ok()?);
            (whole <= 100 && rest < 100).then_some(whole * 100 + rest)
        };
        Some(Self {
            some: of_line("some ")?,
            full: of_line("full ")?,
        })
    }
}

/// How the files of a version are called.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// The line of `memory.stat` with the file cache that can be dropped.
    cache: &'static str,
}

impl Files {
    fn of(hierarchy: Hierarchy) -> Self {
        match hierarchy {
            Hierarchy::Unified => Self {
                limit: "memory.max",
                used: "memory.current",
                cache: "inactive_file ",
            },
            Hierarchy::Memory => Self {
                limit: "memory.limit_in_bytes",
                used: "memory.usage_in_bytes",
                cache: "total_inactive_file ",
            },
        }
    }

    /// The limit of a group, if it has one and its use is known.
    fn limit(&self, group: &Path) -> Option<MemoryLimit> {
        // Version 2 writes `max` for none.
        let limit = number(&group.join(self.limit)).filter(|limit| *limit < NO_LIMIT)?;
        let used = number(&group.join(self.used))?;
        let stat = read(&group.join("memory.stat")).unwrap_or_default();
        let cache = stat
            .lines()
            .find_map(|line| line.strip_prefix(self.cache)?.trim().parse().ok());
        Some(MemoryLimit {
            directory: group.to_owned(),
            limit,
            used: used.saturating_sub(cache.unwrap_or(0)),
        })
    }
}

fn number(file: &Path) -> Option<u64> {
    read(file).ok()?.trim().parse().ok()
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of control groups, as a mount table shows it.
    struct Groups(tempfile::TempDir);

    impl Groups {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, group: &str, files: &[(&str, &str)]) {
            let directory = self.0.path().join(group);
            fs::create_dir_all(&directory).unwrap();
            for (name, text) in files {
                fs::write(directory.join(name), text).unwrap();
            }
        }

        fn table(&self, kind: &str) -> String {
            format!("30 23 0:26 / {} rw - {kind}\n", self.0.path().display())
        }

        fn unified(&self, group: &str) -> Option<MemoryGroup> {
            MemoryGroup::of(&format!("0::/{group}\n"), &self.table("cgroup2 none rw"))
        }
    }

    fn left(group: Option<MemoryGroup>) -> (u64, u64) {
        let limit = group.unwrap().limit.unwrap();
        (limit.limit, limit.left())
    }

    #[test]
    fn the_limit_that_is_reached_first_counts_although_a_group_around_has_it() {
        let groups = Groups::new();
        let own = [("memory.max", "900\n"), ("memory.current", "100\n")];
        groups.write("pod/c1", &own);
        let around = [("memory.max", "1000\n"), ("memory.current", "800\n")];
        groups.write("pod", &around);
        assert_eq!(left(groups.unified("pod/c1")), (1000, 200));
        groups.write("pod/c1", &[("memory.max", "max\n")]);
        assert_eq!(left(groups.unified("pod/c1")), (1000, 200));
        groups.write("pod/without-controller", &[]);
        assert_eq!(left(groups.unified("pod/without-controller")), (1000, 200));
        groups.write("pod", &[("memory.max", "max\n")]);
        let without = groups.unified("pod/c1").unwrap();
        assert_eq!((without.limit, without.pressure), (None, None));
    }

    #[test]
    fn what_the_kernel_can_drop_at_once_is_not_used() {
        let groups = Groups::new();
        let files = [
            ("memory.max", "1000\n"),
            ("memory.current", "800\n"),
            (
                "memory.stat",
                "anon 5\ninactive_file 300\nactive_file 100\n",
            ),
            (
                "memory.pressure",
                "some avg10=1.00 avg60=12.34 avg300=0.10 total=9\nfull avg10=0.00 avg60=0.05 avg300=0.00 total=1\n",
            ),
        ];
        groups.write("a", &files);
        let group = groups.unified("a").unwrap();
        assert_eq!(
            group.pressure,
            Some(MemoryPressure {
                some: 1234,
                full: 5
            })
        );
        assert_eq!(left(Some(group)), (1000, 500));
    }

    #[test]
    fn version_1_has_other_names_and_a_number_for_no_limit() {
        let groups = Groups::new();
        let files = [
            ("memory.limit_in_bytes", "1000\n"),
            ("memory.usage_in_bytes", "700\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 200\n"),
        ];
        groups.write("a", &files);
        let table = groups.table("cgroup none rw,memory");
        let group = || MemoryGroup::of("4:memory:/a\n0::/\n", &table);
        assert_eq!(left(group()), (1000, 500));
        groups.write("a", &[("memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(group().unwrap().limit, None);
    }

    #[test]
    fn without_a_controller_nothing_is_claimed_and_odd_files_do_no_harm() {
        let groups = Groups::new();
        assert!(groups.unified("absent").is_none());
        assert!(groups.unified("").unwrap().limit.is_none());
        assert!(MemoryGroup::of("", "").is_none());
        let odd = [("memory.max", "-1"), ("memory.current", "7")];
        groups.write("odd", &odd);
        assert!(groups.unified("odd").unwrap().limit.is_none());
        for text in [
            "",
            "some avg60=1",
            "some avg60=101.00\nfull avg60=0.00",
            "full avg60=0.00",
        ] {
            assert_eq!(MemoryPressure::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_group_of_this_process_can_be_asked_for() {
        // Whether there is one depends on the host.
        let _group = MemoryGroup::own().unwrap();
    }
}
