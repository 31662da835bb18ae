//! The forms in which a line is written.

use std::time::SystemTime;

use crate::escape;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Coloured,
    Json,
}

/// The time of a line: UTC, in milliseconds.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Appends a JSON string.
pub(super) fn push_json(line: &mut String, text: &str) {
    match serde_json::to_string(text) {
        Ok(text) => line.push_str(&text),
        // Writing a string into memory cannot fail; a reader still gets valid JSON.
        Err(_) => line.push_str("null"),
    }
}

/// Appends `,"name":` and leaves the value to the caller.
pub(super) fn push_json_name(line: &mut String, name: &str) {
    line.push(',');
    push_json(line, name);
    line.push(':');
}

/// Appends a text as a terminal can show it.
pub(super) fn push_escaped(line: &mut String, text: &str) {
    escape::push_escaped(line, text, &['\t']);
}
