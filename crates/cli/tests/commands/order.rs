//! What the start waits for, and what ends an instance whose job is done.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::control::Place;
use crate::flags::run;
use crate::support::{Running, eventually, exec_script, finish, handover, replace, stderr};

/// A process of somebody else, until it is told to end.
struct Stranger(Child);

impl Stranger {
    fn start() -> Self {
        let mut command = Command::new("cat");
        Self(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn end(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.end();
    }
}

/// A program that is live at once, with these flags, as the instance of a place.
fn program(place: &Place, flags: &[&str]) -> Running {
    let socket = place.flag("web.sock");
    let always = ["--live-after", "0s", socket.as_str()];
    exec_script(&[&always, flags].concat(), "exec sleep 100")
}

fn held(place: &Place, why: &str) {
    eventually(why, || {
        let held = place.ask(&["status", "--json"]);
        held.stdout.contains(why).then_some(())
    });
}

#[test]
fn nothing_is_started_before_each_awaited_file_is_there() {
    let place = Place::new();
    let (cert, key) = (place.path("not/yet/cert"), place.path("key"));
    let (first, second) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let files = format!("{first},{second}");
    let socket = place.flag("web.sock");
    // The watched file is one of them.
    let words = ["exec", "--live-after", "0s", "--watch", first, &socket];
    let mut command = handover(words);
    command.args(["--", "sleep", "100"]);
    let mut running = Running::start(command.env("HANDOVER_WAIT_FOR_FILE", &files));
    running.says(&format!("nothing is started yet: `{first}` does not exist"));
    held(&place, "key` does not exist");
    let status = place.ask(&["status", "--check", "ready"]);
    assert_eq!(status.code, 75, "{status:?}");
    assert!(
        status
            .stdout
            .contains("no epoch is live: files are awaited"),
        "{status:?}"
    );
    place.ask(&["reload"]).is(65, "nothing was started yet");
    running.signal(Signal::HUP);

    fs::create_dir_all(cert.parent().unwrap()).unwrap();
    fs::write(&cert, "").unwrap();
    held(&place, "cert` is empty");
    fs::write(&key, "key").unwrap();
    fs::create_dir(place.path("other")).unwrap();
    replace(&cert, "cert");
    running.says("the awaited files are there");
    running.says("epoch 0 is live");
    place.ask(&["wait"]).is(0, "ready: epoch 0");
    // It was reported once, and the request and the signal have started nothing.
    assert_eq!(running.stderr.count("nothing is started yet"), 1);
    // After the start its files may go.
    fs::remove_file(&key).unwrap();
    place.ask(&["reload", "--wait"]).is(0, "epoch 1 is live");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
}

#[test]
fn a_volume_that_is_switched_by_a_link_is_followed() {
    let place = Place::new();
    let at = |name: &str| place.path(name);
    fs::create_dir(at("..1")).unwrap();
    symlink("..1", at("..data")).unwrap();
    symlink("..data/cert", at("cert")).unwrap();
    let cert = at("cert");
    let running = program(&place, &["--wait-for-file", cert.to_str().unwrap()]);
    running.says("nothing is started yet");
    fs::create_dir(at("..2")).unwrap();
    fs::write(at("..2/cert"), "cert").unwrap();
    symlink("..2", at("..new")).unwrap();
    fs::rename(at("..new"), at("..data")).unwrap();
    running.says("epoch 0 is live");
}

#[test]
fn a_stop_ends_an_instance_that_awaits_files() {
    let place = Place::new();
    let missing = place.path("cert");
    let mut running = program(&place, &["--wait-for-file", missing.to_str().unwrap()]);
    running.says("nothing is started yet");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
    assert_eq!(running.stderr.count("starting epoch"), 0);
}

#[test]
fn awaited_files_that_come_too_late_are_named_with_75() {
    let place = Place::new();
    let missing = place.path("cert");
    let flags = [
        "--wait-for-file",
        missing.to_str().unwrap(),
        "--wait-for-file-timeout",
        "200ms",
    ];
    let mut running = program(&place, &flags);
    assert_eq!(running.code(), 75);
    running.says("the awaited files were not there in time: ");
    assert_eq!(running.stderr.count("starting epoch"), 0);
}

#[test]
fn a_time_limit_for_no_file_is_refused() {
    let missing = "--wait-for-file <PATH>";
    let flag = ["exec", "--wait-for-file-timeout", "5s", "--", "true"];
    let mut variable = handover(["run", "--config-path", "/nonexistent"]);
    variable.env("HANDOVER_WAIT_FOR_FILE_TIMEOUT", "5s");
    for command in [&mut handover(flag), &mut variable] {
        let output = finish(command);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(missing), "{said}");
    }
}

#[test]
fn an_instance_ends_with_its_job_with_0() {
    let place = Place::new();
    let done = place.path("done");
    let mut job = Stranger::start();
    let pid = job.pid();
    let flags = [
        "--exit-with-pid",
        &pid,
        "--exit-with-file",
        done.to_str().unwrap(),
    ];
    let mut running = program(&place, &flags);
    running.says(&format!("ends when process {pid} (`cat`) ends"));
    running.says("epoch 0 is live");
    job.end();
    assert_eq!(running.code(), 0);
    running.says(&format!(
        "the job is done, as process {pid} has ended: draining"
    ));

    let mut running = program(&place, &["--exit-with-file", done.to_str().unwrap()]);
    running.says("epoch 0 is live");
    fs::write(&done, "").unwrap();
    assert_eq!(running.code(), 0);
    running.says("the job is done, as its file has appeared: draining");

    // The file of the last run would end the next one before it has served anybody.
    let mut running = program(&place, &["--exit-with-file", done.to_str().unwrap()]);
    assert_eq!(running.code(), 64);
    running.says("is there already, perhaps from an earlier run: remove it before the start");
    assert_eq!(running.stderr.count("starting epoch"), 0);
}

#[test]
fn a_job_that_is_no_process_is_refused() {
    // Above the highest number of a process. That of a process that has ended may be in use again.
    let nobody = i32::MAX.to_string();
    for (pid, problem) in [
        (nobody.as_str(), "--exit-with-pid: there is no process "),
        ("0", "0 is not in 1.."),
        ("-1", "-1"),
    ] {
        let flag = format!("--exit-with-pid={pid}");
        let words = ["exec", "--socket=none", &flag, "--", "sleep", "100"];
        let output = finish(&mut handover(words));
        assert_eq!(output.status.code(), Some(64), "{pid}");
        assert!(stderr(&output).contains(problem), "{}", stderr(&output));
    }
}

#[test]
fn run_waits_for_its_configuration_and_ends_with_its_job() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("envoy.yaml");
    let path = config.to_str().unwrap().to_owned();
    let start = |flags: &[&str]| {
        let awaits = ["--wait-for-file", &path, "--wait-for-file-timeout", "60s"];
        let mut command = run(dir.path(), "hangs", &[&awaits, flags].concat());
        fs::rename(&config, aside(&config)).unwrap();
        let running = Running::start(&mut command);
        running.says(&format!("nothing is started yet: `{path}` does not exist"));
        fs::rename(aside(&config), &config).unwrap();
        running.says("starting epoch 0");
        running
    };
    let mut job = Stranger::start();
    let mut running = start(&["--exit-with-pid", &job.pid()]);
    job.end();
    assert_eq!(running.code(), 0);
    let done = dir.path().join("done");
    let mut running = start(&["--exit-with-file", done.to_str().unwrap()]);
    fs::write(&done, "").unwrap();
    assert_eq!(running.code(), 0);

    let fallback = ["--fallback", "last-known-good", "--state-dir"];
    let state = dir.path().to_str().unwrap();
    let awaits = ["--wait-for-file", path.as_str()];
    let output = finish(&mut run(
        dir.path(),
        "hangs",
        &[&fallback[..], &[state], &awaits].concat(),
    ));
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--wait-for-file goes with --fallback nothing only"));
}

fn aside(path: &Path) -> std::path::PathBuf {
    path.with_extension("aside")
}
