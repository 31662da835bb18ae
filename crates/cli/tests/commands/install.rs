//! `handover install`: a copy for the container that has none.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{handover, output_of, skipped, stderr, stdout};

fn install(directory: &Path) -> Output {
    output_of(["install", directory.to_str().unwrap()])
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

fn temporary() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("handover-").tempdir().unwrap()
}

#[test]
fn the_copy_runs_and_replaces_an_older_one_in_one_step() {
    let directory = temporary();
    let volume = directory.path().join("a/volume");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join(".handover-install-killed"), "half").unwrap();
    for round in ["into nothing", "over an older one"] {
        let output = install(&volume);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{round}: {}",
            stderr(&output)
        );
        let copy = volume.join("handover");
        let told = format!(
            "installed {} ({})",
            copy.display(),
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(stdout(&output).trim_end(), told);
        assert_eq!(names_in(&volume), ["handover"], "{round}");
        let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        let version = Command::new(&copy).arg("--version").output().unwrap();
        assert_eq!(stdout(&version), stdout(&output_of(["--version"])));
        // What is there next time is no program, and is a link to elsewhere.
        let elsewhere = directory.path().join("elsewhere");
        std::fs::write(&elsewhere, "precious").unwrap();
        std::fs::remove_file(&copy).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &copy).unwrap();
        let output = install(&volume);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    }
}

#[test]
fn a_copy_of_a_program_that_was_replaced_meanwhile_is_of_the_one_that_runs() {
    let directory = temporary();
    let first = directory.path().join("first");
    install(&first);
    // A copy makes a copy, after its own file is gone.
    let own = first.join("handover");
    let mut later = Command::new("sh");
    later.args([
        "-c",
        "exec 3<$1; rm $1; exec /proc/self/fd/3 install $2",
        "sh",
    ]);
    later.arg(&own).arg(directory.path().join("second"));
    let output = later.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!own.exists());
    let second = directory.path().join("second/handover");
    let version = Command::new(second).arg("--version").output().unwrap();
    assert_eq!(version.status.code(), Some(0));
}

#[test]
fn what_cannot_be_written_is_named_and_leaves_nothing() {
    let directory = temporary();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir_all(directory.path().join("taken/handover/in")).unwrap();
    for (place, named) in [
        (file, "file/handover`"),
        (directory.path().join("taken"), "taken/handover`"),
        // No file can be made there, not even by root.
        ("/proc/self".into(), "/proc/self/handover`"),
    ] {
        let output = install(&place);
        assert_eq!(output.status.code(), Some(71), "{}", place.display());
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
    }
    assert_eq!(names_in(&directory.path().join("taken")), ["handover"]);
    for words in [&["install"][..], &["install", ""]] {
        let output = handover(words).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{words:?}");
    }
}

#[test]
fn a_copy_that_cannot_be_executed_leaves_the_older_one() {
    let directory = temporary();
    let test = "install::a_copy_that_cannot_be_executed_leaves_the_older_one";
    let own = env!("CARGO_BIN_EXE_handover");
    let script = format!(
        "mount -t tmpfs -o noexec tmpfs {place} && cd {place} && echo old > handover || exit 1
         {own} install {place}; code=$?
         cat handover; ls -A; exit $code",
        place = directory.path().display()
    );
    let may = Command::new("unshare").args(["-rm", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        skipped(test, "no mount namespace can be made here");
        return;
    }
    let mut command = Command::new("unshare");
    let output = command.args(["-rm", "sh", "-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(126), "{}", stderr(&output));
    assert!(stderr(&output).contains("noexec"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "old\nhandover\n", "the older copy stays");
}
