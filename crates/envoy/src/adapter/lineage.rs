//! Lineages: epochs that hand over to each other by hot restart, under one base id.
//!
//! As a rule there is one. A binary that speaks another hot restart version than the Envoy that
//! runs begins another lineage beside it, under another base id. Envoy's restart epoch counts from
//! 0 within each lineage, the agent's epoch over all of them.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use handover_core::Epoch;
use handover_runtime::offload::offload;
use handover_runtime::time_limit::timeout;
use handover_tokio::error_chain;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::epochs::LineageId;
use crate::hot_restart::{
    BaseId, BaseIdChoice, BaseIdError, HostPaths, OwnedBaseId, Parent, SharedMemory,
};

/// How long a first epoch waits for the base id that is kept: 1 s. The run of an epoch that has just ended
/// gives it back within milliseconds.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// How long the end of the agent waits for base ids that are being given back: 2 s. That takes milliseconds, unless a
/// disk hangs.
const LAST: Duration = Duration::from_secs(2);

/// The base id that is kept for the whole life of the agent, and where others come from.
#[derive(Debug)]
pub(super) struct Lineages {
    home: Mutex<Home>,
    /// Its number, for those who must not wait while another one is chosen.
    home_id: AtomicU32,
    /// Whether that one was asked for: then no other will do.
    is_explicit: bool,
    host: HostPaths,
    instance: String,
    /// How many lineages have begun.
    begun: AtomicU64,
    unreturned: Arc<Unreturned>,
}

/// The base id that is kept.
#[derive(Debug)]
struct Home {
    base_id: Arc<OwnedBaseId>,
    /// Whether a lineage has it at present.
    taken: Arc<Taken>,
    /// Those that were chosen, and then found in use.
    avoid: BTreeSet<BaseId>,
}

/// Whether a lineage has the base id that is kept.
#[derive(Debug, Default)]
struct Taken {
    is_taken: AtomicBool,
    given_back: Notify,
}

/// One lineage. What only looks at an epoch may keep this for as long as it likes.
#[derive(Clone, Debug)]
pub(super) struct Lineage {
    id: LineageId,
    base_id: BaseId,
    memory: SharedMemory,
    is_chosen: bool,
    first: Epoch,
    lease: Weak<Lease>,
}

/// The part of an epoch in its lineage, from before its start until it was reaped. The lineage ends, and
/// its base id is free, with the last of these.
#[derive(Debug)]
pub(super) struct Tenancy {
    lineage: Lineage,
    _lease: Arc<Lease>,
}

/// The base id of a lineage. It is given back on a thread that may wait for the disk.
#[derive(Debug)]
struct Lease(Option<InUse>);

/// A base id in use. It is given back when this is dropped.
#[derive(Debug)]
struct InUse {
    base_id: Arc<OwnedBaseId>,
    taken: Option<Arc<Taken>>,
    /// Whether handover has chosen it, so that it may choose another one.
    is_chosen: bool,
    /// The last field, so that it is dropped when all the others are.
    _counted: Counted,
}

/// One of those that are counted.
#[derive(Debug)]
struct Counted(Arc<Unreturned>);

/// How many base ids were not given back.
#[derive(Debug, Default)]
struct Unreturned {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Lineages {
    /// Takes the base id that is kept, and removes what a dead owner has left under it.
    pub(super) fn claim(
        choice: BaseIdChoice,
        instance: String,
        host: HostPaths,
    ) -> Result<Self, BaseIdError> {
        let home = OwnedBaseId::claim(choice, &instance, &host)?;
        home.remove_stale_shared_memory()?;
        Ok(Self {
            home_id: AtomicU32::new(home.id().get()),
            home: Mutex::new(Home {
                base_id: Arc::new(home),
                taken: Arc::default(),
                avoid: BTreeSet::new(),
            }),
            is_explicit: matches!(choice, BaseIdChoice::Explicit(_)),
            host,
            instance,
            begun: AtomicU64::new(0),
            unreturned: Arc::default(),
        })
    }

    /// The base id that is kept.
    pub(super) fn home(&self) -> u32 {
        self.home_id.load(Ordering::Relaxed)
    }

    /// Waits, but not for long, until no lineage has the base id that is kept. Call it where no epoch runs.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn until_home_is_free(&self) {
        let taken = Arc::clone(&self.lock().taken);
        let free = async {
            loop {
                let given_back = taken.given_back.notified();
                if !taken.is_taken.load(Ordering::Acquire) {
                    return;
                }
                given_back.await;
            }
        };
        if timeout(GIVE_BACK, free).await.is_err() {
            tracing::debug!("no epoch runs, and the base id is not given back");
        }
    }

    /// A lineage whose first epoch is this one: under the base id that is kept, or under another one
    /// while epochs run under that. It refuses a base id under which an Envoy runs that somebody else
    /// has started since it was claimed, because the first epoch makes the shared memory anew.
    /// Where the base id was not asked for, another one is chosen instead.
    pub(super) fn begin(&self, first: Epoch) -> Result<Tenancy, BaseIdError> {
        let in_use = self.take()?;
        let in_use = match in_use.base_id.remove_stale_shared_memory() {
            Ok(_) => in_use,
            Err(error @ BaseIdError::InUse { .. }) if in_use.is_chosen => {
                self.avoid(in_use, &error.to_string())?;
                let in_use = self.take()?;
                in_use.base_id.remove_stale_shared_memory()?;
                in_use
            }
            Err(error) => return Err(error),
        };
        let (base_id, memory) = (in_use.base_id.id(), in_use.base_id.shared_memory().clone());
        let is_chosen = in_use.is_chosen;
        let lease = Arc::new(Lease(Some(in_use)));
        let lineage = Lineage {
            id: LineageId(self.begun.fetch_add(1, Ordering::Relaxed)),
            base_id,
            memory,
            is_chosen,
            first,
            lease: Arc::downgrade(&lease),
        };
        Ok(Tenancy {
            lineage,
            _lease: lease,
        })
    }

    /// Chooses another base id in place of that of a lineage, whose first epoch has found it in use.
    pub(super) fn choose_again(&self, lineage: &Lineage) -> Result<(), BaseIdError> {
        let id = lineage.base_id();
        self.avoid_id(id, &format!("base id {id} is in use by another Envoy"))
    }

    fn avoid(&self, in_use: InUse, why: &str) -> Result<(), BaseIdError> {
        let id = in_use.base_id.id();
        drop(in_use);
        self.avoid_id(id, why)
    }

    fn avoid_id(&self, id: BaseId, why: &str) -> Result<(), BaseIdError> {
        let mut home = self.lock();
        home.avoid.insert(id);
        if home.base_id.id() == id {
            let other = OwnedBaseId::claim_other(&self.instance, &self.host, &home.avoid)?;
            tracing::warn!(
                base_id = other.id().get(),
                "{why}: chose base id {} instead",
                other.id()
            );
            self.home_id.store(other.id().get(), Ordering::Relaxed);
            home.base_id = Arc::new(other);
            home.taken = Arc::default();
        } else {
            tracing::warn!("{why}: choosing another one");
        }
        Ok(())
    }

    fn take(&self) -> Result<InUse, BaseIdError> {
        let home = self.lock();
        if home.taken.is_taken.swap(true, Ordering::AcqRel) {
            let spare = OwnedBaseId::claim_other(&self.instance, &self.host, &home.avoid)?;
            return Ok(InUse {
                base_id: Arc::new(spare),
                taken: None,
                is_chosen: true,
                _counted: Counted::new(&self.unreturned),
            });
        }
        Ok(InUse {
            base_id: Arc::clone(&home.base_id),
            taken: Some(Arc::clone(&home.taken)),
            is_chosen: !self.is_explicit,
            _counted: Counted::new(&self.unreturned),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Home> {
        // Nothing in here is left half-way by a panic.
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lineage {
    /// Returns the number by which the table of epochs knows the lineage.
    pub(super) fn id(&self) -> LineageId {
        self.id
    }

    pub(super) fn base_id(&self) -> BaseId {
        self.base_id
    }

    pub(super) fn shared_memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Envoy's number for one of the lineage's epochs.
    pub(super) fn restart_epoch(&self, epoch: Epoch) -> u32 {
        // The first one has the lowest number, because numbers go up while any epoch runs.
        epoch.number().saturating_sub(self.first.number())
    }

    /// Whether another base id may be chosen for the lineage: it was chosen, and no epoch of the
    /// lineage has run before this one.
    pub(super) fn may_be_chosen_again(&self, epoch: Epoch) -> bool {
        self.is_chosen && self.first == epoch
    }

    /// Returns the part that a further epoch has in the lineage, or `None` if the lineage has ended. It has not
    /// while one of its epochs is registered.
    pub(super) fn enter(&self) -> Option<Tenancy> {
        Some(Tenancy {
            _lease: self.lease.upgrade()?,
            lineage: self.clone(),
        })
    }

    /// An epoch of this lineage, to speak to as its child.
    pub(super) fn parent(&self, epoch: Epoch) -> Parent {
        Parent::new(self.base_id(), self.restart_epoch(epoch))
    }
}

impl Deref for Tenancy {
    type Target = Lineage;

    fn deref(&self) -> &Lineage {
        &self.lineage
    }
}

impl PartialEq for Lineage {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Lineage {}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base id {}", self.base_id())
    }
}

impl Drop for Lease {
    /// Lets the base id be given back soon, or at once where there is no runtime: then nothing is kept waiting.
    fn drop(&mut self) {
        let in_use = self.0.take();
        let Ok(runtime) = Handle::try_current() else {
            return drop(in_use);
        };
        // It is queued here, and the task only keeps it from being cancelled. What no thread does, is done as the
        // work is dropped: late is better than never.
        let given_back = offload(move || drop(in_use));
        runtime.spawn(async move {
            if let Err(error) = given_back.await {
                let error = error_chain(&error);
                tracing::debug!("a base id was given back by no thread of its own: {error}");
            }
        });
    }
}

impl Drop for Lineages {
    /// Waits until every base id is given back, because shared memory would be left otherwise.
    fn drop(&mut self) {
        let unreturned = self.unreturned.lock();
        let fewer = &self.unreturned.fewer;
        let waited = fewer.wait_timeout_while(unreturned, LAST, |count| *count > 0);
        // A panic of another thread changes no number half-way.
        let (count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *count > 0 {
            tracing::warn!(
                "{} base ids are not given back within {LAST:?}: does a disk hang?",
                *count
            );
        }
    }
}

impl Unreturned {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InUse {
    /// Removes the shared memory, which Envoy never does. Where an Envoy still runs under the base
    /// id it is left alone.
    fn drop(&mut self) {
        if let Err(error) = self.base_id.remove_stale_shared_memory() {
            tracing::debug!("left the shared memory of Envoy alone: {error}");
        }
        if let Some(taken) = &self.taken {
            // Only after the removal, which must not hit the memory of the next lineage.
            taken.is_taken.store(false, Ordering::Release);
            taken.given_back.notify_waiters();
        }
    }
}

impl Counted {
    fn new(unreturned: &Arc<Unreturned>) -> Self {
        *unreturned.lock() += 1;
        Self(Arc::clone(unreturned))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        *count = count.saturating_sub(1);
        self.0.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use rustix::fs::{FileType, Mode, mknodat};

    struct Host {
        lineages: Lineages,
        dir: tempfile::TempDir,
    }

    impl Host {
        fn memory(&self, lineage: &Lineage) -> std::path::PathBuf {
            let path = lineage.shared_memory().path().to_owned();
            assert!(path.starts_with(self.dir.path()));
            path
        }
    }

    fn host() -> Host {
        host_with(BaseIdChoice::Explicit(BaseId::new(70).unwrap()))
    }

    fn host_with(choice: BaseIdChoice) -> Host {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let proc = dir.path().join("proc");
        fs::create_dir_all(proc.join("net")).unwrap();
        fs::write(proc.join("net/unix"), "").unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        let host = HostPaths {
            shared_memory: dir.path().to_owned(),
            proc,
            claims: format!("{name}-"),
            ..HostPaths::with_locks(dir.path())
        };
        let lineages = Lineages::claim(choice, "test".to_owned(), host).unwrap();
        Host { lineages, dir }
    }

    #[test]
    fn the_kept_base_id_is_used_whenever_no_epoch_runs_under_it() {
        let Host {
            lineages,
            dir: _dir,
        } = host();
        let first = lineages.begin(Epoch::ZERO).unwrap();
        let second = lineages.begin(Epoch::new(3)).unwrap();
        assert_eq!(first.base_id().get(), lineages.home());
        assert_ne!(second.base_id().get(), lineages.home());
        assert_ne!(*first, *second);
        let same = first.enter().unwrap();
        assert_eq!(*first, *same);
        drop(first);
        // One of its epochs still runs.
        let third = lineages.begin(Epoch::new(4)).unwrap();
        assert_ne!(third.base_id().get(), lineages.home());
        assert_ne!(third.base_id(), second.base_id());
        // A status that is being made still looks at an epoch, which has ended.
        let looker = same.clone();
        drop(same);
        assert!(looker.enter().is_none());
        let fourth = lineages.begin(Epoch::new(5)).unwrap();
        assert_eq!(fourth.base_id().get(), lineages.home());
    }

    #[tokio::test]
    async fn a_first_epoch_waits_for_the_base_id_of_one_that_has_just_ended_but_not_for_long() {
        let Host {
            lineages,
            dir: _dir,
        } = host();
        let ending = lineages.begin(Epoch::ZERO).unwrap();
        let began = tokio::time::Instant::now();
        let end = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(ending);
        };
        tokio::join!(lineages.until_home_is_free(), end);
        let waited = began.elapsed();
        assert!(
            waited >= Duration::from_millis(20) && waited < GIVE_BACK,
            "{waited:?}"
        );
        let kept = lineages.begin(Epoch::ZERO).unwrap();
        assert_eq!(kept.base_id().get(), lineages.home());
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        lineages.until_home_is_free().await;
        let waited = began.elapsed();
        assert!(waited >= GIVE_BACK && waited < GIVE_BACK * 2, "{waited:?}");
    }

    /// A place that hangs whoever reads it, as a disk does, until somebody writes there.
    fn hang(path: &std::path::Path) {
        fs::remove_file(path).unwrap();
        let directory = fs::File::open(path.parent().unwrap()).unwrap();
        let (name, mode) = (path.file_name().unwrap(), Mode::RUSR | Mode::WUSR);
        mknodat(directory, name, FileType::Fifo, mode, 0).unwrap();
    }

    #[tokio::test]
    async fn a_base_id_is_given_back_while_the_loop_goes_on() {
        const LIMIT: Duration = Duration::from_secs(10);
        let host = host();
        let tenancy = host.lineages.begin(Epoch::ZERO).unwrap();
        let memory = host.memory(&tenancy);
        fs::write(&memory, "x").unwrap();
        let sockets = host.dir.path().join("proc/net/unix");
        hang(&sockets);
        // A loop that waits for the place would stand still until this comes back by itself.
        let (come_back, told) = std::sync::mpsc::channel::<()>();
        let back = std::thread::spawn(move || {
            let in_time = told.recv_timeout(LIMIT).is_ok();
            drop(fs::OpenOptions::new().write(true).open(&sockets).unwrap());
            in_time
        });
        drop(tenancy);
        // It is not free before that.
        let early = Duration::from_millis(50);
        let free = tokio::time::timeout(early, host.lineages.until_home_is_free());
        assert!(free.await.is_err() && memory.exists());
        come_back.send(()).unwrap();
        host.lineages.until_home_is_free().await;
        assert!(!memory.exists());
        assert!(back.join().unwrap(), "the loop stood still");
    }

    #[tokio::test]
    async fn the_end_waits_for_base_ids_that_are_being_given_back() {
        let host = host();
        let tenancy = host.lineages.begin(Epoch::ZERO).unwrap();
        let memory = host.memory(&tenancy);
        fs::write(&memory, "x").unwrap();
        drop(tenancy);
        drop(host.lineages);
        assert!(!memory.exists());
    }

    #[test]
    fn a_lineage_counts_its_epochs_from_its_first() {
        let Host {
            lineages,
            dir: _dir,
        } = host();
        let lineage = lineages.begin(Epoch::new(3)).unwrap();
        assert_eq!(lineage.restart_epoch(Epoch::new(3)), 0);
        assert_eq!(lineage.restart_epoch(Epoch::new(5)), 2);
    }

    #[test]
    fn a_lineage_that_ends_leaves_neither_memory_nor_a_lock() {
        let host = host();
        let home = host.lineages.begin(Epoch::ZERO).unwrap();
        let spare = host.lineages.begin(Epoch::new(1)).unwrap();
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
        drop(host.lineages);
        assert!(!kept.exists());
    }

    /// Binds a socket of Envoy's under this base id, as the host shows it.
    fn occupy(host: &Host, base_id: BaseId) {
        let line = format!(
            "0: 00000002 00000000 00000000 0002 01 500 @envoy_domain_socket_parent_{base_id}0\n"
        );
        fs::write(host.dir.path().join("proc/net/unix"), line).unwrap();
    }

    #[test]
    fn a_chosen_base_id_that_is_found_in_use_is_chosen_again() {
        let host = host_with(BaseIdChoice::Auto);
        let first = host.lineages.home();
        occupy(&host, BaseId::new(first).unwrap());
        let lineage = host.lineages.begin(Epoch::ZERO).unwrap();
        let second = lineage.base_id();
        assert_ne!(second.get(), first);
        assert_eq!(host.lineages.home(), second.get());
        // Its first epoch finds it in use as well, although that cannot be seen.
        assert!(lineage.may_be_chosen_again(Epoch::ZERO));
        assert!(!lineage.may_be_chosen_again(Epoch::new(1)));
        let given_up = lineage.clone();
        drop(lineage);
        host.lineages.choose_again(&given_up).unwrap();
        fs::write(host.dir.path().join("proc/net/unix"), "").unwrap();
        let third = host.lineages.begin(Epoch::ZERO).unwrap();
        let third = third.base_id();
        assert!(![first, second.get()].contains(&third.get()));
        assert_eq!(host.lineages.home(), third.get());
        // The same for one that is taken beside it.
        let spare = host.lineages.begin(Epoch::new(1)).unwrap();
        let fourth = spare.base_id();
        let given_up = spare.clone();
        drop(spare);
        host.lineages.choose_again(&given_up).unwrap();
        let spare = host.lineages.begin(Epoch::new(1)).unwrap();
        let tried = [first, second.get(), third.get(), fourth.get()];
        assert!(!tried.contains(&spare.base_id().get()));
    }

    #[test]
    fn one_that_was_asked_for_is_not_exchanged() {
        let host = host();
        occupy(&host, BaseId::new(host.lineages.home()).unwrap());
        let error = host.lineages.begin(Epoch::ZERO).unwrap_err();
        assert!(matches!(error, BaseIdError::InUse { .. }), "{error}");
        fs::write(host.dir.path().join("proc/net/unix"), "").unwrap();
        let lineage = host.lineages.begin(Epoch::ZERO).unwrap();
        assert!(!lineage.may_be_chosen_again(Epoch::ZERO));
    }
}
