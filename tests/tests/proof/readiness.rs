//! What an instance says of itself while no client can connect.

use std::time::Duration;

use handover_test_support::control_plane::{ControlPlane, Kind, Transport};
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::Signal;
use handover_test_support::{http, require_envoy};
use serde_json::{Value, json};

use crate::world::{LIMIT, Site};

/// A configuration whose listeners come from the control plane, and the listener.
fn fetched(site: &Site, plane: &ControlPlane) -> (Value, Value) {
    let at = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let types = "type.googleapis.com/envoy";
    let manager = json!({
        "@type": format!("{types}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "ingress",
        "http_filters": [{"name": "router", "typed_config": {
            "@type": format!("{types}.extensions.filters.http.router.v3.Router")
        }}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
        ]}]}
    });
    let listener = json!({
        "@type": format!("{types}.config.listener.v3.Listener"),
        "name": "web",
        "address": at(site.listener.number()),
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}]
    });
    let bootstrap = json!({
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": at(site.admin.number())},
        "static_resources": {"clusters": [plane.cluster(Transport::Rest)]},
        "dynamic_resources": {"lds_config": ControlPlane::source(Transport::Rest, Duration::from_secs(1))}
    });
    (bootstrap, listener)
}

#[tokio::test]
async fn an_envoy_that_is_live_without_a_listener_is_not_ready_until_one_comes() {
    let envoy = require_envoy!();
    let site = Site::new();
    let plane = ControlPlane::start();
    plane.go_away();
    let (bootstrap, listener) = fetched(&site, &plane);
    plane.set(Kind::Listener, vec![listener]);
    std::fs::write(site.file(), format!("{bootstrap:#}")).expect("a file");
    let mut supervisor = site.launch(&envoy).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let status = site.status();
    assert_eq!(status["ready"], false, "{status:#}");
    assert_eq!(status["state"], "starting", "{status:#}");
    let problem = status["problem"].as_str().unwrap_or_default();
    assert!(
        problem.contains("no epoch has a listening socket"),
        "{status:#}"
    );

    plane.come_back();
    let address = site.listener.addr();
    eventually(LIMIT, "an answer on the listener", || {
        http::get(address, "/", Duration::from_secs(1)).ok()
    });
    let status = site.status();
    assert_eq!(status["ready"], true, "{status:#}");
    assert_eq!(status["problem"], Value::Null, "{status:#}");
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

/// A pure client, or one whose listeners are internal, is nothing that clients connect to.
#[tokio::test]
async fn an_envoy_without_any_listener_by_its_configuration_is_taken_at_its_word() {
    let envoy = require_envoy!();
    let site = Site::new();
    let port = site.admin.number();
    let text = format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"
    );
    std::fs::write(site.file(), text).expect("a file");
    let mut supervisor = site.launch(&envoy).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let status = site.status();
    assert_eq!(status["ready"], true, "{status:#}");
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}
