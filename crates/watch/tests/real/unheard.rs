//! Changes that no event of a watched directory reports, and limits of the kernel. What needs a mount
//! or a limit of its own has namespaces of its own; where the system allows none, such a test says so
//! in a line `SKIPPED <name>: <reason>`.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use handover_watch::{FileState, GapCause, Preview, Rescan, Watcher};

use super::watching::{LIMIT, changed, config, holds, replace, silent, until_holds};

/// Short, so that the tests are; long enough to tell an event from a look without one.
const INTERVAL: Duration = Duration::from_millis(100);

fn watch(path: &Path) -> Watcher {
    Watcher::new([path])
        .unwrap()
        .rescan(Rescan::InGaps(INTERVAL))
}

/// Fails unless every change is reported by the kernel, so that an idle watcher sleeps.
fn assert_all_is_heard(watcher: &Watcher) {
    assert_eq!(watcher.gaps(), []);
    assert_eq!(watcher.rescan_interval(), None);
}

async fn until_no_gap(watcher: &mut Watcher) {
    let patience = Instant::now() + LIMIT;
    while !watcher.gaps().is_empty() {
        assert!(Instant::now() < patience, "{:?}", watcher.gaps());
        let _silence = tokio::time::timeout(INTERVAL, watcher.changed()).await;
    }
}

fn causes(watcher: &Watcher) -> Vec<GapCause> {
    watcher.gaps().iter().map(|gap| gap.why.clone()).collect()
}

#[tokio::test]
async fn a_file_below_a_watched_directory_is_watched_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("certs/web")).unwrap();
    let cert = at("certs/web/cert.pem");
    fs::write(&cert, "a").unwrap();
    let mut watcher = watch(dir.path());
    assert!(holds(&watcher, &cert, "a"));
    assert_all_is_heard(&watcher);
    replace(&cert, "b");
    until_holds(&mut watcher, &cert, "b").await;
    // A directory that comes later, with its file written at once.
    fs::create_dir_all(at("later/still")).unwrap();
    let later = at("later/still/cert.pem");
    fs::write(&later, "c").unwrap();
    until_holds(&mut watcher, &later, "c").await;
    fs::write(&later, "d").unwrap();
    until_holds(&mut watcher, &later, "d").await;
    // It goes and comes back.
    fs::remove_dir_all(at("certs")).unwrap();
    while watcher.snapshot().files().contains_key(&cert) {
        changed(&mut watcher).await;
    }
    fs::create_dir_all(at("certs/web")).unwrap();
    fs::write(&cert, "e").unwrap();
    until_holds(&mut watcher, &cert, "e").await;
    assert_all_is_heard(&watcher);
}

/// As the kubelet lays out a volume with `items` whose paths have directories.
#[tokio::test]
async fn a_projected_volume_with_directories_is_followed_through_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let publish = |name: &str| {
        let data = at(&format!("..{name}"));
        fs::create_dir_all(data.join("tls")).unwrap();
        fs::write(data.join("tls/cert.pem"), name).unwrap();
        symlink(data, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    publish("1");
    symlink("..data/tls", at("tls")).unwrap();
    let cert = at("tls/cert.pem");
    let mut by_directory = watch(dir.path());
    let mut by_file = watch(&cert);
    for name in ["2", "3"] {
        publish(name);
        assert_eq!(changed(&mut by_directory).await.paths, [cert.as_path()]);
        assert!(holds(&by_directory, &cert, name));
        until_holds(&mut by_file, &cert, name).await;
    }
    assert_all_is_heard(&by_directory);
    assert_all_is_heard(&by_file);
}

#[tokio::test]
async fn a_file_with_two_names_is_heard_by_the_other_one() {
    let (dir, path) = config("a");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = elsewhere.path().join("other");
    fs::hard_link(&path, &other).unwrap();
    for watched in [path.as_path(), dir.path()] {
        let mut watcher = watch(watched);
        for contents in ["b", "c"] {
            fs::write(&other, contents).unwrap();
            until_holds(&mut watcher, &path, contents).await;
        }
        assert_all_is_heard(&watcher);
    }
}

#[tokio::test]
async fn one_bad_entry_keeps_nothing_from_being_seen_and_its_repair_is_a_change() {
    let (dir, good) = config("a");
    let at = |name: &str| dir.path().join(name);
    symlink("nowhere", at("dangling")).unwrap();
    symlink("self", at("self")).unwrap();
    symlink(".", at("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fifo(&at("fifo"));
    let mut watcher = watch(dir.path());
    let bad: Vec<_> = {
        let files = watcher.snapshot().files().iter();
        let bad = files.filter(|(_, state)| {
            matches!(state, FileState::Missing | FileState::Unreadable { .. })
        });
        bad.map(|(path, _)| path.clone()).collect()
    };
    assert_eq!(bad, [at("dangling"), at("self")]);
    replace(&good, "b");
    until_holds(&mut watcher, &good, "b").await;
    // Each repair.
    fs::write(at("nowhere"), "c").unwrap();
    until_holds(&mut watcher, &at("dangling"), "c").await;
    replace(&at("self"), "d");
    until_holds(&mut watcher, &at("self"), "d").await;
    assert_all_is_heard(&watcher);
}

/// A sparse file, which is above the limit by its size alone.
fn large(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(handover_watch::LARGEST_FILE + 1).unwrap();
}

#[tokio::test]
async fn a_file_that_is_too_large_to_be_read_is_told_by_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for watched in [dir.path(), &at("program")] {
        large(&at("program"));
        let mut watcher = watch(watched);
        assert_eq!(causes(&watcher), [GapCause::TooLarge]);
        assert_eq!(watcher.rescan_interval(), None, "the kernel reports it");
        // Replaced, and written in place.
        large(&at(".new"));
        fs::rename(at(".new"), at("program")).unwrap();
        let change = changed(&mut watcher).await;
        assert_eq!(
            (change.is_complete(), change.paths),
            (true, vec![at("program")])
        );
        let mut program = OpenOptions::new().append(true).open(at("program")).unwrap();
        program.write_all(b"more").unwrap();
        drop(program);
        assert_eq!(changed(&mut watcher).await.paths, [at("program")]);
        // A smaller one is read again.
        fs::write(at("program"), "small").unwrap();
        until_holds(&mut watcher, &at("program"), "small").await;
        assert_all_is_heard(&watcher);
    }
}

fn fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// To open a FIFO for reading would let a writer go on, and its reader would not be there.
#[tokio::test]
async fn a_writer_that_waits_at_a_fifo_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    fifo(&path);
    let writer = std::thread::spawn({
        let path = path.clone();
        move || OpenOptions::new().write(true).open(path).map(drop)
    });
    let mut watcher = Watcher::new([dir.path(), &path]).unwrap();
    assert!(matches!(
        &watcher.snapshot().files()[&path],
        FileState::Unreadable { reason } if reason.ends_with("is a FIFO, not a file")
    ));
    for _ in 0..20 {
        watcher.look().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!writer.is_finished(), "the writer was let go");
    }
    drop(File::open(&path).unwrap());
    writer.join().unwrap().unwrap();
}

/// The files of `/proc` change without an event, as those of a network file system do.
#[tokio::test]
async fn a_file_system_without_events_is_named_and_looked_at() {
    let path = Path::new("/proc/self/oom_score_adj");
    let before = fs::read_to_string(path).unwrap();
    let before: i32 = before.trim().parse().unwrap();
    let mut watcher = watch(path);
    assert_eq!(
        causes(&watcher),
        [GapCause::NoEvents {
            file_system: "proc"
        }]
    );
    assert_eq!(watcher.rescan_interval(), Some(INTERVAL));
    // The same setting by another file, which is no event for this one. To raise it is allowed.
    let other = format!("/proc/self/task/{}/oom_score_adj", std::process::id());
    let after = (before + 1).min(1000);
    fs::write(other, after.to_string()).unwrap();
    if after != before {
        until_holds(&mut watcher, path, &format!("{after}\n")).await;
    }
    // A file that gives an error of the device is an entry like any other.
    let dir = tempfile::tempdir().unwrap();
    symlink("/proc/self/mem", dir.path().join("bad")).unwrap();
    fs::write(dir.path().join("good"), "a").unwrap();
    let mut by_directory = watch(dir.path());
    let bad = &by_directory.snapshot().files()[&dir.path().join("bad")];
    assert!(matches!(bad, FileState::Unreadable { .. }), "{bad:?}");
    replace(&dir.path().join("good"), "b");
    until_holds(&mut by_directory, &dir.path().join("good"), "b").await;
    drop(by_directory);
    let mut unwatched = Watcher::new([path]).unwrap().rescan(Rescan::Never);
    assert_eq!(unwatched.rescan_interval(), None);
    silent(&mut unwatched).await;
}

#[tokio::test]
async fn a_directory_that_may_be_passed_but_not_read_hides_no_change_of_a_known_file() {
    let run = [
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--",
    ];
    let name = "a_directory_that_may_be_passed_but_not_read_hides_no_change_of_a_known_file";
    if !runs_inside(name, &run) {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("dir");
    fs::create_dir(&dir).unwrap();
    let path = dir.join("link");
    fs::write(dir.join("file"), "a").unwrap();
    symlink("file", &path).unwrap();
    // It can be passed and written, not listed.
    fs::set_permissions(&dir, Permissions::from_mode(0o300)).unwrap();
    assert!(fs::read_dir(&dir).is_err(), "this user reads everything");
    let mut watcher = watch(&path);
    assert_all_is_heard(&watcher);
    fs::write(dir.join("file"), "b").unwrap();
    until_holds(&mut watcher, &path, "b").await;
    replace(&dir.join("file"), "c");
    until_holds(&mut watcher, &path, "c").await;
    fs::write(dir.join("other"), "d").unwrap();
    symlink("other", dir.join("new")).unwrap();
    fs::rename(dir.join("new"), &path).unwrap();
    until_holds(&mut watcher, &path, "d").await;
    assert_all_is_heard(&watcher);
    // A file that is not there cannot be listened to, so it is looked for.
    fs::remove_file(dir.join("other")).unwrap();
    while watcher.snapshot().files()[&path] != FileState::Missing {
        changed(&mut watcher).await;
    }
    assert_eq!(watcher.rescan_interval(), Some(INTERVAL));
    fs::write(dir.join("other"), "e").unwrap();
    until_holds(&mut watcher, &path, "e").await;
    // Another directory in its place.
    fs::rename(&dir, outer.path().join("old")).unwrap();
    fs::create_dir(&dir).unwrap();
    replace(&path, "f");
    until_holds(&mut watcher, &path, "f").await;
    for dir in [&dir, &outer.path().join("old")] {
        fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
    }
}

/// The changes of a file that has one name are reported by its directory. Those of a file that has another name
/// as well are reported by the file alone, and only to a process that may read it.
#[tokio::test]
async fn a_file_that_may_not_be_read_is_a_gap_if_its_directory_does_not_report_every_change() {
    let run = [
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--",
    ];
    let name = "a_file_that_may_not_be_read_is_a_gap_if_its_directory_does_not_report_every_change";
    if !runs_inside(name, &run) {
        return;
    }
    let (dir, path) = config("a");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    assert!(File::open(&path).is_err(), "this user reads everything");
    assert_all_is_heard(&watch(&path));
    fs::hard_link(&path, dir.path().join("other")).unwrap();
    let found = causes(&watch(&path));
    assert!(matches!(found[..], [GapCause::Refused { .. }]), "{found:?}");
}

/// A look that finds no descriptor left says nothing of the files.
#[tokio::test]
async fn a_shortage_of_descriptors_is_no_change_and_passes_by_itself() {
    let name = "a_shortage_of_descriptors_is_no_change_and_passes_by_itself";
    if !runs_inside(name, &["env"]) {
        return;
    }
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (dir, path) = config("a");
    fs::create_dir(dir.path().join("below")).unwrap();
    fs::write(dir.path().join("below/file"), "a").unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    let mut watcher = Watcher::new([dir.path(), &path])
        .unwrap()
        .rescan(Rescan::InGaps(INTERVAL));
    let before = watcher.snapshot().clone();
    let limits = getrlimit(Resource::Nofile);
    let none_left = Rlimit {
        current: Some(3),
        maximum: limits.maximum,
    };
    setrlimit(Resource::Nofile, none_left).unwrap();
    assert_eq!(watcher.look().await, None);
    assert_eq!(*watcher.snapshot(), before);
    assert!(
        causes(&watcher)
            .iter()
            .all(|why| matches!(why, GapCause::NotRead { .. })),
        "{:?}",
        watcher.gaps()
    );
    assert_eq!(watcher.rescan_interval(), Some(INTERVAL));
    setrlimit(Resource::Nofile, limits).unwrap();
    until_no_gap(&mut watcher).await;
    replace(&path, "b");
    until_holds(&mut watcher, &path, "b").await;
}

/// As `docker run -v ./envoy.yaml:/etc/envoy.yaml`, and an editor on the host.
#[tokio::test]
async fn one_bind_mounted_file_is_heard_where_it_comes_from() {
    if !runs_in_namespaces("one_bind_mounted_file_is_heard_where_it_comes_from") {
        return;
    }
    let (dir, path) = config("");
    let host = tempfile::tempdir().unwrap();
    let source = host.path().join("source");
    fs::write(&source, "a").unwrap();
    command(
        "mount",
        [OsStr::new("--bind"), source.as_ref(), path.as_ref()],
    );
    let mounted = |path: &Path| Preview::of([path]).unwrap().mounted_files;
    assert_eq!(mounted(&path), [path.as_path()]);
    assert_eq!(mounted(&source), [] as [&Path; 0]);
    for watched in [path.as_path(), dir.path()] {
        let mut watcher = watch(watched);
        for contents in ["b", "c"] {
            fs::write(&source, contents).unwrap();
            until_holds(&mut watcher, &path, contents).await;
        }
        assert_all_is_heard(&watcher);
    }
    // Replaced on the host by rename: the mount shows the old file, and nothing can change that.
    let mut watcher = watch(&path);
    replace(&source, "d");
    let patience = Instant::now() + LIMIT;
    while watcher.gaps().is_empty() {
        assert!(Instant::now() < patience, "nothing is said of the old file");
        let _silence = tokio::time::timeout(INTERVAL, watcher.changed()).await;
    }
    assert_eq!(causes(&watcher), [GapCause::OldFileMounted]);
    assert_eq!(watcher.rescan_interval(), None);
    command("umount", [&path]);
    command(
        "mount",
        [OsStr::new("--bind"), source.as_ref(), path.as_ref()],
    );
    until_holds(&mut watcher, &path, "d").await;
    assert_all_is_heard(&watcher);
    command("umount", [&path]);
}

#[tokio::test]
async fn a_mount_over_the_file_or_its_directory_is_seen_and_so_is_its_end() {
    if !runs_in_namespaces("a_mount_over_the_file_or_its_directory_is_seen_and_so_is_its_end") {
        return;
    }
    let (dir, path) = config("a");
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("config"), "b").unwrap();
    let mut watcher = watch(&path);
    for (from, to) in [
        (host.path().join("config"), path.as_path()),
        (host.path().to_path_buf(), dir.path()),
    ] {
        command("mount", [OsStr::new("--bind"), from.as_ref(), to.as_ref()]);
        until_holds(&mut watcher, &path, "b").await;
        command("umount", [to]);
        until_holds(&mut watcher, &path, "a").await;
    }
    // A link into a directory that is mounted later, and one below a watched directory.
    fs::create_dir_all(dir.path().join("volume/deep")).unwrap();
    symlink("volume/deep/config", dir.path().join("link")).unwrap();
    let link = dir.path().join("link");
    let below = dir.path().join("volume/deep/config");
    let mut by_link = watch(&link);
    let mut by_directory = watch(dir.path());
    let bind = [OsStr::new("--bind"), host.path().as_ref()];
    let volume = dir.path().join("volume/deep");
    command("mount", bind.into_iter().chain([volume.as_ref()]));
    until_holds(&mut by_link, &link, "b").await;
    until_holds(&mut by_directory, &below, "b").await;
    command("umount", [&volume]);
    drop((by_link, by_directory));
    // A file system of its own, which ends.
    let tmpfs = ["-t", "tmpfs", "none"].map(OsStr::new);
    command("mount", tmpfs.into_iter().chain([dir.path().as_ref()]));
    while watcher.snapshot().files()[&path] != FileState::Missing {
        changed(&mut watcher).await;
    }
    fs::write(&path, "c").unwrap();
    until_holds(&mut watcher, &path, "c").await;
    command("umount", [dir.path()]);
    until_holds(&mut watcher, &path, "a").await;
    assert_all_is_heard(&watcher);
}

#[tokio::test]
async fn at_the_limit_of_watches_the_files_are_looked_at_until_it_is_raised() {
    if !runs_in_namespaces("at_the_limit_of_watches_the_files_are_looked_at_until_it_is_raised") {
        return;
    }
    let (_dir, path) = config("a");
    limit("watches", 1);
    let mut watcher = watch(&path);
    assert_eq!(causes(&watcher), [GapCause::TooManyWatches]);
    replace(&path, "b");
    until_holds(&mut watcher, &path, "b").await;
    limit("watches", 1000);
    until_no_gap(&mut watcher).await;
    assert_all_is_heard(&watcher);
    replace(&path, "c");
    until_holds(&mut watcher, &path, "c").await;
}

#[tokio::test]
async fn without_a_queue_of_events_the_files_are_looked_at_until_there_is_one() {
    if !runs_in_namespaces("without_a_queue_of_events_the_files_are_looked_at_until_there_is_one") {
        return;
    }
    let (_dir, path) = config("a");
    limit("instances", 0);
    let mut watcher = watch(&path);
    assert!(
        matches!(causes(&watcher)[..], [GapCause::NoQueue { .. }]),
        "{:?}",
        watcher.gaps()
    );
    replace(&path, "b");
    until_holds(&mut watcher, &path, "b").await;
    limit("instances", 10);
    until_no_gap(&mut watcher).await;
    replace(&path, "c");
    until_holds(&mut watcher, &path, "c").await;
    assert_all_is_heard(&watcher);
}

/// What was heard counts, although a further watch is refused.
#[tokio::test]
async fn a_change_is_acted_on_even_if_what_it_leads_to_cannot_be_watched() {
    if !runs_in_namespaces("a_change_is_acted_on_even_if_what_it_leads_to_cannot_be_watched") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["old", "new"] {
        fs::create_dir_all(at(name).join("deep")).unwrap();
        fs::write(at(name).join("deep/config"), name).unwrap();
    }
    symlink("old", at("link")).unwrap();
    let path = at("link/deep/config");
    let mut watcher = Watcher::new([&path]).unwrap().rescan(Rescan::Never);
    // Lowering it takes no watch away.
    limit("watches", 1);
    symlink("new", at("link2")).unwrap();
    fs::rename(at("link2"), at("link")).unwrap();
    assert_eq!(changed(&mut watcher).await.paths, [path.as_path()]);
    assert!(holds(&watcher, &path, "new"));
    assert_eq!(causes(&watcher), [GapCause::TooManyWatches]);
}

fn limit(what: &str, number: u32) {
    let path = format!("/proc/sys/user/max_inotify_{what}");
    fs::write(path, number.to_string()).unwrap();
}

fn command(program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program}: {status}");
}

/// Whether this process has namespaces of its own for users and mounts. If not, it has run the test
/// in a process that has.
fn runs_in_namespaces(name: &str) -> bool {
    let run = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--propagation",
        "private",
        "--",
    ];
    runs_inside(name, &run)
}

/// Set in the process that such a program has started.
const INSIDE: &str = "HANDOVER_TEST_INSIDE";

/// Whether this process was started by these words. If not, it has run the test in one that was.
fn runs_inside(name: &str, words: &[&str]) -> bool {
    if env::var_os(INSIDE).is_some_and(|inside| inside == *name) {
        return true;
    }
    let [program, args @ ..] = words else {
        return true;
    };
    let inside = || {
        let mut command = Command::new(program);
        command.args(args).env(INSIDE, name);
        command
    };
    let tried = inside().arg("true").output();
    let refused = match &tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = refused {
        // In one piece, because the harness writes beside it.
        let line = format!("SKIPPED unheard::{name}: {program}: {why}\n");
        io::stderr().write_all(line.as_bytes()).unwrap();
        return false;
    }
    let output = inside()
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("unheard::{name}"), "--nocapture"])
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "inside: {}\n{text}", output.status);
    assert!(text.contains("1 passed"), "it did not run inside:\n{text}");
    false
}
