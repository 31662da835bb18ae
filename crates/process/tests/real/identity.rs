//! A child as another user, with capabilities, and with another limit of open files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use handover_process::{Command, RunAs, Signal, SpawnError};
use rustix::process::{Resource, geteuid, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::skipping::skipped;
use super::support::{Recorder, helper_path, in_time, run};

const NOBODY: u32 = 65534;

/// Whether this process may make children of other users.
fn may_change_user(test: &str) -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
    let may = geteuid().is_root() && capabilities(None).unwrap().effective.contains(needed);
    if !may {
        skipped(test, "only root may start children of other users");
    }
    may
}

/// The helper, in a directory that every user can pass.
fn public_helper() -> (tempfile::TempDir, Command) {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("helper");
    fs::copy(helper_path(), &copy).unwrap();
    (dir, Command::new(copy).arg("identity"))
}

fn assert_values(told: &Recorder, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(told.value(name).as_deref(), Some(*value), "{name}");
    }
}

const NO_CAPABILITY: &str = "0000000000000000";

#[tokio::test]
async fn another_user_has_its_groups_and_no_capability_and_ends_with_the_supervisor() {
    if !may_change_user(
        "another_user_has_its_groups_and_no_capability_and_ends_with_the_supervisor",
    ) {
        return;
    }
    let (_dir, command) = public_helper();
    let run_as = RunAs::new()
        .user(NOBODY, 4711)
        .supplementary_groups([7, 12]);
    run_as.check().unwrap();
    let term = Signal::TERM.number().to_string();
    let told = run(command.run_as(run_as)).await;
    assert_values(
        &told,
        &[
            ("Uid", "65534 65534 65534 65534"),
            ("Gid", "4711 4711 4711 4711"),
            ("Groups", "7 12"),
            ("CapInh", NO_CAPABILITY),
            ("CapPrm", NO_CAPABILITY),
            ("CapEff", NO_CAPABILITY),
            ("CapAmb", NO_CAPABILITY),
            ("death-signal", &term),
            ("stdout", "opened"),
        ],
    );
}

#[tokio::test]
async fn a_user_without_supplementary_groups_has_none_of_the_supervisor() {
    if !may_change_user("a_user_without_supplementary_groups_has_none_of_the_supervisor") {
        return;
    }
    let (_dir, command) = public_helper();
    let told = run(command.run_as(RunAs::new().user(NOBODY, NOBODY))).await;
    assert_values(&told, &[("Groups", "")]);
}

#[tokio::test]
async fn a_named_capability_is_kept_and_no_other() {
    if !may_change_user("a_named_capability_is_kept_and_no_other") {
        return;
    }
    let (_dir, command) = public_helper();
    let kept = "net_bind_service".parse().unwrap();
    let run_as = RunAs::new().user(NOBODY, NOBODY).capabilities(kept);
    run_as.check().unwrap();
    let term = Signal::TERM.number().to_string();
    let told = run(command.run_as(run_as)).await;
    let bind = "0000000000000400";
    assert_values(
        &told,
        &[
            ("Uid", "65534 65534 65534 65534"),
            ("CapInh", bind),
            ("CapPrm", bind),
            ("CapEff", bind),
            ("CapAmb", bind),
            ("death-signal", &term),
        ],
    );
}

#[tokio::test]
async fn a_program_that_the_user_may_not_execute_is_named_with_the_user() {
    if !may_change_user("a_program_that_the_user_may_not_execute_is_named_with_the_user") {
        return;
    }
    let (dir, command) = public_helper();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    let command = command.run_as(RunAs::new().user(NOBODY, NOBODY));
    let error = in_time(command.spawn()).await.unwrap_err();
    assert!(
        matches!(error, SpawnError::NotExecutableBy { user: NOBODY, .. }),
        "{error}"
    );
    assert!(error.is_permanent());
}

/// One that the supervisor does not have cannot be kept.
#[tokio::test]
async fn a_capability_that_the_kernel_refuses_is_told() {
    let own = capabilities(None).unwrap().permitted;
    let Some(lacking) = ["sys_boot", "mac_admin", "sys_resource", "sys_module"]
        .into_iter()
        .zip([
            CapabilitySet::SYS_BOOT,
            CapabilitySet::MAC_ADMIN,
            CapabilitySet::SYS_RESOURCE,
            CapabilitySet::SYS_MODULE,
        ])
        .find_map(|(name, set)| (!own.contains(set)).then_some(name))
    else {
        return skipped(
            "a_capability_that_the_kernel_refuses_is_told",
            "this process has every capability",
        );
    };
    let run_as = RunAs::new().capabilities(lacking.parse().unwrap());
    let command = Command::new(helper_path()).arg("identity").run_as(run_as);
    let error = in_time(command.spawn()).await.unwrap_err();
    assert!(matches!(error, SpawnError::RunAs { .. }), "{error}");
    assert!(error.is_permanent());
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_set_up_to_the_hard_one() {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit
        .maximum
        .map_or("unlimited".to_owned(), |it| it.to_string());
    let told = run(Command::new(helper_path()).arg("identity").open_files(64)).await;
    assert_values(&told, &[("open-files", &format!("64 {hard}"))]);
    let told = run(Command::new(helper_path())
        .arg("identity")
        .open_files(u64::MAX))
    .await;
    assert_values(&told, &[("open-files", &format!("{hard} {hard}"))]);
    // Ours stays.
    assert_eq!(getrlimit(Resource::Nofile), limit);
}
