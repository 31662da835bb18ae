//! A pass over every field of a document, wherever it is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use granit_parser::Event;

use super::events::Events;
use super::{BootstrapError, Format};

/// The longest text that an alias stands for. A longer scalar with an anchor counts as no scalar.
const LONGEST: usize = 32;

/// A field and its value.
pub(super) struct Field<'e> {
    /// The key under which the mapping of this field is, directly or in a list. Empty at the top.
    pub(super) within: &'e str,
    pub(super) key: &'e str,
    /// The value, or `None` where it is no scalar.
    pub(super) text: Option<&'e str>,
    /// The line of the value, from 1.
    pub(super) line: usize,
}

/// Shows each field of a configuration to `visit`, in the order of the text.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's events are open to new ones, and those that are no nodes do not matter"
)]
pub(super) fn fields(
    content: &[u8],
    format: Format,
    cancelled: &AtomicBool,
    mut visit: impl FnMut(&Field<'_>),
) -> Result<(), BootstrapError> {
    if format == Format::Protobuf {
        return Err(BootstrapError::Protobuf);
    }
    let text = std::str::from_utf8(content).map_err(BootstrapError::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut events = Events::new(text, cancelled);
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut anchored: BTreeMap<usize, Cow<'_, str>> = BTreeMap::new();
    while let Some((event, span)) = events.next()? {
        if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
            open.pop();
            continue;
        }
        let key = open.last_mut().and_then(|around| around.takes(&event));
        let scalar = match &event {
            Event::Scalar(text, _, anchor, _) => {
                if *anchor != 0 && text.len() <= LONGEST {
                    anchored.insert(*anchor, text.clone());
                }
                Some(text)
            }
            Event::Alias(anchor) => anchored.get(anchor),
            _ => None,
        };
        if let (Some(key), Some(around)) = (&key, open.last()) {
            visit(&Field {
                within: &around.under,
                key,
                text: scalar.map(AsRef::as_ref),
                line: span.start.line(),
            });
        }
        let is_mapping = match event {
            Event::MappingStart(..) => true,
            Event::SequenceStart(..) => false,
            _ => continue,
        };
        // An element of a list is under the key of the list.
        let of_list = || open.last().map(|around| around.under.clone());
        let under = key.or_else(of_list).unwrap_or_default();
        open.push(Open {
            under,
            is_mapping,
            key: None,
        });
    }
    Ok(())
}

/// A collection that is open.
struct Open<'t> {
    under: Cow<'t, str>,
    is_mapping: bool,
    /// The key whose value comes next. In a mapping without one, a key comes next.
    key: Option<Cow<'t, str>>,
}

impl<'t> Open<'t> {
    /// Takes a node in, and returns the key whose value it is.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other event is the start of a key that is no text"
    )]
    fn takes(&mut self, event: &Event<'t>) -> Option<Cow<'t, str>> {
        if !self.is_mapping {
            return None;
        }
        let value_of = self.key.take();
        if value_of.is_none() {
            self.key = Some(match event {
                Event::Scalar(text, ..) => text.clone(),
                // No field has an empty name.
                _ => Cow::Borrowed(""),
            });
        }
        value_of
    }
}

/// A duration as Protobuf's JSON mapping has it: seconds with a fraction, and an `s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let never = AtomicBool::new(false);
        let read = fields(text.as_bytes(), Format::Yaml, &never, |field| {
            let Field {
                within,
                key,
                text,
                line,
            } = field;
            seen.push(format!("{within}.{key}={} {line}", text.unwrap_or("..")));
        });
        read.unwrap();
        seen
    }

    #[test]
    fn each_field_is_seen_with_what_it_is_in() {
        assert_eq!(
            seen("a:\n- b: {c: 1}\n- [{d: 2}]\ne: 3\n"),
            [".a=.. 2", "a.b=.. 2", "b.c=1 2", "a.d=2 3", ".e=3 4"]
        );
        assert_eq!(seen("x: &t 7s\ny: *t\n"), [".x=7s 1", ".y=7s 2"]);
        assert_eq!(seen("? [k]\n: {l: 1}\n"), [".=.. 2", ".l=1 2"]);
        assert_eq!(seen("- a\n- b\n"), Vec::<String>::new());
    }

    #[test]
    fn an_alias_of_a_long_text_is_no_scalar() {
        for (length, is_kept) in [(LONGEST, true), (LONGEST + 1, false)] {
            let long = "x".repeat(length);
            let shown = if is_kept { &long } else { ".." };
            let text = format!("a: &t {long}\nb: *t\nc: 1\n");
            assert_eq!(
                seen(&text),
                [
                    format!(".a={long} 1"),
                    format!(".b={shown} 2"),
                    ".c=1 3".into()
                ]
            );
        }
    }
}
