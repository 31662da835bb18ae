//! `handover validate` asks a real Envoy.

use std::path::Path;

use handover_test_support::envoy_config::{Break, replace_file};
use handover_test_support::log::Stream;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::Launch;

use crate::world::{LIMIT, Site};

/// Returns the exit code, the standard output and the standard error.
fn validate(site: &Site, envoy: &Path) -> (Option<i32>, String, String) {
    let launch = Launch::handover().arg("validate");
    let launch = launch.arg("--config-path").arg(site.file());
    let mut running = launch.arg("--envoy-path").arg(envoy).start();
    let status = running.wait_exit(LIMIT);
    let [stdout, stderr] = [Stream::Stdout, Stream::Stderr].map(|of| running.log().text_of(of));
    (status.code(), stdout, stderr)
}

#[test]
fn a_good_configuration_is_valid_and_a_bad_one_is_told_in_one_line() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write("v0");
    let (code, stdout, stderr) = validate(&site, &envoy);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.ends_with("envoy.yaml: valid\n"), "{stdout}");

    site.write_broken(Break::UnknownField);
    let (code, stdout, stderr) = validate(&site, &envoy);
    assert_eq!((code, stdout.as_str()), (Some(65), ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("no such field: 'no_such_field'"),
        "{stderr}"
    );
    site.assert_nothing_left();
}

#[test]
fn an_admin_endpoint_that_refuses_what_is_asked_there_is_told_by_validate() {
    let envoy = require_envoy!();
    let site = Site::new();
    let with = |paths: &str| {
        let narrow = format!("admin:\n  allow_paths: [{paths}]");
        let content = site.config("v0").render();
        let content = content.replacen("admin:", &narrow, 1);
        replace_file(&site.file(), content.as_bytes());
        validate(&site, &envoy)
    };
    let (code, stdout, stderr) = with("{ exact: /ready }");
    assert_eq!((code, stdout.as_str()), (Some(65), ""), "{stderr}");
    assert!(stderr.contains("refuses /server_info"), "{stderr}");
    // What only makes a drain worse is a warning.
    let (code, stdout, stderr) = with("{ exact: /server_info }, { exact: /stats }");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.ends_with("envoy.yaml: valid\n"), "{stdout}");
    assert!(
        stderr.contains("without /stats a stop counts connections from outside"),
        "{stderr}"
    );
    site.assert_nothing_left();
}
