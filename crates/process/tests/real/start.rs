//! Starting a child, and every way in which that fails.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_process::{Command, ExitCause, Signal, SpawnError};

use super::skipping::skipped;
use super::support::{helper, in_time, run};

async fn refused(command: Command) -> SpawnError {
    in_time(command.spawn()).await.unwrap_err()
}

fn file(dir: &Path, contents: &[u8], mode: u32) -> PathBuf {
    let path = dir.join("program");
    std::fs::write(&path, contents).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[tokio::test]
async fn the_exit_code_is_told_every_time_it_is_asked_for() {
    for code in [0, 1, 127, 255] {
        let child = helper(&["exit", &code.to_string()]).spawn().await.unwrap();
        let (one, other) = in_time(async { tokio::join!(child.wait(), child.wait()) }).await;
        assert_eq!(one.unwrap(), ExitCause::Code(code));
        assert_eq!(other.unwrap(), ExitCause::Code(code));
        assert_eq!(child.try_wait().unwrap(), Some(ExitCause::Code(code)));
    }
}

#[tokio::test]
async fn the_memory_of_a_child_is_told_until_it_ends() {
    let child = Command::new("sleep").arg("60").spawn().await.unwrap();
    // At first it has hardly a page of its own.
    let grown = async {
        loop {
            let bytes = child.resident_bytes().expect("it runs");
            assert!(bytes % 4096 == 0, "{bytes}");
            if bytes > 100_000 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time(grown).await;
    in_time(child.kill()).await.unwrap();
    assert_eq!(child.resident_bytes(), None);
}

#[tokio::test]
async fn a_core_file_is_told() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.starts_with(['|', '/', '@']) {
        let why = "core files of this machine go elsewhere";
        return skipped("start::a_core_file_is_told", why);
    }
    let dir = tempfile::tempdir().unwrap();
    let command = helper(&["abort-with-core"]).current_dir(dir.path());
    let child = command.spawn().await.unwrap();
    let shown = format!("Child {{ pid: {}, .. }}", child.pid());
    assert_eq!(format!("{child:?}"), shown);
    let cause = in_time(child.wait()).await.unwrap();
    let core_dumped = true;
    let number = "ABRT".parse::<Signal>().unwrap().number();
    assert_eq!(
        cause,
        ExitCause::Signal {
            number,
            core_dumped
        }
    );
}

#[tokio::test]
async fn a_program_that_cannot_run_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let spawn = |path: &Path| refused(Command::new(path));

    let error = refused(Command::new("no-such-program").env("PATH", "/nowhere")).await;
    assert!(matches!(&error, SpawnError::NotInPath { path, .. } if path == "/nowhere"));
    assert!(error.is_permanent());

    let error = spawn(&dir.path().join("missing")).await;
    assert!(matches!(error, SpawnError::NotFound { .. }), "{error}");
    let error = spawn(dir.path()).await;
    assert!(matches!(error, SpawnError::IsDirectory { .. }), "{error}");
    let error = spawn(&file(dir.path(), b"", 0o644)).await;
    assert!(matches!(error, SpawnError::NotExecutable { .. }), "{error}");
    let error = spawn(&file(dir.path(), b"neither binary nor script", 0o755)).await;
    assert!(matches!(error, SpawnError::ExecFormat { .. }), "{error}");
    let error = spawn(&file(dir.path(), b"#!/no/such/interpreter\n", 0o755)).await;
    assert!(
        matches!(error, SpawnError::InterpreterMissing { .. }),
        "{error}"
    );

    let path = file(dir.path(), b"#!/bin/sh\n", 0o755);
    let writer = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    let copy = Command::new(&path).spawn();
    let error = in_time(copy).await.unwrap_err();
    assert!(matches!(error, SpawnError::Busy { .. }), "{error}");
    assert!(!error.is_permanent());
    drop(writer);
}

#[tokio::test]
async fn surroundings_that_cannot_be_are_refused_before_anything_runs() {
    let error = refused(helper(&["sleep"]).current_dir("/no/such/directory")).await;
    let SpawnError::WorkingDirectory { path, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(path, Path::new("/no/such/directory"));

    let error = refused(helper(&["sleep"]).arg("a\0b")).await;
    assert_eq!(error.to_string(), "argument 2 holds a NUL byte");
    let error = refused(helper(&["sleep"]).env("A=B", "x")).await;
    assert!(matches!(error, SpawnError::VariableName { .. }), "{error}");
    let error = refused(helper(&["sleep"]).env("A", "x\0")).await;
    assert_eq!(error.to_string(), "the variable `A` holds a NUL byte");
    let long = "x".repeat(3 * 1024 * 1024);
    let error = refused(helper(&["sleep"]).arg(long)).await;
    assert!(
        matches!(error, SpawnError::ArgumentsTooLong { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn the_child_gets_its_own_group_and_clean_signals() {
    let told = run(helper(&["describe"])).await;
    let pid = told.value("pid").unwrap();
    assert_eq!(told.value("group"), Some(pid));
    assert_eq!(told.value("SigBlk").unwrap().trim_start_matches('0'), "");
    assert_eq!(
        told.value("death").unwrap(),
        Signal::TERM.number().to_string()
    );
    // Rust's runtime ignores SIGPIPE in this program and, by itself, again in the helper.
    let ignored = u64::from_str_radix(&told.value("SigIgn").unwrap(), 16).unwrap();
    assert_eq!(ignored & !(1 << 12), 0);
}

#[tokio::test]
async fn the_environment_is_the_supervisors_with_the_changes_asked_for() {
    let told = run(helper(&["describe"]).env("EXTRA", "1").epoch(7)).await;
    assert_eq!(told.value("EXTRA").unwrap(), "1");
    assert_eq!(told.value("RESTART_EPOCH").unwrap(), "7");
    assert_eq!(told.value("PATH"), std::env::var("PATH").ok());
    let told = run(helper(&["describe"]).env("EXTRA", "1").env_remove("PATH")).await;
    assert_eq!(told.value("PATH"), None);
    let told = run(helper(&["describe"]).env("EXTRA", "1").env_clear()).await;
    assert_eq!(told.value("EXTRA"), None);
    assert_eq!(told.value("PATH"), None);
}

#[tokio::test]
async fn what_speaks_to_the_supervisor_is_kept_from_the_child() {
    let names = [
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "NOTIFY_SOCKET",
        "READY_FD",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ];
    let mut supervisor = helper(&["describe-child"]).env("EXTRA", "1").epoch(3);
    for name in names {
        supervisor = supervisor.env(name, "1");
    }
    let told = run(supervisor).await;
    assert_eq!(told.value("stdin").unwrap(), "/dev/null");
    assert_eq!(told.value("EXTRA").unwrap(), "1");
    for name in names.into_iter().chain(["RESTART_EPOCH"]) {
        assert_eq!(told.value(name), None, "{name}");
    }
}

#[tokio::test]
async fn the_working_directory_is_the_one_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let told = run(helper(&["describe"]).current_dir(dir.path())).await;
    let real = dir.path().canonicalize().unwrap();
    assert_eq!(told.value("directory").unwrap(), real.to_str().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_start_children_at_the_same_time() {
    let tasks: Vec<_> = (0..40)
        .map(|code| {
            tokio::spawn(async move {
                let child = helper(&["exit", &code.to_string()]).spawn().await.unwrap();
                assert_eq!(child.wait().await.unwrap(), ExitCause::Code(code));
            })
        })
        .collect();
    for task in tasks {
        in_time(task).await.unwrap();
    }
}
