//! The pages with statistics.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::json;

use super::{Page, View, parameter};
use crate::faults::Habit;
use crate::statistics::Value;

/// Answers `/stats`.
pub(super) fn answer(view: &View, query: &str) -> Page {
    let shown = match chosen(view, query) {
        Ok(shown) => shown,
        Err(page) => return page,
    };
    match parameter(query, "format").as_deref() {
        None | Some("text") => {
            let lines = shown.into_iter().map(|(name, value)| match value {
                Value::Counter(number) | Value::Gauge(number) => format!("{name}: {number}\n"),
                Value::Text(text) => format!("{name}: \"{text}\"\n"),
            });
            Page::text(200, lines.collect::<String>())
        }
        Some("json") => {
            let stats = shown.into_iter().map(|(name, value)| match value {
                Value::Counter(number) | Value::Gauge(number) => {
                    json!({"name": name, "value": number})
                }
                Value::Text(text) => json!({"name": name, "value": text}),
            });
            Page {
                status: 200,
                content_type: super::JSON,
                body: json!({"stats": stats.collect::<Vec<_>>()}).to_string(),
            }
        }
        Some("prometheus") => prometheus_of(&shown),
        Some(other) => Page::text(
            404,
            format!(
                "usage: /stats?format=(html|active-html|json|prometheus|text), not {other}\n\n"
            ),
        ),
    }
}

/// Answers `/stats/prometheus`.
pub(super) fn prometheus(view: &View, query: &str) -> Page {
    match chosen(view, query) {
        Ok(shown) => prometheus_of(&shown),
        Err(page) => page,
    }
}

/// Returns the statistics that a query asks for.
fn chosen(view: &View, query: &str) -> Result<Vec<(String, Value)>, Page> {
    let filter = match parameter(query, "filter") {
        None => None,
        Some(filter) => Some(
            Regex::new(&filter)
                .map_err(|error| Page::text(400, format!("Invalid re2 regex: {error}\n")))?,
        ),
    };
    let used_only = parameter(query, "usedonly").is_some();
    let kind = parameter(query, "type").unwrap_or_else(|| "All".to_owned());
    if !["All", "Counters", "Gauges", "Histograms", "TextReadouts"].contains(&&*kind) {
        return Err(Page::text(404, "invalid type\n"));
    }
    let shown = view.statistics.iter().filter_map(|(name, value)| {
        let (name, value) = distorted(view, name, value)?;
        let is_kind = match value {
            Value::Counter(_) => kind == "Counters",
            Value::Gauge(_) => kind == "Gauges",
            Value::Text(_) => kind == "TextReadouts",
        };
        // A gauge that was ever set counts as used, and all are.
        let is_used = !used_only || value != Value::Counter(0);
        let is_meant = filter.as_ref().is_none_or(|filter| filter.is_match(&name));
        ((kind == "All" || is_kind) && is_used && is_meant).then_some((name, value))
    });
    Ok(shown.collect())
}

/// Returns a statistic as the faults of the fake want it, or nothing if it is left out.
fn distorted(view: &View, name: &str, value: &Value) -> Option<(String, Value)> {
    let is_gauge = name.starts_with("listener.")
        && !name.starts_with("listener.admin.")
        && name.ends_with(".downstream_cx_active");
    if !is_gauge {
        return Some((name.to_owned(), value.clone()));
    }
    if view.habits.has(&Habit::GaugesMissing) {
        return None;
    }
    let stuck = view.habits.value(|habit| {
        if let Habit::GaugesStuck(value) = habit {
            Some(Value::Gauge(*value))
        } else {
            None
        }
    });
    let name = match view.habits.has(&Habit::GaugesForeign) {
        true => name.replacen("listener.", "listener.foreign.", 1),
        false => name.to_owned(),
    };
    Some((name, stuck.unwrap_or_else(|| value.clone())))
}

fn prometheus_of(shown: &[(String, Value)]) -> Page {
    let mut families: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    for (name, value) in shown {
        let (kind, number) = match value {
            Value::Counter(number) => ("counter", number),
            Value::Gauge(number) => ("gauge", number),
            Value::Text(_) => continue,
        };
        let (family, labels) = labelled(name);
        let line = format!("{family}{{{labels}}} {number}\n");
        families.entry((family, kind)).or_default().push(line);
    }
    let text = families
        .into_iter()
        .map(|((family, kind), lines)| format!("# TYPE {family} {kind}\n{}", lines.concat()));
    Page::text(200, text.collect::<String>())
}

/// Splits the name of a statistic into its family and its labels, as Envoy's default tags do.
fn labelled(name: &str) -> (String, String) {
    let sound = |name: &str| {
        let sound = |c: char| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        };
        format!("envoy_{}", name.chars().map(sound).collect::<String>())
    };
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    for (prefix, label) in [
        ("listener.", "envoy_listener_address"),
        ("http.", "envoy_http_conn_manager_prefix"),
        ("cluster.", "envoy_cluster_name"),
    ] {
        let Some((owner, what)) = name.strip_prefix(prefix).and_then(|it| it.rsplit_once('.'))
        else {
            continue;
        };
        let kind = prefix.trim_end_matches('.');
        if let Some((owner, worker)) = owner.rsplit_once(".worker_") {
            let labels = format!(
                "envoy_worker_id=\"{}\",{label}=\"{}\"",
                quoted(worker),
                quoted(owner)
            );
            return (sound(&format!("{kind}_worker_{what}")), labels);
        }
        let class = what
            .strip_prefix("downstream_rq_")
            .and_then(|it| it.strip_suffix("xx"));
        if let Some(class) = class {
            let labels = format!(
                "envoy_response_code_class=\"{class}\",{label}=\"{}\"",
                quoted(owner)
            );
            return (sound(&format!("{kind}_downstream_rq_xx")), labels);
        }
        let labels = format!("{label}=\"{}\"", quoted(owner));
        return (sound(&format!("{kind}_{what}")), labels);
    }
    (sound(name), String::new())
}
