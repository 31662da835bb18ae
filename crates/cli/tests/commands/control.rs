//! The commands that speak to a running instance, with the demo server as the program.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::{
    Running, eventually, exec_deaf, exec_script, exec_server, finish, handover_client, replace,
};
use crate::support::{stderr, stdout};

/// A directory in which instances have their sockets.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let prefix = tempfile::Builder::new().prefix("handover-").tempdir();
        Self(prefix.unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn flag(&self, name: &str) -> String {
        format!("--socket={}", self.path(name).display())
    }

    /// Runs a command that speaks to an instance in here.
    pub(crate) fn ask(&self, words: &[&str]) -> Asked {
        let mut command = handover_client(words);
        command.env("HANDOVER_LOCK_DIR", self.0.path());
        let output = finish(&mut command);
        Asked {
            code: output.status.code().unwrap(),
            stdout: stdout(&output),
            stderr: stderr(&output),
        }
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let asked = self.ask(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap();
        let code = if status["ready"] == true { 0 } else { 75 };
        assert_eq!(asked.code, code, "{asked:?}");
        status
    }

    /// The demo server with a configuration in here, as the instance of this name.
    pub(crate) fn server(&self, name: &str, flags: &[&str]) -> (Running, PathBuf) {
        let config = self.path("server.conf");
        replace(&config, "one");
        let text = config.to_str().unwrap();
        let socket = self.flag(&format!("{name}.sock"));
        let mut all = vec!["--watch", text, socket.as_str()];
        all.extend(flags);
        let running = exec_server(&all, &["--config", text]);
        running.says("epoch 0 is live");
        (running, config)
    }
}

/// How such a command ended.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Asked {
    #[track_caller]
    pub(crate) fn is(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        let said = if code == 0 {
            &self.stdout
        } else {
            &self.stderr
        };
        assert!(said.contains(words), "`{words}` is not in {self:?}");
    }
}

/// What differs from run to run, made the same.
fn redacted(text: &str, running: &Running, place: &Place) -> String {
    let text = text.replace(&running.pid().to_string(), "PID");
    let text = text.replace(place.0.path().to_str().unwrap(), "DIR");
    let text = text.replace(env!("CARGO_BIN_EXE_handover"), "PROGRAM");
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let hash = place.status()["desired"]["hash"].as_str().unwrap()[..12].to_owned();
    let text = text.replace(&hash, "HASH");
    let mut words: Vec<String> = Vec::new();
    for line in text.lines() {
        let (start, up) = line.split_once(", up ").unwrap_or((line, ""));
        let state = up.split_once(": ").map(|(_, state)| state);
        let line = match state {
            Some(state) => format!("{start}, up TIME: {state}"),
            None => line.to_owned(),
        };
        let row: Vec<_> = line.split_whitespace().collect();
        // The row of an epoch: number, state, pid, age, connections, memory.
        let line = match row.as_slice() {
            [epoch, state, _, _, connections, _, "MB", config] => {
                format!("{epoch} {state} PID AGE {connections} MEMORY {config}")
            }
            _ => row.join(" "),
        };
        words.push(line);
    }
    words.join("\n")
}

#[test]
fn the_status_is_a_table_for_people() {
    let place = Place::new();
    // What is left of a probation differs from run to run.
    let (running, _) = place.server("web", &["--probation=0"]);
    let asked = place.ask(&["status"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    insta::assert_snapshot!(redacted(&asked.stdout, &running, &place), @r"
    web (pid PID, handover VERSION) is live, up TIME: ready, with the desired configuration
    desired PROGRAM (HASH)
    current the same
    retries left 10
    epochs 1 started, 0 failed, 0 retried, 0 handed over

    EPOCH STATE PID AGE CONNECTIONS MEMORY CONFIGURATION
    0 live PID AGE ? MEMORY HASH
    ");
}

#[test]
fn the_status_of_one_that_is_not_ready_is_printed_and_ends_with_75() {
    let place = Place::new();
    let socket = place.flag("web.sock");
    let mut running = exec_script(&["--live-after", "1h", &socket], "exec sleep 100");
    running.says("starting epoch 0");
    // It comes before the socket is served only for a moment.
    let asked = eventually("an answer", || {
        let asked = place.ask(&["status"]);
        (asked.code != 69).then_some(asked)
    });
    assert_eq!((asked.code, asked.stderr.as_str()), (75, ""), "{asked:?}");
    assert!(asked.stdout.contains("not ready"), "{asked:?}");
    let asked = place.ask(&["status", "--json"]);
    assert_eq!((asked.code, asked.stderr.as_str()), (75, ""), "{asked:?}");
    assert!(asked.stdout.contains("\"ready\": false"), "{asked:?}");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
}

#[test]
fn the_status_is_json_for_machines() {
    let place = Place::new();
    let (running, _) = place.server("web", &["--name", "edge"]);
    let status = place.status();
    let expected = [
        ("api", 1.into()),
        ("name", "edge".into()),
        ("pid", running.pid().into()),
        ("state", "live".into()),
        ("ready", true.into()),
        ("current_is_desired", true.into()),
        ("degraded", false.into()),
        ("held", serde_json::Value::Null),
        ("last_exit", serde_json::Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(status[name], value, "{name} in {status:#}");
    }
    let epoch = &status["epochs"][0];
    assert_eq!(epoch["state"], "live");
    assert!(epoch["rss_bytes"].as_u64().unwrap() > 100_000, "{epoch}");
    assert_eq!(epoch["config_hash"], status["desired"]["hash"]);
    assert_eq!(status["current"], status["desired"]);

    assert_eq!(place.ask(&["reload", "--wait"]).code, 0);
    let status = eventually("the end of epoch 0", || {
        let status = place.status();
        status["last_exit"].is_object().then_some(status)
    });
    assert_eq!(status["last_exit"]["epoch"], 0, "{status:#}");
    assert_eq!(status["last_exit"]["cause"], "handed_over");
    assert_eq!(status["counters"]["started"], 2);
    assert_eq!(status["counters"]["hand_overs"], 1);
}

#[test]
fn a_reload_starts_the_next_epoch_although_nothing_has_changed() {
    let place = Place::new();
    let (running, _) = place.server("web", &[]);
    let asked = place.ask(&["reload", "--wait"]);
    asked.is(0, "the configuration has not changed: epoch 1 is live");
    place.ask(&["reload"]).is(0, "the next epoch is due");
    running.says("epoch 2 is live");
}

#[test]
fn a_reload_if_changed_starts_nothing_where_nothing_has_changed() {
    let place = Place::new();
    let (running, config) = place.server("web", &[]);
    let reload = |more: &[&str]| place.ask(&[&["reload", "--if-changed"], more].concat());
    reload(&[]).is(0, "has not changed: no epoch is started");
    reload(&["--wait"]).is(0, "has not changed: epoch 0 is live");
    // Whether the change is noticed before it is asked for or not, there is one epoch for it.
    replace(&config, "two");
    reload(&["--wait"]).is(0, "epoch 1 is live");
    assert_eq!(running.stderr.count("starting epoch"), 2);
}

#[test]
fn a_reload_that_is_given_up_tells_the_reason_and_the_last_lines() {
    let place = Place::new();
    let retries = ["--max-retries", "1", "--retry-interval", "10ms"];
    let (_running, config) = place.server("web", &retries);
    replace(&config, "broken on purpose");
    let asked = place.ask(&["reload", "--wait"]);
    asked.is(65, "error: the configuration was given up after epoch 1");
    let last = asked.stderr.lines().last().unwrap();
    assert_eq!(last, "  error: the configuration says: broken on purpose");

    let status = place.status();
    assert_eq!(status["ready"], true, "{status:#}");
    assert_eq!(status["current_is_desired"], false);
    assert_eq!(status["degraded"], true);
    assert_eq!(status["held"], "the desired configuration was given up");
    assert!(
        status["counters"]["failed"].as_u64() >= Some(2),
        "{status:#}"
    );
    assert_ne!(status["current"]["hash"], status["desired"]["hash"]);
}

#[test]
fn a_reload_that_takes_too_long_tells_what_it_waits_for() {
    let place = Place::new();
    let (_running, config) = place.server("web", &["--retry-interval", "1h"]);
    replace(&config, "broken on purpose");
    let asked = place.ask(&["reload", "--wait", "--timeout", "500ms"]);
    asked.is(75, "not live within 500ms: a retry is due in ");
    assert!(asked.stderr.contains("epoch 1 failed"), "{asked:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_asked_for_no_more_once_it_can() {
    let place = Place::new();
    let (_running, config) = place.server("web", &[]);
    std::fs::remove_file(&config).unwrap();
    let asked = place.ask(&["reload", "--wait"]);
    asked.is(65, "the running configuration serves on: ");
    let status = place.status();
    assert_eq!(status["ready"], true);
    assert_eq!(status["current_is_desired"], false, "{status:#}");
    let problem = status["problem"].as_str().unwrap();
    assert!(problem.contains("does not exist"), "{problem}");

    replace(&config, "two");
    place.ask(&["reload", "--wait"]).is(0, "is live");
    assert_eq!(place.status()["current_is_desired"], true);
}

#[test]
fn a_reload_now_does_not_wait_for_an_old_epoch() {
    let place = Place::new();
    let socket = place.flag("web.sock");
    let flags = ["--drain-time", "10m", socket.as_str()];
    let running = exec_deaf(&flags);
    running.says("epoch 0 is live");
    place.ask(&["reload", "--wait"]).is(0, "epoch 1 is live");
    let late = place.ask(&["reload", "--wait", "--timeout", "300ms"]);
    late.is(75, "not live within 300ms: 2 epochs run already");
    let asked = place.ask(&["reload", "--wait", "--now"]);
    asked.is(
        0,
        "epoch 0 still drains, and the next one does not wait for it",
    );
    asked.is(0, "epoch 2 is live");
    let status = place.status();
    assert_eq!(status["epochs"][0]["released"], true, "{status:#}");
    assert_eq!(status["epochs"][1]["released"], false);
    assert_eq!(status["epochs"][2]["state"], "live");
}

#[test]
fn what_is_not_for_exec_says_why() {
    let place = Place::new();
    let (_running, _) = place.server("web", &[]);
    let not = |words: &[&str], why| place.ask(words).is(69, why);
    not(
        &["drain"],
        "drain is not for exec: a program has no health checks",
    );
    not(&["drain", "--wait"], "drain is not for exec");
    not(&["undrain"], "undrain is not for exec");
    not(&["reload", "--cold"], "a cold restart is not for exec: ");
    assert_eq!(place.status()["counters"]["started"], 1);
}

#[test]
fn a_stop_drains_and_its_end_can_be_waited_for() {
    let place = Place::new();
    let (mut running, _) = place.server("web", &[]);
    place
        .ask(&["stop", "--wait"])
        .is(0, "ended: drained (exit code 0)");
    assert_eq!(running.code(), 0);
    assert!(!place.path("web.sock").exists());
}

#[test]
fn a_second_stop_does_not_skip_the_drain_and_stop_now_does() {
    let place = Place::new();
    let socket = place.flag("web.sock");
    let flags = [
        "--drain-time",
        "10m",
        "--abort-grace",
        "100ms",
        socket.as_str(),
    ];
    let mut running = exec_deaf(&flags);
    running.says("epoch 0 is live");
    place.ask(&["stop"]).is(0, "draining");
    place.ask(&["stop"]).is(0, "draining");
    let status = place.status();
    assert_eq!(status["state"], "draining", "{status:#}");
    assert_eq!(status["ready"], false);
    place.ask(&["reload"]).is(69, "everything is ending");
    place.ask(&["drain"]).is(69, "everything is ending");
    let late = place.ask(&["stop", "--wait", "--timeout", "200ms"]);
    late.is(75, "not ended within 200ms");
    let asked = place.ask(&["stop", "--now", "--wait"]);
    asked.is(0, "ended: the drain was skipped (exit code 0)");
    assert_eq!(running.code(), 0);
}

#[test]
fn instances_are_told_apart_by_name_and_left_ones_are_passed_over() {
    let place = Place::new();
    place.ask(&["status"]).is(69, "no instance is running");
    let (mut left, _) = place.server("left", &[]);
    left.signal(Signal::KILL);
    left.code();
    assert!(place.path("left.sock").exists());

    let (one, _) = place.server("one", &[]);
    assert_eq!(place.status()["pid"], one.pid());
    let (other, _) = place.server("other", &[]);
    let asked = place.ask(&["status"]);
    asked.is(69, "choose one with --name; running are one, other");
    let named = |name: &str| {
        let asked = place.ask(&["status", "--json", "--name", name]);
        assert_eq!(asked.code, 0, "{asked:?}");
        let status: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap();
        status["pid"].as_u64().unwrap()
    };
    assert_eq!(named("one"), u64::from(one.pid()));
    assert_eq!(named("other"), u64::from(other.pid()));
    place
        .ask(&["status", "--name", "left"])
        .is(69, "no instance left is running");

    // The place of one that was killed is free.
    let (again, _) = place.server("left", &[]);
    assert_eq!(named("left"), u64::from(again.pid()));
}

#[test]
fn a_flag_wins_over_the_variables_of_the_environment() {
    let place = Place::new();
    let (one, _) = place.server("one", &[]);
    let (other, _) = place.server("other", &[]);
    let pid_told = |variables: &[(&str, &Path)], flags: &[&str]| {
        let mut command = handover_client([&["status", "--json"], flags].concat());
        command.env("HANDOVER_LOCK_DIR", place.0.path());
        command.envs(variables.iter().copied());
        let output = finish(&mut command);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["pid"].as_u64().unwrap()
    };
    let socket = place.path("other.sock");
    let variables = [("HANDOVER_SOCKET", socket.as_path())];
    assert_eq!(pid_told(&variables, &[]), u64::from(other.pid()));
    assert_eq!(
        pid_told(&variables, &["--name", "one"]),
        u64::from(one.pid())
    );
    let variables = [("HANDOVER_NAME", Path::new("one"))];
    assert_eq!(pid_told(&variables, &[]), u64::from(one.pid()));
}

#[test]
fn a_second_instance_of_the_same_name_is_refused() {
    let place = Place::new();
    let (running, _) = place.server("web", &[]);
    let socket = place.flag("web.sock");
    let mut second = exec_server(&[&socket], &[]);
    assert_eq!(second.code(), 69, "{:#?}", second.stderr.all());
    let reason = format!("instance web runs already (pid {}, ", running.pid());
    assert_eq!(
        second.stderr.count(&reason),
        1,
        "{:#?}",
        second.stderr.all()
    );
    assert_eq!(place.status()["pid"], running.pid());
}

#[test]
fn a_socket_that_was_asked_for_and_cannot_be_made_is_an_error() {
    let place = Place::new();
    let socket = place.flag("missing/web.sock");
    let mut running = exec_server(&[&socket], &[]);
    assert_eq!(running.code(), 71, "{:#?}", running.stderr.all());

    std::fs::write(place.path("file"), "precious").unwrap();
    let socket = place.flag("file");
    let mut running = exec_server(&[&socket], &[]);
    assert_eq!(running.code(), 71, "{:#?}", running.stderr.all());
    assert_eq!(running.stderr.count("is no socket"), 1);
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"precious");
}

#[test]
fn a_status_under_load_costs_no_request() {
    let place = Place::new();
    let (mut running, _) = place.server("web", &[]);
    let address = running.address();
    let load = crate::client::load(address);
    for _ in 0..20 {
        assert_eq!(place.ask(&["status"]).code, 0);
    }
    place.ask(&["reload", "--wait"]).is(0, "epoch 1 is live");
    for _ in 0..20 {
        assert_eq!(place.ask(&["status"]).code, 0);
    }
    load.stop_blocking().assert_no_loss();
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
}

#[test]
fn a_socket_that_nobody_uses_wakes_nobody_up() {
    let place = Place::new();
    let socket = place.flag("web.sock");
    let flags = ["--live-after", "10ms", socket.as_str()];
    let running = exec_script(&flags, "exec sleep 600");
    running.says("epoch 0 is live");
    assert_eq!(place.ask(&["status"]).code, 0);
    // How often any of its threads has gone to sleep.
    let sleeps = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap();
        let of_task = |task: std::fs::DirEntry| -> u64 {
            // A thread may end between the two looks.
            let status = std::fs::read_to_string(task.path().join("status"));
            let status = status.unwrap_or_else(|_| "voluntary_\t0".to_owned());
            let line = status.lines().find(|line| line.starts_with("voluntary_"));
            line.unwrap().rsplit('\t').next().unwrap().parse().unwrap()
        };
        tasks.map(|task| of_task(task.unwrap())).sum::<u64>()
    };
    let before = std::cell::Cell::new(sleeps());
    eventually("two seconds in which nobody wakes up", || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        let now = sleeps();
        (before.replace(now) == now).then_some(())
    });
}
