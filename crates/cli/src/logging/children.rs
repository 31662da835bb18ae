//! The children's lines, each with the epoch it comes from.

use handover_process::{Line, OutputSink, Stream};

use super::text::{Style, now, push_json, push_json_name};
use super::writer::Writer;
use super::{InJournal, journal};

/// Writes each line to the stream of the same name. The log level has no say in it: what a child
/// prints is the child's business.
pub(super) struct ChildLines {
    pub(super) stdout: Writer,
    pub(super) stderr: Writer,
    pub(super) style: Style,
    pub(super) in_journal: InJournal,
}

impl OutputSink for ChildLines {
    fn line(&self, line: &Line<'_>) {
        let in_journal = match line.stream {
            Stream::Stdout => self.in_journal.stdout,
            Stream::Stderr => self.in_journal.stderr,
        };
        let text = match self.style {
            style if in_journal => for_journal(style, line),
            Style::Json => as_json(&now(), line).into_bytes(),
            Style::Plain => as_text(line, "", ""),
            Style::Coloured => as_text(line, "\x1b[2m", "\x1b[0m"),
        };
        match line.stream {
            Stream::Stdout => self.stdout.line(text),
            Stream::Stderr => self.stderr.line(text),
        }
    }
}

/// A line with its level: the one with which the child has begun it, or that of information.
fn for_journal(style: Style, line: &Line<'_>) -> Vec<u8> {
    let (level, bytes) = journal::split_level(line.bytes);
    let mut text = level.unwrap_or(journal::INFO).as_bytes().to_vec();
    let line = Line { bytes, ..*line };
    match style {
        Style::Json => text.extend(as_json(&now(), &line).into_bytes()),
        Style::Plain | Style::Coloured => text.extend(as_text(&line, "", "")),
    }
    text
}

/// `[epoch 1] ` and then what the child wrote, byte for byte.
fn as_text(line: &Line<'_>, begin: &str, end: &str) -> Vec<u8> {
    let prefix = match line.source.epoch {
        Some(epoch) => format!("{begin}[epoch {epoch}]{end} "),
        None => format!("{begin}[{}]{end} ", line.source.label),
    };
    let mut text = prefix.into_bytes();
    text.extend_from_slice(line.bytes);
    text.push(b'\n');
    text
}

/// An object with the text as `line`; a text that is itself a JSON object is there once more as
/// `json`, so that it can be read without decoding twice.
fn as_json(time: &str, line: &Line<'_>) -> String {
    let text = String::from_utf8_lossy(line.bytes);
    let mut object = String::with_capacity(text.len() + 128);
    object.push_str("{\"time\":");
    push_json(&mut object, time);
    if let Some(epoch) = line.source.epoch {
        push_json_name(&mut object, "epoch");
        object.push_str(&epoch.to_string());
    }
    push_json_name(&mut object, "pid");
    object.push_str(&line.source.pid.to_string());
    push_json_name(&mut object, "program");
    push_json(&mut object, &line.source.label);
    push_json_name(&mut object, "stream");
    push_json(&mut object, &line.stream.to_string());
    if line.continues {
        push_json_name(&mut object, "continues");
        object.push_str("true");
    }
    push_json_name(&mut object, "line");
    push_json(&mut object, &text);
    if !line.continues && is_json_object(line.bytes) {
        push_json_name(&mut object, "json");
        object.push_str(text.trim());
    }
    object.push_str("}\n");
    object
}

/// Whether the bytes are one JSON object. They are written unchanged, so its keys and numbers stay
/// as the child wrote them.
fn is_json_object(bytes: &[u8]) -> bool {
    let trimmed = bytes.trim_ascii();
    trimmed.first() == Some(&b'{')
        && serde_json::from_slice::<serde::de::IgnoredAny>(trimmed).is_ok()
}

#[cfg(test)]
mod tests {
    use handover_process::Source;

    use super::*;

    fn line<'a>(source: &'a Source, bytes: &'a [u8]) -> Line<'a> {
        Line {
            source,
            stream: Stream::Stderr,
            bytes,
            continues: false,
        }
    }

    fn source() -> Source {
        Source {
            pid: 42,
            epoch: Some(1),
            label: "server".into(),
        }
    }

    #[test]
    fn a_line_for_people_begins_with_its_epoch_and_keeps_its_bytes() {
        let source = source();
        let text = as_text(&line(&source, b"caf\xe9"), "", "");
        assert_eq!(text, b"[epoch 1] caf\xe9\n");
    }

    #[test]
    fn a_line_for_the_journal_has_the_level_of_the_child_or_that_of_information() {
        let source = source();
        let text = |bytes: &[u8]| for_journal(Style::Coloured, &line(&source, bytes));
        assert_eq!(text(b"caf\xe9"), b"<6>[epoch 1] caf\xe9\n");
        assert_eq!(text(b"<3>broken"), b"<3>[epoch 1] broken\n");
    }

    #[test]
    fn a_json_line_of_a_child_stays_intact() {
        let source = source();
        let object = as_json("T", &line(&source, br#" {"a":1.0,"b":"\u0041"} "#));
        assert!(
            object.ends_with("\"json\":{\"a\":1.0,\"b\":\"\\u0041\"}}\n"),
            "{object}"
        );
        let value: serde_json::Value = serde_json::from_str(&object).unwrap();
        assert_eq!(value["line"], r#" {"a":1.0,"b":"\u0041"} "#);
        assert_eq!(value["epoch"], 1);
        assert_eq!(value["pid"], 42);
        assert_eq!(value["stream"], "stderr");
    }

    #[test]
    fn what_only_looks_like_json_is_text() {
        let source = source();
        for bytes in [&b"{"[..], b"{} {}", b"[1]", b"\xff", b"{\"a\":}"] {
            let object = as_json("T", &line(&source, bytes));
            let value: serde_json::Value = serde_json::from_str(&object).unwrap();
            assert!(value.get("json").is_none(), "{object}");
        }
    }
}
