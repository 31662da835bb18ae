//! A claim on a base id that is seen wherever two Envoys could meet under it.
//!
//! The lock file of a base id is shared by the agents of one directory. Envoys meet in two other
//! places: the abstract sockets of a network namespace, and the directory of shared memory. Two
//! containers may share either one and no lock files. So an agent holds a name in both as well.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use handover_files::{LockFile, TryLock, remove_unheld};
use socket2::{Domain, SockAddr, Socket, Type};

use super::BaseId;
use super::bound_sockets;
use super::owner;
use crate::text::one_line;

/// How the names of the lock files begin and end.
const LOCK: &str = "handover-base-id-";
const DOT_LOCK: &str = ".lock";

/// How long a lock is waited for that another process may hold for the removal of its file: 5 ms. That takes
/// microseconds.
const SWEPT: Duration = Duration::from_millis(5);

/// Removes the lock files that killed agents of our user have left in the directory of shared memory. What
/// cannot be looked at or removed stays: it does no harm.
pub(super) fn sweep(shared_memory: &Path) {
    let entries = std::fs::read_dir(shared_memory).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            let number = name.strip_prefix(LOCK)?.strip_suffix(DOT_LOCK)?;
            number.parse::<u32>().ok()
        });
        if number.is_some()
            && let Err(error) = remove_unheld(&entry.path())
        {
            tracing::debug!("{}: {error}", entry.path().display());
        }
    }
}

/// Both names, held until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    _name: Option<Socket>,
    _file: Option<LockFile>,
}

/// Somebody else has one of the names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// As far as it can be told.
    pub(super) owner: String,
}

/// Where names are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClaimPaths<'a> {
    /// How the abstract names begin.
    pub(super) prefix: &'a str,
    pub(super) shared_memory: &'a Path,
    pub(super) proc: &'a Path,
}

impl Claim {
    /// Takes both names. A place where no name can be held is passed over: what a kernel without
    /// abstract sockets cannot share needs no claim either.
    pub(super) fn take(id: BaseId, instance: &str, paths: ClaimPaths<'_>) -> Result<Self, Taken> {
        let name = abstract_name(paths.prefix, id);
        let name = match bind(&name) {
            Ok(socket) => Some(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let owner = bound_sockets::process_with(paths.proc, &name);
                return Err(Taken {
                    owner: format!("another handover {}", bound_sockets::Process(owner)),
                });
            }
            Err(error) => {
                tracing::debug!("base id {id} is not claimed in the network namespace: {error}");
                None
            }
        };
        let path = paths.shared_memory.join(format!("{LOCK}{id}{DOT_LOCK}"));
        let mut locked = LockFile::try_lock(&path, &owner::line(instance));
        if matches!(locked, Ok(TryLock::HeldBy(_))) {
            // By one that removes what is left behind, as a rule: then it is free at once.
            thread::sleep(SWEPT);
            locked = LockFile::try_lock(&path, &owner::line(instance));
        }
        let file = match locked {
            Ok(TryLock::Locked(file)) => Some(file),
            Ok(TryLock::HeldBy(owner)) => {
                let owner = one_line(&owner);
                return Err(Taken { owner });
            }
            // Read-only, full, or another user's: that Envoy cannot use it is told by Envoy.
            Err(error) => {
                tracing::debug!("{} is not held: {error}", path.display());
                None
            }
        };
        Ok(Self {
            _name: name,
            _file: file,
        })
    }
}

/// Whether somebody has claimed a base id in the network namespace. Nothing is taken.
pub(super) fn is_claimed(id: BaseId, paths: ClaimPaths<'_>) -> bool {
    bound_sockets::is_bound(paths.proc, &abstract_name(paths.prefix, id))
}

fn abstract_name(prefix: &str, id: BaseId) -> String {
    format!("{prefix}{id}")
}

/// A socket that only has a name: nobody can connect to it or send to it.
fn bind(name: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_agents_have_left_is_removed_by_the_next_one() {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        let paths = ClaimPaths {
            prefix: &format!("{name}-"),
            shared_memory: dir.path(),
            proc: Path::new("/proc"),
        };
        let held = Claim::take(BaseId::new(7).unwrap(), "test", paths).unwrap();
        let others = [
            "handover-base-id-8.lock",
            "handover-base-id-x.lock",
            "envoy_shared_memory_80",
        ];
        for name in others {
            std::fs::write(dir.path().join(name), "left").unwrap();
        }
        sweep(dir.path());
        let list = || {
            let entries = std::fs::read_dir(dir.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        assert_eq!(list(), [others[2], "handover-base-id-7.lock", others[1]]);
        drop(held);
        assert_eq!(list(), [others[2], others[1]]);
        sweep(&dir.path().join("missing"));
    }

    #[test]
    fn a_claim_has_one_holder_in_either_place() {
        let dir = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix("handover-").tempdir().unwrap()
        };
        let (one, other) = (dir(), dir());
        let prefix = |dir: &tempfile::TempDir| {
            let name = dir.path().file_name().unwrap().to_str().unwrap();
            format!("{name}-")
        };
        let id = BaseId::new(7).unwrap();
        let claim = |prefix: &str, memory: &tempfile::TempDir| {
            let paths = ClaimPaths {
                prefix,
                shared_memory: memory.path(),
                proc: Path::new("/proc"),
            };
            Claim::take(id, "test", paths)
        };
        let held = claim(&prefix(&one), &one).unwrap();
        let pid = std::process::id();
        // One network namespace, and not the shared memory.
        let taken = claim(&prefix(&one), &other).unwrap_err();
        assert_eq!(taken.owner, format!("another handover with pid {pid}"));
        // The other way round.
        let taken = claim(&prefix(&other), &one).unwrap_err();
        assert_eq!(taken.owner, format!("test (pid {pid})"));
        drop(held);
        claim(&prefix(&one), &one).unwrap();
        // Without a place for a file the name alone does.
        let missing = dir();
        std::fs::remove_dir(missing.path()).unwrap();
        let held = claim(&prefix(&one), &missing).unwrap();
        assert!(claim(&prefix(&one), &one).is_err());
        drop(held);
    }
}
