//! Files that change in every way files do.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use handover_watch::{Change, Digest, FileState, Rescan, Watcher};
use tempfile::TempDir;

use super::skipping::skipped;

/// No test takes longer, however busy the machine is.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// Longer than the watcher takes to report anything, 50 ms, by a good margin.
const SILENCE: Duration = Duration::from_millis(300);

/// A directory with a file `config` in it.
pub(crate) fn config(contents: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    fs::write(&path, contents).unwrap();
    (dir, path)
}

pub(crate) fn replace(path: &Path, contents: &str) {
    let new = path.with_extension("new");
    fs::write(&new, contents).unwrap();
    fs::rename(new, path).unwrap();
}

pub(crate) async fn changed(watcher: &mut Watcher) -> Change {
    tokio::time::timeout(LIMIT, watcher.changed())
        .await
        .expect("no change was reported")
}

pub(crate) async fn silent(watcher: &mut Watcher) {
    let change = tokio::time::timeout(SILENCE, watcher.changed()).await;
    assert!(change.is_err(), "{change:?}");
}

pub(crate) fn holds(watcher: &Watcher, path: &Path, contents: &str) -> bool {
    let expected = Digest::of(contents.as_bytes());
    matches!(
        watcher.snapshot().files().get(path),
        Some(FileState::Present { digest, .. }) if *digest == expected
    )
}

/// Goes on until the path holds the contents; several reports may come first.
pub(crate) async fn until_holds(watcher: &mut Watcher, path: &Path, contents: &str) {
    while !holds(watcher, path, contents) {
        changed(watcher).await;
    }
}

#[tokio::test]
async fn a_look_sees_what_was_not_told_yet_and_it_is_not_told_again() {
    let (_dir, path) = config("a");
    let mut watcher = Watcher::new([&path]).unwrap();
    assert!(watcher.look().await.is_none());
    replace(&path, "b");
    let change = watcher.look().await.expect("a change");
    assert_eq!(change.paths, std::slice::from_ref(&path));
    assert!(holds(&watcher, &path, "b"));
    silent(&mut watcher).await;
    // What comes afterwards is told as ever.
    replace(&path, "c");
    until_holds(&mut watcher, &path, "c").await;
}

#[tokio::test]
async fn a_rename_over_the_file_is_reported_without_delay() {
    let (_dir, path) = config("a");
    let mut watcher = Watcher::new([&path]).unwrap();
    let mut fastest = LIMIT;
    for round in 0..20 {
        let contents = format!("round {round}");
        let new = path.with_extension("new");
        fs::write(&new, &contents).unwrap();
        let start = Instant::now();
        fs::rename(&new, &path).unwrap();
        let change = changed(&mut watcher).await;
        fastest = fastest.min(start.elapsed());
        assert_eq!(change.paths, [path.as_path()]);
        assert!(change.is_complete());
        assert_eq!(change.digest, watcher.snapshot().digest());
        assert!(holds(&watcher, &path, &contents));
    }
    // A fixed delay would show in the best of twenty, a busy machine would not.
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

#[tokio::test]
async fn a_thousand_touches_are_no_change() {
    let (_dir, path) = config("a");
    let mut watcher = Watcher::new([&path]).unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    let touching = async {
        for round in 0..1000 {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(round);
            file.set_modified(time).unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        change = watcher.changed() => panic!("{change:?}"),
        () = touching => {}
    }
    drop(file);
    replace(&path, "a");
    fs::write(&path, "a").unwrap();
    silent(&mut watcher).await;
    replace(&path, "b");
    changed(&mut watcher).await;
}

#[tokio::test]
async fn after_many_renames_the_last_contents_are_what_is_seen() {
    let (_dir, path) = config("a");
    let mut watcher = Watcher::new([&path]).unwrap();
    let writer = {
        let path = path.clone();
        std::thread::spawn(move || {
            for round in 0..200 {
                replace(&path, &format!("round {round}"));
            }
        })
    };
    until_holds(&mut watcher, &path, "round 199").await;
    writer.join().unwrap();
    silent(&mut watcher).await;
}

#[tokio::test]
async fn a_writer_in_place_is_waited_for_until_it_closes_the_file() {
    let (_dir, path) = config("old");
    let mut watcher = Watcher::new([&path]).unwrap();
    let mut file = File::create(&path).unwrap();
    file.write_all(b"new ").unwrap();
    // Far less than the quiet period, and the event for the write is taken in meanwhile.
    let early = tokio::time::timeout(Duration::from_millis(5), watcher.changed()).await;
    assert!(early.is_err(), "{early:?}");
    file.write_all(b"contents").unwrap();
    drop(file);
    changed(&mut watcher).await;
    assert!(holds(&watcher, &path, "new contents"));
}

#[tokio::test]
async fn a_writer_that_keeps_the_file_open_is_seen_once_it_is_quiet() {
    let (_dir, path) = config("old");
    let mut watcher = Watcher::new([&path]).unwrap();
    let mut file = File::create(&path).unwrap();
    file.write_all(b"new").unwrap();
    changed(&mut watcher).await;
    assert!(holds(&watcher, &path, "new"));
    file.write_all(b"er").unwrap();
    changed(&mut watcher).await;
    assert!(holds(&watcher, &path, "newer"));
}

/// What Kubernetes makes of a `ConfigMap`: a generation is a directory of its own, and one rename
/// of a symlink switches all files at once.
struct ConfigMap {
    dir: TempDir,
    generation: u32,
}

impl ConfigMap {
    fn new(contents: &str) -> Self {
        let mut map = Self {
            dir: tempfile::tempdir().unwrap(),
            generation: 0,
        };
        map.publish(contents);
        for file in ["a.yaml", "b.yaml"] {
            symlink(Path::new("..data").join(file), map.path(file)).unwrap();
        }
        map
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn publish(&mut self, contents: &str) {
        self.generation += 1;
        let generation = format!("..2026_{}", self.generation);
        fs::create_dir(self.path(&generation)).unwrap();
        for file in ["a.yaml", "b.yaml"] {
            fs::write(self.path(&generation).join(file), contents).unwrap();
        }
        symlink(&generation, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        let old = self.path(&format!("..2026_{}", self.generation - 1));
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }
}

#[tokio::test]
async fn a_config_map_that_is_published_anew_is_one_change() {
    let mut map = ConfigMap::new("first");
    let (a, b) = (map.path("a.yaml"), map.path("b.yaml"));
    let mut by_file = Watcher::new([&a]).unwrap();
    let mut by_directory = Watcher::new([map.dir.path()]).unwrap();
    for round in 0..5 {
        let contents = format!("round {round}");
        map.publish(&contents);
        assert_eq!(changed(&mut by_file).await.paths, [a.as_path()]);
        assert!(holds(&by_file, &a, &contents));
        let change = changed(&mut by_directory).await;
        assert_eq!(change.paths, [a.clone(), b.clone()]);
        assert!(holds(&by_directory, &b, &contents));
    }
    silent(&mut by_file).await;
    silent(&mut by_directory).await;
}

#[tokio::test]
async fn a_file_that_goes_is_missing_and_one_that_comes_back_is_a_change() {
    let (_dir, path) = config("a");
    let mut watcher = Watcher::new([&path]).unwrap();
    for contents in ["b", "c"] {
        fs::remove_file(&path).unwrap();
        let change = changed(&mut watcher).await;
        assert_eq!(change.missing, [path.as_path()]);
        assert!(!change.is_complete());
        fs::write(&path, contents).unwrap();
        until_holds(&mut watcher, &path, contents).await;
    }
}

#[tokio::test]
async fn an_editor_that_moves_the_old_file_away_makes_one_change() {
    let (_dir, path) = config("a");
    let mut watcher = Watcher::new([&path]).unwrap();
    fs::rename(&path, path.with_extension("bak")).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(5), watcher.changed()).await;
    assert!(early.is_err(), "{early:?}");
    fs::write(&path, "b").unwrap();
    let change = changed(&mut watcher).await;
    assert!(change.is_complete());
    assert!(holds(&watcher, &path, "b"));
}

/// Half a terabyte would take minutes to read. Each way a program is replaced is seen.
#[tokio::test]
async fn a_large_program_is_told_by_its_identity_and_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["old", "new", "other"] {
        let file = File::create(at(name)).unwrap();
        file.set_len(1 << 39).unwrap();
    }
    symlink("old", at("program")).unwrap();
    let none: [&Path; 0] = [];
    let mut watcher = Watcher::with_identities(none, [at("program")]).unwrap();
    let identity = |watcher: &Watcher| match watcher.snapshot().files().get(&at("program")) {
        Some(FileState::Unread { identity, size }) => {
            assert_eq!(*size, 1 << 39);
            *identity
        }
        other => panic!("{other:?}"),
    };
    let mut seen = vec![identity(&watcher)];
    let mut follow = async |watcher: &mut Watcher| {
        let change = changed(watcher).await;
        assert_eq!(change.paths, [at("program")]);
        assert!(change.is_complete());
        let identity = identity(watcher);
        assert!(!seen.contains(&identity));
        seen.push(identity);
    };
    // The link is switched.
    symlink("new", at("link")).unwrap();
    fs::rename(at("link"), at("program")).unwrap();
    follow(&mut watcher).await;
    // What it leads to is replaced.
    fs::rename(at("other"), at("new")).unwrap();
    follow(&mut watcher).await;
    // It may be executed from here on.
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(at("new"), executable).unwrap();
    follow(&mut watcher).await;
    fs::set_permissions(at("new"), fs::metadata(at("new")).unwrap().permissions()).unwrap();
    silent(&mut watcher).await;
    fs::remove_file(at("new")).unwrap();
    assert_eq!(changed(&mut watcher).await.missing, [at("program")]);
}

#[tokio::test]
async fn a_path_that_does_not_exist_yet_is_awaited_with_its_directories() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/yet/config");
    let mut watcher = Watcher::new([&path]).unwrap();
    assert_eq!(watcher.snapshot().files()[&path], FileState::Missing);
    fs::create_dir(dir.path().join("not")).unwrap();
    silent(&mut watcher).await;
    fs::create_dir(dir.path().join("not/yet")).unwrap();
    fs::write(&path, "a").unwrap();
    until_holds(&mut watcher, &path, "a").await;
}

#[tokio::test]
async fn a_directory_above_that_is_replaced_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, contents) in [("app", "a"), ("other", "b")] {
        fs::create_dir_all(at(name).join("etc")).unwrap();
        fs::write(at(name).join("etc/config"), contents).unwrap();
    }
    let path = at("app").join("etc/config");
    let mut watcher = Watcher::new([&path]).unwrap();
    fs::rename(at("app"), at("old")).unwrap();
    fs::rename(at("other"), at("app")).unwrap();
    until_holds(&mut watcher, &path, "b").await;
    // What was moved away matters no more; what took its place does.
    replace(&at("old").join("etc/config"), "c");
    silent(&mut watcher).await;
    replace(&path, "d");
    changed(&mut watcher).await;
    assert!(holds(&watcher, &path, "d"));
}

#[tokio::test]
async fn a_directory_is_its_files_and_not_what_editors_leave_in_it() {
    let (dir, path) = config("a");
    let mut watcher = Watcher::new([dir.path()]).unwrap();
    fs::write(dir.path().join(".config.swp"), "x").unwrap();
    fs::write(dir.path().join("config~"), "x").unwrap();
    fs::create_dir(dir.path().join("below")).unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join(".git/file"), "x").unwrap();
    silent(&mut watcher).await;

    let more = dir.path().join("more");
    replace(&more, "b");
    assert_eq!(changed(&mut watcher).await.paths.last(), Some(&more));
    fs::remove_file(&path).unwrap();
    let change = changed(&mut watcher).await;
    assert_eq!(change.paths, [path]);
    assert!(
        change.is_complete(),
        "it is no part of the directory any more"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_watched_on() {
    let (_dir, path) = config("a");
    let mut watcher = Watcher::new([&path]).unwrap();
    fs::remove_file(&path).unwrap();
    symlink("config", &path).unwrap();
    let change = changed(&mut watcher).await;
    assert_eq!(change.unreadable.len(), 1, "{change:?}");
    assert!(
        change.unreadable[0].contains("could not read"),
        "{change:?}"
    );

    fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    assert_eq!(changed(&mut watcher).await.missing, [path.as_path()]);
    // The target of the symlink appears.
    fs::write(path.with_file_name("nowhere"), "b").unwrap();
    until_holds(&mut watcher, &path, "b").await;

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    while watcher.snapshot().files()[&path] != FileState::Directory {
        changed(&mut watcher).await;
    }
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "c").unwrap();
    until_holds(&mut watcher, &path, "c").await;
}

#[tokio::test]
async fn more_events_than_the_queue_holds_lose_no_change() {
    let (dir, path) = config("a");
    let mut watcher = Watcher::new([&path]).unwrap();
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue: u32 = queue.trim().parse().unwrap();
    if queue > 100_000 {
        let test = "watching::more_events_than_the_queue_holds_lose_no_change";
        let why = format!("this machine queues {queue} events, too many to fill the queue");
        return skipped(test, &why);
    }
    // Two names in turn, since the kernel merges equal neighbours.
    let others = ["x", "y"].map(|name| dir.path().join(name));
    for _ in 0..queue / 4 + 1 {
        for other in &others {
            fs::write(other, "").unwrap();
        }
    }
    // The queue is full, so this event is among the lost ones.
    replace(&path, "b");
    changed(&mut watcher).await;
    assert!(holds(&watcher, &path, "b"));
}

#[tokio::test]
async fn a_change_that_no_event_tells_is_found_by_looking_again() {
    let (_dir, path) = config("a");
    let map = File::options().read(true).write(true).open(&path).unwrap();
    let mut watcher = Watcher::new([&path])
        .unwrap()
        .rescan(Rescan::Always(Duration::from_millis(20)));
    write_through_memory(&map, b'b');
    changed(&mut watcher).await;
    assert!(holds(&watcher, &path, "b"));
}

/// The kernel tells nobody of this.
#[expect(unsafe_code, reason = "a memory map has no safe interface")]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one map, made, used and unmade"
)]
fn write_through_memory(file: &File, byte: u8) {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    // SAFETY: the file has one byte at least, and the map is used for that byte only.
    unsafe {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        let map = mmap(std::ptr::null_mut(), 1, flags, MapFlags::SHARED, file, 0).unwrap();
        map.cast::<u8>().write(byte);
        munmap(map, 1).unwrap();
    }
}

#[tokio::test]
async fn a_wait_that_is_dropped_at_any_point_loses_nothing() {
    let (_dir, path) = config("a");
    let mut watcher = Watcher::new([&path]).unwrap();
    let patience = Instant::now() + LIMIT;
    for round in 0..50 {
        let contents = format!("round {round}");
        replace(&path, &contents);
        while !holds(&watcher, &path, &contents) {
            assert!(Instant::now() < patience, "{contents} was never seen");
            tokio::select! {
                biased;
                change = watcher.changed() => drop(change),
                // The wait is polled once and dropped, wherever it is.
                () = tokio::task::yield_now() => {}
            }
        }
    }
}
