//! The kernel, its limits, and shared memory.

use super::facts::{Facts, HostFacts, SharedMemoryFacts};
use super::{Check, Severity, Verdict};

/// The oldest kernel that has what is needed to await children.
const OLDEST_KERNEL: (u32, u32) = (5, 4);
/// How many inotify instances are needed: ours, and one for each Envoy of a hand-over.
pub(super) const INSTANCES: usize = 3;
/// The least memory that a page takes on every architecture.
const PAGE: u64 = 64 << 10;
/// Below this, a few other programs fill the directory.
const LITTLE_SHARED_MEMORY: u64 = 1 << 20;
/// Below this, a busy Envoy runs out of descriptors: it needs two for each proxied connection.
const FEW_FILES: u64 = 4096;

/// The mode bits that matter here.
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o002;

pub(super) const KERNEL_VERSION: Check = Check {
    name: "kernel-version",
    about: "Linux 5.4 or newer, for children that are awaited by pidfd",
    worst: Severity::Error,
    logged: true,
    judge: |facts| on_host(facts, kernel_version),
};

pub(super) const DEV_SHM_ACCESS: Check = Check {
    name: "dev-shm-access",
    about: "owner and mode of `/dev/shm`, where Envoy's hot restart keeps its state",
    worst: Severity::Error,
    logged: true,
    judge: |facts| on_shared_memory(facts, dev_shm_access),
};

pub(super) const DEV_SHM_SIZE: Check = Check {
    name: "dev-shm-size",
    about: "free space in `/dev/shm`",
    worst: Severity::Error,
    logged: true,
    judge: |facts| on_shared_memory(facts, dev_shm_size),
};

pub(super) const INOTIFY_INSTANCES: Check = Check {
    name: "inotify-instances",
    about: "whether inotify instances can be opened: one for Handover, one for each of two Envoys",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_host(facts, inotify_instances),
};

pub(super) const INOTIFY_WATCHES: Check = Check {
    name: "inotify-watches",
    about: "the limit of inotify watches, and how many the watched paths need",
    worst: Severity::Warning,
    logged: true,
    judge: inotify_watches,
};

pub(super) const OPEN_FILES: Check = Check {
    name: "open-files",
    about: "the hard limit of open files, which Envoy raises its own limit to",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_host(facts, open_files),
};

fn on_host(facts: &Facts, judge: fn(&HostFacts) -> Verdict) -> Verdict {
    match &facts.host {
        Ok(host) => judge(host),
        Err(why) => Verdict::unknown(
            why,
            "look at `uname -r`, `ulimit -Hn` and `sysctl fs.inotify`",
        ),
    }
}

fn on_shared_memory(facts: &Facts, judge: fn(&SharedMemoryFacts) -> Verdict) -> Verdict {
    match &facts.shared_memory {
        Ok(memory) => judge(memory),
        Err(why) => Verdict::error(
            "unusable",
            format!(
                "Envoy keeps the state of hot restarts in /dev/shm, which cannot be used: {why}"
            ),
            "mount a tmpfs on /dev/shm with mode 1777",
        ),
    }
}

fn kernel_version(host: &HostFacts) -> Verdict {
    let kernel = &host.kernel;
    let needed = "children are awaited by pidfd, which Linux has since 5.4";
    if host.awaits_by_pidfd || version(kernel).is_some_and(|version| version >= OLDEST_KERNEL) {
        return Verdict::good(kernel, needed);
    }
    Verdict::error(
        kernel,
        format!("no child can be started: {needed}"),
        "use a newer kernel",
    )
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn dev_shm_access(memory: &SharedMemoryFacts) -> Verdict {
    let SharedMemoryFacts { owner, mode, .. } = memory;
    let value = format!("owner {owner}, mode {mode:o}");
    if !memory.is_writable {
        return Verdict::error(
            value,
            format!(
                "user {} cannot create Envoy's shared memory in /dev/shm",
                memory.user
            ),
            "mount a tmpfs on /dev/shm with mode 1777, or run as its owner",
        );
    }
    let is_foreign = *owner != 0 && *owner != memory.user;
    if is_foreign || (mode & OTHERS_WRITE != 0 && mode & STICKY == 0) {
        return Verdict::warning(
            value,
            "other users can remove Envoy's shared memory, after which no hot restart is possible",
            "let root own /dev/shm, with mode 1777",
        );
    }
    Verdict::good(value, "Envoy keeps the state of hot restarts there")
}

fn dev_shm_size(memory: &SharedMemoryFacts) -> Verdict {
    let SharedMemoryFacts {
        available, size, ..
    } = *memory;
    let value = format!("{} free of {}", bytes(available), bytes(size));
    let remedy = "remove files from /dev/shm, or mount it with a larger size";
    if available < PAGE {
        let reason = "Envoy cannot start without room for its shared memory";
        return Verdict::error(value, reason, remedy);
    }
    if available < LITTLE_SHARED_MEMORY {
        let reason = "other programs may fill /dev/shm, and then no Envoy starts";
        return Verdict::warning(value, reason, remedy);
    }
    Verdict::good(value, "an Envoy needs one page")
}

fn inotify_instances(host: &HostFacts) -> Verdict {
    let (opened, error) = &host.inotify_opened;
    let limit = match &host.inotify_instances {
        Ok(limit) => format!("limit {limit} for each user"),
        Err(_) => "limit unknown".to_owned(),
    };
    let value = format!("{opened} of {INSTANCES} opened, {limit}");
    match error {
        None => Verdict::good(
            value,
            "Handover needs one, and so does each Envoy that watches files",
        ),
        Some(error) => Verdict::warning(
            value,
            format!(
                "Handover would miss changes for up to 10 s, and an Envoy that watches files \
                 may abort: {error}"
            ),
            "raise fs.inotify.max_user_instances on the host, or the limit of open files if that is \
             reached",
        ),
    }
}

fn inotify_watches(facts: &Facts) -> Verdict {
    let how = "look at `sysctl fs.inotify.max_user_watches`";
    let host = match &facts.host {
        Ok(host) => host,
        Err(why) => return Verdict::unknown(why, how),
    };
    let limit = match &host.inotify_watches {
        Ok(limit) => *limit,
        Err(why) => return Verdict::unknown(why, how),
    };
    let needed = match &facts.watched {
        Ok(watched) => u64::try_from(watched.watches).unwrap_or(u64::MAX),
        Err(why) => return Verdict::unknown(why, "make the watched paths reachable"),
    };
    let value = format!("{needed} needed, limit {limit} for each user");
    if needed > limit {
        return Verdict::warning(
            value,
            "the system would not report every change, so the files are checked every 10 s",
            "raise fs.inotify.max_user_watches on the host, or watch fewer paths",
        );
    }
    Verdict::good(value, "other programs of the same user share the limit")
}

fn open_files(host: &HostFacts) -> Verdict {
    let shown =
        |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let (soft, hard) = (shown(host.open_files_soft), shown(host.open_files_hard));
    let value = format!("soft {soft}, hard {hard}");
    if host.open_files_hard.is_some_and(|hard| hard < FEW_FILES) {
        return Verdict::warning(
            value,
            "Envoy raises its limit to the hard one, needs two files for each proxied connection, \
             and refuses connections without",
            "raise the hard limit: LimitNOFILE= of the unit, or the limit of the container runtime",
        );
    }
    Verdict::good(value, "Envoy raises its limit to the hard one")
}

/// A number of bytes for people.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                rest => format!("{}.{rest} {name}", tenths / 10),
            };
        }
    }
    format!("{bytes} bytes")
}
