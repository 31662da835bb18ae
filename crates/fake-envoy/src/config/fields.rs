//! Fields that Envoy's messages have, as far as the fake looks into them.

use serde_json::Value;

use super::{ConfigError, each, number};
use crate::settings::Settings;

const BOOTSTRAP: &[&str] = &[
    "node",
    "node_context_params",
    "static_resources",
    "dynamic_resources",
    "cluster_manager",
    "hds_config",
    "flags_path",
    "stats_sinks",
    "deferred_stat_options",
    "stats_config",
    "stats_flush_interval",
    "stats_flush_on_admin",
    "watchdog",
    "watchdogs",
    "tracing",
    "layered_runtime",
    "admin",
    "overload_manager",
    "enable_dispatcher_stats",
    "header_prefix",
    "stats_server_version_override",
    "use_tcp_for_dns_lookups",
    "dns_resolution_config",
    "typed_dns_resolver_config",
    "bootstrap_extensions",
    "fatal_actions",
    "default_socket_interface",
    "certificate_provider_instances",
    "inline_headers",
    "perf_tracing_file_path",
    "default_config_source",
    "default_regex_engine",
    "xds_delegate_extension",
    "xds_config_tracker_extension",
    "listener_manager",
    "application_log_config",
    "grpc_async_client_manager_config",
    "memory_allocator_manager",
    "config_sources",
];

const ADMIN: &[&str] = &[
    "access_log",
    "access_log_path",
    "profile_path",
    "address",
    "socket_options",
    "ignore_global_conn_limit",
];

/// The field of the admin endpoint that came with 1.37.
const SINCE_1_37: &str = "allow_paths";

const LISTENER: &[&str] = &[
    "name",
    "address",
    "additional_addresses",
    "stat_prefix",
    "filter_chains",
    "filter_chain_matcher",
    "use_original_dst",
    "default_filter_chain",
    "per_connection_buffer_limit_bytes",
    "metadata",
    "deprecated_v1",
    "drain_type",
    "listener_filters",
    "listener_filters_timeout",
    "continue_on_listener_filters_timeout",
    "transparent",
    "freebind",
    "socket_options",
    "tcp_fast_open_queue_length",
    "traffic_direction",
    "udp_listener_config",
    "api_listener",
    "connection_balance_config",
    "reuse_port",
    "enable_reuse_port",
    "access_log",
    "tcp_backlog_size",
    "max_connections_to_accept_per_socket_event",
    "bind_to_port",
    "internal_listener",
    "enable_mptcp",
    "ignore_global_conn_limit",
    "bypass_overload_manager",
    "fcds_config",
];

const STATIC: &[&str] = &["listeners", "clusters", "secrets"];

/// Refuses what Envoy refuses while it parses: the first field that it does not know, and a port that
/// is none.
pub(super) fn check(document: &Value, settings: &Settings) -> Result<(), ConfigError> {
    known(
        document,
        "envoy.config.bootstrap.v3.Bootstrap",
        "",
        BOOTSTRAP,
    )?;
    if let Some(admin) = document.get("admin") {
        let mut fields = ADMIN.to_vec();
        if settings.is_since(1, 37) {
            fields.push(SINCE_1_37);
        }
        known(admin, "envoy.config.bootstrap.v3.Admin", "admin", &fields)?;
    }
    check_ports(document)?;
    let Some(resources) = document.get("static_resources") else {
        return Ok(());
    };
    let message = "envoy.config.bootstrap.v3.Bootstrap.StaticResources";
    known(resources, message, "static_resources", STATIC)?;
    for (index, listener) in each(resources, "listeners").enumerate() {
        let place = format!("static_resources.listeners[{index}]");
        known(
            listener,
            "envoy.config.listener.v3.Listener",
            &place,
            LISTENER,
        )?;
    }
    Ok(())
}

/// Returns the port of a `SocketAddress`; 0 if there is none.
pub(super) fn port(socket: &Value) -> Result<u16, ConfigError> {
    let Some(given) = socket.get("port_value") else {
        return Ok(0);
    };
    let Some(port) = number(given) else {
        return Err(ConfigError(format!(
            "Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in \
             envoy.config.bootstrap.v3.Bootstrap @ port_value: uint32, near 1:1 (offset 0): invalid \
             number: {given}): {{}}"
        )));
    };
    u16::try_from(port).map_err(|_| {
        ConfigError(
            "Proto constraint validation failed (BootstrapValidationError.StaticResources: embedded \
             message failed validation | caused by field: \"port_value\", reason: value must be less than \
             or equal to 65535)"
                .to_owned(),
        )
    })
}

/// Looks at every port of a document.
fn check_ports(value: &Value) -> Result<(), ConfigError> {
    match value {
        Value::Object(fields) => {
            if let Some(socket) = fields.get("socket_address") {
                port(socket)?;
            }
            fields.values().try_for_each(check_ports)
        }
        Value::Array(elements) => elements.iter().try_for_each(check_ports),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn known(value: &Value, message: &str, place: &str, fields: &[&str]) -> Result<(), ConfigError> {
    let mut given = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, _)| field);
    let Some(unknown) = given.find(|field| !fields.contains(&field.as_str())) else {
        return Ok(());
    };
    let place = match place {
        "" => String::new(),
        place => format!(" @ {place}: message {message}"),
    };
    Err(ConfigError(format!(
        "Protobuf message (type envoy.config.bootstrap.v3.Bootstrap reason INVALID_ARGUMENT: invalid JSON in \
         envoy.config.bootstrap.v3.Bootstrap{place}, near 1:1 (offset 0): no such field: '{unknown}') has unknown \
         fields"
    )))
}
