use super::*;

fn read(yaml: &str) -> Result<Bootstrap, ConfigError> {
    read_by(yaml, "")
}

fn read_by(yaml: &str, settings: &str) -> Result<Bootstrap, ConfigError> {
    let settings = settings.parse().unwrap();
    Bootstrap::read(serde_saphyr::from_str(yaml).unwrap(), &settings)
}

const MANAGER: &str = r#"
  name: envoy.filters.network.http_connection_manager
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
    stat_prefix: ingress
    http_filters: [{name: envoy.filters.http.router}]
    route_config:
      response_headers_to_add: [{header: {key: X-Config, value: a}}]
      virtual_hosts:
      - domains: ["*"]
        routes:
        - match: {path: /exact}
          direct_response: {status: 201, body: {inline_string: exact}}
        - match: {prefix: /up}
          route: {cluster: backend, timeout: 0s}
      - domains: [a.example]
        routes: [{match: {prefix: /}, direct_response: {status: 204}}]
"#;

fn with_listener(listener: &str) -> Listener {
    let manager = serde_saphyr::from_str::<Value>(MANAGER).unwrap();
    let read = read(&format!(
        "static_resources: {{listeners: [{{{listener}, filter_chains: [{{filters: [{manager}]}}]}}]}}"
    ));
    read.unwrap().static_listeners().unwrap().remove(0)
}

#[test]
fn a_listener_has_the_name_in_the_statistics_that_envoy_gives_it() {
    for (listener, stat_name, url) in [
        (
            "name: a, address: {socket_address: {address: 127.0.0.1, port_value: 80}}",
            "127.0.0.1_80",
            "tcp://127.0.0.1:80",
        ),
        (
            "address: {socket_address: {address: '::1', port_value: 80}}",
            "[__1]_80",
            "tcp://[::1]:80",
        ),
        (
            "stat_prefix: 'a:b', address: {pipe: {path: /a}}",
            "a_b",
            "unix:///a",
        ),
    ] {
        let listener = with_listener(listener);
        assert_eq!(listener.stat_name, stat_name);
        assert_eq!(listener.address.url(), url);
    }
}

#[test]
fn requests_are_routed_by_host_and_path() {
    let listener = with_listener("address: {pipe: {path: /a}}");
    let manager = listener.http.as_ref().unwrap();
    let routes = manager.routes.as_ref().unwrap();
    let status = |host, path| match routes.route(host, path)?.action {
        RouteAction::Direct { status, .. } => Some(*status),
        RouteAction::Forward { .. } => Some(0),
    };
    assert_eq!(status("b", "/exact?x=1"), Some(201));
    assert_eq!(status("b", "/exactly"), None);
    assert_eq!(status("b", "/up/x"), Some(0));
    assert_eq!(status("A.example:80", "/exact"), Some(204));
    let headers = routes.route("b", "/exact").unwrap().headers;
    assert_eq!(headers, [("x-config", "a")]);
}

/// A route has the last word on what the fault filter does, and none without that filter.
#[test]
fn a_route_holds_requests_in_its_own_way() {
    let fault = |delay: &str| {
        let kind = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
        format!("{{\"@type\": {kind}, delay: {{fixed_delay: {delay}}}}}")
    };
    let manager = |filters: &str| {
        let slow = format!(
            "typed_per_filter_config: {{envoy.filters.http.fault: {}}}",
            fault("2s")
        );
        let routes = format!(
            "[{{match: {{path: /slow}}, direct_response: {{status: 200}}, {slow}}}, \
             {{match: {{prefix: /}}, direct_response: {{status: 200}}}}]"
        );
        let text = format!(
            "{{http_filters: [{filters}], route_config: {{virtual_hosts: [{{domains: [\"*\"], routes: {routes}}}]}}}}"
        );
        HttpManager::read(&serde_saphyr::from_str(&text).unwrap()).unwrap()
    };
    let held = |manager: &HttpManager, path| {
        let routes = manager.routes.as_ref().unwrap();
        let delays = manager.delays(routes.route("a", path).unwrap().delays);
        delays.map(|delays| delays.fixed.as_secs())
    };
    let filter = format!("{{name: fault, typed_config: {}}}", fault("1s"));
    let with = manager(&filter);
    assert_eq!((held(&with, "/"), held(&with, "/slow")), (Some(1), Some(2)));
    let without = manager("");
    assert_eq!((held(&without, "/"), held(&without, "/slow")), (None, None));
}

#[test]
fn commands_in_a_header_are_replaced_or_refused() {
    let header = |value: &str| {
        let text = format!(
            "{{response_headers_to_add: [{{header: {{key: X-A, value: '{value}'}}}}], \
            virtual_hosts: [{{domains: [\"*\"], routes: [{{match: {{prefix: /}}, direct_response: {{status: 200}}}}]}}]}}"
        );
        let routes = RouteConfig::read(&serde_saphyr::from_str(&text).unwrap())?;
        let routed = routes.route("a", "/").unwrap();
        Ok::<_, ConfigError>(routed.headers[0].1.to_owned())
    };
    assert_eq!(header("plain").unwrap(), "plain");
    assert_eq!(header("100%%").unwrap(), "100%");
    assert_eq!(header("a%ENVIRONMENT(NO_SUCH_VARIABLE)%b").unwrap(), "a-b");
    let path = std::env::var("PATH").unwrap();
    assert_eq!(header("%ENVIRONMENT(PATH)%").unwrap(), path);
    let refused = header("%PROTOCOL%").unwrap_err().0;
    assert!(
        refused.contains("does not serve %PROTOCOL% in a header"),
        "{refused}"
    );
    assert!(header("50%").is_err());
}

#[test]
fn unknown_fields_are_refused_in_envoys_words_and_unserved_ones_in_ours() {
    let refusal = |yaml| read(yaml).unwrap_err().0;
    assert_eq!(
        refusal("{nonsense: 1}"),
        "Protobuf message (type envoy.config.bootstrap.v3.Bootstrap reason INVALID_ARGUMENT: invalid JSON in \
         envoy.config.bootstrap.v3.Bootstrap, near 1:1 (offset 0): no such field: 'nonsense') has unknown fields"
    );
    assert!(refusal("{static_resources: {listeners: [{transport: 1}]}}").contains(
        "@ static_resources.listeners[0]: message envoy.config.listener.v3.Listener, near 1:1 (offset 0): no \
         such field: 'transport'"
    ));
    assert_eq!(
        refusal("{dynamic_resources: {cds_config: {}}}"),
        "handover-fake-envoy does not serve dynamic_resources.cds_config: leave it out, or test with a real Envoy"
    );
}

/// The child that is refused late has cost its parent the admin endpoint.
#[test]
fn listeners_and_clusters_are_refused_after_all_that_can_be_parsed() {
    let late = |resources: &str| {
        let read = read(&format!("static_resources: {resources}")).unwrap();
        read.static_listeners().unwrap_err().0
    };
    let tls = "name: envoy.transport_sockets.tls, typed_config: {common_tls_context: {tls_certificates: [\
               {certificate_chain: {filename: /none.crt}, private_key: {filename: /none.key}}]}}";
    assert_eq!(
        late(&format!(
            "{{listeners: [{{address: {{pipe: {{path: /a}}}}, filter_chains: [{{transport_socket: {{{tls}}}}}]}}]}}"
        )),
        "Failed to load incomplete private key from path: /none.key"
    );
    let at = |host, port: &str| {
        format!("address: {{socket_address: {{address: {host}, port_value: {port}}}}}")
    };
    assert_eq!(
        late(&format!("{{listeners: [{{{}}}]}}", at("127.0.0.1", "1"))),
        "error adding listener '127.0.0.1:1': no filter chains specified"
    );
    let cluster = |address| {
        format!(
            "{{clusters: [{{name: a, load_assignment: {{endpoints: [{{lb_endpoints: [{{endpoint: {{{address}}}}}]}}]}}}}]}}"
        )
    };
    assert_eq!(
        late(&cluster(at("nowhere", "1"))),
        "malformed IP address: nowhere"
    );
    for (port, words) in [
        ("x", "invalid number: \"x\""),
        ("65536", "or equal to 65535"),
    ] {
        let listener = format!("{{listeners: [{{{}}}]}}", at("127.0.0.1", port));
        for resources in [listener, cluster(at("127.0.0.1", port))] {
            let early = read(&format!("static_resources: {resources}")).unwrap_err();
            assert!(early.0.contains(words), "{early}");
        }
    }
}

#[test]
fn statistics_and_paths_are_matched() {
    let read = read(
        "{admin: {address: {pipe: {path: /a}}, allow_paths: [{exact: /ready}, {safe_regex: {regex: '/s.*'}}]}, \
         stats_config: {stats_matcher: {exclusion_list: {patterns: [{prefix: listener.}]}}}}",
    )
    .unwrap();
    let allow = read.admin.unwrap().allow;
    let is_allowed = |path| allow.iter().any(|it| it.matches(path));
    assert!(is_allowed("/ready") && is_allowed("/stats?x") && !is_allowed("/x/s"));
    assert!(read.matcher.keeps("server.live") && !read.matcher.keeps("listener.a.b"));
}

/// The field came with 1.37.
#[test]
fn an_older_version_does_not_know_which_paths_are_allowed() {
    let yaml = "admin: {allow_paths: [{exact: /ready}]}";
    for (version, is_known) in [("1.36.4", false), ("1.37.0", true), ("1.40.0", true)] {
        let read = read_by(yaml, &format!("--fake-version {version}"));
        assert_eq!(read.is_ok(), is_known, "{version}");
    }
    let error = read_by(yaml, "--fake-version 1.36.4").unwrap_err().0;
    assert!(error.contains("no such field: 'allow_paths'"), "{error}");
}
