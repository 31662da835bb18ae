//! What a look finds that another look has found a part of already.

use std::path::Path;
use std::time::Duration;

use handover_watch::Watcher;
use tokio::time::{sleep, timeout};

fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).expect("the directory is ours");
    std::fs::rename(beside, path).expect("the directory is ours");
}

/// Changes a file until a wait for its change is given up while a look is under way. The look has
/// ended when this returns.
async fn give_up_during_a_look(watcher: &mut Watcher, file: &Path) {
    let is_met = async {
        for round in 0.. {
            replace(file, &format!("round {round}"));
            // One that has ended by the next poll was not met under way, and a further round is needed.
            while timeout(Duration::ZERO, watcher.changed()).await.is_err() {
                if watcher.looking_for().is_some() {
                    return;
                }
                sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let met = timeout(Duration::from_secs(60), is_met).await;
    met.expect("a look is met under way");
    // It reads the files on a thread, and is done with them long before this.
    sleep(Duration::from_millis(300)).await;
}

/// A caller may give up waiting while a look is under way. The next look returns what both have found.
#[tokio::test]
async fn a_look_also_returns_the_paths_of_one_that_was_under_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    replace(&one, "first");
    replace(&other, "first");
    let mut watcher = Watcher::new([&one, &other]).expect("full paths");
    give_up_during_a_look(&mut watcher, &one).await;
    replace(&other, "second");
    let change = watcher.look().await.expect("both have changed");
    assert_eq!(change.paths, [one, other]);
}

/// The first look has ended, and the second one is given up.
#[tokio::test]
async fn a_look_that_is_given_up_keeps_what_the_one_before_it_has_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let one = dir.path().join("one");
    replace(&one, "first");
    let mut watcher = Watcher::new([&one]).expect("full paths");
    give_up_during_a_look(&mut watcher, &one).await;
    // One poll takes in the first look and begins the second. If that has ended by then, it returns
    // the change itself.
    let first = tokio::select! {
        biased;
        change = watcher.look() => change,
        () = std::future::ready(()) => None,
    };
    let change = match first {
        Some(change) => change,
        None => watcher.look().await.expect("it has changed"),
    };
    assert_eq!(change.paths, [one]);
}

/// A caller that is disturbed again and again got no look at all: each time it came back, another one was begun.
#[tokio::test]
async fn a_look_that_was_asked_for_is_the_same_one_however_often_the_wait_is_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let one = dir.path().join("one");
    replace(&one, "first");
    let mut watcher = Watcher::new([&one]).expect("full paths");
    for content in ["second", "third"] {
        replace(&one, content);
        watcher.request_look();
        // One poll begins the look, which ends on a thread meanwhile.
        let first = poll_once(watcher.requested_look()).await;
        sleep(Duration::from_millis(300)).await;
        let second = match first {
            Some(change) => Some(change),
            None => poll_once(watcher.requested_look()).await,
        };
        let change = second.expect("it has ended").expect("it has changed");
        assert_eq!(change.paths, std::slice::from_ref(&one));
        assert_eq!(poll_once(watcher.requested_look()).await, Some(None));
    }
}

async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}
