//! The supervisor's own lines, from `tracing` events.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::journal;
use super::text::{Style, now, push_escaped, push_json, push_json_name};
use super::writer::Writer;

/// Writes each event as one line: a sentence for people, an object with all fields for machines.
/// Spans are not used here, so they are not kept.
pub(super) struct EventLines {
    pub(super) style: Style,
    pub(super) in_journal: bool,
    pub(super) level: LevelFilter,
    pub(super) writer: Writer,
}

impl Subscriber for EventLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let mut line = match self.in_journal {
            true => journal_line(self.style, level, &fields),
            false => line(self.style, &now(), level, &fields),
        };
        line.push('\n');
        self.writer.line(line.into_bytes());
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// The line for the journal, which has the time and the level beside it.
fn journal_line(style: Style, level: Level, fields: &Fields) -> String {
    let mut text = journal::prefix(level).to_owned();
    match style {
        Style::Json => text.push_str(&line(style, &now(), level, fields)),
        Style::Plain | Style::Coloured => push_escaped(&mut text, &fields.message),
    }
    text
}

/// The line without its line feed.
fn line(style: Style, time: &str, level: Level, fields: &Fields) -> String {
    let mut line = String::with_capacity(128);
    match style {
        Style::Json => {
            line.push_str("{\"time\":");
            push_json(&mut line, time);
            push_json_name(&mut line, "level");
            push_json(&mut line, &level.as_str().to_ascii_lowercase());
            push_json_name(&mut line, "message");
            push_json(&mut line, &fields.message);
            for (name, value) in &fields.others {
                push_json_name(&mut line, name);
                match value {
                    Value::Bare(text) => line.push_str(text),
                    Value::Text(text) => push_json(&mut line, text),
                }
            }
            line.push('}');
        }
        Style::Plain | Style::Coloured => {
            let (colour, end) = match style {
                Style::Coloured => (colour_of(level), "\x1b[0m"),
                Style::Plain | Style::Json => ("", ""),
            };
            line.push_str(time);
            line.push(' ');
            line.push_str(colour);
            line.push_str(&format!("{:<5}", level.as_str()));
            line.push_str(end);
            line.push(' ');
            // The sentence has the numbers that matter in it; the fields are for machines.
            push_escaped(&mut line, &fields.message);
        }
    }
    line
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    }
}

/// The fields of an event, the sentence apart.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

enum Value {
    /// A number or a truth value, which JSON writes as it is.
    Bare(String),
    Text(String),
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        self.others.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.push(field, Value::Text(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.push(field, Value::Text(value.to_owned()));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Bare(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Bare(value.to_string()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.push(field, Value::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bare(value.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            message: "epoch 1 failed: \"x\"\n\u{1b}[2J".to_owned(),
            others: vec![
                ("epoch", Value::Bare("1".to_owned())),
                ("path", Value::Text("a\"b".to_owned())),
            ],
        }
    }

    #[test]
    fn a_json_line_is_one_object_with_every_field() {
        let line = line(Style::Json, "T", Level::WARN, &fields());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["message"], "epoch 1 failed: \"x\"\n\u{1b}[2J");
        assert_eq!(value["epoch"], 1);
        assert_eq!(value["path"], "a\"b");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn a_line_for_the_journal_is_one_line_with_its_level_and_without_a_time() {
        let text = journal_line(Style::Coloured, Level::WARN, &fields());
        assert_eq!(text, "<4>epoch 1 failed: \"x\"\\n\\u{1b}[2J");
        let json = journal_line(Style::Json, Level::ERROR, &fields());
        let json = json.strip_prefix("<3>").unwrap();
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(value["epoch"], 1);
    }

    #[test]
    fn a_line_for_people_is_one_line_and_commands_no_terminal() {
        let line = line(Style::Plain, "T", Level::WARN, &fields());
        assert_eq!(line, "T WARN  epoch 1 failed: \"x\"\\n\\u{1b}[2J");
    }
}
