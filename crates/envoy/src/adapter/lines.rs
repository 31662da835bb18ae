//! Lines: epochs that hand over to each other by hot restart, under one base id.
//!
//! As a rule there is one. A binary that speaks another hot restart version than the Envoy that runs
//! begins another line beside it, under another base id. Envoy's restart epoch counts from 0 within
//! each line, the agent's epoch over all of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use handover_core::Epoch;

use crate::hot_restart::{
    BaseId, BaseIdChoice, BaseIdError, HostPaths, OwnedBaseId, Parent, SharedMemory,
};

/// The base id that is kept for the whole life of the agent, and where others come from.
#[derive(Debug)]
pub(super) struct Lines {
    home: Arc<OwnedBaseId>,
    /// Whether a line has it at present.
    home_is_taken: Arc<AtomicBool>,
    host: HostPaths,
    instance: String,
}

/// One line. It ends, and its base id is free, when the last clone is dropped: so each run of an
/// epoch has one until it is over.
#[derive(Clone, Debug)]
pub(super) struct Line {
    lease: Arc<Lease>,
    first: Epoch,
}

/// A base id in use.
#[derive(Debug)]
struct Lease {
    base_id: Arc<OwnedBaseId>,
    home_is_taken: Option<Arc<AtomicBool>>,
}

impl Lines {
    /// Takes the base id that is kept, and removes what a dead owner has left under it.
    pub(super) fn claim(
        choice: BaseIdChoice,
        instance: String,
        host: HostPaths,
    ) -> Result<Self, BaseIdError> {
        let home = OwnedBaseId::claim(choice, &instance, &host)?;
        home.remove_stale_shared_memory()?;
        Ok(Self {
            home: Arc::new(home),
            home_is_taken: Arc::new(AtomicBool::new(false)),
            host,
            instance,
        })
    }

    /// The base id that is kept.
    pub(super) fn home(&self) -> BaseId {
        self.home.id()
    }

    /// A line whose first epoch is this one: under the base id that is kept, or under another one
    /// while epochs run under that. It refuses a base id under which an Envoy runs that somebody else
    /// has started since it was claimed, because the first epoch makes the shared memory anew.
    pub(super) fn begin(&self, first: Epoch) -> Result<Line, BaseIdError> {
        let lease = if self.home_is_taken.swap(true, Ordering::AcqRel) {
            let spare = OwnedBaseId::claim(BaseIdChoice::Auto, &self.instance, &self.host)?;
            Lease {
                base_id: Arc::new(spare),
                home_is_taken: None,
            }
        } else {
            Lease {
                base_id: Arc::clone(&self.home),
                home_is_taken: Some(Arc::clone(&self.home_is_taken)),
            }
        };
        lease.base_id.remove_stale_shared_memory()?;
        Ok(Line {
            lease: Arc::new(lease),
            first,
        })
    }
}

impl Line {
    pub(super) fn base_id(&self) -> BaseId {
        self.lease.base_id.id()
    }

    pub(super) fn shared_memory(&self) -> &SharedMemory {
        self.lease.base_id.shared_memory()
    }

    /// Envoy's number for one of the line's epochs.
    pub(super) fn restart_epoch(&self, epoch: Epoch) -> u32 {
        // The first one has the lowest number, because numbers go up while any epoch runs.
        epoch.number().saturating_sub(self.first.number())
    }

    /// An epoch of this line, to speak to as its child.
    pub(super) fn parent(&self, epoch: Epoch) -> Parent {
        Parent::new(self.base_id(), self.restart_epoch(epoch))
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.lease, &other.lease)
    }
}

impl Eq for Line {}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base id {}", self.base_id())
    }
}

impl Drop for Lease {
    /// Removes the shared memory, which Envoy never does. Where an Envoy still runs under the base
    /// id it is left alone.
    fn drop(&mut self) {
        if let Err(error) = self.base_id.remove_stale_shared_memory() {
            tracing::debug!("left the shared memory of Envoy alone: {error}");
        }
        if let Some(taken) = &self.home_is_taken {
            // Only after the removal, which must not hit the memory of the next line.
            taken.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Host {
        lines: Lines,
        dir: tempfile::TempDir,
    }

    impl Host {
        fn memory(&self, line: &Line) -> std::path::PathBuf {
            let path = line.shared_memory().path().to_owned();
            assert!(path.starts_with(self.dir.path()));
            path
        }
    }

    fn host() -> Host {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let proc = dir.path().join("proc");
        fs::create_dir_all(proc.join("net")).unwrap();
        fs::write(proc.join("net/unix"), "").unwrap();
        let host = HostPaths {
            shared_memory: dir.path().to_owned(),
            proc,
            ..HostPaths::with_locks(dir.path())
        };
        let home = BaseIdChoice::Explicit(BaseId::new(70).unwrap());
        let lines = Lines::claim(home, "test".to_owned(), host).unwrap();
        Host { lines, dir }
    }

    #[test]
    fn the_kept_base_id_is_used_whenever_no_epoch_runs_under_it() {
        let Host { lines, dir: _dir } = host();
        let first = lines.begin(Epoch::ZERO).unwrap();
        let second = lines.begin(Epoch::new(3)).unwrap();
        assert_eq!(first.base_id(), lines.home());
        assert_ne!(second.base_id(), lines.home());
        assert_ne!(first, second);
        let same = first.clone();
        assert_eq!(first, same);
        drop(first);
        // One of its epochs still runs.
        let third = lines.begin(Epoch::new(4)).unwrap();
        assert_ne!(third.base_id(), lines.home());
        assert_ne!(third.base_id(), second.base_id());
        drop(same);
        let fourth = lines.begin(Epoch::new(5)).unwrap();
        assert_eq!(fourth.base_id(), lines.home());
    }

    #[test]
    fn a_line_counts_its_epochs_from_its_first() {
        let Host { lines, dir: _dir } = host();
        let line = lines.begin(Epoch::new(3)).unwrap();
        assert_eq!(line.restart_epoch(Epoch::new(3)), 0);
        assert_eq!(line.restart_epoch(Epoch::new(5)), 2);
    }

    #[test]
    fn a_line_that_ends_leaves_neither_memory_nor_a_lock() {
        let host = host();
        let home = host.lines.begin(Epoch::ZERO).unwrap();
        let spare = host.lines.begin(Epoch::new(1)).unwrap();
        let lock = host
            .dir
            .path()
            .join(format!("base-id-{}.lock", spare.base_id()));
        let memories = [host.memory(&home), host.memory(&spare)];
        for memory in &memories {
            fs::write(memory, "x").unwrap();
        }
        assert!(lock.exists());
        drop(spare);
        assert!(!lock.exists() && !memories[1].exists());
        assert!(memories[0].exists());
        drop(home);
        assert!(!memories[0].exists());
        // The other base id may be had by anyone, the kept one may not.
        let kept = host.dir.path().join("base-id-70.lock");
        assert!(kept.exists());
        drop(host.lines);
        assert!(!kept.exists());
    }
}
