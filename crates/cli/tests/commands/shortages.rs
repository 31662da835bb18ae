//! Too few processes, descriptors, or bytes on a disk: what serves goes on, the message names what is
//! short, and what was not done is done once there is room.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use handover_test_support::control_group::{Group, JOIN};
use handover_test_support::stranger::Stranger;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::control::Place;
use crate::support::{Running, eventually, exec_script, finish, handover, replace, stderr};

/// Sets a limit of a running process, in the words of `prlimit`.
#[track_caller]
pub(crate) fn limit(running: &Running, words: &str) {
    let pid = running.pid().to_string();
    let mut prlimit = Command::new("prlimit");
    let status = prlimit.args(["--pid", &pid, words]).status().unwrap();
    assert!(status.success(), "{words}");
}

/// How many descriptors a process has open.
pub(crate) fn descriptors_of(running: &Running) -> usize {
    let path = format!("/proc/{}/fd", running.pid());
    std::fs::read_dir(path).unwrap().count()
}

/// Lets this process have so many descriptors, if it may.
pub(crate) fn allow_descriptors(number: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < number) {
        let current = limit.maximum.map_or(number, |most| most.min(number));
        let current = Some(current);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    }
}

/// A directory that everybody can enter, with a file to watch.
fn watched() -> (tempfile::TempDir, std::path::PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "0").unwrap();
    (dir, file)
}

const BINARY: &str = env!("CARGO_BIN_EXE_handover");

#[test]
fn with_no_process_left_a_change_waits_and_what_serves_goes_on() {
    let test = "commands::shortages::with_no_process_left_a_change_waits_and_what_serves_goes_on";
    let Some(stranger) = Stranger::new(test, &[Path::new(BINARY)]) else {
        return;
    };
    let (_dir, file) = watched();
    let watch = format!("--watch={}", file.display());
    let words = [
        BINARY,
        "exec",
        &watch,
        "--live-after",
        "20ms",
        "--retry-max-interval",
        "200ms",
    ];
    let retries = ["--max-retries", "2"];
    let program = ["--", "sleep", "600"];
    let mut running = Running::start(&mut stranger.run([&words[..], &retries, &program].concat()));
    running.says("epoch 0 is live");
    stranger.limit(running.pid(), "--nproc=1:");
    replace(&file, "1");
    let why = running.says("epoch 1 failed: ");
    assert!(why.contains("RLIMIT_NPROC"), "{why}");
    // The retries are soon spent, but a shortage is not the fault of what is desired.
    running.says("is tried again later");
    assert_eq!(running.stderr.count("epoch 0 ended"), 0);
    stranger.limit(running.pid(), "--nproc=1000:");
    running.says("epoch 1 is live");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
    assert_eq!(running.stderr.count("panicked"), 0);
}

#[test]
fn without_a_process_at_the_start_it_ends_with_the_name_of_the_limit() {
    let test =
        "commands::shortages::without_a_process_at_the_start_it_ends_with_the_name_of_the_limit";
    let Some(stranger) = Stranger::new(test, &[Path::new(BINARY)]) else {
        return;
    };
    let words = ["prlimit", "--nproc=1", BINARY, "exec", "--", "sleep", "600"];
    let output = finish(&mut stranger.run(words));
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(71), "{error}");
    assert!(error.contains("RLIMIT_NPROC"), "{error}");
}

#[test]
fn with_few_descriptors_at_the_start_it_says_so_and_never_panics() {
    // Below six the dynamic loader does not even find the libraries.
    for number in 6..26 {
        let nofile = format!("--nofile={number}:{number}");
        let mut command = Command::new("prlimit");
        command.args([&nofile, BINARY, "exec", "--listen", "127.0.0.1:0"]);
        command.args([
            "--max-retries",
            "0",
            "--on-exit",
            "stop",
            "--live-after",
            "1ms",
        ]);
        command.args(["--", "true"]).env("HANDOVER_SOCKET", "none");
        let output = finish(&mut command);
        let error = stderr(&output);
        match output.status.code().unwrap() {
            0 => {}
            69 | 71 => assert!(
                error.contains("RLIMIT_NOFILE") || error.contains("limit of open files"),
                "{number}: {error}"
            ),
            other => panic!("{number}: {other}: {error}"),
        }
    }
}

/// The words that render a template.
fn rendering(file: &Path) -> [&str; 6] {
    let file = file.to_str().unwrap();
    [
        BINARY,
        "validate",
        "--print",
        "--template",
        "--config-path",
        file,
    ]
}

#[test]
fn with_few_descriptors_a_template_is_not_called_wrong() {
    let (_dir, file) = watched();
    let mut rendered = 0;
    for number in 6..40 {
        let nofile = format!("--nofile={number}:{number}");
        let mut command = Command::new("prlimit");
        command.arg(&nofile).args(rendering(&file));
        let output = finish(&mut command);
        let error = stderr(&output);
        match output.status.code().unwrap() {
            0 => rendered += 1,
            71 => {}
            other => panic!("{number}: {other}: {error}"),
        }
    }
    assert!(rendered > 0);
}

#[test]
fn with_few_processes_a_template_is_not_called_wrong() {
    let test = "commands::shortages::with_few_processes_a_template_is_not_called_wrong";
    let Some(stranger) = Stranger::new(test, &[Path::new(BINARY)]) else {
        return;
    };
    let (_dir, file) = watched();
    let mut codes = Vec::new();
    for number in 1..12 {
        let nproc = format!("--nproc={number}");
        let words = [&["prlimit", &nproc][..], &rendering(&file)].concat();
        let output = finish(&mut stranger.run(words));
        let error = stderr(&output);
        let code = output.status.code().unwrap();
        assert!(code == 0 || code == 71, "{number}: {code}: {error}");
        if code == 71 {
            let names_it = ["RLIMIT_NPROC", "limit of processes"];
            assert!(
                names_it.iter().any(|it| error.contains(it)),
                "{number}: {error}"
            );
        }
        codes.push(code);
        // Whatever it had started counts for the next one until it is collected, and process 1 may never do that.
        assert_eq!(stranger.processes(), [] as [u32; 0], "{number}: {error}");
    }
    assert!(codes.contains(&0) && codes.contains(&71), "{codes:?}");
}

#[test]
fn no_process_is_left_to_process_1() {
    let test = "commands::shortages::no_process_is_left_to_process_1";
    let Some(stranger) = Stranger::new(test, &[Path::new(BINARY)]) else {
        return;
    };
    let none: [u32; 0] = [];
    let exec = [BINARY, "exec", "--live-after", "0s"];
    for (flags, program, code) in [
        (&["--on-exit", "stop"][..], "exit 0", 0),
        (&["--max-retries", "0"], "exit 3", 69),
        (&["--stop", "KILL@0s"], "exec sleep 600", 0),
    ] {
        let words = [&exec[..], flags, &["--", "sh", "-c", program]].concat();
        let mut running = Running::start(&mut stranger.run(words));
        if code == 0 && program != "exit 0" {
            running.says("epoch 0 is live");
            running.signal(Signal::TERM);
        }
        assert_eq!(running.code(), code, "{program}");
        assert_eq!(stranger.processes(), none, "{program}");
    }
}

#[test]
fn with_no_descriptor_left_a_change_waits_and_what_serves_goes_on() {
    let (_dir, file) = watched();
    let watch = format!("--watch={}", file.display());
    let flags = [&watch, "--live-after", "20ms", "--max-retries", "1"];
    let mut running = exec_script(&flags.map(AsRef::as_ref), "exec sleep 600");
    running.says("epoch 0 is live");
    let open = descriptors_of(&running);
    limit(&running, &format!("--nofile={open}:"));
    replace(&file, "1");
    running.says("Too many open files");
    running.signal(Signal::HUP);
    running.says("is tried again later");
    assert_eq!(running.stderr.count("epoch 0 ended"), 0);
    limit(&running, &format!("--nofile={}:", open + 100));
    running.says("epoch 1 is live");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
}

#[test]
fn a_log_on_a_full_disk_ends_nothing() {
    let place = Place::new();
    let mark = place.path("mark");
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let script = format!(
        "echo out; echo err >&2; trap 'echo drained > {}; exit 0' TERM; while :; do sleep 0.05; done",
        mark.display()
    );
    let mut command = handover(["exec", "--live-after", "20ms", &place.flag("a.sock")]);
    command.args(["--", "sh", "-c", &script]);
    let mut child = command.stdout(full()).stderr(full()).spawn().unwrap();
    let live = || {
        place
            .ask(&["status"])
            .stdout
            .contains("is live")
            .then_some(())
    };
    eventually("a live epoch", live);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    eventually("the end", || child.try_wait().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(Path::new(&mark).exists());
}

/// `exec` with a program that takes 60 MB, in a control group that has 20 MB left once it serves.
fn greedy_in(group: &Group, file: &Path, guard: &str) -> Running {
    // A later one takes less, which nobody can know before.
    let script = "[ $RESTART_EPOCH = 0 ] && x=$(head -c 60000000 /dev/zero | tr '\\0' x); \
                  echo ready; sleep 600 & wait";
    let watch = format!("--watch={}", file.display());
    let flags = ["--live-after", "20ms", "--memory-guard", guard];
    let retries = ["--max-retries", "2", "--retry-max-interval", "100ms"];
    let words = [
        &["exec", &watch],
        &flags[..],
        &retries,
        &["--", "sh", "-c", script],
    ]
    .concat();
    let exec = handover(words);
    let mut command = Command::new("sh");
    command.args(["-c", JOIN, &group.members()]);
    command.arg(exec.get_program()).args(exec.get_args());
    command.env("HANDOVER_SOCKET", "none");
    let running = Running::start(&mut command);
    running.says("epoch 0 is live");
    running.stdout.wait_for("ready");
    group.leave(20 << 20);
    running
}

const ROOM: u64 = 2 << 30;

#[test]
fn a_second_process_that_does_not_fit_waits_and_what_serves_goes_on() {
    let test =
        "commands::shortages::a_second_process_that_does_not_fit_waits_and_what_serves_goes_on";
    let Some(group) = Group::with_limit(test, ROOM) else {
        return;
    };
    let (_dir, file) = watched();
    let mut running = greedy_in(&group, &file, "hold");
    replace(&file, "1");
    let why = running.says("epoch 1 failed: ");
    assert!(why.contains("a second process would need about"), "{why}");
    running.says("is tried again later");
    assert_eq!(running.stderr.count("epoch 0 ended"), 0);
    group.limit(ROOM);
    running.says("epoch 1 is live");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
}

#[test]
fn a_second_process_that_does_not_fit_is_started_where_that_is_asked_for() {
    let test = "commands::shortages::a_second_process_that_does_not_fit_is_started_where_that_is_asked_for";
    for (guard, warnings) in [("warn", 1), ("off", 0)] {
        let Some(group) = Group::with_limit(test, ROOM) else {
            return;
        };
        let (_dir, file) = watched();
        let mut running = greedy_in(&group, &file, guard);
        replace(&file, "1");
        running.says("epoch 1 is live");
        assert_eq!(
            running.stderr.count("a second process would need about"),
            warnings
        );
        assert_eq!(running.stderr.count("not started beside"), 0);
        running.signal(Signal::TERM);
        assert_eq!(running.code(), 0);
    }
}

/// The runtime panicked.
#[test]
fn a_container_without_pairs_of_sockets_is_told_of_that() {
    let mut command = handover(["exec", "--", "true"]);
    let errno = u16::try_from(libc::EPERM).unwrap();
    handover_test_support::refused_calls::refuse(&mut command, &[libc::SYS_socketpair], errno);
    let output = finish(&mut command);
    assert_eq!(output.status.code(), Some(71));
    let said = stderr(&output);
    assert!(
        said.contains("let the container allow the system call `socketpair`"),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
}
