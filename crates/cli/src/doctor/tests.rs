//! Every check with the facts of a good host and of a bad one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use handover_envoy::EnvoyConfig;
use handover_envoy::args::{ArgsOptions, EnvoyArgs};
use handover_envoy::hot_restart::BaseId;
use handover_process::memory::{Bound, Place};
use handover_watch::Preview;

use super::facts::{AdminAnswer, AdminFacts, BaseIdFacts, HostFacts, SharedMemoryFacts, UnitFacts};
use super::gather::config_facts;
use super::*;

const GOOD: &str = "
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - name: web
    address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
    filter_chains: [{filters: [{typed_config: {drain_timeout: 0.2s}}]}]
";

const BAD: &str = "
admin:
  address: {socket_address: {address: 0.0.0.0, port_value: 9901}}
  allow_paths: [{exact: /server_info}]
stats_config: {stats_matcher: {inclusion_list: {patterns: [{prefix: cluster.}]}}}
dynamic_resources: {lds_config: {ads: {}}}
static_resources:
  listeners:
  - name: web
    enable_reuse_port: false
    address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
    filter_chains: [{filters: [{typed_config: {drain_timeout: 3600s}}]}]
  - name: dns
    address: {socket_address: {address: 0.0.0.0, port_value: 53, protocol: UDP}}
  - name: h3
    address: {socket_address: {address: 0.0.0.0, port_value: 443, protocol: UDP}}
    udp_listener_config: {quic_options: {}}
  - name: local
    address: {pipe: {path: /run/web.sock}}
    filter_chains: [{filters: [{typed_config: {route: {timeout: 3600s}}}]}]
  - name: pod
    address: {socket_address: {address: 0.0.0.0, port_value: 80, network_namespace_filepath: /nonexistent/pod}}
";

fn configuration(text: &str) -> ConfigurationFacts {
    let path = Path::new("/etc/envoy/envoy.yaml");
    config_facts(&EnvoyConfig::parse(path, text.into()).unwrap())
}

fn settings() -> Settings {
    let options = ArgsOptions {
        concurrency: std::num::NonZeroU32::new(2),
        ..ArgsOptions::default()
    };
    Settings {
        config_path: "/etc/envoy/envoy.yaml".into(),
        base_id: None,
        drain_time: Duration::from_secs(45),
        termination_drain: Duration::from_secs(5),
        pre_drain_delay: Duration::ZERO,
        min_drain: Duration::ZERO,
        abort_grace: Duration::from_secs(5),
        native_sidecar: false,
        watch_binary: false,
        rescans: true,
        concurrency_is_given: false,
        log_level_is_given: false,
        args: Ok(EnvoyArgs::new(options).unwrap()),
        grace_period: Ok(None),
    }
}

/// A preview of a path that every host has. What it found is replaced.
fn preview() -> Preview {
    let mut preview = Preview::of(["/"]).unwrap();
    preview.watches = 4;
    preview.gaps.clear();
    preview.mounted_files.clear();
    preview
}

fn memory(limit: Option<u64>, used: u64, stalled: u8) -> Vec<Bound> {
    let bound = |place, limit, used, stalled| Bound {
        place,
        limit,
        used,
        freeable: 0,
        swap: 0,
        stalled,
    };
    let directory = Path::new("/sys/fs/cgroup").to_owned();
    let group = limit.map(|limit| bound(Place::Group(directory), limit, used, Some(stalled)));
    let host = bound(Place::Host, 16 << 30, 8 << 30, None);
    [host].into_iter().chain(group).collect()
}

fn good() -> Facts {
    Facts {
        settings: settings(),
        host: Ok(HostFacts {
            kernel: "6.1.0-13-amd64".to_owned(),
            awaits_by_pidfd: true,
            inotify_instances: Ok(128),
            inotify_opened: (3, None),
            inotify_watches: Ok(65_536),
            open_files_soft: Some(1024),
            open_files_hard: Some(1_048_576),
        }),
        shared_memory: Ok(SharedMemoryFacts {
            owner: 0,
            mode: 0o1777,
            user: 1000,
            is_writable: true,
            size: 64 << 20,
            available: 64 << 20,
        }),
        memory: Ok(memory(Some(1 << 30), 100 << 20, 0)),
        unit: Ok(Some(UnitFacts {
            name: "envoy.service".to_owned(),
            service_type: Ok("notify-reload".to_owned()),
            kill_mode: "mixed".to_owned(),
            stop_timeout: Ok(Some(Duration::from_secs(90))),
        })),
        base_ids: Ok(BaseIdFacts {
            neighbours: Ok(Vec::new()),
            with_memory: Ok(Vec::new()),
            own: None,
            network: Ok("net:[4026531840]".to_owned()),
            network_of_init: Ok("net:[4026531840]".to_owned()),
        }),
        binary: Ok(Ok("/usr/bin/envoy".into())),
        configuration: Ok(configuration(GOOD)),
        admin: Ok(AdminFacts {
            cannot_listen: None,
            answer: AdminAnswer::Nobody,
            version: None,
        }),
        watched: Ok(preview()),
        variables: BTreeMap::from([("TERMINATION_DRAIN_DURATION_SECONDS", "5".to_owned())]),
    }
}

fn bad() -> Facts {
    let mut facts = good();
    let settings = &mut facts.settings;
    settings.base_id = Some(BaseId::new(7).unwrap());
    settings.termination_drain = Duration::from_secs(120);
    settings.pre_drain_delay = Duration::from_secs(120);
    settings.watch_binary = true;
    facts.host = Ok(HostFacts {
        kernel: "4.18.0-305.el8".to_owned(),
        awaits_by_pidfd: false,
        inotify_instances: Ok(128),
        inotify_opened: (1, Some("Too many open files".to_owned())),
        inotify_watches: Ok(2),
        open_files_soft: Some(1024),
        open_files_hard: Some(1024),
    });
    facts.shared_memory = Ok(SharedMemoryFacts {
        owner: 0,
        mode: 0o755,
        user: 1000,
        is_writable: false,
        size: 64 << 20,
        available: 0,
    });
    facts.memory = Ok(memory(Some(64 << 20), 60 << 20, 23));
    facts.unit = Ok(Some(UnitFacts {
        name: "envoy.service".to_owned(),
        service_type: Ok("forking".to_owned()),
        kill_mode: "control-group".to_owned(),
        stop_timeout: Ok(Some(Duration::from_secs(90))),
    }));
    facts.base_ids = Ok(BaseIdFacts {
        neighbours: Err(Unknown("Permission denied (os error 13)".to_owned())),
        with_memory: Ok(vec![BaseId::new(7).unwrap()]),
        own: None,
        network: Ok("net:[4026532000]".to_owned()),
        network_of_init: Err(Unknown("Permission denied (os error 13)".to_owned())),
    });
    facts.binary = Ok(Err("`envoy` was not found in PATH".to_owned()));
    facts.configuration = Ok(configuration(BAD));
    facts.admin = Ok(AdminFacts {
        cannot_listen: None,
        answer: AdminAnswer::Other("an answer that is no JSON".to_owned()),
        version: None,
    });
    let mut watched = preview();
    watched.mounted_files.push("/etc/envoy/envoy.yaml".into());
    watched.gaps = vec![handover_watch::Gap {
        path: Some("/etc/envoy/envoy.yaml".into()),
        others: 0,
        why: handover_watch::GapCause::NoEvents { file_system: "NFS" },
    }];
    facts.watched = Ok(watched);
    facts.variables = BTreeMap::from([
        ("TERMINATION_DRAIN_DURATION_SECONDS", "120".to_owned()),
        ("MINIMUM_DRAIN_DURATION", "5s".to_owned()),
        ("PROXY_CONFIG", "{}".to_owned()),
    ]);
    facts
}

/// Nothing can be looked at: a sandbox without `/proc` and `/sys`, and a file system that hangs.
fn blind() -> Facts {
    let unknown = || Unknown("no answer within 5s".to_owned());
    Facts {
        settings: settings(),
        host: Err(unknown()),
        shared_memory: good().shared_memory,
        memory: Err(unknown()),
        unit: Err(unknown()),
        base_ids: Err(unknown()),
        binary: Err(unknown()),
        configuration: Ok(configuration(GOOD)),
        admin: Err(unknown()),
        watched: Ok(preview()),
        variables: BTreeMap::new(),
    }
}

fn finding(facts: &Facts, name: &str) -> Finding {
    let mut found = examine(facts).into_iter();
    found.find(|finding| finding.name == name).unwrap()
}

/// A variable that the settings follow is honoured, and one that a flag overrules is not.
#[test]
fn the_variables_of_istio_are_honoured_where_no_flag_wins() {
    let value = |variable: &'static str, value: &str, settings: fn(&mut Settings)| {
        let mut facts = good();
        facts.variables = BTreeMap::from([(variable, value.to_owned())]);
        settings(&mut facts.settings);
        let finding = finding(&facts, "foreign-variables");
        assert_eq!(finding.severity, Severity::Information);
        finding.value
    };
    let short = |settings: &mut Settings| settings.min_drain = Duration::from_secs(2);
    let whole = |settings: &mut Settings| settings.min_drain = settings.termination_drain;
    let counted = |settings: &mut Settings| settings.concurrency_is_given = true;
    for (variable, text, settings, expected) in [
        (
            "MINIMUM_DRAIN_DURATION",
            "2s",
            short as fn(&mut _),
            "honoured (it is the shortest",
        ),
        (
            "MINIMUM_DRAIN_DURATION",
            "3s",
            short,
            "ignored (--min-drain wins)",
        ),
        (
            "EXIT_ON_ZERO_ACTIVE_CONNECTIONS",
            "true",
            short,
            "honoured (a stop ends when",
        ),
        (
            "EXIT_ON_ZERO_ACTIVE_CONNECTIONS",
            "false",
            whole,
            "honoured (a stop takes the whole",
        ),
        (
            "EXIT_ON_ZERO_ACTIVE_CONNECTIONS",
            "false",
            short,
            "ignored (--min-drain wins)",
        ),
        (
            "TERMINATION_DRAIN_DURATION_SECONDS",
            "5",
            short,
            "honoured (it limits",
        ),
        (
            "TERMINATION_DRAIN_DURATION_SECONDS",
            "6",
            short,
            "ignored (--termination-drain wins)",
        ),
        (
            "ISTIO_CPU_LIMIT",
            "2",
            counted,
            "honoured (without --concurrency",
        ),
        ("ISTIO_CPU_LIMIT", "0", short, "ignored (0 is no limit)"),
    ] {
        let value = value(variable, text, settings);
        let expected = format!("{variable}={text} is {expected}");
        assert!(value.starts_with(&expected), "{value}");
    }
}

#[test]
fn a_good_host_has_no_finding_but_information() {
    let report = Report::new(&good(), true);
    insta::assert_snapshot!("good_host", report.text());
    assert_eq!(
        Report::new(&good(), false).text(),
        "0 errors, 0 warnings in 34 checks"
    );
    assert_eq!(report.exit_code().number(), 0);
    assert!(examine_at_start(&good()).is_empty());
}

#[test]
fn a_bad_host_has_value_reason_and_remedy_for_each_finding() {
    let report = Report::new(&bad(), false);
    insta::assert_snapshot!("bad_host", report.text());
    insta::assert_snapshot!(
        "bad_host_json",
        serde_json::to_string_pretty(&report).unwrap()
    );
    assert_eq!(report.exit_code().number(), 2);
    let at_start: Vec<_> = examine_at_start(&bad())
        .iter()
        .map(|found| found.name)
        .collect();
    assert!(at_start.contains(&"kill-mode") && at_start.contains(&"stats-matcher"));
    // The start says these by itself.
    assert!(!at_start.contains(&"admin-paths") && !at_start.contains(&"file-system"));
}

#[test]
fn what_is_unknown_is_no_fault_and_says_how_it_could_be_known() {
    let facts = blind();
    let report = Report::new(&facts, true);
    insta::assert_snapshot!("blind", report.text());
    assert_eq!(report.exit_code().number(), 0);
    for found in examine(&facts)
        .iter()
        .filter(|found| found.value == "unknown")
    {
        assert!(
            found.remedy.is_some() && !found.reason.is_empty(),
            "{found:?}"
        );
    }
}

#[test]
fn whoever_cannot_read_the_configuration_starts_nothing() {
    let mut facts = good();
    facts.configuration = Err(Unknown("no answer within 5s".to_owned()));
    assert_eq!(finding(&facts, "configuration").severity, Severity::Error);
    assert_eq!(finding(&facts, "stats-matcher").value, "unknown");
    assert_eq!(Report::new(&facts, false).exit_code().number(), 2);
}

#[test]
fn warnings_alone_have_a_code_of_their_own() {
    let mut facts = good();
    facts.variables.insert("RESTART_EPOCH", "3".to_owned());
    let report = Report::new(&facts, false);
    assert_eq!(report.exit_code().number(), 1);
    assert!(report.text().ends_with("0 errors, 1 warning in 34 checks"));
}

#[test]
fn a_sandbox_with_an_old_version_that_has_what_is_needed_is_good() {
    for (kernel, awaits, severity) in [
        ("4.4.0", true, Severity::Information),
        ("4.4.0", false, Severity::Error),
        ("5.4.0-42-generic", false, Severity::Information),
        ("5.3.18", false, Severity::Error),
        ("10.0", false, Severity::Information),
        ("odd", false, Severity::Error),
    ] {
        let mut facts = good();
        let host = facts.host.as_mut().unwrap();
        host.kernel = kernel.to_owned();
        host.awaits_by_pidfd = awaits;
        assert_eq!(
            finding(&facts, "kernel-version").severity,
            severity,
            "{kernel}"
        );
    }
}

#[test]
fn shared_memory_that_others_can_remove_or_fill_is_a_warning() {
    let memory = |change: fn(&mut SharedMemoryFacts)| {
        let mut facts = good();
        change(facts.shared_memory.as_mut().unwrap());
        let severity = |name| finding(&facts, name).severity;
        (severity("dev-shm-access"), severity("dev-shm-size"))
    };
    use Severity::{Error, Information, Warning};
    assert_eq!(memory(|memory| memory.mode = 0o777), (Warning, Information));
    assert_eq!(memory(|memory| memory.owner = 7), (Warning, Information));
    assert_eq!(
        memory(|memory| memory.owner = memory.user),
        (Information, Information)
    );
    assert_eq!(
        memory(|memory| memory.is_writable = false),
        (Error, Information)
    );
    assert_eq!(
        memory(|memory| memory.available = 512 << 10),
        (Information, Warning)
    );
    assert_eq!(
        memory(|memory| memory.available = 100),
        (Information, Error)
    );
    let mut facts = good();
    facts.shared_memory = Err(Unknown("No such file or directory (os error 2)".to_owned()));
    assert_eq!(finding(&facts, "dev-shm-access").severity, Error);
}

#[test]
fn a_second_envoy_must_fit_into_the_limit_and_into_the_host() {
    let severity = |limit: Option<u64>, used: u64, available: u64| {
        let mut facts = good();
        let mut bounds = memory(limit.map(|limit| limit << 20), used << 20, 0);
        let host = bounds.first_mut().unwrap();
        (host.limit, host.used) = (available << 20, 0);
        facts.memory = Ok(bounds);
        finding(&facts, "memory-limit").severity
    };
    let (limit, host) = (Some(1024), 65_536);
    assert_eq!(severity(limit, 300, host), Severity::Information);
    assert_eq!(severity(limit, 600, host), Severity::Warning);
    assert_eq!(severity(limit, 1000, host), Severity::Warning);
    assert_eq!(severity(Some(80), 0, host), Severity::Error);
    assert_eq!(severity(None, 600, host), Severity::Information);
    assert_eq!(severity(None, 600, 50), Severity::Warning);
    assert_eq!(severity(limit, 0, 50), Severity::Warning);
}

#[test]
fn pressure_is_that_of_the_group_or_else_of_the_host() {
    let judged = |of_host: u8, of_group: Option<u8>| {
        let mut facts = good();
        let mut bounds = memory(of_group.map(|_| 1 << 30), 0, of_group.unwrap_or(0));
        bounds.first_mut().unwrap().stalled = Some(of_host);
        facts.memory = Ok(bounds);
        finding(&facts, "memory-pressure")
    };
    let of_group = judged(90, Some(9));
    assert!(of_group.value.contains("of the control group"));
    assert_eq!(of_group.severity, Severity::Information);
    let of_host = judged(10, None);
    assert!(of_host.value.contains("of the host waited for memory 10 %"));
    assert_eq!(of_host.severity, Severity::Warning);
}

#[test]
fn a_stop_must_be_over_before_sigkill() {
    let severity = |drain: u64, period: Option<u64>, native_sidecar: bool| {
        let mut facts = good();
        facts.unit = Ok(None);
        let settings = &mut facts.settings;
        settings.termination_drain = Duration::from_secs(drain);
        settings.native_sidecar = native_sidecar;
        let from = "--grace-period";
        let time = period.map(Duration::from_secs);
        settings.grace_period = Ok(time.map(|time| GracePeriod { time, from }));
        finding(&facts, "grace-period")
    };
    assert_eq!(severity(45, Some(30), false).severity, Severity::Error);
    assert_eq!(severity(45, Some(47), false).severity, Severity::Warning);
    assert_eq!(
        severity(45, Some(50), false).severity,
        Severity::Information
    );
    assert_eq!(severity(45, Some(30), true).severity, Severity::Information);
    assert_eq!(severity(45, None, false).value, "unknown");
    let mut facts = good();
    facts.unit = Ok(None);
    facts.settings.termination_drain = Duration::from_secs(45);
    facts
        .variables
        .insert("KUBERNETES_SERVICE_HOST", "10.0.0.1".to_owned());
    assert_eq!(finding(&facts, "grace-period").severity, Severity::Warning);
    facts.settings.termination_drain = Duration::from_secs(5);
    assert_eq!(
        finding(&facts, "grace-period").severity,
        Severity::Information
    );
    // The unit says so where nobody else does.
    let mut facts = good();
    facts.settings.termination_drain = Duration::from_secs(120);
    // systemd is asked for more time.
    assert_eq!(finding(&facts, "grace-period").severity, Severity::Warning);
    if let Ok(Some(unit)) = &mut facts.unit {
        unit.service_type = Ok("simple".to_owned());
    }
    assert_eq!(finding(&facts, "grace-period").severity, Severity::Error);
    if let Ok(Some(unit)) = &mut facts.unit {
        unit.stop_timeout = Ok(None);
    }
    assert_eq!(
        finding(&facts, "grace-period").severity,
        Severity::Information
    );
}

#[test]
fn each_service_type_has_its_verdict() {
    for (service_type, severity) in [
        ("notify-reload", Severity::Information),
        ("notify", Severity::Information),
        ("simple", Severity::Warning),
        ("exec", Severity::Warning),
        ("forking", Severity::Error),
        ("oneshot", Severity::Error),
        ("new", Severity::Information),
    ] {
        let mut facts = good();
        if let Ok(Some(unit)) = &mut facts.unit {
            unit.service_type = Ok(service_type.to_owned());
        }
        let found = finding(&facts, "service-type").severity;
        assert_eq!(found, severity, "{service_type}");
    }
    let mut facts = good();
    facts.unit = Ok(None);
    let found = finding(&facts, "service-type").severity;
    assert_eq!(found, Severity::Information);
}

#[test]
fn each_kill_mode_has_its_verdict() {
    for (mode, severity) in [
        ("mixed", Severity::Information),
        ("process", Severity::Information),
        ("control-group", Severity::Error),
        ("none", Severity::Error),
        ("new", Severity::Information),
    ] {
        let mut facts = good();
        if let Ok(Some(unit)) = &mut facts.unit {
            mode.clone_into(&mut unit.kill_mode);
        }
        assert_eq!(finding(&facts, "kill-mode").severity, severity, "{mode}");
    }
}

#[test]
fn an_instance_that_runs_already_is_no_foreign_envoy() {
    let mut facts = good();
    facts.settings.base_id = Some(BaseId::new(7).unwrap());
    let base_ids = facts.base_ids.as_mut().unwrap();
    base_ids.with_memory = Ok(vec![BaseId::new(7).unwrap()]);
    assert_eq!(finding(&facts, "base-id").severity, Severity::Warning);
    facts.base_ids.as_mut().unwrap().own = BaseId::new(7).ok();
    assert_eq!(finding(&facts, "base-id").severity, Severity::Information);
    facts.admin.as_mut().unwrap().answer = AdminAnswer::Other("silence".to_owned());
    assert_eq!(
        finding(&facts, "admin-reachable").severity,
        Severity::Warning
    );
    facts.base_ids.as_mut().unwrap().own = None;
    assert_eq!(finding(&facts, "admin-reachable").severity, Severity::Error);
    facts.admin.as_mut().unwrap().cannot_listen = Some("no such address".to_owned());
    assert!(
        finding(&facts, "admin-reachable")
            .reason
            .contains("no such address")
    );
}

#[test]
fn only_what_others_reach_is_a_public_admin_address() {
    for (address, severity) in [
        (
            "socket_address: {address: 127.0.0.2, port_value: 1}",
            Severity::Information,
        ),
        (
            "socket_address: {address: '::1', port_value: 1}",
            Severity::Information,
        ),
        (
            "socket_address: {address: '::ffff:127.0.0.1', port_value: 1}",
            Severity::Information,
        ),
        ("pipe: {path: /run/admin.sock}", Severity::Information),
        (
            "socket_address: {address: 0.0.0.0, port_value: 1}",
            Severity::Warning,
        ),
        (
            "socket_address: {address: '::', port_value: 1}",
            Severity::Warning,
        ),
        (
            "socket_address: {address: 192.0.2.1, port_value: 1}",
            Severity::Warning,
        ),
    ] {
        let mut facts = good();
        let text = format!("admin: {{address: {{{address}}}}}");
        facts.configuration = Ok(configuration(&text));
        assert_eq!(
            finding(&facts, "admin-address").severity,
            severity,
            "{address}"
        );
    }
}

#[test]
fn a_drain_timeout_is_compared_with_the_drains() {
    let severity = |timeout: &str| {
        let mut facts = good();
        facts.configuration = Ok(configuration(&GOOD.replace("0.2s", timeout)));
        finding(&facts, "drain-timeout").severity
    };
    assert_eq!(severity("5s"), Severity::Information);
    assert_eq!(severity("6s"), Severity::Warning);
    assert_eq!(severity("odd"), Severity::Information);
}

#[test]
fn udp_is_dark_after_a_change_before_envoy_1_40_alone() {
    let judged = |version: Option<(u32, u32)>, watch_binary: bool| {
        let mut facts = good();
        facts.settings.watch_binary = watch_binary;
        let udp = GOOD.replace("8080", "53, protocol: UDP");
        facts.configuration = Ok(configuration(&udp));
        facts.admin.as_mut().unwrap().version = version;
        finding(&facts, "udp-listeners")
    };
    for (version, severity) in [
        ((1, 39), Severity::Warning),
        ((1, 9), Severity::Warning),
        ((1, 40), Severity::Information),
        ((2, 0), Severity::Information),
    ] {
        let judged = judged(Some(version), false);
        assert_eq!(judged.severity, severity, "{version:?}");
    }
    let old = judged(Some((1, 39)), false);
    assert_eq!(old.value, "web, with Envoy 1.39");
    assert!(old.reason.contains("--parent-shutdown-time 1m"), "{old:?}");
    let unknown = judged(None, false);
    assert!(
        unknown.remedy.is_some() && unknown.reason.contains("before Envoy 1.40"),
        "{unknown:?}"
    );
    // A binary whose hot restart speaks another version cannot have the port as well.
    assert_eq!(judged(Some((1, 40)), true).severity, Severity::Warning);
}

#[test]
fn unix_sockets_are_no_fault_unless_two_envoys_need_one() {
    let judged = |path: &str, watch_binary: bool| {
        let mut facts = good();
        facts.settings.watch_binary = watch_binary;
        let tcp = "socket_address: {address: 0.0.0.0, port_value: 8080}";
        let unix = GOOD.replace(tcp, &format!("pipe: {{path: \"{path}\"}}"));
        facts.configuration = Ok(configuration(&unix));
        finding(&facts, "unix-listeners")
    };
    let named = judged("/run/web.sock", false);
    assert_eq!(named.value, "unix:/run/web.sock");
    assert_eq!(named.severity, Severity::Information);
    let unnamed = judged("@web", false);
    assert_eq!(unnamed.severity, Severity::Information);
    assert!(unnamed.reason.contains("no permissions"), "{unnamed:?}");
    for path in ["/run/web.sock", "@web"] {
        assert_eq!(judged(path, true).severity, Severity::Warning);
    }
}

#[test]
fn the_namespace_of_a_listener_must_be_there() {
    let judged = |path: &str| {
        let mut facts = good();
        let port = format!("8080, network_namespace_filepath: {path}");
        facts.configuration = Ok(configuration(&GOOD.replace("8080", &port)));
        finding(&facts, "listener-namespaces")
    };
    let there = judged("/proc/self/ns/net");
    assert_eq!(there.value, "/proc/self/ns/net");
    assert_eq!(there.severity, Severity::Information);
    let gone = judged("/nonexistent/pod");
    assert_eq!(gone.severity, Severity::Error);
    assert!(
        gone.value.starts_with("/nonexistent/pod: No such file"),
        "{gone:?}"
    );
}

#[test]
fn what_may_last_long_is_compared_with_the_end_of_an_old_epoch() {
    let judged = |what: &str| {
        let mut facts = good();
        let text = GOOD.replace("drain_timeout: 0.2s", what);
        facts.configuration = Ok(configuration(&text));
        finding(&facts, "long-streams")
    };
    // The parent-shutdown time is a minute.
    for short in ["route: {timeout: 60s}", "x: {timeout: 0s}"] {
        assert_eq!(judged(short).value, "none in the file", "{short}");
    }
    let long = judged("route: {timeout: 61s}");
    assert_eq!(long.severity, Severity::Warning);
    assert_eq!(long.value, "a route with a timeout of 1m 1s at line 7");
    for (text, value) in [
        (
            "upgrade_configs: [{upgrade_type: websocket}]",
            "upgrades to websocket at line 7",
        ),
        (
            "route: {timeout: 0s}",
            "a route without a timeout at line 7",
        ),
    ] {
        let endless = judged(text);
        assert_eq!(
            (endless.severity, &*endless.value),
            (Severity::Information, value)
        );
        assert!(
            endless.remedy.is_some() && endless.reason.contains("1m"),
            "{endless:?}"
        );
    }
    let two = judged("a: {route: {timeout: 0s}}, b: {route: {timeout: 2h}}, route: {timeout: 90s}");
    assert_eq!(
        two.value,
        "a route with a timeout of 1m 30s at line 7, and 1 more"
    );
    let mut facts = good();
    facts.settings.args = Err(Unknown("odd".to_owned()));
    let unknown = finding(&facts, "long-streams");
    assert_eq!((&*unknown.value, &*unknown.reason), ("unknown", "odd"));
}

#[test]
fn nothing_that_a_terminal_would_obey_is_printed() {
    let mut facts = good();
    facts.variables.insert("ENVOY_UID", "\u{1b}[2J".to_owned());
    let text = Report::new(&facts, true).text();
    assert!(
        !text.contains('\u{1b}') && text.contains("\\u{1b}[2J"),
        "{text}"
    );
}

#[test]
fn the_table_of_the_page_is_that_of_the_code() {
    let page = include_str!("../../../../docs/doctor.md");
    let rows = CHECKS.iter().map(|check| {
        let worst = match check.worst {
            Severity::Information => "information",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let logged = if check.logged { "yes" } else { "no" };
        format!(
            "| `{}` | {} | {worst} | {logged} |",
            check.name, check.about
        )
    });
    let rows: Vec<String> = rows.collect();
    let is_row = |line: &&str| line.starts_with("| `") && line.matches(" | ").count() == 3;
    let in_page: Vec<&str> = page.lines().filter(is_row).collect();
    assert_eq!(in_page, rows, "the table should be:\n{}", rows.join("\n"));
}

#[test]
fn names_are_unique_and_never_change_their_form() {
    let names: BTreeSet<_> = CHECKS.iter().map(|check| check.name).collect();
    assert_eq!(names.len(), CHECKS.len());
    for name in names {
        assert!(
            name.chars().all(|c| c == '-' || c.is_ascii_lowercase()),
            "{name}"
        );
    }
}
