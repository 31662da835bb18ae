//! The metrics of a running instance, as a scraper reads them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use handover_test_support::metrics::{Scrape, promtool_or_skip};

use crate::control::Place;
use crate::status_server::Shown;
use crate::support::{Running, eventually, exec_script, exec_server, replace, skipped};

fn scrape(place: &Place) -> Scrape {
    Scrape::of(&place.path("web.sock"), "*/*")
}

#[test]
fn a_hand_over_of_a_program_is_counted() {
    let place = Place::new();
    let (running, config) = place.server("web", &[]);
    running.says("epoch 0 is live");
    let first = eventually("it is ready", || {
        let first = scrape(&place);
        (first.value("handover_ready") == Some(1.0)).then_some(first)
    });
    assert!(
        first
            .head
            .contains("content-type: application/openmetrics-text; version=1.0.0;")
    );
    assert!(first.body.ends_with("\n# EOF\n"), "{}", first.body);
    for (sample, value) in [
        ("handover_configuration_current", 1.0),
        ("handover_live_epoch", 0.0),
        ("handover_epochs{state=\"live\"}", 1.0),
        ("handover_epochs_started_total", 1.0),
        ("handover_first_starts_total{result=\"live\"}", 1.0),
        ("handover_hand_overs_total{result=\"live\"}", 0.0),
        ("handover_last_reload_successful", 1.0),
        ("handover_epochs_failed_total", 0.0),
    ] {
        assert_eq!(first.value(sample), Some(value), "{sample}\n{}", first.body);
    }
    // It is a program: nobody counts its connections, and it has neither a version nor a base id.
    for absent in ["handover_cut_connections_total", "handover_envoy_base_id"] {
        assert_eq!(first.value(absent), None, "{absent}");
    }
    replace(&config, "two");
    running.says("epoch 1 is live");
    let second = eventually("the old epoch has ended", || {
        let second = scrape(&place);
        let ended = "handover_epoch_exits_total{cause=\"handed_over\",code=\"0\"}";
        (second.value(ended) == Some(1.0)).then_some(second)
    });
    for (sample, value) in [
        ("handover_live_epoch", 1.0),
        ("handover_hand_overs_total{result=\"live\"}", 1.0),
        ("handover_uncounted_ends_total", 1.0),
        (
            "handover_stage_duration_seconds_count{stage=\"start\"}",
            2.0,
        ),
    ] {
        assert_eq!(
            second.value(sample),
            Some(value),
            "{sample}\n{}",
            second.body
        );
    }
    let reloaded = "handover_last_reload_success_timestamp_seconds";
    assert!(
        second.value(reloaded) >= first.value(reloaded),
        "{}",
        second.body
    );
}

#[test]
fn what_cannot_start_is_counted_as_failed_and_not_ready() {
    let place = Place::new();
    let flags = [
        &*place.flag("web.sock"),
        "--retry-interval=1h",
        "--retry-max-interval=none",
    ];
    let running = exec_script(&flags, "exit 3");
    running.says("exited with code 3");
    let seen = eventually("the retry is scheduled", || {
        let seen = scrape(&place);
        (seen.value("handover_retries_total") == Some(1.0)).then_some(seen)
    });
    for (sample, value) in [
        ("handover_ready", 0.0),
        ("handover_configuration_current", 0.0),
        ("handover_last_reload_successful", 0.0),
        ("handover_epochs_failed_total", 1.0),
        ("handover_held{reason=\"retry\"}", 1.0),
        ("handover_first_starts_total{result=\"start_failed\"}", 1.0),
        (
            "handover_epoch_exits_total{cause=\"exited\",code=\"2_to_125\"}",
            1.0,
        ),
    ] {
        assert_eq!(seen.value(sample), Some(value), "{sample}\n{}", seen.body);
    }
    // Nothing was live, so no epoch has a number that clients are served by.
    assert_eq!(seen.value("handover_live_epoch"), None);
    assert_eq!(
        seen.value("handover_last_reload_success_timestamp_seconds"),
        None
    );
    assert!(
        seen.value("handover_retries_left").is_some(),
        "{}",
        seen.body
    );
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics_of_a_running_instance() {
    let test = "metrics::promtool_finds_nothing_wrong_with_the_metrics_of_a_running_instance";
    let Some(promtool) = promtool_or_skip(test) else {
        return;
    };
    let place = Place::new();
    let running = exec_server(&[&place.flag("web.sock")], &[]);
    running.says("epoch 0 is live");
    let text = Scrape::of(&place.path("web.sock"), "text/plain");
    assert!(
        text.head
            .contains("content-type: text/plain; version=0.0.4;"),
        "{}",
        text.head
    );
    let mut judge = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    judge
        .stdin
        .take()
        .unwrap()
        .write_all(text.body.as_bytes())
        .unwrap();
    let output = judge.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}\n{}", text.body);
    assert_eq!(said, "", "{}", text.body);
}

#[test]
fn curl_reads_the_metrics_of_a_running_instance() {
    let place = Place::new();
    let running: Running = exec_server(&[&place.flag("web.sock")], &[]);
    running.says("epoch 0 is live");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--unix-socket"])
        .arg(place.path("web.sock"))
        .arg("http://handover/v1/metrics");
    match curl.output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            let body = String::from_utf8(output.stdout).unwrap();
            assert!(body.contains("\nhandover_build_info{version=\""), "{body}");
            assert!(body.contains("\nprocess_cpu_seconds_total "), "{body}");
        }
        Err(_) => skipped(
            "metrics::curl_reads_the_metrics_of_a_running_instance",
            "no curl here",
        ),
    }
}

#[test]
fn the_status_server_has_the_metrics_for_a_scraper_on_the_network() {
    let place = Place::new();
    let shown = Shown::server(&place, &[]);
    let over_tcp = shown.get("/metrics");
    assert_eq!(over_tcp.code, 200, "{over_tcp:?}");
    let head = over_tcp.head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0;"),
        "{head}"
    );
    assert!(
        over_tcp.body.contains("\nhandover_ready 1\n"),
        "{}",
        over_tcp.body
    );
    assert!(over_tcp.body.ends_with("\n# EOF\n"), "{}", over_tcp.body);
    // The same families as at the control socket.
    let families = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("# TYPE "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(families(&over_tcp.body), families(&scrape(&place).body));
}
