//! What is written into a configuration so that its first resources are waited for is accepted.

use std::sync::atomic::AtomicBool;

use handover_envoy::bootstrap::{Bootstrap, Format, wait_for_first_resources};
use handover_envoy::validate::{Verdict, validate};
use handover_test_support::require_envoy;
use serde_json::{Value, json};

use crate::support::Host;

/// How many sources [`sources`] has.
const SOURCES: usize = 8;

/// A configuration with sources of every kind.
fn sources(host: &Host) -> Value {
    let address = |address: std::net::SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let service = json!([{"envoy_grpc": {"cluster_name": "control"}}]);
    let api = json!({"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": service});
    let ads = json!({"resource_api_version": "V3", "ads": {}});
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    json!({
        "node": {"id": "n", "cluster": "c", "metadata": {"lds_config": {"ads": {}}}},
        "admin": {"address": address(host.admin)},
        "dynamic_resources": {
            "ads_config": api,
            "lds_config": ads,
            "cdsConfig": {"apiConfigSource": api, "resourceApiVersion": "V3"},
        },
        "layered_runtime": {"layers": [
            {"name": "static", "static_layer": {"sds_config": {"ads": {}}}},
            {"name": "r", "rtds_layer": {"name": "r", "rtds_config": ads}},
        ]},
        "static_resources": {
            "listeners": [{
                "name": "web",
                "address": address(host.web),
                "filter_chains": [{
                    "transport_socket": {"name": "tls", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                        "common_tls_context": {"tls_certificate_sds_secret_configs": [{
                            "name": "certificate",
                            "sds_config": {
                                "initial_fetch_timeout": "5s",
                                "resource_api_version": "V3",
                                "api_config_source": api,
                            },
                        }]},
                    }},
                    "filters": [{"name": "http", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "web",
                        "rds": {"route_config_name": "routes", "configSource": {
                            "ads": {}, "resourceApiVersion": "V3", "initialFetchTimeout": "3s",
                        }},
                        "http_filters": [
                            {"name": "found", "config_discovery": {"config_source": ads, "type_urls": [router]}},
                            {"name": "router", "typed_config": {"@type": router}},
                        ],
                    }}],
                }],
            }],
            "clusters": [
                {
                    "name": "control",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        },
                    },
                    "load_assignment": {"cluster_name": "control", "endpoints": [{"lb_endpoints": [
                        {"endpoint": {"address": address(host.web)}},
                    ]}]},
                },
                {"name": "e", "type": "EDS", "eds_cluster_config": {"eds_config": ads}},
                {"name": "f", "type": "EDS", "eds_cluster_config": {"edsConfig": {"ads": {}, "resource_api_version": "V3"}}},
            ],
        },
    })
}

/// Writes a value as YAML in block style.
fn block(value: &Value, indentation: usize, text: &mut String) {
    let spaces = " ".repeat(indentation);
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                text.push_str(&format!("\n{spaces}-"));
                block(item, indentation + 2, text);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                text.push_str(&format!("\n{spaces}{}: # of {key}", json!(key)));
                block(value, indentation + 1, text);
            }
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_)) => {
            text.push_str(&format!("\n{spaces} {other}"));
        }
    }
}

#[tokio::test]
async fn a_configuration_that_waits_for_its_first_resources_is_accepted() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let sources = sources(&host);
    let mut in_block = String::new();
    block(&sources, 0, &mut in_block);
    for (style, format, text) in [
        ("block", Format::Yaml, in_block),
        ("flow", Format::Yaml, sources.to_string()),
        ("JSON", Format::Json, format!("{sources:#}")),
    ] {
        let never = AtomicBool::new(false);
        let waits = wait_for_first_resources(text.as_bytes(), format, &never).unwrap();
        let waits = std::str::from_utf8(&waits).unwrap();
        assert_eq!(waits.matches("\"0s\"").count(), SOURCES, "{style}: {waits}");
        assert!(
            !waits.contains("\"3s\"") && !waits.contains("\"5s\""),
            "{style}: {waits}"
        );
        Bootstrap::parse(waits.as_bytes(), format).unwrap();
        for (epoch, text) in [(0, &*text), (1, waits)] {
            let file = host.run.write(epoch, format, text.as_bytes()).unwrap();
            let verdict = validate(&host.binary, &host.args, &file).await;
            assert!(
                matches!(verdict, Verdict::Valid),
                "{style}, {epoch}: {verdict:?}"
            );
        }
    }
}
