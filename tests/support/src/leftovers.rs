//! Proof that a test leaves nothing behind: no process, shared memory, socket, file or listener.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limit;
use crate::process_tag::ProcessTag;

/// Where the kernel keeps POSIX shared memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// Remembers what was there before, to find what is left after.
///
/// ```no_run
/// use std::time::Duration;
///
/// use handover_test_support::{leftovers::Leftovers, ports::BaseId, supervisor::Launch};
///
/// let base_id = BaseId::free();
/// let guard = Leftovers::watch().base_id(base_id.number());
/// let mut supervisor = Launch::handover().tag(guard.tag()).arg("--version").start();
/// supervisor.wait_exit(Duration::from_secs(10));
/// guard.assert_nothing_left(Duration::from_secs(10));
/// ```
#[derive(Debug)]
pub struct Leftovers {
    tag: ProcessTag,
    base_ids: Vec<u32>,
    directories: Vec<(PathBuf, BTreeSet<PathBuf>)>,
    ports: Vec<SocketAddr>,
}

impl Leftovers {
    /// A guard with a new tag; start the processes of the test with it.
    #[must_use]
    pub fn watch() -> Self {
        Self {
            tag: ProcessTag::new(),
            base_ids: Vec::new(),
            directories: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// Looks also for the shared memory and the abstract sockets of an Envoy with this base id.
    #[must_use]
    pub fn base_id(mut self, base_id: u32) -> Self {
        self.base_ids.push(base_id);
        self
    }

    /// Looks also for files, at any depth of `directory`, that are not there at this moment.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let before = files_below(&directory);
        self.directories.push((directory, before));
        self
    }

    /// Looks also for a listener that accepts connections there.
    #[must_use]
    pub fn listener(mut self, addr: SocketAddr) -> Self {
        self.ports.push(addr);
        self
    }

    /// What the processes of the test must be marked with.
    #[must_use]
    pub fn tag(&self) -> &ProcessTag {
        &self.tag
    }

    /// What is left at this moment, one sentence for each thing.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let processes = self
            .tag
            .processes()
            .into_iter()
            .map(|process| process.to_string());
        let of_envoy = self
            .base_ids
            .iter()
            .flat_map(|base_id| of_base_id(*base_id));
        let files = self.directories.iter().flat_map(|(directory, before)| {
            let new = &files_below(directory) - before;
            new.into_iter()
                .map(|path| format!("file {}", path.display()))
        });
        let listeners = self
            .ports
            .iter()
            .filter(|addr| TcpStream::connect(addr).is_ok());
        let listeners = listeners.map(|addr| format!("a listener on {addr}"));
        processes
            .chain(of_envoy)
            .chain(files)
            .chain(listeners)
            .collect()
    }

    /// Waits until nothing is left.
    ///
    /// # Panics
    ///
    /// When something is still there after `limit`; the message names all of it.
    #[track_caller]
    pub fn assert_nothing_left(&self, limit: Duration) {
        let mut left = Vec::new();
        let clean = limit::poll(limit, || {
            left = self.list();
            left.is_empty().then_some(())
        });
        assert!(
            clean.is_some(),
            "left behind after {limit:?}:\n  {}",
            left.join("\n  ")
        );
    }
}

/// The shared memory file of an Envoy: it multiplies its base id by ten.
pub(crate) fn shared_memory(base_id: u32) -> PathBuf {
    Path::new(SHARED_MEMORY).join(format!("envoy_shared_memory_{}", u64::from(base_id) * 10))
}

/// What Envoys with this base id hold: shared memory and abstract sockets.
pub(crate) fn of_base_id(base_id: u32) -> Vec<String> {
    let memory = shared_memory(base_id);
    let memory = memory
        .exists()
        .then(|| format!("shared memory {}", memory.display()));
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let sockets = sockets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|name| is_socket_of(name, base_id))
        .map(|name| format!("abstract socket {}", name.trim_end_matches('@')));
    memory.into_iter().chain(sockets).collect()
}

/// Envoy names its sockets `envoy_domain_socket_ROLE_ID`, where the role is `parent`, `child`,
/// `udp_parent` or `udp_child` and the id is ten times the base id plus the epoch modulo three. The
/// kernel shows the NUL bytes around an abstract name as `@`.
fn is_socket_of(name: &str, base_id: u32) -> bool {
    let first = u64::from(base_id) * 10;
    name.strip_prefix("@envoy_domain_socket_")
        .map(|rest| rest.trim_end_matches('@'))
        .and_then(|rest| rest.rsplit_once('_'))
        .and_then(|(_, id)| id.parse::<u64>().ok())
        .is_some_and(|id| (first..first + 3).contains(&id))
}

/// All files, links and directories below; nothing when the directory is not there.
fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            // A link to a directory is not followed, so that a circle ends.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_belong_to_the_base_id_they_are_derived_from() {
        for name in [
            "@envoy_domain_socket_parent_40@@@",
            "@envoy_domain_socket_udp_child_42@@@",
            "@envoy_domain_socket_child_41",
        ] {
            assert!(is_socket_of(name, 4), "{name}");
        }
        for name in [
            "@envoy_domain_socket_parent_43@",
            "@other_40",
            "/run/40",
            "@envoy_domain_socket_parent_400@",
        ] {
            assert!(!is_socket_of(name, 4), "{name}");
        }
    }
}
