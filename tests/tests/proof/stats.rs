//! The statistics of Envoy over hand-overs, as one text.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::load::{Load, Mix};
use handover_test_support::metrics::promtool_or_skip;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::{Signal, Supervisor};

use crate::world::{LIMIT, Site, World};

const FLAGS: [&str; 3] = ["--status-address", "127.0.0.1:0", "--status-envoy-stats"];
const PATH: &str = "/stats/prometheus?usedonly";
const AS_SUM: &str = "/stats/prometheus?usedonly&epochs=sum";

fn address(supervisor: &Supervisor) -> SocketAddr {
    let line = supervisor.wait_for_line("the status server listens on ", LIMIT);
    let word = line.text.rsplit(' ').next();
    let address = word.and_then(|word| word.parse().ok());
    address.expect("the line ends with an address")
}

/// The text, once there is one: while the endpoint changes hands, nobody answers there for some milliseconds.
fn text(address: SocketAddr, path: &str) -> String {
    eventually(LIMIT, "the statistics", || {
        let answer = http::get(address, path, LIMIT).ok()?;
        (answer.status == 200).then(|| answer.text())
    })
}

/// The requests of clients by epoch, or in one sum.
fn requests(text: &str) -> BTreeMap<Option<u32>, u64> {
    let of_clients = text.lines().filter(|line| {
        line.starts_with("envoy_http_downstream_rq_total{")
            && line.contains("envoy_http_conn_manager_prefix=\"ingress\"")
    });
    of_clients
        .map(|line| {
            let epoch = line.split_once("{epoch=\"").and_then(|(_, rest)| {
                let (epoch, _) = rest.split_once('"')?;
                epoch.parse().ok()
            });
            let (_, count) = line.rsplit_once(' ').expect("a value");
            (epoch, count.parse().expect("a whole number"))
        })
        .collect()
}

/// Envoy counts a request when it begins, so one that is under way may make a difference. A hand-over costs what
/// is counted between the last look and the moment in which the endpoint goes, about a tenth of a second, and
/// what an old epoch counts in its last second. With Envoy's own intervals it would be several seconds.
#[tokio::test]
async fn over_two_hand_overs_under_load_each_request_is_counted_once() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write("v0");
    let mut supervisor = site.launch(&envoy).args(FLAGS).start();
    let address = address(&supervisor);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let mix = Mix {
        pause: Some(Duration::from_millis(5)),
        ..Mix::default()
    };
    let load = Load::start(site.listener.addr(), mix);
    let serve_for_some_seconds = |name: &str| {
        eventually(LIMIT, "some requests", || {
            (load.progress().ok_from(name) >= 2_000).then_some(())
        });
    };
    serve_for_some_seconds("v0");
    for (name, epoch) in [("v1", 1), ("v2", 2)] {
        site.write(name);
        supervisor.wait_for_line(&format!("epoch {epoch} is live"), LIMIT);
        serve_for_some_seconds(name);
        eventually(LIMIT, "the old epoch to end", || {
            (supervisor.children().len() == 1).then_some(())
        });
    }
    let report = load.stop().await;
    report.assert_no_loss();
    let counted = requests(&text(address, AS_SUM));
    let [(None, sum)] = counted.iter().collect::<Vec<_>>()[..] else {
        panic!("one series was expected: {counted:?}");
    };
    let by_epoch = requests(&text(address, PATH));
    let epochs: Vec<_> = by_epoch.keys().map(|epoch| epoch.unwrap()).collect();
    assert_eq!(epochs, [0, 1, 2]);
    assert_eq!(by_epoch.values().sum::<u64>(), *sum, "both say the same");
    let a_second = report.requests * 1_000 / u64::try_from(report.ran_for.as_millis()).unwrap();
    let difference = sum.abs_diff(report.requests);
    println!(
        "{} sent, {sum} counted: {by_epoch:?}; {a_second} in a second",
        report.requests
    );
    assert!(
        difference <= a_second,
        "{} requests were sent, and {sum} counted ({by_epoch:?})",
        report.requests
    );
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_statistics_during_a_hand_over() {
    let envoy = require_envoy!();
    let test = "stats::promtool_finds_nothing_wrong_with_the_statistics_during_a_hand_over";
    let Some(promtool) = promtool_or_skip(test) else {
        return;
    };
    let world = World::start(&envoy, &FLAGS);
    let address = address(&world.supervisor);
    world.hand_over("v1", 1);
    for path in [PATH, AS_SUM, "/stats/prometheus"] {
        let text = text(address, path);
        assert!(!requests(&text).is_empty(), "{text}");
        let judge = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut judge = judge.expect("promtool runs");
        let mut input = judge.stdin.take().expect("a pipe");
        input.write_all(text.as_bytes()).expect("promtool reads");
        drop(input);
        let output = judge.wait_with_output().expect("promtool ends");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        // 3 stands for advice on names, which are those of Envoy.
        assert!(
            matches!(output.status.code(), Some(0 | 3)) && !said.contains("error while linting"),
            "{said}"
        );
    }
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn an_admin_endpoint_that_refuses_its_statistics_is_told_and_delays_no_hand_over() {
    let envoy = require_envoy!();
    let site = Site::new();
    let write = |name: &str| {
        let config = site.config(name).render();
        let paths = ["/server_info", "/ready", "/listeners", "/init_dump"];
        let paths = paths.map(|path| format!("{{exact: {path}}}")).join(", ");
        let narrow = config.replacen(
            "admin:\n",
            &format!("admin:\n  allow_paths: [{paths}]\n"),
            1,
        );
        assert_ne!(narrow, config);
        std::fs::write(site.file(), narrow).expect("the file is written");
    };
    write("v0");
    let mut supervisor = site.launch(&envoy).args(FLAGS).start();
    let address = address(&supervisor);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let told = text(address, PATH);
    assert!(
        told.contains("handover_stats_scraped{epoch=\"0\"} 0\n"),
        "{told}"
    );
    assert!(requests(&told).is_empty(), "unknown is no zero: {told}");
    let sum = http::get(address, AS_SUM, LIMIT).expect("an answer");
    assert_eq!(sum.status, 503);
    write("v1");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    let metrics = http::get(address, "/metrics", LIMIT)
        .expect("an answer")
        .text();
    let refused = metrics
        .lines()
        .find(|line| line.starts_with("handover_stats_scrape_errors_total{reason=\"refused\"}"));
    let refused = refused.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    // One for both requests, which share what the epochs told, and one for the last look at epoch 0.
    assert!(refused >= Some(2), "{metrics}");
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}
