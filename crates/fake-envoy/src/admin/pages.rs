//! The pages but for the statistics.

use serde::Serialize as _;
use serde_json::{Value, json};

use super::{Page, ServerState, View, parameter, shown_state};
use crate::faults::Habit;

/// The end of the pages that list the commands.
pub(super) const HELP: &str = "  /certs: print certs on machine
  /clusters: upstream cluster status
  /config_dump: dump current Envoy configs
  /drain_listeners (POST): drain listeners
  /healthcheck/fail (POST): cause the server to fail health checks
  /healthcheck/ok (POST): cause the server to pass health checks
  /help: print out list of admin commands
  /hot_restart_version: print the hot restart compatibility version
  /init_dump: dump current Envoy init manager information
  /listeners: print listener info
  /memory: print current allocation/heap usage
  /quitquitquit (POST): exit the server
  /ready: print server state, return 200 if LIVE, otherwise return 503
  /reopen_logs (POST): reopen access logs
  /runtime: print runtime values
  /server_info: print server version/status information
  /stats: print server stats
  /stats/prometheus: print server stats in prometheus format
";

/// Writes JSON as Envoy does: one blank for each level.
pub(super) fn pretty(value: &Value) -> String {
    let mut bytes = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, format);
    // A value without foreign maps can always be written to memory.
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned() + "\n",
        Err(_) => value.to_string(),
    }
}

pub(super) fn server_info(view: &View) -> Value {
    let lie = view.habits.value(|habit| {
        if let Habit::LieEpoch(epoch) = habit {
            Some(*epoch)
        } else {
            None
        }
    });
    let mut options = view.options.clone();
    if let Some(options) = options.as_object_mut() {
        let epoch = lie.unwrap_or(view.restart_epoch);
        options.insert("restart_epoch".to_owned(), epoch.into());
    }
    let node = view.document.get("node").cloned();
    json!({
        "version": view.version,
        "state": shown_state(view).name(),
        "uptime_current_epoch": format!("{}s", view.uptime),
        "uptime_all_epochs": format!("{}s", view.uptime_all_epochs),
        "hot_restart_version": view.hot_restart_version,
        "command_line_options": options,
        "hot_restart_initializing": view.state != ServerState::Live && view.state != ServerState::Draining,
        "node": node.unwrap_or_else(|| json!({"id": "", "cluster": ""})),
    })
}

pub(super) fn listeners(view: &View, query: &str) -> Page {
    if parameter(query, "format").as_deref() == Some("json") {
        let mut statuses: Vec<Value> = Vec::new();
        for listener in &view.listeners {
            let address = listener.address.json();
            let last = statuses.last_mut().and_then(Value::as_object_mut);
            match last.filter(|_| listener.is_additional) {
                None => statuses.push(json!({"name": listener.name, "local_address": address})),
                Some(last) => {
                    let further = last.entry("additional_local_addresses");
                    let further = further.or_insert_with(|| json!([])).as_array_mut();
                    if let Some(further) = further {
                        further.push(address);
                    }
                }
            }
        }
        return Page::json(&if statuses.is_empty() {
            json!({})
        } else {
            json!({"listener_statuses": statuses})
        });
    }
    let lines = view.listeners.iter();
    let lines = lines.map(|it| format!("{}::{}\n", it.name, it.address));
    Page::text(200, lines.collect::<String>())
}

pub(super) fn clusters(view: &View, query: &str) -> Page {
    if parameter(query, "format").as_deref() == Some("json") {
        let statuses = view.clusters.iter();
        let statuses: Vec<_> = statuses.map(|name| json!({"name": name})).collect();
        return Page::json(&if statuses.is_empty() {
            json!({})
        } else {
            json!({"cluster_statuses": statuses})
        });
    }
    let lines = view.clusters.iter();
    let lines = lines
        .map(|name| format!("{name}::observability_name::{name}\n{name}::added_via_api::false\n"));
    Page::text(200, lines.collect::<String>())
}

pub(super) fn init_dump(view: &View) -> Value {
    if view.targets.is_empty() {
        return json!({});
    }
    let dumps = view.targets.iter();
    let dumps = dumps.map(|(manager, target)| json!({"name": manager, "target_names": [target]}));
    json!({"unready_targets_dumps": dumps.collect::<Vec<_>>()})
}

pub(super) fn memory(view: &View) -> Value {
    let bytes = view.memory.to_string();
    json!({
        "allocated": bytes,
        "heap_size": bytes,
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": bytes,
    })
}

pub(super) fn config_dump(view: &View, query: &str) -> Page {
    let resources = view.document.get("static_resources");
    let of = |field: &str| resources.and_then(|it| it.get(field)?.as_array()).cloned();
    let wrapped = |field: &str, name: &str| {
        let each = of(field).unwrap_or_default().into_iter();
        each.map(|it| json!({name: it})).collect::<Vec<_>>()
    };
    if let Some(resource) = parameter(query, "resource") {
        let configs = match &*resource {
            "static_listeners" => wrapped("listeners", "listener"),
            "static_clusters" => wrapped("clusters", "cluster"),
            "dynamic_listeners"
            | "dynamic_active_clusters"
            | "dynamic_warming_clusters"
            | "dynamic_route_configs"
            | "dynamic_active_secrets"
            | "dynamic_warming_secrets"
            | "static_secrets"
            | "static_route_configs"
            | "bootstrap" => Vec::new(),
            other => return Page::text(404, format!("{other} not found in config dump")),
        };
        return Page::json(&if configs.is_empty() {
            json!({})
        } else {
            json!({"configs": configs})
        });
    }
    let kind = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump");
    Page::json(&json!({"configs": [
        {"@type": kind("Bootstrap"), "bootstrap": view.document},
        {"@type": kind("Clusters"), "static_clusters": wrapped("clusters", "cluster")},
        {"@type": kind("Listeners"), "static_listeners": wrapped("listeners", "listener")},
    ]}))
}
