//! Choosing and owning a base id.
//!
//! Two Envoys with one base id harm each other: the second may start, create the memory again and
//! share the ports of the first. So a base id is owned through a lock file before anything is
//! started, and one that an Envoy of somebody else uses is refused. Where agents share a network
//! namespace or shared memory but no lock files, a claim in those places does the same.
//!
//! A lock file is removed by its owner, so one that stays behind tells which base id an owner had that
//! was killed. That is how an agent that is started again finds the base id it had, and what is left
//! under it: nothing else has to be written, it cannot be half written, and a file that some agent
//! holds is never taken for a leftover, even where two agents have one name.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use handover_files::{Digest, LockFile, TryLock, is_held};

use super::bound_sockets::{self, Process};
use super::claim::{self, Claim, ClaimPaths, Taken, is_claimed};
use super::owner;
use super::shm::SharedMemory;
use crate::text::one_line;

/// How many base ids [`BaseIdChoice::Auto`] looks at.
const AUTO: std::ops::RangeInclusive<u32> = 1..=1000;

/// How long an Envoy may take to end whose supervisor was killed: 2 s. Envoy takes milliseconds for a SIGTERM.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// The pause before another look whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How lock files are called, with the base id in between.
const LOCK: &str = "base-id-";
const DOT_LOCK: &str = ".lock";

/// Envoy's `--base-id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseId(u32);

/// A number is no base id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no base id: Envoy multiplies it by 10 in 32 bits, so the highest is {max}", max = BaseId::MAX.0)]
pub struct BaseIdTooLarge(pub u32);

impl BaseId {
    /// The highest there is. Envoy multiplies the base id by 10 and adds the restart epoch modulo 3,
    /// in 32 bits.
    pub const MAX: Self = Self((u32::MAX - 2) / 10);

    /// Makes a base id of its number.
    ///
    /// # Errors
    ///
    /// [`BaseIdTooLarge`] above [`MAX`](Self::MAX), where Envoy's number would wrap around and
    /// be that of another base id.
    pub fn new(number: u32) -> Result<Self, BaseIdTooLarge> {
        if number <= Self::MAX.0 {
            Ok(Self(number))
        } else {
            Err(BaseIdTooLarge(number))
        }
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// The number in the name of the shared memory.
    pub(super) fn tenfold(self) -> u32 {
        self.0 * 10
    }
}

impl fmt::Display for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which base id to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseIdChoice {
    /// This one or none.
    Explicit(BaseId),
    /// The one that an owner of the same name had when it was killed, or else one that nobody uses. 0
    /// is left to Envoys that are started by hand.
    #[default]
    Auto,
}

/// Where to look on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPaths {
    /// Where the lock files are: one directory for all agents of the host that may collide.
    pub locks: PathBuf,
    /// Where shared memory is, `/dev/shm`.
    pub shared_memory: PathBuf,
    /// Where processes and sockets are shown, `/proc`.
    pub proc: PathBuf,
    /// How the names of the abstract sockets begin by which agents claim base ids in their network
    /// namespace: the same for all that may meet there.
    pub claims: String,
}

impl HostPaths {
    /// Returns the usual paths of a host, with the lock files in this directory, which must exist.
    #[must_use]
    pub fn with_locks(locks: &Path) -> Self {
        Self {
            locks: locks.to_owned(),
            shared_memory: "/dev/shm".into(),
            proc: "/proc".into(),
            claims: "handover-base-id-".to_owned(),
        }
    }

    fn claim_paths(&self) -> ClaimPaths<'_> {
        ClaimPaths {
            prefix: &self.claims,
            shared_memory: &self.shared_memory,
            proc: &self.proc,
        }
    }
}

/// Why a base id cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseIdError {
    /// Another agent owns it.
    #[error("base id {base_id} is owned by {owner}: stop that one, or use another base id")]
    Owned {
        /// The base id.
        base_id: BaseId,
        /// The owner, as it describes itself.
        owner: String,
    },
    /// An Envoy that no agent on this host owns uses it.
    #[error(
        "base id {base_id} is in use by an Envoy {} ({socket} is bound): stop that one, or use \
         another base id", Process(*pid)
    )]
    InUse {
        /// The base id.
        base_id: BaseId,
        /// The Envoy's process id, where it can be seen.
        pid: Option<u32>,
        /// One of its sockets.
        socket: String,
    },
    /// There is no free one.
    #[error("none of the base ids {} to {} is free: pass one with --base-id", AUTO.start(), AUTO.end())]
    NoneFree,
    /// The lock file cannot be used.
    #[error("cannot lock {}: choose another directory for locks with --lock-dir", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The sockets of other Envoys cannot be seen.
    #[error("cannot read {}/net/unix, so other Envoys cannot be detected", proc.display())]
    Sockets {
        /// The directory of the process file system.
        proc: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Stale shared memory cannot be removed.
    #[error("cannot remove stale shared memory {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A base id that is ours until this is dropped.
///
/// ```
/// use handover_envoy::hot_restart::{BaseIdChoice, HostPaths, OwnedBaseId};
///
/// # let dir = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// let host = HostPaths::with_locks(dir.path());
/// let owned = OwnedBaseId::claim(BaseIdChoice::Auto, "front proxy", &host)?;
/// let again = OwnedBaseId::claim(BaseIdChoice::Explicit(owned.id()), "another", &host);
/// assert!(again.unwrap_err().to_string().contains("front proxy"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnedBaseId {
    id: BaseId,
    memory: SharedMemory,
    proc: PathBuf,
    /// Given back before the lock file, by which a next owner of the same name is led here.
    _claim: Claim,
    _lock: LockFile,
}

impl OwnedBaseId {
    /// Takes a base id, before any Envoy is started with it. `instance` is what others are told
    /// about the owner, beside its process id, and by what it is known again.
    ///
    /// What dead owners of the same name have left under other base ids is removed. What Envoys leave
    /// under this one is there until [`remove_stale_shared_memory`](Self::remove_stale_shared_memory).
    ///
    /// It blocks for up to two seconds while an Envoy that a dead owner of the same name has left under an
    /// explicit base id is about to end.
    ///
    /// # Errors
    ///
    /// [`BaseIdError`] names the owner and the remedy. Nothing is changed then.
    pub fn claim(
        choice: BaseIdChoice,
        instance: &str,
        host: &HostPaths,
    ) -> Result<Self, BaseIdError> {
        let claimed = match choice {
            BaseIdChoice::Explicit(id) => Self::claim_explicit(id, instance, host)?,
            BaseIdChoice::Auto => match Self::left_by(instance, host).next() {
                Some(same) => same,
                None => Self::claim_other(instance, host, &BTreeSet::new())?,
            },
        };
        claim::sweep(&host.shared_memory);
        for other in Self::left_by(instance, host) {
            if let Err(error) = other.remove_stale_shared_memory() {
                tracing::debug!("{error}");
            }
        }
        Ok(claimed)
    }

    /// Returns the base id that [`claim`](Self::claim) would pick at this moment. Nothing is taken,
    /// written or removed.
    ///
    /// # Errors
    ///
    /// [`BaseIdError::NoneFree`].
    pub fn would_pick(instance: &str, host: &HostPaths) -> Result<BaseId, BaseIdError> {
        let left = ids_left_by(instance, host);
        let mut all = left.into_iter().chain(candidates(instance, host));
        let free = |id: &BaseId| {
            !is_held(&lock_path(*id, host))
                && !is_claimed(*id, host.claim_paths())
                && refuse_in_use(&host.proc, *id).is_ok()
        };
        all.find(free).ok_or(BaseIdError::NoneFree)
    }

    /// The base ids of dead owners of this name, lowest first; each is claimed when it is come to.
    fn left_by(instance: &str, host: &HostPaths) -> impl Iterator<Item = Self> {
        ids_left_by(instance, host)
            .into_iter()
            // One whose Envoy is still about to end is left alone, and its file as well.
            .filter(|id| refuse_in_use(&host.proc, *id).is_ok())
            .filter_map(|id| Self::claim_one(id, instance, host).ok())
    }

    /// One that nobody has, and none of these, which have turned out to be in use.
    pub(crate) fn claim_other(
        instance: &str,
        host: &HostPaths,
        avoid: &BTreeSet<BaseId>,
    ) -> Result<Self, BaseIdError> {
        for id in candidates(instance, host).filter(|id| !avoid.contains(id)) {
            match Self::claim_one(id, instance, host) {
                Err(BaseIdError::Owned { .. } | BaseIdError::InUse { .. }) => {}
                result => return result,
            }
        }
        Err(BaseIdError::NoneFree)
    }

    /// Returns the base id.
    #[must_use]
    pub fn id(&self) -> BaseId {
        self.id
    }

    /// Returns the shared memory under the base id.
    #[must_use]
    pub fn shared_memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Removes the shared memory that Envoys of the past have left under this base id, and says
    /// whether there was any. Call it while none of our own runs: before the first epoch, and after
    /// the last.
    ///
    /// # Errors
    ///
    /// [`BaseIdError::InUse`] where an Envoy still runs under the base id; its memory is not touched.
    pub fn remove_stale_shared_memory(&self) -> Result<bool, BaseIdError> {
        refuse_in_use(&self.proc, self.id)?;
        self.memory.remove().map_err(|source| BaseIdError::Remove {
            path: self.memory.path().to_owned(),
            source,
        })
    }

    /// One that was asked for. The Envoy of a dead owner of this name gets a moment for its end: it was told to end when
    /// that owner died, and a service manager starts the next one at once.
    fn claim_explicit(id: BaseId, instance: &str, host: &HostPaths) -> Result<Self, BaseIdError> {
        let is_left = ids_left_by(instance, host).contains(&id);
        let began = Instant::now();
        loop {
            match Self::claim_one(id, instance, host) {
                Err(BaseIdError::InUse { .. }) if is_left && began.elapsed() < LAST_MOMENT => {
                    thread::sleep(LOOK_AGAIN);
                }
                result => return result,
            }
        }
    }

    fn claim_one(id: BaseId, instance: &str, host: &HostPaths) -> Result<Self, BaseIdError> {
        let path = lock_path(id, host);
        let lock = match LockFile::try_lock(&path, &owner::line(instance)) {
            Ok(TryLock::Locked(lock)) => lock,
            Ok(TryLock::HeldBy(owner)) => {
                let owner = one_line(&owner);
                return Err(BaseIdError::Owned { base_id: id, owner });
            }
            Err(source) => return Err(BaseIdError::Lock { path, source }),
        };
        let claim = match Claim::take(id, instance, host.claim_paths()) {
            Ok(claim) => claim,
            Err(Taken { owner }) => return Err(BaseIdError::Owned { base_id: id, owner }),
        };
        refuse_in_use(&host.proc, id)?;
        Ok(Self {
            id,
            memory: SharedMemory::in_dir(&host.shared_memory, id),
            proc: host.proc.clone(),
            _claim: claim,
            _lock: lock,
        })
    }
}

pub(super) fn lock_path(id: BaseId, host: &HostPaths) -> PathBuf {
    host.locks.join(format!("{LOCK}{id}{DOT_LOCK}"))
}

/// The base ids whose lock file was written by an owner of this name, lowest first. The owner may live.
pub(super) fn ids_left_by(instance: &str, host: &HostPaths) -> Vec<BaseId> {
    // A directory that cannot be read is told when a lock is taken in it.
    let locks = std::fs::read_dir(&host.locks).into_iter().flatten();
    let mut left: Vec<BaseId> = locks
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(LOCK)?.strip_suffix(DOT_LOCK)?;
            let id = BaseId::new(number.parse().ok()?).ok()?;
            owner::wrote(&entry.path(), instance).then_some(id)
        })
        .collect();
    left.sort_unstable();
    left
}

/// Base ids to try, in this order.
fn candidates(instance: &str, host: &HostPaths) -> impl Iterator<Item = BaseId> {
    // Agents of different users, or in containers, share no locks. That two of them look at the
    // same base id in the same moment is less likely when each begins somewhere else.
    let name = [instance.as_bytes(), host.locks.as_os_str().as_bytes()].concat();
    let [a, b, c, d, ..] = *Digest::of(&name).as_bytes();
    let count = AUTO.end() - AUTO.start() + 1;
    let first = u32::from_le_bytes([a, b, c, d]) % count;
    let id = (0..count).map(|step| BaseId(AUTO.start() + (first + step) % count));
    // Those without shared memory first: Envoy never removes it, but a container that shares
    // /dev/shm and not the network's sockets would not be seen otherwise.
    let (stale, fresh): (Vec<_>, Vec<_>) = id.partition(|&id| {
        SharedMemory::in_dir(&host.shared_memory, id)
            .path()
            .exists()
    });
    fresh.into_iter().chain(stale)
}

fn refuse_in_use(proc: &Path, base_id: BaseId) -> Result<(), BaseIdError> {
    let sockets = bound_sockets::sockets(proc, base_id).map_err(|source| BaseIdError::Sockets {
        proc: proc.to_owned(),
        source,
    })?;
    match sockets.first() {
        None => Ok(()),
        Some(socket) => Err(BaseIdError::InUse {
            base_id,
            pid: bound_sockets::owner(proc, &sockets),
            socket: socket.name.clone(),
        }),
    }
}

#[cfg(test)]
mod tests;
