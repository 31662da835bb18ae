//! A look at files that something waits for, and for how long it is waited for.

use std::path::Path;
use std::time::Duration;

use handover_runtime::time_limit::Limit;
use handover_watch::{Change, Watcher};
use tokio::time::Instant;
use tracing::warn;

/// How long a look may take that something waits for, before what was seen earlier counts.
pub(crate) const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// A look that something waits for, if there is one.
///
/// The wait is given up for everything else that happens in the loop of the supervisor. So the look and its limit
/// are kept here and in the watcher: neither begins again.
#[derive(Debug, Default)]
pub(crate) struct DueLook {
    /// When it is waited for no longer.
    limit: Option<Limit>,
}

impl DueLook {
    /// Asks for a look that begins after this moment. The limit of one that is waited for already stays.
    pub(crate) fn request(&mut self, watcher: Option<&mut Watcher>) {
        if let Some(watcher) = watcher {
            watcher.request_look();
        }
        let in_time = || Limit::at(Instant::now() + LOOK_LIMIT);
        self.limit.get_or_insert_with(in_time);
    }

    /// Returns whether a look is waited for.
    pub(crate) fn is_due(&self) -> bool {
        self.limit.is_some()
    }

    /// Waits for the look that is due, and returns what it has found. After the limit, what was seen earlier
    /// counts; this is logged, and `files` are what is looked at.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call goes on with the same look and the same limit.
    pub(crate) async fn ended(&mut self, watcher: &mut Watcher, files: &str) -> Option<Change> {
        let Some(limit) = &mut self.limit else {
            return None;
        };
        let change = tokio::select! {
            biased;
            change = watcher.requested_look() => change,
            () = limit.passed() => {
                warn!("{}", too_slow(files, watcher.paths()));
                None
            }
        };
        self.limit = None;
        change
    }
}

/// What is logged of a look that takes too long.
fn too_slow(files: &str, mut paths: impl Iterator<Item = impl AsRef<Path>>) -> String {
    let first = paths
        .next()
        .map(|path| format!(" (`{}`", path.as_ref().display()));
    let more = match (&first, paths.count()) {
        (None, _) => String::new(),
        (Some(_), 0) => ")".to_owned(),
        (Some(_), more) => format!(" and {more} more)"),
    };
    let first = first.unwrap_or_default();
    format!(
        "the {files}{first}{more} could not be read within {LOOK_LIMIT:?}, so what was seen of them before \
         counts: check that their file system answers, a network mount for example"
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc;

    use handover_runtime::offload::{Offloaded, offload};
    use tokio::time::timeout;

    use super::*;

    /// Keeps every thread for blocking work busy while it lives, as a file system without an answer does.
    pub(crate) struct Hanging {
        _release: Vec<mpsc::Sender<()>>,
        _work: Vec<Offloaded<()>>,
    }

    impl Hanging {
        pub(crate) fn begin() -> Self {
            let (mut senders, mut work) = (Vec::new(), Vec::new());
            // More than there are threads.
            for _ in 0..64 {
                let (sender, receiver) = mpsc::channel::<()>();
                senders.push(sender);
                work.push(offload(move || {
                    // It ends when the sender is dropped.
                    let _ended = receiver.recv();
                }));
            }
            Self {
                _release: senders,
                _work: work,
            }
        }
    }

    /// The time until it is done, although something else happens every 100 ms.
    pub(crate) async fn disturbed<T>(mut wait: impl AsyncFnMut() -> T) -> (T, Duration) {
        let started = Instant::now();
        while started.elapsed() < LOOK_LIMIT * 3 {
            if let Ok(done) = timeout(Duration::from_millis(100), wait()).await {
                return (done, started.elapsed());
            }
        }
        panic!("the wait has no end");
    }

    #[tokio::test(start_paused = true)]
    async fn another_request_puts_the_limit_of_the_first_one_off_by_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::new([dir.path().join("file")]).unwrap();
        let _hanging = Hanging::begin();
        let mut look = DueLook::default();
        let ((), took) = disturbed(async || {
            look.request(Some(&mut watcher));
            look.ended(&mut watcher, "files").await;
        })
        .await;
        assert!(took >= LOOK_LIMIT && took < LOOK_LIMIT * 2, "{took:?}");
        assert!(!look.is_due());
    }

    #[test]
    fn a_look_that_takes_too_long_is_told_with_its_files() {
        let told = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
            too_slow("watched files", paths.iter())
        };
        insta::assert_snapshot!(
            [told(&[]), told(&["/a"]), told(&["/a", "/b", "/c"])].join("\n"),
            @r"
        the watched files could not be read within 5s, so what was seen of them before counts: check that their file system answers, a network mount for example
        the watched files (`/a`) could not be read within 5s, so what was seen of them before counts: check that their file system answers, a network mount for example
        the watched files (`/a` and 2 more) could not be read within 5s, so what was seen of them before counts: check that their file system answers, a network mount for example
        "
        );
    }
}
