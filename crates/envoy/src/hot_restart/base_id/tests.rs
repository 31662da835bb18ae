use super::*;
use std::fs;
use std::path::PathBuf;

struct Host {
    paths: HostPaths,
    _dir: tempfile::TempDir,
}

/// A host of files, on which these names are bound.
fn host(bound: &[&str]) -> Host {
    let dir = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap();
    let sub = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    sub("proc/net");
    sub("proc/self-is-no-pid");
    let mut table = "Num       RefCount Protocol Flags    Type St Inode Path\n".to_owned();
    for (number, name) in bound.iter().enumerate() {
        table += &format!(
            "0000000000000000: 00000002 00000000 00000000 0002 01 {:5} {name}\n",
            500 + number
        );
    }
    let paths = HostPaths {
        locks: sub("locks"),
        shared_memory: sub("shm"),
        proc: sub("proc"),
        claims: claims(&dir),
    };
    fs::write(paths.proc.join("net/unix"), table).unwrap();
    let fd = sub("proc/4711/fd");
    std::os::unix::fs::symlink("socket:[500]", fd.join("3")).unwrap();
    Host { paths, _dir: dir }
}

/// A beginning of names that no other test uses.
fn claims(dir: &tempfile::TempDir) -> String {
    let name = dir.path().file_name().unwrap().to_str().unwrap();
    format!("{name}-")
}

fn memory(paths: &HostPaths, number: u32) -> PathBuf {
    let id = BaseId::new(number).unwrap();
    let memory = SharedMemory::in_dir(&paths.shared_memory, id);
    memory.path().to_owned()
}

/// What an owner of this name leaves when it is killed.
fn left_by(name: &str, number: u32, paths: &HostPaths) {
    let lock = paths.locks.join(format!("base-id-{number}.lock"));
    fs::write(lock, format!("{name} (pid 4711)\n")).unwrap();
    fs::write(memory(paths, number), "left").unwrap();
}

fn locks(paths: &HostPaths) -> Vec<String> {
    let entries = fs::read_dir(&paths.locks).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn explicit(number: u32) -> BaseIdChoice {
    BaseIdChoice::Explicit(BaseId::new(number).unwrap())
}

#[test]
fn numbers_that_would_wrap_around_are_refused() {
    assert_eq!(BaseId::new(429_496_729), Ok(BaseId::MAX));
    let error = BaseId::new(429_496_730).unwrap_err();
    assert!(
        error.to_string().ends_with("the highest is 429496729"),
        "{error}"
    );
    assert_eq!(BaseId::MAX.tenfold(), 4_294_967_290);
}

#[test]
fn an_owned_one_is_refused_with_the_owner_and_skipped_by_auto() {
    let Host { paths, _dir } = host(&[]);
    let first = OwnedBaseId::claim(BaseIdChoice::Auto, "first", &paths).unwrap();
    let second = OwnedBaseId::claim(BaseIdChoice::Auto, "second", &paths).unwrap();
    assert_ne!(first.id(), second.id());
    let taken = BaseIdChoice::Explicit(second.id());
    let error = OwnedBaseId::claim(taken, "third", &paths).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "base id {} is owned by second (pid {}): stop that one, or use another base id",
            second.id(),
            std::process::id()
        )
    );
    drop(second);
    OwnedBaseId::claim(taken, "third", &paths).unwrap();
}

#[test]
fn a_foreign_envoy_is_refused_with_its_pid_and_skipped_by_auto() {
    let Host { paths, _dir } = host(&[
        "@envoy_domain_socket_parent_12@@@@@@",
        "@envoy_domain_socket_udp_child_30@@@@@@",
        "@envoy_domain_socket_parent_x",
        "/run/envoy_domain_socket_parent_20",
    ]);
    let error = OwnedBaseId::claim(explicit(1), "us", &paths).unwrap_err();
    assert_eq!(
        error.to_string(),
        "base id 1 is in use by an Envoy with pid 4711 (@envoy_domain_socket_parent_12 is bound): \
         stop that one, or use another base id"
    );
    let error = OwnedBaseId::claim(explicit(3), "us", &paths).unwrap_err();
    assert!(
        error.to_string().contains("of another user or container"),
        "{error}"
    );
    // Of 1 to 3, which have no memory, only 2 is free.
    for number in 4..=1_000 {
        fs::write(memory(&paths, number), "").unwrap();
    }
    let picked = OwnedBaseId::claim(BaseIdChoice::Auto, "us", &paths).unwrap();
    assert_eq!(picked.id().get(), 2);
    // A refused claim leaves no lock behind.
    let locks: Vec<_> = fs::read_dir(&paths.locks).unwrap().collect();
    assert_eq!(locks.len(), 1);
}

#[test]
fn auto_prefers_one_without_shared_memory() {
    let Host { paths, _dir } = host(&[]);
    for number in (1..=1_000).filter(|number| *number != 777) {
        fs::write(memory(&paths, number), "").unwrap();
    }
    let fresh = OwnedBaseId::claim(BaseIdChoice::Auto, "a", &paths).unwrap();
    assert_eq!(fresh.id().get(), 777);
    let stale = OwnedBaseId::claim(BaseIdChoice::Auto, "b", &paths).unwrap();
    assert!(stale.remove_stale_shared_memory().unwrap());
    assert!(!stale.remove_stale_shared_memory().unwrap());
}

#[test]
fn shared_memory_of_a_running_envoy_is_not_removed() {
    let Host { paths, _dir } = host(&[]);
    let owned = OwnedBaseId::claim(explicit(5), "us", &paths).unwrap();
    fs::write(owned.shared_memory().path(), "x").unwrap();
    fs::write(
        paths.proc.join("net/unix"),
        "0000000000000000: 00000002 00000000 00000000 0002 01 77777 @envoy_domain_socket_child_51@@\n",
    )
    .unwrap();
    let error = owned.remove_stale_shared_memory().unwrap_err();
    assert!(matches!(error, BaseIdError::InUse { .. }), "{error}");
    assert!(owned.shared_memory().path().exists());
}

#[test]
fn what_cannot_be_looked_at_is_named() {
    let Host { mut paths, _dir } = host(&[]);
    fs::remove_file(paths.proc.join("net/unix")).unwrap();
    let error = OwnedBaseId::claim(explicit(5), "us", &paths).unwrap_err();
    assert!(matches!(error, BaseIdError::Sockets { .. }), "{error}");
    paths.locks.push("missing");
    let error = OwnedBaseId::claim(BaseIdChoice::Auto, "us", &paths).unwrap_err();
    assert!(matches!(error, BaseIdError::Lock { .. }), "{error}");
}

#[test]
fn an_agent_that_was_killed_finds_its_own_base_ids_again_and_those_of_no_other() {
    let Host { paths, _dir } = host(&[]);
    // It had replaced an Envoy side by side just then, so it had two.
    left_by("front", 500, &paths);
    left_by("front", 1_234_567, &paths);
    left_by("front proxy", 400, &paths);
    let again = OwnedBaseId::claim(BaseIdChoice::Auto, "front", &paths).unwrap();
    assert_eq!(again.id().get(), 500);
    assert!(!memory(&paths, 1_234_567).exists());
    assert_eq!(locks(&paths), ["base-id-400.lock", "base-id-500.lock"]);
    assert!(again.remove_stale_shared_memory().unwrap());
    assert!(memory(&paths, 400).exists(), "it is not ours");
    drop(again);
    // A clean end is no reason to come back.
    assert_eq!(locks(&paths), ["base-id-400.lock"]);
}

#[test]
fn two_agents_of_one_name_do_not_take_each_other_for_dead() {
    let Host { paths, _dir } = host(&[]);
    let one = OwnedBaseId::claim(BaseIdChoice::Auto, "front", &paths).unwrap();
    fs::write(one.shared_memory().path(), "used").unwrap();
    let two = OwnedBaseId::claim(BaseIdChoice::Auto, "front", &paths).unwrap();
    assert_ne!(one.id(), two.id());
    assert!(one.shared_memory().path().exists());
    let three = OwnedBaseId::claim(explicit(7), "front", &paths).unwrap();
    assert_eq!(three.id().get(), 7);
    assert_eq!(locks(&paths).len(), 3);
}

#[test]
fn an_explicit_base_id_is_kept_to_and_other_leftovers_are_removed() {
    let Host { paths, _dir } = host(&[]);
    left_by("front", 7, &paths);
    left_by("front", 500, &paths);
    let owned = OwnedBaseId::claim(explicit(7), "front", &paths).unwrap();
    assert_eq!(locks(&paths), ["base-id-7.lock"]);
    assert!(!memory(&paths, 500).exists());
    assert!(memory(&paths, 7).exists(), "its turn comes later");
    assert!(owned.remove_stale_shared_memory().unwrap());
}

#[test]
fn a_leftover_that_an_envoy_still_uses_is_left_alone() {
    let Host { paths, _dir } = host(&["@envoy_domain_socket_parent_5000@@"]);
    left_by("front", 500, &paths);
    let other = OwnedBaseId::claim(BaseIdChoice::Auto, "front", &paths).unwrap();
    assert_ne!(other.id().get(), 500);
    assert!(memory(&paths, 500).exists());
    // The next owner finds it after the end of this one.
    assert!(locks(&paths).contains(&"base-id-500.lock".to_owned()));
}

#[test]
fn an_explicit_base_id_is_taken_once_the_envoy_of_its_dead_owner_has_ended() {
    let Host { paths, _dir } = host(&["@envoy_domain_socket_parent_5000@@"]);
    left_by("front", 500, &paths);
    // That of somebody else is refused at once.
    let refused = OwnedBaseId::claim(explicit(500), "other", &paths).unwrap_err();
    assert!(matches!(refused, BaseIdError::InUse { .. }), "{refused}");
    left_by("front", 500, &paths);
    let table = paths.proc.join("net/unix");
    let ending = thread::spawn(move || {
        thread::sleep(LOOK_AGAIN * 3);
        fs::write(table, "").unwrap();
    });
    let owned = OwnedBaseId::claim(explicit(500), "front", &paths).unwrap();
    assert_eq!(owned.id().get(), 500);
    ending.join().unwrap();
}

#[test]
fn agents_begin_their_search_at_places_of_their_own() {
    let Host { paths, _dir } = host(&[]);
    let ids: BTreeSet<_> = (0..20)
        .map(|number| {
            let owned = OwnedBaseId::claim(BaseIdChoice::Auto, &format!("agent {number}"), &paths);
            owned.unwrap().id()
        })
        .collect();
    // Each is free again before the next one looks: only another beginning makes a difference.
    assert!(ids.len() > 10, "{ids:?}");
}

#[test]
fn what_would_be_picked_is_told_and_nothing_changed() {
    let Host { paths, _dir } = host(&[]);
    let would = || OwnedBaseId::would_pick("front", &paths).unwrap();
    let first = would();
    assert!(locks(&paths).is_empty());
    let claim = || OwnedBaseId::claim(BaseIdChoice::Auto, "front", &paths).unwrap();
    let one = claim();
    assert_eq!(one.id(), first);
    let second = would();
    assert_ne!(second, first, "the first has an owner");
    assert_eq!(claim().id(), second);
    left_by("front", 500, &paths);
    left_by("front", 400, &paths);
    assert_eq!(would().get(), 400);
    assert!(memory(&paths, 400).exists() && memory(&paths, 500).exists());
    assert_eq!(locks(&paths).len(), 3);
    assert_eq!(claim().id().get(), 400);
}
