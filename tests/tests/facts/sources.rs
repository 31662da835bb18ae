//! Fact 11: live is not serving, where a source of the configuration does not answer.

use handover_test_support::bare_envoy::{BareEnvoy, LIMIT};
use handover_test_support::control_plane::{ControlPlane, Kind, TYPES};
use handover_test_support::envoy_config::SECRET;
use handover_test_support::http;
use handover_test_support::kept_connection::KeptConnection;
use handover_test_support::limit::eventually;
use handover_test_support::ports::Port;
use serde_json::{Value, json};

use crate::subject::Subject;
use crate::world::{SilentSource, initializing, listener_stat, small_load, stays};

const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A source that is given up leaves the epoch live without what it would have sent.
pub(crate) fn a_source_that_is_given_up_leaves_a_live_epoch_without_its_listener(
    subject: &Subject,
) {
    let host = subject.host();
    let source = SilentSource::new();
    let config = host.config("v0").control_plane(source.addr());
    // The only listener is the source's to send.
    let _epoch_0 = host.live_with(0, &config.fetch_limit(1).without_listeners());
    assert!(host.is_refused());
    let given_up = host.admin().stat("listener_manager.lds.init_fetch_timeout");
    assert_eq!(given_up, Some(1));
}

/// It takes over from an epoch that serves, and the requests are refused.
pub(crate) fn an_epoch_without_its_listener_takes_over(subject: &Subject) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    let source = SilentSource::new();
    let config = host.config("v1").control_plane(source.addr());
    let _epoch_1 = host.live_with(1, &config.fetch_limit(1).without_listeners());
    eventually(LIMIT, "refused requests", || {
        host.is_refused().then_some(())
    });
    epoch_0.wait().assert_exit(0, "");
}

/// A listener of an answer may be one that Envoy cannot make. It goes live, and the others of the answer serve.
pub(crate) fn a_fetched_listener_that_cannot_be_made_is_rejected_and_the_rest_is_taken(
    subject: &Subject,
) {
    let host = subject.host();
    let plane = ControlPlane::start();
    let (good, bad) = (Port::free(), Port::free());
    let listener = |name: &str, port: &Port, chains: Value| {
        json!({
            "@type": format!("{TYPES}envoy.config.listener.v3.Listener"),
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port.number()}},
            "filter_chains": chains
        })
    };
    let manager = json!({
        "@type": format!("{TYPES}{MANAGER}"),
        "stat_prefix": "fetched",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": format!("{TYPES}envoy.extensions.filters.http.router.v3.Router")
        }}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 204}}
        ]}]}
    });
    // A filter may have any name: its type says what it is.
    let chains = json!([{"filters": [{"name": "manager", "typed_config": manager}]}]);
    let listeners = [
        listener("bad", &bad, json!([])),
        listener("good", &good, chains),
    ];
    plane.set(Kind::Listener, listeners.into());
    let config = host.config("v0").control_plane(plane.addr());
    let epoch_0 = host.live_with(0, &config);
    let rejected = host.admin().stat("listener_manager.lds.update_rejected");
    assert_eq!(rejected, Some(1));
    let answer = http::get(good.addr(), "/", LIMIT).expect("the good one serves");
    assert_eq!(answer.status, 204);
    assert!(std::net::TcpStream::connect(bad.addr()).is_err());
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    assert!(epoch_0.has_said("no filter chains specified"));
}

/// A source without a limit is waited for, and the old epoch serves. The admin endpoint is the new one's
/// already.
pub(crate) fn a_source_without_a_limit_is_waited_for(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let load = small_load(host.web());
    let source = SilentSource::new();
    let epoch_1 = initializing(&host, 1, &source);
    stays("it waits", || state(&host).as_deref() != Some("LIVE"));
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    assert!(epoch_0.is_running() && epoch_1.is_running());
    load.stop_blocking().assert_no_loss();
}

fn state(host: &BareEnvoy) -> Option<String> {
    host.admin().server_info().map(|info| info.state)
}

/// A certificate that never comes is given up as well: the listener takes connections and ends each before its
/// handshake.
pub(crate) fn a_certificate_that_is_given_up_leaves_a_listener_without_handshakes(
    subject: &Subject,
) {
    let host = subject.host();
    let source = SilentSource::new();
    let config = host.config("v0").secret_source(source.addr());
    let _epoch_0 = host.live_with(0, &config.fetch_limit(1));
    assert!(!host.is_refused());
    let mut connection = KeptConnection::open(host.web(), LIMIT).expect("it listens");
    // What is sent is no handshake either, but the listener does not come to read it.
    let answer = connection.get("/");
    assert!(answer.is_err(), "{answer:?}");
    let without = listener_stat(
        &host,
        "server_ssl_socket_factory.downstream_context_secrets_not_ready",
    );
    assert!(without.is_some_and(|count| count >= 1), "{without:?}");
    let given_up = host
        .admin()
        .stat(&format!("sds.{SECRET}.init_fetch_timeout"));
    assert_eq!(given_up, Some(1));
}

/// While it is waited for, the old epoch serves, and the admin endpoint of the new one names the certificate.
pub(crate) fn a_certificate_without_a_limit_is_waited_for_by_name(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let load = small_load(host.web());
    let source = SilentSource::new();
    let config = host.config("v1").secret_source(source.addr());
    let epoch_1 = host.start(1, &config);
    let what = "the name of the certificate";
    eventually(LIMIT, what, || {
        let answer = host.ask("/init_dump").ok()?;
        answer
            .text()
            .contains(&format!("SdsApi {SECRET}"))
            .then_some(())
    });
    stays("it waits", || state(&host).as_deref() != Some("LIVE"));
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    assert!(epoch_0.is_running() && epoch_1.is_running());
    load.stop_blocking().assert_no_loss();
}
