//! The units in `deploy/systemd`: as `systemd-analyze` sees them, and as a real systemd runs them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use handover_test_support::systemd::{beside_a_user_manager, copies};

use crate::support::skipped;

const BINARY: &str = env!("CARGO_BIN_EXE_handover");

/// The highest exposure of a unit, in tenths: above it, `systemd-analyze` no longer calls it "OK".
const MOST_EXPOSED: &str = "25";

fn analyze(dir: &Path, words: &[&str]) -> Option<Output> {
    let mut command = Command::new("systemd-analyze");
    command.current_dir(dir).args(words).output().ok()
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let test = "systemd::systemd_finds_nothing_wrong_with_the_units";
    // Any program that is there.
    let dir = copies(&[("/usr/local/bin/handover", "/bin/sh")]);
    for unit in [
        "./handover-envoy.service",
        "./handover-exec@web.service",
        "./handover-exec@web.socket",
    ] {
        let Some(output) = analyze(dir.path(), &["verify", "--man=no", unit]) else {
            return skipped(test, "no systemd-analyze (Debian's package systemd has it)");
        };
        let said = said(&output);
        assert!(output.status.success() && said.is_empty(), "{unit}: {said}");
    }
}

#[test]
fn systemd_calls_the_exposure_of_the_services_low() {
    let test = "systemd::systemd_calls_the_exposure_of_the_services_low";
    let dir = copies(&[]);
    for unit in ["./handover-envoy.service", "./handover-exec@.service"] {
        let threshold = format!("--threshold={MOST_EXPOSED}");
        let words = ["security", "--offline=true", &threshold, unit];
        let Some(output) = analyze(dir.path(), &words) else {
            return skipped(test, "no systemd-analyze (Debian's package systemd has it)");
        };
        assert!(output.status.success(), "{unit}: {}", said(&output));
    }
}

/// The steps of an administrator, and what they show.
const STEPS: &str = r#"
mkdir -p /run/handover
get() { python3 -c 'import sys,urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode())' "$1"; }
unit=handover-exec@web.service
systemctl --user start handover-exec@web.socket
echo "before: $(show $unit ActiveState)"
echo "answer: $(get http://127.0.0.1:8080/)"
until_shown $unit ActiveState active
echo "status: $(show $unit StatusText)"
systemctl --user reload $unit; echo "reload: $?"
until_shown $unit StatusText "epoch 1 serves"
echo "answer: $(get http://127.0.0.1:8080/)"
# Longer than the watchdog waits.
sleep 5
echo "restarts: $(show $unit NRestarts)"
kill -STOP "$(show $unit MainPID)"
until_shown $unit NRestarts 1
until_shown $unit StatusText "epoch 0 serves"
echo "after a hang: $(get http://127.0.0.1:8080/)"
systemctl --user stop $unit; echo "stop: $? $(show $unit Result)"

# Its program takes longer to end than TimeoutStopSec says.
slow=handover-exec@slow.service
systemctl --user start $slow; echo "start: $?"
systemctl --user stop $slow; echo "slow stop: $? $(show $slow Result)"

# A command line that is wrong is not tried again.
bad=handover-exec@bad.service
systemctl --user start $bad; echo "bad: $?"
until_shown $bad ActiveState failed
echo "bad: $(show $bad ExecMainStatus) after $(show $bad NRestarts) restarts"
"#;

#[test]
fn a_real_systemd_starts_reloads_watches_and_stops_the_service() {
    let test = "systemd::a_real_systemd_starts_reloads_watches_and_stops_the_service";
    // A copy beside the units has a path without spaces, which the hardening does not hide.
    let handover = "/run/config/systemd/user/handover";
    let dir = copies(&[
        ("/usr/local/bin/handover", handover),
        ("/etc/handover/%i.env", "%h/config/systemd/user/%i.env"),
        (
            "ListenStream=/run/handover-exec-%i.sock",
            "ListenStream=127.0.0.1:8080",
        ),
        ("WatchdogSec=1min", "WatchdogSec=2s"),
        ("TimeoutStopSec=60s", "TimeoutStopSec=1s"),
        ("RestartSec=5s", "RestartSec=100ms"),
    ]);
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::copy(BINARY, dir.path().join("handover")).unwrap();
    let server = format!("HANDOVER_NOTIFY=1\nCOMMAND={handover} demo-server\n");
    write("web.env", &server);
    let slow = "trap 'sleep 4; exit 0' TERM; echo waiting; while :; do sleep 0.05; done\n";
    write("slow.sh", slow);
    write(
        "slow.env",
        "COMMAND=/bin/sh /run/config/systemd/user/slow.sh\n",
    );
    write("bad.env", "HANDOVER_STOP_SIGNAL=never\nCOMMAND=/bin/true\n");
    // Only `web` has a socket.
    for name in ["slow", "bad"] {
        let socket = format!("[Socket]\nListenStream=/run/handover-{name}.sock\n");
        write(&format!("handover-exec@{name}.socket"), &socket);
    }
    let said = match beside_a_user_manager(dir.path(), STEPS) {
        Ok(said) => said,
        Err(why) => return skipped(test, &why),
    };
    for line in [
        "before: inactive",
        "answer: hello from epoch 0",
        "status: epoch 0 serves",
        "reload: 0",
        "answer: hello from epoch 1",
        "restarts: 0",
        "after a hang: hello from epoch 0",
        "stop: 0 success",
        "start: 0",
        "slow stop: 0 success",
        "bad: 1",
        "bad: 64 after 0 restarts",
    ] {
        assert!(
            said.lines().any(|found| found == line),
            "{line} in:\n{said}"
        );
    }
}
