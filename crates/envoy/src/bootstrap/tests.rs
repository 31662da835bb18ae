use super::*;
use proptest::prelude::*;

fn yaml(text: &str) -> Result<Bootstrap, BootstrapError> {
    Bootstrap::parse(text.as_bytes(), Format::Yaml)
}

fn admin_port(port: &str) -> Result<Bootstrap, BootstrapError> {
    yaml(&format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}"
    ))
}

fn admin_of(text: &str) -> String {
    yaml(text).unwrap().admin.to_string()
}

#[test]
fn listeners_tell_name_addresses_and_reuse_port() {
    let bootstrap = yaml(
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
    - address: {socket_address: {address: "::1", port_value: 81}}
    filter_chains: [{filters: [{name: x, typed_config: {"@type": y, port_value: [nonsense]}}]}]
  - address: {socket_address: {address: 0.0.0.0, port_value: 443, protocol: UDP}}
  - address: {pipe: {path: /run/web.sock}}
  - address: {envoy_internal_address: {server_listener_name: x}}
  - {}
"#,
    )
    .unwrap();
    insta::assert_debug_snapshot!("listeners", bootstrap);
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
        let bootstrap = yaml(&format!(
            "admin: {{address: {{pipe: {{path: /a}}}}}}\nstatic_resources: {{listeners: [{{enableReusePort: {text}}}]}}"
        ))
        .unwrap();
        assert_eq!(bootstrap.listeners[0].enable_reuse_port, expected, "{text}");
    }
}

#[test]
fn anchors_work_and_merge_keys_are_ordinary_as_in_envoy() {
    let bootstrap = yaml(
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
        parse("hello", Format::Yaml),
        parse("admin: {}", Format::Json),
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

#[test]
fn a_document_that_unfolds_into_an_enormous_one_is_refused() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..30 {
        let below = vec![format!("*a{}", level - 1); 9].join(",");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    bomb += "admin: {address: {pipe: {path: /a}}}\n";
    assert!(matches!(yaml(&bomb), Err(BootstrapError::Yaml(_))));
    assert!(yaml(&"[".repeat(100_000)).is_err());
    assert!(yaml(&"a: ".repeat(100_000)).is_err());
    assert!(Bootstrap::parse("[".repeat(100_000).as_bytes(), Format::Json).is_err());
}

#[test]
fn a_large_configuration_with_many_aliases_is_read() {
    let mut text = "admin: {address: &a {socket_address: {address: 127.0.0.1, port_value: 9901}}}\nstatic_resources:\n  listeners:\n".to_owned();
    for number in 0..5_000 {
        text += &format!("  - {{name: listener-{number}, address: *a}}\n");
    }
    assert_eq!(yaml(&text).unwrap().listeners.len(), 5_000);
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
