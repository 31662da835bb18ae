use std::fmt::Write as _;
use std::fs;
use std::sync::Mutex;

use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

use super::super::look::tests::look_that_fails;
use super::*;

/// Keeps the level and the sentence of each line that is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Sentence(String);

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, " {value:?}").unwrap();
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Sentence(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn lines(log: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), log);
    std::mem::take(&mut *lines.0.lock().unwrap())
}

fn gap(path: &str, why: GapCause) -> Gap {
    Gap {
        path: Some(path.into()),
        others: 0,
        why,
    }
}

fn silent() -> Gap {
    let file_system = "NFS";
    gap("/n", GapCause::NoEvents { file_system })
}

fn watcher() -> (tempfile::TempDir, Watcher) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "a").unwrap();
    let watcher = Watcher::new([dir.path().join("file")]).unwrap();
    (dir, watcher)
}

#[tokio::test]
async fn a_gap_is_logged_when_it_comes_and_when_it_goes() {
    let (_dir, mut watcher) = watcher();
    let mut told = |gaps: Vec<Gap>, rescan: Rescan| {
        watcher.gaps = gaps;
        watcher.rescan = rescan;
        lines(|| watcher.tell_gaps())
    };
    let in_gaps = Rescan::InGaps(Duration::from_secs(3));
    let silent_line = "the system does not report every change of `/n`, which is on NFS";
    let deep_line = "not watched: `/d`, more than 8 directories below a watched one";
    let deep = || gap("/d", GapCause::TooDeep);
    assert_eq!(told(vec![], in_gaps), [] as [&str; 0]);
    assert_eq!(
        told(vec![silent(), deep()], in_gaps),
        [
            format!("WARN {silent_line}; so the files are checked every 3s"),
            format!("WARN {deep_line}"),
        ]
    );
    assert_eq!(told(vec![silent(), deep()], in_gaps), [] as [&str; 0]);
    assert_eq!(
        told(vec![deep()], in_gaps),
        [format!("INFO this is over: {silent_line}")]
    );
    let missed = "such changes are missed, because the files are not checked at an interval";
    assert_eq!(
        told(vec![deep(), silent()], Rescan::Never),
        [format!("WARN {silent_line}; {missed}")]
    );
}

#[tokio::test]
async fn without_a_reason_the_files_are_not_looked_at() {
    let (_dir, mut watcher) = watcher();
    assert_eq!(watcher.looking_for(), None);
    let quiet = timeout(Duration::from_millis(100), watcher.wait_for_reason());
    assert!(quiet.await.is_err());
    // Files are read without a doubt only where a write can leave no trace.
    let second = Duration::from_millis(10);
    for (rescan, thoroughly) in [
        (Rescan::InGaps(second), false),
        (Rescan::Always(second), true),
    ] {
        watcher.gaps = vec![silent()];
        watcher.rescan = rescan;
        assert_eq!(watcher.wait_for_reason().await, thoroughly);
    }
}

#[tokio::test]
async fn a_look_that_does_not_take_place_is_told_once_and_tried_again_later() {
    let (_dir, mut watcher) = watcher();
    watcher.gaps = vec![silent()];
    for _ in 0..2 {
        let before = Instant::now();
        watcher.look = Some(look_that_fails());
        watcher.finish_look().await;
        let causes = watcher.gaps.iter().map(|gap| gap.why.clone());
        let error = "the look was taken twice".to_owned();
        let expected = [silent().why, GapCause::NotLooked { error }];
        assert_eq!(causes.collect::<Vec<_>>(), expected);
        let again = watcher.look_at.unwrap();
        assert!(again >= before + LOOK_AGAIN && again <= Instant::now() + LOOK_AGAIN);
    }
}

#[tokio::test]
async fn a_watcher_shows_what_it_watches() {
    let (dir, watcher) = watcher();
    let shown = format!("{watcher:?}");
    let file = dir.path().join("file");
    assert!(shown.contains(&format!("{file:?}")), "{shown}");
    assert_eq!(watcher.paths().collect::<Vec<_>>(), [file]);
}

#[tokio::test(start_paused = true)]
async fn a_directory_in_which_much_else_happens_is_listened_to_with_pauses() {
    let (dir, mut watcher) = watcher();
    // Equal events that follow each other would be one.
    for _ in 0..200 {
        for name in ["log", "other"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
    }
    let quiet = timeout(Duration::from_millis(1), watcher.wait_for_reason());
    assert!(quiet.await.is_err());
    let paused = watcher.pause.unwrap();
    fs::rename(dir.path().join("log"), dir.path().join("file")).unwrap();
    assert!(!watcher.wait_for_reason().await);
    assert!(Instant::now() >= paused);
    assert_eq!(watcher.pause, None);
}
