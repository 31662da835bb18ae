//! What the arguments, the verdicts and the bootstrap reader rest on.

use std::process::Command;

use handover_envoy::args::{ArgsOptions, EnvoyArgs};
use handover_envoy::bootstrap::Bootstrap;
use handover_envoy::validate::{Verdict, validate};
use handover_test_support::ports::Port;
use handover_test_support::require_envoy;

use crate::support::Host;

#[test]
fn envoys_parser_is_as_strict_as_assumed() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let config = host.write(0, "{}");
    let refused = |extra: &[&str]| {
        let output = Command::new(&host.binary)
            .args(["--mode", "validate", "-c"])
            .arg(&config)
            .args(extra)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        !output.status.success() && stderr.contains("PARSE ERROR")
    };
    assert!(!refused(&["--service-zone", "-c"]));
    for extra in [
        &["--service-zone=eu"][..],
        &["--service-z", "eu"],
        &["-linfo"],
        &["--log-level", "info", "-l", "info"],
        &["--concurrency", "1", "--concurrency", "1"],
        &["--drain-time-s", "1.5"],
        &["--parent-shutdown-time-s", "4294967296"],
    ] {
        assert!(refused(extra), "{extra:?}");
    }
}

#[tokio::test]
async fn every_argument_that_is_rendered_is_accepted() {
    let binary = require_envoy!();
    let mut host = Host::new(binary);
    let config = host.write(0, &host.config(host.web));
    let id_file = config.with_file_name("base-id");
    let extra = "--service-zone z --stats-tag a:b --stats-tag c:d --enable-core-dump \
        --skip-deprecated-logs --local-address-ip-version v4 --component-log-level upstream:info \
        --drain-strategy immediate --service-cluster c --service-node n -l error --concurrency 3";
    host.args = EnvoyArgs::new(ArgsOptions {
        extra: extra
            .split_whitespace()
            .map(str::to_owned)
            .chain(["--base-id-path".into(), id_file.display().to_string()])
            .collect(),
        ..ArgsOptions::default()
    })
    .unwrap();
    let verdict = validate(&host.binary, &host.args, &config).await;
    assert!(matches!(verdict, Verdict::Valid), "{verdict:?}");
    let _child = host.start_live(0).await;
    let stats = host.client().stats("^server.concurrency$").await.unwrap();
    assert_eq!(stats[0].1, 3);
    let id = std::fs::read_to_string(id_file).unwrap();
    assert_eq!(id, host.base_id.id().to_string());
}

#[tokio::test]
async fn a_verdict_is_the_one_line_that_matters() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    for (config, expected) in [
        (
            "static_resources: [\n",
            "yaml-cpp: error at line 2, column 1: end of sequence flow not found",
        ),
        (
            "static_resources: {listenerz: []}\n",
            "no such field: 'listenerz'",
        ),
        ("", "the document is not a mapping, or not text"),
        ("hello\n", "the document is not a mapping, or not text"),
        ("[1, 2]\n", "unexpected character: '['; expected '{')"),
        (
            "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 99999}}}\n",
            "field constraint violated: SocketAddressValidationError.PortValue: value must be less than or equal to 65535",
        ),
        (
            "admin: {address: {socket_address: {address: localhost, port_value: 9}}}\n",
            "malformed IP address: localhost",
        ),
    ] {
        let file = host.write(0, config);
        let verdict = validate(&host.binary, &host.args, &file).await;
        let Verdict::Rejected { message } = verdict else {
            panic!("{config:?}: {verdict:?}");
        };
        assert!(
            message.contains(expected) && !message.contains("password"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn what_the_bootstrap_reader_reads_is_what_envoy_does() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let port = Port::free();
    let (first, second) = (host.admin, port.addr());
    let block = |port: u16| {
        format!(
            "admin: {{address: {{socketAddress: {{address: 0.0.0.0, portValue: \"{port:#x}\"}}}}}}\n"
        )
    };
    // Of equal keys the last counts, of documents the first.
    let config = block(first.port()) + &block(second.port()) + "---\n" + &block(1);
    let file = host.write(0, &config);
    let bootstrap = Bootstrap::read(&file).unwrap();
    let _child = host.start(0);
    let admin = handover_envoy::admin::AdminClient::new(bootstrap.admin);
    let poll = handover_envoy::admin::LivePoll {
        limit: Some(crate::support::LIMIT),
        ..handover_envoy::admin::LivePoll::default()
    };
    admin.wait_live(0, &poll).await.unwrap();
    assert_eq!(admin.address().port(), Some(second.port()));
}
