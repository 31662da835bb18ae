//! What a configuration fetches is away while the next epoch starts. Envoy itself goes on without
//! after a while: live with no listener, or with one that resets every handshake.

#![expect(
    clippy::indexing_slicing,
    reason = "fields are set in JSON that was made a line above"
)]

use std::sync::Arc;
use std::time::Duration;

use handover_core::{Event, Policy, retry::Retry};
use handover_envoy::EnvoyConfig;
use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::control_plane::{ControlPlane, Kind, Transport};
use handover_test_support::load::Mix;
use handover_test_support::require_envoy;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{LIMIT, Setup, World};
use handover_test_support::limit::within;

/// After this time Envoy would go on without, if it were left alone.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// What a configuration fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetched {
    Listeners,
    Routes,
    Endpoints,
    /// The certificate of an authority, for the upstream's.
    Authority,
    /// A certificate of a further listener.
    Certificate,
}

const TYPES: &str = "type.googleapis.com/envoy.";

/// A public certificate; nobody has its key.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBhjCCAS2gAwIBAgIUTx/PQVAAo1qNVHqWJSMHmc6OJYUwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNaGFuZG92ZXItdGVzdDAgFw0yNjExMjUxOTI3NTJaGA8yMTI2
MTEwMTE5Mjc1MlowGDEWMBQGA1UEAwwNaGFuZG92ZXItdGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABFgwoslXKr8aBoUplgVuuqm0i0BYih8/Q4myZ8VXf86m
pb5gtv6ZMtDykEJeCimIMyypDelu4oJmvIcPIitFIeujUzBRMB0GA1UdDgQWBBS1
TwJewr6meXGhP6CdxyVfbRViHTAfBgNVHSMEGDAWgBS1TwJewr6meXGhP6CdxyVf
bRViHTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIA6zbPX9CEDY
V1+sQRgmPJdcpU/IJsrER3HUhq+i5OKdAiAdQOQORzDnui+Hl0TXQHixB2EUpa2G
sDlXeOHqedswaQ==
-----END CERTIFICATE-----
";

fn address(of: std::net::SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

fn routes(name: &str) -> Value {
    json!({
        "name": "routes",
        "response_headers_to_add": [{"header": {"key": "x-config", "value": name}}],
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "120s"}}
        ]}]
    })
}

fn listener(world: &World, name: &str, fetched: Fetched) -> Value {
    let mut manager = json!({
        "@type": format!("{TYPES}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "ingress",
        "http_filters": [{"name": "router", "typed_config": {
            "@type": format!("{TYPES}extensions.filters.http.router.v3.Router")
        }}]
    });
    if fetched == Fetched::Routes {
        let source = ControlPlane::source(Transport::Rest, GIVEN_UP);
        manager["rds"] = json!({"route_config_name": "routes", "config_source": source});
    } else {
        manager["route_config"] = routes(name);
    }
    json!({
        "name": "web",
        "address": address(world.addresses().0),
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}]
    })
}

fn backend(world: &World, fetched: Fetched) -> Value {
    let endpoints = load_assignment(world);
    let mut cluster = json!({"name": "backend", "connect_timeout": "5s"});
    if fetched == Fetched::Endpoints {
        cluster["type"] = json!("EDS");
        cluster["eds_cluster_config"] =
            json!({"eds_config": ControlPlane::source(Transport::Rest, GIVEN_UP)});
    } else {
        cluster["type"] = json!("STATIC");
        cluster["load_assignment"] = endpoints;
    }
    cluster
}

fn load_assignment(world: &World) -> Value {
    json!({"cluster_name": "backend", "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": address(world.addresses().2)}}
    ]}]})
}

/// A configuration with this name, and what the control plane has for it.
fn config(world: &World, plane: &ControlPlane, name: &str, fetched: Fetched) -> Arc<EnvoyConfig> {
    let mut clusters = vec![plane.cluster(Transport::Rest), backend(world, fetched)];
    let mut listeners = vec![];
    let mut dynamic = json!({});
    let listener = listener(world, name, fetched);
    let typed = |kind: &str, mut resource: Value| {
        resource["@type"] = json!(format!("{TYPES}{kind}"));
        vec![resource]
    };
    match fetched {
        Fetched::Listeners => {
            dynamic = json!({"lds_config": ControlPlane::source(Transport::Rest, GIVEN_UP)});
            plane.set(
                Kind::Listener,
                typed("config.listener.v3.Listener", listener),
            );
        }
        Fetched::Routes => {
            listeners.push(listener);
            let kind = "config.route.v3.RouteConfiguration";
            plane.set(Kind::Routes, typed(kind, routes(name)));
        }
        Fetched::Endpoints => {
            listeners.push(listener);
            let kind = "config.endpoint.v3.ClusterLoadAssignment";
            plane.set(Kind::Endpoints, typed(kind, load_assignment(world)));
        }
        Fetched::Authority => {
            listeners.push(listener);
            let mut secured = backend(world, fetched);
            secured["name"] = json!("secured");
            secured["transport_socket"] = json!({"name": "tls", "typed_config": {
                "@type": format!("{TYPES}extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
                "common_tls_context": {"validation_context_sds_secret_config": {
                    "name": "authority", "sds_config": ControlPlane::source(Transport::Rest, GIVEN_UP)
                }}
            }});
            clusters.push(secured);
            let secret = json!({"name": "authority", "validation_context": {
                "trusted_ca": {"inline_string": AUTHORITY}
            }});
            let kind = "extensions.transport_sockets.tls.v3.Secret";
            plane.set(Kind::Secret, typed(kind, secret));
        }
        Fetched::Certificate => {
            let mut secured = listener.clone();
            secured["name"] = json!("secured");
            secured["address"] = json!({"pipe": {"path": world.directory().join("tls.sock")}});
            secured["filter_chains"][0]["transport_socket"] = json!({"name": "tls", "typed_config": {
                "@type": format!("{TYPES}extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {"tls_certificate_sds_secret_configs": [{
                    "name": "certificate", "sds_config": ControlPlane::source(Transport::Rest, GIVEN_UP)
                }]}
            }});
            listeners.extend([listener, secured]);
        }
    }
    let text = json!({
        "node": {"id": "test", "cluster": "test", "metadata": {"version": name}},
        "admin": {"address": address(world.addresses().1)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "dynamic_resources": dynamic
    });
    world.config_of(&format!("{text:#}"))
}

async fn goes_live(world: &World, config: Arc<EnvoyConfig>, epoch: u32) {
    let applied = world.handle.apply_and_wait(config);
    let live = within(LIMIT, "the configuration to be settled", applied).await;
    assert_eq!(live.map(handover_core::Epoch::number).ok(), Some(epoch));
}

fn light() -> Mix {
    Mix {
        slow: None,
        pause: Some(Duration::from_millis(3)),
        ..Mix::default()
    }
}

/// While the control plane is away the new epoch waits and the old one serves, beyond the time after
/// which Envoy would go on without. Once it is back the new one goes live.
async fn is_waited_for(fetched: Fetched) {
    let envoy = AnyEnvoy::real(require_envoy!());
    let setup = Setup {
        load: light(),
        ..Setup::brisk()
    };
    let mut world = World::idle(&envoy, setup).await;
    let plane = ControlPlane::start();
    let first = config(&world, &plane, "v0", fetched);
    goes_live(&world, first, 0).await;
    // Listeners may come a moment after the process is live.
    world.next_success().await;
    world.start_load();
    world.served_by("v0").await;

    plane.go_away();
    let second = config(&world, &plane, "v1", fetched);
    world.handle.apply(second).await.expect("the agent runs");
    world
        .until("epoch 1 to run", |world| world.newest() == 1)
        .await;
    sleep(GIVEN_UP * 4).await;
    assert!(!world.is_live(1), "it is live without what it fetches");
    world.served_by("v0").await;

    plane.come_back();
    world
        .until("epoch 1 to be live", |world| world.is_live(1))
        .await;
    world.served_by("v1").await;
    world.finish().await.assert_no_loss();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_are_waited_for_while_the_old_epoch_serves() {
    is_waited_for(Fetched::Listeners).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_are_waited_for_while_the_old_epoch_serves() {
    is_waited_for(Fetched::Routes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_waited_for_while_the_old_epoch_serves() {
    is_waited_for(Fetched::Endpoints).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_waited_for_while_the_old_epoch_serves() {
    is_waited_for(Fetched::Authority).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_does_not_come_by_the_deadline_is_named_and_nothing_is_lost() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let setup = Setup::brisk();
    let setup = Setup {
        policy: Policy {
            start_deadline: Some(Duration::from_secs(6)),
            retry: Retry::new(1, Duration::from_millis(50)),
            ..setup.policy
        },
        load: light(),
        ..setup
    };
    let mut world = World::with(&envoy, setup).await;
    world.events();
    let plane = ControlPlane::start();
    plane.go_away();
    let waits = config(&world, &plane, "v1", Fetched::Certificate);
    let applied = world.handle.apply_and_wait(waits);
    let error = within(LIMIT, "the configuration to be given up", applied).await;
    let error = error.expect_err("the certificate never comes").to_string();
    for told in [
        "not live by its start deadline",
        "INITIALIZING",
        "SdsApi certificate",
    ] {
        assert!(error.contains(told), "{error}");
    }
    // Both attempts took as long as they may: the flag of the first one was repaired.
    let events = world.events();
    let late = events
        .iter()
        .filter(|event| matches!(event, Event::StartTimedOut { .. }));
    assert_eq!(late.count(), 2, "{events:?}");
    world.served_by("v0").await;
    world.hand_over("better", 1).await;
    world.finish().await.assert_no_loss();
}

/// The first epoch has nobody beside it: it keeps what the user wrote, and goes live without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_epoch_waits_only_as_long_as_its_configuration_says() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let world = World::idle(&envoy, Setup::brisk()).await;
    let plane = ControlPlane::start();
    plane.go_away();
    let first = config(&world, &plane, "v0", Fetched::Endpoints);
    goes_live(&world, first, 0).await;
    let (_, outcome) = world.end().await;
    assert_eq!(outcome, handover_core::Outcome::Drained);
}
