//! The units in `deploy/systemd`, against the command line and the exit codes of this program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::cli::{Cli, Command};
use crate::commands::{ADDRESS_LIMIT, judge};
use crate::exit_code::ExitCode;

/// The last value of each key of a unit.
fn unit(name: &str) -> BTreeMap<String, String> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd");
    let text = std::fs::read_to_string(deploy.join(name)).unwrap();
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn time(unit: &BTreeMap<String, String>, key: &str) -> Duration {
    humantime::parse_duration(&unit[key]).unwrap()
}

/// What the command line of a unit means, with values for what systemd puts in.
fn command(unit: &BTreeMap<String, String>) -> Command {
    let words = unit["ExecStart"].split_whitespace().map(|word| {
        let word = word.replace("${RUNTIME_DIRECTORY}", "/run/handover");
        let word = word.replace("${STATE_DIRECTORY}", "/var/lib/handover");
        OsString::from(word.replace("$COMMAND", "server").replace("%i", "web"))
    });
    let words: Vec<OsString> = words.collect();
    assert_eq!(words[0], "/usr/local/bin/handover");
    let command = Cli::parse_words(&words).unwrap().command;
    judge(&command).unwrap();
    command
}

/// The longest drain of a stop, and the time until everything has ended after it.
fn longest_stop(command: &Command) -> Duration {
    let (drain, policy) = if let Command::Run(args) = command {
        (args.stop.termination_drain, &args.policy)
    } else if let Command::Exec(args) = command {
        (args.ending.drain_time, &args.policy)
    } else {
        panic!("the units have `run` and `exec`")
    };
    let policy = policy.policy(Some(drain));
    drain.saturating_add(policy.abort_grace)
}

const SERVICES: [&str; 2] = ["handover-envoy.service", "handover-exec@.service"];

#[test]
fn systemd_waits_for_the_longest_drain_and_start() {
    for name in SERVICES {
        let unit = unit(name);
        let command = command(&unit);
        let spare = Duration::from_secs(5);
        let needed = longest_stop(&command).saturating_add(spare);
        assert!(
            time(&unit, "TimeoutStopSec") >= needed,
            "{name}: {needed:?}"
        );
        // What a start takes before Handover asks for more time.
        let before = ADDRESS_LIMIT.saturating_add(handover_envoy::validate::LIMIT);
        assert!(time(&unit, "TimeoutStartSec") > before, "{name}");
        // Reports come at half of it, so a busy host may be late by this much.
        assert!(
            time(&unit, "WatchdogSec") >= Duration::from_secs(20),
            "{name}"
        );
    }
}

#[test]
fn systemd_hears_of_the_service_signals_it_alone_and_restarts_what_a_restart_can_mend() {
    let numbers = |codes: &[ExitCode]| {
        let numbers = codes.iter().map(|code| code.number().to_string());
        numbers.collect::<Vec<_>>().join(" ")
    };
    let prevented = numbers(&[
        ExitCode::USAGE,
        ExitCode::CONFIG,
        ExitCode::NO_PERMISSION,
        ExitCode::NOT_EXECUTABLE,
        ExitCode::NOT_FOUND,
    ]);
    for name in SERVICES {
        let unit = unit(name);
        for (key, value) in [
            ("Type", "notify-reload"),
            ("NotifyAccess", "main"),
            ("KillMode", "mixed"),
            ("OOMPolicy", "continue"),
            ("Restart", "on-failure"),
            ("RestartPreventExitStatus", &*prevented),
        ] {
            assert_eq!(unit[key], value, "{name}: {key}");
        }
        // More than `StartLimitIntervalSec` (10s) over `StartLimitBurst` (5), so it never gives up.
        assert!(time(&unit, "RestartSec") > Duration::from_secs(2), "{name}");
    }
    let before = unit("before-253.conf");
    assert_eq!(before["Type"], "notify");
    assert_eq!(before["ExecReload"], "/bin/kill -HUP $MAINPID");
}

#[test]
fn the_socket_unit_passes_what_exec_takes() {
    let socket = unit("handover-exec@.socket");
    assert_eq!(socket["Accept"], "no");
    assert!(socket.contains_key("ListenStream"));
    for foreign in ["ListenDatagram", "ListenSequentialPacket", "ListenFIFO"] {
        assert!(!socket.contains_key(foreign), "{foreign}");
    }
    let backlog: u32 = socket["Backlog"].parse().unwrap();
    assert_eq!(backlog, handover_netutil::Listen::BACKLOG);
}
