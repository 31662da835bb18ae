//! Flags that `run` and `exec` have in common do the same in both. What needs an Envoy that serves
//! is with the tests of the workspace.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::control::Place;
use crate::support::{
    Running, exec_deaf, exec_script, exec_server, finish, handover, replace, skipped,
};
use crate::support::{handover_client, stderr, stdout};

/// A program that plays an Envoy.
const FAKE_ENVOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/commands/fake-envoy.sh");

/// `run` with an Envoy that behaves in this way.
pub(crate) fn run(dir: &Path, way: &str, flags: &[&str]) -> Command {
    let config = dir.join("envoy.yaml");
    let admin = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}";
    std::fs::write(&config, admin).unwrap();
    let mut command = handover(["run", "--envoy-path", FAKE_ENVOY]);
    command
        .env("FAKE_ENVOY", way)
        .env("HANDOVER_LOCK_DIR", dir)
        .arg("--config-path")
        .arg(config)
        .args(flags);
    command
}

/// `exec` with the same program.
fn exec(way: &str, flags: &[&str]) -> Command {
    let mut command = handover([&["exec"], flags, &["--", FAKE_ENVOY]].concat());
    command.env("FAKE_ENVOY", way);
    command
}

/// `run` and `exec` with these flags.
fn both(dir: &Path, way: &str, flags: &[&str]) -> [Running; 2] {
    // Private to its user: it has the control socket.
    [run(dir, way, flags), exec(way, flags)].map(|mut command| Running::start(&mut command))
}

#[test]
fn an_epoch_that_is_not_live_in_time_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--start-deadline", "100ms", "--max-retries", "0"];
    let [mut run, mut exec] = [
        run(dir.path(), "hangs", &flags),
        exec("hangs", &[&flags[..], &["--live-after", "1h"]].concat()),
    ]
    .map(|mut command| Running::start(&mut command));
    for running in [&mut run, &mut exec] {
        assert_eq!(running.code(), 69);
        assert_eq!(running.stderr.count("epoch 0 is not live in time"), 1);
    }
}

#[test]
fn retries_come_after_doubling_pauses_up_to_the_longest() {
    let dir = tempfile::tempdir().unwrap();
    for (longest, pauses) in [
        ("20ms", ["10 ms", "20 ms", "20 ms"]),
        ("none", ["10 ms", "20 ms", "40 ms"]),
    ] {
        let flags = [
            "--max-retries",
            "3",
            "--retry-interval",
            "10ms",
            "--retry-max-interval",
            longest,
        ];
        for mut running in both(dir.path(), "fails", &flags) {
            assert_eq!(running.code(), 69);
            let all = running.stderr.all();
            let told = all.iter().filter_map(|line| {
                let (_, after) = line.split_once("trying the configuration again in ")?;
                Some(after.split_once(',').unwrap().0.to_owned())
            });
            assert_eq!(told.collect::<Vec<_>>(), pauses, "{all:#?}");
            assert_eq!(running.stderr.count("starting epoch 0"), 4);
        }
    }
}

#[test]
fn jitter_shortens_pauses_at_random() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--max-retries",
        "3",
        "--retry-interval",
        "100ms",
        "--retry-max-interval",
        "100ms",
        "--retry-jitter",
        "100%",
    ];
    for mut running in both(dir.path(), "fails", &flags) {
        assert_eq!(running.code(), 69);
        let all = running.stderr.all();
        let told = all.iter().filter_map(|line| {
            let (_, after) = line.split_once("trying the configuration again in ")?;
            let (pause, _) = after.split_once(',')?;
            Some(humantime::parse_duration(pause).unwrap())
        });
        let pauses: Vec<_> = told.collect();
        assert_eq!(pauses.len(), 3, "{all:#?}");
        let full = Duration::from_millis(100);
        assert!(pauses.iter().all(|pause| *pause <= full), "{pauses:?}");
        // That all three random numbers leave the pauses as they are happens once in a million runs.
        assert!(pauses.iter().any(|pause| *pause < full), "{pauses:?}");
    }
}

#[test]
fn the_end_of_the_process_is_the_end_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for mut running in both(dir.path(), "fails", &["--on-exit", "stop"]) {
        assert_eq!(running.code(), 3, "{:#?}", running.stderr.all());
        assert_eq!(running.stderr.count("starting epoch 0"), 1);
    }
}

#[test]
fn the_cause_of_an_end_decides_whether_it_is_final() {
    let dir = tempfile::tempdir().unwrap();
    for (way, on_exit, code, final_by) in [
        ("fails", "exit=stop", 3, Some("exit=stop")),
        ("fails", "crash=stop,oom=stop,clean=stop", 69, None),
        ("crashes", "crash=stop", 139, Some("crash=stop")),
        ("crashes", "stop,crash=restart", 69, None),
    ] {
        let flags = [
            "--on-exit",
            on_exit,
            "--max-retries",
            "1",
            "--retry-interval",
            "1ms",
        ];
        for mut running in both(dir.path(), way, &flags) {
            assert_eq!(
                running.code(),
                code,
                "{on_exit}: {:#?}",
                running.stderr.all()
            );
            let starts = running.stderr.count("starting epoch 0");
            let reason = final_by.map(|by| format!("which is final (--on-exit {by})"));
            match reason {
                Some(reason) => {
                    assert_eq!(starts, 1, "{on_exit}");
                    assert!(
                        running.stderr.count(&reason) > 0,
                        "{:#?}",
                        running.stderr.all()
                    );
                }
                None => {
                    assert_eq!(starts, 2, "{on_exit}");
                    assert_eq!(running.stderr.count("which is final"), 0, "{on_exit}");
                }
            }
        }
    }
}

#[test]
fn an_unknown_cause_of_an_end_is_answered_by_the_nearest() {
    let output = finish(&mut handover([
        "exec",
        "--on-exit",
        "crsh=stop",
        "--",
        "true",
    ]));
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("`crsh` is no cause: did you mean crash?"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_epoch_that_does_not_stop_is_killed_after_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    // The default is five seconds.
    let flags = ["--abort-grace", "20ms", "--start-deadline", "none"];
    let [run, exec] = [
        run(dir.path(), "deaf", &flags),
        exec("deaf", &[&flags[..], &["--live-after", "1h"]].concat()),
    ];
    for mut command in [run, exec] {
        let mut running = Running::start(&mut command);
        running.says("starting epoch 0");
        let asked = Instant::now();
        running.signal(Signal::TERM);
        running.says("received SIGTERM: draining");
        // It skips whatever the first one waits for.
        running.signal_again(Signal::TERM);
        let code = running.code();
        assert!([0, 75].contains(&code), "{code}");
        assert!(
            asked.elapsed() < Duration::from_secs(4),
            "{:?}",
            asked.elapsed()
        );
    }
}

#[test]
fn an_epoch_that_stayed_live_gives_its_retries_back() {
    let flags = [
        "--live-after",
        "0s",
        "--reset-after",
        "50ms",
        "--max-retries",
        "1",
        "--retry-interval",
        "1h",
    ];
    let handover = exec_script(&flags, "sleep 0.3; exit 1");
    // With one retry in all, and a pause before it that nobody waits for.
    handover.stderr.wait_for_nth(4, "starting epoch 0");
}

#[test]
fn what_is_given_up_ends_everything_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("server.conf");
    for (what, ends) in [("stop", true), ("hold", false)] {
        replace(&config, "one");
        let path = config.to_str().unwrap();
        let flags = [
            "--watch",
            path,
            "--max-retries",
            "0",
            "--on-exhausted",
            what,
        ];
        let mut handover = exec_server(&flags, &["--config", path]);
        handover.says("epoch 0 is live");
        replace(&config, "broken");
        handover.says("epoch 1 failed");
        if ends {
            assert_eq!(handover.code(), 69);
        } else {
            handover.says("an older epoch serves on");
            handover.signal(Signal::TERM);
            assert_eq!(handover.code(), 0);
        }
    }
}

#[test]
fn as_many_epochs_run_at_once_as_may() {
    let flags = [
        "--drain-time",
        "1h",
        "--max-epochs",
        "3",
        "--log-level",
        "debug",
    ];
    let handover = exec_deaf(&flags);
    for epoch in 0..3 {
        handover.says(&format!("epoch {epoch} is live"));
        handover.signal(Signal::HUP);
    }
    handover.says("held: 3 epochs run already");
    assert_eq!(handover.stderr.count("ended"), 0);
}

#[test]
fn run_warns_of_what_envoy_does_with_more_epochs_than_two() {
    let dir = tempfile::tempdir().unwrap();
    for (epochs, warnings) in [("2", 0), ("3", 1)] {
        let flags = ["--max-epochs", epochs, "--max-retries", "0"];
        let output = finish(&mut run(dir.path(), "fails", &flags));
        let said = stderr(&output);
        assert_eq!(
            said.matches("WARN  --max-epochs 3: ").count(),
            warnings,
            "{said}"
        );
    }
}

#[test]
fn each_command_finds_an_instance_by_its_name_its_socket_and_its_directory() {
    let place = Place::new();
    let dir = place.path("web.sock").parent().unwrap().to_owned();
    let directory = dir.to_str().unwrap();
    let socket = place.path("web.sock");
    let socket = socket.to_str().unwrap();
    // In the directory of the locks, under its name.
    let mut command = run(&dir, "hangs", &["--name", "web"]);
    let mut running = Running::start(
        command
            .env_remove("HANDOVER_SOCKET")
            .env("HANDOVER_LOCK_DIR", &dir),
    );
    running.says("starting epoch 0");
    let targets: [&[&str]; 3] = [
        &["--name", "web", "--lock-dir", directory],
        &["--socket", socket],
        &["--lock-dir", directory],
    ];
    let ask =
        |words: &[&str], target: &[&str]| finish(&mut handover_client(words.iter().chain(target)));
    for command in ["reload", "drain", "undrain"] {
        for (nth, target) in targets.iter().enumerate() {
            ask(&[command], target);
            let asked = format!("asks at the control socket: {command}");
            running.stderr.wait_for_nth(nth + 1, &asked);
        }
    }
    let file = dir.join("envoy.yaml");
    let apply = ["apply", file.to_str().unwrap()];
    for target in targets {
        let refused = ask(&apply, target);
        assert_eq!(refused.status.code(), Some(69), "{refused:?}");
        let why = "takes no configuration from clients";
        assert!(stderr(&refused).contains(why), "{refused:?}");
        let status = ask(&["status", "--json"], target);
        assert!(stdout(&status).contains("\"name\": \"web\""), "{status:?}");
        let who = ask(&["who", "--json"], target);
        assert!(stdout(&who).contains("\"epochs\""), "{who:?}");
        let events = ask(&["events"], target);
        assert!(stdout(&events).contains("epoch 0 is started"), "{events:?}");
        // It keeps nothing, and that is said of this one.
        let logs = ask(&["logs"], target);
        assert_eq!(logs.status.code(), Some(69), "{logs:?}");
        assert!(stderr(&logs).contains("no state directory"), "{logs:?}");
        let archive = dir.join("report.tar.gz");
        let output = ["report", "--force", "--output", archive.to_str().unwrap()];
        let report = ask(&output, target);
        assert_eq!(report.status.code(), Some(0), "{report:?}");
    }
    for target in targets {
        let waited = ask(&["wait", "--timeout", "0s"], target);
        assert_eq!(waited.status.code(), Some(75), "{waited:?}");
        assert!(
            stderr(&waited).contains("epoch 0 is starting"),
            "{waited:?}"
        );
    }
    let stopped = ask(&["stop", "--now"], targets[1]);
    assert_eq!(stopped.status.code(), Some(0), "{}", stderr(&stopped));
    assert_eq!(running.code(), 0);
    let output = ask(&["status"], &["--name", "other", "--lock-dir", directory]);
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn the_log_of_both_has_the_format_and_the_level_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--max-retries",
        "1",
        "--retry-interval",
        "1ms",
        "--log-format",
        "json",
        "--log-level",
        "error",
    ];
    for mut running in both(dir.path(), "fails", &flags) {
        assert_eq!(running.code(), 69);
        let lines = running.stderr.all();
        let parsed = lines
            .iter()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let own: Vec<_> = parsed.filter(|line| line["program"].is_null()).collect();
        let [line] = own.as_slice() else {
            panic!("{own:#?}");
        };
        assert_eq!(line["level"], "error");
    }
}

#[test]
fn validate_tells_envoy_of_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("envoy.yaml");
    let log = dir.path().join("arguments");
    let admin = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}";
    std::fs::write(&config, admin).unwrap();
    let node = [
        "--service-cluster",
        "front",
        "--service-node",
        "n1",
        "--local-address-ip-version",
        "v6",
    ];
    let mut command = handover([&["validate", "--envoy-path", FAKE_ENVOY], &node[..]].concat());
    command.arg("--config-path").arg(&config);
    command.env("FAKE_ENVOY", "arguments").env("FAKE_LOG", &log);
    let output = finish(command.args(["--", "--enable-core-dump"]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("--mode validate"), "{told}");
    assert!(told.contains(&node.join(" ")), "{told}");
    assert!(told.contains("--enable-core-dump"), "{told}");
}

/// In a network of its own, as this host may have no such address.
#[test]
fn private_ips_may_print_link_local_addresses_too() {
    const NETWORK: &str = "ip link add v0 type veth peer name v1 && ip link set v0 up && \
        ip addr add 10.9.8.7/32 dev v0 && ip addr add 169.254.9.8/32 dev v0";
    let in_network = |inner: &Command| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c"]);
        command.arg(format!("{NETWORK} && exec \"$@\"")).arg("-");
        command.arg(inner.get_program()).args(inner.get_args());
        command
    };
    match in_network(&Command::new("true")).output() {
        Ok(output) if output.status.success() => {}
        other => {
            let test = "flags::private_ips_may_print_link_local_addresses_too";
            return skipped(test, &format!("no network of its own: {other:?}"));
        }
    }
    let addresses = |flags: &[&str]| {
        let words = ["private-ips", "--timeout", "0s"].iter().chain(flags);
        let printed = stdout(&finish(&mut in_network(&handover(words))));
        let mut lines: Vec<_> = printed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(addresses(&[]), ["10.9.8.7"]);
    let with = addresses(&["--link-local"]);
    let has = |address: &str| with.iter().any(|line| line == address);
    assert!(has("10.9.8.7") && has("169.254.9.8"), "{with:?}");
}

#[test]
fn a_demonstration_takes_the_time_between_its_hand_overs() {
    let started = Instant::now();
    let words = [
        "demo",
        "--no-progress",
        "--hand-overs",
        "2",
        "--interval",
        "1500ms",
    ];
    let output = finish(&mut handover(words));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        started.elapsed() > Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}
