use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<Bootstrap, BootstrapError> {
    Bootstrap::parse(text.as_bytes(), Format::Yaml)
}

fn admin_port(port: &str) -> Result<Bootstrap, BootstrapError> {
    read(&format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}"
    ))
}

fn admin_of(text: &str) -> String {
    read(text).unwrap().admin.to_string()
}

#[test]
fn listeners_tell_name_addresses_and_reuse_port() {
    let bootstrap = read(
        r#"
admin: {address: {socket_address: {address: "::", port_value: 9901}}}
node: {id: x}
static_resources:
  clusters: [{name: c, type: STATIC}]
  listeners:
  - name: web
    enable_reuse_port: false
    address: {socket_address: {address: 0.0.0.0, port_value: 80}}
    additional_addresses:
    - address: {socket_address: {address: "::1", port_value: 81, network_namespace_filepath: /run/netns/a}}
    filter_chains: [{filters: [{name: x, typed_config: {"@type": y, port_value: [nonsense]}}]}]
  - address: {socket_address: {address: 0.0.0.0, port_value: 443, protocol: UDP}}
    udp_listener_config: {quic_options: {}}
  - address: {pipe: {path: /run/web.sock}}
  - address: {envoy_internal_address: {server_listener_name: x}}
  - {}
"#,
    )
    .unwrap();
    insta::assert_debug_snapshot!("listeners", bootstrap);
}

#[test]
fn the_direction_of_a_listener_is_read_as_envoy_writes_it() {
    for (text, inbound) in [
        ("traffic_direction: INBOUND", true),
        ("trafficDirection: \"INBOUND\"", true),
        ("traffic_direction: 1", true),
        ("traffic_direction: OUTBOUND", false),
        ("traffic_direction: 2", false),
        ("traffic_direction: UNSPECIFIED", false),
        ("name: x", false),
    ] {
        let bootstrap = read(&format!(
            "admin: {{address: {{pipe: {{path: /a}}}}}}\nstatic_resources: {{listeners: [{{{text}}}]}}"
        ));
        assert_eq!(bootstrap.unwrap().listeners[0].inbound, inbound, "{text}");
    }
    let json = br#"{"admin": {"address": {"pipe": {"path": "/a"}}}, "static_resources": {"listeners": [
        {"traffic_direction": "INBOUND"}, {"trafficDirection": 1}, {"traffic_direction": "OUTBOUND"}]}}"#;
    let listeners = Bootstrap::parse(json, Format::Json).unwrap().listeners;
    let inbound: Vec<_> = listeners.iter().map(|listener| listener.inbound).collect();
    assert_eq!(inbound, [true, true, false]);
}

#[test]
fn clusters_are_known_by_their_names_in_the_statistics() {
    let names = |bootstrap: Bootstrap| {
        let clusters = bootstrap.clusters.iter();
        clusters.map(Cluster::stat_name).collect::<Vec<_>>()
    };
    let yaml = "
admin: {address: {pipe: {path: /a}}}
static_resources:
  clusters:
  - {name: 'a:1', load_assignment: {cluster_name: no}}
  - null
  - {name: b, alt_stat_name: 'other:b'}
  - name: &c c
  - {altStatName: *c}
";
    let all = ["a_1", "other_b", "c", "c"];
    assert_eq!(names(read(yaml).unwrap()), all);
    let json =
        br#"{"admin": {"address": {"pipe": {"path": "/a"}}}, "staticResources": {"clusters": [
        {"name": "a:1", "loadAssignment": {"clusterName": "no"}}, null,
        {"name": "b", "altStatName": "other:b"}, {"name": "c"}, {"alt_stat_name": "c"}]}}"#;
    assert_eq!(names(Bootstrap::parse(json, Format::Json).unwrap()), all);
    let none = "{admin: {address: {pipe: {path: /a}}}, static_resources: {clusters: null}}";
    assert_eq!(names(read(none).unwrap()), [""; 0]);
}

#[test]
fn clusters_that_are_fetched_as_a_whole_are_told_from_those_on_demand() {
    for (text, fetches) in [
        ("cds_config: {ads: {}}", true),
        ("{dynamic_resources: {\"cdsConfig\": {ads: {}}}}", true),
        (
            "dynamic_resources:\n  cds_resources_locator: xdstp://a/b",
            true,
        ),
        ("odcds_config: {ads: {}}", false),
        ("lds_config: {ads: {}}", false),
        ("", false),
    ] {
        assert_eq!(fetches_clusters(text.as_bytes()), fetches, "{text}");
    }
}

#[test]
fn namespaces_of_listeners_are_read_from_json_as_well() {
    let json =
        br#"{"admin": {"address": {"pipe": {"path": "/a"}}}, "staticResources": {"listeners": [
        {"address": {"socketAddress": {"networkNamespaceFilepath": "/run/netns/a"}}},
        {"address": {"socket_address": {"network_namespace_filepath": ""}}}
    ]}}"#;
    let listeners = Bootstrap::parse(json, Format::Json).unwrap().listeners;
    assert_eq!(listeners[0].network_namespaces, [Path::new("/run/netns/a")]);
    assert!(listeners[1].network_namespaces.is_empty());
}

#[test]
fn an_unspecified_admin_address_is_reached_at_the_loopback_of_its_family() {
    let admin = |address| {
        admin_of(&format!(
            "admin: {{address: {{socket_address: {{address: \"{address}\", port_value: 9}}}}}}"
        ))
    };
    assert_eq!(admin("0.0.0.0"), "127.0.0.1:9");
    assert_eq!(admin("::"), "[::1]:9");
    assert_eq!(admin("192.0.2.7"), "192.0.2.7:9");
}

#[test]
fn an_admin_pipe_is_a_unix_socket() {
    assert_eq!(
        admin_of("admin: {address: {pipe: {path: /run/a.sock, mode: 384}}}"),
        "unix:/run/a.sock"
    );
}

#[test]
fn ports_are_read_as_envoy_reads_them() {
    for port in [
        "9901", "\"9901\"", "0x26ad", "'0x26ad'", "9.901e3", "+9901", "9901.0",
    ] {
        assert_eq!(
            admin_port(port).unwrap().admin.to_string(),
            "127.0.0.1:9901",
            "{port}"
        );
    }
    for port in [
        "65536", "-1", "99_01", "9901.5", "[]", "true", ".nan", "1e400",
    ] {
        assert!(
            matches!(admin_port(port), Err(BootstrapError::Yaml(_))),
            "{port}"
        );
    }
}

#[test]
fn switches_are_read_as_envoy_reads_them() {
    for (text, expected) in [
        ("false", Some(false)),
        ("\"no\"", Some(false)),
        ("off", Some(false)),
        ("True", Some(true)),
        ("null", None),
    ] {
        let bootstrap = read(&format!(
            "admin: {{address: {{pipe: {{path: /a}}}}}}\nstatic_resources: {{listeners: [{{enableReusePort: {text}}}]}}"
        ))
        .unwrap();
        assert_eq!(bootstrap.listeners[0].enable_reuse_port, expected, "{text}");
    }
}

#[test]
fn anchors_work_and_merge_keys_are_ordinary_as_in_envoy() {
    let bootstrap = read(
        "
admin: {address: &a {socket_address: &s {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - {name: alias, address: *a}
  - {name: merged, address: {socket_address: {<<: *s, port_value: 80}}}
",
    )
    .unwrap();
    assert_eq!(bootstrap.listeners[0].port(), Some(9901));
    assert_eq!(
        bootstrap.listeners[1].addresses,
        [ListenAddress::Socket {
            address: String::new(),
            port: 80,
            udp: false
        }]
    );
}

#[test]
fn the_last_of_equal_keys_and_the_first_of_documents_count() {
    let block = |port| {
        format!(
            "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n"
        )
    };
    assert_eq!(admin_of(&(block(1) + &block(2))), "127.0.0.1:2");
    assert_eq!(admin_of(&(block(1) + "---\n" + &block(2))), "127.0.0.1:1");
    assert_eq!(admin_of(&(block(1) + "---\n: ][ not yaml")), "127.0.0.1:1");
}

#[test]
fn the_extension_decides_the_format() {
    for (name, format) in [
        ("a.yaml", Format::Yaml),
        ("a.YML", Format::Yaml),
        ("a.json", Format::Json),
        ("a", Format::Json),
        ("a.conf", Format::Json),
        ("a.pb", Format::Protobuf),
        ("a.pb_text", Format::Protobuf),
    ] {
        assert_eq!(Format::of(Path::new(name)), format, "{name}");
    }
}

#[test]
fn json_is_read_with_either_spelling_of_names() {
    let document = br#"{"admin": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": "9901"}}}}"#;
    let bootstrap = Bootstrap::parse(document, Format::Json).unwrap();
    assert_eq!(bootstrap.admin.to_string(), "127.0.0.1:9901");
}

#[test]
fn every_error_tells_what_to_change() {
    let parse = |text: &str, format| {
        let error = Bootstrap::parse(text.as_bytes(), format).unwrap_err();
        format!("{error}\n")
    };
    let sentences = [
        parse("", Format::Yaml),
        parse("# nothing\n", Format::Yaml),
        parse(" \n", Format::Json),
        parse("static_resources: {}", Format::Yaml),
        parse("admin: {}", Format::Yaml),
        parse(
            "admin: {address: {envoy_internal_address: {}}}",
            Format::Yaml,
        ),
        parse(
            "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}",
            Format::Yaml,
        ),
        parse(
            "admin: {address: {socket_address: {address: localhost, port_value: 1}}}",
            Format::Yaml,
        ),
        parse("admin { }", Format::Protobuf),
        parse("admin: [", Format::Yaml),
        parse("node: [", Format::Yaml),
        parse("hello", Format::Yaml),
        parse("admin: {}", Format::Json),
        parse("{\"admin\": \"a, expected secret\"}", Format::Json),
        parse(
            "{\"admin\": {\"address\": {\"socket_address\": {\"port_value\": \"secret\"}}}}",
            Format::Json,
        ),
        parse(
            "admin: {address: {socket_address: {port_value: secret}}}",
            Format::Yaml,
        ),
    ];
    insta::assert_snapshot!("errors", sentences.concat());
}

#[test]
fn a_missing_file_is_named() {
    let error = Bootstrap::read(Path::new("/nonexistent/envoy.yaml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the configuration file /nonexistent/envoy.yaml"
    );
}

/// Aliases of aliases, nine for each level.
fn bomb(levels: usize) -> String {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..levels {
        let below = vec![format!("*a{}", level - 1); 9].join(",");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    bomb + "admin: {address: {pipe: {path: /a}}}\n"
}

#[test]
fn a_document_that_unfolds_into_an_enormous_one_is_refused() {
    let error = read(&bomb(30)).unwrap_err().to_string();
    assert!(error.contains("more than 10000000 nodes"), "{error}");
    assert!(read(&bomb(6)).is_ok());
    assert!(read(&"[".repeat(100_000)).is_err());
    assert!(read(&"a: ".repeat(100_000)).is_err());
    assert!(Bootstrap::parse("[".repeat(100_000).as_bytes(), Format::Json).is_err());
}

#[test]
fn each_limit_is_named_where_it_is_passed() {
    let wrong = |text: &str| read(text).unwrap_err().to_string();
    let admin = "\nadmin: {address: {pipe: {path: /a}}}\n";
    let nested = |levels: usize| format!("x: {}{}{admin}", "[".repeat(levels), "]".repeat(levels));
    assert!(read(&nested(MAX_DEPTH - 1)).is_ok());
    let error = wrong(&nested(MAX_DEPTH));
    assert!(error.contains("more than 200 levels"), "{error}");

    // Not deep as it is written, but as it is meant.
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for level in 1..MAX_DEPTH {
        chain += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    let error = wrong(&(chain + admin));
    assert!(error.contains("more than 200 levels"), "{error}");

    let anchors: String = (0..=MAX_ANCHORS).map(|n| format!("- &a{n}\n")).collect();
    let error = wrong(&format!("x:\n{anchors}"));
    assert!(error.contains("more than 100000 anchors"), "{error}");

    let never = AtomicBool::new(false);
    let anchored = format!("x: &x [1, 2]{admin}");
    assert!(yaml::read(&anchored, &never, 4).is_ok());
    let error = yaml::read(&anchored, &never, 3).unwrap_err().to_string();
    assert!(
        error.contains("more than 3 nodes with an anchor"),
        "{error}"
    );
}

#[test]
fn an_alias_within_its_own_anchor_is_refused() {
    for text in [
        "admin: &a {address: *a}",
        "x: &a [*a]\nadmin: {address: {pipe: {path: /a}}}",
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(
            error.contains("a node that it is in at line 1, column "),
            "{error}"
        );
    }
}

#[test]
fn aliases_are_followed_where_something_is_needed_and_only_there() {
    let bootstrap = read(
        "
x-port: &port 9901
x-key: &key address
x-pipe: &pipe {pipe: {path: &path /run/a}}
x-address: &address {socket_address: {address: 127.0.0.1, port_value: *port}}
x-more: &more [{address: *pipe}, null, {address: *address}]
x-listener: &listener
  filter_chains: [{deep: [{er: [*more]}]}]
  name: one
  additional_addresses: *more
  address: *address
admin:
  *key : *pipe
static_resources:
  listeners:
  - *listener
  - {name: *path, address: *pipe}
",
    )
    .unwrap();
    assert_eq!(bootstrap.admin.to_string(), "unix:/run/a");
    let [one, two] = &*bootstrap.listeners else {
        panic!("{bootstrap:?}")
    };
    assert_eq!(
        (&*one.name, one.port(), one.addresses.len()),
        ("one", Some(9901), 3)
    );
    assert_eq!(one.addresses[1], ListenAddress::Pipe("/run/a".into()));
    assert_eq!(two.name, "/run/a");
}

#[test]
fn reading_stops_when_it_is_cancelled() {
    let text = format!("x: [{}]", "1,".repeat(10_000));
    let cancelled = AtomicBool::new(true);
    assert!(matches!(
        Bootstrap::parse_unless(text.as_bytes(), Format::Yaml, &cancelled),
        Err(BootstrapError::Cancelled)
    ));
}

#[test]
fn an_internal_listener_is_told_by_its_kind() {
    let internal = |listener: &str| {
        let text = format!(
            "admin: {{address: {{pipe: {{path: /a}}}}}}\nstatic_resources: {{listeners: [{listener}]}}"
        );
        read(&text).unwrap().listeners[0].internal
    };
    assert!(internal("{name: x, internal_listener: {}}"));
    assert!(internal(
        "{internalListener: {buffer_size_kb: 4}, name: internal}"
    ));
    assert!(!internal("{name: internal, internal_listener: null}"));
    let json = br#"{"admin": {"address": {"pipe": {"path": "/a"}}}, "static_resources": {"listeners": [{"internal_listener": {}}]}}"#;
    assert!(Bootstrap::parse(json, Format::Json).unwrap().listeners[0].internal);
}

#[test]
fn allow_paths_are_judged_as_envoy_judges_them() {
    let paths = |list: &str| {
        let text = format!("admin: {{allow_paths: {list}, address: {{pipe: {{path: /a}}}}}}");
        read(&text).unwrap().admin_paths
    };
    for (list, path, allowed) in [
        ("null", "/server_info", Some(true)),
        ("[]", "/server_info", Some(true)),
        ("[{exact: /ready}]", "/ready", Some(true)),
        ("[{exact: /ready}]", "/server_info", Some(false)),
        ("[{exact: /ready}]", "/ready?x", Some(false)),
        ("[{prefix: /s}]", "/server_info", Some(true)),
        ("[{prefix: /S}]", "/server_info", Some(false)),
        (
            "[{prefix: /S, ignore_case: true}]",
            "/server_info",
            Some(true),
        ),
        (
            "[{suffix: _INFO, ignoreCase: true}]",
            "/server_info",
            Some(true),
        ),
        ("[{contains: er_}]", "/server_info", Some(true)),
        ("[{safe_regex: {regex: /s.*}}]", "/server_info", Some(true)),
        ("[{safeRegex: {regex: /s|o}}]", "/server_info", Some(false)),
        ("[{safe_regex: {regex: '/(?<!x'}}]", "/server_info", None),
        ("[{safe_regex: {}}]", "/server_info", None),
        ("[{custom: {}}, {exact: /a}]", "/server_info", None),
        ("[null]", "/server_info", None),
        (
            "[{safe_regex: {regex: x}}, {exact: /server_info}]",
            "/server_info",
            Some(true),
        ),
    ] {
        assert_eq!(paths(list).allows(path), allowed, "{list} {path}");
    }
    let json =
        br#"{"admin": {"allowPaths": [{"exact": "/a"}], "address": {"pipe": {"path": "/a"}}}}"#;
    let bootstrap = Bootstrap::parse(json, Format::Json).unwrap();
    assert_eq!(bootstrap.admin_paths.allows("/b"), Some(false));
}

#[test]
fn a_large_configuration_with_many_aliases_is_read() {
    let mut text = "admin: {address: &a {socket_address: {address: 127.0.0.1, port_value: 9901}}}\nstatic_resources:\n  listeners:\n".to_owned();
    for number in 0..5_000 {
        text += &format!("  - {{name: listener-{number}, address: *a}}\n");
    }
    assert_eq!(read(&text).unwrap().listeners.len(), 5_000);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for format in [Format::Yaml, Format::Json, Format::Protobuf] {
            let _ = Bootstrap::parse(&bytes, format).is_ok();
        }
    }

    #[test]
    fn no_text_of_the_languages_own_characters_makes_it_panic(
        text in "(admin|address|socket_address|port_value|pipe|path|static_resources|listeners|[-:{}\\[\\]&*!<>|'\"#,? \n\t0-9ax.%@`~]){0,60}"
    ) {
        for format in [Format::Yaml, Format::Json] {
            let _ = Bootstrap::parse(text.as_bytes(), format).is_ok();
        }
    }
}

#[test]
fn a_configuration_of_the_largest_size_is_read_and_a_larger_one_is_not() {
    assert_eq!(MAX_BYTES, 64 * 1024 * 1024);
    let mut text = vec![b' '; MAX_BYTES];
    assert!(matches!(
        Bootstrap::parse(&text, Format::Yaml),
        Err(BootstrapError::Empty)
    ));
    text.push(b' ');
    assert!(matches!(
        Bootstrap::parse(&text, Format::Yaml),
        Err(BootstrapError::TooLarge)
    ));
}

/// A configuration may reach each limit.
#[test]
fn what_is_at_a_limit_is_read() {
    let never = AtomicBool::new(false);
    let problem = |text: &str| {
        let mut events = events::Events::new(text, &never);
        loop {
            match events.next() {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(problem) => return Some(BootstrapError::from(problem).to_string()),
            }
        }
    };
    let anchors = |count: usize| format!("[{}]", "&a 1, ".repeat(count));
    assert_eq!(problem(&anchors(MAX_ANCHORS)), None);
    let error = problem(&anchors(MAX_ANCHORS + 1)).unwrap();
    assert!(error.contains("more than 100000 anchors"), "{error}");

    // The mapping, two keys and the second list are four nodes.
    let nodes = |more: usize| {
        let aliases = "*x, ".repeat(MAX_NODES / 1_000 - 2);
        let (thousand, more) = ("1, ".repeat(999), "1, ".repeat(more));
        format!("x: &x [{thousand}]\ny: [{aliases}{more}]\n")
    };
    assert_eq!(problem(&nodes(996)), None);
    let error = problem(&nodes(997)).unwrap();
    assert!(error.contains("more than 10000000 nodes"), "{error}");
}

/// An alias is as deep as the deepest collection in what it stands for.
#[test]
fn an_alias_counts_with_all_levels_of_what_it_stands_for() {
    let admin = "admin: {address: {pipe: {path: /a}}}\n";
    let nested =
        |levels: usize, inner: &str| format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels));
    let text = |levels: usize| {
        let anchored = nested(120, "1");
        let around = nested(levels, "*x");
        format!("{admin}x: &x [{anchored}, [], 1]\ny: {around}\n")
    };
    // The mapping at the top is one level, and the list with the anchor another one.
    assert!(read(&text(MAX_DEPTH - 122)).is_ok());
    let error = read(&text(MAX_DEPTH - 121)).unwrap_err().to_string();
    assert!(error.contains("more than 200 levels"), "{error}");
}

#[test]
fn what_is_fetched_is_known_by_the_names_of_the_fields() {
    let text = |name: &str| format!("x: 1\ndynamic_resources: {{{name}: {{ads: {{}}}}}}\n");
    let listeners = [
        "lds_config",
        "ldsConfig",
        "lds_resources_locator",
        "ldsResourcesLocator",
    ];
    let planes = [
        "api_config_source",
        "apiConfigSource",
        "ads_config",
        "adsConfig",
    ];
    for name in listeners.into_iter().chain(planes).chain(["rds"]) {
        let text = text(name);
        let found = (
            fetches_listeners(text.as_bytes()),
            asks_control_plane(text.as_bytes()),
        );
        let expected = (listeners.contains(&name), planes.contains(&name));
        assert_eq!(found, expected, "{name}");
    }
    assert!(fetches_listeners(b"lds_config") && !fetches_listeners(b"lds_confi"));
}

#[test]
fn the_entries_of_allow_paths_are_shown_in_their_order() {
    let text = "admin: {allow_paths: [{exact: /a}, {prefix: /B, ignore_case: true}], address: {pipe: {path: /x}}}";
    let exact = PathMatcher {
        pattern: PathPattern::Exact("/a".into()),
        ignore_case: false,
    };
    let prefix = PathMatcher {
        pattern: PathPattern::Prefix("/B".into()),
        ignore_case: true,
    };
    let paths = read(text).unwrap().admin_paths;
    assert_eq!(paths.matchers(), [exact, prefix]);
}
