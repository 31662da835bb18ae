//! Tests and commands leave no process, socket or file behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use procfs::process::{FDTarget, MMapPath, Process};

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
        let memory = names_in(Path::new("/dev/shm"))?;
        let sockets = procfs::net::unix().context("reading /proc/net/unix")?;
        // Who holds them is looked at afterwards, so that what begins meanwhile is not taken for ours.
        let others = process::all(run_id, false)?;
        for name in memory.iter().filter(|name| name.starts_with(SHARED_MEMORY)) {
            if !others.iter().any(|process| has_mapped(process, name)) {
                found.insert(format!("the shared memory /dev/shm/{name}"));
            }
        }
        let held: BTreeSet<u64> = others.iter().flat_map(sockets_of).collect();
        for socket in sockets {
            let path = socket.path.unwrap_or_default();
            let name = path.to_string_lossy();
            if name.starts_with(SOCKET) && !held.contains(&socket.inode) {
                let name = name.trim_end_matches('@');
                found.insert(format!("the abstract socket {name}"));
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
    let running = process::all(&context.run_id, true)?;
    let running = running.iter().map(|process| {
        let command = process.cmdline().unwrap_or_default().join(" ");
        format!("the process {} still runs: {command}", process.pid())
    });
    let files = names_in(context.temp())?;
    let files = files
        .iter()
        .map(|name| format!("a test left `{name}` in its temporary directory"));
    let after = Trace::take(&context.run_id)?;
    let traces = after.0.difference(&context.before.0);
    let traces = traces.map(|item| format!("{item} was left behind"));
    Ok(running.chain(files).chain(traces).collect())
}

fn has_mapped(process: &Process, name: &str) -> bool {
    let mut maps = process.maps().into_iter().flatten();
    maps.any(|map| matches!(map.pathname, MMapPath::Path(path) if path.ends_with(name)))
}

/// The inodes of the sockets that a process has open.
fn sockets_of(process: &Process) -> impl Iterator<Item = u64> {
    let descriptors = process.fd().into_iter().flatten();
    descriptors.filter_map(|descriptor| {
        let FDTarget::Socket(inode) = descriptor.ok()?.target else {
            return None;
        };
        Some(inode)
    })
}

fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = fs_err::read_dir(directory)?;
    Ok(entries
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_a_process_has_mapped_and_open_is_seen() {
        let own = Process::myself().unwrap();
        let program = std::env::current_exe().unwrap();
        let name = program.file_name().unwrap().to_str().unwrap();
        assert!(has_mapped(&own, name));
        assert!(!has_mapped(&own, &name[1..]));

        let (socket, _other) = UnixStream::pair().unwrap();
        let descriptor = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let inode = std::fs::metadata(descriptor).unwrap().ino();
        assert!(sockets_of(&own).any(|open| open == inode));
        drop(socket);
        assert!(!sockets_of(&own).any(|open| open == inode));
    }
}
