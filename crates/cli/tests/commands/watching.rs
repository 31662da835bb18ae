//! What is watched, what cannot be, and what is said of it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::control::Place;
use crate::support::{Running, eventually, exec_script, executing, handover, output_of, replace};
use crate::support::{skipped, stderr};

/// `exec` of a program that does nothing.
fn idle(flags: &[&str]) -> Running {
    let always = ["--live-after", "0s", "--drain-time", "1s"];
    exec_script(&[&always, flags].concat(), "exec sleep 1000")
}

fn problems(place: &Place) -> Vec<String> {
    let status = place.status();
    let problems = status["watching"]["problems"].as_array().unwrap();
    let text = |problem: &serde_json::Value| problem.as_str().unwrap().to_owned();
    problems.iter().map(text).collect()
}

#[test]
fn one_bad_entry_of_a_watched_directory_is_told_and_all_else_goes_on() {
    let place = Place::new();
    let dir = place.path("watched");
    fs::create_dir(&dir).unwrap();
    replace(&dir.join("good"), "one");
    symlink("nowhere", dir.join("dangling")).unwrap();
    symlink("itself", dir.join("itself")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let path = dir.to_str().unwrap();
    let running = idle(&["--watch", path, &place.flag("a.sock")]);
    running.says("epoch 0 is live");
    let told = |name: &str| {
        let named = format!("/{name}`");
        let lines = running.stderr.all();
        let told = |line: &&String| line.contains("continues without it") && line.contains(&named);
        lines.iter().filter(told).count()
    };
    assert_eq!((told("dangling"), told("itself")), (1, 1));
    let listed = problems(&place);
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(
        listed[0].ends_with("dangling` does not exist"),
        "{listed:?}"
    );
    assert!(listed[1].contains("itself`: "), "{listed:?}");
    assert_eq!(place.status()["problem"], serde_json::Value::Null);
    let table = place.ask(&["status"]).stdout;
    assert_eq!(table.matches("\nwatching     ").count(), 2, "{table}");

    // A change, a signal, and a request.
    replace(&dir.join("good"), "two");
    running.says("epoch 1 is live");
    running.signal(Signal::HUP);
    running.says("epoch 2 is live");
    place.ask(&["reload", "--wait"]).is(0, "epoch 3 is live");
    assert_eq!((told("dangling"), told("itself")), (1, 1), "told again");

    // The repair is a change; another fault is told.
    fs::write(dir.join("nowhere"), "three").unwrap();
    running.says("epoch 4 is live");
    eventually("the end of the problem", || {
        (problems(&place).len() == 1).then_some(())
    });
    symlink("self", dir.join("self")).unwrap();
    running.says("/self`");
    eventually("the new problem", || {
        (problems(&place).len() == 2).then_some(())
    });
}

/// A program above the size up to which files are read.
#[test]
fn a_large_program_is_watched_and_its_replacement_is_a_change() {
    let place = Place::new();
    let program = |name: &str| {
        let path = place.path(name);
        fs::copy("/bin/sleep", &path).unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        file.set_len((64 << 20) + 1).unwrap();
        path
    };
    let server = program("server");
    let path = server.to_str().unwrap();
    let flags = [
        "exec",
        "--watch",
        path,
        &place.flag("a.sock"),
        "--",
        path,
        "600",
    ];
    let running = Running::start(&mut handover(flags));
    running.says("epoch 0 is live");
    let told = format!("compared by size and time, not by content: `{path}`, larger than 64 MiB");
    running.says(&told);
    assert_eq!(problems(&place), [told]);
    fs::rename(program("next"), &server).unwrap();
    running.says("epoch 0 drains, 1 serves");
}

#[test]
fn a_fifo_or_a_device_is_refused_by_name() {
    let place = Place::new();
    let fifo = place.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for (path, what) in [(fifo.to_str().unwrap(), "FIFO"), ("/dev/zero", "device")] {
        for command in [
            &["exec", "--watch", path, "--", "true"][..],
            &["run", "--config-path", path, "--envoy-path", "/bin/true"],
        ] {
            let output = output_of(command);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(65), "{command:?}: {said}");
            assert!(
                said.contains(&format!("`{path}` is a {what}, not a file")),
                "{said}"
            );
        }
    }
}

#[test]
fn what_the_system_does_not_report_is_said_at_the_start_and_in_the_status() {
    let place = Place::new();
    let kernel = "/proc/sys/kernel/ostype";
    let running = idle(&["--watch", kernel, &place.flag("a.sock")]);
    running.says("epoch 0 is live");
    let said = running.says("does not report every change");
    assert!(said.contains("/proc/sys/kernel"), "{said}");
    assert!(
        said.ends_with("on proc; so the files are checked every 10s"),
        "{said}"
    );
    let status = place.status();
    assert_eq!(status["watching"]["rescan_seconds"], 10.0);
    assert_eq!(problems(&place).len(), 1);
    place
        .ask(&["status"])
        .is(0, "watching     checks the files every 10s");

    let silent = idle(&["--watch", kernel, "--rescan-interval", "none"]);
    let said = silent.says("does not report every change");
    assert!(
        said.ends_with("because the files are not checked at an interval"),
        "{said}"
    );
}

/// Sums how often the threads of a process went to sleep, which is how often they woke up.
pub(crate) fn wake_ups(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |status: String| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with("voluntary"))?;
        line.split_whitespace().last()?.parse().ok()
    };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .filter_map(of_thread)
        .sum()
}

#[test]
fn a_supervisor_that_hears_of_every_change_sleeps() {
    let place = Place::new();
    let dir = place.path("watched");
    fs::create_dir_all(dir.join("below")).unwrap();
    replace(&dir.join("below/file"), "one");
    let path = dir.to_str().unwrap();
    let running = idle(&["--watch", path, &place.flag("a.sock")]);
    running.says("epoch 0 is live");
    let status = place.status();
    assert_eq!(
        status["watching"]["rescan_seconds"],
        serde_json::Value::Null
    );
    assert_eq!(problems(&place), [] as [&str; 0]);
    // What was begun at the start comes to its end: then it sleeps for two seconds.
    let two_seconds_asleep = || {
        let before = wake_ups(running.pid());
        std::thread::sleep(Duration::from_secs(2));
        (wake_ups(running.pid()) == before).then_some(())
    };
    eventually("two seconds without a wake-up", two_seconds_asleep);
    // Another interval than `auto` is kept.
    let looking = idle(&["--watch", path, "--rescan-interval", "100ms"]);
    looking.says("epoch 0 is live");
    let before = wake_ups(looking.pid());
    eventually("some wake-ups", || {
        (wake_ups(looking.pid()) > before + 5).then_some(())
    });
}

/// The command in namespaces of its own for users and mounts, after a script; none where the system
/// allows none.
fn in_namespaces(test: &str, script: &str, words: &[&str]) -> Option<Command> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]);
        command.args(["--propagation", "private", "--"]);
        command
    };
    match unshare().arg("true").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            skipped(test, String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Err(error) => {
            skipped(test, &format!("unshare: {error}"));
            return None;
        }
    }
    let mut launcher = unshare();
    launcher.args(["sh", "-c", &format!("{script} && exec \"$@\""), "-"]);
    Some(executing(launcher, &handover(words)))
}

fn words<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    let always = ["exec", "--live-after", "0s", "--drain-time", "1s"];
    [&always, flags, &["--", "sh", "-c", "exec sleep 1000"]].concat()
}

/// As `docker run -v ./server.conf:/etc/server.conf`, and an editor on the host.
#[test]
fn one_bind_mounted_file_that_is_written_on_the_host_is_a_change() {
    let place = Place::new();
    let (host, inside) = (place.path("host.conf"), place.path("server.conf"));
    fs::write(&host, "one").unwrap();
    fs::write(&inside, "").unwrap();
    let script = format!("mount --bind {} {}", host.display(), inside.display());
    let flags = ["--watch", inside.to_str().unwrap()];
    let test = "one_bind_mounted_file_that_is_written_on_the_host_is_a_change";
    let Some(mut command) = in_namespaces(test, &script, &words(&flags)) else {
        return;
    };
    let running = Running::start(&mut command);
    running.says("epoch 0 is live");
    fs::write(&host, "two").unwrap();
    running.says("epoch 1 is live");
    assert_eq!(
        running.stderr.count("every"),
        0,
        "nothing is looked at in an interval"
    );
}

#[test]
fn without_inotify_it_looks_in_the_interval_and_a_signal_counts_what_is_there() {
    let test = "without_inotify_it_looks_in_the_interval_and_a_signal_counts_what_is_there";
    let place = Place::new();
    let config = place.path("server.conf");
    let path = config.to_str().unwrap();
    replace(&config, "one");
    let no_queue = "echo 0 > /proc/sys/user/max_inotify_instances";
    let start = |interval: &str| {
        let flags = ["--watch", path, "--rescan-interval", interval];
        Some(Running::start(&mut in_namespaces(
            test,
            no_queue,
            &words(&flags),
        )?))
    };
    let Some(looking) = start("200ms") else {
        return;
    };
    looking.says("epoch 0 is live");
    let said = looking.says("the system reports no changes of files");
    assert!(
        said.ends_with("so the files are checked every 200ms"),
        "{said}"
    );
    replace(&config, "two");
    looking.says("epoch 1 is live");
    drop(looking);

    let Some(deaf) = start("none") else {
        return;
    };
    deaf.says("epoch 0 is live");
    deaf.says("not checked at an interval");
    fs::remove_file(&config).unwrap();
    deaf.signal(Signal::HUP);
    deaf.says("the running configuration serves on");
    replace(&config, "three");
    deaf.signal(Signal::HUP);
    deaf.says("epoch 1 is live");
}

#[test]
fn a_rescan_interval_has_a_unit_and_is_not_too_short() {
    for (interval, reason) in [("0s", "at least 100ms"), ("10", "such as 45s or 300ms")] {
        let flag = format!("--rescan-interval={interval}");
        let output = output_of(["exec", flag.as_str(), "--", "true"]);
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
}

#[test]
fn a_certificate_two_levels_down_leads_to_the_next_epoch() {
    let place = Place::new();
    let dir = place.path("certs");
    fs::create_dir_all(dir.join("live/example.org")).unwrap();
    let cert = dir.join("live/example.org/cert.pem");
    replace(&cert, "one");
    let running = idle(&["--watch", dir.to_str().unwrap()]);
    running.says("epoch 0 is live");
    replace(&cert, "two");
    running.says("epoch 1 is live");
}

/// Each write to the place would start another epoch, which would be written of there.
#[test]
fn what_it_writes_itself_is_not_watched() {
    let dir = tempfile::tempdir().unwrap();
    let (watched, inner) = (dir.path().to_str().unwrap(), dir.path().join("inner"));
    let inner = inner.to_str().unwrap();
    for line in [
        format!("exec --watch {watched} --state-dir {inner} -- true"),
        format!("run --config-path c --watch {watched} --state-dir {inner}"),
        format!("run --config-path c --watch {watched} --run-dir {inner}"),
        format!("run --config-path c --watch {watched} --lock-dir {inner}"),
    ] {
        let output = output_of(line.split(' '));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{line}: {said}");
        assert!(said.contains(&format!(" is {inner}, and {watched} is watched")));
    }
    let log = File::create(dir.path().join("log")).unwrap();
    let mut into_it = handover(["exec", "--watch", watched, "--", "true"]);
    let output = into_it.stdout(log).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("standard output is "), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_program_that_writes_into_what_is_watched_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let watched = dir.path().to_str().unwrap();
    let script = format!("echo $$ > {watched}/pid; exec sleep 1000");
    let flags = [
        "--live-after",
        "0s",
        "--drain-time",
        "1s",
        "--watch",
        watched,
    ];
    let running = exec_script(&flags, &script);
    let told = running.says("each of the last 5 epochs was followed by a change within 3s");
    assert!(told.contains(&format!("{watched}/pid: ")), "{told}");
}
