//! One look at everything that is watched, which may block for as long as a file system likes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use handover_runtime::offload::{OffloadError, Offloaded, offload};

use super::digest_cache::DigestCache;
use super::filesystem::FileSystems;
use super::gap::{GapCause, Gaps};
use super::kernel_events::{Heard, KernelEvents, LookTime};
use super::snapshot::{Look, Snapshot, Targets};
use super::watch_points::Survey;

/// Paths can be replaced while they are followed. After as many rounds somebody does it on purpose,
/// and the next event brings the next chance.
const MOST_ROUNDS: usize = 10;

/// What is heard with, and what was heard before.
#[derive(Debug, Default)]
pub(super) struct WatchState {
    /// None where the kernel opens no queue; the next look tries again.
    listener: Option<KernelEvents>,
    memory: DigestCache,
}

impl WatchState {
    /// Lets the next look read every file.
    pub(super) fn doubt(&mut self) {
        self.memory.doubt();
    }

    /// Gives the queue up. The next look opens another one.
    pub(super) fn close_queue(&mut self) {
        self.listener = None;
    }

    /// The queue, if there is one.
    pub(super) fn fd(&self) -> Option<&Arc<OwnedFd>> {
        self.listener.as_ref().map(KernelEvents::fd)
    }

    /// Takes in the events there are, or many of them.
    pub(super) fn hear(&mut self) -> io::Result<Heard> {
        match &mut self.listener {
            Some(listener) => listener.hear(),
            None => Ok(Heard {
                look: LookTime::Unneeded,
                events: 0,
                is_all: true,
            }),
        }
    }

    /// Whether somebody is still at work as far as is known.
    pub(super) fn is_unsettled(&self) -> bool {
        self.listener
            .as_ref()
            .is_some_and(KernelEvents::is_unsettled)
    }

    /// It has been quiet for long enough.
    pub(super) fn settle(&mut self) {
        if let Some(listener) = &mut self.listener {
            listener.settle();
        }
    }
}

/// What a look brings back.
pub(super) struct LookResult {
    pub(super) watch_state: WatchState,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) gaps: Gaps,
}

impl LookResult {
    /// Listens first and reads then: what changes after the reading is heard.
    ///
    /// A symlink that is replaced between being followed and being listened to would go unheard, so
    /// the paths are followed until that leads to no new place.
    pub(super) fn take(
        mut watch_state: WatchState,
        targets: &Targets,
        earlier: Option<&Snapshot>,
    ) -> Self {
        let mut no_queue = None;
        if watch_state.listener.is_none() {
            match KernelEvents::new() {
                Ok(listener) => watch_state.listener = Some(listener),
                Err(error) => no_queue = Some(error.to_string()),
            }
        }
        let mut round = 0;
        let (survey, mut systems, mut gaps) = loop {
            let (mut systems, mut gaps) = (FileSystems::default(), Gaps::default());
            let survey = Survey::take(targets, &mut systems, &mut gaps);
            let fresh = match &mut watch_state.listener {
                Some(listener) => listener.listen(&survey.places, &mut gaps),
                None => false,
            };
            round += 1;
            if !fresh || round == MOST_ROUNDS {
                break (survey, systems, gaps);
            }
        };
        if let Some(error) = no_queue {
            gaps.add(None, GapCause::NoQueue { error });
        }
        survey.find_silent_places(&mut systems, &mut gaps);
        let look = Look {
            memory: &mut watch_state.memory,
            systems: &mut systems,
            gaps: &mut gaps,
            earlier,
        };
        let snapshot = Arc::new(Snapshot::take(targets, &survey, look));
        Self {
            watch_state,
            snapshot,
            gaps,
        }
    }
}

/// A look that is under way on another thread.
pub(super) struct PendingLook {
    looked: Offloaded<Option<LookResult>>,
    /// They come back by this way if the look does not take place.
    waiting: Arc<Mutex<Option<WatchState>>>,
}

impl PendingLook {
    pub(super) fn begin(
        watch_state: WatchState,
        targets: Arc<Targets>,
        earlier: Arc<Snapshot>,
    ) -> Self {
        let waiting = Arc::new(Mutex::new(Some(watch_state)));
        let place = Arc::clone(&waiting);
        let looked =
            offload(move || Some(LookResult::take(take(&place)?, &targets, Some(&earlier))));
        Self { looked, waiting }
    }

    /// The result, once.
    ///
    /// # Errors
    ///
    /// Why the look did not take place. The watch state is lost only if it broke off.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn end(&mut self) -> Result<LookResult, (Option<WatchState>, String)> {
        let error = match (&mut self.looked).await {
            Ok(Some(looked)) => return Ok(looked),
            Ok(None) => "the look was taken twice".to_owned(),
            Err(error @ OffloadError::NoThread(_)) => with_cause(&error),
            Err(error) => error.to_string(),
        };
        Err((take(&self.waiting), error))
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn take(place: &Mutex<Option<WatchState>>) -> Option<WatchState> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::super::watcher::WatchError;
    use super::*;

    /// A look that finds no watch state to look with.
    pub(in super::super) fn look_that_fails() -> PendingLook {
        PendingLook {
            looked: offload(|| None),
            waiting: Arc::default(),
        }
    }

    #[test]
    fn what_is_heard_is_unsettled_until_it_is_quiet_and_a_closed_queue_hears_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join("file")).unwrap();
        let targets = Targets {
            contents: vec![dir.path().into()],
            identities: Vec::new(),
        };
        let state = WatchState::default();
        assert!(state.fd().is_none() && !state.is_unsettled());
        let mut state = LookResult::take(state, &targets, None).watch_state;
        assert!(state.fd().is_some());
        assert_eq!(state.hear().unwrap().look, LookTime::Unneeded);
        assert!(!state.is_unsettled());
        file.write_all(b"a").unwrap();
        assert_eq!(state.hear().unwrap().look, LookTime::OnceQuiet);
        assert!(state.is_unsettled());
        state.settle();
        assert!(!state.is_unsettled());
        drop(file);
        state.close_queue();
        assert!(state.fd().is_none());
        assert_eq!(state.hear().unwrap().look, LookTime::Unneeded);
    }

    #[test]
    fn a_doubt_is_kept_until_the_next_look() {
        let targets = Targets {
            contents: Vec::new(),
            identities: Vec::new(),
        };
        let doubts = |state: &WatchState| format!("{:?}", state.memory).contains("doubts: true");
        let mut state = WatchState::default();
        assert!(!doubts(&state));
        state.doubt();
        assert!(doubts(&state));
        let state = LookResult::take(state, &targets, None).watch_state;
        assert!(!doubts(&state));
    }

    #[test]
    fn a_reason_is_told_with_its_cause() {
        let source = io::Error::other("gone");
        let path = "a".into();
        let error = WatchError::Path { path, source };
        assert_eq!(
            with_cause(&error),
            "could not find the full path of `a`: gone"
        );
        let alone = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(with_cause(&alone), alone.to_string());
    }

    /// Another queue would know nothing of what was heard before.
    #[tokio::test]
    async fn a_look_on_a_thread_gives_back_the_queue_that_it_was_given() {
        let targets = Arc::new(Targets {
            contents: Vec::new(),
            identities: Vec::new(),
        });
        let looked = LookResult::take(WatchState::default(), &targets, None);
        let queue = Arc::clone(looked.watch_state.fd().unwrap());
        let mut look = PendingLook::begin(looked.watch_state, targets, looked.snapshot);
        let looked = look.end().await.map_err(|(_, error)| error).unwrap();
        assert!(Arc::ptr_eq(looked.watch_state.fd().unwrap(), &queue));
    }
}
