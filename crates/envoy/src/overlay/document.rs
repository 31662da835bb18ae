//! A whole document in memory.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use granit_parser::{Event, ScalarStyle, Span};
use serde::de::IgnoredAny;

use super::Layer;
use crate::bootstrap::events::{Events, Problem};
use crate::bootstrap::{BootstrapError, Format, MAX_BYTES};
use crate::text::one_line;

/// The most nodes (keys, values and collections) of a document that is merged, an alias counted once.
/// All of them are kept in memory, some hundred bytes for each. A configuration of 24 MiB to 60 MiB has
/// so many.
pub const MAX_MERGED_NODES: usize = 2_000_000;

/// A value, and its line and column, from 1.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) at: (usize, usize),
    pub(super) node: Node,
}

/// A value. An alias shares what it stands for.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// With its text, and whether it is written without quotes: then it may be a number.
    Scalar(String, bool),
    /// A list.
    Sequence(Vec<Rc<Item>>),
    /// In the order of the document, without the earlier ones of equal keys.
    Mapping(Vec<(String, Rc<Item>)>),
}

impl Node {
    /// Whether it is the absence of a value, as Envoy's parser sees it.
    pub(super) fn is_null(&self) -> bool {
        match self {
            Self::Scalar(text, plain) => {
                *plain && matches!(&**text, "" | "~" | "null" | "Null" | "NULL")
            }
            Self::Sequence(_) | Self::Mapping(_) => false,
        }
    }

    /// The kind of value, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(..) => "a scalar",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// Reads a document, which is a mapping.
pub(super) fn read(layer: &Layer<'_>, cancelled: &AtomicBool) -> Result<Rc<Item>, BootstrapError> {
    if layer.content.len() > MAX_BYTES {
        return Err(BootstrapError::TooLarge);
    }
    let text = std::str::from_utf8(layer.content).map_err(BootstrapError::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(BootstrapError::Empty);
    }
    match layer.format {
        Format::Protobuf => return Err(BootstrapError::Protobuf),
        // What is JSON is YAML too, but not the other way round.
        Format::Json => {
            serde_json::from_str::<IgnoredAny>(text)
                .map_err(|error| BootstrapError::Json(one_line(&error.to_string())))?;
        }
        Format::Yaml => {}
    }
    let mut reader = Reader {
        events: Events::new(text, cancelled),
        anchors: BTreeMap::new(),
        nodes: 0,
    };
    let Some((event, span)) = reader.events.next()? else {
        return Err(BootstrapError::Empty);
    };
    let root = reader.item(event, &span)?;
    // A fault between the last node and the end of the document is one all the same.
    while reader.events.next()?.is_some() {}
    match &root.node {
        Node::Mapping(_) => Ok(root),
        node if node.is_null() => Err(BootstrapError::Empty),
        Node::Scalar(..) | Node::Sequence(_) => {
            Err(Problem::at(&span, "expected a mapping").into())
        }
    }
}

struct Reader<'a> {
    events: Events<'a>,
    anchors: BTreeMap<usize, Rc<Item>>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    /// The value that begins with this event. No deeper than the events let it be.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's events are open to new ones, and what is no node cannot begin one"
    )]
    fn item(&mut self, event: Event<'a>, span: &Span) -> Result<Rc<Item>, Problem> {
        self.nodes += 1;
        if self.nodes > MAX_MERGED_NODES {
            let what = format!("more than {MAX_MERGED_NODES} nodes, which cannot be merged,");
            return Err(Problem::at(span, what));
        }
        let (node, anchor, tagged) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                // Over several lines it is no number, and could not be written without quotes again.
                let plain = style == ScalarStyle::Plain && !text.contains('\n');
                (
                    Node::Scalar(text.into_owned(), plain),
                    anchor,
                    tag.is_some(),
                )
            }
            Event::SequenceStart(_, anchor, tag) => (self.sequence()?, anchor, tag.is_some()),
            Event::MappingStart(_, anchor, tag) => (self.mapping()?, anchor, tag.is_some()),
            Event::Alias(anchor) => {
                let item = self.anchors.get(&anchor).cloned();
                return item.ok_or_else(|| Problem::at(span, "an alias without an anchor"));
            }
            _ => return Err(Problem::at(span, "expected a value")),
        };
        if tagged {
            let what = "a tag cannot be merged: write the value in quotes in place of it,";
            return Err(Problem::at(span, what));
        }
        let at = (span.start.line(), span.start.col() + 1);
        let item = Rc::new(Item { at, node });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&item));
        }
        Ok(item)
    }

    fn sequence(&mut self) -> Result<Node, Problem> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.events.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.item(event, &span)?);
        }
        Ok(Node::Sequence(items))
    }

    fn mapping(&mut self) -> Result<Node, Problem> {
        let mut fields = Vec::new();
        while let Some((event, span)) = self.events.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.item(event, &span)?;
            let Node::Scalar(key, _) = &key.node else {
                return Err(Problem::at(&span, "expected text as the key"));
            };
            let Some((event, span)) = self.events.next()? else {
                break;
            };
            fields.push((key.clone(), self.item(event, &span)?));
        }
        Ok(Node::Mapping(last_of_equal(fields)))
    }
}

/// The fields without those that a later one of the same key hides.
fn last_of_equal(fields: Vec<(String, Rc<Item>)>) -> Vec<(String, Rc<Item>)> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    last.extend((fields.iter().enumerate()).map(|(place, (key, _))| (key.as_str(), place)));
    if last.len() == fields.len() {
        return fields;
    }
    let mut places: Vec<usize> = last.into_values().collect();
    places.sort_unstable();
    let kept = places.into_iter().filter_map(|place| fields.get(place));
    kept.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_nodes_as_may_be_are_read_and_no_more() {
        let never = AtomicBool::new(false);
        let read = |nodes: usize| {
            let mut reader = Reader {
                events: Events::new("[1, 2]", &never),
                anchors: BTreeMap::new(),
                nodes,
            };
            let (event, span) = reader.events.next().unwrap().unwrap();
            reader.item(event, &span).map(|_| reader.nodes)
        };
        assert_eq!(read(MAX_MERGED_NODES - 3).unwrap(), MAX_MERGED_NODES);
        for nodes in [MAX_MERGED_NODES - 2, MAX_MERGED_NODES] {
            let Err(Problem::Wrong { what, .. }) = read(nodes) else {
                panic!("they are too many");
            };
            assert!(what.starts_with("more than 2000000 nodes"), "{what}");
        }
    }
}
