use std::fmt::Write as _;

use handover_tokio::error_chain;

use super::*;

fn layer<'a>(path: &'a str, text: &'a str) -> Layer<'a> {
    let path = Path::new(path);
    Layer::new(path, text.as_bytes(), Format::of(path))
}

fn merged(base: &str, overlays: &[&str]) -> Result<String, String> {
    let names: Vec<_> = (0..overlays.len()).map(|n| format!("/o{n}.yaml")).collect();
    let overlays: Vec<_> = (names.iter().zip(overlays))
        .map(|(name, text)| layer(name, text))
        .collect();
    merge(layer("/e.yaml", base), &overlays, &AtomicBool::new(false))
        .map(|text| String::from_utf8(text).unwrap())
        .map_err(|error| error_chain(&error))
}

/// The same value, whatever its text.
fn assert_means(text: &str, expected: &str) {
    let again = merged(text, &[]).unwrap();
    assert_eq!(again, merged(expected, &[]).unwrap());
}

#[test]
fn mappings_merge_lists_grow_scalars_are_replaced_and_null_removes() {
    let vendor = "\
# A vendor's file.
node: {id: a, cluster: c}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
static_resources:
  listeners: [{name: web}]
  clusters:
  - name: up
    connect_timeout: 1s
stats_flush_interval: 5s
";
    let ours = "\
node: {id: b, locality: {zone: z}}
admin: {address: {socket_address: null, pipe: {path: /run/a.sock}}}
static_resources: {clusters: [{name: more}]}
stats_flush_interval: ~
absent: null
";
    insta::assert_snapshot!(merged(vendor, &[ours]).unwrap(), @r#"
    node:
      id: b
      cluster: c
      locality:
        zone: z
    admin:
      address:
        pipe:
          path: /run/a.sock
    static_resources:
      listeners:
        -
          name: web
      clusters:
        -
          name: up
          connect_timeout: 1s
        -
          name: more
    "#);
}

#[test]
fn a_later_overlay_is_merged_over_an_earlier_one_so_that_two_of_them_replace_a_list() {
    let text = merged("a: [1, 2]\nb: 1\n", &["a: null\nb: 2\n", "a: [3]\n"]).unwrap();
    assert_means(&text, "b: 2\na: [3]\n");
}

#[test]
fn a_typed_configuration_is_one_value() {
    let base = "a: {'@type': t/One, x: 1}\nb: {x: {'@type': t/One}, y: 1}\n";
    let text = merged(
        base,
        &["a: {'@type': t/Two, z: 1}\nb: {x: {'@type': t/Two}}"],
    )
    .unwrap();
    assert_means(
        &text,
        "a: {'@type': t/Two, z: 1}\nb: {x: {'@type': t/Two}, y: 1}\n",
    );
}

#[test]
fn both_spellings_are_one_field_but_for_keys_of_the_user() {
    let base = "staticResources: {listeners: [1]}\nnode: {metadata: {fooBar: 1}}\n";
    let ours = "static_resources: {listeners: [2]}\nnode: {metadata: {foo_bar: 2}}\n";
    let text = merged(base, &[ours]).unwrap();
    let both = "staticResources: {listeners: [1, 2]}\nnode: {metadata: {fooBar: 1, foo_bar: 2}}\n";
    assert_means(&text, both);
    // Names with other letters are no fields.
    let text = merged("{a.bC: 1}", &["{a.b_c: 2}"]).unwrap();
    assert_means(&text, "{a.bC: 1, a.b_c: 2}");
}

#[test]
fn what_is_text_stays_text_and_what_is_a_number_stays_one() {
    let base = "a: '1'\nb: 1\nc: \"x\\ty\\u0085\\0\"\nd: |\n  one\n  two\ne: yes\nf: 0x1F\ng: one\n  two\n\n  three\nh:\n";
    insta::assert_snapshot!(merged(base, &["i: 'true'\nj: ''\n'k l': []\n'': {}"]).unwrap(), @r#"
    a: "1"
    b: 1
    c: "x\ty\u0085\u0000"
    d: "one\ntwo\n"
    e: yes
    f: 0x1F
    g: "one two\nthree"
    h: ~
    i: "true"
    j: ""
    "k l": []
    "": {}
    "#);
}

#[test]
fn an_alias_is_changed_at_one_place_only() {
    let base = "a: &a {x: 1, l: [1]}\nb: *a\nc: [*a]\n";
    let text = merged(base, &["b: {x: 2, l: [2]}"]).unwrap();
    assert_means(
        &text,
        "a: {x: 1, l: [1]}\nb: {x: 2, l: [1, 2]}\nc: [{x: 1, l: [1]}]\n",
    );
}

#[test]
fn json_is_merged_with_yaml_and_its_escapes_are_kept() {
    let base = layer(
        "/e.json",
        "{\n\t\"a\": {\"b\": \"\\u00e9\\/\\\"\", \"n\": 1.5e3},\t\"l\": []}",
    );
    let ours = layer("/o.yaml", "a: {c: on}\nl: [{x: 1}]\n");
    let text = merge(base, &[ours], &AtomicBool::new(false)).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_means(&text, "a: {b: \"é/\\\"\", n: 1.5e3, c: on}\nl: [{x: 1}]\n");
    // A pair of surrogates is one character.
    let pair = layer("/e.json", r#"{"a": "\ud83d\ude00"}"#);
    let text = merge(pair, &[], &AtomicBool::new(false)).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "a: \"\u{1f600}\"\n");
}

#[test]
fn the_last_of_equal_keys_wins() {
    assert_means(
        &merged("a: 1\nb: 2\na: 3\n", &["c: 1\nc: 2"]).unwrap(),
        "b: 2\na: 3\nc: 2",
    );
}

#[test]
fn each_problem_names_the_file_and_the_place() {
    let mut seen = String::new();
    for overlay in [
        "",
        "# nothing\n",
        "~",
        "[1]",
        "a: [",
        "a: !!str 1",
        "? [1]\n: 2",
        "node:\n  id: [x]\n",
        "node: 1",
        "list:\n  x: 1\n",
    ] {
        let error = merged("node: {id: a}\nlist: [1]\n", &["{}", overlay]).unwrap_err();
        writeln!(seen, "{overlay:?}: {error}").unwrap();
    }
    let error = merged("a: [", &["{}"]).unwrap_err();
    writeln!(seen, "the file below: {error}").unwrap();
    let json = layer("/o.json", "a: 1");
    let error = merge(layer("/e.yaml", "{}"), &[json], &AtomicBool::new(false)).unwrap_err();
    writeln!(seen, "YAML as JSON: {}", error_chain(&error)).unwrap();
    let binary = layer("/o.pb", "x");
    let error = merge(layer("/e.yaml", "{}"), &[binary], &AtomicBool::new(false)).unwrap_err();
    writeln!(seen, "Protobuf: {}", error_chain(&error)).unwrap();
    insta::assert_snapshot!(seen);
}

#[test]
fn what_aliases_unfold_to_is_limited_and_a_cancelled_merge_ends() {
    let line = "x".repeat(1 << 20);
    let list = vec!["*a"; 100].join(", ");
    let bomb = format!("a: &a {line}\nb: [{list}]\n");
    let error = merged(&bomb, &["{}"]).unwrap_err();
    assert!(
        error.contains("/e.yaml with its overlays is larger than"),
        "{error}"
    );
    let many = format!("a: [{}]", "1,".repeat(5_000));
    let cancelled = AtomicBool::new(true);
    let error = merge(layer("/e.yaml", &many), &[], &cancelled).unwrap_err();
    assert!(error_chain(&error).contains("cancelled"));
}

#[test]
fn a_long_key_and_the_deepest_document_can_be_read_again() {
    let key = "k".repeat(2_000);
    let base = format!("{{? {key} : {{x: 1}}}}");
    let text = merged(&base, &["{}"]).unwrap();
    assert!(text.starts_with("? \""), "{text}");
    assert_means(&text, &base);
    let depth = crate::bootstrap::MAX_DEPTH - 1;
    let deep = format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
    let text = merged(&deep, &[&deep]).unwrap();
    assert_means(&text, &text);
}

#[test]
fn nothing_is_left_of_a_configuration_whose_fields_are_all_removed() {
    assert_eq!(merged("a: 1\n", &["a: null\n"]).unwrap(), "{}\n");
}

#[test]
fn a_key_of_the_longest_length_stands_on_one_line() {
    for (length, is_one_line) in [(1_000, true), (1_001, false)] {
        let text = merged(&format!("{}: 1\n", "k".repeat(length)), &[]).unwrap();
        assert_eq!(!text.starts_with("? "), is_one_line, "{length}");
    }
}

#[test]
fn a_document_of_the_largest_size_is_read_and_a_larger_one_is_not() {
    let spaces = vec![b' '; MAX_BYTES + 1];
    let read = |content| {
        let layer = Layer::new(Path::new("/a.yaml"), content, Format::Yaml);
        document::read(&layer, &AtomicBool::new(false)).unwrap_err()
    };
    assert!(matches!(read(&spaces), BootstrapError::TooLarge));
    assert!(matches!(read(&spaces[1..]), BootstrapError::Empty));
}

#[test]
fn a_layer_is_shown_without_its_text() {
    let shown = format!("{:?}", layer("/a.yaml", "password: 1"));
    assert_eq!(
        shown,
        "Layer { path: \"/a.yaml\", bytes: 11, format: Yaml }"
    );
}
