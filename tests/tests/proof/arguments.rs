//! What Envoy is told.

use std::fs;
use std::process::Command;

use handover_test_support::require_envoy;
use handover_test_support::supervisor::{Launch, Signal};

use crate::world::{LIMIT, Site, World};

const FLAGS: [&str; 10] = [
    "--service-cluster",
    "front",
    "--service-node",
    "node 1's",
    "--local-address-ip-version",
    "v6",
    "--envoy-log-level",
    "warning",
    "--envoy-component-log-level",
    "upstream:debug,config:info",
];

/// The words of a line, as a shell splits it.
fn words(line: &str) -> Vec<String> {
    let script = format!("printf '%s\\n' {line}");
    let output = Command::new("sh").args(["-c", &script]).output();
    let text = output.expect("there is a shell").stdout;
    let text = String::from_utf8(text).expect("it is text");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn envoy_says_that_it_was_told_what_the_flags_say() {
    let envoy = require_envoy!();
    let world = World::start(&envoy, &FLAGS);
    let answer = handover_test_support::http::get(world.site.admin.addr(), "/server_info", LIMIT)
        .expect("Envoy answers");
    let info: serde_json::Value = serde_json::from_slice(&answer.body).expect("it is JSON");
    let options = info.get("command_line_options").expect("it has them");
    for (name, value) in [
        ("service_cluster", "front"),
        ("service_node", "node 1's"),
        ("local_address_ip_version", "v6"),
        ("log_level", "warning"),
        ("component_log_level", "upstream:debug,config:info"),
    ] {
        let found = options.get(name).and_then(|found| found.as_str());
        assert_eq!(found, Some(value), "{name} in {options}");
    }
    let node = info.get("node").and_then(|node| node.get("id"));
    assert_eq!(node.and_then(|id| id.as_str()), Some("node 1's"));
    world.finish().await.assert_no_loss();
}

#[tokio::test]
async fn the_printed_command_is_the_one_that_runs() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write("v0");
    let launch = |more: &[&str]| -> Launch {
        let launch = site.launch(&envoy).args(FLAGS).args(more);
        launch.args(["--", "--skip-deprecated-logs", "--stats-tag", "a:b c"])
    };
    let mut printing = launch(&["--print-command"]).start();
    assert_eq!(printing.wait_exit(LIMIT).code(), Some(0));
    let lines = printing.log().lines();
    let [line] = lines.as_slice() else {
        panic!("one line was expected:\n{}", printing.log());
    };
    // Nothing was started, and nothing is left that a start would find.
    site.assert_nothing_left();

    let mut supervisor = launch(&[]).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let children = supervisor.children();
    let [envoy] = children.as_slice() else {
        panic!("one Envoy was expected, and there are {children:?}");
    };
    let running = fs::read_to_string(format!("/proc/{envoy}/cmdline")).expect("it runs");
    let running: Vec<_> = running.split_terminator('\0').collect();
    assert_eq!(words(&line.text), running);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}
