use super::*;
use crate::faults::Faults;

fn shown(port: u16, is_additional: bool) -> ShownListener {
    ShownListener {
        name: "l1".to_owned(),
        address: Address::Tcp(([127, 0, 0, 1], port).into()),
        is_additional,
    }
}

fn view(faults: &str) -> View {
    let faults = faults.split_whitespace().map(|text| text.parse().unwrap());
    let gauge = |value| statistics::Value::Gauge(value);
    View {
        habits: Faults::new(faults.collect(), 0, None).habits(),
        state: ServerState::Initializing,
        version: "x/1.40.0/Clean/RELEASE/BoringSSL".to_owned(),
        hot_restart_version: "11.104".to_owned(),
        restart_epoch: 2,
        options: serde_json::json!({"restart_epoch": 2, "concurrency": 1}),
        uptime: 3,
        uptime_all_epochs: 9,
        listeners: vec![shown(80, false)],
        clusters: vec!["backend".to_owned()],
        allow: Vec::new(),
        statistics: vec![
            (
                "http.ingress.downstream_rq_2xx".to_owned(),
                statistics::Value::Counter(4),
            ),
            (
                "http.ingress.downstream_rq_5xx".to_owned(),
                statistics::Value::Counter(0),
            ),
            (
                "listener.127.0.0.1_80.downstream_cx_active".to_owned(),
                gauge(1),
            ),
            (
                "listener.127.0.0.1_80.worker_0.downstream_cx_active".to_owned(),
                gauge(1),
            ),
            ("listener.admin.downstream_cx_active".to_owned(), gauge(1)),
            ("server.live".to_owned(), gauge(0)),
        ],
        targets: Vec::new(),
        document: serde_json::json!({}),
        memory: 4096,
    }
}

fn body(target: &str, faults: &str) -> String {
    let (page, effect) = answer("GET", target, &view(faults));
    assert_eq!(effect, Effect::Nothing);
    format!("{} {}", page.status, page.body)
}

/// As Envoy 1.40 answers.
#[test]
fn pages_read_as_those_of_envoy() {
    assert_eq!(body("/ready", ""), "503 INITIALIZING\n");
    assert_eq!(body("/listeners", ""), "200 l1::127.0.0.1:80\n");
    let json = "200 {\n \"listener_statuses\": [\n  {\n   \"local_address\": {\n    \"socket_address\": {\n     \
                \"address\": \"127.0.0.1\",\n     \"port_value\": 80\n    }\n   },\n   \"name\": \"l1\"\n  }\n ]\n}\n";
    assert_eq!(body("/listeners?format=json", ""), json);
    assert_eq!(body("/init_dump", ""), "200 {}\n");
    assert_eq!(body("/hot_restart_version", ""), "200 11.104");
    assert!(body("/nope", "").starts_with("404 invalid path. admin commands are:\n"));
    assert_eq!(
        body("/config_dump?resource=nope", ""),
        "404 nope not found in config dump"
    );
    assert_eq!(
        body("/quitquitquit", ""),
        "405 Method GET not allowed, POST required."
    );
    let info: Value =
        serde_json::from_str(&answer("GET", "/server_info", &view("")).0.body).unwrap();
    assert_eq!(info["state"], "INITIALIZING");
    assert_eq!(info["command_line_options"]["restart_epoch"], 2);
}

#[test]
fn statistics_are_chosen_by_filter_kind_and_use() {
    let lines = |query: &str| body(&format!("/stats?{query}"), "").lines().count();
    assert_eq!(lines(""), 6);
    assert_eq!(lines("usedonly"), 5);
    assert_eq!(lines("type=Gauges"), 4);
    assert_eq!(lines("filter=%5Elistener%5C..*worker"), 1);
    assert!(body("/stats?filter=(", "").starts_with("400 Invalid re2 regex: "));
    let json = body("/stats?format=json&filter=live", "");
    assert_eq!(
        json,
        "200 {\"stats\":[{\"name\":\"server.live\",\"value\":0}]}"
    );
    let prometheus = body("/stats/prometheus", "");
    for line in [
        "# TYPE envoy_http_downstream_rq_xx counter",
        "envoy_http_downstream_rq_xx{envoy_response_code_class=\"2\",envoy_http_conn_manager_prefix=\"ingress\"} 4",
        "envoy_listener_downstream_cx_active{envoy_listener_address=\"127.0.0.1_80\"} 1",
        "envoy_listener_worker_downstream_cx_active{envoy_worker_id=\"0\",envoy_listener_address=\"127.0.0.1_80\"} 1",
        "envoy_server_live{} 0",
    ] {
        assert!(prometheus.contains(line), "{line} in {prometheus}");
    }
}

#[test]
fn faults_lie_forbid_and_distort() {
    assert_eq!(body("/ready", "lie-live"), "200 LIVE\n");
    assert!(body("/server_info", "lie-epoch=9").contains("\"restart_epoch\": 9"));
    let forbidden = body("/server_info", "admin-forbidden");
    assert_eq!(forbidden, "403 request to path /server_info not allowed");
    let gauges = |fault| body("/stats?filter=cx_active", fault);
    assert_eq!(
        gauges("gauges-missing"),
        "200 listener.admin.downstream_cx_active: 1\n"
    );
    assert!(
        gauges("gauges-foreign")
            .contains("listener.foreign.127.0.0.1_80.downstream_cx_active: 1\n")
    );
    assert!(gauges("gauges-stuck=7").contains("listener.127.0.0.1_80.downstream_cx_active: 7\n"));
}

#[test]
fn calls_have_effects_and_narrowed_paths_none() {
    let effect = |target| answer("POST", target, &view("")).1;
    let drain = |graceful, skip_exit, inbound_only| Effect::Drain {
        graceful,
        skip_exit,
        inbound_only,
    };
    assert_eq!(effect("/drain_listeners"), drain(false, false, false));
    assert_eq!(
        effect("/drain_listeners?graceful&skip_exit"),
        drain(true, true, false)
    );
    assert_eq!(
        effect("/drain_listeners?skip_exit"),
        drain(false, false, false)
    );
    assert_eq!(
        effect("/drain_listeners?inboundonly"),
        drain(false, false, true)
    );
    assert_eq!(effect("/quitquitquit"), Effect::Quit);
    let mut narrow = view("");
    narrow.allow = vec![Pattern::Prefix("/ready".to_owned())];
    let (page, effect) = answer("POST", "/quitquitquit", &narrow);
    assert_eq!((page.status, effect), (403, Effect::Nothing));
}

#[test]
fn a_further_address_belongs_to_its_listener() {
    let mut view = view("");
    view.listeners = vec![shown(80, false), shown(81, true), shown(82, false)];
    let body = answer("GET", "/listeners?format=json", &view).0.body;
    let page: Value = serde_json::from_str(&body).unwrap();
    let statuses = page["listener_statuses"].as_array().unwrap();
    assert_eq!(statuses.len(), 2);
    let further = &statuses[0]["additional_local_addresses"][0]["socket_address"]["port_value"];
    assert_eq!(further, 81);
    let text = answer("GET", "/listeners", &view).0.body;
    assert_eq!(
        text,
        "l1::127.0.0.1:80\nl1::127.0.0.1:81\nl1::127.0.0.1:82\n"
    );
}
