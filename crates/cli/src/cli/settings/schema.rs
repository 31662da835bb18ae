//! The JSON schema of a settings file, for editors and pipelines.

use clap::Command;
use serde_json::{Map, Value, json};

use super::key::{Key, Kind, keys};

/// Returns the schema of the settings of a command.
pub(crate) fn schema(command: &Command) -> Value {
    let properties: Map<String, Value> = keys(command)
        .iter()
        .map(|key| (key.name.clone(), property(key)))
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Settings of `handover {}`", command.get_name()),
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn property(key: &Key<'_>) -> Value {
    let mut property = Map::new();
    let about = key.arg.get_help().map(ToString::to_string);
    property.insert("description".to_owned(), about.into());
    let of_one = of_one(key);
    match key.kind {
        Kind::Texts | Kind::Integers => {
            property.insert("type".to_owned(), "array".into());
            property.insert("items".to_owned(), of_one.into());
        }
        Kind::MaybeInteger => {
            property.insert("anyOf".to_owned(), json!([{"const": true}, of_one]));
        }
        Kind::Switch | Kind::Text | Kind::Integer => property.extend(of_one),
    }
    if let Some(default) = default(key) {
        property.insert("default".to_owned(), default);
    }
    property.into()
}

/// The schema of one value.
fn of_one(key: &Key<'_>) -> Map<String, Value> {
    let name = match key.kind {
        Kind::Switch => "boolean",
        Kind::Text | Kind::Texts => "string",
        Kind::Integer | Kind::MaybeInteger | Kind::Integers => "integer",
    };
    let mut schema = Map::new();
    schema.insert("type".to_owned(), name.into());
    if key.kind != Kind::Switch {
        let words = key.arg.get_possible_values();
        let words = words.iter().filter(|word| !word.is_hide_set());
        let words: Vec<_> = words.map(|word| word.get_name().to_owned()).collect();
        if !words.is_empty() {
            schema.insert("enum".to_owned(), words.into());
        }
    }
    schema
}

fn default(key: &Key<'_>) -> Option<Value> {
    if key.kind == Kind::Switch {
        return Some(false.into());
    }
    let text = key.arg.get_default_values().first()?.to_str()?;
    match key.kind {
        Kind::Integer => text.parse::<i64>().ok().map(Value::from),
        Kind::Text => Some(text.into()),
        Kind::Switch | Kind::MaybeInteger | Kind::Texts | Kind::Integers => None,
    }
}
