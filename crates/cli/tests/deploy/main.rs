//! What is shipped below `deploy/` for Prometheus and Grafana asks for metrics that there are, and does what it
//! says.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports failure by ending"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use handover_supervisor::metrics::{FAMILIES, Family, Kind};
use handover_test_support::metrics::promtool_or_skip;
use serde_json::Value;

/// Labels that a scrape or a query adds.
const OF_A_SCRAPE: [&str; 3] = ["instance", "job", "le"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// The family that a name in a query belongs to.
fn family(name: &str) -> Option<&'static Family> {
    let mut families = FAMILIES.iter().copied();
    families.find(|family| {
        let base = family.name();
        match family.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|part| format!("{base}{part}") == name),
            Kind::Counter | Kind::Gauge | Kind::Info | _ => base == name,
        }
    })
}

/// The words of a query, and each character that is no part of a word.
fn words(query: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            first if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            first => first.len_utf8(),
        };
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
    words.retain(|word| !word.trim().is_empty());
    words
}

/// What a query asks for and is not exported, and the families that it asks for.
fn look(query: &str) -> (Vec<String>, BTreeSet<String>) {
    let mut unknown = Vec::new();
    let mut families = BTreeSet::new();
    let mut labels = BTreeSet::from(OF_A_SCRAPE);
    let words = words(query);
    let is_ours = |word: &str| word.starts_with("handover_") || word.starts_with("process_");
    for word in words.iter().filter(|word| is_ours(word)) {
        match family(word) {
            Some(family) => {
                families.insert(family.name());
                labels.extend(family.labels.iter().map(|label| label.name));
            }
            None => unknown.push((*word).to_owned()),
        }
    }
    let mut of = None;
    for (index, word) in words.iter().enumerate() {
        let next = words.get(index + 1).copied().unwrap_or_default();
        // Inside of braces the labels are those of the metric before, inside of `by (..)` those of any.
        match *word {
            "{" => {
                of = index
                    .checked_sub(1)
                    .and_then(|before| family(words[before]));
            }
            "}" => of = None,
            "by" | "without" | "on" => {
                let list = words[index + 1..].iter().skip(1);
                let list = list.take_while(|word| **word != ")");
                let missing = list.filter(|word| **word != "," && !labels.contains(**word));
                unknown.extend(missing.map(|label| format!("label {label}")));
            }
            word if of.is_some() && ["=", "!"].contains(&next) => {
                let own = of.is_some_and(|family| family.labels.iter().any(|it| it.name == word));
                if !own && !OF_A_SCRAPE.contains(&word) {
                    unknown.push(format!("label {word}"));
                }
            }
            _ => {}
        }
    }
    (unknown, families)
}

/// All texts of a key, wherever it is.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    if let Some(fields) = value.as_object() {
        found.extend(fields.get(key).and_then(Value::as_str));
        for value in fields.values() {
            all(value, key, found);
        }
    }
    for value in value.as_array().into_iter().flatten() {
        all(value, key, found);
    }
}

#[test]
fn a_query_for_what_is_not_exported_is_found() {
    let unknown = |query| look(query).0;
    let none: [String; 0] = [];
    assert_eq!(
        unknown("sum by (state) (handover_epochs{state=\"live\", job!~\"a\"})"),
        none
    );
    assert_eq!(unknown("handover_epoch > 1"), ["handover_epoch"]);
    assert_eq!(unknown("handover_ready{state=\"x\"}"), ["label state"]);
    assert_eq!(
        unknown("sum by (cause, le) (handover_ready)"),
        ["label cause"]
    );
    // A histogram is asked for by its parts.
    let name = "handover_stage_duration_seconds";
    assert_eq!(unknown(name), [name]);
    assert_eq!(
        unknown("handover_stage_duration_seconds_sum{stage=\"drain\"}"),
        none
    );
}

#[test]
fn the_dashboard_asks_for_metrics_and_labels_that_are_exported() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/handover.json")).unwrap();
    let mut queries = Vec::new();
    all(&dashboard, "expr", &mut queries);
    assert!(queries.len() >= 20, "{queries:#?}");
    all(&dashboard, "definition", &mut queries);
    let mut shown = BTreeSet::new();
    for query in queries {
        let (unknown, families) = look(query);
        assert!(unknown.is_empty(), "{query}: {unknown:?}");
        assert!(!families.is_empty(), "{query}");
        shown.extend(families);
    }
    // The rest is on every dashboard for processes.
    let ours = FAMILIES.iter().map(|family| family.name());
    let ours = ours.filter(|name| name.starts_with("handover_"));
    let missing: Vec<_> = ours.filter(|name| !shown.contains(name)).collect();
    let expected = ["handover_epochs_started_total", "handover_envoy_base_id"];
    assert_eq!(missing, expected);
}

#[test]
fn the_alert_rules_ask_for_what_is_exported_and_have_a_page_to_read() {
    let rules = read("deploy/prometheus/alerts.yaml");
    let page = read("docs/metrics.md");
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let (name, rest) = rule.split_once('\n').unwrap();
        alerts += 1;
        for part in ["expr: ", "severity: ", "summary: ", "description: "] {
            assert!(rest.contains(part), "{name} has no {part}");
        }
        let anchor = name.to_ascii_lowercase();
        let link = format!("/docs/metrics.md#{anchor}\n");
        assert!(rest.contains(&link), "{name} has no link {link}");
        assert!(
            page.contains(&format!("\n### {name}\n")),
            "{name} has no page"
        );
        let query = rest.split_once("expr: ").unwrap().1;
        let query = query.split_once("labels:").unwrap().0;
        let (unknown, families) = look(query);
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
        assert!(!families.is_empty(), "{name}");
    }
    assert_eq!(alerts, 8);
}

#[test]
fn the_alert_rules_fire_when_they_should_and_stay_quiet_otherwise() {
    let test = "deploy::the_alert_rules_fire_when_they_should_and_stay_quiet_otherwise";
    let Some(promtool) = promtool_or_skip(test) else {
        return;
    };
    for words in [
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts.test.yaml"],
    ] {
        let mut command = Command::new(&promtool);
        command.args(words);
        let output = command
            .current_dir(root().join("deploy/prometheus"))
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}{errors}");
    }
}

/// The rules have a test for a query of the dashboard. It proves nothing about another query.
#[test]
fn the_query_that_is_tested_is_that_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/handover.json")).unwrap();
    let mut queries = Vec::new();
    all(&dashboard, "expr", &mut queries);
    let plain = |query: &str| {
        let all = query.replace("{instance=~\"$instance\"}", "");
        all.replace("$__rate_interval", "5m")
    };
    let tests = read("deploy/prometheus/alerts.test.yaml");
    let (_, tested) = tests.split_once("expr: &exits >-\n").unwrap();
    let tested = tested.lines().next().unwrap().trim();
    assert!(
        queries.iter().any(|query| plain(query) == tested),
        "{tested}"
    );
}
