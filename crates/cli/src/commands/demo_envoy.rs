//! `handover demo --envoy` and `--fake-envoy`: the same play on an Envoy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use handover_envoy::Envoy;
use handover_envoy::args::{ArgsOptions, DrainStrategy};
use handover_netutil::Listen;
use handover_supervisor::Signals;
use handover_supervisor::control::Directory;
use serde_json::{Value, json};

use super::demo::perform;
use super::envoy_config::{ConfigFile, ConfigSource};
use crate::cli::demo::DemoArgs;
use crate::demo::script::Script;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::supervised::{Supervised, SupervisedSource, Supervisor};

/// Short times, so that an old epoch ends while one still watches.
const DRAIN_TIME: std::time::Duration = std::time::Duration::from_secs(1);
const PARENT_SHUTDOWN_TIME: std::time::Duration = std::time::Duration::from_secs(3);

pub(super) async fn run(
    args: &DemoArgs,
    binary: PathBuf,
    dir: &Path,
    signals: Signals,
) -> Result<ExitCode, Fatal> {
    let [address, admin] = free_addresses()?;
    let config = dir.join("envoy.json");
    let script = Script {
        config: config.clone(),
        good: Box::new(move |number| configuration(address, admin, number).to_string()),
        bad: bad_configuration(address, admin).to_string(),
        hand_overs: args.hand_overs,
        interval: args.interval,
        address,
    };
    script
        .write(&configuration(address, admin, 0).to_string())
        .or_exit(ExitCode::OS)?;
    let title = format!(
        "handover run --config-path {} --envoy-path {} --drain-time 1s --parent-shutdown-time 3s",
        config.display(),
        binary.display()
    );
    let locks = Directory::new(None).make().or_exit(ExitCode::OS)?;
    let arguments = ArgsOptions {
        drain_time: DRAIN_TIME,
        parent_shutdown_time: PARENT_SHUTDOWN_TIME,
        drain_strategy: DrainStrategy::Immediate,
        ..ArgsOptions::default()
    };
    // What the servers print is not passed on: what matters of it is in the reason when one fails.
    let envoy = Envoy::builder(binary)
        .args(arguments)
        .instance("handover demo")
        .run_dir(dir.join("epochs"))
        .lock_dir(locks.path())
        .build()
        .map_err(|error| {
            let code = ExitCode::of_failure(&error);
            Fatal::new(code, error)
        })?;
    let source = ConfigSource::new(ConfigFile::plain(config.clone()), None);
    let supervisor = Supervisor::builder(
        Arc::new(Supervised::from(envoy)),
        SupervisedSource::from(source),
    )
    .watch([config]);
    perform(args, &title, supervisor, script, signals).await
}

/// Two free ports of the loopback interface. Envoy binds them a moment later.
fn free_addresses() -> Result<[SocketAddr; 2], Fatal> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bind = || {
        Listen::new(any)
            .tcp()
            .context("finding a free port")
            .or_exit(ExitCode::OS)
    };
    // Both are held until both are known, so that they differ.
    let (one, other) = (bind()?, bind()?);
    let address = |listener: &std::net::TcpListener| {
        listener
            .local_addr()
            .context("finding a free port")
            .or_exit(ExitCode::OS)
    };
    Ok([address(&one)?, address(&other)?])
}

/// A configuration that answers by itself, at once or after a while, and tells its epoch. It is JSON, because the fake
/// Envoy of this program reads no YAML.
fn configuration(address: SocketAddr, admin: SocketAddr, number: u32) -> Value {
    let socket = |address: SocketAddr| {
        let (ip, port) = (address.ip().to_string(), address.port());
        json!({ "socket_address": { "address": ip, "port_value": port } })
    };
    let extension = |name: &str| {
        json!(format!(
            "type.googleapis.com/envoy.extensions.filters.{name}"
        ))
    };
    let fault = extension("http.fault.v3.HTTPFault");
    let answer = json!({
        "status": 200,
        "body": { "inline_string": format!("configuration {number}\n") },
    });
    let routes = json!([
        {
            "match": { "path": "/slow" },
            "direct_response": answer,
            "typed_per_filter_config": {
                "envoy.filters.http.fault": {
                    "@type": fault,
                    "delay": { "fixed_delay": "0.4s", "percentage": { "numerator": 100 } },
                },
            },
        },
        { "match": { "prefix": "/" }, "direct_response": answer },
    ]);
    let manager = json!({
        "@type": extension("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "demo",
        "route_config": {
            "response_headers_to_add": [
                { "header": { "key": "x-epoch", "value": "%ENVIRONMENT(RESTART_EPOCH)%" } },
            ],
            "virtual_hosts": [{ "name": "demo", "domains": ["*"], "routes": routes }],
        },
        "http_filters": [
            { "name": "envoy.filters.http.fault", "typed_config": { "@type": fault } },
            {
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": extension("http.router.v3.Router") },
            },
        ],
    });
    let filter = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    });
    json!({
        "admin": { "address": socket(admin) },
        "static_resources": {
            "listeners": [{
                "name": "demo",
                "address": socket(address),
                "filter_chains": [{ "filters": [filter] }],
            }],
        },
    })
}

/// A configuration with a field that Envoy does not know.
fn bad_configuration(address: SocketAddr, admin: SocketAddr) -> Value {
    let mut configuration = configuration(address, admin, 0);
    if let Some(fields) = configuration.as_object_mut() {
        fields.insert("no_such_field".to_owned(), Value::Bool(true));
    }
    configuration
}
