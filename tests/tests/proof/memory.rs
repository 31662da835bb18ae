//! An Envoy that the kernel ends because it is out of memory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use handover_test_support::envoy_bin::report_skip;
use handover_test_support::limit::poll;
use handover_test_support::require_envoy;

use crate::world::{LIMIT, Site};

/// Enough for the supervisor, the shells and a validation.
const LIMIT_OF_GROUP: u64 = 128 << 20;

/// A control group that may use only so much memory.
struct Group(PathBuf);

impl Group {
    /// `None` where this process may not make one: it takes root, and a memory controller.
    fn with_limit(bytes: u64) -> Option<Self> {
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let version_2 = Path::new("/sys/fs/cgroup");
        let (parent, limits) = if version_1.join("memory.limit_in_bytes").exists() {
            let limits = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
            (version_1, limits)
        } else {
            let below = fs::read_to_string(version_2.join("cgroup.subtree_control")).ok()?;
            below.split_whitespace().find(|name| *name == "memory")?;
            (version_2, ["memory.max", "memory.swap.max"])
        };
        let name = format!("handover-tests-{}", std::process::id());
        let group = Self(parent.join(name));
        fs::create_dir(&group.0).ok()?;
        let [memory, swap] = limits.map(|file| group.0.join(file));
        fs::write(memory, bytes.to_string()).ok()?;
        // Not each kernel counts what is swapped out.
        let _uncounted = fs::write(swap, bytes.to_string());
        Some(group)
    }

    /// Where a process writes its id to join.
    fn members(&self) -> String {
        self.0.join("cgroup.procs").display().to_string()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has ended leaves its group a moment later.
        let removed = poll(LIMIT, || fs::remove_dir(&self.0).ok());
        assert!(
            removed.is_some() || std::thread::panicking(),
            "{} is left",
            self.0.display()
        );
    }
}

#[test]
fn an_envoy_without_memory_is_told_from_one_that_was_killed() {
    let envoy = require_envoy!();
    let Some(group) = Group::with_limit(LIMIT_OF_GROUP) else {
        let test = "proof::memory::an_envoy_without_memory_is_told_from_one_that_was_killed";
        let why = "no control group with a memory limit can be made here";
        report_skip(test, why);
        return;
    };
    let site = Site::new();
    site.write("v0");
    // It stands for an Envoy that takes more and more: one that merely has too little spends minutes
    // on reading its own code again and again before the kernel ends it.
    let greedy = site.file().with_file_name("greedy-envoy");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--restart-epoch*) exec tail /dev/zero ;; esac\nexec {} \"$@\"\n",
        envoy.display()
    );
    fs::write(&greedy, script).expect("the directory is ours");
    fs::set_permissions(&greedy, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let state = site.file().with_file_name("state");
    let join = "echo $$ > \"$0\" && exec \"$@\"";
    let mut supervisor = site
        .launch(&greedy)
        .args(["--max-retries", "0", "--state-dir"])
        .arg(&state)
        .by("sh", &["-c", join, &group.members()])
        .start();
    let status = supervisor.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(69), "{status}");
    supervisor.wait_for_line("it ran out of memory", LIMIT);
    let reports = fs::read_dir(&state).expect("the state directory");
    let reports: Vec<_> = reports.flatten().map(|entry| entry.path()).collect();
    let [report] = reports.as_slice() else {
        panic!("one report was expected: {reports:?}");
    };
    let report = fs::read_to_string(report).expect("the report");
    assert!(report.contains(r#""label": "out_of_memory""#), "{report}");
    assert!(report.contains(r#""signal": 9"#), "{report}");
    site.assert_nothing_left();
}
