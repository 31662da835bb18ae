//! Reading the file and what is merged into it.

use std::path::Path;

use serde_json::Value;

use super::{Bootstrap, ConfigError};
use crate::settings::Settings;

/// Reads a configuration from its file, its overlay, or both.
pub(crate) fn load(
    path: Option<&Path>,
    yaml: Option<&str>,
    settings: &Settings,
) -> Result<Bootstrap, ConfigError> {
    if path.is_none() && yaml.is_none() {
        return Err(ConfigError(
            "At least one of --config-path or --config-yaml or Options::configProto() should be non-empty"
                .to_owned(),
        ));
    }
    let mut document = match path {
        None => Value::Object(serde_json::Map::new()),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|_| ConfigError(format!("Invalid path: {}", path.display())))?;
            let extension = path.extension().and_then(|it| it.to_str());
            match extension {
                Some("yaml" | "yml") => from_yaml(&text)?,
                _ => from_json(&text)?,
            }
        }
    };
    if let Some(yaml) = yaml {
        merge(&mut document, from_yaml(yaml)?);
    }
    Bootstrap::read(document, settings)
}

/// Without the feature `yaml`, YAML is read as far as it is JSON.
#[cfg(not(feature = "yaml"))]
fn from_yaml(text: &str) -> Result<Value, ConfigError> {
    from_json(text).map_err(|ConfigError(why)| {
        ConfigError(format!("{why} (this fake Envoy was built without YAML)"))
    })
}

#[cfg(feature = "yaml")]
fn from_yaml(text: &str) -> Result<Value, ConfigError> {
    let document: Value = serde_saphyr::from_str(text).map_err(|error| {
        let location = error.location();
        let (line, column) = location.map_or((1, 1), |at| (at.line(), at.column()));
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let first = first
            .rsplit_once(&format!("column {column}: "))
            .map_or(first, |(_, why)| why);
        ConfigError(format!(
            "yaml-cpp: error at line {line}, column {column}: {first}"
        ))
    })?;
    match document {
        Value::Object(_) => Ok(document),
        // An empty file is an empty configuration.
        Value::Null => Ok(Value::Object(serde_json::Map::new())),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(ConfigError(
            format!("Unable to convert YAML as JSON: {text}"),
        )),
    }
}

fn from_json(text: &str) -> Result<Value, ConfigError> {
    serde_json::from_str(text).map_err(|error| {
        ConfigError(format!(
            "Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in \
             envoy.config.bootstrap.v3.Bootstrap, near {}:{} (offset 0): {error}): {text}",
            error.line(),
            error.column()
        ))
    })
}

/// Merges as Protobuf does: messages field by field, lists one behind the other, and of the rest the
/// later value stays.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (field, value) in from {
                merge(into.entry(field).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from),
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_merged_as_protobuf_merges() {
        let mut into = serde_json::json!({"a": {"b": 1, "c": [1]}, "d": 1});
        merge(
            &mut into,
            serde_json::json!({"a": {"b": 2, "c": [2]}, "e": 3}),
        );
        let merged = serde_json::json!({"a": {"b": 2, "c": [1, 2]}, "d": 1, "e": 3});
        assert_eq!(into, merged);
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_envoys_words() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            load(Some(&path), None, &Settings::default()).unwrap_err().0
        };
        assert!(refusal("a.yaml", "a: [").starts_with("yaml-cpp: error at line 1, column "));
        assert_eq!(
            refusal("a.yaml", "foo"),
            "Unable to convert YAML as JSON: foo"
        );
        assert!(refusal("a.txt", "admin:").starts_with("Unable to parse JSON as proto ("));
        let missing = load(Some("nope.yaml".as_ref()), None, &Settings::default()).unwrap_err();
        assert_eq!(missing.0, "Invalid path: nope.yaml");
        assert!(load(None, None, &Settings::default()).is_err());
        let empty = load(None, Some("{}"), &Settings::default()).unwrap();
        assert!(empty.static_listeners().unwrap().is_empty());
    }
}
