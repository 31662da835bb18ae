//! Configurations that clients give, on a real Envoy.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use handover_test_support::envoy_config::{Break, replace_file};
use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::{Launch, Signal, Supervisor};

use crate::control::Asked;
use crate::world::{LIMIT, Site};

fn state_dir(site: &Site) -> PathBuf {
    site.dir.path().join("state")
}

fn kept(site: &Site) -> PathBuf {
    state_dir(site).join("applied-configuration.yaml")
}

fn launch(site: &Site, envoy: &Path, probation: &str) -> Launch {
    let launch = site.launch_without_file(envoy);
    let launch = launch.args(["--probation", probation]);
    let launch = launch.args(["--config-from", "socket", "--state-dir"]);
    launch.arg(state_dir(site))
}

fn end(site: &Site, mut supervisor: Supervisor) {
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

/// Gives this configuration, which is written to the site's file.
#[track_caller]
fn apply(site: &Site, name: &str) -> Asked {
    site.write(name);
    give(site, &[])
}

#[track_caller]
fn give(site: &Site, more: &[&str]) -> Asked {
    let file = site.file().display().to_string();
    let words = [&["apply", &file], more].concat();
    site.ask(&words)
}

#[track_caller]
fn serves(site: &Site, name: &str) {
    let answer = http::get(site.listener.addr(), "/", LIMIT).expect("Envoy answers");
    assert_eq!(answer.header("x-config"), Some(name));
}

#[tokio::test]
async fn a_configuration_is_given_kept_and_run_again_after_a_restart() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let once = ["--max-retries", "1", "--retry-interval", "100ms"];
    let supervisor = launch(&site, &envoy, "none").args(once).start();
    supervisor.wait_for_line("a configuration is awaited", LIMIT);
    let status = site.status();
    assert_eq!(status["verdict"]["health"], "NOT_READY");
    let held = status["held"].as_str().expect("a sentence");
    assert!(held.contains("handover apply"), "{held}");
    site.ask(&["reload"])
        .is(65, "no configuration was given yet");

    // One that Envoy rejects ends nothing.
    site.write_broken(Break::UnknownField);
    give(&site, &[]).is(65, "no such field");
    assert!(!kept(&site).exists());

    apply(&site, "v0").is(0, "epoch 0 is live, and the configuration is kept");
    serves(&site, "v0");
    let text = fs::read(site.file()).expect("it is there");
    assert_eq!(fs::read(kept(&site)).expect("it is kept"), text);
    let mode = fs::metadata(kept(&site)).expect("it is kept").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    apply(&site, "v0").is(0, "has not changed: epoch 0 is live");
    apply(&site, "v1").is(0, "epoch 1 is live, and the configuration is kept");
    serves(&site, "v1");

    // What is rejected leaves no trace.
    for broken in [Break::UnknownField, Break::YamlError] {
        site.write_broken(broken);
        give(&site, &[]).is(65, "the running configuration serves on: ");
    }
    let status = site.status();
    assert_eq!(status["current_is_desired"], true, "{status:#}");
    assert_eq!(status["problem"], serde_json::Value::Null, "{status:#}");
    let kept_text = fs::read_to_string(kept(&site)).expect("it is kept");
    assert!(kept_text.contains("v1"), "{kept_text}");
    assert_eq!(supervisor.count_lines("starting epoch"), 2);
    // One that Envoy finds valid may fail all the same.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it has one").port();
    site.write_broken(Break::PortConflict(port));
    give(&site, &[]).is(65, "given up after epoch");
    site.ask(&["wait", "--current"]).is(0, "");
    serves(&site, "v1");
    let kept_text = fs::read_to_string(kept(&site)).expect("it is kept");
    assert!(kept_text.contains("v1"), "{kept_text}");
    // HUP reads what is kept.
    supervisor.signal(Signal::HUP);
    supervisor.wait_for_lines("is live", 3, LIMIT);
    end(&site, supervisor);

    let supervisor = launch(&site, &envoy, "none").start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    serves(&site, "v1");
    end(&site, supervisor);
}

#[tokio::test]
async fn a_configuration_on_probation_is_kept_when_that_is_over() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let supervisor = launch(&site, &envoy, "2s").start();
    supervisor.wait_for_line("a configuration is awaited", LIMIT);
    // The first one is better than nothing.
    apply(&site, "v0").is(0, "epoch 0 is live, and the configuration is kept");
    let before = fs::read(kept(&site)).expect("it is kept");
    apply(&site, "v1").is(0, "epoch 1 is live; the configuration is kept once");
    assert_eq!(fs::read(kept(&site)).expect("it is kept"), before);
    site.write("v2");
    let passed = give(&site, &["--through-probation"]);
    passed.is(0, "epoch 2 is live, and the configuration is kept");
    let text = fs::read_to_string(kept(&site)).expect("it is kept");
    assert!(text.contains("v2"), "{text}");
    end(&site, supervisor);
}

#[tokio::test]
async fn a_template_and_overlays_go_with_what_is_given() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let overlay = site.dir.path().join("ours.json");
    let write_overlay = |cluster: &str| {
        let text = format!(r#"{{"node": {{"id": "{{{{ node_id }}}}", "cluster": "{cluster}"}}}}"#);
        replace_file(&overlay, text.as_bytes());
    };
    let tells = |cluster: &str| {
        let field = format!("\"cluster\": \"{cluster}\"");
        eventually(LIMIT, &field, || {
            let answer = http::get(site.admin.addr(), "/server_info", LIMIT).ok()?;
            answer.text().contains(&field).then_some(())
        });
    };
    write_overlay("one");
    let launch = launch(&site, &envoy, "none").args(["--template", "--service-node", "here"]);
    let supervisor = launch.arg("--config-overlay").arg(&overlay).start();
    supervisor.wait_for_line("a configuration is awaited", LIMIT);
    let give_template = |version: &str| {
        let text = site.config("placeholder").render();
        replace_file(
            &site.file(),
            text.replace("placeholder", version).as_bytes(),
        );
        give(&site, &[])
    };
    give_template("v{{ epoch }}").is(0, "epoch 0 is live");
    serves(&site, "v0");
    tells("one");
    write_overlay("two");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    tells("two");
    serves(&site, "v1");
    // An error is told with its place, as for a file.
    give_template("{{ nothing }}").is(65, "nothing");
    let text = fs::read_to_string(kept(&site)).expect("it is kept");
    assert!(text.contains("{{ epoch }}"), "{text}");
    end(&site, supervisor);
}

#[tokio::test]
async fn what_is_kept_and_cannot_be_used_is_treated_like_a_file() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let supervisor = launch(&site, &envoy, "none").start();
    supervisor.wait_for_line("a configuration is awaited", LIMIT);
    apply(&site, "v0").is(0, "epoch 0 is live");
    let good = state_dir(&site).join("last-known-good");
    eventually(LIMIT, "the last known good configuration", || {
        good.exists().then_some(())
    });
    end(&site, supervisor);
    replace_file(&kept(&site), b"no_such_field: 1\n");
    let mut supervisor = launch(&site, &envoy, "none").start();
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(65));
    let named = kept(&site).display().to_string();
    supervisor.wait_for_line(&named, LIMIT);
    let flags = ["--fallback", "last-known-good"];
    let supervisor = launch(&site, &envoy, "none").args(flags).start();
    supervisor.wait_for_line("falls back", LIMIT);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    serves(&site, "v0");
    apply(&site, "v1").is(0, "epoch 1 is live, and the configuration is kept");
    end(&site, supervisor);
}

#[tokio::test]
async fn what_cannot_be_kept_serves_and_the_answer_says_why_it_is_not_kept() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let supervisor = launch(&site, &envoy, "none").start();
    supervisor.wait_for_line("a configuration is awaited", LIMIT);
    apply(&site, "v0").is(0, "epoch 0 is live, and the configuration is kept");
    fs::remove_file(kept(&site)).expect("it is kept");
    fs::create_dir(kept(&site)).expect("its place is free");
    let why = format!(
        "could not be kept: cannot write {}: Is a directory",
        kept(&site).display()
    );
    apply(&site, "v1").is(69, &why);
    serves(&site, "v1");
    fs::remove_dir(kept(&site)).expect("it is empty");
    apply(&site, "v2").is(0, "epoch 2 is live, and the configuration is kept");
    serves(&site, "v2");
    end(&site, supervisor);
}

#[tokio::test]
async fn an_instance_that_reads_a_file_takes_no_configuration() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let supervisor = site.launch(&envoy).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    give(&site, &[]).is(69, "takes no configuration from clients");
    end(&site, supervisor);
}
