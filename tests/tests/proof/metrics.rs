//! What the metrics say of real hand-overs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use handover_test_support::envoy_config::Break;
use handover_test_support::limit::eventually;
use handover_test_support::metrics::Scrape;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::Signal;

use crate::world::{LIMIT, Site};

/// Waits until a sample has this value, and returns what else there is.
fn scrape_when(site: &Site, sample: &str, value: f64) -> Scrape {
    eventually(LIMIT, &format!("{sample} {value}"), || {
        let seen = Scrape::of(&site.socket(), "*/*");
        (seen.value(sample) == Some(value)).then_some(seen)
    })
}

fn is(seen: &Scrape, samples: &[(&str, f64)]) {
    for (sample, value) in samples {
        assert_eq!(seen.value(sample), Some(*value), "{sample}\n{}", seen.body);
    }
}

#[tokio::test]
async fn a_connection_that_outlives_its_epoch_counts_as_cut_and_the_stages_have_their_times() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let launch = site.launch(&envoy);
    let mut supervisor = launch.args(["--probation", "2s"]).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let first = scrape_when(&site, "handover_ready", 1.0);
    let base_id = f64::from(site.base_id());
    is(&first, &[("handover_envoy_base_id", base_id)]);
    let version = first
        .body
        .lines()
        .find(|line| line.starts_with("handover_envoy_info{"));
    let version = version.expect("the version of Envoy is known");
    assert!(version.contains("version=\"1."), "{version}");
    // No end was counted yet.
    assert_eq!(first.value("handover_cut_connections_total"), None);

    let mut held = TcpStream::connect(site.listener.addr()).expect("Envoy listens");
    held.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("Envoy reads");
    let mut byte = [0];
    held.read_exact(&mut byte).expect("Envoy answers");
    site.write("v1");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    // Envoy ends at its parent-shutdown time, whoever is still connected.
    let drained = "handover_stage_duration_seconds_count{stage=\"drain\"}";
    let second = scrape_when(&site, drained, 1.0);
    is(
        &second,
        &[
            ("handover_live_epoch", 1.0),
            ("handover_hand_overs_total{result=\"live\"}", 1.0),
            (
                "handover_stage_duration_seconds_count{stage=\"validate\"}",
                1.0,
            ),
            (
                "handover_stage_duration_seconds_count{stage=\"start\"}",
                2.0,
            ),
            ("handover_cut_connections_total", 1.0),
            ("handover_uncounted_ends_total", 0.0),
            ("handover_epochs_failed_total", 0.0),
        ],
    );
    let seconds = |stage| {
        let sum = format!("handover_stage_duration_seconds_sum{{stage=\"{stage}\"}}");
        second.value(&sum).expect("the stage was seen")
    };
    assert!(seconds("drain") >= 2.5, "{}", second.body);
    assert!(
        seconds("validate") > 0.0 && seconds("start") > 0.0,
        "{}",
        second.body
    );

    // A configuration that Envoy rejects changes nothing of what serves.
    site.write_broken(Break::UnknownField);
    let result = "handover_hand_overs_total{result=\"start_failed\"}";
    let third = scrape_when(&site, result, 1.0);
    is(
        &third,
        &[
            ("handover_ready", 1.0),
            ("handover_configuration_current", 0.0),
            ("handover_last_reload_successful", 0.0),
            ("handover_gave_up_total{reason=\"permanent\"}", 1.0),
            ("handover_held{reason=\"given_up\"}", 1.0),
        ],
    );
    // What is put back as it was starts nothing, and the failure is over.
    site.write("v1");
    let fourth = scrape_when(&site, "handover_last_reload_successful", 1.0);
    is(
        &fourth,
        &[
            ("handover_configuration_current", 1.0),
            ("handover_epochs_started_total", 3.0),
        ],
    );
    drop(held);
    supervisor.signal(Signal::TERM);
    supervisor.wait_exit(LIMIT);
    drop(supervisor);
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_crash_is_counted_with_its_signal() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let mut supervisor = site.launch(&envoy).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    scrape_when(&site, "handover_ready", 1.0);
    let children = supervisor.children();
    let pid = i32::try_from(*children.first().expect("Envoy runs")).expect("a process id");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, Signal::SEGV).expect("Envoy runs");
    let seen = scrape_when(&site, "handover_epochs_failed_total", 1.0);
    let exits = seen
        .body
        .lines()
        .filter(|line| line.starts_with("handover_epoch_exits_total{"));
    let exits: Vec<_> = exits.collect();
    let [exit] = exits[..] else {
        panic!("one end was expected: {exits:?}");
    };
    assert!(exit.contains("signal=\"SIGSEGV\""), "{exit}");
    // Nobody was there to count who was connected.
    assert_eq!(seen.value("handover_cut_connections_total"), None);
    is(&seen, &[("handover_uncounted_ends_total", 1.0)]);
    scrape_when(&site, "handover_first_starts_total{result=\"live\"}", 2.0);
    supervisor.signal(Signal::TERM);
    supervisor.wait_exit(LIMIT);
    drop(supervisor);
    site.assert_nothing_left();
}
