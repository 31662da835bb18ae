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

/// A fetched listener that names the same certificate has the source as the control plane writes it. Two
/// sources that differ are two subscriptions, of which the second one never gets the certificate.
#[test]
fn certificates_on_a_stream_that_also_brings_listeners_keep_their_timeout() {
    let secret = "sds_config: {ads: {}, initial_fetch_timeout: 5s}";
    for fetched in ["lds_config", "ldsConfig", "cds_config", "cdsConfig"] {
        for source in ["{ads: {}}", "{path: /x}"] {
            for order in [[fetched, "sds"], ["sds", fetched]] {
                let lines = order.map(|field| match field {
                    "sds" => secret.to_owned(),
                    fetched => format!("{fetched}: {source}"),
                });
                let changed = waits(&lines.join("\n"));
                assert!(changed.contains(secret), "{changed}");
                assert_eq!(changed.matches("\"0s\"").count(), 1, "{changed}");
            }
        }
    }
    for (other, count) in [
        // Nothing else is fetched, or it brings nothing that names certificates.
        ("a: 1", 1),
        ("eds_config: {ads: {}}", 2),
        ("metadata: {lds_config: {ads: {}}}", 1),
        ("lds_config: {resource_api_version: V3}", 1),
        ("lds_config: [{ads: {}}]", 1),
    ] {
        let changed = waits(&format!("{secret}\n{other}"));
        assert_eq!(changed.matches("\"0s\"").count(), count, "{changed}");
    }
    // A server of their own has a stream of its own.
    let own = waits("sds_config: {api_config_source: {}}\nlds_config: {ads: {}}");
    assert_eq!(own.matches("\"0s\"").count(), 2, "{own}");
}

#[test]
fn an_anchor_for_certificates_and_for_what_waits_is_refused() {
    for text in [
        "lds_config: &s {ads: {}}\nsds_config: *s",
        "sds_config: &s {ads: {}}\nlds_config: *s",
        "lds_config: {path: /x}\neds_config: &s {ads: {}}\nsds_config: *s",
    ] {
        assert!(refused(text).contains("alias"), "{text}");
    }
    for (text, count) in [
        ("eds_config: &s {ads: {}}\nsds_config: *s", 1),
        ("lds_config: &s {api_config_source: {}}\nsds_config: *s", 1),
        ("lds_config: &s {ads: {}}\ncds_config: *s", 1),
        (
            "lds_config: {path: /x}\na: {sds_config: &s {ads: {}}}\nsds_config: *s",
            1,
        ),
    ] {
        let changed = waits(text);
        assert_eq!(changed.matches("\"0s\"").count(), count, "{changed}");
    }
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
        Just("sds_config"),
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
    Secret,
    Listeners,
    Sources,
    Free,
    Other,
}

const TIMEOUTS: [&str; 2] = ["initial_fetch_timeout", "initialFetchTimeout"];

impl Place {
    /// Where an item of a list at this place stands.
    fn of_item(self) -> Self {
        match self {
            Self::Sources => Self::Source,
            Self::Free => Self::Free,
            Self::Source | Self::Secret | Self::Listeners | Self::Other => Self::Other,
        }
    }

    /// Where the value of a field of a mapping at this place stands.
    fn of_field(self, key: &str) -> Self {
        match key {
            _ if self == Self::Free => Self::Free,
            "lds_config" => Self::Listeners,
            "sds_config" => Self::Secret,
            "configSource" => Self::Source,
            "config_sources" => Self::Sources,
            "metadata" => Self::Free,
            _ => Self::Other,
        }
    }

    /// Whether these fields at this place are a source.
    fn is_source(self, fields: &serde_json::Map<String, serde_json::Value>) -> bool {
        const SPECIFIERS: [&str; 3] = ["ads", "self", "path"];
        let known = |key: &str| {
            SPECIFIERS.contains(&key) || key == "resourceApiVersion" || TIMEOUTS.contains(&key)
        };
        matches!(self, Self::Source | Self::Secret | Self::Listeners)
            && fields.keys().all(|key| known(key))
            && SPECIFIERS.iter().any(|key| fields.contains_key(*key))
    }
}

/// Whether listeners are fetched anywhere.
fn fetches_listeners(value: &serde_json::Value, place: Place) -> bool {
    use serde_json::Value;
    match value {
        Value::Array(items) => items
            .iter()
            .any(|item| fetches_listeners(item, place.of_item())),
        Value::Object(fields) => {
            (place == Place::Listeners && place.is_source(fields))
                || fields
                    .iter()
                    .any(|(key, value)| fetches_listeners(value, place.of_field(key)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// What the document becomes, by its structure alone. Certificates on the aggregated stream may be `kept`.
fn expected(value: &serde_json::Value, place: Place, kept: bool) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Array(items) => items
            .iter()
            .map(|item| expected(item, place.of_item(), kept))
            .collect(),
        Value::Object(fields) => {
            let is_kept = kept && place == Place::Secret && fields.contains_key("ads");
            let is_source = place.is_source(fields) && !is_kept;
            let mut result: serde_json::Map<String, Value> = fields
                .iter()
                .map(|(key, value)| (key.clone(), expected(value, place.of_field(key), kept)))
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
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            other.clone()
        }
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
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_)) => {
            text.push_str(&format!(" {other} # end"));
        }
    }
}

proptest! {
    #[test]
    fn only_the_timeouts_of_sources_change_in_any_document(value in document()) {
        let kept = fetches_listeners(&value, Place::Other);
        let expected = expected(&value, Place::Other, kept);
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

/// The result is read again, and is given out only if nothing else has changed.
#[test]
fn a_result_that_differs_in_anything_else_is_noticed() {
    let never = AtomicBool::new(false);
    let same = |original: &str, result: &str| {
        let edits = find::edits(original, &never).unwrap();
        differs_only_in(&edits, original, result, &never).unwrap()
    };
    let inserted = "{b: 1, lds_config: {ads: {}}}";
    for (result, expected) in [
        (
            "{b: 1, lds_config: {initial_fetch_timeout: 0s, ads: {}}}",
            true,
        ),
        (
            "{b: 2, lds_config: {initial_fetch_timeout: 0s, ads: {}}}",
            false,
        ),
        (
            "{b: 1, lds_config: {initial_fetch_timeout: 5s, ads: {}}}",
            false,
        ),
        ("{b: 1, lds_config: {initial_timeout: 0s, ads: {}}}", false),
        ("{b: 1, lds_config: {ads: {}}}", false),
        (
            "{b: 1, lds_config: {initial_fetch_timeout: 0s, ads: {}}, c: 1}",
            false,
        ),
        (
            "{b: 1, lds_config: {initial_fetch_timeout: 0s, ads: {}}",
            false,
        ),
    ] {
        assert_eq!(same(inserted, result), expected, "{result}");
    }
    let replaced = "lds_config: {initial_fetch_timeout: &t 3s, ads: {}}";
    for (result, expected) in [
        ("lds_config: {initial_fetch_timeout: &t 0s, ads: {}}", true),
        ("lds_config: {initial_fetch_timeout: 0s, ads: {}}", false),
        ("lds_config: {initial_fetch_timeout: &t 3s, ads: {}}", false),
    ] {
        assert_eq!(same(replaced, result), expected, "{result}");
    }
    assert!(same("a: 1", "a: 1") && !same("a: 1", "a: 2"));
}

#[test]
fn a_timeout_that_stands_for_a_field_elsewhere_is_refused() {
    let text =
        "eds_config: {ads: {}, initial_fetch_timeout: &t 3s}\nx: {initial_fetch_timeout: *t}\n";
    assert!(refused(text).contains("stands for its value"));
}

#[test]
fn what_stands_beside_a_source_or_for_a_list_of_them_may_have_an_alias() {
    let field = "\"initial_fetch_timeout\": \"0s\",";
    for (before, after) in [
        (
            "config_sources: [&a x, {ads: {}}]\nmetadata: {a: *a}\n",
            format!("config_sources: [&a x, {{{field}ads: {{}}}}]\nmetadata: {{a: *a}}\n"),
        ),
        (
            "config_sources: &l [{ads: {}}]\nb: {config_sources: *l}\n",
            format!("config_sources: &l [{{{field}ads: {{}}}}]\nb: {{config_sources: *l}}\n"),
        ),
        (
            "eds_config:\n  initial_fetch_timeout  :\n  ads: {}\n",
            "eds_config:\n  initial_fetch_timeout  : \"0s\"\n  ads: {}\n".to_owned(),
        ),
    ] {
        assert_eq!(waits(before), after);
    }
}
