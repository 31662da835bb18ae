//! Overlays, which are merged over the configuration of somebody else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use handover_test_support::envoy_config::replace_file;
use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::log::Stream;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::{Launch, Signal, Supervisor};

use crate::world::{LIMIT, Site};

/// The overlay of a site.
fn overlay(site: &Site) -> PathBuf {
    site.dir.path().join("ours.json")
}

/// Writes the overlay: Envoy tells its cluster to everybody who asks.
fn write_overlay(site: &Site, cluster: &str) {
    let text = format!(r#"{{"node": {{"id": "x", "cluster": "{cluster}"}}}}"#);
    replace_file(&overlay(site), text.as_bytes());
}

/// Waits until the live Envoy tells this cluster.
fn tells(site: &Site, cluster: &str) {
    let field = format!("\"cluster\": \"{cluster}\"");
    eventually(LIMIT, &field, || {
        let answer = http::get(site.admin.addr(), "/server_info", LIMIT).ok()?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        text.contains(&field).then_some(())
    });
}

fn start(site: &Site, envoy: &Path, more: &[&str]) -> Supervisor {
    let launch = site
        .launch(envoy)
        .arg("--config-overlay")
        .arg(overlay(site));
    launch.args(more).start()
}

fn end(site: &Site, mut supervisor: Supervisor) {
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

#[tokio::test]
async fn an_overlay_is_merged_and_its_change_alone_is_one_hand_over() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write("v0");
    let vendor = fs::read(site.file()).expect("the file is there");
    write_overlay(&site, "one");
    let supervisor = start(&site, &envoy, &["--log-level", "debug"]);
    site.admin().wait_live(0, LIMIT);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    tells(&site, "one");

    write_overlay(&site, "two");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    tells(&site, "two");
    // What cannot be merged, or is not there, keeps what serves.
    let named = overlay(&site).display().to_string();
    for (text, reason) in [
        (
            Some("{\"admin\": [1]}"),
            "admin at line 1, column 11 is a list",
        ),
        (Some(""), "is empty"),
        (None, "does not exist"),
    ] {
        match text {
            Some(text) => replace_file(&overlay(&site), text.as_bytes()),
            None => fs::remove_file(overlay(&site)).expect("the overlay is there"),
        }
        let line = supervisor.wait_for_line(reason, LIMIT).text;
        assert!(
            line.contains("serves on") && line.contains(&named),
            "{line}"
        );
    }
    // What Envoy refuses is refused beside the epoch that serves.
    replace_file(&overlay(&site), b"{\"no_such_field\": 1}");
    supervisor.wait_for_line("no such field: 'no_such_field'", LIMIT);
    tells(&site, "two");
    // The same text as before is no change, and the file below is as it was.
    write_overlay(&site, "two");
    site.write("v1");
    supervisor.wait_for_line("epoch 2 is live", LIMIT);
    tells(&site, "two");
    let kept = fs::read_to_string(site.dir.path().join("run/envoy-rev2.yaml"));
    let kept = kept.expect("the epoch runs");
    assert!(
        kept.contains("cluster: \"two\"") && kept.contains("v1"),
        "{kept}"
    );
    site.write("v0");
    supervisor.wait_for_line("epoch 3 is live", LIMIT);
    assert_eq!(fs::read(site.file()).expect("the file is there"), vendor);
    end(&site, supervisor);
}

#[tokio::test]
async fn changes_of_both_in_one_moment_are_one_hand_over() {
    let envoy = require_envoy!();
    let site = Site::new();
    // As Kubernetes mounts a ConfigMap: every name leads through one link, which is replaced.
    let dir = site.dir.path().to_owned();
    let publish = |generation: &str| {
        let made = dir.join(generation);
        fs::create_dir(&made).expect("a directory");
        site.config(generation).write_to(&made.join("envoy.yaml"));
        let text = format!("{{\"node\": {{\"id\": \"x\", \"cluster\": \"{generation}\"}}}}");
        fs::write(made.join("ours.json"), text).expect("a file");
        symlink(generation, dir.join("..new")).expect("a link");
        fs::rename(dir.join("..new"), dir.join("..data")).expect("the link is replaced");
    };
    publish("v0");
    for name in ["envoy.yaml", "ours.json"] {
        symlink(format!("..data/{name}"), dir.join(name)).expect("a link");
    }
    let supervisor = start(&site, &envoy, &["--log-level", "debug"]);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    publish("v1");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    tells(&site, "v1");
    supervisor.signal(Signal::HUP);
    supervisor.wait_for_line("epoch 2 is live", LIMIT);
    assert_eq!(supervisor.count_lines("starting epoch"), 3);
    end(&site, supervisor);
}

#[tokio::test]
async fn the_last_good_configuration_has_its_overlays() {
    let envoy = require_envoy!();
    let site = Site::new();
    site.write("v0");
    write_overlay(&site, "good");
    let state = site.dir.path().join("state");
    let state = state.to_str().expect("the path is text");
    let flags = ["--state-dir", state, "--fallback", "last-known-good"];
    let supervisor = start(&site, &envoy, &flags);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let kept = Path::new(state).join("last-known-good");
    eventually(LIMIT, "the last known good configuration", || {
        kept.exists().then_some(())
    });
    end(&site, supervisor);
    replace_file(&overlay(&site), b"{\"no_such_field\": 1}");
    let supervisor = start(&site, &envoy, &flags);
    let line = supervisor.wait_for_line("falls back", LIMIT).text;
    assert!(line.contains("envoy.yaml with "), "{line}");
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    tells(&site, "good");
    end(&site, supervisor);
}

/// The configuration that an Envoy says it runs with, without what it adds itself.
fn running_with(site: &Site, envoy: &Path, arguments: &[&str]) -> serde_json::Value {
    let launch = Launch::program(envoy).args(["--disable-hot-restart", "-l", "off"]);
    let mut running = launch.args(arguments).start();
    let dump = eventually(LIMIT, "a dump of the configuration", || {
        let dump = http::get(site.admin.addr(), "/config_dump", LIMIT).ok()?;
        serde_json::from_slice::<serde_json::Value>(&dump.body).ok()
    });
    running.signal(Signal::TERM);
    assert_eq!(running.wait_exit(LIMIT).code(), Some(0));
    let bootstrap = dump.pointer("/configs/0/bootstrap");
    let mut bootstrap = bootstrap.expect("the dump has it").clone();
    let node = bootstrap.pointer_mut("/node");
    let node = node.and_then(serde_json::Value::as_object_mut);
    let node = node.expect("it has a node");
    node.retain(|key, _| !key.starts_with("user_agent") && key != "extensions");
    bootstrap
}

/// The text that is merged of both, and the overlay as a word.
fn both_ways(site: &Site, below: &str, over: &str) -> (PathBuf, String) {
    let (base, merged) = (site.file(), site.dir.path().join("merged.yaml"));
    replace_file(&base, below.as_bytes());
    replace_file(&overlay(site), over.as_bytes());
    let launch = Launch::handover().args(["validate", "--print", "--config-path"]);
    let launch = launch.arg(base).arg("--config-overlay").arg(overlay(site));
    let mut running = launch.start();
    assert_eq!(running.wait_exit(LIMIT).code(), Some(0));
    replace_file(&merged, running.log().text_of(Stream::Stdout).as_bytes());
    (merged, over.to_owned())
}

fn admin_of(site: &Site) -> String {
    let port = site.admin.number();
    format!("admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n")
}

#[test]
fn what_is_merged_is_what_envoy_merges_of_the_same_files() {
    let envoy = require_envoy!();
    let site = Site::new();
    let below = admin_of(&site)
        + "node: {id: a, cluster: c, metadata: {x: {p: 1}, y: 1}}\n\
           static_resources: {clusters: [{name: one, connect_timeout: 1s}]}\n\
           layered_runtime: {layers: [{name: l, static_layer: {k: 1}}]}\n\
           stats_flush_interval: 7s\n\
           typed_dns_resolver_config:\n  name: envoy.network.dns_resolver.cares\n  typed_config:\n    \
           '@type': type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig\n    \
           filter_unroutable_families: true\n    query_tries: 3\n";
    let over = r#"{"node": {"id": "b", "locality": {"zone": "z"}, "metadata": {"y": 2, "z": "0x10"}},
        "staticResources": {"clusters": [{"name": "two", "connectTimeout": "2s", "alt_stat_name": "true"}]},
        "layered_runtime": {"layers": [{"name": "m", "static_layer": {"k": 2}}]},
        "typed_dns_resolver_config": {"typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "query_tries": 4}},
        "stats_flush_interval": "9s", "stats_config": {"use_all_default_tags": false}}"#;
    let (merged, over) = both_ways(&site, &below, over);
    let [base, merged] = [site.file(), merged].map(|path| path.display().to_string());
    let by_envoy = running_with(&site, &envoy, &["-c", &base, "--config-yaml", &over]);
    assert_eq!(by_envoy["node"]["id"], "b");
    assert_eq!(running_with(&site, &envoy, &["-c", &merged]), by_envoy);
    site.assert_nothing_left();
}

/// What the page on overlays says of Envoy, which a later version may do otherwise.
#[test]
fn what_is_merged_differs_from_envoy_where_it_is_said() {
    let envoy = require_envoy!();
    let site = Site::new();
    let below = admin_of(&site)
        + "node: {id: a, metadata: {x: {p: 1}}}\nstats_flush_interval: 7.5s\nenable_dispatcher_stats: true\n";
    let over = r#"{"node": {"metadata": {"x": {"q": 2}}}, "stats_flush_interval": "9s",
        "enable_dispatcher_stats": false}"#;
    let (merged, over) = both_ways(&site, &below, over);
    let [base, merged] = [site.file(), merged].map(|path| path.display().to_string());
    let seen = |arguments: &[&str]| {
        let seen = running_with(&site, &envoy, arguments);
        let fields = ["stats_flush_interval", "enable_dispatcher_stats"];
        let [interval, stats] = fields.map(|field| seen[field].to_string());
        (seen["node"]["metadata"]["x"].to_string(), interval, stats)
    };
    let texts = |x: &str, interval: &str, stats: &str| {
        (x.to_owned(), interval.to_owned(), stats.to_owned())
    };
    assert_eq!(
        seen(&["-c", &base, "--config-yaml", &over]),
        texts(r#"{"q":2}"#, r#""9.500s""#, "true")
    );
    assert_eq!(
        seen(&["-c", &merged]),
        texts(r#"{"p":1,"q":2}"#, r#""9s""#, "null")
    );
    site.assert_nothing_left();
}

/// Each rule is one that Envoy has for `--config-yaml`, so it has to take what they make.
#[test]
fn envoy_takes_what_each_rule_makes() {
    let envoy = require_envoy!();
    let site = Site::new();
    let ours = overlay(&site);
    let ours = ours.with_extension("yaml");
    let long = "k".repeat(2_000);
    for (text, expected) in [
        // A list gets more entries, and a socket becomes another member of a `oneof`.
        ("static_resources: {clusters: [{name: more, connect_timeout: 1s}]}".to_owned(), None),
        ("admin: {address: {socket_address: null, pipe: {path: /tmp/a.sock}}}".to_owned(), None),
        ("staticResources: {listeners: null}".to_owned(), None),
        // Text of every kind is still text, also as a key.
        (
            format!(
                "node:\n  metadata:\n    a: 'true'\n    b: \"\\x01\\u2028\\t\\U0001F600\"\n    \
                 ? {long}\n    : 'x'\n    c: 0x10\n    d:\n"
            ),
            None,
        ),
        // An alias of an entry.
        ("node: {metadata: &m {a: 2.5, b: on}}\nlayered_runtime: {layers: [{name: l, static_layer: *m}]}".to_owned(), None),
        ("static_resources: {clusters: [{name: x}, {no_such: 1}]}".to_owned(), Some("no_such")),
    ] {
        site.write("v0");
        replace_file(&ours, text.as_bytes());
        let launch = Launch::handover().arg("validate").arg("--envoy-path").arg(&envoy);
        let launch = launch.arg("--config-path").arg(site.file());
        let mut running = launch.arg("--config-overlay").arg(&ours).start();
        let status = running.wait_exit(LIMIT);
        let [stdout, stderr] = [Stream::Stdout, Stream::Stderr].map(|of| running.log().text_of(of));
        match expected {
            None => assert_eq!(status.code(), Some(0), "{text}: {stderr}"),
            Some(reason) => {
                assert_eq!(status.code(), Some(65), "{text}: {stdout}");
                assert!(stderr.contains(reason) && stderr.contains("envoy.yaml with "), "{stderr}");
            }
        }
    }
    site.assert_nothing_left();
}
