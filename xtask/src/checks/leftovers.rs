//! Tests and commands leave no process, socket or file behind.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Findings;
use crate::context::Context;
use crate::process;

/// How long what is about to vanish may take: an Envoy that was told to stop, say.
const GRACE: Duration = Duration::from_secs(5);

/// The names of the shared memory and the abstract sockets of Envoy.
const SHARED_MEMORY: &str = "envoy_shared_memory_";
const SOCKET: &str = "@envoy_domain_socket";

/// How our own temporary directories are called.
const TEMPORARY: &str = "handover-";

pub(crate) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let started = Instant::now();
    let left = loop {
        let left = left_behind(context)?;
        if left.is_empty() || started.elapsed() > GRACE {
            break left;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    findings.problems.extend(left);
    // What is left would get in the way of the next run.
    process::end_all(&context.run_id);
    Ok(findings)
}

/// What a run can leave behind outside of its own temporary directory.
pub(crate) struct Trace(BTreeSet<String>);

impl Trace {
    /// Looks at what there is. What another program's processes hold is not ours and is left out.
    ///
    /// # Errors
    ///
    /// When the kernel's tables cannot be read.
    pub(crate) fn take(run_id: &str) -> Result<Self> {
        let mut found = BTreeSet::new();
        for name in names_in(Path::new("/dev/shm"))? {
            if name.starts_with(SHARED_MEMORY) && !mapped_by_others(&name, run_id) {
                found.insert(format!("the shared memory /dev/shm/{name}"));
            }
        }
        let sockets = fs_err::read_to_string("/proc/net/unix").context("reading /proc/net/unix")?;
        for line in sockets.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let Some((inode, name)) = fields.get(6).zip(fields.get(7))
                && name.starts_with(SOCKET)
                && !held_by_others(inode, run_id)
            {
                found.insert(format!(
                    "the abstract socket {}",
                    name.trim_end_matches('@')
                ));
            }
        }
        let temporary = std::env::temp_dir();
        for name in names_in(&temporary)? {
            if name.starts_with(TEMPORARY) {
                found.insert(format!("the temporary {}", temporary.join(name).display()));
            }
        }
        Ok(Self(found))
    }
}

fn left_behind(context: &Context) -> Result<Vec<String>> {
    let mut left: Vec<String> = process::marked(&context.run_id)
        .into_iter()
        .map(|(pid, command)| format!("the process {} still runs: {command}", pid.as_raw_nonzero()))
        .collect();
    for name in names_in(context.temp())? {
        left.push(format!("a test left `{name}` in its temporary directory"));
    }
    let after = Trace::take(&context.run_id)?;
    left.extend(
        after
            .0
            .difference(&context.before.0)
            .map(|item| format!("{item} was left behind")),
    );
    Ok(left)
}

/// Whether a process that does not belong to this run has the file mapped.
fn mapped_by_others(name: &str, run_id: &str) -> bool {
    others(run_id, |process| {
        fs_err::read_to_string(process.join("maps"))
            .is_ok_and(|maps| maps.contains(&format!("/{name}")))
    })
}

/// Whether a process that does not belong to this run has the socket open.
fn held_by_others(inode: &str, run_id: &str) -> bool {
    let Ok(inode) = inode.parse::<u64>() else {
        return false;
    };
    others(run_id, |process| {
        let descriptors = fs_err::read_dir(process.join("fd")).into_iter().flatten();
        descriptors
            .filter_map(std::result::Result::ok)
            .any(|entry| {
                entry
                    .path()
                    .metadata()
                    .is_ok_and(|metadata| metadata.ino() == inode)
            })
    })
}

/// Whether `holds` is true for the directory below `/proc` of any process without this run's mark.
fn others(run_id: &str, holds: impl Fn(&Path) -> bool) -> bool {
    let ours: BTreeSet<String> = process::marked(run_id)
        .iter()
        .map(|(pid, _)| pid.as_raw_nonzero().to_string())
        .collect();
    let names = names_in(Path::new("/proc")).unwrap_or_default();
    names
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && !ours.contains(*name))
        .any(|name| holds(&Path::new("/proc").join(name)))
}

fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = fs_err::read_dir(directory)?;
    Ok(entries
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}
