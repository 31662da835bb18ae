//! What a look at a live epoch shows of what it cannot do, and what it must not take for that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handover_core::Epoch;
use handover_envoy::admin::AdminClient;
use handover_envoy::{EnvoyConfig, Examination};
use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::control_plane::{ControlPlane, Kind, Transport};
use handover_test_support::limit::within;
use handover_test_support::ports::Port;
use handover_test_support::{envoy_config, http, require_envoy};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{LIMIT, Setup, World};

const TYPES: &str = "type.googleapis.com/envoy.";

/// How long a resource that is away is waited for: long before a test is over, or long after.
const SOON: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_secs(600);

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn answers_200() -> Value {
    json!({"name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/dead"}, "route": {"cluster": "dead"}},
        {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    ]}]})
}

/// A listener that answers by itself, with what else is to be in its connection manager.
fn listener(name: &str, port: u16, routes: (&str, Value)) -> Value {
    let (field, routes) = routes;
    let mut manager = json!({
        "@type": format!("{TYPES}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "http_filters": [{"name": "router", "typed_config": {
            "@type": format!("{TYPES}extensions.filters.http.router.v3.Router")
        }}]
    });
    let fields = manager.as_object_mut().expect("it was made an object");
    fields.insert(field.to_owned(), routes);
    json!({
        "@type": format!("{TYPES}config.listener.v3.Listener"),
        "name": name,
        "address": address(port),
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}]
    })
}

fn plain(name: &str, port: u16) -> Value {
    listener(name, port, ("route_config", answers_200()))
}

/// A listener whose routes are fetched. Listeners with the same ones share them.
fn routed(name: &str, port: u16, routes: &str, timeout: Duration) -> Value {
    let source = ControlPlane::source(Transport::Rest, timeout);
    let rds = json!({"route_config_name": routes, "config_source": source});
    listener(name, port, ("rds", rds))
}

/// A listener whose certificate is fetched.
fn secured(name: &str, port: u16, timeout: Duration) -> Value {
    let mut listener = plain(name, port);
    let source = ControlPlane::source(Transport::Rest, timeout);
    let chain = listener.pointer_mut("/filter_chains/0");
    let chain = chain.and_then(Value::as_object_mut);
    chain.expect("it has a filter chain").insert(
        "transport_socket".to_owned(),
        json!({"name": "tls", "typed_config": {
            "@type": format!("{TYPES}extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {"tls_certificate_sds_secret_configs": [{
                "name": "certificate", "sds_config": source
            }]}
        }}),
    );
    listener
}

/// A listener that passes bytes on to an upstream that is not there.
fn passes_on(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "address": address(port),
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {
            "@type": format!("{TYPES}extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": name, "cluster": "dead"
        }}]}]
    })
}

/// Writes what the file `name` has to offer an Envoy that fetches its listeners there.
fn offer(world: &World, name: &str, listeners: &[Value]) -> PathBuf {
    let path = world.directory().join(name);
    let text = json!({"version_info": "1", "resources": listeners}).to_string();
    envoy_config::replace_file(&path, text.as_bytes());
    path
}

/// A configuration with these static listeners, which fetches others from a file.
fn config(
    world: &World,
    plane: &ControlPlane,
    listeners: &[Value],
    fetched: Option<PathBuf>,
) -> Arc<EnvoyConfig> {
    let static_ones: Vec<Value> = listeners
        .iter()
        .cloned()
        .map(|mut listener| {
            // A static one has its type from its place.
            listener
                .as_object_mut()
                .and_then(|fields| fields.remove("@type"));
            listener
        })
        .collect();
    let dynamic = match fetched {
        Some(path) => json!({"lds_config": {"path_config_source": {"path": path}}}),
        None => json!({}),
    };
    // Nobody listens on the port of the dead upstream.
    let dead = json!({
        "name": "dead", "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "dead", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(1)}}
        ]}]}
    });
    let text = json!({
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": address(world.addresses().1.port())},
        "static_resources": {"listeners": static_ones, "clusters": [plane.cluster(Transport::Rest), dead]},
        "dynamic_resources": dynamic
    });
    world.config_of(&format!("{text:#}"))
}

async fn serves(world: &World, config: Arc<EnvoyConfig>, epoch: u32) {
    let applied = world.handle.apply_and_wait(config);
    let live = within(LIMIT, "the configuration to be settled", applied).await;
    assert_eq!(live.map(Epoch::number).ok(), Some(epoch));
}

async fn examine(world: &World, epoch: u32) -> Examination {
    within(
        LIMIT,
        "a look at the epoch",
        world.envoy.examine(Epoch::new(epoch)),
    )
    .await
}

/// Looks at an epoch until that has shown what is wanted.
async fn until(
    world: &World,
    epoch: u32,
    what: &str,
    mut is: impl FnMut(&Examination) -> bool,
) -> Examination {
    let looks = async {
        loop {
            let seen = examine(world, epoch).await;
            if is(&seen) {
                return seen;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    within(LIMIT, what, looks).await
}

fn missing(seen: &Examination) -> Option<Vec<String>> {
    let missing = seen.missing.as_ref()?.iter();
    Some(missing.map(ToString::to_string).collect())
}

fn active(seen: &Examination) -> Vec<&str> {
    let listeners = seen.listeners.iter().flatten();
    let mut names: Vec<_> = listeners.map(|listener| listener.name.as_str()).collect();
    names.sort_unstable();
    names
}

async fn ends(world: World) {
    let (_, outcome) = world.end().await;
    assert_eq!(outcome, handover_core::Outcome::Drained);
}

/// The control plane has forgotten a listener. Without this, that is a hand-over like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_is_not_fetched_any_more_is_missing_and_one_that_is_removed_is_not() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let world = World::idle(&envoy, Setup::brisk()).await;
    let plane = ControlPlane::start();
    let ports = [Port::free(), Port::free(), Port::free()];
    let [web, api, extra] = ports.each_ref().map(Port::number);
    let both = offer(&world, "both.json", &[plain("web", web), plain("api", api)]);
    let one = offer(&world, "one.json", &[plain("web", web)]);

    let first = config(&world, &plane, &[plain("extra", extra)], Some(both));
    serves(&world, first, 0).await;
    let seen = examine(&world, 0).await;
    assert_eq!(active(&seen), ["api", "extra", "web"]);
    // Nothing was there before the first epoch, so nothing is known to be missing.
    assert_eq!((missing(&seen), seen.waits_for), (None, Some(vec![])));

    let without = config(&world, &plane, &[], Some(one));
    serves(&world, without, 1).await;
    let seen = examine(&world, 1).await;
    assert_eq!(active(&seen), ["web"]);
    let named = format!("listener api at 127.0.0.1:{api}");
    assert_eq!(missing(&seen), Some(vec![named]));
    assert_eq!(seen.silent, None);
    // The older one has no admin endpoint any more.
    let old = examine(&world, 0).await;
    assert_eq!((old.listeners, old.not_seen.is_empty()), (None, false));
    ends(world).await;
}

/// Envoy takes the rest of the answer in, so the hand-over succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetched_listener_that_envoy_refuses_is_missing_with_the_reason() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let world = World::idle(&envoy, Setup::brisk()).await;
    let plane = ControlPlane::start();
    let ports = [Port::free(), Port::free()];
    let [web, api] = ports.each_ref().map(Port::number);
    let good = offer(&world, "good.json", &[plain("web", web), plain("api", api)]);
    serves(&world, config(&world, &plane, &[], Some(good)), 0).await;
    let same_port = [plain("web", web), plain("api", web)];
    let bad = offer(&world, "bad.json", &same_port);
    serves(&world, config(&world, &plane, &[], Some(bad)), 1).await;
    let seen = examine(&world, 1).await;
    let missing = missing(&seen).unwrap_or_default();
    let start = format!("listener api at 127.0.0.1:{api}, which Envoy refuses: ");
    assert!(
        missing.len() == 1 && missing[0].starts_with(&start) && missing[0].contains("duplicate"),
        "{missing:?}"
    );
    ends(world).await;
}

/// Envoy goes live without the routes and the certificate, and its listeners are active.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_of_fetched_listeners_that_do_not_come_are_waited_for() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let world = World::idle(&envoy, Setup::brisk()).await;
    let plane = ControlPlane::start();
    let ports = [Port::free(), Port::free(), Port::free()];
    let [web, api, late] = ports.each_ref().map(Port::number);
    let mut routes = answers_200();
    let kind = format!("{TYPES}config.route.v3.RouteConfiguration");
    let fields = routes.as_object_mut().expect("it was made an object");
    fields.insert("@type".to_owned(), Value::String(kind));
    plane.set(Kind::Routes, vec![routes]);
    let first = [routed("web", web, "routes", SOON), plain("api", api)];
    let first = offer(&world, "first.json", &first);
    serves(&world, config(&world, &plane, &[], Some(first)), 0).await;
    let seen = examine(&world, 0).await;
    assert_eq!(seen.waits_for, Some(vec![]), "{seen:?}");

    plane.go_away();
    let second = [
        routed("web", web, "routes", SOON),
        secured("api", api, SOON),
    ];
    let path = offer(&world, "second.json", &second);
    serves(&world, config(&world, &plane, &[], Some(path)), 1).await;
    let seen = examine(&world, 1).await;
    assert_eq!(
        (active(&seen), missing(&seen)),
        (vec!["api", "web"], Some(vec![]))
    );
    let waits = ["routes routes (RDS)", "secret certificate (SDS)"].map(str::to_owned);
    // The version of the older epoch is not taken for its own, at the next merge either.
    let merged = Instant::now() + Duration::from_secs(7);
    while Instant::now() < merged {
        let seen = examine(&world, 1).await;
        assert_eq!(seen.waits_for.as_deref(), Some(&waits[..]));
        // The older one never had a certificate.
        assert_eq!(seen.lost.as_deref(), Some(&waits[..1]));
        sleep(Duration::from_millis(500)).await;
    }

    // A listener that comes later, and is not active without its certificate.
    let mut third = second.to_vec();
    third.push(routed("late", late, "others", NEVER));
    offer(&world, "second.json", &third);
    let names_it = |seen: &Examination| {
        let mut waits = seen.waits_for.iter().flatten();
        waits.any(|name| name.starts_with("listener late ("))
    };
    let seen = until(&world, 1, "the listener to be warming", names_it).await;
    assert_eq!(active(&seen), ["api", "web"]);

    plane.come_back();
    let has_routes = |seen: &Examination| {
        let mut waits = seen.waits_for.iter().flatten();
        !waits.any(|name| name == "routes routes (RDS)")
    };
    let seen = until(&world, 1, "the routes to come", has_routes).await;
    assert_eq!(seen.lost, Some(vec![]));
    ends(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_epoch_is_silent_until_it_is_continued() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let world = World::idle(&envoy, Setup::brisk()).await;
    let plane = ControlPlane::start();
    let port = Port::free();
    let web = port.number();
    serves(
        &world,
        config(&world, &plane, &[plain("web", web)], None),
        0,
    )
    .await;
    let stopped = world.process(0);
    stopped.send(Signal::STOP);
    let started = Instant::now();
    let seen = until(&world, 0, "the epoch to be silent", |seen| {
        seen.silent.is_some()
    })
    .await;
    let took = started.elapsed();
    stopped.send(Signal::CONT);
    assert!(took < Duration::from_secs(20), "{took:?}");
    let why = seen.silent.unwrap_or_default();
    assert!(why.contains("did not answer /listeners within 1s"), "{why}");
    assert_eq!(
        (seen.listeners, seen.missing, seen.requests),
        (None, None, None)
    );
    until(&world, 0, "the epoch to answer", |seen| {
        seen.silent.is_none() && active(seen) == ["web"]
    })
    .await;
    ends(world).await;
}

/// A hand-over beside an epoch that is stopped cannot look at it. It must not wait for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_seen_before_a_start_is_not_missing_afterwards() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let world = World::idle(&envoy, Setup::brisk()).await;
    let plane = ControlPlane::start();
    let ports = [Port::free(), Port::free()];
    let [web, api] = ports.each_ref().map(Port::number);
    let both = offer(&world, "both.json", &[plain("web", web), plain("api", api)]);
    let one = offer(&world, "one.json", &[plain("web", web)]);
    serves(&world, config(&world, &plane, &[], Some(both)), 0).await;
    let older = world.process(0);
    older.send(Signal::STOP);
    let started = world.hunt(1, |_newer| ());
    let second = config(&world, &plane, &[], Some(one));
    let continued = async {
        started.await.expect("it starts");
        older.send(Signal::CONT);
    };
    let both = async { tokio::join!(world.handle.apply_and_wait(second), continued) };
    let (live, ()) = within(LIMIT, "epoch 1 to be live", both).await;
    assert_eq!(live.map(Epoch::number).ok(), Some(1));
    let seen = until(&world, 1, "epoch 1 to answer", |seen| {
        seen.listeners.is_some()
    })
    .await;
    assert_eq!((active(&seen), missing(&seen)), (vec!["web"], None));
    ends(world).await;
}

/// The totals of all epochs so far.
async fn totals(world: &World, epoch: u32) -> (u64, u64) {
    let known = until(world, epoch, "the counters", |seen| seen.requests.is_some()).await;
    let requests = known.requests.unwrap_or_default();
    (requests.all, requests.failed)
}

async fn ask(port: u16, path: &'static str, times: usize) {
    let asking = tokio::task::spawn_blocking(move || {
        let addr = ([127, 0, 0, 1], port).into();
        for _ in 0..times {
            // A TCP proxy without an upstream closes the connection.
            let _answer = http::get(addr, path, Duration::from_secs(10));
        }
    });
    asking.await.expect("it does not panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_an_upstream_are_counted_as_failed_over_a_hand_over() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let world = World::idle(&envoy, Setup::brisk()).await;
    let plane = ControlPlane::start();
    let ports = [Port::free(), Port::free(), Port::free()];
    let [web, tcp, more] = ports.each_ref().map(Port::number);
    let listeners = [plain("web", web), passes_on("tcp", tcp)];
    serves(&world, config(&world, &plane, &listeners, None), 0).await;
    assert_eq!(totals(&world, 0).await, (0, 0));
    // The questions at the admin endpoint are no requests of clients.
    let admin = AdminClient::new(world.addresses().1.to_string().parse().expect("an address"));
    for _ in 0..5 {
        admin.ready().await.expect("it answers");
    }
    ask(web, "/", 10).await;
    assert_eq!(totals(&world, 0).await, (10, 0));
    ask(web, "/dead", 3).await;
    ask(tcp, "/", 2).await;
    assert_eq!(totals(&world, 0).await, (15, 5));

    // What the older epoch has not reported yet is added to the counters of the newer one.
    let other = [
        plain("web", web),
        passes_on("tcp", tcp),
        plain("more", more),
    ];
    serves(&world, config(&world, &plane, &other, None), 1).await;
    sleep(Duration::from_secs(6)).await;
    let (all, failed) = totals(&world, 1).await;
    assert!((15..=30).contains(&all), "{all}");
    assert!((5..=10).contains(&failed), "{failed}");
    ask(web, "/", 4).await;
    ask(web, "/dead", 2).await;
    assert_eq!(totals(&world, 1).await, (all + 6, failed + 2));
    ends(world).await;
}

/// A listener may have any `stat_prefix`, that of the admin endpoint as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_unknown_where_the_admin_endpoint_counts_with_them() {
    let envoy = AnyEnvoy::real(require_envoy!());
    let world = World::idle(&envoy, Setup::brisk()).await;
    let plane = ControlPlane::start();
    let port = Port::free();
    let web = port.number();
    serves(
        &world,
        config(&world, &plane, &[plain("admin", web)], None),
        0,
    )
    .await;
    ask(web, "/", 1).await;
    let seen = examine(&world, 0).await;
    assert_eq!(seen.requests, None);
    assert!(
        seen.not_seen.iter().any(|why| why.contains("stat_prefix")),
        "{seen:?}"
    );
    ends(world).await;
}
