//! Reading what bounds the memory of this process.

use std::path::{Path, PathBuf};

use super::{Bound, Place};
use crate::control_group::{Hierarchy, Mount, mounts};
use crate::kernel_file::text_of;

/// Returns what bounds the memory of this process and of those it starts: the host, its control group, and
/// the groups above that it can see.
///
/// What cannot be read is left out, so an empty result says that nothing is known.
#[must_use]
pub fn bounds() -> Vec<Bound> {
    let mut bounds: Vec<_> = host(Path::new("/proc")).into_iter().collect();
    let free_swap = bounds.first().map_or(0, |host| host.swap);
    if let Ok(groups) = text_of(Path::new("/proc/self/cgroup")) {
        for mount in mounts() {
            bounds.extend(groups_of(mount, &groups, free_swap));
        }
    }
    bounds
}

/// The bound of the host, from its `proc` file system.
fn host(proc: &Path) -> Option<Bound> {
    let text = text_of(&proc.join("meminfo")).ok()?;
    // `MemTotal:       16331752 kB`
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let number = line.strip_prefix(':')?.trim().strip_suffix(" kB")?;
        number.parse::<u64>().ok()?.checked_mul(1024)
    };
    let (limit, free) = (bytes("MemTotal")?, bytes("MemFree")?);
    Some(Bound {
        place: Place::Host,
        limit,
        used: limit.saturating_sub(free),
        freeable: bytes("MemAvailable")?.saturating_sub(free),
        swap: bytes("SwapFree").unwrap_or(0),
        stalled: stalled(&proc.join("pressure/memory")),
    })
}

/// The bounds of a group and of those above it, the innermost first.
fn groups_of<'a>(
    mount: &'a Mount,
    groups: &str,
    free_swap: u64,
) -> impl Iterator<Item = Bound> + use<'a> {
    let innermost = mount.directory(groups);
    let mut next = innermost.filter(|directory| directory.starts_with(&mount.point));
    let directories = std::iter::from_fn(move || {
        let directory = next.take()?;
        let above = directory.parent().map(Path::to_owned);
        next = above.filter(|above| above.starts_with(&mount.point));
        Some(directory)
    });
    directories.filter_map(move |directory| group(mount.hierarchy, directory, free_swap))
}

/// The bound of one group, unless it has none or does not show it. Of a group without a limit nothing else is
/// read: most have none, and a start waits for the result.
fn group(hierarchy: Hierarchy, directory: PathBuf, free_swap: u64) -> Option<Bound> {
    let number = |name: &str| {
        let text = text_of(&directory.join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    // Version 1 says that there is none by the largest number that is a multiple of a page.
    let is_limit = |limit: &u64| *limit < NO_LIMIT;
    let (limit, used, swap, prefix) = match hierarchy {
        Hierarchy::Unified => {
            // Above `memory.high` the kernel stops whoever asks for more, again and again.
            let limits = [number("memory.max"), number("memory.high")];
            let limit = limits.into_iter().flatten().min().filter(is_limit)?;
            let used = number("memory.current")?;
            let swap = match (number("memory.swap.max"), number("memory.swap.current")) {
                (Some(limit), Some(used)) => limit.saturating_sub(used),
                // It says `max`, or the kernel does not count what is swapped out.
                _ => free_swap,
            };
            (limit, used, swap, "")
        }
        Hierarchy::Memory => {
            let limit = number("memory.limit_in_bytes").filter(is_limit)?;
            let used = number("memory.usage_in_bytes")?;
            // These are of memory and swap together.
            let both = number("memory.memsw.limit_in_bytes");
            let swap = match (both, number("memory.memsw.usage_in_bytes")) {
                (Some(both), Some(used_of_both)) => {
                    let most = both.saturating_sub(limit);
                    most.saturating_sub(used_of_both.saturating_sub(used))
                }
                _ => free_swap,
            };
            (limit, used, swap, "total_")
        }
    };
    let statistics = text_of(&directory.join("memory.stat")).unwrap_or_default();
    let of_files = ["inactive_file", "active_file", "slab_reclaimable"];
    let freeable = statistics.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix(prefix)?.split_once(' ')?;
        let counts = of_files.contains(&name);
        counts.then(|| value.trim().parse::<u64>().ok())?
    });
    let freeable = freeable.fold(0_u64, u64::saturating_add);
    let stalled = stalled(&directory.join("memory.pressure"));
    Some(Bound {
        place: Place::Group(directory),
        limit,
        used,
        freeable,
        swap: swap.min(free_swap),
        stalled,
    })
}

/// More than any host has: an exbibyte.
const NO_LIMIT: u64 = 1 << 60;

/// `full avg10=12.34 avg60=..` gives 12. Where the kernel does not keep account, the file is missing
/// or cannot be read.
fn stalled(file: &Path) -> Option<u8> {
    let text = text_of(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let share = line
        .split(' ')
        .find_map(|word| word.strip_prefix("avg10="))?;
    share.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::control_group::find_mounts;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    fn bounds_in(root: &Path, kind: &str, groups: &str, free_swap: u64) -> Vec<Bound> {
        let table = format!("30 23 0:26 / {} rw - {kind}\n", root.display());
        let mounts = find_mounts(&table);
        let all = mounts.iter();
        all.flat_map(|mount| groups_of(mount, groups, free_swap))
            .collect()
    }

    const STAT: &str = "anon 50\nfile 90\ninactive_file 30\nactive_file 7\nslab_reclaimable 5\n";

    #[test]
    fn the_groups_above_bound_a_process_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let pod = dir.path().join("pod");
        write(
            &pod,
            &[
                ("memory.max", "1000\n"),
                ("memory.high", "max\n"),
                ("memory.current", "400\n"),
                ("memory.stat", STAT),
                ("memory.swap.max", "200\n"),
                ("memory.swap.current", "150\n"),
                (
                    "memory.pressure",
                    "some avg10=9.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=61.25 avg60=0.00 avg300=0.00 total=1\n",
                ),
            ],
        );
        let inner = pod.join("c1");
        write(
            &inner,
            &[
                ("memory.max", "max\n"),
                ("memory.high", "300\n"),
                ("memory.current", "100\n"),
                ("memory.swap.max", "max\n"),
                ("memory.swap.current", "0\n"),
            ],
        );
        let bounds = bounds_in(dir.path(), "cgroup2 cgroup2 rw", "0::/pod/c1\n", 120);
        let expected = [
            Bound {
                place: Place::Group(inner),
                limit: 300,
                used: 100,
                freeable: 0,
                swap: 120,
                stalled: None,
            },
            Bound {
                place: Place::Group(pod),
                limit: 1000,
                used: 400,
                freeable: 42,
                swap: 50,
                stalled: Some(61),
            },
        ];
        assert_eq!(bounds, expected);
    }

    #[test]
    fn version_1_counts_those_below_and_swap_together_with_memory() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("a");
        write(
            &group,
            &[
                ("memory.limit_in_bytes", "1000\n"),
                ("memory.usage_in_bytes", "400\n"),
                ("memory.memsw.limit_in_bytes", "1300\n"),
                ("memory.memsw.usage_in_bytes", "500\n"),
                (
                    "memory.stat",
                    "inactive_file 1\ntotal_inactive_file 30\ntotal_active_file 7\n",
                ),
            ],
        );
        write(
            dir.path(),
            &[
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.usage_in_bytes", "4000\n"),
            ],
        );
        let bounds = bounds_in(
            dir.path(),
            "cgroup cgroup rw,memory",
            "4:memory:/a\n",
            1 << 40,
        );
        let expected = [Bound {
            place: Place::Group(group),
            limit: 1000,
            used: 400,
            freeable: 37,
            swap: 200,
            stalled: None,
        }];
        assert_eq!(bounds, expected);
    }

    #[test]
    fn what_is_not_there_or_not_as_expected_bounds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = |groups| bounds_in(dir.path(), "cgroup2 cgroup2 rw", groups, 0);
        assert_eq!(bounds("0::/away\n"), []);
        write(&dir.path().join("odd"), &[("memory.max", "much\n")]);
        assert_eq!(bounds("0::/odd\n"), []);
        assert_eq!(bounds("0::/../../outside\n"), []);
        assert_eq!(host(dir.path()), None);
        write(dir.path(), &[("meminfo", "MemTotal: lots\n")]);
        assert_eq!(host(dir.path()), None);
    }

    #[test]
    fn the_host_tells_what_is_available() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  600 kB\nSwapFree:  50 kB\n";
        write(dir.path(), &[("meminfo", text)]);
        let host = host(dir.path()).unwrap();
        assert_eq!(host.available(), 650 * 1024);
        assert_eq!((host.place, host.stalled), (Place::Host, None));
    }

    #[test]
    fn this_process_is_bounded_by_its_host() {
        let bounds = bounds();
        let host = bounds.first().unwrap();
        assert_eq!(host.place, Place::Host);
        assert!(host.limit > 1 << 26 && host.available() > 0, "{host:?}");
    }
}
