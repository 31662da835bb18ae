use super::*;
use std::fs;

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
    };
    fs::write(paths.proc.join("net/unix"), table).unwrap();
    let fd = sub("proc/4711/fd");
    std::os::unix::fs::symlink("socket:[500]", fd.join("3")).unwrap();
    Host { paths, _dir: dir }
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
    assert_eq!((first.id().get(), second.id().get()), (1, 2));
    let error = OwnedBaseId::claim(explicit(2), "third", &paths).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "base id 2 is owned by second (pid {}): stop that one, or use another base id",
            std::process::id()
        )
    );
    drop(second);
    OwnedBaseId::claim(explicit(2), "third", &paths).unwrap();
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
    let picked = OwnedBaseId::claim(BaseIdChoice::Auto, "us", &paths).unwrap();
    assert_eq!(picked.id().get(), 2);
    // A refused claim leaves no lock behind.
    let locks: Vec<_> = fs::read_dir(&paths.locks).unwrap().collect();
    assert_eq!(locks.len(), 1);
}

#[test]
fn auto_prefers_one_without_shared_memory() {
    let Host { paths, _dir } = host(&[]);
    for number in 10..=10_000 {
        if number % 10 == 0 && number != 7770 {
            fs::write(
                paths
                    .shared_memory
                    .join(format!("envoy_shared_memory_{number}")),
                "",
            )
            .unwrap();
        }
    }
    let fresh = OwnedBaseId::claim(BaseIdChoice::Auto, "a", &paths).unwrap();
    assert_eq!(fresh.id().get(), 777);
    let stale = OwnedBaseId::claim(BaseIdChoice::Auto, "b", &paths).unwrap();
    assert_eq!(stale.id().get(), 1);
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
