//! A control group that bounds memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::envoy_bin::report_skip;
use crate::limit::poll;

/// What a group caches of files.
const CACHED: [&str; 2] = ["inactive_file", "active_file"];

/// How long its processes may take to leave it.
const LIMIT: Duration = Duration::from_secs(60);

/// A control group that may use only so much memory. It is removed when it is dropped, and its processes
/// must have ended by then.
#[derive(Debug)]
pub struct Group {
    directory: PathBuf,
    /// The files of the limits: of memory, and of what may be swapped out.
    limits: [&'static str; 2],
    usage: &'static str,
}

impl Group {
    /// Makes one that may use so many bytes, or reports that `test` is skipped: it takes root, and a memory
    /// controller.
    #[must_use]
    pub fn with_limit(test: &str, bytes: u64) -> Option<Self> {
        let made = Self::make(bytes);
        if made.is_none() {
            report_skip(
                test,
                "no control group with a memory limit can be made here",
            );
        }
        made
    }

    fn make(bytes: u64) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let version_2 = Path::new("/sys/fs/cgroup");
        let (parent, limits, usage) = if version_1.join("memory.limit_in_bytes").exists() {
            let limits = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
            (version_1, limits, "memory.usage_in_bytes")
        } else {
            let below = fs::read_to_string(version_2.join("cgroup.subtree_control")).ok()?;
            below.split_whitespace().find(|name| *name == "memory")?;
            (
                version_2,
                ["memory.max", "memory.swap.max"],
                "memory.current",
            )
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("handover-tests-{}-{number}", std::process::id());
        let directory = parent.join(name);
        fs::create_dir(&directory).ok()?;
        let group = Self {
            directory,
            limits,
            usage,
        };
        group.try_limit(bytes).then_some(group)
    }

    fn try_limit(&self, bytes: u64) -> bool {
        let [memory, swap] = self.limits.map(|file| self.directory.join(file));
        let text = bytes.to_string();
        // Not each kernel counts what is swapped out. In version 1 the limit of both together must never
        // be the lower one, so it goes first or last.
        let _uncounted = fs::write(&swap, &text);
        let is_set = fs::write(&memory, &text).is_ok();
        let _uncounted = fs::write(swap, text);
        is_set
    }

    /// Sets another limit, in bytes.
    ///
    /// # Panics
    ///
    /// If the kernel takes none.
    #[track_caller]
    pub fn limit(&self, bytes: u64) {
        let is_set = self.try_limit(bytes);
        assert!(
            is_set,
            "no limit of {bytes} for {}",
            self.directory.display()
        );
    }

    /// Sets the limit so that its processes have so many bytes left, in bytes. What it caches of files does
    /// not count, because the kernel takes that back.
    ///
    /// # Panics
    ///
    /// If the kernel does not tell the use, or takes no limit.
    #[track_caller]
    pub fn leave(&self, bytes: u64) {
        let read = |file: &str| {
            fs::read_to_string(self.directory.join(file)).expect("the kernel tells the use")
        };
        let used: u64 = read(self.usage).trim().parse().expect("a number");
        let cached = read("memory.stat");
        let cached = cached.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            let counts = CACHED.contains(&name);
            counts.then(|| value.parse::<u64>().expect("a number"))
        });
        let needed = used.saturating_sub(cached.sum());
        self.limit(needed.saturating_add(bytes));
    }

    /// Where a process writes its id to join.
    #[must_use]
    pub fn members(&self) -> String {
        self.directory.join("cgroup.procs").display().to_string()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has ended leaves its group a moment later.
        let removed = poll(LIMIT, || fs::remove_dir(&self.directory).ok());
        assert!(
            removed.is_some() || std::thread::panicking(),
            "{} is left",
            self.directory.display()
        );
    }
}

/// For `sh -c`: joins the group whose file is the first argument, and becomes the rest.
pub const JOIN: &str = "echo $$ > \"$0\" && exec \"$@\"";
