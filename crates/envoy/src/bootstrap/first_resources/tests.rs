use proptest::prelude::*;

use super::*;

fn waits_as(text: &str, format: Format) -> Result<String, FirstResourcesError> {
    let never = AtomicBool::new(false);
    let changed = wait_for_first_resources(text.as_bytes(), format, &never)?;
    Ok(String::from_utf8(changed.into_owned()).unwrap())
}

fn waits(text: &str) -> String {
    waits_as(text, Format::Yaml).unwrap_or_else(|error| panic!("{error:?}: {text}"))
}

fn refused(text: &str) -> String {
    waits_as(text, Format::Yaml).unwrap_err().to_string()
}

/// The fields are inserted in each style of writing, and what is there already is replaced.
#[test]
fn each_source_waits_and_the_rest_is_untouched() {
    for (before, after) in [
        // Block style, with comments and an anchor.
        (
            "a: 1 # one\nlds_config:\n  # the mesh\n  ads: {}\nb: 2\n",
            "a: 1 # one\nlds_config:\n  # the mesh\n  initial_fetch_timeout: \"0s\"\n  ads: {}\nb: 2\n",
        ),
        (
            "lds_config: &s\n    resource_api_version: V3\n    path_config_source: {path: /x}\ncds_config: *s\n",
            "lds_config: &s\n    initial_fetch_timeout: \"0s\"\n    resource_api_version: V3\n    path_config_source: {path: /x}\ncds_config: *s\n",
        ),
        // In a list the dash takes the place of spaces.
        (
            "config_sources:\n- api_config_source: {}\n  authorities: [{name: x}]\n-   self: {}\n",
            "config_sources:\n- initial_fetch_timeout: \"0s\"\n  api_config_source: {}\n  authorities: [{name: x}]\n-   initial_fetch_timeout: \"0s\"\n    self: {}\n",
        ),
        // Flow style, in either spelling.
        (
            "{rds: {configSource: {ads: {}, resourceApiVersion: V3}}}",
            "{rds: {configSource: {\"initial_fetch_timeout\": \"0s\",ads: {}, resourceApiVersion: V3}}}",
        ),
        (
            "rds:\n  config_source: { # all\n    self: {} }",
            "rds:\n  config_source: {\"initial_fetch_timeout\": \"0s\", # all\n    self: {} }",
        ),
        // There already.
        (
            "edsConfig: {initialFetchTimeout: 15s, ads: {}}",
            "edsConfig: {initialFetchTimeout: \"0s\", ads: {}}",
        ),
        (
            "eds_config:\n  ads: {}\n  initial_fetch_timeout:   '5s'   # five\n",
            "eds_config:\n  ads: {}\n  initial_fetch_timeout:   \"0s\"   # five\n",
        ),
        (
            "eds_config:\n  initial_fetch_timeout:\n  ads: {}\n",
            "eds_config:\n  initial_fetch_timeout: \"0s\"\n  ads: {}\n",
        ),
        (
            "t: &t 3s\neds_config: {ads: {}, initial_fetch_timeout: *t}\n",
            "t: &t 3s\neds_config: {ads: {}, initial_fetch_timeout: \"0s\"}\n",
        ),
        // Of two equal keys the last one wins, so both are set.
        (
            "eds_config: {initial_fetch_timeout: 1s, ads: {}, initial_fetch_timeout: 2s}",
            "eds_config: {initial_fetch_timeout: \"0s\", ads: {}, initial_fetch_timeout: \"0s\"}",
        ),
        // Line ends, a byte order mark, letters of several bytes, several documents.
        (
            "lds_config:\r\n  ads: {}\r\n",
            "lds_config:\r\n  initial_fetch_timeout: \"0s\"\r\n  ads: {}\r\n",
        ),
        (
            "\u{feff}ä: ö\ncds_config:\n  ads: {}",
            "\u{feff}ä: ö\ncds_config:\n  initial_fetch_timeout: \"0s\"\n  ads: {}",
        ),
        (
            "lds_config:\n  ads: {}\n---\ncds_config:\n  ads: {}\n",
            "lds_config:\n  initial_fetch_timeout: \"0s\"\n  ads: {}\n---\ncds_config:\n  ads: {}\n",
        ),
        (
            "lds_config: !x\n  ? ads\n  : {}\n",
            "lds_config: !x\n  initial_fetch_timeout: \"0s\"\n  ? ads\n  : {}\n",
        ),
        (
            "lds_config:\n  &k ads: {}\n",
            "lds_config:\n  initial_fetch_timeout: \"0s\"\n  &k ads: {}\n",
        ),
    ] {
        assert_eq!(waits(before), after, "{before}");
        // What waits already stays as it is.
        assert_eq!(waits(after), after, "{after}");
    }
}

#[test]
fn every_field_that_takes_a_source_is_known() {
    for field in [
        "lds_config",
        "cdsConfig",
        "eds_config",
        "leds_config",
        "sdsConfig",
        "rtds_config",
        "config_source",
        "rds_config_source",
        "scopedRdsConfigSource",
        "srds_config_source",
        "default_config_source",
    ] {
        let text = format!("a: [{{{field}: {{ads: {{}}}}}}]");
        assert!(waits(&text).contains("0s"), "{field}");
    }
    // TypedStruct is how an extension's own fields may be written.
    let typed = r#"typed_config: {"@type": type.googleapis.com/xds.type.v3.TypedStruct, type_url: x, value: {rds: {config_source: {ads: {}}}}}"#;
    assert!(waits(typed).contains("0s"));
}

#[test]
fn what_is_no_source_is_left_alone() {
    for text in [
        "",
        "a: 1",
        // No specifier, another field, another place, no mapping.
        "lds_config: {resource_api_version: V3}",
        "lds_config: {ads: {}, foo: 1}",
        "lds_config: {ads: {}, <<: {self: {}}}",
        "lds: {ads: {}}",
        "lrs_server: {self: {}}",
        "odcds: {source: {ads: {}}}",
        "lds_config: [ads]",
        "lds_config: ads",
        "ads_config: {api_type: GRPC, set_node_on_first_message_only: true}",
        "hds_config: {api_type: GRPC}",
        // The user's own.
        "node: {metadata: {lds_config: {ads: {}}}}",
        "metadata: {filter_metadata: {x: [{config_source: {self: {}, initial_fetch_timeout: 7s}}]}}",
        "layered_runtime: {layers: [{name: a, static_layer: {sds_config: {ads: {}}}}]}",
        r#"typed_config: {"@type": type.googleapis.com/google.protobuf.Struct, value: {sds_config: {ads: {}}}}"#,
        r#"typed_config: {value: {sds_config: {ads: {}}}, "@type": type.googleapis.com/google.protobuf.Struct}"#,
        r#"typed_per_filter_config: {config_source: {"@type": x, path: /y}}"#,
        // Not the field of a source.
        "initial_fetch_timeout: 15s",
        "other: {initial_fetch_timeout: 15s}",
        // Text within text.
        "inline_string: 'lds_config: {ads: {}}'",
    ] {
        assert_eq!(waits(text), text);
    }
}

#[test]
fn an_anchor_that_stands_for_something_else_elsewhere_is_refused() {
    for text in [
        "lds_config: &s {ads: {}}\nnode: {metadata: {copy: *s}}",
        "node: {metadata: {mine: &s {ads: {}}}}\nlds_config: *s",
        "lds_config: &s {ads: {}}\nother: *s",
        "other: &s {ads: {}}\nlds_config: *s",
        "node: {metadata: &m {rds: {config_source: {ads: {}}}}}\nrds: *m",
        "l: &l {rds: {config_source: {ads: {}}}}\nmetadata: {x: *l}",
        "lds_config: {ads: {}, initial_fetch_timeout: &t 5s}\nother: *t",
        "config_sources: &s [{ads: {}}]\nother: *s",
        "x: &k lds_config\n*k : {ads: {}}",
    ] {
        assert!(refused(text).contains("alias"), "{text}");
    }
    // The same thing at two places is changed at its anchor.
    let shared = "a: &l {rds: {config_source: {ads: {}}}}\nb: *l\nc: &t 5s\nd: *t\n";
    assert!(waits(shared).contains("0s"));
}

#[test]
fn what_cannot_be_set_is_refused_with_its_place() {
    assert_eq!(
        refused("lds_config:\n  ads: {}\n  initial_fetch_timeout: {seconds: 5}\n"),
        "initial_fetch_timeout cannot be set at line 3, column 26: its value is no scalar on one line"
    );
    assert!(
        refused("lds_config:\n  initial_fetch_timeout: |\n    5s\n  ads: {}\n")
            .contains("no scalar")
    );
    assert!(refused("config_sources: [ads: {}]").contains("without braces"));
    assert!(matches!(
        waits_as("a: [", Format::Yaml),
        Err(FirstResourcesError::Unreadable(BootstrapError::Yaml(_)))
    ));
    assert!(waits_as("lds_config {}", Format::Protobuf).is_err());
    // A line that a reader of YAML takes and one of JSON does not.
    assert!(matches!(
        waits_as("{lds_config: {ads: {}}}", Format::Json),
        Err(FirstResourcesError::Changed)
    ));
    let cancelled = AtomicBool::new(true);
    let long = format!("[{}]", "x,".repeat(5_000));
    assert!(matches!(
        wait_for_first_resources(long.as_bytes(), Format::Yaml, &cancelled),
        Err(FirstResourcesError::Unreadable(BootstrapError::Cancelled))
    ));
}

#[test]
fn json_stays_json() {
    let text = "{\n \"dynamic_resources\": {\n  \"lds_config\": {\n   \"ads\": {}\n  },\n  \"cdsConfig\":{\"initialFetchTimeout\":\"15s\",\"apiConfigSource\":{}}\n }\n}\n";
    let changed = waits_as(text, Format::Json).unwrap();
    assert_eq!(
        changed,
        "{\n \"dynamic_resources\": {\n  \"lds_config\": {\"initial_fetch_timeout\": \"0s\",\n   \"ads\": {}\n  },\n  \"cdsConfig\":{\"initialFetchTimeout\":\"0s\",\"apiConfigSource\":{}}\n }\n}\n"
    );
}

/// A document of random nesting, with sources and what looks like one, as a value of `serde_json`.
fn document() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::json!({"ads": {}})),
        Just(serde_json::json!({"path": "/x", "initial_fetch_timeout": "3s"})),
        Just(
            serde_json::json!({"self": {}, "resourceApiVersion": "V3", "initialFetchTimeout": null})
        ),
        Just(serde_json::json!({"ads": {}, "more": 1})),
        any::<u8>().prop_map(Into::into),
        "[a-z \"'#:{}\u{e4}-]{0,6}".prop_map(Into::into),
    ];
    let key = prop_oneof![
        Just("lds_config"),
        Just("configSource"),
        Just("metadata"),
        Just("config_sources"),
        Just("initial_fetch_timeout"),
        Just("a"),
        Just("b: #"),
        Just("@type"),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::vec((key.clone(), inner), 0..4).prop_map(|fields| {
                fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

/// Where a value of the document stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Source,
    Sources,
    Free,
    Other,
}

/// What the document becomes, by its structure alone.
fn expected(value: &serde_json::Value, place: Place) -> serde_json::Value {
    use serde_json::Value;
    const TIMEOUTS: [&str; 2] = ["initial_fetch_timeout", "initialFetchTimeout"];
    match value {
        Value::Array(items) => {
            let place = match place {
                Place::Sources => Place::Source,
                Place::Free => Place::Free,
                Place::Source | Place::Other => Place::Other,
            };
            items.iter().map(|item| expected(item, place)).collect()
        }
        Value::Object(fields) => {
            let known = |key: &str| {
                ["ads", "self", "path", "resourceApiVersion"].contains(&key)
                    || TIMEOUTS.contains(&key)
            };
            let is_source = place == Place::Source
                && fields.keys().all(|key| known(key))
                && ["ads", "self", "path"]
                    .iter()
                    .any(|key| fields.contains_key(*key));
            let mut result: serde_json::Map<String, Value> = fields
                .iter()
                .map(|(key, value)| {
                    let place = match &**key {
                        _ if place == Place::Free => Place::Free,
                        "lds_config" | "configSource" => Place::Source,
                        "config_sources" => Place::Sources,
                        "metadata" => Place::Free,
                        _ => Place::Other,
                    };
                    (key.clone(), expected(value, place))
                })
                .collect();
            if is_source {
                if !TIMEOUTS.iter().any(|key| result.contains_key(*key)) {
                    result.insert(TIMEOUTS[0].to_owned(), Value::Null);
                }
                for (_, value) in result
                    .iter_mut()
                    .filter(|(key, _)| TIMEOUTS.contains(&&***key))
                {
                    *value = "0s".into();
                }
            }
            Value::Object(result)
        }
        other => other.clone(),
    }
}

/// Writes a value as YAML in block style.
fn block(value: &serde_json::Value, indentation: usize, text: &mut String) {
    use serde_json::Value;
    let spaces = " ".repeat(indentation);
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                text.push_str(&format!("\n{spaces}-"));
                block(item, indentation + 2, text);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                text.push_str(&format!("\n{spaces}{}:", serde_json::json!(key)));
                block(value, indentation + 1, text);
            }
        }
        other => text.push_str(&format!(" {other} # end")),
    }
}

proptest! {
    #[test]
    fn only_the_timeouts_of_sources_change_in_any_document(value in document()) {
        let expected = expected(&value, Place::Other);
        let mut in_block = String::new();
        block(&value, 0, &mut in_block);
        for (text, format) in [
            (value.to_string(), Format::Json),
            (serde_json::to_string_pretty(&value).unwrap(), Format::Json),
            (value.to_string(), Format::Yaml),
        ] {
            let changed = waits_as(&text, format).unwrap();
            let changed: serde_json::Value = serde_json::from_str(&changed).unwrap();
            prop_assert_eq!(&changed, &expected);
        }
        let changed = waits_as(&in_block, Format::Yaml).unwrap();
        let count = |text: &str| text.matches("\"0s\"").count();
        prop_assert_eq!(count(&changed), count(&expected.to_string()), "{}", changed);
    }

    #[test]
    fn no_text_makes_it_panic(
        text in "(lds_config|ads|self|initial_fetch_timeout|metadata|[-:{}\\[\\]&*!<>|'\"#,? \r\n\t0-9ax.%@`~]){0,60}"
    ) {
        for format in [Format::Yaml, Format::Json] {
            let _ = waits_as(&text, format).is_ok();
        }
    }
}
