//! `handover doctor` on this host: what it finds, how long it takes, and how it ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use handover_test_support::envoy_config::EnvoyConfig;
use handover_test_support::ports::Port;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Running, finish, handover, replace, stderr, stdout};

/// A configuration in a directory of its own.
struct Site {
    dir: tempfile::TempDir,
    good: String,
    _ports: [Port; 2],
}

impl Site {
    fn new() -> Self {
        let ports = [Port::free(), Port::free()];
        let [admin, listener] = &ports;
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
            good: EnvoyConfig::new("one", admin.number(), listener.number()).render(),
            _ports: ports,
        };
        replace(&site.path(), &site.good);
        site
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("envoy.yaml")
    }

    /// The findings as JSON, with the exit code.
    fn examine(&self, path: &Path, flags: &[&str], variables: &[(&str, &str)]) -> (i32, Value) {
        let mut command = handover(["doctor", "--json", "--all", "--envoy-path", "/bin/true"]);
        command.arg("--config-path").arg(path).args(flags);
        command.arg("--lock-dir").arg(self.dir.path().join("locks"));
        for variable in [
            "KUBERNETES_SERVICE_HOST",
            "TERMINATION_GRACE_PERIOD_SECONDS",
            "RESTART_EPOCH",
        ] {
            command.env_remove(variable);
        }
        let output = finish(command.envs(variables.iter().copied()));
        let text = stdout(&output);
        assert_eq!(stderr(&output), "");
        let report = serde_json::from_str(&text).unwrap();
        (output.status.code().unwrap(), report)
    }
}

fn finding<'a>(report: &'a Value, name: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    let mut found = findings.iter().filter(|finding| finding["name"] == name);
    let found = found.next();
    assert!(found.is_some(), "{name}: {report}");
    found.unwrap()
}

fn severity<'a>(report: &'a Value, name: &str) -> &'a str {
    finding(report, name)["severity"].as_str().unwrap()
}

/// The host that runs this test may have faults of its own, so only these checks are looked at.
const OF_THE_CONFIGURATION: [&str; 9] = [
    "base-id",
    "envoy-binary",
    "configuration",
    "admin-address",
    "admin-reachable",
    "admin-paths",
    "stats-matcher",
    "probation-statistics",
    "drain-timeout",
];

#[test]
fn a_good_configuration_has_no_finding() {
    let site = Site::new();
    let (code, report) = site.examine(&site.path(), &[], &[]);
    for name in OF_THE_CONFIGURATION {
        assert_eq!(severity(&report, name), "information", "{report}");
    }
    assert_eq!(report["version"], 1);
    let expected = match (&report["errors"], &report["warnings"]) {
        (Value::Number(none), Value::Number(no)) if none.as_u64() == Some(0) => {
            i32::from(no.as_u64() != Some(0))
        }
        _ => 2,
    };
    assert_eq!(code, expected, "{report}");
}

#[test]
fn overlays_count_into_what_is_examined() {
    let site = Site::new();
    let vendor = site.dir.path().join("vendor.yaml");
    std::fs::write(&vendor, "node: {id: x}\n").unwrap();
    let (_, report) = site.examine(&vendor, &[], &[]);
    assert_eq!(severity(&report, "configuration"), "error", "{report}");
    let ours = site.path();
    let flags = ["--config-overlay", ours.to_str().unwrap()];
    let (_, report) = site.examine(&vendor, &flags, &[]);
    for name in OF_THE_CONFIGURATION {
        assert_eq!(severity(&report, name), "information", "{report}");
    }
}

#[test]
fn a_bad_configuration_has_errors_with_value_reason_and_remedy() {
    let site = Site::new();
    let bad = site.good.replacen(
        "admin:",
        "stats_config: { stats_matcher: { reject_all: true } }\n\
         x: { drain_timeout: 3600s }\n\
         admin:\n  allow_paths: [{ exact: /ready }]",
        1,
    );
    replace(&site.path(), &bad);
    let flags = ["--drain-time", "45s", "--termination-drain", "45s"];
    let (code, report) = site.examine(&site.path(), &flags, &[]);
    assert_eq!(code, 2, "{report}");
    assert_eq!(severity(&report, "admin-paths"), "error", "{report}");
    for name in ["stats-matcher", "probation-statistics", "drain-timeout"] {
        assert_eq!(severity(&report, name), "warning", "{report}");
    }
    let timeout = finding(&report, "drain-timeout");
    assert!(
        timeout["value"]
            .as_str()
            .unwrap()
            .starts_with("1h at line "),
        "{timeout}"
    );
    for name in [
        "admin-paths",
        "stats-matcher",
        "probation-statistics",
        "drain-timeout",
    ] {
        for field in ["about", "value", "reason", "remedy"] {
            assert!(
                !finding(&report, name)[field].as_str().unwrap().is_empty(),
                "{report}"
            );
        }
    }
    // The text has the same code, and says it on standard output.
    let mut command = handover(["doctor", "--envoy-path", "/bin/true", "--config-path"]);
    let output = finish(command.arg(site.path()).args(flags));
    assert_eq!(output.status.code(), Some(2));
    let text = stdout(&output);
    assert!(text.contains("error    admin-paths: 1 pattern\n"), "{text}");
    assert!(
        text.contains("remedy: add `- exact: /server_info`"),
        "{text}"
    );
}

#[test]
fn a_configuration_that_is_not_there_is_a_finding_and_no_end() {
    let site = Site::new();
    let (code, report) = site.examine(Path::new("/no/such/envoy.yaml"), &[], &[]);
    assert_eq!(code, 2);
    assert_eq!(severity(&report, "configuration"), "error");
    assert_eq!(finding(&report, "stats-matcher")["value"], "unknown");
}

/// Doctors of other tools hang where a file system has lost its server. Opening a pipe that nobody
/// writes to hangs in the same way.
#[test]
fn a_file_that_never_answers_costs_a_limited_time() {
    let site = Site::new();
    let pipe = site.dir.path().join("pipe.yaml");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let started = Instant::now();
    let (code, report) = site.examine(&pipe, &[], &[]);
    assert!(started.elapsed() < Duration::from_secs(40));
    assert_eq!(code, 2);
    let configuration = finding(&report, "configuration");
    assert!(
        configuration["reason"]
            .as_str()
            .unwrap()
            .contains("no answer within"),
        "{report}"
    );
}

#[test]
fn a_grace_period_that_is_too_short_is_an_error() {
    let site = Site::new();
    let drain = ["--termination-drain", "45s"];
    let short = ["--termination-drain", "45s", "--grace-period", "30s"];
    let (code, report) = site.examine(&site.path(), &short, &[]);
    assert_eq!(
        (code, severity(&report, "grace-period")),
        (2, "error"),
        "{report}"
    );
    let of_the_pod = [("TERMINATION_GRACE_PERIOD_SECONDS", "60")];
    let (_, report) = site.examine(&site.path(), &drain, &of_the_pod);
    assert_eq!(severity(&report, "grace-period"), "information", "{report}");
    let value = finding(&report, "grace-period")["value"].as_str().unwrap();
    assert!(
        value.starts_with("1m (TERMINATION_GRACE_PERIOD_SECONDS)"),
        "{value}"
    );
}

#[test]
fn an_unknown_unit_is_no_fault_of_the_host() {
    let site = Site::new();
    let unit = ["--unit", "handover-test-no-such.service"];
    let (_, report) = site.examine(&site.path(), &unit, &[]);
    assert_eq!(
        finding(&report, "kill-mode")["value"],
        "unknown",
        "{report}"
    );
    assert_eq!(severity(&report, "kill-mode"), "information");
}

#[test]
fn a_program_on_the_admin_port_is_an_error() {
    let site = Site::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n"
    );
    replace(&site.path(), &silent);
    let (code, report) = site.examine(&site.path(), &[], &[]);
    assert_eq!(
        (code, severity(&report, "admin-reachable")),
        (2, "error"),
        "{report}"
    );
    let foreign = silent.replace("127.0.0.1", "192.0.2.1");
    replace(&site.path(), &foreign);
    let (_, report) = site.examine(&site.path(), &[], &[]);
    let reason = finding(&report, "admin-reachable")["reason"]
        .as_str()
        .unwrap();
    assert!(reason.starts_with("Envoy cannot listen there"), "{report}");
    assert_eq!(severity(&report, "admin-address"), "warning");
}

#[test]
fn without_rights_every_check_has_an_answer() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    if !rustix::process::geteuid().is_root() {
        // Every other test of this file has no rights then.
        return;
    }
    let site = Site::new();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(site.dir.path(), open).unwrap();
    let binary = site.dir.path().join("handover");
    std::fs::copy(env!("CARGO_BIN_EXE_handover"), &binary).unwrap();
    let words = [
        "doctor",
        "--json",
        "--all",
        "--envoy-path",
        "/bin/true",
        "--config-path",
    ];
    let mut command = Command::new(binary);
    command.args(words).arg(site.path()).uid(65_534).gid(65_534);
    let output = finish(command.env("TMPDIR", site.dir.path()));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        severity(&report, "configuration"),
        "information",
        "{report}"
    );
    let findings = report["findings"].as_array().unwrap();
    assert!(
        findings.iter().all(|finding| finding["reason"] != ""),
        "{report}"
    );
}

/// `run` with an Envoy that never goes live, so that the checks come three seconds after its start.
fn run_at(site: &Site) -> Command {
    let envoy = site.dir.path().join("envoy");
    std::fs::write(&envoy, "#!/bin/sh\nexec sleep 600\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&envoy, executable).unwrap();
    let mut command = handover(["run", "--pre-drain-delay", "9s", "--config-path"]);
    command.arg(site.path()).arg("--envoy-path").arg(&envoy);
    command.arg("--lock-dir").arg(site.dir.path().join("locks"));
    command
}

fn end(mut running: Running) {
    running.signal(Signal::TERM);
    running.signal(Signal::TERM);
    running.code();
}

#[test]
fn run_logs_what_is_wrong_beside_its_start() {
    let site = Site::new();
    let bad = "x: { drain_timeout: 3600s }\nadmin:\n  allow_paths: [{ prefix: /server_info }]";
    replace(&site.path(), &site.good.replacen("admin:", bad, 1));
    let running = Running::start(&mut run_at(&site));
    running.says("starting epoch 0");
    let line = running.says("doctor: drain-times: --pre-drain-delay 9s");
    assert!(line.contains("; make --termination-drain longer"), "{line}");
    running.says("doctor: drain-timeout: 1h at line ");
    // The start has said that already.
    assert_eq!(running.stderr.count("doctor: admin-paths"), 0);
    end(running);
}

/// The three seconds passed while files were awaited. The checks judged a host without a configuration, and
/// nobody heard of the configuration that was started later.
#[test]
fn a_start_that_waits_for_files_is_judged_when_it_begins() {
    let site = Site::new();
    let bad = "x: { drain_timeout: 3600s }\nadmin:";
    let bad = site.good.replacen("admin:", bad, 1);
    std::fs::remove_file(site.path()).unwrap();
    let mut command = run_at(&site);
    let running = Running::start(command.arg("--wait-for-file").arg(site.path()));
    // The second report comes after ten seconds.
    running.stderr.wait_for_nth(2, "nothing is started yet");
    assert_eq!(running.stderr.count("doctor: "), 0);
    replace(&site.path(), &bad);
    running.says("starting epoch 0");
    running.says("doctor: drain-times: --pre-drain-delay 9s");
    running.says("doctor: drain-timeout: 1h at line ");
    end(running);
}

#[test]
fn a_wrong_command_line_is_told_from_findings() {
    let site = Site::new();
    let path = site.path();
    let words = [
        "doctor",
        "--base-id",
        "4294967295",
        "--config-path",
        path.to_str().unwrap(),
    ];
    let output = finish(&mut handover(words));
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(stdout(&output), "");
}

#[test]
fn every_flag_of_run_is_a_flag_of_doctor() {
    let site = Site::new();
    let (dir, path) = (site.dir.path(), site.path());
    let (dir, path) = (dir.to_str().unwrap(), path.to_str().unwrap());
    let line = format!(
        "doctor --all --config-from file --config-path {path} --config-overlay {path} --template --envoy-path /bin/true --base-id 77777 --drain-time 20s \
         --parent-shutdown-time 30s --watch {dir}/watched --rescan-interval none --watch-binary --concurrency 2 \
         --run-dir {dir} --run-dir-group 0 --lock-dir {dir}/locks --state-dir {dir} --record no \
         --fallback last-known-good --termination-log {dir}/log --hung-after 5s --on-hung report \
         --no-repair --native-sidecar --print-command --name web --status-address :0 --status-envoy-stats --compat-endpoints --socket {dir}/web.sock \
         --service-cluster c --service-node n --local-address-ip-version v4 --termination-drain 9s \
         --pre-drain-delay 1s --min-drain 2s --drain-exclude-listener web --drain-exclude-port 81 --drain-inbound-only \
         --start-deadline 9s --max-retries 3 --retry-interval 1s --retry-max-interval 2s --retry-jitter 50% \
         --reset-after 3s --give-way-after 4s --min-interval 5s --memory-guard warn --wait-for-resources no --on-exit stay,oom=stop --on-exhausted stop --max-epochs 2 --abort-grace 3s \
         --probation 5s --verify-http http://127.0.0.1:1/ --verify-tcp 127.0.0.1:1 --verify true \
         --verify-timeout 1s --verify-failures 2 --max-error-rise 5% \
         --exit-with-pid 1 --exit-with-file {dir}/done --user 65534 --group 65534 --ambient-caps kill \
         --hook-pre-start true --hook-live true --hook-unfit true --hook-pre-drain true --hook-post-exit true \
         --hook-gave-up true --hook-timeout 3s \
         --log-format json --log-level warn --envoy-log-level info \
         --envoy-component-log-level config:info --settings {dir}/handover.toml -- --drain-strategy immediate"
    );
    std::fs::write(site.dir.path().join("handover.toml"), "max-retries = 4\n").unwrap();
    let output = finish(&mut handover(line.split_whitespace()));
    let text = stdout(&output);
    let code = output.status.code().unwrap();
    assert!(code <= 2, "{code}: {text}{}", stderr(&output));
    // Judged by the flags: a native sidecar needs no time to drain.
    assert!(
        text.contains("drain-times: a stop drains for up to 9s"),
        "{text}"
    );
    assert!(text.contains("base-id: 77777"), "{text}");
    assert!(text.contains("concurrency: 2"), "{text}");
    // It reads the settings file, and prints what `run` would be given.
    let printed = finish(&mut handover(
        line.replace("--base-id", "--print-config --base-id")
            .replace("--max-retries 3 ", "")
            .split_whitespace(),
    ));
    assert_eq!(printed.status.code(), Some(0), "{}", stderr(&printed));
    let retries = stdout(&printed);
    let retries = retries.lines().find(|line| line.starts_with("max-retries"));
    assert!(retries.unwrap().ends_with("handover.toml:1"), "{retries:?}");
    // A fallback starts at once, so that it goes with no file to wait for.
    let fallback = "--fallback last-known-good ";
    let awaits = format!("--wait-for-file {dir}/cert --wait-for-file-timeout 5s ");
    let output = finish(&mut handover(
        line.replace(fallback, &awaits).split_whitespace(),
    ));
    let code = output.status.code().unwrap();
    assert!(code <= 2, "{code}: {}", stderr(&output));
    // Nothing was started or written.
    let left: std::collections::BTreeSet<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["envoy.yaml", "handover.toml"].map(Into::into).into());
}
