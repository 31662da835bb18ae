//! Where a field stands in a document, for messages.

use std::sync::atomic::AtomicBool;

use granit_parser::{Event, Span};

use super::events::Events;

/// A collection that is open.
struct Open {
    /// How many keys of the path lead to it, or `None` where it is beside the path.
    level: Option<usize>,
    is_mapping: bool,
    /// The key whose value comes next. In a mapping without one, a key comes next.
    key: Option<String>,
}

/// Returns the line and column, from 1, of the value to which these keys lead. Each key is given in
/// all its spellings. The last of equal keys counts. Where an alias stands for the value, or for
/// something around it, the position of the alias is returned.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's events are open to new ones, and those that are no nodes do not matter"
)]
pub(super) fn position_of(text: &str, path: &[&[&str]]) -> Option<(usize, usize)> {
    let never = AtomicBool::new(false);
    let mut events = Events::new(text, &never);
    let mut open: Vec<Open> = Vec::new();
    let mut found = None;
    while let Ok(Some((event, span))) = events.next() {
        let starts = match &event {
            Event::MappingStart(..) => Some(true),
            Event::SequenceStart(..) => Some(false),
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                continue;
            }
            Event::Scalar(..) | Event::Alias(_) => None,
            _ => continue,
        };
        let level = enter(&mut open, &event, path);
        let ends_the_path = level == Some(path.len());
        let is_alias = matches!(event, Event::Alias(_));
        if ends_the_path || (is_alias && level.is_some()) {
            found = Some(start(&span));
        }
        if let Some(is_mapping) = starts {
            let level = level.filter(|level| *level < path.len());
            open.push(Open {
                level,
                is_mapping,
                key: None,
            });
        }
    }
    found
}

/// Takes a node in, and returns how many keys of the path lead to it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other event is the start of a key that is no text"
)]
fn enter(open: &mut [Open], event: &Event<'_>, path: &[&[&str]]) -> Option<usize> {
    let Some(around) = open.last_mut() else {
        return Some(0);
    };
    if !around.is_mapping {
        return None;
    }
    let Some(key) = around.key.take() else {
        around.key = Some(match event {
            Event::Scalar(text, ..) => text.to_string(),
            // No key of a path is empty.
            _ => String::new(),
        });
        return None;
    };
    let level = around.level?;
    let is_on_the_path = path.get(level)?.contains(&key.as_str());
    is_on_the_path.then_some(level + 1)
}

fn start(span: &Span) -> (usize, usize) {
    (span.start.line(), span.start.col() + 1)
}

/// Returns the position as part of a sentence, after the name of the field.
pub(super) fn in_words(position: Option<(usize, usize)>) -> String {
    position.map_or_else(String::new, |(line, column)| {
        format!(" at line {line}, column {column}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: [&[&str]; 2] = [&["a", "A"], &["b"]];

    #[test]
    fn a_value_is_found_by_its_keys_and_the_last_of_equal_ones_counts() {
        for (text, position) in [
            ("{x: {b: 1}, A: {c: 1, b: 2}}", Some((1, 26))),
            ("a:\n  c: {b: 0}\n  b: 1\n", Some((3, 6))),
            ("a: {b: 1, b: 2}", Some((1, 14))),
            ("x: &x {b: 1}\na: *x\n", Some((2, 4))),
            ("a: {b: [1]}", Some((1, 8))),
            ("? [a, {b: 1}]\n: 1\na: {b: 2}", Some((3, 8))),
            ("{\"a\": {\"b\": \"c\"}}", Some((1, 13))),
            ("a: [{b: 1}]", None),
            ("a: 1\nb: 2\n", None),
            ("[a, b]", None),
            ("a: [", None),
        ] {
            assert_eq!(position_of(text, &PATH), position, "{text}");
        }
    }
}
