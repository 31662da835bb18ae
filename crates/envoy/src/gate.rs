//! What Envoy gets so that it does not take over before it is let.
//!
//! An answer of the control plane ends Envoy's wait for it, even one that Envoy refuses. Then nothing
//! keeps an epoch from going live without its listeners. So an epoch that is to replace another one
//! gets one thing more to wait for: the routes of a listener on which nobody listens. It asks for them
//! at a Unix socket of ours, and gets the answer once it has what the older epoch had.
//!
//! Envoy merges this into the configuration, whose text stays as it is.

use std::path::Path;

use serde_json::json;

/// The name of the listener, of its routes, and of the cluster that leads to us. No listener or
/// cluster of a user may have it.
pub(crate) const NAME: &str = "handover_gate";

/// What Envoy gets as routes: none. It goes with any request.
pub(crate) const ANSWER: &str = concat!(
    "HTTP/1.1 200 OK\r\n",
    "content-type: application/json\r\n",
    "content-length: 133\r\n",
    "connection: close\r\n",
    "\r\n",
    r#"{"version_info":"open","resources":[{"@type":"type.googleapis.com/"#,
    r#"envoy.config.route.v3.RouteConfiguration","name":"handover_gate"}]}"#,
);

/// Ten years. Envoy asks once, and waits for the answer for as long as it takes.
const FOREVER: &str = "315360000s";

/// Returns what is merged into the configuration of an epoch whose gate is at this socket, or `None`
/// if the path is not text.
pub(crate) fn overlay(socket: &Path) -> Option<String> {
    let types = "type.googleapis.com/envoy.extensions.filters";
    let address = json!({"pipe": {"path": socket.to_str()?}});
    let source = json!({
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": [NAME],
            "refresh_delay": FOREVER,
            "request_timeout": FOREVER
        }
    });
    let manager = json!({
        "@type": format!("{types}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": NAME,
        "rds": {"route_config_name": NAME, "config_source": source},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{types}.http.router.v3.Router")}
        }]
    });
    let overlay = json!({"static_resources": {
        "listeners": [{
            "name": NAME,
            "stat_prefix": NAME,
            "bind_to_port": false,
            "enable_reuse_port": false,
            "address": {"socket_address": {"address": "127.255.255.254", "port_value": 1}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager
            }]}]
        }],
        "clusters": [{
            "name": NAME,
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": NAME,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
            }
        }]
    }});
    Some(overlay.to_string())
}

/// Returns whether a statistic is one of the gate.
pub(crate) fn has_statistic(name: &str) -> bool {
    let rest = name.split_once('.').map(|(_, rest)| rest);
    let rest = rest.and_then(|rest| rest.strip_prefix(NAME));
    rest.is_some_and(|rest| rest.starts_with('.'))
}

/// Returns whether Envoy's name for something it waits for is about the gate.
pub(crate) fn is_waited_for_as(target: &str) -> bool {
    target.split_whitespace().any(|word| word == NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_length_that_it_names() {
        let (head, body) = ANSWER.split_once("\r\n\r\n").unwrap();
        let named = format!("content-length: {}\r\n", body.len());
        assert!(head.contains(&named), "{named}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["resources"][0]["name"], NAME);
    }

    #[test]
    fn the_overlay_names_the_socket_whatever_its_path() {
        for path in ["/run/handover/gate.sock", "/run/a \"b\" {{c}}/gate.sock"] {
            let overlay = overlay(path.as_ref()).unwrap();
            let read: serde_json::Value = serde_json::from_str(&overlay).unwrap();
            let endpoints = "/static_resources/clusters/0/load_assignment/endpoints";
            let named = format!("{endpoints}/0/lb_endpoints/0/endpoint/address/pipe/path");
            assert_eq!(read.pointer(&named).unwrap(), path);
        }
    }

    #[test]
    fn what_is_of_the_gate_is_told_from_what_has_a_similar_name() {
        for (name, is) in [
            ("http.handover_gate.rds.handover_gate.version_text", true),
            ("listener.handover_gate.downstream_cx_active", true),
            ("cluster.handover_gate.upstream_cx_total", true),
            ("cluster.handover_gates.upstream_cx_total", false),
            ("cluster.x.handover_gate.upstream_cx_total", false),
            ("handover_gate", false),
            ("", false),
        ] {
            assert_eq!(has_statistic(name), is, "{name}");
        }
        let target = "shared target RdsRouteConfigSubscription RDS init handover_gate";
        assert!(is_waited_for_as(target));
        assert!(!is_waited_for_as("shared target SdsApi handover_gate_2"));
    }
}
